"""Whatever the shell's variables and a role's defaults say: rows go where they should, unbent."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from caspers_lib.errors import PostgresError
from caspers_lib.lakebase import REFUNDS
from caspers_lib.lakebase.connection import connect
from caspers_lib.lakebase.server import EmbeddedPostgres
from caspers_lib.lakebase.target import prepare_target
from caspers_lib.lakebase.upsert import apply_changes
from tests.lakebase.plans import PLAN
from tests.lakebase.stock_postgres import ADMIN_PASSWORD, PASSWORD, ROLE, StockPostgres

OTHER = "{other port}"
VARIABLES = (
    ("PGHOST", "127.0.0.1"),
    ("PGHOSTADDR", "127.0.0.1"),
    ("PGPORT", OTHER),
    ("PGDATABASE", "postgres"),
    ("PGUSER", ROLE),
    ("PGPASSWORD", "wrong"),
    ("PGPASSFILE", "/nowhere"),
    ("PGSERVICE", "other"),
    ("PGSERVICE", "not defined"),
    ("PGSERVICEFILE", "/nowhere"),
    ("PGSYSCONFDIR", "/nowhere"),
    ("PGOPTIONS", "-c default_transaction_read_only=on -c statement_timeout=1"),
    ("PGOPTIONS", "-c nonsense=1"),
    ("PGAPPNAME", "mine"),
    ("PGCONNECT_TIMEOUT", "soon"),
    ("PGCLIENTENCODING", "LATIN1"),
    ("PGCLIENTENCODING", "nonsense"),
    ("PGDATESTYLE", "German, YMD"),
    ("PGDATESTYLE", "nonsense"),
    ("PGTZ", "Asia/Kolkata"),
    ("PGTZ", "Mars/Phobos"),
    ("PGGEQO", "nonsense"),
    ("PGTARGETSESSIONATTRS", "read-only"),
    ("PGLOADBALANCEHOSTS", "nonsense"),
    ("PGMINPROTOCOLVERSION", "9.9"),
    ("PGMAXPROTOCOLVERSION", "nonsense"),
    ("PGLOCALEDIR", "/nowhere"),
    ("PGDATA", "/nowhere"),
    ("LC_ALL", "xx_XX.nonsense"),
    ("LANGUAGE", "de"),
    ("TZ", "Asia/Kolkata"),
    ("LD_PRELOAD", "/nowhere.so"),
)
SECURITY = (
    ("PGREQUIREAUTH", "scram-sha-256"),
    ("PGREQUIREPEER", "somebody"),
    ("PGCHANNELBINDING", "require"),
    ("PGREQUIRESSL", "1"),
    ("PGSSLMODE", "verify-full"),
    ("PGSSLMODE", "nonsense"),
    ("PGSSLNEGOTIATION", "direct"),
    ("PGSSLCOMPRESSION", "1"),
    ("PGSSLCERT", "/nowhere"),
    ("PGSSLKEY", "/nowhere"),
    ("PGSSLCERTMODE", "require"),
    ("PGSSLROOTCERT", "/nowhere"),
    ("PGSSLCRL", "/nowhere"),
    ("PGSSLCRLDIR", "/nowhere"),
    ("PGSSLSNI", "nonsense"),
    ("PGSSLMINPROTOCOLVERSION", "nonsense"),
    ("PGSSLMAXPROTOCOLVERSION", "TLSv1"),
    ("PGGSSENCMODE", "require"),
    ("PGGSSLIB", "nonsense"),
    ("PGGSSDELEGATION", "1"),
    ("PGKRBSRVNAME", "nonsense"),
)
"""Each variable, and a value that leads elsewhere, bends what is read or fails the log-in."""

Changes = Callable[..., pa.Table]


@pytest.fixture
def other(stock: StockPostgres) -> Iterator[StockPostgres]:
    """A server of somebody else's that would let us in; nothing of ours may get there."""
    yield stock
    with psycopg.connect(stock.dsn("postgres", "postgres", ADMIN_PASSWORD)) as connection:
        found = "SELECT to_regclass(%s), (SELECT count(*) FROM pg_database WHERE datname = 'ours')"
        assert connection.execute(found, (REFUNDS.target,)).fetchone() == (None, 0)


