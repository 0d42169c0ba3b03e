"""Orders looked up by the SQL tools on Spark, and the same answers as the streams give."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from pyspark.sql import functions as F

from caspers_lib.agents.contracts import ComplaintAnswer, RefundAnswer
from caspers_lib.agents.facts import order_facts
from caspers_lib.agents.model.prompts import complaint_questions, refund_questions
from caspers_lib.agents.refund_policy import RefundPolicy
from caspers_lib.agents.refund_rules import refund_answers
from caspers_lib.agents.serving.agent_logic import ComplaintAgent, RefundAgent
from caspers_lib.agents.serving.order_lookup import SparkLookup
from caspers_lib.agents.tables import AGENT_TABLES, AgentTables
from caspers_lib.agents.tools import create_tools
from caspers_lib.agents.triage import complaint_responses
from caspers_lib.agents.triage_policy import TriagePolicy
from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.domain.tables import bronze_table, line_items_table
from caspers_lib.errors import PipelineError

pytestmark = pytest.mark.spark

START = datetime(2024, 3, 1, tzinfo=UTC)
HOSTILE = "o'\"\\\n;<script>alert(1)</script>'); DROP TABLE x; --"
DISHES = ("Soup", "Fried Rice", "Pho'\"\\<b>{x}")
TEXTS = (
    ("delivery_delay", "It came so late."), ("missing_items", "The Soup was missing."),
    ("food_quality", "Fried Rice was a little cold."), ("food_quality", "We got sick"),
    ("service_issue", HOSTILE), ("nonsense", None), ("missing_items", "x" * 5_000),
)  # fmt: skip


@dataclass(frozen=True)
class Shop:
    """Two days of orders in a schema of their own, with the tools beside them."""

    spark: Any
    schema: str
    tables: AgentTables
    orders: tuple[str, ...]

    def facts(self) -> Any:
        wanted = self.spark.createDataFrame([(o,) for o in self.orders], "order_id STRING")
        events, lines = map(self.spark.read.table, (self.tables.events, self.tables.lines))
        return order_facts(wanted, events, lines, GHOST_KITCHEN)


def life(order: str, created: float, took: float, site: int) -> list[tuple[Any, ...]]:
    """The two events that the agents judge an order by."""
    body = json.dumps({"customer_addr": "5 Elm"})
    ends = (("order_created", created, 1, body), ("delivered", created + took, 8, "{}"))
    return [
        (f"{order}/{n}", kind, f"{START + timedelta(minutes=at):%Y-%m-%d %H:%M:%S.%f}"[:-3],
         site, order, n, text)
        for kind, at, n, text in ends
    ]  # fmt: skip


def line(order: str, number: int, name: str, price: Decimal) -> tuple[Any, ...]:
    return (order, number, 1, START, START.date(), 7, 2, 3, 4, name, price, 2, price * 2)


@pytest.fixture(scope="module")
def shop(spark: Any) -> Iterator[Shop]:
    with_tables = small_shop(spark)
    create_tools(spark, schema=with_tables.schema, tables=with_tables.tables)
    yield with_tables
    spark.sql(f"DROP SCHEMA {with_tables.schema} CASCADE")


def small_shop(spark: Any) -> Shop:
    """The tables that the agents read; the schema is the caller's to drop."""
    rng = random.Random(3)
    orders = [f"o-{n}" for n in range(60)] + [HOSTILE]
    events, lines = [], []
    for order in orders:
        took = round(rng.lognormvariate(3.6, 0.4), 3)
        events += life(order, round(rng.uniform(0, 40 * 60), 3), took, rng.choice([1, 2]))
        lines += [
            line(order, n, dish, Decimal(rng.randint(100, 2500)) / 100)
            for n, dish in enumerate(rng.sample(DISHES, 2), 1)
        ]
    events += life("no lines", 2000, 90, 1) + life("under way", 2000, 0, 1)[:1]
    schema = f"lookup_{uuid4().hex[:8]}"
    spark.sql(f"CREATE SCHEMA {schema}")
    moved = {
        name: replace(table, name=f"{schema}.{table.name.split('.')[-1]}")
        for name in ("recommendations", "complaints", "responses", "model_calls", "open_questions")
        for table in [getattr(AGENT_TABLES, name)]
    }
    tables = AgentTables(events=f"{schema}.all_events", lines=f"{schema}.order_lines", **moved)
    columns = bronze_table(GHOST_KITCHEN).columns[:7]
    landed = spark.createDataFrame(events, ", ".join(f"{c.name} {c.type}" for c in columns))
    rescued = F.lit(None).cast("string").alias("_rescued_data")
    landed.select("*", rescued).write.saveAsTable(tables.events)
    columns = line_items_table(GHOST_KITCHEN).columns
    items = spark.createDataFrame(lines, ", ".join(f"{c.name} {c.type}" for c in columns))
    items.write.saveAsTable(tables.lines)
    return Shop(spark, schema, tables, (*orders, "no lines"))


