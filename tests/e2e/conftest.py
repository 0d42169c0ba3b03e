"""The command line as a user runs it, on a small dataset: in a process of its own, or in this."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner

from caspers_lib.cli import app
from caspers_lib.replay.generator import generate_dataset
from caspers_lib.runtime import local_business
from caspers_lib.runtime.catalog import SCHEMAS
from caspers_lib.spark_paths import plain_path

CASPERS = Path(sys.executable).parent / "caspers"
_LIMIT_SECONDS = 300

RunCaspers = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def small_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days, about 120 orders."""
    return generate_dataset(tmp_path_factory.mktemp("dataset"), days=3, scale=0.05)


@pytest.fixture(scope="session")
def caspers() -> RunCaspers:
    """Run `caspers` with the given words and wait for its end."""

    def run(*words: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(CASPERS), *map(str, words)],
            capture_output=True,
            text=True,
            timeout=_LIMIT_SECONDS,
            env={**os.environ, **(env or {})},
            check=False,
        )

    return run


@pytest.fixture
def warm_spark(spark: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever starts Spark in this process is given the tests' own, which is warm."""
    monkeypatch.setattr(local_business, "start_session", lambda *_, **__: spark)
    monkeypatch.setattr(local_business, "stop_session", lambda _session: None)
    yield
    forget_tables(spark)


def forget_tables(spark: Any) -> None:
    """What a new session knows: nothing. Folders that are still in their place go as well."""
    for schema in reversed(SCHEMAS):
        spark.sql(f"DROP SCHEMA IF EXISTS {schema} CASCADE")


@pytest.fixture
def warm_caspers(warm_spark: None) -> RunCaspers:  # noqa: ARG001 - commands of this process use it
    """Run `caspers` with the given words in this process."""

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        answer = CliRunner().invoke(app, [*map(str, words)])
        error = "" if answer.exit_code == 0 else f"{answer.exception}\n{answer.stderr}"
        return subprocess.CompletedProcess(words, answer.exit_code, answer.stdout, error)

    return run


def status_of(caspers: RunCaspers, root: Path) -> dict[str, Any]:
    """The document of `caspers status --json`."""
    answer = caspers("status", "--root", root, "--json")
    assert answer.returncode == 0, answer.stderr
    document: dict[str, Any] = json.loads(answer.stdout)
    return document


def assert_consistent(status: dict[str, Any]) -> dict[str, int]:
    """Every number of the summary agrees with every other; returns events, orders and so on."""
    folder = plain_path(Path(status["events"]["path"]))
    events = f"read_json('{folder}/*.json', format='newline_delimited')"
    counted = duckdb.execute(
        f"""SELECT count(*), count(DISTINCT event_id),
          count(DISTINCT order_id) FILTER (event_type = 'order_created'),
          count(DISTINCT order_id) FILTER (event_type = 'delivered') FROM {events}"""
    ).fetchall()
    total, distinct, orders, delivered = counted[0]
    rows = {name: place["rows"] for name, place in status["tables"].items()}
    assert total == distinct == status["events"]["rows"] == rows["lakeflow.all_events"]
    assert orders == rows["lakeflow.gold_order_header"]
    assert delivered == rows["recommender.refund_recommendations"]
    assert delivered == status["postgres"]["refunds"]["rows"]
    assert rows["complaints.raw_complaints"] == rows["complaints.complaint_responses"]
    assert rows["complaints.raw_complaints"] == status["postgres"]["complaints"]["rows"]
    return {
        "events": total,
        "orders": orders,
        "delivered": delivered,
        "complaints": rows["complaints.raw_complaints"],
    }
