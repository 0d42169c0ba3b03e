"""The one seam through which the library opens PostgreSQL connections."""

from collections.abc import Sequence
from typing import Any

import psycopg

from caspers_lib.errors import PostgresError

__all__ = ["MissingDatabaseError", "connect", "execute", "first_line"]

CONNECT_TIMEOUT_SECONDS = 10


class MissingDatabaseError(PostgresError):
    """The server runs, the database does not exist."""


def connect(dsn: str, *, autocommit: bool = False) -> psycopg.Connection:
    """Open a connection; as a context manager it commits (or rolls back) and closes.

    Args:
        dsn: libpq connection string or URI.
        autocommit: each statement is its own transaction.

    Returns:
        An open connection.

    Raises:
        MissingDatabaseError: there is no such database.
        PostgresError: the server can't be reached, or refuses the connection.
    """
    try:
        return psycopg.connect(
            dsn,
            autocommit=autocommit,
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            application_name="caspers",
        )
    except psycopg.Error as error:
        # libpq gives no error code for a connection that failed.
        if first_line(error).endswith("does not exist") and "database" in first_line(error):
            raise MissingDatabaseError(
                f"PostgreSQL has no such database: {first_line(error)}", hint="Create it first."
            ) from error
        # The DSN may hold a password, so the message does not repeat it.
        raise PostgresError(
            f"PostgreSQL can't be reached: {first_line(error)}",
            hint="Is the server running, and do address, database and user exist?",
        ) from error


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


def first_line(error: BaseException) -> str:
    """First line of an error's message, or its class where it has none.

    Args:
        error: any error.

    Returns:
        One line of text.
    """
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
