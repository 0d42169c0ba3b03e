import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from caspers_lib.errors import CaspersError, SyncError
from caspers_lib.lakebase import REFUNDS, SyncSpec, watchdog
from caspers_lib.lakebase.change_feed import SyncRun
from caspers_lib.lakebase.connection import connect
from caspers_lib.lakebase.continuous import Follower
from caspers_lib.lakebase.server import EmbeddedPostgres
from caspers_lib.lakebase.target import prepare_target
from tests.lakebase.plans import PLAN

LIMIT_SECONDS = 120.0  # only how long a broken follower may hold up the tests

COLUMNS = "(order_id STRING, ts TIMESTAMP, order_ts TIMESTAMP, agent_response STRING)"


class Running:
    """A follower in a thread, and what it reported."""

    def __init__(self, follower: Follower) -> None:
        self.follower = follower
        self.runs: list[SyncRun] = []
        self.errors: list[CaspersError] = []
        self.failure: Exception | None = None
        self.told_to_stop = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Running":
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.told_to_stop.set()
        self.thread.join(LIMIT_SECONDS)
        assert not self.thread.is_alive()

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LIMIT_SECONDS
        while not condition():
            assert self.thread.is_alive(), self.failure
            assert time.monotonic() < deadline, (self.runs, self.errors)
            time.sleep(0.05)

    def _run(self) -> None:
        try:
            self.follower.run(self.told_to_stop.is_set, self.runs.append, self.errors.append)
        except CaspersError as error:
            self.failure = error


@pytest.fixture
def spec(spark: Any) -> Iterator[SyncSpec]:
    spark.sql("CREATE SCHEMA lakebase_follower")
    spec = replace(REFUNDS, source="lakebase_follower.refunds", mode="continuous")
    spark.sql(
        f"CREATE TABLE {spec.source} {COLUMNS} USING delta "
        "TBLPROPERTIES (delta.enableChangeDataFeed = true)"
    )
    yield spec
    spark.sql("DROP SCHEMA lakebase_follower CASCADE")


def insert(spark: Any, spec: SyncSpec, *orders: str) -> None:
    rows = ", ".join(f"('{order}', now(), NULL, '1')" for order in orders)
    names = "order_id, ts, order_ts, agent_response"
    spark.sql(f"INSERT INTO {spec.source} ({names}) VALUES {rows}")


def orders(dsn: str) -> set[str]:
    with connect(dsn) as connection:
        query = f"SELECT order_id FROM {REFUNDS.target}"
        return {order for (order,) in connection.execute(query.encode())}


@pytest.mark.spark
def test_rows_and_columns_that_are_new_are_followed_until_told_to_stop(
    spark: Any, spec: SyncSpec, database: str, tmp_path: Path
) -> None:
    insert(spark, spec, "a")
    follower = Follower(spark, spec, database, str(tmp_path / "checkpoint"), trigger_seconds=0.1)
    with Running(follower) as running:
        running.until(lambda: len(running.runs) == 1)
        assert running.runs[0].loaded == "first load"
        insert(spark, spec, "b", "c")
        running.until(lambda: orders(database) == {"a", "b", "c"})
        running.until(lambda: sum(run.result.written for run in running.runs) == 3)
        assert not running.errors

        spark.sql(
            f"UPDATE {spec.source} SET order_id = if(order_id = 'a', 'b', if(order_id = 'b', 'a', "
            "'moved')), agent_response = order_id = 'a'"
        )
        running.until(lambda: orders(database) == {"a", "b", "moved"})
        with psycopg.connect(database) as connection:
            query = f"SELECT order_id FROM {spec.target} WHERE agent_response = 'true'"
            assert connection.execute(query.encode()).fetchall() == [("b",)]

        spark.sql(f"ALTER TABLE {spec.source} ADD COLUMN note STRING")
        spark.sql(f"INSERT INTO {spec.source} VALUES ('d', now(), NULL, '1', 'new')")
        running.until(lambda: "d" in orders(database))
        with psycopg.connect(database) as connection:
            query = f"SELECT order_id FROM {spec.target} WHERE note = 'new'"
            assert connection.execute(query.encode()).fetchall() == [("d",)]
        assert [run.loaded for run in running.runs if run.loaded] == ["first load"]
    assert running.failure is None
    assert not spark.streams.active
    assert list((tmp_path / "checkpoint").iterdir()) == []


