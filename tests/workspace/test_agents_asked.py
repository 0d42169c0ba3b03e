"""The streams of a workspace ask the agents' endpoints, and these ask the model."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config

from caspers_lib.agents.tables import AGENT_TABLES
from caspers_lib.agents.tools import call_tool
from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.domain.tables import line_items_table
from caspers_lib.runtime.settings import Settings
from caspers_lib.workspace import (
    Workspace,
    complaint_agent,
    complaint_agent_stream,
    complaint_generator_stream,
    refund_recommender_agent,
    refund_recommender_stream,
)
from caspers_lib.workspace.lakehouse import SparkLakehouse
from tests.agents.conftest import EVENT_SCHEMA
from tests.agents.test_streams import Order
from tests.standins.agent_endpoints import AI_QUERY, MODEL, AgentEndpoints
from tests.standins.databricks_notebook import CATALOG, share_catalog
from tests.standins.mlflow_registry import MlflowRegistry
from tests.workspace.conftest import AccountOnPaper
from tests.workspace_fake import LoopbackWorkspace

# Minutes: each run of a stream takes a quarter of one.
pytestmark = [pytest.mark.spark, pytest.mark.full]

SCHEMAS = ("lakeflow", "ai", "recommender", "complaints", "simulator")
USUAL = [Order(f"o-{n}", 1, 10.0 * n, 10.0 * n + 20 + n) for n in range(7)]
LATER = [Order(f"p-{n}", 1, 100.0 + n, 150.0 + n) for n in range(3)]
LAST = [Order("q-1", 1, 110.0, 170.0)]


@dataclass
class Shop:
    """A workspace whose tables are Spark's and whose endpoints answer.

    Args:
        loopback: the services.
        workspace: what a task is given.
        endpoints: the agents and the model.
    """

    spark: Any
    loopback: LoopbackWorkspace
    workspace: Workspace
    endpoints: AgentEndpoints

    def deliver(self, orders: Sequence[Order]) -> None:
        events = self.spark.createDataFrame([e for o in orders for e in o.events()], EVENT_SCHEMA)
        landed = events.selectExpr("*", "CAST(NULL AS STRING) AS _rescued_data")
        landed.write.mode("append").saveAsTable(AGENT_TABLES.events)
        columns = ", ".join(f"{c.name} {c.type}" for c in line_items_table(GHOST_KITCHEN).columns)
        lines = [
            (*row[:4], row[3].date(), 7, 2, 3, 4, *row[4:]) for o in orders for row in o.line_rows()
        ]
        frame = self.spark.createDataFrame(lines, columns)
        frame.write.mode("append").saveAsTable(AGENT_TABLES.lines)

    def sources(self, table: str) -> Counter[str]:
        rows = self.spark.read.table(table).collect()
        assert len({row[0] for row in rows}) == len(rows)
        return Counter(json.loads(row.agent_response)["source"] for row in rows)

    def open(self) -> int:
        return self.spark.read.table(AGENT_TABLES.open_questions.name).count()


@pytest.fixture
def shop(spark: Any, tmp_path: Path) -> Iterator[Shop]:
    # Nothing takes more than one look, so that the SDK has nothing to wait for.
    loopback = LoopbackWorkspace(looks=0, execute=lambda text, given: run_tool(spark, text, given))
    share_catalog(loopback, spark)
    configs: dict[str, dict[str, Any]] = {}
    for schema in SCHEMAS:
        spark.sql(f"CREATE SCHEMA {schema}")
    spark.sql("CREATE TABLE simulator.locations AS SELECT 1 AS location_id, 'North' AS name")
    with loopback.running(), pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith("DATABRICKS_")]:
            patch.delenv(name)
        patch.setenv("NO_PROXY", "127.0.0.1")
        client = WorkspaceClient(config=Config(host=loopback.url, token=loopback.token))
        endpoints = loopback.serving.invoke = AgentEndpoints(client, configs)
        settings = Settings(
            catalog=CATALOG, complaint_rate=1.0, warehouse_id=loopback.add_warehouse("shop")
        )
        workspace = Workspace.over(
            settings,
            client,
            SparkLakehouse.here(spark, settings, tmp_path),
            AccountOnPaper({}),
            mlflow=cast("Any", MlflowRegistry(loopback, configs=configs)),
        )
        yield Shop(spark, loopback, workspace, endpoints)
    spark.sql("DROP TEMPORARY FUNCTION IF EXISTS ai_query")
    for schema in SCHEMAS:
        spark.sql(f"DROP SCHEMA {schema} CASCADE")


def run_tool(spark: Any, statement: str, given: dict[str, object]) -> tuple[Any, Any]:
    """What the warehouse says to a served agent's look-up; Spark has no markers beside Delta."""
    tool = re.search(r"FROM `spark_catalog`.`ai`.`(\w+)`\(:oid\)$", statement)
    assert tool
    answer = call_tool(spark, tool[1], cast("str", given["oid"]))
    rows = answer.selectExpr(
        "to_json(struct(*), map('ignoreNullFields', 'false', 'timeZone', 'UTC'))"
    ).collect()
    return [("row", "STRING")], [tuple(row) for row in rows]


