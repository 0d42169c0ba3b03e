"""Two PostgreSQL servers for the session, with a database that is empty for each test.

A test that takes `database` (or `emptied`) runs on the embedded server and on a stock one; a test
that needs Spark takes its time and runs on the embedded one only.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from caspers_lib.lakebase import REFUNDS
from caspers_lib.lakebase.server import EmbeddedPostgres
from tests.lakebase.stock_postgres import StockPostgres


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "emptied" in metafunc.fixturenames:
        spark = metafunc.definition.get_closest_marker("spark")
        kinds = ["embedded"] if spark else ["embedded", "stock"]
        metafunc.parametrize("emptied", kinds, indirect=True, scope="session")


@pytest.fixture(scope="session")
def short_folder() -> Iterator[Path]:
    """A folder that every user can walk to, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="lakebase-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def server(short_folder: Path) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(short_folder / "postgres" / "data") as running:
        yield running


@pytest.fixture(scope="session")
def stock(short_folder: Path) -> Iterator[StockPostgres]:
    """A server of the system's packages."""
    server = StockPostgres(short_folder)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def emptied(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Empties the tests' database and gives its connection URI."""
    if request.param == "stock":
        dsn = request.getfixturevalue("stock").dsn("test")
    else:
        server = request.getfixturevalue("server")
        server.ensure_database("test")
        dsn = server.dsn("test")

    def empty() -> str:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("SET client_min_messages = warning")
            schemas = connection.execute(
                "SELECT quote_ident(nspname) FROM pg_namespace "
                "WHERE nspname !~ '^(pg_|information)'"
            ).fetchall()
            for (schema,) in schemas:
                connection.execute(f"DROP SCHEMA {schema} CASCADE".encode())
            connection.execute("CREATE SCHEMA public")
        return dsn

    return empty


@pytest.fixture
def database(emptied: Callable[[], str]) -> str:
    return emptied()


Change = tuple[str, int, Any]


@pytest.fixture(scope="session")
def refund_changes() -> Callable[..., pa.Table]:
    """Makes a change feed of REFUNDS from (order_id, version, agent_response or None = delete)."""

    def make(*changes: Change) -> pa.Table:
        return pa.table(
            {
                "order_id": pa.array([key for key, _, _ in changes], pa.string()),
                "ts": pa.array([version for _, version, _ in changes], pa.timestamp("us", "UTC")),
                "order_ts": pa.array([0 for _ in changes], pa.timestamp("us", "UTC")),
                "agent_response": pa.array([value for _, _, value in changes], pa.string()),
                "_change_type": pa.array(
                    ["delete" if value is None else "insert" for _, _, value in changes],
                    pa.string(),
                ),
                "_commit_version": pa.array([version for _, version, _ in changes], pa.int64()),
                "_commit_timestamp": pa.array(
                    [version for _, version, _ in changes], pa.timestamp("us", "UTC")
                ),
            }
        )

    return make


@pytest.fixture(scope="session")
def refund_rows() -> Callable[[str], dict[str, Any]]:
    """Gives the target's rows: order_id -> parsed agent_response."""

    def read(dsn: str) -> dict[str, Any]:
        with psycopg.connect(dsn) as connection:
            query = f"SELECT order_id, agent_response FROM {REFUNDS.target}"
            return dict(connection.execute(query.encode()).fetchall())

    return read
