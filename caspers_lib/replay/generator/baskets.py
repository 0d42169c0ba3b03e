"""What customers order: brands by popularity on the day, dishes by their place on the menu."""

import json
from dataclasses import dataclass
from functools import cache

import numpy as np

from caspers_lib.replay.generator.draws import Draws, Ints
from caspers_lib.replay.generator.menu import brands, listings

__all__ = ["Baskets", "brand_weights", "draw_baskets"]

_MAX_LINES = 5
_LINES = np.asarray([28, 34, 22, 11, 5])  # percent of orders with 1, 2, ... lines
_QUANTITIES = np.asarray([76, 18, 6])  # percent of lines with 1, 2, 3 units
_SECOND_BRAND = 0.21  # of orders with two lines or more; about 15 % of all orders
# Place on the menu as a quantile function: the upper half gets two thirds of the orders.
_MENU_PLACE = np.asarray([0.0, 0.08, 0.17, 0.27, 0.38, 0.50, 0.64, 0.81, 1.0])


@dataclass(frozen=True, slots=True)
class Baskets:
    """The baskets of some orders.

    Args:
        items_json: the lines of each order as JSON text.
        prep_minutes: minutes that the slowest of the order's brands takes.
        units: dishes in each order.
    """

    items_json: tuple[str, ...]
    prep_minutes: Ints
    units: Ints

    def of(self, part: slice) -> "Baskets":
        """Some of the orders' baskets."""
        return Baskets(self.items_json[part], self.prep_minutes[part], self.units[part])


def brand_weights(location_id: int, day: int) -> Ints:
    """Popularity of each brand (index = id - 1) at a location on a day; 0 where it doesn't sell."""
    weights = np.zeros(len(brands()), dtype=np.int64)
    for listing in listings():
        sells = listing.start_day <= day and (listing.end_day is None or day <= listing.end_day)
        if listing.location_id == location_id and sells:
            months = (day - listing.start_day) / 30
            grown = max(0.1, 1.0 + listing.growth_monthly * months)
            weights[listing.brand_id - 1] = int(listing.popularity * grown * 100)
    return weights


def draw_baskets(count: int, weights: Ints, draws: Draws) -> Baskets:
    """Baskets for `count` orders among brands with the given weights (at least two above 0)."""
    lines = 1 + draws.weighted(count, _LINES)
    first = draws.weighted(count, weights)
    second = _other_brand(first, weights, draws)
    wants_second = (draws.uniform(count) < _SECOND_BRAND) & (lines > 1)
    from_second = np.where(wants_second, lines // 2, 0)
    column = np.arange(_MAX_LINES)
    is_second = column >= (lines - from_second)[:, None]
    brand = np.where(is_second & wants_second[:, None], second[:, None], first[:, None])
    item = _distinct_items(brand, draws)
    units = 1 + draws.weighted(count * _MAX_LINES, _QUANTITIES).reshape(count, _MAX_LINES)
    there = column < lines[:, None]
    minutes = np.asarray([b.prep_minutes for b in brands()])
    return Baskets(
        items_json=_texts(item, units, lines),
        prep_minutes=np.where(
            wants_second, np.maximum(minutes[first], minutes[second]), minutes[first]
        ),
        units=np.where(there, units, 0).sum(axis=1),
    )


def _other_brand(first: Ints, weights: Ints, draws: Draws) -> Ints:
    """A second brand for each order; the next one that sells where the draw hits the first."""
    second = draws.weighted(len(first), weights)
    selling = np.flatnonzero(weights)
    following = np.zeros(len(weights), dtype=np.int64)
    following[selling] = np.roll(selling, -1)
    return np.where(second == first, following[second], second)


def _distinct_items(brand: Ints, draws: Draws) -> Ints:
    """Item ids (orders x lines) of the given brands, no dish twice in an order."""
    sizes = np.asarray([len(b.dishes) for b in brands()])
    base = np.asarray([b.dishes[0].id for b in brands()])
    size = sizes[brand]
    place = draws.shaped(brand.size, _MENU_PLACE.tolist()).reshape(brand.shape)
    dish = np.minimum(np.floor(place * size).astype(np.int64), size - 1)
    for line in range(1, _MAX_LINES):
        for _ in range(line):
            same = (dish[:, :line] == dish[:, [line]]) & (brand[:, :line] == brand[:, [line]])
            moved = (dish[:, line] + 1) % size[:, line]
            dish[:, line] = np.where(same.any(axis=1), moved, dish[:, line])
    items: Ints = base[brand] + dish
    return items


@cache
def _fragments() -> dict[tuple[int, int], str]:
    """The JSON text of a line by item id and quantity."""
    return {
        (dish.id, qty): (
            f'{{"id":{dish.id},"category_id":{dish.category_id},"menu_id":{brand.id},'
            f'"brand_id":{brand.id},"name":{json.dumps(dish.name)},'
            f'"price":{dish.price_cents // 100}.{dish.price_cents % 100:02d},"qty":{qty}}}'
        )
        for brand in brands()
        for dish in brand.dishes
        for qty in range(1, len(_QUANTITIES) + 1)
    }


def _texts(item: Ints, units: Ints, lines: Ints) -> tuple[str, ...]:
    fragments = _fragments()
    return tuple(
        "[" + ",".join(fragments[pair] for pair in zip(ids[:n], qty[:n], strict=True)) + "]"
        for ids, qty, n in zip(item.tolist(), units.tolist(), lines.tolist(), strict=True)
    )
