"""Is a dataset fit to be replayed, and what is in it.

Contract: DESIGN section 4. Everything is counted by DuckDB in streams; no row reaches Python.
"""

import glob
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caspers_lib.domain import GHOST_KITCHEN, Domain
from caspers_lib.errors import DatasetError
from caspers_lib.replay.dataset import EventsFile

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["DatasetReport", "LocationWeeks", "check_dataset"]

_DAY = 86_400
_WEEK = 7 * _DAY
_MEMORY = "1GB"
_UNIX = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_10000 = 253_402_300_800
_HINT = "mend the rows or generate a new one with `caspers dataset generate`"


@dataclass(frozen=True, slots=True)
class LocationWeeks:
    """A location's orders in the first and in the last seven days of the cycle."""

    location_id: int
    first_week: int
    last_week: int

    @property
    def growth(self) -> float | None:
        """Change from the first to the last week (0.74 = 74 % more); None without a start."""
        return self.last_week / self.first_week - 1 if self.first_week else None


@dataclass(frozen=True, slots=True)
class DatasetReport:
    """What a valid dataset holds.

    Args:
        path: the dataset's file.
        rows: number of events.
        orders: number of orders that were created.
        delivered: number of orders that were completed.
        first_ts: time of the first event (UTC epoch seconds).
        last_ts: time of the last event (UTC epoch seconds).
        days: whole days of one cycle.
        is_sorted: the file is sorted, so that a tick reads only the rows it needs.
        events: rows by name of the event type.
        locations: orders in the first and the last week by location; empty if the cycle has less
            than two weeks.
        total_minutes: 50th, 75th and 99th percentile of an order's minutes from the opening to
            the closing event; None if no order was completed.
    """

    path: Path
    rows: int
    orders: int
    delivered: int
    first_ts: int
    last_ts: int
    days: int
    is_sorted: bool
    events: dict[str, int]
    locations: tuple[LocationWeeks, ...]
    total_minutes: tuple[float, float, float] | None

    def lines(self) -> list[str]:
        """The report as text for people."""
        sorting = "sorted" if self.is_sorted else "not sorted (each tick reads the whole file)"
        found = [
            f"{self.path}: {self.rows:,} events of {self.orders:,} orders, "
            f"{self.delivered:,} delivered",
            f"{_utc(self.first_ts)} to {_utc(self.last_ts)} UTC, a cycle of {self.days} days, "
            f"{sorting}",
        ]
        found += [f"  {name:<18}{count:>12,}" for name, count in self.events.items()]
        if self.total_minutes is not None:
            p50, p75, p99 = self.total_minutes
            found.append(f"minutes to deliver: P50 {p50:.1f}, P75 {p75:.1f}, P99 {p99:.1f}")
        for at in self.locations:
            growth = "" if at.growth is None else f" ({at.growth:+.0%})"
            found.append(
                f"location {at.location_id}: {at.first_week:,} orders in the first week, "
                f"{at.last_week:,} in the last{growth}"
            )
        return found


def check_dataset(path: Path, domain: Domain = GHOST_KITCHEN) -> DatasetReport:
    """Read a whole dataset and report on it; sorted or not, of any integer and float widths.

    Raises:
        DatasetError: the file is missing, unreadable or lacks a column; an event type is unknown;
            a time, order id or event type is null; a time is no epoch second; the line items are
            not a JSON array.
    """
    events = EventsFile.open(path, domain)
    _refuse_far_times(events)
    with _view_of_events(path) as connection:
        _refuse_nulls(connection, path)
        _refuse_unknown_types(connection, path, domain)
        _refuse_broken_items(connection, path, domain)
        return _report(connection, events, domain)


@contextmanager
def _view_of_events(path: Path) -> Iterator["DuckDBPyConnection"]:
    """A connection with the dataset as the view `events`; what it can't hold goes to a temp folder.

    Numbers get one type each, so that no file's own width can overflow.
    """
    import duckdb  # loaded only by the command that needs it

    with tempfile.TemporaryDirectory(prefix="caspers-check-") as spill:
        config: dict[str, str | bool | int | float | list[str]] = {
            "temp_directory": spill,
            "memory_limit": _MEMORY,
            "autoinstall_known_extensions": False,
            "preserve_insertion_order": False,
        }
        with duckdb.connect(config=config) as connection:
            try:
                connection.read_parquet(
                    glob.escape(str(path)), hive_partitioning=False
                ).create_view("dataset")
                connection.execute(_EVENTS_VIEW)
                yield connection
            except duckdb.Error as error:
                raise DatasetError(
                    f"The dataset {path} can't be read: {str(error).splitlines()[0]}", hint=_HINT
                ) from error


_EVENTS_VIEW = """
CREATE VIEW events AS
SELECT * REPLACE (CAST(event_type_id AS BIGINT) AS event_type_id,
                  CAST(ts_seconds AS BIGINT) AS ts_seconds,
                  CAST(location_id AS BIGINT) AS location_id)
FROM dataset
"""


