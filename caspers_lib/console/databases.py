"""The console's databases: a pool for each, opened when it is first needed."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

from psycopg import Connection

from caspers_lib.console.json_columns import prepare_readable
from caspers_lib.errors import PostgresError
from caspers_lib.lakebase.access import Database
from caspers_lib.lakebase.pool import PostgresPool, connection_pool

__all__ = ["AbsentDatabaseError", "ConsoleDatabase", "NotStartedError"]

STATEMENT_SECONDS = 10
# A page asks again by itself: it does not wait for a server that restarts.
PATIENCE_SECONDS = 2.0
# After a failure the next readers are told of it, in place of each knocking for itself.
QUIET_SECONDS = 1.0


class NotStartedError(PostgresError):
    """The database's server has not been started yet; the message is for people."""


class AbsentDatabaseError(NotStartedError):
    """There is no such database here, and none will come."""


class ConsoleDatabase:
    """One database; its pool follows the address, which may come later or change.

    Args:
        name: the database's name, for people.
        locate: how to reach it now; None until its server runs.
        absent: what to say where there is none and none will come, as a sentence; empty where the
            server only has to start.
        connections: connections at most.
        clock: seconds that pass.
    """

    def __init__(
        self,
        name: str,
        locate: Callable[[], Database | None],
        *,
        absent: str = "",
        connections: int = 8,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self._absent = name, absent
        self._locate, self._connections, self._clock = locate, connections, clock
        self._lock = Lock()
        self._address: Database | None = None
        self._pool: PostgresPool | None = None
        self._failure: tuple[float, PostgresError] | None = None

    def pool(self) -> PostgresPool:
        """The pool of connections to the database.

        Raises:
            NotStartedError: its server has not been started.
            PostgresError: it can't be reached.
        """
        with self._lock:
            address = self._locate()
            if address is None:
                raise self._missing()
            if self._pool is None or address != self._address:
                self._drop()
                self._pool, self._address = self._opened(address), address
            return self._pool

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection in one transaction that reads a single snapshot and can change nothing.

        Raises:
            NotStartedError: its server has not been started.
            PostgresError: it can't be reached.
            psycopg.Error: a statement fails, or takes more than ten seconds.
        """
        with self.pool().connection() as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            # To compile a page's statement takes longer than to run it.
            connection.execute(
                "SELECT set_config('statement_timeout', %s, true), set_config('jit', 'off', true)",
                (str(STATEMENT_SECONDS * 1000),),
            )
            yield connection

    def close(self) -> None:
        """Close the connections; a later use opens new ones."""
        with self._lock:
            self._drop()

    def _missing(self) -> NotStartedError:
        if self._absent:
            return AbsentDatabaseError(self._absent)
        return NotStartedError(f"Waiting for PostgreSQL to start with database {self.name}.")

    def _opened(self, address: Database) -> PostgresPool:
        now = self._clock()
        if self._failure is not None and now - self._failure[0] < QUIET_SECONDS:
            kind, failed = type(self._failure[1]), self._failure[1]
            raise kind(failed.message, hint=failed.hint)
        try:
            pool = connection_pool(
                address,
                max_size=self._connections,
                name=f"console-{self.name}",
                timeout=PATIENCE_SECONDS,
            )
            with pool.connection() as connection:
                prepare_readable(connection)
        except PostgresError as error:
            self._failure = self._clock(), error
            raise
        self._failure = None
        return pool

    def _drop(self) -> None:
        pool, self._pool, self._address = self._pool, None, None
        if pool is not None:
            pool.close()