def test_refunds_come_from_the_model_once_an_order_and_from_the_rules_when_it_is_down(
    shop: Shop,
) -> None:
    table = AGENT_TABLES.recommendations.name
    shop.deliver(USUAL)
    told = refund_recommender_stream(shop.workspace)
    assert "the rules until the endpoint caspers_refund_agent is ready" in told.done
    assert shop.sources(table) == {"rules": 7}
    assert shop.open() == 7

    refund_recommender_agent(shop.workspace)
    [config] = shop.endpoints.configs.values()
    assert config["model_endpoint"] == MODEL
    assert "by caspers_refund_agent" in refund_recommender_stream(shop.workspace).done
    assert (shop.sources(table), shop.open()) == ({"model": 7}, 0)
    refund_recommender_stream(shop.workspace)
    assert sorted(shop.endpoints.asked) == [f"o-{n}" for n in range(7)]

    shop.endpoints.is_down = True
    shop.deliver(LATER)
    refund_recommender_stream(shop.workspace)
    assert (shop.sources(table), shop.open()) == ({"model": 7, "rules": 3}, 3)
    shop.endpoints.recover()
    shop.loopback.deny("POST /serving-endpoints/responses")
    refund_recommender_stream(shop.workspace)
    assert (shop.sources(table), shop.open()) == ({"model": 7, "rules": 3}, 3)
    shop.loopback.allow("POST /serving-endpoints/responses")
    refund_recommender_stream(shop.workspace)
    assert (shop.sources(table), shop.open()) == ({"model": 10}, 0)
    assert max(Counter(shop.endpoints.asked).values()) == 1

    # Somebody asks about an order by its id alone: the agent looks it up in the tables.
    body = shop.endpoints("caspers_refund_agent", {"input": [{"role": "user", "content": "p-1"}]})
    [message] = body["output"]
    assert json.loads(message["content"][0]["text"])["source"] == "model"
    assert shop.endpoints.asked[-1] == "p-1"


def test_complaints_and_answers_come_from_the_model_and_from_the_rules_when_it_is_down(
    shop: Shop,
) -> None:
    def written() -> Counter[str]:
        rows = shop.spark.read.table(AGENT_TABLES.complaints.name).collect()
        assert all(
            (row.generated_by == MODEL) == (row.complaint_text == "The model complains.")
            for row in rows
        )
        return Counter(row.generated_by for row in rows)

    shop.deliver(USUAL)
    complaint_generator_stream(shop.workspace)
    assert written() == {"rules": 7}, "there is no ai_query"
    shop.spark.sql(AI_QUERY)
    shop.deliver(LATER)
    assert f"by {MODEL}" in complaint_generator_stream(shop.workspace).done
    complaint_generator_stream(shop.workspace)
    assert written() == {"rules": 7, MODEL: 3}
    spent = shop.spark.read.table(AGENT_TABLES.model_calls.name).where("agent = 'complaints'")
    assert {row.order_id: row.calls for row in spent.collect()} == dict.fromkeys(
        ("p-0", "p-1", "p-2"), 1
    )
    capped = replace(
        shop.workspace,
        lakehouse=replace(
            cast("SparkLakehouse", shop.workspace.lakehouse),
            settings=shop.workspace.settings.model_copy(update={"model_calls_a_day": 3}),
        ),
    )
    shop.deliver(LAST)
    complaint_generator_stream(capped)
    assert written() == {"rules": 8, MODEL: 3}

    table = AGENT_TABLES.responses.name
    complaint_agent(shop.workspace)
    shop.endpoints.is_down = True
    complaint_agent_stream(shop.workspace)
    assert (shop.sources(table), shop.open()) == ({"rules": 11}, 11)
    shop.endpoints.recover()
    complaint_agent_stream(shop.workspace)
    assert (shop.sources(table), shop.open()) == ({"model": 11}, 0)
    complaint_agent_stream(shop.workspace)
    assert max(Counter(shop.endpoints.asked).values()) == 1
