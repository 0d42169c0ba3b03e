"""What agents suggested in the last two weeks of the data: by day, by hour and by city."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from psycopg import Connection
from psycopg.rows import class_row

from caspers_lib.console.decisions.values import CaseKind
from caspers_lib.console.queries import amount_sql, table_sql
from caspers_lib.lakebase import SyncSpec

__all__ = ["DAYS", "Bar", "Charts", "case_charts"]

DAYS = 14
"""Days of the data that are shown, to its newest answer."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar.

    Args:
        label: what it stands for.
        cases: how many suggest an amount.
        usd: the amounts together.
    """

    label: str
    cases: int
    usd: Decimal


@dataclass(frozen=True, slots=True)
class Charts:
    """The three charts.

    Args:
        days: a bar a day, UTC, oldest first.
        hours: a bar an hour of the day, UTC.
        cities: a bar a city, the largest first; empty where the orders are in another database.
    """

    days: tuple[Bar, ...]
    hours: tuple[Bar, ...]
    cities: tuple[Bar, ...]


_RECENT = """
    SELECT order_id, ts AT TIME ZONE 'UTC' AS ts, {usd} AS usd FROM {table}
    WHERE ts > (SELECT max(ts) FROM {table}) - interval '{days} days'
"""
_BARS = """
    SELECT {label} AS label, count(*) FILTER (WHERE usd > 0) AS cases,
           coalesce(sum(usd) FILTER (WHERE usd > 0), 0) AS usd
    FROM ({recent}) AS recent {joined}
    GROUP BY 1 ORDER BY {order}
"""
_CITY = """
    JOIN {lifecycle} AS lived USING (order_id) JOIN {locations} AS place USING (location_id)
"""


def case_charts(connection: Connection, kind: CaseKind, tables: Mapping[str, SyncSpec]) -> Charts:
    """The charts now.

    Args:
        connection: to the kind's database.
        kind: whose.
        tables: the synced tables by name: lifecycle and locations.

    Raises:
        psycopg.Error: a table is missing, or the server can't answer.
    """
    recent = _RECENT.format(usd=amount_sql(kind.amount), table=table_sql(kind.spec), days=DAYS)

    def bars(label: str, order: str = "1", joined: str = "") -> tuple[Bar, ...]:
        query = _BARS.format(label=label, recent=recent, joined=joined, order=order)
        with connection.cursor(row_factory=class_row(Bar)) as cursor:
            return tuple(cursor.execute(query.encode()).fetchall())

    lifecycle, locations = tables["lifecycle"], tables["locations"]
    city = _CITY.format(lifecycle=table_sql(lifecycle), locations=table_sql(locations))
    here = kind.spec.database == lifecycle.database
    return Charts(
        days=bars("to_char(ts, 'YYYY-MM-DD')"),
        hours=bars("to_char(ts, 'HH24:00')"),
        cities=bars("left(coalesce(place.name, ''), 100)", "usd DESC, 1", city) if here else (),
    )
