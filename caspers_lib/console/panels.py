"""Parts of a page that are read from one database at one instant, each with why it is missing."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import psycopg
from psycopg import Connection
from psycopg.errors import InsufficientPrivilege, UndefinedTable

from caspers_lib.console.databases import ConsoleDatabase, NotStartedError
from caspers_lib.errors import PostgresError
from caspers_lib.lakebase import SyncSpec
from caspers_lib.lakebase.connection import MissingDatabaseError

__all__ = [
    "GRANT_HINT",
    "LACKING_RIGHT",
    "Panel",
    "Snapshot",
    "explained",
    "missing_tables",
    "snapshot",
]

logger = logging.getLogger(__name__)

ValueT = TypeVar("ValueT")

LACKING_RIGHT = "The console's role lacks a right in its database."
GRANT_HINT = "GRANT it CREATE on the database, and USAGE and SELECT on the synced tables."
"""For what a role does that may read and not write: the console keeps a schema of its own."""


@dataclass(frozen=True, slots=True)
class Panel(Generic[ValueT]):
    """What a part of the page shows, or the reason why it shows nothing.

    Args:
        value: what was read; None while it can't be.
        waiting: what has to come first, as a sentence; empty once it is there.
        problem: what is wrong, as a sentence; empty if nothing is.
    """

    value: ValueT | None = None
    waiting: str = ""
    problem: str = ""


class Snapshot:
    """A database at one instant, read part by part: one that fails leaves the others be.

    Args:
        name: the database's name.
        connection: in one transaction with a single snapshot; None if there is none.
        waiting: why there is none, if it only has to come.
        problem: why there is none, if something is wrong.
    """

    def __init__(
        self, name: str, connection: Connection | None, *, waiting: str = "", problem: str = ""
    ) -> None:
        self._name, self._connection = name, connection
        self._waiting, self._problem = waiting, problem

    def panel(
        self, needs: Sequence[SyncSpec], read: Callable[[Connection], ValueT]
    ) -> Panel[ValueT]:
        """One part; never raises a database error.

        Args:
            needs: the synced tables that it reads.
            read: reads it.
        """
        connection = self._connection
        if connection is None:
            return Panel(waiting=self._waiting, problem=self._problem)
        return explained(self._name, needs, lambda: _read(connection, needs, read))


def explained(
    name: str, needs: Sequence[SyncSpec], read: Callable[[], Panel[ValueT]]
) -> Panel[ValueT]:
    """What is read, or the sentence that says why it can't be.

    Args:
        name: the database's name.
        needs: the synced tables that are read.
        read: reads them.
    """
    try:
        return read()
    except (PostgresError, psycopg.OperationalError) as error:
        waiting, problem = _away(name, error)
        return Panel(waiting=waiting, problem=problem)
    except InsufficientPrivilege as error:
        logger.info("database %s: %s", name, error)
        return Panel(problem=f"{LACKING_RIGHT} {GRANT_HINT}")
    except psycopg.Error as error:
        tables = " or ".join(f"{spec.schema}.{spec.table}" for spec in needs)
        logger.info("table %s: %s", tables, error)
        return Panel(problem=f"Table {tables} can't be read. Trying again.")


@contextmanager
def snapshot(database: ConsoleDatabase) -> Iterator[Snapshot]:
    """The database now; one that can't be reached gives panels that say so.

    Args:
        database: what to read.
    """
    with ExitStack() as stack:
        yield _entered(database, stack)
        try:
            stack.close()
        except psycopg.Error as error:
            _silent(database.name, error)  # a connection lost on the way: its panels have said so


def missing_tables(connection: Connection, specs: Sequence[SyncSpec]) -> tuple[SyncSpec, ...]:
    """Those of the synced tables that the database does not have.

    Args:
        connection: to the database of all of `specs`.
        specs: the tables to look for.
    """
    found = connection.execute(
        "SELECT to_regclass(name) IS NOT NULL FROM unnest(%s::text[]) WITH ORDINALITY"
        " AS wanted (name, place) ORDER BY place",
        ([spec.target for spec in specs],),
    ).fetchall()
    return tuple(spec for spec, (there,) in zip(specs, found, strict=True) if not there)


def _entered(database: ConsoleDatabase, stack: ExitStack) -> Snapshot:
    try:
        return Snapshot(database.name, stack.enter_context(database.reading()))
    except (PostgresError, psycopg.Error) as error:
        waiting, problem = _away(database.name, error)
        return Snapshot(database.name, None, waiting=waiting, problem=problem)


def _read(
    connection: Connection, needs: Sequence[SyncSpec], read: Callable[[Connection], ValueT]
) -> Panel[ValueT]:
    try:
        with connection.transaction():
            return Panel(read(connection))
    except UndefinedTable:
        missing = missing_tables(connection, needs) or tuple(needs)
        tables = " and ".join(f"{spec.schema}.{spec.table}" for spec in missing)
        return Panel(waiting=f"Waiting for the first sync to {tables}.")


def _away(name: str, error: Exception) -> tuple[str, str]:
    """What has to come first, or what is wrong."""
    if isinstance(error, NotStartedError):
        return error.message, ""
    if isinstance(error, MissingDatabaseError):
        return f"Waiting for database {name}.", ""
    return "", _silent(name, error)


def _silent(name: str, error: Exception) -> str:
    # The driver's words may name hosts and users: they belong in the log, not on the page.
    logger.info("database %s: %s", name, error)
    return f"Database {name} does not answer. Trying again."
