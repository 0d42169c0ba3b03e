"""The one seam through which the library opens PostgreSQL connections."""

import errno
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping

from caspers_lib.errors import PostgresError, first_cause
from caspers_lib.lakebase.access import Database, Postgres, address, without_passwords
from caspers_lib.lakebase.session import log_in_parameters, session_settings

__all__ = [
    "PATIENCE_SECONDS",
    "Database",
    "MissingDatabaseError",
    "Postgres",
    "address",
    "connect",
    "execute",
]

PATIENCE_SECONDS = 10.0
"""How long a server that restarts is waited for."""

_FIRST_WAIT_SECONDS = 0.05
_LONGEST_WAIT_SECONDS = 0.5
_RESTARTING = re.compile(
    r"the database system is (starting up|shutting down|in recovery mode)"
    r"|the database system is not (yet )?accepting connections"
    r"|server closed the connection unexpectedly"
)
_NO_DATABASE = re.compile(r'(^|: *)database ".*" does not exist$')


class MissingDatabaseError(PostgresError):
    """The server runs, the database does not exist."""


def connect(
    database: Database,
    *,
    autocommit: bool = False,
    patience: float = PATIENCE_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> psycopg.Connection:
    """Open a connection; as a context manager it commits (or rolls back) and closes.

    A server that starts, stops or refuses the connection is tried again for a while, since it may
    only restart. A wrong password, an unknown database or host is an error at once.

    Args:
        database: how to reach it.
        autocommit: each statement is its own transaction.
        patience: seconds to wait for a server that restarts; 0 tries once.
        clock: seconds that pass.
        sleep: waits for some seconds.

    Returns:
        An open connection.

    Raises:
        MissingDatabaseError: there is no such database.
        PostgresError: the server can't be reached, or refuses the connection.
    """
    # One connection is one log-in, however often it has to knock.
    parameters = log_in_parameters(database)
    deadline = clock() + patience
    wait = _FIRST_WAIT_SECONDS
    while True:
        result = _log_in(parameters, autocommit)
        if isinstance(result, psycopg.Connection):
            return result
        left = deadline - clock()
        if left <= 0 or not _may_pass(result, parameters):
            text = without_passwords(str(result), parameters)
            # An error that quotes a password must not stay as the cause either.
            raise _failure(text) from (result if text == str(result) else None)
        sleep(min(wait, left))
        wait = min(2 * wait, _LONGEST_WAIT_SECONDS)


def execute(
    connection: psycopg.Connection,
    template: str,
    parameters: Sequence[object] = (),
    **fragments: str,
) -> psycopg.Cursor[tuple[Any, ...]]:
    """Run one statement.

    Args:
        connection: an open connection.
        template: SQL with `%s` for each value and `{name}` for each fragment.
        parameters: the values, bound by the driver.
        fragments: SQL made by the library itself from quoted identifiers, by name.

    Returns:
        The cursor with the statement's result.
    """
    # A quoted name may hold the driver's own placeholder character.
    escaped = {name: text.replace("%", "%%") for name, text in fragments.items()}
    return connection.execute(template.format(**escaped).encode(), parameters)


def _log_in(parameters: Mapping[str, Any], autocommit: bool) -> psycopg.Connection | psycopg.Error:
    """One attempt; returns its error, so that what is raised of it keeps no trace of it."""
    try:
        connection = psycopg.connect("", autocommit=True, **parameters)
    except psycopg.Error as error:
        return error
    try:
        # Before any transaction: one that is rolled back would take the settings with it.
        connection.execute(session_settings(parameters).encode())
        connection.autocommit = autocommit
    except psycopg.Error as error:
        connection.close()
        return error
    return connection


def _may_pass(error: psycopg.Error, parameters: Mapping[str, Any]) -> bool:
    """Whether the server may only be restarting."""
    text = str(error)
    passing = [errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE]
    if str(parameters.get("host", "")).startswith("/"):
        passing.append(errno.ENOENT)  # the socket; over TCP it would be a certificate
    if _RESTARTING.search(text) or any(os.strerror(number) in text for number in passing):
        return True
    if error.pgconn is None or isinstance(error, psycopg.errors.ConnectionTimeout):
        return False  # nobody answered
    # The driver tells no error code of a connection that failed, and the server may speak another
    # language. A ping, which needs no password, compares the code: "cannot connect now" (57P03).
    # It stops all threads of the process meanwhile, hence the short time.
    knock = make_conninfo("", **{**parameters, "password": None, "connect_timeout": "2"})
    return PGconn.ping(knock.encode()) == Ping.REJECT


def _failure(text: str) -> PostgresError:
    line = first_cause(text)
    if _NO_DATABASE.search(line):
        return MissingDatabaseError(
            f"PostgreSQL has no such database: {line}", hint="Create it first."
        )
    if "SSL" in text or "certificate" in text:
        hint = (
            "Check sslmode and sslrootcert of the connection string, and the server's certificate."
        )
    else:
        hint = "Is the server running, and are address, database, user and password right?"
    return PostgresError(f"PostgreSQL can't be reached: {line}", hint=hint)