@pytest.fixture
def variable(
    other: StockPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, str], None]:
    """Sets a variable in a shell that knows the other server's password and a service for it."""
    services = tmp_path / "services"
    place = f"host=127.0.0.1\nhostaddr=127.0.0.1\nport={other.port}"
    services.write_text(f"[other]\n{place}\nuser=postgres\noptions=-c geqo=off\n")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    monkeypatch.setenv("PGPASSWORD", ADMIN_PASSWORD)

    def set_variable(name: str, value: str) -> None:
        monkeypatch.setenv(name, value.replace(OTHER, str(other.port)))

    return set_variable


def sync_and_read(dsn: str, changes: pa.Table) -> tuple[Any, ...]:
    """What is read of a row after its sync, and of the time in a dead letter."""
    assert apply_changes(dsn, PLAN, changes.to_batches()).written == 1
    with connect(dsn) as connection:
        query = f"SELECT order_id, ts::text, agent_response FROM {REFUNDS.target}"
        (row,) = connection.execute(query.encode())
        raw = f"SELECT raw::jsonb ->> 'ts' FROM {REFUNDS.dead_letters}"
        (time,) = connection.execute(raw.encode())
    return (*row, *time)


ROWS = (("ключ", 7, '"ü 🍜"'), ("bad", 7, "{"))
READ = ("ключ", "1970-01-01 00:00:00.000007+00", "ü 🍜", "1970-01-01 00:00:00.000007+00")


@pytest.mark.parametrize(("name", "value"), VARIABLES)
def test_no_variable_leads_the_sync_elsewhere_or_bends_a_row(
    name: str,
    value: str,
    variable: Callable[[str, str], None],
    database: str,
    refund_changes: Changes,
) -> None:
    prepare_target(database, PLAN)
    variable(name, value)
    assert sync_and_read(database, refund_changes(*ROWS)) == READ


@pytest.mark.parametrize(("name", "value"), SECURITY)
def test_what_secures_tcp_does_not_reach_a_socket(
    name: str,
    value: str,
    variable: Callable[[str, str], None],
    server: EmbeddedPostgres,
    refund_changes: Changes,
) -> None:
    server.ensure_database("secured")
    dsn = server.dsn("secured")
    with connect(dsn) as connection:
        connection.execute("DROP SCHEMA IF EXISTS recommender CASCADE")
    prepare_target(dsn, PLAN)
    variable(name, value)
    assert sync_and_read(dsn, refund_changes(*ROWS)) == READ


def test_no_variable_reaches_a_server_that_starts_or_whoever_takes_its_address(
    short_folder: Path, tmp_path: Path, other: StockPostgres, variable: Callable[[str, str], None]
) -> None:
    for name, value in VARIABLES + SECURITY:
        if name != "LC_ALL":  # Python itself would warn of it
            variable(name, value)
    with EmbeddedPostgres(short_folder / tmp_path.name[-20:] / "data") as server:
        server.ensure_database("ours")
        with connect(server.dsn("ours")) as connection:
            there = connection.execute("SELECT current_setting('data_directory')").fetchone()
        assert there == (str(server.data),)
        place = {"PGHOSTADDR": "127.0.0.1", "PGPORT": str(other.port), "PGDATABASE": "postgres"}
        psql = subprocess.run(
            ["psql", "-XAtc", "SELECT current_setting('data_directory')", server.dsn("ours")],
            env={"PATH": os.environ["PATH"], **place},
            capture_output=True,
            text=True,
            check=True,
        )
    assert psql.stdout == f"{server.data}\n"


