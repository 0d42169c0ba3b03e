"""What an order is worth, which no refund or credit may exceed."""

from collections.abc import Callable
from decimal import Decimal

import psycopg

from caspers_lib.console.databases import ConsoleDatabase
from caspers_lib.console.queries import table_sql
from caspers_lib.lakebase import SyncSpec

__all__ = ["order_totals"]

_TOTAL = "SELECT order_revenue FROM {table} WHERE order_id = %s"


def order_totals(database: ConsoleDatabase, orders: SyncSpec) -> Callable[[str], Decimal | None]:
    """Tells an order's total, USD; None while it is not known.

    Args:
        database: where the orders' headers are.
        orders: the synced table of headers, with order_id and order_revenue.

    Returns:
        A function of an order's id, which raises `PostgresError` or `psycopg.Error` where the
        database doesn't answer.
    """
    query = _TOTAL.format(table=table_sql(orders)).encode()

    def total(order_id: str) -> Decimal | None:
        try:
            with database.reading() as connection:
                found = connection.execute(query, (order_id,)).fetchone()
        except psycopg.errors.UndefinedTable:
            return None
        return found[0] if found else None

    return total
