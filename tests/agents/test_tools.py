import json
import random
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from pyspark.sql import functions as F

from caspers_lib.agents import tool_queries
from caspers_lib.agents.facts import order_facts
from caspers_lib.agents.tables import AGENT_TABLES, AgentTables
from caspers_lib.agents.timings import (
    HISTORY_HOURS,
    LONGEST_ORDER_HOURS,
    deliveries,
    hour_of,
    location_timings,
)
from caspers_lib.agents.tools import (
    LOCATION_VIEW,
    TOOL_NAMES,
    agent_tools,
    call_tool,
    create_tools,
    tool_answer,
    tools_ddl,
)
from caspers_lib.domain import GHOST_KITCHEN, BodyField, Column, Domain, EventType, LineItems
from caspers_lib.domain.tables import bronze_table, line_items_table
from caspers_lib.spark_sql import quote_name

START = datetime(2024, 3, 1, tzinfo=UTC)
ORDER_TOOLS = tuple(name for name in TOOL_NAMES if name != "get_location_timings")
HOSTILE_IDS = (
    "o'; DROP TABLE all_events; --",
    'say "so"',
    "back\\slash\\'",
    "two\nlines\r\nand a \x00 NUL",
    "${spark.version} {given} {{x}} %s :oid ?",
    "`tick`",
    "é漢\U0001f35c\u2028",
    "",
    " o-1",
)
HOSTILE_DISH = "Pho'\"\\\n${x}<script>alert(1)</script>"
HOSTILE_STREET = '1 O\'Hara "Row"\\\n<b>{street}</b>, Chicago, IL'


