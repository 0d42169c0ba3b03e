"""The console alone on a terminal: where it is served, until a signal ends it."""

import os
from collections.abc import Callable, Mapping
from contextlib import closing

from psycopg.conninfo import make_conninfo

from caspers_lib.console.access import access_from_environment
from caspers_lib.console.app import ConsoleParts, create_app
from caspers_lib.console.databases import ConsoleDatabase
from caspers_lib.console.serve import ConsoleServer
from caspers_lib.lakebase import COMPLAINTS, REFUNDS
from caspers_lib.lakebase.access import connection_parameters
from caspers_lib.runtime.demo import stop_on_signals

__all__ = ["beside", "run_console"]


def run_console(
    dsn: str,
    complaints_dsn: str | None,
    *,
    host: str,
    port: int,
    say: Callable[[str], None] = print,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Serve the console until SIGINT or SIGTERM.

    Args:
        dsn: connection string of the refunds' database.
        complaints_dsn: that of the complaints'; None is `beside` the other.
        host: the address to listen on.
        port: the port; 0 takes a free one.
        say: tells a person a line.
        environment: the variables that say who may do what.

    Raises:
        SettingsError: a variable `CONSOLE_...` is unknown, or has a wrong value.
        PostgresError: a connection string can't be read.
        ConsoleError: the address can't be had.
    """
    access = access_from_environment(environment)
    complaints_dsn = complaints_dsn or beside(dsn)
    connection_parameters(dsn)
    connection_parameters(complaints_dsn)
    with (
        stop_on_signals(lambda: None) as stop,
        closing(ConsoleDatabase(REFUNDS.database, lambda: dsn)) as refunds,
        closing(ConsoleDatabase(COMPLAINTS.database, lambda: complaints_dsn)) as complaints,
        ConsoleServer(
            create_app(
                ConsoleParts(refunds=refunds, complaints=complaints, access=access, host=host)
            ),
            host=host,
            port=port,
        ) as server,
    ):
        say(f"console: {server.url}")
        stop.wait()


def beside(dsn: str) -> str:
    """The complaints' database on the same server.

    Args:
        dsn: connection string of the refunds' database.

    Raises:
        PostgresError: it can't be read.
    """
    return make_conninfo(**{**connection_parameters(dsn), "dbname": COMPLAINTS.database})