SETTINGS = {
    "TimeZone": ("Asia/Kolkata", "UTC"),
    "DateStyle": ("German, YMD", "ISO, MDY"),
    "IntervalStyle": ("iso_8601", "postgres"),
    "extra_float_digits": ("-15", "1"),
    "bytea_output": ("escape", "hex"),
    "array_nulls": ("off", "on"),
    "standard_conforming_strings": ("off", "on"),
    "transform_null_equals": ("on", "off"),
    "client_encoding": ("LATIN1", "UTF8"),
    "default_transaction_isolation": ("serializable", "read committed"),
    "default_transaction_deferrable": ("on", "off"),
    "session_replication_role": ("replica", "origin"),
    "statement_timeout": ("10min", "0"),
    "lock_timeout": ("10min", "0"),
    "idle_in_transaction_session_timeout": ("10min", "0"),
    "idle_session_timeout": ("10min", "0"),
    "synchronous_commit": ("off", "on"),
}
"""What an administrator may have made of a setting, and what a session of ours has."""


def test_no_default_of_a_role_or_a_database_bends_a_row(
    database: str, refund_changes: Changes
) -> None:
    prepare_target(database, PLAN)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA evil; CREATE TABLE evil.pg_tables (tablename text)")
        ((user, is_superuser),) = connection.execute(
            "SELECT rolname, rolsuper FROM pg_roles WHERE rolname = current_user"
        )
        settings = {name: pair for name, pair in SETTINGS.items()
                    if is_superuser or name != "session_replication_role"}  # fmt: skip
        for name, (value, _) in settings.items():
            connection.execute(f"ALTER ROLE {user} SET {name} = '{value}'".encode())
        connection.execute(f"ALTER ROLE {user} SET search_path = evil, pg_catalog".encode())
        try:
            with connect(database) as ours:
                ours.rollback()  # takes no setting with it
                for name, (_, value) in settings.items():
                    setting = ours.execute("SELECT current_setting(%s)", (name,)).fetchone()
                    assert setting == (value,), name
                there = ours.execute("SELECT 'pg_tables'::regclass::oid < 16384").fetchone()
                assert there == (True,)
            changes = refund_changes(("ключ", 7, '"ü"'), ("bad", 7, "{"))
            result = apply_changes(database, PLAN, changes.to_batches())
        finally:
            connection.execute(f"ALTER ROLE {user} RESET ALL".encode())
    assert (result.written, result.refused) == (1, 1)


@pytest.mark.parametrize("value", ["local", "remote_write", "remote_apply"])
def test_a_durability_that_an_administrator_chose_is_not_weakened(
    database: str, value: str
) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE test SET synchronous_commit = {value}".encode())
        try:
            with connect(database) as ours:
                assert ours.execute("SHOW synchronous_commit").fetchone() == (value,)
        finally:
            connection.execute("ALTER DATABASE test RESET ALL")


def test_a_timeout_and_a_name_in_the_connection_string_stand(database: str) -> None:
    join = "&" if "?" in database else "?"
    given = "options=-c%20statement_timeout%3D1234&application_name=mine"
    with connect(f"{database}{join}{given}") as connection:
        assert connection.execute("SHOW statement_timeout").fetchone() == ("1234ms",)
        assert connection.execute("SHOW application_name").fetchone() == ("mine",)


def test_over_tcp_variables_may_say_who_logs_in_and_how_it_is_secured(
    stock: StockPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = f"host=127.0.0.1 port={stock.port} dbname=test"
    for name, value in {"PGUSER": ROLE, "PGPASSWORD": PASSWORD, "PGDATABASE": "other"}.items():
        monkeypatch.setenv(name, value)
    with connect(server) as connection:
        who = connection.execute("SELECT current_user, current_database()").fetchone()
    assert who == (ROLE, "test")
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("PGSSLROOTCERT", str(stock.authority.root))
    connect(server).close()
    monkeypatch.setenv("PGSSLROOTCERT", str(stock.stranger.root))
    with pytest.raises(PostgresError, match="certificate verify failed"):
        connect(server)
    connect(f"{server} sslrootcert={stock.authority.root}").close()


@pytest.mark.parametrize(
    "dsn", ["", "dbname=x", "postgresql:///x", "service=other", "service=other host=h"]
)
def test_a_string_that_does_not_name_the_server_is_refused(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOST", "127.0.0.1")
    with pytest.raises(PostgresError, match="must name the server by host or hostaddr"):
        connect(dsn, patience=0)
