"""The writer, the server, or both are killed at random moments; the target comes out right."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from caspers_lib.lakebase import REFUNDS, watchdog
from caspers_lib.lakebase.connection import connect, execute
from caspers_lib.lakebase.server import EmbeddedPostgres
from caspers_lib.lakebase.staging import staging_table
from caspers_lib.lakebase.target import at_position, prepare_target, read_position
from tests.lakebase.crash_writer import history, model
from tests.lakebase.plans import PLAN

ROUNDS = 8
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def fragile(short_folder: Path, tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server that the test may kill."""
    with EmbeddedPostgres(short_folder / tmp_path.name[-20:] / "data") as running:
        running.ensure_database("test")
        yield running


def kill_server(server: EmbeddedPostgres) -> None:
    record = watchdog.read_record(server.data)
    assert record is not None
    os.kill(record.pid, signal.SIGKILL)


def writer(dsn: str, seed: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.lakebase.crash_writer", dsn, str(seed)]
    return subprocess.Popen(command, cwd=REPOSITORY)


def test_whoever_is_killed_whenever_the_target_equals_the_source(
    fragile: EmbeddedPostgres, refund_rows: Callable[[str], dict[str, Any]]
) -> None:
    seed = 7
    draw, dsn, commits = random.Random(seed), fragile.dsn("test"), history(seed)
    prepare_target(dsn, PLAN)
    for _ in range(ROUNDS):
        process = writer(dsn, seed)
        time.sleep(0.6 + draw.random() * 0.8)
        victims = draw.choice(["writer", "server", "both"])
        if victims != "writer":
            kill_server(fragile)
        if victims != "server":
            process.kill()
        if victims != "writer":
            fragile.stop()
            fragile.start()
        process.kill()
        process.wait()
    with psycopg.connect(dsn) as connection:
        half_way = read_position(connection, REFUNDS)
    assert half_way is None or half_way.commit_version < len(commits) - 1
    assert writer(dsn, seed).wait() == 0
    with psycopg.connect(dsn) as connection:
        position = read_position(connection, REFUNDS)
    assert position is not None
    assert refund_rows(dsn) == model(commits)
    assert position.commit_version == len(commits) - 1
    # Each change was counted exactly once.
    assert position.totals.rows_in == sum(map(len, commits))
    with staging_table(dsn, PLAN), psycopg.connect(dsn) as connection:
        query = "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'sync_staging%'"
        assert connection.execute(query).fetchone() == (1,)


def test_a_position_that_was_written_outlives_a_back_end_that_is_killed(
    fragile: EmbeddedPostgres,
) -> None:
    dsn = fragile.dsn("test")
    prepare_target(dsn, PLAN)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("ALTER DATABASE test SET synchronous_commit = off")
    for version in range(5):
        with psycopg.connect(dsn) as victim:
            with at_position(dsn, REFUNDS) as connection:
                move = "UPDATE {positions} SET commit_version = %s"
                execute(connection, move, (version,), positions=REFUNDS.positions)
            # The server takes all its memory for broken, and reads its log again.
            os.kill(victim.info.backend_pid, signal.SIGKILL)
        with connect(dsn, patience=60) as connection:
            position = read_position(connection, REFUNDS)
        assert position is not None
        assert position.commit_version == version
