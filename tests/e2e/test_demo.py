"""`caspers demo` from end to end, with real Spark, Delta, PostgreSQL and console."""

import json
import os
import signal
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import psutil
import pytest

from caspers_lib.lakebase import watchdog
from caspers_lib.runtime.demo import Demo
from tests.e2e.conftest import (
    CASPERS,
    RunCaspers,
    assert_consistent,
    forget_tables,
    status_of,
)

pytestmark = pytest.mark.spark
_LIMIT_SECONDS = 240


def _words(root: Path, dataset: Path) -> list[object]:
    # Half of the orders complain, so that every table has rows on a small dataset.
    return [f"--root={root}", "--dataset", dataset, "--start-day", 1, "--complaint-rate", 0.5]


def _start(root: Path, dataset: Path, *more: object) -> subprocess.Popen[str]:
    words = [str(w) for w in ("demo", *_words(root, dataset), "--port", 0, *more)]
    return subprocess.Popen(
        [str(CASPERS), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"the demo ended before it said {text!r}:\n{seen}")


def test_one_round_agrees_and_a_second_moves_only_what_is_new(
    warm_caspers: RunCaspers, small_dataset: Path, tmp_path: Path, spark: Any
) -> None:
    root, caspers = tmp_path / "a root é [1]{2}*?%20#:'\"\\", warm_caspers
    first = caspers("demo", "--once", "--port", 0, *_words(root, small_dataset))
    assert first.returncode == 0, first.stdout + first.stderr
    assert "first round: " in first.stdout
    before = status_of(caspers, root)
    counts = assert_consistent(before)
    assert counts["delivered"] > 20
    assert counts["complaints"] > 5
    assert before["replay"]["status"] == "stopped"
    assert before["console"]["url"] is None
    assert before["postgres"]["refunds"]["dsn"] is None
    assert {p.name for p in tmp_path.iterdir()} == {root.name}, "something was written outside ROOT"

    files = spark.table("lakeflow.all_events").select("source_file").distinct().collect()
    folders = {Path(unquote(row.source_file.removeprefix("file:"))).parent for row in files}
    assert folders == {Path(before["events"]["path"])}

    assert_the_pipeline_alone_moves_what_is_new(caspers, root, small_dataset)
    root = root.rename(tmp_path / "-moved=*")
    forget_tables(spark)

    second = caspers("demo", "--once", "--port", 0, *_words(root, small_dataset))
    assert second.returncode == 0, second.stdout + second.stderr
    assert "catching up: " in second.stdout
    after = status_of(caspers, root)
    assert after["replay"]["watermark"] > before["replay"]["watermark"]
    assert after["replay"]["shift_seconds"] == before["replay"]["shift_seconds"]
    moved = assert_consistent(after)
    assert moved["events"] >= counts["events"]
    names = [status["tables"]["simulator.brands"]["rows"] for status in (before, after)]
    assert names[0] == names[1]

    assert_postgres_equals_delta(caspers, root)

    listed = caspers("destroy", "--root", root, "--dry-run")
    assert listed.returncode == 0
    assert root.exists()
    assert caspers("destroy", "--root", root).returncode == 0
    assert not root.exists()


def assert_postgres_equals_delta(caspers: RunCaspers, root: Path) -> None:
    """Every synced table holds what its source holds, value by value."""
    checked = caspers("sync", "check", "--json", "--root", root)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    found = json.loads(checked.stdout)
    assert {name for name, table in found.items() if table["target"]["rows"]} >= {
        "refunds", "complaints", "complaint_texts", "orders", "lifecycle", "lines", "events",
        "locations", "brands", "items",
    }  # fmt: skip
    assert all(table["equal"] for table in found.values())


def assert_the_pipeline_alone_moves_what_is_new(
    caspers: RunCaspers, root: Path, dataset: Path
) -> None:
    """`caspers pipeline run` after a tick, and the picture of what is there then."""
    assert caspers("replay", "step", "6h", "--root", root).returncode == 0
    ticked = caspers("replay", "tick", "--root", root, "--dataset", dataset)
    assert ticked.returncode == 0, ticked.stderr
    ran = caspers("pipeline", "run", "--json", "--root", root)
    assert ran.returncode == 0, ran.stderr
    tables = json.loads(ran.stdout)["tables"]
    bronze, header = tables["lakeflow.all_events"], tables["lakeflow.gold_order_header"]
    assert bronze["rows"] > bronze["before"] > 0
    assert header["rows"] > header["before"] > 0
    assert header["how"].endswith(("day", "days"))
    drawn = caspers("pipeline", "graph", "--root", root)
    assert f"{bronze['rows']:,} rows" in drawn.stdout


_KILLS = (
    ("Local_Spark", 6.0),  # within the pipeline's first update
    ("Spark_Declarative_Pipeline", 2.0),  # within the agents' streams
    ("Refund_Recommender_Stream", 0.7),  # within the sync to Postgres
)


@pytest.mark.parametrize(
    "kills", [_KILLS[1:2], pytest.param(_KILLS, marks=pytest.mark.full)], ids=["one", "three"]
)
def test_killed_at_any_point_the_next_round_ends_consistent(
    warm_caspers: RunCaspers,
    small_dataset: Path,
    tmp_path: Path,
    kills: tuple[tuple[str, float], ...],
) -> None:
    root = tmp_path / "root"
    for stage, seconds in kills:
        process = _start(root, small_dataset, "--once", "--speed", 600)
        _read_until(process, f"done {stage}")
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()

    live_it_grows_survives_its_servers_and_stops_on_ctrl_c(warm_caspers, root, small_dataset)

    final = warm_caspers("demo", "--once", "--port", 0, *_words(root, small_dataset))
    assert final.returncode == 0, final.stdout + final.stderr
    assert_consistent(status_of(warm_caspers, root))
    assert_postgres_equals_delta(warm_caspers, root)


def live_it_grows_survives_its_servers_and_stops_on_ctrl_c(
    caspers: RunCaspers, root: Path, small_dataset: Path
) -> None:
    process = _start(root, small_dataset, "--speed", 2000)
    try:
        _read_until(process, "live at speed 2000")
        first = status_of(caspers, root)
        url = first["console"]["url"]
        assert first["replay"]["status"] == "running"
        refused = caspers("demo", "--once", "--port", 0, *_words(root, small_dataset))
        assert refused.returncode == 1
        assert "is in use by process" in refused.stderr
        assert_answers(url)
        _read_until(process, "all_events +")
        assert_it_obeys(caspers, root)

        server = watchdog.read_record(root / "postgres" / "data")
        assert server is not None
        (jvm,) = jvms_of(process)
        os.kill(server.pid, signal.SIGKILL)
        jvm.kill()
        give_up = time.monotonic() + _LIMIT_SECONDS
        while jvms_of(process) in ([], [jvm]):
            assert time.monotonic() < give_up
            assert_answers(url)
            time.sleep(1)
        # One of them may stand for a round from before.
        _read_until(process, "all_events +")
        _read_until(process, "all_events +")
        assert_answers(url)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=_LIMIT_SECONDS)
    assert process.returncode == 0
    grown = status_of(caspers, root)
    assert grown["replay"]["watermark"] > first["replay"]["watermark"]
    assert grown["console"]["url"] is None
    assert grown["postgres"]["refunds"]["dsn"] is None