def _row(
    connection: "DuckDBPyConnection", sql: str, values: dict[str, int] | None = None
) -> tuple[Any, ...]:
    """The only row of a query."""
    (row,) = connection.execute(sql, values).fetchall()
    return tuple(row)


def _refuse_nulls(connection: "DuckDBPyConnection", path: Path) -> None:
    counts = _row(
        connection,
        "SELECT count(*) - count(ts_seconds), count(*) - count(order_id), "
        "count(*) - count(event_type_id) FROM events",
    )
    names = ("ts_seconds", "order_id", "event_type_id")
    found = [f"{name} in {n:,}" for name, n in zip(names, counts, strict=True) if n]
    if found:
        raise DatasetError(f"The dataset {path} has rows with null {', '.join(found)}", hint=_HINT)


def _refuse_far_times(events: EventsFile) -> None:
    if events.first_ts < 0 or events.last_ts >= _YEAR_10000:
        raise DatasetError(
            f"The dataset {events.path} has ts_seconds from {events.first_ts} to {events.last_ts}; "
            "they must be UTC epoch seconds of the years 1970 to 9999",
            hint="milliseconds must be divided by 1000",
        )


def _refuse_unknown_types(connection: "DuckDBPyConnection", path: Path, domain: Domain) -> None:
    known = {t.id: t.name for t in domain.event_types}
    found = connection.execute(
        "SELECT DISTINCT event_type_id FROM events "
        "WHERE NOT list_contains(?::BIGINT[], event_type_id) ORDER BY ALL LIMIT 20",
        [list(known)],
    ).fetchall()
    if found:
        allowed = ", ".join(f"{number} {name}" for number, name in known.items())
        raise DatasetError(
            f"The dataset {path} has unknown event type ids "
            f"{', '.join(str(number) for (number,) in found)}; allowed are {allowed}",
            hint=_HINT,
        )


def _refuse_broken_items(connection: "DuckDBPyConnection", path: Path, domain: Domain) -> None:
    opening = domain.types_by_name[domain.line_items.event]
    (column,) = (f.column for f in opening.body if f.name == domain.line_items.field)
    kind = f'CASE WHEN json_valid("{column}") THEN json_type("{column}") END'
    broken, example = _row(
        connection,
        # A null is an absent optional value: the event's body is then empty.
        f"SELECT count(*), min_by(order_id, (ts_seconds, sequence)) FROM events "  # noqa: S608 - the name comes from the domain's definition, not from data
        f"WHERE \"{column}\" IS NOT NULL AND ({kind}) IS DISTINCT FROM 'ARRAY'",
    )
    if broken:
        raise DatasetError(
            f"The dataset {path} has {broken:,} rows whose {column} is not a JSON array, "
            f"the first in order {example!r}",
            hint=_HINT,
        )


def _report(connection: "DuckDBPyConnection", events: EventsFile, domain: Domain) -> DatasetReport:
    opening = domain.types_by_name[domain.opening].id
    closing = domain.types_by_name[domain.closing].id
    per_type = dict(
        connection.execute("SELECT event_type_id, count(*) FROM events GROUP BY ALL").fetchall()
    )
    orders, delivered, minutes = _row(connection, _ORDERS, {"opening": opening, "closing": closing})
    weeks = connection.execute(
        _WEEKS,
        {
            "opening": opening,
            "first": events.epoch,
            "last": events.epoch + events.cycle_seconds,
            "week": _WEEK,
        },
    ).fetchall()
    return DatasetReport(
        path=events.path,
        rows=events.rows,
        orders=orders,
        delivered=delivered,
        first_ts=events.first_ts,
        last_ts=events.last_ts,
        days=events.cycle_days,
        is_sorted=events.is_sorted,
        events={t.name: per_type.get(t.id, 0) for t in domain.event_types},
        locations=tuple(LocationWeeks(*row) for row in weeks)
        if events.cycle_seconds >= 2 * _WEEK
        else (),
        total_minutes=None if minutes is None else (minutes[0], minutes[1], minutes[2]),
    )


_ORDERS = """
SELECT count(opened), count(closed), quantile_cont((closed - opened) / 60, [0.5, 0.75, 0.99])
FROM (
  SELECT min(ts_seconds) FILTER (event_type_id = $opening) AS opened,
         max(ts_seconds) FILTER (event_type_id = $closing) AS closed
  FROM events GROUP BY order_id
)
"""

_WEEKS = """
SELECT location_id,
       count(*) FILTER (ts_seconds < $first + $week),
       count(*) FILTER (ts_seconds >= $last - $week AND ts_seconds < $last)
FROM events WHERE event_type_id = $opening AND ts_seconds >= $first
GROUP BY ALL ORDER BY ALL
"""


def _utc(seconds: int) -> str:
    return f"{_UNIX + timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S}"