@dataclass(frozen=True)
class Shop:
    """A few days of orders as tables in a schema of their own, with the tools beside them."""

    spark: Any
    schema: str
    tables: AgentTables

    def rows(self, tool: str, argument: str | int) -> list[dict[str, Any]]:
        answer = call_tool(self.spark, tool, argument, schema=self.schema)
        return [row.asDict() for row in answer.collect()]

    def at_once(self, tool: str, orders: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The last row of each order's answer, all in one query."""
        asked = self.spark.createDataFrame([(o,) for o in orders], "id STRING")
        text = f"SELECT t.* FROM {{asked}} AS a, LATERAL {self.schema}.{tool}(a.id) AS t"
        return {row.order_id: row.asDict() for row in self.spark.sql(text, asked=asked).collect()}

    def facts(self, orders: list[str]) -> dict[str, dict[str, Any]]:
        wanted = self.spark.createDataFrame([(o,) for o in orders], "order_id STRING")
        events, lines = map(self.spark.read.table, (self.tables.events, self.tables.lines))
        found = order_facts(wanted, events, lines, GHOST_KITCHEN).collect()
        return {row.order_id: row.asDict() for row in found}


def stamp(minutes: float) -> str:
    return f"{START + timedelta(minutes=minutes):%Y-%m-%d %H:%M:%S.%f}"[:-3]


def event(kind: str, at: str | None, order: str | None, site: int = 1, body: str = "{}") -> Any:
    return ("id", kind, at, site, order, 1, body)


def life(order: str, created: float, took: float, site: int, street: str = "5 Elm") -> list[Any]:
    body = json.dumps({"customer_lat": 1.5, "customer_lon": -2.5, "customer_addr": street})
    return [
        event("order_created", stamp(created), order, site, body),
        event("gk_ready", stamp(created + took / 2), order, site),
        event("driver_picked_up", stamp(created + took * 0.75), order, site),
        event("delivered", stamp(created + took), order, site),
    ]


def lines(order: str, *priced: tuple[str | None, str | None, int]) -> list[Any]:
    return [
        (order, n, 1, START, START.date(), 7, 2, 3, 4, name, price and Decimal(price), qty,
         price and Decimal(price) * qty)
        for n, (name, price, qty) in enumerate(priced, 1)
    ]  # fmt: skip


def usual_orders() -> tuple[list[Any], list[Any]]:
    """150 orders of two locations in 40 hours; some events and lines came twice."""
    rng = random.Random(5)
    events, items = [], []
    for n in range(150):
        created, took = round(rng.uniform(0, 40 * 60), 3), round(rng.lognormvariate(3.6, 0.4), 3)
        events += life(f"o-{n}", created, took, rng.choice([1, 2]))
        items += lines(f"o-{n}", ("Soup", f"{rng.randint(100, 2500) / 100:.2f}", 2), (None, "1", 1))
    return events + events[:80], items + items[:60]


def odd_orders() -> tuple[list[Any], list[Any]]:
    events = [
        event("delivered", stamp(2000), "no creation"),
        event("order_created", stamp(2100), "backwards"),
        event("delivered", stamp(2050), "backwards"),
        event("order_created", stamp(10), "two days"),
        event("delivered", stamp(2900), "two days"),
        event("delivered", "half past nine", "unreadable"),
        event("delivered", stamp(2000), None),
        *life("no lines", 2000, 50, 1),
        *life("no amount", 2000, 50, 1),
    ]
    items = [*lines("two days", ("Soup", "3", 1)), *lines("no amount", ("Soup", None, 1))]
    return events, items


USUAL, ODD = usual_orders(), odd_orders()
ODD_IDS = ["no creation", "backwards", "two days", "unreadable", "no lines", "no amount"]


@pytest.fixture(scope="module")
def shop(spark: Any) -> Iterator[Shop]:
    schema = f"tools_{uuid4().hex[:8]}"
    spark.sql(f"CREATE SCHEMA {schema}")
    tables = replace(
        AGENT_TABLES,
        events=f"{schema}.all_events",
        lines=f"{schema}.order_lines",
        dimensions=schema,
    )
    spark.sql(f"CREATE TABLE {schema}.locations AS SELECT 1 AS location_id, 'North' AS name")
    events, items = USUAL[0] + ODD[0], USUAL[1] + ODD[1]
    for n, hostile in enumerate(HOSTILE_IDS):
        events += life(hostile, 1000 + n, 30, 1, HOSTILE_STREET)
        items += lines(hostile, (HOSTILE_DISH, "2.50", 2))
    events += [e for e in life("under way", 2990, 40, 2) if e[1] != "delivered"]
    items += lines("under way", ("Soup", "3", 1))
    write(spark, tables.events, events, bronze_table(GHOST_KITCHEN).columns[:7])
    write(spark, tables.lines, items, line_items_table(GHOST_KITCHEN).columns)
    create_tools(spark, schema=schema, tables=tables)
    yield Shop(spark, schema, tables)
    spark.sql(f"DROP SCHEMA {schema} CASCADE")


def write(spark: Any, table: str, rows: list[Any], columns: Any) -> None:
    types = ", ".join(f"{c.name} {c.type}" for c in columns)
    spark.createDataFrame(rows, types).write.saveAsTable(table)


@pytest.mark.spark
def test_every_order_has_the_figures_that_the_rules_judge_it_by(shop: Shop) -> None:
    facts = shop.facts([f"o-{n}" for n in range(150)])
    overview, timing = (shop.at_once(t, facts) for t in ("get_order_overview", "get_order_timing"))
    for order, expected in facts.items():
        found = overview[order] | timing[order]
        assert {name: found[name] for name in expected if name != "lines"} == {
            name: value for name, value in expected.items() if name != "lines"
        }
        assert found["line_count"] == 2
    assert max(expected["history_orders"] for expected in facts.values()) > 40
    assert shop.rows("get_order_timing", "o-7") == [timing["o-7"]]


@pytest.mark.spark
def test_what_is_unknown_of_an_odd_order_is_unknown_in_the_tools_too(shop: Shop) -> None:
    facts = shop.facts(ODD_IDS)
    overview = shop.at_once("get_order_overview", facts)
    for order, expected in facts.items():
        # Of an order that was never delivered the rules know no location.
        known = set(expected) & set(overview[order]) - {"lines"}
        known -= {"location_id"} if expected["delivered_ts"] is None else set()
        assert {n: overview[order][n] for n in known} == {n: expected[n] for n in known}
        assert overview[order]["line_count"] == (expected["lines"] and len(expected["lines"]))


@pytest.mark.spark
def test_lines_that_came_twice_are_listed_once(shop: Shop) -> None:
    facts = shop.facts(["o-3"])["o-3"]
    listed = json.loads(shop.rows("get_order_overview", "o-3")[0]["lines"], parse_float=Decimal)
    names = ("line", "item_name", "price", "extended_price")
    assert [tuple(row[n] for n in names) for row in listed] == [tuple(r) for r in facts["lines"]]


@pytest.mark.spark
def test_details_are_an_orders_events_in_their_order_each_once(shop: Shop) -> None:
    # Its events came twice.
    details = shop.rows("get_order_details", "o-3")
    kinds = ["order_created", "gk_ready", "driver_picked_up", "delivered"]
    assert [row["event_type"] for row in details] == kinds
    times = [row["event_ts"] for row in details]
    assert times == sorted(times)
    assert json.loads(details[0]["body"])["customer_addr"] == "5 Elm"
    names = {1: "North", 2: None}
    for order in ("o-3", *(f"o-{n}" for n in range(4, 8))):
        rows = shop.rows("get_order_details", order)
        assert {row["location_name"] for row in rows} == {names[rows[0]["location_id"]]}
    [unreadable] = shop.rows("get_order_details", "unreadable")
    assert (unreadable["event_type"], unreadable["event_ts"]) == ("delivered", None)


@pytest.mark.spark
def test_the_steps_of_an_order_add_up_to_its_minutes(shop: Shop) -> None:
    found = shop.rows("get_order_timing", "o-1")[0]
    steps = found["prep_minutes"] + found["wait_minutes"] + found["drive_minutes"]
    assert abs(steps - found["total_minutes"]) <= Decimal("0.01")
    short = shop.rows("get_order_delivery_time", "o-1")[0]
    assert short == {name: found[name] for name in short}


@pytest.mark.spark
def test_an_order_under_way_is_known_but_not_delivered(shop: Shop) -> None:
    found = shop.rows("get_order_overview", "under way")[0]
    assert (found["location_id"], found["delivered_ts"], found["total_minutes"]) == (2, None, None)
    assert (found["order_total"], found["customer_addr"]) == (Decimal(3), "5 Elm")
    assert found["order_ts"] is not None
    timing = shop.rows("get_order_timing", "under way")[0]
    assert (timing["history_orders"], timing["p75"]) == (0, None)


@pytest.mark.spark
def test_J8_one_view_says_what_is_usual_at_the_newest_hour(shop: Shop) -> None:
    delivered = deliveries(shop.spark.read.table(shop.tables.events), GHOST_KITCHEN)
    newest = delivered.agg(hour_of(F.max("delivered_ts"))).first()[0]
    hour = int((newest - datetime(1970, 1, 1)).total_seconds())
    # The hour's own orders play no part, so a location needs one there to have a row at all.
    probe = shop.spark.sql(
        f"SELECT id AS location_id, timestamp_seconds({hour}) AS delivered_ts,"
        " CAST(900 AS DECIMAL(12,2)) AS total_minutes FROM range(1, 3)"
    )
    columns = ["location_id", "delivered_ts", "total_minutes"]
    usual = location_timings(delivered.select(columns).unionByName(probe)).where(
        F.unix_seconds("hour_ts") == hour
    )
    expected = {row.location_id: row.asDict() for row in usual.collect()}
    view = shop.spark.read.table(f"{shop.schema}.{LOCATION_VIEW}").collect()
    assert {row.location_id: row.asDict() for row in view} == expected
    assert set(expected) == {1, 2}
    for location in (1, 2):
        assert shop.rows("get_location_timings", location) == [expected[location]]
    texts = tools_ddl(schema=shop.schema, tables=shop.tables)
    assert sum("VIEW" in text.split("(", 1)[0] for text in texts) == 1


@pytest.mark.spark
@pytest.mark.parametrize("order", HOSTILE_IDS)
def test_an_id_of_any_characters_is_just_an_id(shop: Shop, order: str) -> None:
    (found,) = shop.rows("get_order_overview", order)
    assert (found["order_id"], found["customer_addr"]) == (order, HOSTILE_STREET)
    assert json.loads(found["lines"])[0]["item_name"] == HOSTILE_DISH
    assert found["order_total"] == Decimal("5.00")
    answer = tool_answer(shop.spark, "get_order_details", order, schema=shop.schema)
    created, *_ = json.loads(answer)
    assert (created["order_id"], created["location_name"]) == (order, "North")
    assert json.loads(created["body"])["customer_addr"] == HOSTILE_STREET


@pytest.mark.spark
def test_what_nobody_knows_has_no_rows(shop: Shop) -> None:
    for tool, order in zip(ORDER_TOOLS, ("o-9999", "' OR '1'='1", "%", "O-1"), strict=True):
        assert shop.rows(tool, order) == []
    assert tool_answer(shop.spark, "get_location_timings", 99, schema=shop.schema) == "[]"


@pytest.mark.spark
def test_an_answer_for_a_model_is_json_with_utc_times_and_nulls(shop: Shop) -> None:
    answer = tool_answer(shop.spark, "get_order_delivery_time", "under way", schema=shop.schema)
    assert json.loads(answer) == [
        {
            "order_id": "under way",
            "order_ts": "2024-03-03T01:50:00.000Z",
            "delivered_ts": None,
            "total_minutes": None,
        }
    ]
    order = HOSTILE_IDS[2]
    answer = tool_answer(shop.spark, "get_order_details", order, schema=shop.schema)
    assert [row["order_id"] for row in json.loads(answer)] == [order] * 4


@pytest.mark.spark
def test_creating_the_tools_again_changes_nothing(shop: Shop) -> None:
    def state() -> tuple[Any, Any]:
        found = shop.spark.sql(f"SHOW USER FUNCTIONS IN {shop.schema}").collect()
        own = sorted(row[0] for row in found if f".{shop.schema}." in row[0])
        return own, shop.rows("get_order_overview", "o-1")

    before = state()
    create_tools(shop.spark, schema=shop.schema, tables=shop.tables)
    create_tools(shop.spark, catalog="spark_catalog", schema=shop.schema, tables=shop.tables)
    assert state() == before
    assert len(before[0]) == len(TOOL_NAMES)


@pytest.mark.spark
def test_a_model_can_read_what_a_tool_and_its_argument_are(shop: Shop) -> None:
    for tool in agent_tools():
        name = quote_name(shop.schema, tool.name)
        told = "\n".join(
            row[0] for row in shop.spark.sql(f"DESCRIBE FUNCTION EXTENDED {name}").collect()
        )
        assert tool.comment in told
        assert tool.argument.comment.replace("'", "\\'") in told or tool.argument.comment in told


@pytest.mark.spark
def test_the_tools_answer_in_utc_whatever_the_session_zone(shop: Shop) -> None:
    zone = shop.spark.conf.get("spark.sql.session.timeZone")
    before = tool_answer(shop.spark, "get_order_timing", "o-1", schema=shop.schema)
    shop.spark.conf.set("spark.sql.session.timeZone", "Asia/Kathmandu")
    try:
        assert tool_answer(shop.spark, "get_order_timing", "o-1", schema=shop.schema) == before
    finally:
        shop.spark.conf.set("spark.sql.session.timeZone", zone)


def clinic() -> Domain:
    """Another business: visits at clinics, with treatments that have no amount."""
    return replace(
        GHOST_KITCHEN,
        entity_key="visit_id",
        site_key="clinic_id",
        opening="admitted",
        closing="discharged",
        event_types=(
            EventType(1, "admitted", (BodyField("ward", "ward", "text", "STRING"),)),
            EventType(2, "discharged"),
        ),
        line_items=LineItems(
            table="treatments",
            event="admitted",
            field="treatments",
            columns=(Column("code", "STRING", "code", "the treatment"),),
        ),
        lifecycle=replace(GHOST_KITCHEN.lifecycle, durations=()),
    )


@pytest.mark.spark
def test_another_business_has_tools_of_its_own(spark: Any) -> None:
    schema, domain = f"tools_{uuid4().hex[:8]}", clinic()
    tables = replace(AGENT_TABLES, events=f"{schema}.e", lines=f"{schema}.l")
    spark.sql(f"CREATE SCHEMA {schema}")
    try:
        rows = [
            event("admitted", stamp(0), "v", 3, '{"ward": "B"}'),
            event("discharged", stamp(9), "v", 3),
        ]
        write(spark, tables.events, rows, bronze_table(domain).columns[:7])
        line = [("v", 1, 3, START, START.date(), "X-ray")]
        write(spark, tables.lines, line, line_items_table(domain).columns)
        create_tools(spark, schema=schema, tables=tables, domain=domain)
        overview = call_tool(spark, "get_order_overview", "v", schema=schema).collect()[0].asDict()
        details = call_tool(spark, "get_order_details", "v", schema=schema).collect()
    finally:
        spark.sql(f"DROP SCHEMA {schema} CASCADE")
    assert (overview["visit_id"], overview["clinic_id"], overview["ward"]) == ("v", 3, "B")
    assert overview["total_minutes"] == Decimal(9)
    assert json.loads(overview["lines"]) == [{"line": 1, "code": "X-ray"}]
    assert "order_total" not in overview
    told = [(row.event_type, row.clinic_id, row.location_name) for row in details]
    assert told == [("admitted", 3, None), ("discharged", 3, None)]


@pytest.mark.parametrize(
    ("tool", "argument", "said"),
    [
        ("get_everything", "o-1", "there is no tool 'get_everything'"),
        ("get_order_timing", 7, "it takes a text"),
        ("get_order_timing", "\ud800", "it takes a text"),
        ("get_location_timings", "3; DROP TABLE x", "it takes a whole number"),
        ("get_location_timings", 2**31, "it takes a whole number"),
        ("get_location_timings", True, "it takes a whole number"),
    ],
)
def test_what_can_not_be_an_argument_is_refused_before_anything_runs(
    tool: str, argument: Any, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        call_tool(None, tool, argument)  # type: ignore[arg-type]


def test_every_tool_argument_and_column_has_a_comment_and_a_type() -> None:
    tools = agent_tools()
    assert [tool.name for tool in tools] == list(TOOL_NAMES)
    for tool in tools:
        assert tool.comment
        for column in (tool.argument, *tool.columns):
            assert column.comment
            assert column.type
        assert len({c.name for c in tool.columns}) == len(tool.columns)


def test_unity_catalog_gets_names_of_three_levels_and_no_defaults() -> None:
    texts = tools_ddl(catalog="caspersdev")
    for name, text in zip((LOCATION_VIEW, *TOOL_NAMES), texts, strict=True):
        assert f" `caspersdev`.`ai`.`{name}`" in text
        assert "`locations`" not in text, "no dimension says what a location is called"
        assert "`lakeflow`.`all_events`" not in text.replace("`caspersdev`.`lakeflow`", "")
        assert ":" not in without_quoted(text)
        assert "DEFAULT" not in text
    for text in texts[1:]:
        assert "RETURNS TABLE (`" in text


def test_a_table_that_names_its_catalog_keeps_it() -> None:
    tables = replace(AGENT_TABLES, events="other.lakeflow.events")
    text = " ".join(tools_ddl(catalog="mine", tables=tables))
    assert "`other`.`lakeflow`.`events`" in text
    assert "`mine`.`other`" not in text


def test_J8_no_text_from_outside_stands_unquoted_in_the_ddl() -> None:
    evil = "x`; DROP TABLE t; --'"
    domain = replace(
        clinic(),
        entity_key=f"{evil}e",
        site_key=f"{evil}s",
        opening=f"{evil}o",
        event_types=(
            EventType(1, f"{evil}o", (BodyField(f"{evil}b", "b", "text", "STRING"),)),
            EventType(2, "discharged"),
        ),
    )
    tables = replace(AGENT_TABLES, events=f"s.{evil}", lines=f"s.{evil}")
    text = " ".join(tools_ddl(catalog=f"{evil}c", schema=f"{evil}a", tables=tables, domain=domain))
    assert "DROP TABLE" in text
    assert "DROP TABLE" not in without_quoted(text)


def without_quoted(text: str) -> str:
    """The text without its quoted names and its string literals, read character by character."""
    left, quote, n = [], "", 0
    while n < len(text):
        char = text[n]
        if (quote, char) == ("'", "\\") or (quote == "`" and text[n : n + 2] == "``"):
            n += 1
        elif quote:
            quote = "" if char == quote else quote
        elif char in "`'":
            quote = char
        else:
            left.append(char)
        n += 1
    return "".join(left)


def test_the_queries_reach_as_far_back_as_the_rules() -> None:
    assert tool_queries.HISTORY_HOURS == HISTORY_HOURS
    assert tool_queries.LONGEST_ORDER_HOURS == LONGEST_ORDER_HOURS


def test_the_ddl_is_written_without_spark() -> None:
    check = (
        "from caspers_lib.agents.tools import tools_ddl; tools_ddl();"
        " import sys; sys.exit('pyspark' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
