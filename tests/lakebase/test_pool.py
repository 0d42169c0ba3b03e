"""The pool: restarts, rotating passwords and what can't be had, on real servers."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from caspers_lib.errors import PostgresError
from caspers_lib.lakebase import watchdog
from caspers_lib.lakebase.connection import MissingDatabaseError, Postgres
from caspers_lib.lakebase.pool import PostgresPool, connection_pool
from caspers_lib.lakebase.server import EmbeddedPostgres
from tests.lakebase.stock_postgres import PASSWORD, StockPostgres


@pytest.fixture
def embedded(short_folder: Path, tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server that the test may kill."""
    with EmbeddedPostgres(short_folder / tmp_path.name / "data") as server:
        yield server


def answer(pool: PostgresPool) -> object:
    with pool.connection() as connection:
        row = connection.execute("SELECT 42").fetchone()
    return row and row[0]


def until_ended(*pids: int) -> None:
    """Wait until processes have ended; such a one may stay in the list until it is asked about."""

    def runs(pid: int) -> bool:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        return state not in "ZX"

    while any(runs(pid) for pid in pids):
        time.sleep(0.01)


def test_uses_share_the_pools_connections_and_commit(stock: StockPostgres) -> None:
    with connection_pool(stock.dsn("test"), max_size=1) as pool:
        with pool.connection() as connection:
            connection.execute("CREATE TABLE pooled AS SELECT pg_backend_pid() AS pid")
        with pool.connection() as connection:
            query = "SELECT pid = pg_backend_pid() FROM pooled"
            assert connection.execute(query).fetchone() == (True,)
            connection.execute("DROP TABLE pooled")


def test_a_server_killed_and_started_again_between_two_uses_is_not_noticed(
    embedded: EmbeddedPostgres,
) -> None:
    with connection_pool(embedded.dsn("postgres"), min_size=2) as pool:
        assert answer(pool) == 42
        with pool.connection() as first, pool.connection() as second:
            back_ends = [each.info.backend_pid for each in (first, second)]
        record = watchdog.read_record(embedded.data)
        assert record is not None
        os.kill(record.pid, signal.SIGKILL)
        until_ended(record.pid)
        with EmbeddedPostgres(embedded.data):
            # A back end may outlive its server for a moment, and end in the middle of a use.
            until_ended(*back_ends)
            assert answer(pool) == 42


def test_a_use_that_meets_a_server_which_is_down_waits_until_it_is_back(
    stock: StockPostgres,
) -> None:
    with connection_pool(stock.dsn("test")) as pool:
        stock.stop()
        later = threading.Timer(1.0, stock.start)
        later.start()
        assert answer(pool) == 42
        later.join()


def test_a_server_that_stays_away_is_an_error_that_says_so_and_closing_does_not_wait(
    stock: StockPostgres,
) -> None:
    stock.stop()
    try:
        with pytest.raises(PostgresError, match="Connection refused"):
            connection_pool(stock.dsn("test"), timeout=0.2)
    finally:
        stock.start()
    pool = connection_pool(stock.dsn("test"), timeout=30)
    stock.stop()
    try:
        with pytest.raises(PostgresError), pool.connection(timeout=1.0):
            pass
        begin = time.monotonic()
        pool.close()
        assert time.monotonic() - begin < 5
    finally:
        stock.start()


def test_a_wrong_password_or_database_is_an_error_at_once(stock: StockPostgres) -> None:
    with pytest.raises(PostgresError, match="password authentication failed"):
        connection_pool(stock.dsn("test", password="wrong"))
    with pytest.raises(MissingDatabaseError):
        connection_pool(stock.dsn("nowhere"))


def test_a_pool_that_is_used_up_or_closed_says_so(stock: StockPostgres) -> None:
    with connection_pool(stock.dsn("test"), max_size=1, name="tiny", timeout=5) as pool:
        with (
            pool.connection(),
            pytest.raises(PostgresError, match=r"'tiny' was free within .* it has 1 at most"),
        ):
            pool.getconn(timeout=0.1)
        assert pool.name == "tiny"
    with pytest.raises(PostgresError, match="'tiny' of connections is closed"):
        pool.getconn()


def test_a_password_that_rotates_shortens_the_life_of_connections(stock: StockPostgres) -> None:
    there = Postgres(stock.dsn("test", password=None), password=lambda: PASSWORD)
    with connection_pool(there) as rotating, connection_pool(stock.dsn("test")) as plain:
        assert (rotating.max_lifetime, plain.max_lifetime) == (2700.0, 3600.0)
        assert answer(rotating) == 42


def test_each_statement_commits_by_itself_where_asked(stock: StockPostgres) -> None:
    with connection_pool(stock.dsn("test"), autocommit=True) as pool, pool.connection() as one:
        assert one.autocommit
        assert isinstance(one, psycopg.Connection)
