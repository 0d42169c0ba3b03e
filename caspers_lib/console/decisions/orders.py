"""The cities that orders are from."""

from collections.abc import Sequence

import psycopg

from caspers_lib.console.databases import ConsoleDatabase
from caspers_lib.console.decisions.intake import OrderCities
from caspers_lib.console.queries import table_sql
from caspers_lib.lakebase import SyncSpec

__all__ = ["order_cities"]

_CITIES = """
    SELECT order_id, coalesce(place.name, '') FROM {lifecycle} AS lived
    JOIN {locations} AS place USING (location_id) WHERE order_id = ANY (%s::text[])
"""


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
