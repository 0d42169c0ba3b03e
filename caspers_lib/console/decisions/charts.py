"""What agents suggested in the last two weeks of event time: by day, by hour and by city."""

from dataclasses import dataclass
from decimal import Decimal

from psycopg import Connection

from caspers_lib.console.decisions.values import CaseKind
from caspers_lib.console.queries import newest_sql

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
        cities: a bar a city, the largest first; without a name, what is not known.
    """

    days: tuple[Bar, ...]
    hours: tuple[Bar, ...]
    cities: tuple[Bar, ...]


_BARS = """
    WITH newest (at) AS ({newest})
    SELECT grouping(day, hour, city) AS absent, coalesce(day, hour, city),
           count(*) FILTER (WHERE usd > 0), coalesce(sum(usd) FILTER (WHERE usd > 0), 0.00) AS usd
    FROM (
        SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day,
               to_char(at AT TIME ZONE 'UTC', 'HH24:00') AS hour,
               left(coalesce(city, ''), 100) AS city, usd
        FROM {cases}
        WHERE is_listed AND at <= (SELECT at FROM newest)
            AND at > (SELECT at FROM newest) - interval '{days} days'
    ) AS recent
    GROUP BY GROUPING SETS ((day), (hour), (city))
"""
# What `grouping` says of a row that is about one of the three: a bit for each that it is not about.
_DAY, _HOUR, _CITY = 0b011, 0b101, 0b110


def case_charts(connection: Connection, kind: CaseKind) -> Charts:
    """The charts now.

    Args:
        connection: to the kind's database.
        kind: whose.

    Raises:
        psycopg.Error: a table is missing, or the server can't answer.
    """
    newest = newest_sql("at", kind.cases, where="is_listed")
    query = _BARS.format(cases=kind.cases, days=DAYS, newest=newest)
    found: dict[int, list[Bar]] = {_DAY: [], _HOUR: [], _CITY: []}
    for absent, *bar in connection.execute(query.encode()).fetchall():
        found[absent].append(Bar(*bar))
    cities = [bar for bar in found[_CITY] if bar.usd or bar.label]
    return Charts(
        days=tuple(sorted(found[_DAY], key=lambda bar: bar.label)),
        hours=tuple(sorted(found[_HOUR], key=lambda bar: bar.label)),
        cities=tuple(sorted(cities, key=lambda bar: (-bar.usd, bar.label))),
    )