def parsed(answer: str | None, kind: type[Any]) -> Any:
    assert answer is not None
    return kind.model_validate(json.loads(answer, parse_float=Decimal, parse_int=Decimal))


def test_a_served_agent_answers_the_streams_facts_as_the_streams_rules_do(shop: Shop) -> None:
    facts, policy = shop.facts(), RefundPolicy()
    questions = {row.key: row.facts for row in refund_questions(facts, policy).collect()}
    rules = {row.order_id: row.agent_response for row in refund_answers(facts, policy).collect()}
    assert questions.keys() == rules.keys() - {"no lines"}
    replies = {order: RefundAgent().reply(text) for order, text in questions.items()}
    assert {o: parsed(r.answer, RefundAnswer) for o, r in replies.items()} == {
        o: parsed(rules[o], RefundAnswer) for o in questions
    }
    assert len({parsed(rules[o], RefundAnswer).refund_class for o in questions}) > 1


def test_a_served_agent_answers_the_streams_complaints_as_the_streams_rules_do(shop: Shop) -> None:
    facts, policy = shop.facts(), TriagePolicy()
    rows = [
        (f"{order}/{n}", order, START, category, text)
        for order in (*shop.orders[:12], HOSTILE)
        for n, (category, text) in enumerate(TEXTS)
    ]
    complaints = shop.spark.createDataFrame(
        rows,
        "complaint_id STRING, order_id STRING, ts TIMESTAMP, complaint_category STRING,"
        " complaint_text STRING",
    )
    questions = {row.key: row.facts for row in complaint_questions(complaints, facts).collect()}
    responses = complaint_responses(complaints, facts, policy).collect()
    rules = {row.complaint_id: row.agent_response for row in responses}
    assert questions.keys() == rules.keys()
    for key, text in questions.items():
        reply = ComplaintAgent().reply(text)
        assert parsed(reply.answer, ComplaintAnswer) == parsed(rules[key], ComplaintAnswer)
        assert (reply.note is not None) == key.endswith("/6")


def test_an_order_that_is_looked_up_gets_the_answer_that_its_facts_get(shop: Shop) -> None:
    facts = shop.facts()
    rules = {
        row.order_id: row.agent_response for row in refund_answers(facts, RefundPolicy()).collect()
    }
    agent = RefundAgent(facts_of=SparkLookup(spark=shop.spark, schema=shop.schema))
    for order in ("o-1", "o-7", HOSTILE, "no lines"):
        reply = agent.reply(json.dumps({"order_id": order}))
        assert parsed(reply.answer, RefundAnswer) == parsed(rules[order], RefundAnswer)


def test_a_looked_up_order_has_its_lines(shop: Shop) -> None:
    lookup = SparkLookup(spark=shop.spark, schema=shop.schema)
    order = lookup("o-7")
    assert order is not None
    assert len(order.lines) == 2
    assert sum(2 * (line.price or 0) for line in order.lines) == order.facts.order_total
    assert {line.item_name for line in order.lines} < set(DISHES)


def test_an_order_under_way_is_not_delivered_and_an_unknown_one_is_none(shop: Shop) -> None:
    lookup = SparkLookup(spark=shop.spark, schema=shop.schema)
    order = lookup("under way")
    assert order is not None
    assert (order.facts.delivered, order.facts.total_minutes) == (False, None)
    assert lookup("o'; DROP TABLE x; --") is None


def test_tools_that_are_not_there_are_one_sentence(shop: Shop) -> None:
    lookup = SparkLookup(spark=shop.spark, schema="nowhere")
    with pytest.raises(PipelineError, match=r"The tools in nowhere can't be called") as failed:
        lookup("o-1")
    assert "\n" not in failed.value.message
