"""What is known of orders: their cities, and what one is worth, which nothing given may exceed."""

from collections.abc import Callable, Sequence
from decimal import Decimal

import psycopg

from caspers_lib.console.databases import ConsoleDatabase
from caspers_lib.console.decisions.intake import OrderCities
from caspers_lib.console.queries import table_sql
from caspers_lib.lakebase import SyncSpec

__all__ = ["order_cities", "order_totals"]

_TOTAL = "SELECT order_revenue FROM {table} WHERE order_id = %s"
_CITIES = """
    SELECT order_id, coalesce(place.name, '') FROM {lifecycle} AS lived
    JOIN {locations} AS place USING (location_id) WHERE order_id = ANY (%s::text[])
"""


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


def order_cities(
    database: ConsoleDatabase, lifecycle: SyncSpec, locations: SyncSpec
) -> OrderCities:
    """Tells the cities that orders are from.

    Args:
        database: where the orders are.
        lifecycle: the synced table with order_id and location_id.
        locations: the synced table with location_id and name.

    Returns:
        A function of orders' ids, which raises `PostgresError` or `psycopg.Error` where the
        database doesn't answer.
    """
    names = {"lifecycle": table_sql(lifecycle), "locations": table_sql(locations)}
    query = _CITIES.format(**names).encode()

    def cities(orders: Sequence[str]) -> dict[str, str]:
        try:
            with database.reading() as connection:
                return dict(connection.execute(query, (list(orders),)).fetchall())
        except psycopg.errors.UndefinedTable:
            return {}

    return cities
