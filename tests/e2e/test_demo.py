"""`caspers demo` from end to end, with real Spark, Delta, PostgreSQL and console."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from caspers_lib.runtime.demo import Demo
from tests.e2e.conftest import CASPERS, RunCaspers, assert_consistent, status_of

pytestmark = pytest.mark.spark
_LIMIT_SECONDS = 240


def _words(root: Path, dataset: Path) -> list[object]:
    # Half of the orders complain, so that every table has rows on a small dataset.
    return ["--root", root, "--dataset", dataset, "--start-day", 1, "--complaint-rate", 0.5]


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
    caspers: RunCaspers, small_dataset: Path, tmp_path: Path
) -> None:
    root = tmp_path / "a root é"
    first = caspers("demo", "--once", "--port", 0, *_words(root, small_dataset))
    assert first.returncode == 0, first.stdout + first.stderr
    before = status_of(caspers, root)
    counts = assert_consistent(before)
    assert counts["delivered"] > 20
    assert counts["complaints"] > 5
    assert before["replay"]["status"] == "stopped"
    assert before["console"]["url"] is None
    assert before["postgres"]["refunds"]["dsn"] is None
    assert {p.name for p in tmp_path.iterdir()} == {root.name}, "something was written outside ROOT"

    assert_the_pipeline_alone_moves_what_is_new(caspers, root, small_dataset)

    second = caspers("demo", "--once", "--port", 0, *_words(root, small_dataset))
    assert second.returncode == 0, second.stdout + second.stderr
    after = status_of(caspers, root)
    assert after["replay"]["watermark"] > before["replay"]["watermark"]
    assert after["replay"]["shift_seconds"] == before["replay"]["shift_seconds"]
    moved = assert_consistent(after)
    assert moved["events"] >= counts["events"]
    assert after["tables"]["simulator.brands"] == before["tables"]["simulator.brands"]

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


def test_killed_at_any_point_the_next_round_ends_consistent(
    caspers: RunCaspers, small_dataset: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    points = (
        ("Local_Spark", 6.0),  # within the pipeline's first update
        ("Spark_Declarative_Pipeline", 2.0),  # within the agents' streams
        ("Refund_Recommender_Stream", 0.7),  # within the sync to Postgres
    )
    for stage, seconds in points:
        process = _start(root, small_dataset, "--once", "--speed", 600)
        _read_until(process, f"done {stage}")
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    final = caspers("demo", "--once", "--port", 0, *_words(root, small_dataset))
    assert final.returncode == 0, final.stdout + final.stderr
    assert_consistent(status_of(caspers, root))


def test_live_it_grows_answers_on_its_page_and_stops_on_ctrl_c(
    caspers: RunCaspers, small_dataset: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    process = _start(root, small_dataset, "--speed", 2000)
    try:
        _read_until(process, "live at speed 2000")
        first = status_of(caspers, root)
        assert first["replay"]["status"] == "running"
        with urllib.request.urlopen(f"{first['console']['url']}/healthz") as answer:  # noqa: S310
            assert answer.status == 200
        refused = caspers("demo", "--once", "--port", 0, *_words(root, small_dataset))
        assert refused.returncode == 1
        assert "is in use by process" in refused.stderr
        assert_one_line(refused.stderr)
        _read_until(process, "all_events +")
        assert_it_obeys(caspers, root)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=_LIMIT_SECONDS)
    assert process.returncode == 0
    grown = status_of(caspers, root)
    assert grown["replay"]["watermark"] > first["replay"]["watermark"]
    assert grown["tables"]["lakeflow.all_events"]["rows"] > 0
    assert grown["console"]["url"] is None
    assert grown["postgres"]["refunds"]["dsn"] is None


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


class TestBadInput:
    """Refused before anything is started or written."""

    def refused(
        self, caspers: RunCaspers, *words: object, env: dict[str, str] | None = None
    ) -> str:
        answer = caspers("demo", "--once", *words, env=env)
        assert answer.returncode == 1, answer.stdout + answer.stderr
        assert_one_line(answer.stderr)
        return answer.stderr

    def test_a_missing_dataset(self, caspers: RunCaspers, tmp_path: Path) -> None:
        root = tmp_path / "root"
        said = self.refused(caspers, "--root", root, "--dataset", tmp_path / "none.parquet")
        assert "There is no dataset at" in said
        assert not (root / "Volumes").exists()

    def test_an_unreadable_dataset(self, caspers: RunCaspers, tmp_path: Path) -> None:
        broken = tmp_path / "broken.parquet"
        broken.write_text("not parquet")
        said = self.refused(caspers, "--root", tmp_path / "root", "--dataset", broken)
        assert "can't be read as parquet" in said

    def test_a_start_day_outside_the_dataset(
        self, caspers: RunCaspers, small_dataset: Path, tmp_path: Path
    ) -> None:
        words = ["--root", tmp_path / "root", "--dataset", small_dataset, "--start-day", 3]
        assert "START_DAY is 3" in self.refused(caspers, *words)

    def test_a_corrupt_state(
        self, caspers: RunCaspers, small_dataset: Path, tmp_path: Path
    ) -> None:
        state = tmp_path / "root/Volumes/caspersdev/simulator/misc/_replay_state.json"
        state.parent.mkdir(parents=True)
        state.write_text("{")
        words = _words(tmp_path / "root", small_dataset)
        assert "_replay_state.json" in self.refused(caspers, *words)
        assert state.read_text() == "{"

    def test_a_root_that_cannot_be_written(self, caspers: RunCaspers, tmp_path: Path) -> None:
        occupied = tmp_path / "file"
        occupied.write_text("")
        assert "can't be written" in self.refused(caspers, "--root", occupied)

    def test_a_port_in_use(self, caspers: RunCaspers, small_dataset: Path, tmp_path: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            words = [*_words(tmp_path / "root", small_dataset), "--port", port]
            assert f"port {port}" in self.refused(caspers, *words)

    def test_a_java_that_is_too_old(
        self, caspers: RunCaspers, small_dataset: Path, tmp_path: Path
    ) -> None:
        java = tmp_path / "jdk8" / "bin" / "java"
        java.parent.mkdir(parents=True)
        java.write_text("#!/bin/sh\necho 'openjdk version \"1.8.0_402\"' >&2\n")
        java.chmod(0o755)
        words = _words(tmp_path / "root", small_dataset)
        said = self.refused(caspers, *words, env={"JAVA_HOME": str(tmp_path / "jdk8")})
        assert "which is Java 8; Spark needs 17 or later" in said

    def test_a_rate_outside_its_range(self, caspers: RunCaspers, tmp_path: Path) -> None:
        said = self.refused(caspers, "--root", tmp_path / "root", "--complaint-rate", 1.5)
        assert "COMPLAINT_RATE is 1.5" in said

    def test_bad_usage_is_code_2(self, caspers: RunCaspers) -> None:
        assert caspers("demo", "--nonsense").returncode == 2
        assert caspers("nonsense").returncode == 2


def test_status_of_nothing_is_a_whole_document(caspers: RunCaspers, tmp_path: Path) -> None:
    document = status_of(caspers, tmp_path / "root")
    assert document["replay"]["status"] == "not_started"
    assert document["tables"] == {}
    assert json.dumps(document["postgres"]["refunds"]) == json.dumps(
        {"dsn": None, "table": "recommender.pg_recommendations", "rows": None}
    )
    assert not (tmp_path / "root").exists(), "looking must not create anything"