@pytest.fixture
def fragile(short_folder: Path, tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server that the test may kill."""
    with EmbeddedPostgres(short_folder / tmp_path.name[-20:] / "data") as running:
        running.ensure_database("test")
        yield running


@pytest.mark.spark
def test_a_server_that_is_killed_and_started_again_loses_and_doubles_nothing(
    spark: Any, spec: SyncSpec, fragile: EmbeddedPostgres, tmp_path: Path
) -> None:
    dsn = fragile.dsn("test")
    insert(spark, spec, "a")
    follower = Follower(spark, spec, dsn, str(tmp_path / "checkpoint"), trigger_seconds=0.1)
    with Running(follower) as running:
        running.until(lambda: bool(running.runs))
        insert(spark, spec, "b")
        running.until(lambda: orders(dsn) == {"a", "b"})
        record = watchdog.read_record(fragile.data)
        assert record is not None
        os.kill(record.pid, signal.SIGKILL)
        insert(spark, spec, "c", "d")
        fragile.stop()
        fragile.start()
        insert(spark, spec, "e")
        running.until(lambda: orders(dsn) == {"a", "b", "c", "d", "e"})
    assert running.failure is None
    totals = prepare_target(dsn, PLAN).totals
    assert (totals.rows_in, totals.written, totals.unchanged) == (5, 5, 0)


def hurried(seconds: float) -> None:
    time.sleep(min(seconds, 0.05))


@pytest.mark.spark
def test_an_error_that_stays_is_raised_after_some_attempts(
    spark: Any, spec: SyncSpec, database: str, tmp_path: Path
) -> None:
    checkpoint = str(tmp_path / "checkpoint")
    follower = Follower(spark, spec, database, checkpoint, attempts=2, sleep=hurried)
    prepare_target(database, PLAN)
    with psycopg.connect(database) as connection:
        query = f"ALTER TABLE {spec.target} ADD CONSTRAINT no CHECK (order_id <> 'a')"
        connection.execute(query.encode())
    insert(spark, spec, "a")
    errors: list[CaspersError] = []
    with pytest.raises(SyncError, match=r"can't be applied to .* violates check constraint"):
        follower.run(lambda: False, on_error=errors.append)
    assert len(errors) == 1


@pytest.mark.spark
def test_a_stream_that_never_starts_is_an_error_although_nothing_is_new(
    spark: Any, spec: SyncSpec, database: str, tmp_path: Path
) -> None:
    insert(spark, spec, "a")
    (tmp_path / "checkpoint").write_text("no folder")
    follower = Follower(
        spark, spec, database, str(tmp_path / "checkpoint"), attempts=2, sleep=hurried
    )
    errors: list[CaspersError] = []
    with pytest.raises(SyncError, match=r"The sync of refunds failed: .*not a directory"):
        follower.run(lambda: len(errors) > 5, on_error=errors.append)
    assert len(errors) == 1
    assert orders(database) == {"a"}


@pytest.mark.spark
def test_a_snapshot_is_looked_at_again_and_again(
    spark: Any, spec: SyncSpec, database: str, tmp_path: Path
) -> None:
    snapshot = replace(spec, mode="snapshot")
    insert(spark, spec, "a")
    with Running(Follower(spark, snapshot, database, str(tmp_path), sleep=hurried)) as running:
        running.until(lambda: len(running.runs) == 1)
        spark.sql(f"DELETE FROM {spec.source}")
        insert(spark, spec, "b")
        running.until(lambda: orders(database) == {"b"})
    assert running.failure is None
    assert {run.loaded for run in running.runs} == {"first load", "snapshot"}
    assert not running.errors
