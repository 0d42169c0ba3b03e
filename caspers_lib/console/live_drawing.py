"""A city as a drawing: where a place on earth lies on it, and lines as SVG paths."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["HALF", "Drawing", "Place", "drawing_of", "streets_path"]

HALF = 100
"""The drawing reaches from -100 to 100 in both directions, the kitchen in its middle."""

_KM_PER_DEGREE = 111.2
# A drawing that changed its scale with each driver would be no map.
_REACHES_KM = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 50.0)
_MARGIN = 0.96
# Single corners far out must not shrink the whole city.
_INSIDE = 0.98

Place = tuple[float, float]
"""Latitude and longitude, degrees."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """The square around a kitchen.

    Args:
        centre: where the kitchen is.
        reach_km: from the middle to an edge.
    """

    centre: Place
    reach_km: float

    def point(self, place: Place) -> tuple[float, float]:
        """Where a place lies, x to the right and y down; outside of the square it may be far.

        Args:
            place: latitude and longitude, degrees.
        """
        east, north = _way_km(self.centre, place)
        scale = HALF * _MARGIN / self.reach_km
        return round(east * scale, 1) + 0.0, round(-north * scale, 1) + 0.0  # never -0

    def path(self, places: Iterable[Place]) -> str:
        """The places as a line, the value of an SVG path's `d`; empty for fewer than two."""
        points = [self.point(place) for place in places]
        if len(points) < 2:
            return ""
        return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)


def drawing_of(centre: Place, places: Sequence[Place]) -> Drawing:
    """The drawing that holds nearly all of the places, in one of a few scales.

    Args:
        centre: where the kitchen is.
        places: what should be on it.
    """
    ways = sorted(max(map(abs, _way_km(centre, place))) for place in places)
    furthest = ways[math.ceil(len(ways) * _INSIDE) - 1] if ways else 0.0
    reach = next((km for km in _REACHES_KM if km >= furthest), _REACHES_KM[-1])
    return Drawing(centre, reach)


def streets_path(drawing: Drawing, routes: Iterable[Sequence[Place]]) -> str:
    """Every piece of the routes once, as one SVG path's `d`: the streets that drivers took.

    Args:
        drawing: the city's.
        routes: lines of places.
    """
    drawn: set[tuple[Place, Place]] = set()
    pieces: list[str] = []
    for route in routes:
        at: Place | None = None
        for a, b in pairwise(route):
            if (min(a, b), max(a, b)) in drawn:
                at = None
                continue
            drawn.add((min(a, b), max(a, b)))
            (x, y), (to_x, to_y) = drawing.point(a), drawing.point(b)
            pieces.append(f"L{to_x:g} {to_y:g}" if at == a else f"M{x:g} {y:g}L{to_x:g} {to_y:g}")
            at = b
    return "".join(pieces)


def _way_km(start: Place, end: Place) -> tuple[float, float]:
    """Kilometers to the east and to the north; right for a city, not for a continent."""
    north = (end[0] - start[0]) * _KM_PER_DEGREE
    degrees = (end[1] - start[1] + 180) % 360 - 180
    return degrees * _KM_PER_DEGREE * math.cos(math.radians(start[0])), north
