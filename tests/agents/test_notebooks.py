"""The notebooks run here as they stand, cell by cell, on a small business."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from caspers_lib.agents.contracts import RefundAnswer
from caspers_lib.agents.model.answers import ModelAnswers
from caspers_lib.agents.model.askers import HttpAsker
from caspers_lib.agents.model.settings import ModelSettings
from caspers_lib.agents.refund_policy import RefundPolicy
from caspers_lib.agents.refund_rules import refund_answers
from caspers_lib.agents.serving.agent_logic import RefundAgent
from caspers_lib.agents.serving.app import agent_app
from caspers_lib.agents.streams import run_refund_stream
from caspers_lib.agents.tables import ensure_tables
from caspers_lib.console.serve import ConsoleServer
from tests.agents.model_server import ModelServer
from tests.agents.serving.test_order_lookup import HOSTILE, Shop, parsed, small_shop

pytestmark = pytest.mark.spark

NOTEBOOKS = Path(__file__).parents[2] / "examples" / "notebooks"
PARAMETERS = 2
"""The cell after which a test sets what a person would."""


@pytest.fixture(scope="module")
def shop(spark: Any) -> Iterator[Shop]:
    made = small_shop(spark)
    yield made
    spark.sql(f"DROP SCHEMA {made.schema} CASCADE")


def cells(name: str) -> list[str]:
    text = (NOTEBOOKS / f"{name}.py").read_text(encoding="utf-8")
    first, _, rest = text.partition("\n")
    assert first == "# Databricks notebook source"
    return rest.split("\n# COMMAND ----------\n")


def run(name: str, **parameters: Any) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for number, cell in enumerate(cells(name)):
        exec(compile(cell, f"{name} {number}", "exec"), names)  # noqa: S102 - ours
        if number == PARAMETERS:
            assert parameters.keys() <= names.keys()
            names |= parameters
    return names


def test_one_order_is_scored_step_by_step(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    names = run("score_one_order", catalog=None, tools_schema=shop.schema, tables=shop.tables)
    said = capsys.readouterr().out
    assert names["order_id"] in shop.orders
    assert names["by_rules"].answered_by == "rules"
    assert names["by_rules"].answer in said
    for shown in ("order_total", "item_name", "history_orders", "KnownOrder"):
        assert shown in said


def test_a_chosen_order_is_scored_by_a_model_as_well(shop: Shop) -> None:
    with ModelServer(key=None).running() as server:
        names = run(
            "score_one_order",
            catalog=None,
            tools_schema=shop.schema,
            tables=shop.tables,
            order_id=HOSTILE,
            model=ModelSettings(base_url=server.url, model="m"),
        )
    assert json.loads(server.requests[0].said[1]["content"])["order_id"] == HOSTILE
    by_rules, by_model = names["by_rules"], names["by_model"]
    assert parsed(by_rules.answer, RefundAnswer).source == "rules"
    assert by_model.note is None or by_model.note.startswith("The rules answered in the model's")


def test_the_streams_run_once_and_a_second_time_change_nothing(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parameters = {
        "catalog": None,
        "volumes": str(tmp_path),
        "tables": shop.tables,
        "complaint_rate": 1.0,
    }
    said = []
    for _ in range(2):
        run("run_agent_streams", **parameters)
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    # Every delivered order has an answer; one of which nothing is known complains as well.
    assert [line.split(": ")[1] for line in said[0].splitlines()] == ["62 rows"] * 3
    folders = {str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*/*")}
    assert folders == {
        "recommender/checkpoints/refunds",
        "complaints/checkpoints/complaints",
        "complaints/checkpoints/responses",
    }


def test_a_stream_asks_a_served_agent_instead_of_the_rule_engine(
    shop: Shop, tmp_path: Path
) -> None:
    outputs = {
        name: replace(table, name=f"{table.name}_served")
        for name in ("recommendations", "complaints", "responses", "model_calls", "open_questions")
        for table in [getattr(shop.tables, name)]
    }
    tables = replace(shop.tables, **outputs)
    ensure_tables(shop.spark, tables)
    with ConsoleServer(agent_app(RefundAgent()), port=0) as server:
        settings = ModelSettings(base_url=server.url, model="agent", api="responses", is_agent=True)
        asker = HttpAsker(settings=settings, kind=RefundAnswer, instructions="")
        model = ModelAnswers(asker=asker)
        run_refund_stream(shop.spark, str(tmp_path), tables=tables, model=model)
    calls = shop.spark.read.table(tables.model_calls.name).groupBy("agent", "outcome").count()
    assert [tuple(row) for row in calls.collect()] == [("refunds", "answered", 61)]
    served = shop.spark.read.table(tables.recommendations.name).collect()
    assert answers(served) == answers(refund_answers(shop.facts(), RefundPolicy()).collect())


def answers(rows: list[Any]) -> dict[str, RefundAnswer]:
    """The answers by order."""
    return {row.order_id: parsed(row.agent_response, RefundAnswer) for row in rows}
