"""How many orders each kitchen gets in each five minutes, and how far it falls behind.

A day is a UTC day of 288 slots; the curves follow the city's local time. Orders are expected in
millionths, so that sums are whole numbers.
"""

from dataclasses import dataclass

import numpy as np

from caspers_lib.replay.generator.cities import WEEKDAY_LIFT, City
from caspers_lib.replay.generator.draws import Draws, Floats, Ints

__all__ = ["SLOT_SECONDS", "Load", "arrivals", "expected_orders", "kitchen_load", "trend"]

SLOT_SECONDS = 300
_SLOTS = 86_400 // SLOT_SECONDS
_PER_HOUR = 3_600 // SLOT_SECONDS
_MICRO = 1_000_000
_QUARTER = 90  # days over which a city's growth rate is given
_LEVEL_DAYS = 7  # at either end of a quarter, so that its first and last week tell the growth
_PLAN_DAYS = 14  # kitchens add or give up cooking lines at this pace
_SURGE_CHANCE = 0.16
_LONGEST_WAIT = 6_000.0  # seconds; beyond it, cooks of other shifts are called in


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a kitchen is over a day.

    Args:
        wait: seconds until a line is free, at each slot's edge (289 values).
        pressure: demand relative to capacity in each slot, capped at 2 (288 values).
    """

    wait: Floats
    pressure: Floats


def trend(city: City, day: int) -> float:
    """Demand on a day relative to day 0.

    Over the first 90 days the daily rate's whole growth comes in an S-curve that is level in the
    first and the last week. Later quarters bring half the growth of the one before: markets mature.
    """
    growth = 1.0
    for _ in range(_QUARTER):
        growth *= 1.0 + city.growth_rate_daily
    gain, level, left = growth - 1.0, 1.0, max(day, 0)
    while left >= _QUARTER:
        level *= 1.0 + gain
        gain *= 0.5
        left -= _QUARTER
    x = min(max((left - _LEVEL_DAYS) / (_QUARTER - 1 - 2 * _LEVEL_DAYS), 0.0), 1.0)
    return level * (1.0 + gain * x * x * (3.0 - 2.0 * x))


def _curve(city: City) -> Floats:
    """Share of a local day's demand in each of its slots."""
    hours = np.asarray((*city.hourly_demand, city.hourly_demand[0]), dtype=np.float64)
    hour, step = np.divmod(np.arange(_SLOTS), _PER_HOUR)
    value = hours[hour] + (hours[hour + 1] - hours[hour]) * (step / _PER_HOUR)
    # Linear pieces over equal steps: the plain sum of the hours is the whole day's, exactly.
    share: Floats = value / float(sum(city.hourly_demand) * _PER_HOUR)
    return share


def expected_orders(city: City, day: int, first_weekday: int, draws: Draws) -> Ints:
    """Millionths of orders to expect in each slot of a UTC day at scale 1, surges included.

    Args:
        city: where.
        day: days since the dataset's start.
        first_weekday: weekday of the start, 0 = Monday.
        draws: the day's and city's own draws.
    """
    slot = np.arange(_SLOTS) + city.utc_offset_hours * _PER_HOUR
    early = slot < 0
    today, yesterday = (
        trend(city, d) * WEEKDAY_LIFT[(first_weekday + d) % 7] for d in (day, day - 1)
    )
    level = np.where(early, yesterday, today) * city.base_orders_day
    level = level * (0.975 + 0.05 * float(draws.uniform(1)[0]))
    calm = level * _curve(city)[slot % _SLOTS]
    crowded = calm * _surge(calm, draws)
    # A surge gathers the day's orders, it adds none: cumsum, as sum's order of adding may differ.
    even = np.cumsum(calm)[-1] / np.cumsum(crowded)[-1]
    micro: Ints = np.floor(crowded * even * _MICRO).astype(np.int64)
    return micro


def _surge(calm: Floats, draws: Draws) -> Floats:
    """Factor of each slot: on some days demand swells for an hour or three when it is busy."""
    chance, centre, width, height = draws.uniform(4).tolist()
    if chance >= _SURGE_CHANCE:
        return np.ones(_SLOTS)
    upto = np.cumsum(calm)
    peak = int(np.searchsorted(upto, centre * float(upto[-1]), side="right"))
    half = 7 + int(width * 12)
    distance = np.abs(np.arange(_SLOTS) - peak)
    factor: Floats = 1.0 + (0.6 + 1.0 * height) * np.maximum(0.0, 1.0 - distance / half)
    return factor


def arrivals(expected: Ints, scale: float, draws: Draws) -> tuple[Ints, Ints]:
    """When orders come in on a day.

    One day is drawn at scale 1. Another scale keeps every n-th of its orders or gives each its
    copies, so that the kitchens are equally late at every scale.

    Args:
        expected: from `expected_orders`.
        scale: the dataset's scale.
        draws: the day's and city's own draws.

    Returns:
        The orders' seconds of the day, ascending, and the number of orders in each slot at scale 1.
    """
    rounding, phase = draws.uniform(2).tolist()
    count = int(np.floor(int(expected.sum()) / _MICRO + rounding))
    slots = np.sort(draws.weighted(count, expected))
    upto = np.floor(np.arange(count + 1) * scale + phase).astype(np.int64)
    slot = np.repeat(slots, np.diff(upto))
    created = np.sort(slot * SLOT_SECONDS + draws.below(len(slot), SLOT_SECONDS))
    return created, np.bincount(slots, minlength=_SLOTS)


def kitchen_load(city: City, day: int, orders: Ints, wait_before: float) -> Load:
    """What a day's orders do to the kitchen: a queue that drains at the kitchen's capacity.

    Args:
        city: where.
        day: days since the dataset's start.
        orders: orders in each slot at scale 1.
        wait_before: seconds of waiting left over from the day before.
    """
    planned = trend(city, day - day % _PLAN_DAYS) * city.base_orders_day
    peak = max(city.hourly_demand) / (sum(city.hourly_demand) * _PER_HOUR)
    capacity = planned * peak * city.capacity_ratio
    demand = orders / capacity
    wait = [wait_before]
    for share in demand.tolist():
        wait.append(min(max(0.0, wait[-1] + (share - 1.0) * SLOT_SECONDS), _LONGEST_WAIT))
    smooth = demand.copy()
    smooth[1:] = (demand[1:] + demand[:-1]) * 0.5
    return Load(np.asarray(wait), np.minimum(smooth, 2.0))
