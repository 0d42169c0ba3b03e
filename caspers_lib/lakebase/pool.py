"""A pool of connections through the one seam, for what asks again and again."""

import threading
from typing import Any, Self

import psycopg
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from caspers_lib.errors import PostgresError
from caspers_lib.lakebase.connection import Database, Postgres, connect

__all__ = ["PostgresPool", "connection_pool"]

_LIFETIME_SECONDS = 3600.0
# A token is checked at log-in only and lasts an hour: a connection doesn't outlive its own.
_TOKEN_LIFETIME_SECONDS = 2700.0


class PostgresPool(ConnectionPool[psycopg.Connection]):
    """A pool whose errors say what is wrong with the server; see `connection_pool`.

    Args:
        database: how to reach it.
        min_size: connections that are kept open.
        max_size: connections at most.
        name: for the log.
        timeout: seconds that a use waits for a connection.
        autocommit: each statement is its own transaction.
    """

    def __init__(
        self,
        database: Database,
        *,
        min_size: int,
        max_size: int,
        name: str,
        timeout: float,
        autocommit: bool,
    ) -> None:
        self._ended = threading.Event()
        self._failure: PostgresError | None = None
        pool = self

        class Seam(psycopg.Connection[Any]):
            """Opens the pool's connections the library's way."""

            @classmethod
            def connect(cls, *_: object, **__: object) -> psycopg.Connection:  # type: ignore[override]
                return pool._connected(database, autocommit, timeout)

        rotates = isinstance(database, Postgres) and database.password is not None
        super().__init__(
            connection_class=Seam,
            min_size=min_size,
            max_size=max_size,
            open=False,
            check=ConnectionPool.check_connection,
            name=name,
            timeout=timeout,
            max_lifetime=_TOKEN_LIFETIME_SECONDS if rotates else _LIFETIME_SECONDS,
            # The seam waits for a server that restarts; the pool's own waits double for minutes.
            reconnect_timeout=timeout,
        )

    def getconn(self, timeout: float | None = None) -> psycopg.Connection:
        """Take a connection; `connection()` gives it back by itself.

        Args:
            timeout: seconds to wait; the pool's own if None.

        Raises:
            PostgresError: there is none within that time, or the pool is closed.
        """
        try:
            return super().getconn(timeout)
        except PoolClosed as error:
            raise PostgresError(f"The pool {self.name!r} of connections is closed.") from error
        except PoolTimeout as error:
            failure = self._failure
            if failure is not None:
                raise PostgresError(failure.message, hint=failure.hint) from failure
            waited = self.timeout if timeout is None else timeout
            raise PostgresError(
                f"No connection of the pool {self.name!r} was free within {waited:g} seconds;"
                f" it has {self.max_size} at most.",
                hint="Give connections back sooner, or make the pool larger.",
            ) from error

    def close(self, timeout: float = 5.0) -> None:
        """Close all connections; what still waits for the server gives up.

        Args:
            timeout: seconds to wait for the pool's threads.
        """
        self._ended.set()
        super().close(timeout)

    def __enter__(self) -> Self:
        """The pool, which is open already."""
        return self

    def _connected(
        self, database: Database, autocommit: bool, patience: float
    ) -> psycopg.Connection:
        try:
            connection = connect(
                database, autocommit=autocommit, patience=patience, sleep=self._pause
            )
        except PostgresError as error:
            self._failure = error
            raise
        self._failure = None
        return connection

    def _pause(self, seconds: float) -> None:
        if self._ended.wait(seconds):
            raise PostgresError(f"The pool {self.name!r} of connections is closed.")


def connection_pool(
    database: Database,
    *,
    min_size: int = 1,
    max_size: int = 4,
    name: str = "caspers",
    timeout: float = 30.0,
    autocommit: bool = False,
) -> PostgresPool:
    """Open a pool of connections; as a context manager it closes them.

    Each connection is tried before it is used, so a restart of the server between two uses is not
    noticed. With a password that rotates, connections are made anew before an hour is over.

    Args:
        database: how to reach it.
        min_size: connections that are kept open.
        max_size: connections at most.
        name: for the log.
        timeout: seconds that a use, and the opening, wait for a connection.
        autocommit: each statement is its own transaction.

    Returns:
        An open pool; `with pool.connection() as connection` lends one, and commits or rolls back.

    Raises:
        MissingDatabaseError: there is no such database.
        PostgresError: the server can't be reached, or refuses the connection.
    """
    # The pool would try a wrong password for as long as a server that restarts.
    connect(database, patience=timeout).close()
    pool = PostgresPool(
        database,
        min_size=min_size,
        max_size=max_size,
        name=name,
        timeout=timeout,
        autocommit=autocommit,
    )
    try:
        pool.open(wait=True, timeout=timeout)
    except PoolTimeout as error:
        failure = pool._failure
        raise PostgresError(
            failure.message if failure else f"The pool {name!r} of connections does not open.",
            hint=failure.hint if failure else "Does the server allow so many connections?",
        ) from (failure or error)
    return pool
