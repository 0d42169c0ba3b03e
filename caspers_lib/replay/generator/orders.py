"""The life of each order of a day at one kitchen: who orders, and when each thing happens."""

from dataclasses import dataclass, fields

import numpy as np

from caspers_lib.replay.generator.baskets import Baskets
from caspers_lib.replay.generator.cities import City
from caspers_lib.replay.generator.demand import SLOT_SECONDS, Load
from caspers_lib.replay.generator.draws import Draws, Floats, Ints
from caspers_lib.replay.generator.streets import Streets

__all__ = ["Lives", "order_lives"]

# Quantile functions (evenly spaced, 0 to 1).
_ACCEPT_SECONDS = (20, 45, 60, 80, 100, 130, 170, 260)
_PREP_FACTOR = (0.66, 0.78, 0.85, 0.91, 0.97, 1.04, 1.13, 1.26, 1.55)
_PACK_SECONDS = (15, 30, 40, 55, 75, 110, 180)
_DRIVER_SECONDS = (-420, -240, -140, -60, 10, 70, 130, 200, 300, 480, 720)
_HANDOVER_SECONDS = (15, 25, 35, 45, 60, 85, 140)
_DRIVE_FACTOR = (0.82, 0.90, 0.95, 1.0, 1.05, 1.12, 1.24, 1.5)

_SLOWER_AT_CAPACITY = 0.30  # prep time under full pressure, on top
_EXTRA_UNIT_SECONDS = 25
_DRIVER_MINIMUM_SECONDS = 100
_DRIVER_SHARE_OF_WAIT = 0.12  # drivers are short when kitchens are


@dataclass(frozen=True, slots=True)
class Lives:
    """Orders with the times of their single events, in UTC seconds; one entry per order.

    Args:
        customer: index into the city's `Streets`.
        created: the order comes in.
        started: a cook begins.
        finished: the last dish is done.
        ready: it is packed.
        arrived: the driver is at the kitchen, maybe before it is ready.
        picked_up: the driver leaves with it.
        delivered: it is at the customer's door.
    """

    customer: Ints
    created: Ints
    started: Ints
    finished: Ints
    ready: Ints
    arrived: Ints
    picked_up: Ints
    delivered: Ints

    def of(self, part: slice) -> "Lives":
        """Some of the orders."""
        return Lives(*(getattr(self, field.name)[part] for field in fields(self)))


def order_lives(
    city: City,
    streets: Streets,
    baskets: Baskets,
    created: Ints,
    load: Load,
    midnight: int,
    draws: Draws,
) -> Lives:
    """The day's orders at one kitchen.

    Args:
        city: where.
        streets: the city's streets.
        baskets: what was ordered.
        created: seconds of the day.
        load: how busy the kitchen is over the day.
        midnight: the day's first second (UTC epoch seconds).
        draws: the day's and city's own draws.
    """
    count = len(created)
    customer = draws.weighted(count, streets.weight)
    wait, pressure = _load_at(created, load)
    started = created + _whole(draws.shaped(count, _ACCEPT_SECONDS) + wait)
    slower = draws.shaped(count, _PREP_FACTOR) * (1.0 + _SLOWER_AT_CAPACITY * pressure)
    prep = baskets.prep_minutes * 60 * slower + (baskets.units - 1) * _EXTRA_UNIT_SECONDS
    finished = started + _whole(prep)
    ready = finished + _whole(draws.shaped(count, _PACK_SECONDS))
    late = draws.shaped(count, _DRIVER_SECONDS) + wait * _DRIVER_SHARE_OF_WAIT
    arrived = np.maximum(created + _DRIVER_MINIMUM_SECONDS, ready + _whole(late))
    handover = _whole(draws.shaped(count, _HANDOVER_SECONDS))
    picked_up = np.maximum(ready, arrived) + handover
    minutes = streets.length_dm[customer] / (city.speed_m_min * 10.0)
    drive = _whole(minutes * 60.0 * draws.shaped(count, _DRIVE_FACTOR))
    return Lives(
        customer=customer,
        created=midnight + created,
        started=midnight + started,
        finished=midnight + finished,
        ready=midnight + ready,
        arrived=midnight + arrived,
        picked_up=midnight + picked_up,
        delivered=midnight + picked_up + drive,
    )


def _load_at(created: Ints, load: Load) -> tuple[Floats, Floats]:
    slot, second = np.divmod(created, SLOT_SECONDS)
    part = second / SLOT_SECONDS
    return load.wait[slot] + (load.wait[slot + 1] - load.wait[slot]) * part, load.pressure[slot]


def _whole(seconds: Floats) -> Ints:
    return np.floor(seconds).astype(np.int64)
