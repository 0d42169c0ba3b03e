"""One consistent reading of a database for a part of the page, or the reason why there is none."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import psycopg
from psycopg import Connection, IsolationLevel
from psycopg.errors import UndefinedTable

from caspers_lib.console import queries
from caspers_lib.console.queries import (
    ComplaintRow,
    ComplaintTotals,
    RefundRow,
    RefundTotals,
)
from caspers_lib.errors import PostgresError
from caspers_lib.lakebase import COMPLAINTS, REFUNDS, SyncSpec
from caspers_lib.lakebase.connection import connect

__all__ = ["PAGE_ROWS", "ComplaintPanel", "Panel", "RefundPanel", "complaint_panel", "refund_panel"]

PAGE_ROWS = 25
STATEMENT_SECONDS = 10

logger = logging.getLogger(__name__)

TotalsT = TypeVar("TotalsT")
RowT = TypeVar("RowT")


@dataclass(frozen=True, slots=True)
class Panel(Generic[TotalsT, RowT]):
    """What one database knows at this moment; totals and rows are of the same instant.

    Args:
        totals: the sums; None while they can't be read.
        rows: the newest rows; empty while they can't be read.
        waiting: what has to come first, as a sentence; empty once the table is there.
        problem: what is wrong, as a sentence; empty if nothing is.
    """

    totals: TotalsT | None = None
    rows: tuple[RowT, ...] = ()
    waiting: str = ""
    problem: str = ""


RefundPanel = Panel[RefundTotals, RefundRow]
ComplaintPanel = Panel[ComplaintTotals, ComplaintRow]


def refund_panel(dsn: str | None) -> RefundPanel:
    """The refund recommendations as Postgres has them now; never raises a database error.

    Args:
        dsn: connection string of the refunds' database; None if it is not up yet.
    """
    return _panel(dsn, REFUNDS, queries.refund_totals, queries.newest_refunds)


def complaint_panel(dsn: str | None) -> ComplaintPanel:
    """The answered complaints as Postgres has them now; never raises a database error.

    Args:
        dsn: connection string of the complaints' database; None if it is not up yet.
    """
    return _panel(dsn, COMPLAINTS, queries.complaint_totals, queries.newest_complaints)


def _panel(
    dsn: str | None,
    spec: SyncSpec,
    totals: Callable[[Connection, SyncSpec], TotalsT],
    newest: Callable[[Connection, SyncSpec, int], tuple[RowT, ...]],
) -> Panel[TotalsT, RowT]:
    if dsn is None:
        return Panel(waiting=f"Waiting for PostgreSQL to start with database {spec.database}.")
    try:
        with _reading(dsn) as connection:
            return Panel(totals(connection, spec), newest(connection, spec, PAGE_ROWS))
    except UndefinedTable:
        return Panel(waiting=f"Waiting for the first sync to {spec.schema}.{spec.table}.")
    except (PostgresError, psycopg.OperationalError) as error:
        # The driver's words may name hosts and users: they belong in the log, not on the page.
        logger.info("database %s: %s", spec.database, error)
        return Panel(problem=f"Database {spec.database} does not answer. Trying again.")
    except psycopg.Error as error:
        logger.info("table %s.%s: %s", spec.schema, spec.table, error)
        return Panel(problem=f"Table {spec.schema}.{spec.table} can't be read. Trying again.")


@contextmanager
def _reading(dsn: str) -> Iterator[Connection]:
    """A connection whose one transaction reads a single snapshot and can change nothing."""
    # A page asks again by itself: it does not wait for a server that restarts.
    with connect(dsn, patience=0) as connection:
        connection.read_only = True
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.execute(
            "SELECT set_config('statement_timeout', %s, true)", (str(STATEMENT_SECONDS * 1000),)
        )
        yield connection
