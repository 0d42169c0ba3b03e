"""Every customer's corner in a city, and the shortest way there from the kitchen."""

from dataclasses import dataclass

import numpy as np

from caspers_lib.replay.generator.cities import City
from caspers_lib.replay.generator.draws import Draws, Floats, Ints
from caspers_lib.replay.generator.street_map import (
    KITCHEN,
    SIDE,
    StreetMap,
    shortest_ways,
    street_map,
)

__all__ = ["Streets", "customer_streets"]

_METERS_PER_LAT = 111_200.0
_NEAREST_DM = 3_000  # nobody orders from next door
_REACH_DM = 62_000  # demand thins out towards this way
_TOPIC = 1
_FLATS = tuple(f"{floor}{door}" for floor in range(1, 6) for door in "ABCD")
_KEY_SPAN = 1 << 24  # longer than any route, decimeters

# fmt: off
_STEMS = (
    "Alderwick", "Brambleton", "Candlemere", "Dovetail", "Emberlin", "Fallowgate", "Gossamer",
    "Hollowell", "Inkberry", "Juniperus", "Kestrelle", "Larkmoor", "Marlowick", "Netherby",
    "Orchardine", "Pippingale", "Quillstone", "Rookhaven", "Saltmarch", "Thistledown",
    "Umberly", "Vesperine", "Willowmere", "Yarrowgate", "Zephyrine", "Ashgrove", "Bellwether",
    "Cobblewick", "Driftmoor", "Elderfen", "Foxhollow", "Greywater", "Hazelden", "Ivoryton",
    "Jasperine", "Kindlewood", "Lanternry", "Mosswick", "Nightingate", "Oxbowen", "Primrosa",
    "Quarrywell", "Ravenscar", "Siltbrook", "Tamarisk", "Underhill", "Violetta", "Windlass",
    "Yewbarrow", "Amberfield", "Birchmantle", "Cloverdyne", "Dunmallow", "Everglen",
    "Fernmarch", "Gallowmere", "Heronsway", "Islewick", "Jackdaw", "Knottingley",
)
_ROAD_STEMS = ("Old Millrace", "Packhorse", "Saltcarrier", "Lantern Hill")
# fmt: on


@dataclass(frozen=True, slots=True)
class Streets:
    """Every customer's corner and the route to it; arrays have one entry per customer.

    Args:
        lat: latitude, degrees, 5 decimals.
        lon: longitude, degrees, 5 decimals.
        address: house number, street and city.
        route_json: the route as JSON text, `[[lat, lon], ...]`, kitchen first.
        length_dm: the route's length, decimeters.
        weight: how often the corner orders, relative to the others.
        point_lat: latitudes of all routes' points, one route after the other.
        point_lon: their longitudes.
        point_key: customer * `_KEY_SPAN` + way from the kitchen in decimeters; ascending.
    """

    lat: Floats
    lon: Floats
    address: tuple[str, ...]
    route_json: tuple[str, ...]
    length_dm: Ints
    weight: Ints
    point_lat: Floats
    point_lon: Floats
    point_key: Ints

    def positions(self, customer: Ints, way_dm: Ints) -> tuple[Floats, Floats]:
        """Latitude and longitude after `way_dm` on the route to each `customer`."""
        key = customer * _KEY_SPAN + np.minimum(way_dm, self.length_dm[customer] - 1)
        left = np.searchsorted(self.point_key, key, side="right") - 1
        gap = self.point_key[left + 1] - self.point_key[left]
        part = (key - self.point_key[left]) / gap
        lat = self.point_lat[left] + (self.point_lat[left + 1] - self.point_lat[left]) * part
        lon = self.point_lon[left] + (self.point_lon[left + 1] - self.point_lon[left]) * part
        return lat, lon


def customer_streets(city: City, seed: int) -> Streets:
    """Every corner that orders and its route from the kitchen; the same for the same seed."""
    draws = Draws(seed, _TOPIC, city.location_id)
    streets = street_map(draws)
    way, before = shortest_ways(streets.edges, KITCHEN)
    corners = [n for n, d in enumerate(way) if d >= _NEAREST_DM]
    lat, lon = _coordinates(city, streets.x, streets.y)
    routes = [_route(before, corner) for corner in corners]
    flat = np.asarray([n for route in routes for n in route], dtype=np.int64)
    owner = np.repeat(np.arange(len(routes)), [len(route) for route in routes])
    ways = np.asarray(way, dtype=np.int64)
    at = np.asarray(corners, dtype=np.int64)
    busy = 2 + draws.below(len(corners), 9)
    return Streets(
        lat=lat[at],
        lon=lon[at],
        address=_addresses(city, streets, corners, draws),
        route_json=tuple(_route_json(lat, lon, route) for route in routes),
        length_dm=ways[at],
        weight=busy * np.maximum(_REACH_DM - ways[at], 1_000) // 1_000,
        point_lat=lat[flat],
        point_lon=lon[flat],
        point_key=owner * _KEY_SPAN + ways[flat],
    )


def _coordinates(city: City, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Degrees of each corner; the kitchen's corner is the city's own place."""
    x, y = x - x[KITCHEN], y - y[KITCHEN]
    east = x * city.grid_cos - y * city.grid_sin
    north = x * city.grid_sin + y * city.grid_cos
    lat = [round(v, 5) for v in (city.lat + north / _METERS_PER_LAT).tolist()]
    lon = [round(v, 5) for v in (city.lon + east / city.meters_per_lon).tolist()]
    return np.asarray(lat), np.asarray(lon)


def _route(before: list[int], corner: int) -> list[int]:
    route = [corner]
    while before[route[-1]] >= 0:
        route.append(before[route[-1]])
    return route[::-1]


def _route_json(lat: Floats, lon: Floats, route: list[int]) -> str:
    return "[" + ",".join(f"[{float(lat[n])!r},{float(lon[n])!r}]" for n in route) + "]"


def _addresses(city: City, streets: StreetMap, corners: list[int], draws: Draws) -> tuple[str, ...]:
    """A house at each corner, on one of the streets that cross there; all names are invented.

    No two corners share an address: the hundreds of the number tell the block.
    """
    turn = int(draws.below(1, len(_STEMS))[0])
    stems = _STEMS[turn:] + _STEMS[:turn]
    along = draws.uniform(len(corners)).tolist()
    house = (1 + draws.below(len(corners), 98)).tolist()
    flat = draws.below(len(corners), 4 * len(_FLATS)).tolist()
    found: list[str] = []
    for corner, place, number, door in zip(corners, along, house, flat, strict=True):
        row, column = divmod(corner, SIDE)
        road = streets.road.get(corner)
        if road is not None and place < 0.4:
            line = f"{100 * (row + 1) + number} {_ROAD_STEMS[road]} Road"
        elif place < 0.7:
            line = f"{100 * (column + 1) + number} {stems[row]} Street"
        else:
            line = f"{100 * (row + 1) + number} {stems[(column + 11) % len(stems)]} Avenue"
        inside = f", Apt {_FLATS[door]}" if door < len(_FLATS) else ""
        found.append(f"{line}{inside}, {city.place}")
    return tuple(found)
