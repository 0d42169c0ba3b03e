"""The business day by day: each kitchen's orders, and their events in the order of the file.

A day is drawn as a whole; its events are made a part of the day at a time, so that memory depends
neither on the dataset's length nor much on its scale.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa

from caspers_lib.domain import Domain
from caspers_lib.replay.generator.baskets import Baskets, brand_weights, draw_baskets
from caspers_lib.replay.generator.cities import CITIES
from caspers_lib.replay.generator.demand import arrivals, expected_orders, kitchen_load
from caspers_lib.replay.generator.draws import Draws, Ints
from caspers_lib.replay.generator.events import NUMBER, event_rows
from caspers_lib.replay.generator.orders import Lives, order_lives
from caspers_lib.replay.generator.streets import Streets, customer_streets

__all__ = ["KitchenDay", "kitchen_days", "rows_in_file_order"]

_DAY = 86_400
_DEMAND, _ORDERS = 2, 3  # topics of draws; the streets have 1
_ORDERS_AT_ONCE = 2_000  # about 27,000 events


@dataclass(frozen=True, slots=True)
class KitchenDay:
    """The orders that come in at one kitchen on one day, in the order in which they come.

    Args:
        location_id: the kitchen's location.
        streets: its city's streets.
        baskets: what is ordered.
        lives: what happens to each order.
        numbers: the orders' numbers, unique over the story.
    """

    location_id: int
    streets: Streets
    baskets: Baskets
    lives: Lives
    numbers: Ints

    def events(self, begin: int, end: int, domain: Domain) -> pa.Table:
        """All events of the orders created in [begin, end) (UTC epoch seconds)."""
        first, after = np.searchsorted(self.lives.created, (begin, end)).tolist()
        part = slice(first, after)
        return event_rows(
            self.lives.of(part),
            self.baskets.of(part),
            self.streets,
            self.location_id,
            self.numbers[part],
            domain,
        )


def kitchen_days(
    seed: int, *, start: date, first_day: int, days: int, scale: float
) -> Iterator[list[KitchenDay]]:
    """Every kitchen's orders on each of `days` days from `first_day` of the story on.

    Args:
        seed: the story's seed.
        start: the story's first day; gives weekdays and times.
        first_day: days that pass before, whose queues and order numbers count.
        days: how many days to yield.
        scale: factor on the number of orders.
    """
    streets = [customer_streets(city, seed) for city in CITIES]
    waits = [0.0] * len(CITIES)
    number = 0
    for day in range(first_day + days):
        midnight = ((start - date(1970, 1, 1)).days + day) * _DAY
        kitchens: list[KitchenDay] = []
        for at, city in enumerate(CITIES):
            draws = Draws(seed, _DEMAND, day, city.location_id)
            expected = expected_orders(city, day, start.weekday(), draws)
            created, orders_in_slot = arrivals(expected, scale, draws)
            load = kitchen_load(city, day, orders_in_slot, waits[at])
            waits[at] = float(load.wait[-1])
            numbers = number + np.arange(len(created))
            number += len(created)
            if day >= first_day:
                draws = Draws(seed, _ORDERS, day, city.location_id)
                weights = brand_weights(city.location_id, day)
                baskets = draw_baskets(len(created), weights, draws)
                lives = order_lives(city, streets[at], baskets, created, load, midnight, draws)
                kitchens.append(KitchenDay(city.location_id, streets[at], baskets, lives, numbers))
        if day >= first_day:
            yield kitchens


def rows_in_file_order(
    days: Iterable[list[KitchenDay]], epoch: int, domain: Domain
) -> Iterator[tuple[float, pa.Table]]:
    """Events sorted by (ts_seconds, order_id, sequence), each table with the days done so far.

    What runs past the end of a part of a day waits for the next part's rows.

    Args:
        days: consecutive days.
        epoch: first second of the first of them.
        domain: gives the ids of the event types.
    """
    held: list[pa.Table] = []
    done = 0
    for done, kitchens in enumerate(days, start=1):
        midnight = epoch + (done - 1) * _DAY
        parts = 1 + sum(len(kitchen.numbers) for kitchen in kitchens) // _ORDERS_AT_ONCE
        for part in range(parts):
            begin, end = (midnight + _DAY * n // parts for n in (part, part + 1))
            new = [kitchen.events(begin, end, domain) for kitchen in kitchens]
            ordered = _sorted(pa.concat_tables([*held, *new]))
            cut = int(np.searchsorted(ordered["ts_seconds"].to_numpy(), end, side="left"))
            held = [ordered.slice(cut)]
            yield done - 1 + (part + 1) / parts, ordered.slice(0, cut).drop_columns([NUMBER])
    for rows in held:
        yield done + 1, rows.drop_columns([NUMBER])


def _sorted(rows: pa.Table) -> pa.Table:
    """Rows by (ts_seconds, order_id, sequence); ids sort as their numbers do."""
    keys = [rows[name].to_numpy() for name in ("sequence", NUMBER, "ts_seconds")]
    return rows.take(pa.array(np.lexsort(keys)))