def jvms_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The JVMs that a demo has started and that live."""
    children = psutil.Process(process.pid).children()
    return [p for p in children if p.status() != psutil.STATUS_ZOMBIE and "java" in p.name()]


def assert_answers(url: str) -> None:
    """The page is up."""
    with urllib.request.urlopen(f"{url}/live") as page:  # noqa: S310 - our own
        assert page.status == 200


def assert_it_obeys(caspers: RunCaspers, root: Path) -> None:
    """A pause from another process stops the running demo's clock at its next tick."""

    def replay(command: str, *words: object) -> str:
        answer = caspers("replay", command, "--root", root, *words)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    assert "obeys at its next tick" in replay("pause")
    give_up = time.monotonic() + _LIMIT_SECONDS
    while (stood := json.loads(replay("status", "--json")))["lag_seconds"] > 0:
        assert time.monotonic() < give_up, stood
    time.sleep(2 * Demo.tick_seconds)
    assert json.loads(replay("status", "--json"))["watermark"] == stood["watermark"]
    assert stood["status"] == "paused"
    assert "plays at speed 2000" in replay("resume")


def assert_one_line(stderr: str) -> None:
    """One line of error and one of hint."""
    lines = stderr.strip().splitlines()
    assert len(lines) == 2, stderr
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("hint: ")


def test_what_is_refused_is_two_lines_and_an_exit_code(caspers: RunCaspers, tmp_path: Path) -> None:
    words = ("--root", tmp_path / "root", "--dataset", tmp_path / "none.parquet")
    answer = caspers("demo", "--once", *words)
    assert answer.returncode == 1
    assert_one_line(answer.stderr)
    assert caspers("demo", "--nonsense").returncode == 2


def test_status_of_nothing_is_a_whole_document(caspers: RunCaspers, tmp_path: Path) -> None:
    document = status_of(caspers, tmp_path / "root")
    assert document["replay"]["status"] == "not_started"
    assert document["tables"] == {}
    assert json.dumps(document["postgres"]["refunds"]) == json.dumps(
        {"dsn": None, "table": "recommender.pg_recommendations", "rows": None}
    )
    assert not (tmp_path / "root").exists(), "looking must not create anything"
