"""The canonical dataset from a seed.

Contract: docs/contracts.md, Dataset. No clock, time zone, locale or hash seed has a part in it.
"""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq

from caspers_lib.domain import GHOST_KITCHEN, Domain
from caspers_lib.errors import SettingsError
from caspers_lib.replay.clock import CALENDAR_END, DAY
from caspers_lib.replay.dataset import CYCLE_KEY, EPOCH_KEY, STORY_KEY
from caspers_lib.replay.generator.cities import CITIES
from caspers_lib.replay.generator.dimensions import dimension_tables
from caspers_lib.replay.generator.events import EVENT_NAMES
from caspers_lib.replay.generator.story import kitchen_days, rows_in_file_order
from caspers_lib.replay.generator.writing import (
    EventsWriter,
    files_that_appear_whole,
    writing_to,
)

__all__ = ["generate_dataset"]

_MAX_DAYS = 3_660
_MAX_SCALE = 100
_EVENTS = "events.parquet"


def generate_dataset(
    folder: Path,
    *,
    seed: int = 42,
    days: int = 90,
    scale: float = 1.0,
    start: date = date(2024, 1, 1),
    first_day: int = 0,
    progress: Callable[[float], None] | None = None,
    domain: Domain = GHOST_KITCHEN,
) -> Path:
    """Write `events.parquet` and the six dimension files, the same bytes for the same arguments.

    A dataset of more days begins with the orders of one of fewer days, and one that begins on a
    later day of the story has that day's very orders.

    Args:
        folder: where the files go; made if it isn't there. Files appear whole, events last.
        seed: any whole number >= 0.
        days: days on which orders come in; the last orders' events may run past the end.
        scale: factor on the number of orders, > 0, up to 100; 1 gives about 75,000 in 90 days.
        start: the first day of the story (UTC), in the years 1970 to 9999 as all its days.
        first_day: days of the story that pass before the dataset begins. Its epoch is the day
            after them, and the listings' days count from there.
        progress: told the share that is done, 0 to 1, as rows are written.
        domain: gives the ids of the event types.

    Returns:
        The path of `events.parquet`.

    Raises:
        SettingsError: a bad `seed`, `days`, `scale`, `start` or `first_day`, a scale that gives no
            order at all, or a domain without the events of a delivery.
        DatasetError: the folder can't be written.
    """
    _check(seed, days, scale, first_day, domain)
    _check_span(start, first_day + days)
    epoch = ((start - date(1970, 1, 1)).days + first_day) * DAY
    dimensions = dimension_tables(first_day)
    names = [*(f"{name}.parquet" for name in dimensions), _EVENTS]
    metadata = {
        EPOCH_KEY: b"%d" % epoch,
        CYCLE_KEY: b"%d" % (days * DAY),
        STORY_KEY: _story(seed, scale, first_day),
    }
    orders = kitchen_days(seed, start=start, first_day=first_day, days=days, scale=scale)
    with files_that_appear_whole(folder, names) as paths:
        for name, table in dimensions.items():
            with writing_to(folder):
                pq.write_table(table, paths[f"{name}.parquet"], compression="zstd")
        with EventsWriter(paths[_EVENTS], metadata) as writer:
            for done, rows in rows_in_file_order(orders, epoch, domain):
                writer.append(rows)
                if progress is not None:
                    progress(done / (days + 1))
        if writer.rows == 0:
            raise SettingsError(
                f"scale is {scale}; over {days} days that is not a single order",
                hint="a scale of 0.01 gives about eight orders a day",
            )
    return folder / _EVENTS


def _story(seed: int, scale: float, first_day: int) -> bytes:
    """What `dataset check` must know to judge the file, as JSON."""
    offsets = {str(city.location_id): city.utc_offset_hours for city in CITIES}
    said = {"seed": seed, "scale": scale, "first_day": first_day, "utc_offset_hours": offsets}
    return json.dumps(said).encode()


def _check(seed: int, days: int, scale: float, first_day: int, domain: Domain) -> None:
    for name, value, least, usual in (
        ("seed", seed, 0, 42),
        ("days", days, 1, 90),
        ("first_day", first_day, 0, 0),
    ):
        if value < least:
            raise SettingsError(
                f"{name} is {value}; it must be {least} or more", hint=f"the default is {usual}"
            )
    if not 0 < scale <= _MAX_SCALE:
        raise SettingsError(
            f"scale is {scale}; it must be a number above 0, at most {_MAX_SCALE}",
            hint="1 is about 75,000 orders in 90 days",
        )
    missing = [name for name in EVENT_NAMES if name not in domain.types_by_name]
    if missing:
        raise SettingsError(
            f"The domain {domain.name} has no event type {', '.join(missing)}",
            hint="the generator makes the life of delivery orders; other domains bring their data",
        )


def _check_span(start: date, days: int) -> None:
    if days > _MAX_DAYS:
        raise SettingsError(
            f"days is {days}, with those of the story before the dataset; it must be at most "
            f"{_MAX_DAYS:,}",
            hint="the default is 90",
        )
    begin = (start - date(1970, 1, 1)).days * DAY
    if begin < 0 or begin + days * DAY >= CALENDAR_END:
        raise SettingsError(
            f"start is {start}; the dataset's days must lie in the years 1970 to 9999",
            hint="the default is 2024-01-01",
        )
