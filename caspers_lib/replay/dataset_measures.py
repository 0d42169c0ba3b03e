"""What is in a dataset, counted by DuckDB.

A row an order is kept, in DuckDB's own bounded memory; what reaches Python are the counts.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from caspers_lib.domain import LATE_MINUTES, Domain
from caspers_lib.errors import DatasetError, SettingsError, first_cause
from caspers_lib.replay.dataset import STORY_KEY, EventsFile
from caspers_lib.replay.dataset_facts import (
    LEAST_RHYTHM_DAYS,
    BrandsFacts,
    BrandSpan,
    DatasetFacts,
    Lateness,
    LocationFacts,
    Story,
)

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["check_scale", "measured"]

_HOUR, _DAY = 3_600, 86_400
_FIFTHS = 5
_SURE_GAP_ORDERS = 10  # a pause in which so many orders were to be expected is no chance
_LEAST_GAP_DAYS = 3


def measured(connection: "DuckDBPyConnection", events: EventsFile, domain: Domain) -> DatasetFacts:
    """The facts of a valid dataset.

    Args:
        connection: has the dataset as the view `events`.
        events: the dataset's file; dimension files beside it give names.
        domain: the opening and closing event, the line items.

    Raises:
        DatasetError: the file's story or a dimension beside it can't be read.
    """
    story, offsets = _story(events.path)
    _make_orders(connection, domain, offsets)
    at = {"epoch": events.epoch, "days": events.cycle_days, "late": LATE_MINUTES * 60}
    (orders, delivered), *_ = connection.execute(_TOTALS).fetchall()
    per_type = dict(
        connection.execute("SELECT event_type_id, count(*) FROM events GROUP BY ALL").fetchall()
    )
    names = _names(events.path, "locations", "location_id")
    locations = _locations(connection, at, names, offsets)
    return DatasetFacts(
        path=events.path,
        fingerprint=events.fingerprint,
        rows=events.rows,
        orders=orders,
        delivered=delivered,
        first_ts=events.first_ts,
        last_ts=events.last_ts,
        epoch=events.epoch,
        days=events.cycle_days,
        is_sorted=events.is_sorted,
        events={t.name: per_type.get(t.id, 0) for t in domain.event_types},
        story=story,
        locations=locations,
        weekdays=_weekdays(connection, at, locations),
        lateness=_lateness(connection, at),
        brands=_brands(connection, events, domain, {x.location_id: x.name for x in locations}),
    )


# --- what lies beside the rows --------------------------------------------------------------------


def check_scale(events: Path, scale: float, *, is_own: bool) -> None:
    """Refuse a scale that a dataset doesn't have, since a dataset stays as it was made.

    Args:
        events: the dataset.
        scale: the parameter DATASET_SCALE.
        is_own: whether somebody brought the dataset, so that none was asked for.

    Raises:
        SettingsError: another scale would have no effect.
        DatasetError: the file can't be read.
    """
    story = None if is_own else _story(events)[0]
    if scale == (story.scale if story else 1.0):
        return
    if story is None:
        raise SettingsError(
            f"DATASET_SCALE is {scale:g}: it scales a generated dataset, and {events} is none",
            hint="leave it at 1",
        )
    raise SettingsError(
        f"DATASET_SCALE is {scale:g}; the dataset {events} was generated with {story.scale:g}, "
        "which stays",
        hint="set it back, or begin anew",
    )


def _story(path: Path) -> tuple[Story | None, dict[int, int]]:
    """How our generator was asked, and each location's local time minus UTC in hours."""
    text = (pq.read_metadata(path).metadata or {}).get(STORY_KEY)
    if text is None:
        return None, {}
    try:
        said = json.loads(text)
        story = Story(int(said["seed"]), float(said["scale"]), int(said["first_day"]))
        offsets = {int(k): int(v) for k, v in said["utc_offset_hours"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise _foreign_story(path) from error
    if not 0 < story.scale < float("inf") or any(abs(v) > 14 for v in offsets.values()):
        raise _foreign_story(path)
    return story, offsets


def _foreign_story(path: Path) -> DatasetError:
    return DatasetError(
        f"The metadata {STORY_KEY.decode()} of {path} is not what the generator writes there",
        hint="remove it, or generate the dataset anew with `caspers dataset generate`",
    )


def _names(events: Path, dimension: str, key: str) -> dict[int, str]:
    """Names by id from the dimension beside the events; empty where there is none that fits."""
    path = events.with_name(f"{dimension}.parquet")
    if not path.is_file():
        return {}
    try:
        if not {key, "name"} <= set(pq.read_schema(path).names):
            return {}
        with pq.ParquetFile(path) as file:
            rows = file.read(columns=[key, "name"]).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(
            f"The dimension {path} can't be read as parquet: {first_cause(error)}",
            hint="generate the dataset anew, or move the file away",
        ) from error
    return {row[key]: str(row["name"]) for row in rows if row["name"] is not None}


# --- orders ---------------------------------------------------------------------------------------


def _make_orders(
    connection: "DuckDBPyConnection", domain: Domain, offsets: Mapping[int, int]
) -> None:
    """The table `orders`: where and when (UTC and local seconds) each was opened, when closed."""
    connection.execute("CREATE TEMP TABLE offsets (location_id BIGINT, seconds BIGINT)")
    for location, hours in offsets.items():
        connection.execute("INSERT INTO offsets VALUES (?, ?)", [location, hours * _HOUR])
    types = {
        "opening": domain.types_by_name[domain.opening].id,
        "closing": domain.types_by_name[domain.closing].id,
    }
    connection.execute(_ORDERS, types)


_ORDERS = """
CREATE TEMP TABLE orders AS
SELECT location_id, opened, closed,
       opened + coalesce(seconds, 0) + 604800 AS local -- a week on, so that it is never negative
FROM (
  SELECT min(location_id) AS location_id,
         min(ts_seconds) FILTER (event_type_id = $opening) AS opened,
         max(ts_seconds) FILTER (event_type_id = $closing) AS closed
  FROM events WHERE event_type_id IN ($opening, $closing)
  GROUP BY order_id
) LEFT JOIN offsets USING (location_id)
WHERE opened IS NOT NULL
"""

_TOTALS = "SELECT count(*), count(closed) FROM orders"

_BY_TIME = """
SELECT location_id, (opened - $epoch) // $step AS place, count(*)
FROM orders WHERE opened >= $epoch AND opened < $epoch + $days * 86400
GROUP BY ALL
"""

_BY_HOUR = "SELECT location_id, local // 3600 % 24 AS place, count(*) FROM orders GROUP BY ALL"

_LATE_BY_LOCATION = """
SELECT location_id, avg((closed - opened > $late)::INT) FROM orders GROUP BY ALL ORDER BY ALL
"""


def _locations(
    connection: "DuckDBPyConnection",
    at: Mapping[str, int],
    names: Mapping[int, str],
    offsets: Mapping[int, int],
) -> tuple[LocationFacts, ...]:
    late = dict(connection.execute(_LATE_BY_LOCATION, {"late": at["late"]}).fetchall())
    span = {"epoch": at["epoch"], "days": at["days"]}

    def counts(size: int, sql: str, **values: int) -> dict[int, list[int]]:
        found = {location: [0] * size for location in late}
        for location, place, count in connection.execute(sql, values).fetchall():
            found[location][place] = count
        return found

    daily = counts(at["days"], _BY_TIME, **span, step=_DAY)
    hours = at["days"] * 24 if at["days"] < LEAST_RHYTHM_DAYS else 0
    course = counts(hours, _BY_TIME, **span, step=_HOUR) if hours else {}
    hourly = counts(24, _BY_HOUR)
    return tuple(
        LocationFacts(
            location_id=location,
            name=names.get(location, f"location {location}"),
            utc_offset_hours=offsets.get(location),
            daily=tuple(daily[location]),
            course=tuple(course.get(location, ())),
            hourly=tuple(hourly[location]),
            late_share=share,
        )
        for location, share in late.items()
    )


# --- days of the week -----------------------------------------------------------------------------

_BY_WEEKDAY = """
SELECT location_id, (local // 86400 + 3) % 7 AS weekday, count(*)
FROM orders WHERE opened >= $epoch AND opened < $epoch + $days * 86400
GROUP BY ALL
"""


def _weekdays(
    connection: "DuckDBPyConnection", at: Mapping[str, int], locations: tuple[LocationFacts, ...]
) -> tuple[float, ...]:
    """Orders on a Monday, ..., Sunday relative to the mean of the seven."""
    if at["days"] < LEAST_RHYTHM_DAYS or not locations:
        return ()
    offsets = {x.location_id: (x.utc_offset_hours or 0) * _HOUR for x in locations}
    a_day = [0.0] * 7
    span = {"epoch": at["epoch"], "days": at["days"]}
    for location, weekday, count in connection.execute(_BY_WEEKDAY, span).fetchall():
        begin = at["epoch"] + offsets[location]
        a_day[weekday] += count / _days_covered(begin, begin + at["days"] * _DAY)[weekday]
    mean = sum(a_day) / 7
    return tuple(value / mean for value in a_day) if mean else ()


def _days_covered(begin: int, end: int) -> list[float]:
    """How many days of each weekday lie in [begin, end), parts included; Monday first."""
    found = [0.0] * 7
    for day in range(begin // _DAY, -(-end // _DAY)):
        seconds = min(end, (day + 1) * _DAY) - max(begin, day * _DAY)
        found[(day + 3) % 7] += seconds / _DAY  # 1970-01-01 was a Thursday
    return found


# --- lateness -------------------------------------------------------------------------------------

_MINUTES = """
SELECT quantile_cont((closed - opened) / 60, [0.5, 0.75, 0.99]),
       avg((closed - opened > $late)::INT)
FROM orders WHERE closed IS NOT NULL
"""

_LATE_BY_LOAD = """
WITH placed AS (
  SELECT *, opened // 3600 AS hour, (opened - $epoch) // 604800 AS week FROM orders
), hours AS (
  SELECT location_id, week, hour,
         ntile($fifths) OVER (PARTITION BY location_id, week ORDER BY count(*), hour) AS fifth
  FROM placed GROUP BY location_id, week, hour
)
SELECT fifth, avg((closed - opened > $late)::INT)
FROM placed JOIN hours USING (location_id, week, hour)
WHERE closed IS NOT NULL GROUP BY fifth
"""


def _lateness(connection: "DuckDBPyConnection", at: Mapping[str, int]) -> Lateness | None:
    late = {"late": at["late"]}
    ((minutes, share),) = connection.execute(_MINUTES, late).fetchall()
    if minutes is None:
        return None
    asked = {"epoch": at["epoch"], "late": at["late"], "fifths": _FIFTHS}
    by_load = dict(connection.execute(_LATE_BY_LOAD, asked).fetchall())
    p50, p75, p99 = minutes
    return Lateness(p50, p75, p99, share, tuple(by_load.get(n) for n in range(1, _FIFTHS + 1)))


# --- brands ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Selling:
    """A brand's first and last day at a location, and its orders in between."""

    brand_id: int
    location_id: int
    first: int
    last: int
    orders: int

    def is_pause(self, days: int) -> bool:
        """Whether so many days without an order are no chance."""
        expected = self.orders / (self.last - self.first + 1) * days
        return days >= _LEAST_GAP_DAYS and expected >= _SURE_GAP_ORDERS


def _brands(
    connection: "DuckDBPyConnection",
    events: EventsFile,
    domain: Domain,
    locations: Mapping[int, str],
) -> BrandsFacts | None:
    """Which brands sell, and which begin or cease to sell somewhere within the cycle."""
    keys = [c.expression for c in domain.line_items.columns if c.name == "brand_id"]
    opening = domain.types_by_name[domain.line_items.event]
    columns = [f.column for f in opening.body if f.name == domain.line_items.field]
    if not keys or not columns:
        return None
    sql = _SELLING.format(column=f'"{columns[0]}"')
    asked: dict[str, Any] = {
        "path": f'$[*]."{keys[0]}"',
        "event": opening.id,
        "epoch": events.epoch,
        "days": events.cycle_days,
    }
    found = [_Selling(*row) for row in connection.execute(sql, asked).fetchall()]
    if not found:
        return None
    names = _names(events.path, "brands", "brand_id")

    def span(of: _Selling, day: int) -> BrandSpan:
        name = names.get(of.brand_id, f"brand {of.brand_id}")
        return BrandSpan(of.brand_id, name, locations[of.location_id], day)

    launches = [span(s, s.first) for s in found if s.is_pause(s.first)]
    exits = [span(s, s.last) for s in found if s.is_pause(events.cycle_days - 1 - s.last)]
    return BrandsFacts(
        count=len({s.brand_id for s in found}),
        launches=tuple(sorted(launches, key=lambda s: (s.day, s.brand_id))),
        exits=tuple(sorted(exits, key=lambda s: (s.day, s.brand_id))),
    )


_SELLING = """
SELECT brand_id, location_id, min(day), max(day), count(*)
FROM (
  SELECT location_id, (ts_seconds - $epoch) // 86400 AS day,
         try_cast(unnest(list_distinct(json_extract_string({column}, $path))) AS BIGINT) AS brand_id
  FROM events
  WHERE event_type_id = $event AND ts_seconds >= $epoch
    AND ts_seconds < $epoch + $days * 86400
)
WHERE brand_id IS NOT NULL
GROUP BY ALL ORDER BY ALL
"""
