"""The canonical dataset from a seed.

Contract: DESIGN section 4. No clock, time zone, locale or hash seed has a part in it.
"""

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from caspers_lib.domain import GHOST_KITCHEN, Domain
from caspers_lib.errors import SettingsError
from caspers_lib.replay.dataset import CYCLE_KEY, EPOCH_KEY
from caspers_lib.replay.generator.baskets import brand_weights, draw_baskets
from caspers_lib.replay.generator.cities import CITIES
from caspers_lib.replay.generator.demand import arrivals, expected_orders, kitchen_load
from caspers_lib.replay.generator.dimensions import dimension_tables
from caspers_lib.replay.generator.draws import Draws
from caspers_lib.replay.generator.events import EVENT_NAMES, NUMBER, event_rows
from caspers_lib.replay.generator.orders import order_lives
from caspers_lib.replay.generator.streets import street_network
from caspers_lib.replay.generator.writing import (
    EventsWriter,
    files_that_appear_whole,
    writing_to,
)

__all__ = ["generate_dataset"]

_DAY = 86_400
_EVENTS = "events.parquet"
_DEMAND, _ORDERS = 2, 3  # topics of draws; the streets have 1


def generate_dataset(
    folder: Path,
    *,
    seed: int = 42,
    days: int = 90,
    scale: float = 1.0,
    start: date = date(2024, 1, 1),
    progress: Callable[[float], None] | None = None,
    domain: Domain = GHOST_KITCHEN,
) -> Path:
    """Write `events.parquet` and the six dimension files, the same bytes for the same arguments.

    A dataset of more days begins with the orders of one of fewer days.

    Args:
        folder: where the files go; made if it isn't there. Files appear whole, events last.
        seed: any whole number >= 0.
        days: days on which orders come in; the last orders' events may run past the end.
        scale: factor on the number of orders, > 0; 1 gives about 75,000 in 90 days.
        start: the first day (UTC).
        progress: told the share that is done, 0 to 1, after each day.
        domain: gives the ids of the event types.

    Returns:
        The path of `events.parquet`.

    Raises:
        SettingsError: a bad `seed`, `days` or `scale`, a scale that gives no order at all, or a
            domain without the events of a delivery.
        DatasetError: the folder can't be written.
    """
    _check(seed, days, scale, domain)
    epoch = (start - date(1970, 1, 1)).days * _DAY
    dimensions = dimension_tables()
    names = [*(f"{name}.parquet" for name in dimensions), _EVENTS]
    metadata = {EPOCH_KEY: b"%d" % epoch, CYCLE_KEY: b"%d" % (days * _DAY)}
    with files_that_appear_whole(folder, names) as paths:
        for name, table in dimensions.items():
            with writing_to(folder):
                pq.write_table(table, paths[f"{name}.parquet"], compression="zstd")
        with EventsWriter(paths[_EVENTS], metadata) as writer:
            daily = _daily_rows(seed, days, scale, epoch, start.weekday(), domain)
            for day, rows in enumerate(_sorted_over_days(daily, epoch)):
                writer.append(rows)
                if progress is not None:
                    progress((day + 1) / (days + 1))
        if writer.rows == 0:
            raise SettingsError(
                f"scale is {scale}; over {days} days that is not a single order",
                hint="a scale of 0.01 gives about eight orders a day",
            )
    return folder / _EVENTS


def _check(seed: int, days: int, scale: float, domain: Domain) -> None:
    if seed < 0:
        raise SettingsError(f"seed is {seed}; it must be 0 or more", hint="the default is 42")
    if days < 1:
        raise SettingsError(f"days is {days}; it must be 1 or more", hint="the default is 90")
    if not 0 < scale < float("inf"):
        raise SettingsError(
            f"scale is {scale}; it must be a number above 0",
            hint="1 is about 75,000 orders in 90 days",
        )
    missing = [name for name in EVENT_NAMES if name not in domain.types_by_name]
    if missing:
        raise SettingsError(
            f"The domain {domain.name} has no event type {', '.join(missing)}",
            hint="the generator makes the life of delivery orders; other domains bring their data",
        )


def _daily_rows(
    seed: int, days: int, scale: float, epoch: int, first_weekday: int, domain: Domain
) -> Iterator[pa.Table]:
    """The events of the orders that come in on each day; orders are numbered through."""
    streets = [street_network(city, seed) for city in CITIES]
    waits = [0.0] * len(CITIES)
    orders = 0
    for day in range(days):
        tables: list[pa.Table] = []
        for at, city in enumerate(CITIES):
            draws = Draws(seed, _DEMAND, day, city.location_id)
            expected = expected_orders(city, day, first_weekday, draws)
            created, orders_in_slot = arrivals(expected, scale, draws)
            load = kitchen_load(city, day, orders_in_slot, waits[at])
            waits[at] = float(load.wait[-1])
            draws = Draws(seed, _ORDERS, day, city.location_id)
            baskets = draw_baskets(len(created), brand_weights(city.location_id, day), draws)
            midnight = epoch + day * _DAY
            lives = order_lives(city, streets[at], baskets, created, load, midnight, draws)
            numbers = orders + np.arange(len(created))
            orders += len(created)
            tables.append(
                event_rows(lives, baskets, streets[at], city.location_id, numbers, domain)
            )
        yield pa.concat_tables(tables)


def _sorted_over_days(daily: Iterator[pa.Table], epoch: int) -> Iterator[pa.Table]:
    """The same rows in file order: what runs over midnight waits for the next day's rows."""
    held: list[pa.Table] = []
    for day, rows in enumerate(daily):
        ordered = _sorted(pa.concat_tables([*held, rows]))
        seconds = ordered["ts_seconds"].to_numpy()
        cut = int(np.searchsorted(seconds, epoch + (day + 1) * _DAY, side="left"))
        yield ordered.slice(0, cut).drop_columns([NUMBER])
        held = [ordered.slice(cut)]
    yield from (rows.drop_columns([NUMBER]) for rows in held)


def _sorted(rows: pa.Table) -> pa.Table:
    """Rows by (ts_seconds, order_id, sequence); ids sort as their numbers do."""
    keys = [rows[name].to_numpy() for name in ("sequence", NUMBER, "ts_seconds")]
    return rows.take(pa.array(np.lexsort(keys)))
