"""A city's street network, and the shortest way from the kitchen to every corner of it.

Distances are whole decimeters, so that equal ways stay equal on every machine.
"""

import heapq
from dataclasses import dataclass

import numpy as np

from caspers_lib.replay.generator.cities import City
from caspers_lib.replay.generator.draws import Draws, Floats, Ints

__all__ = ["Edges", "Streets", "shortest_ways", "street_network"]

_SIDE = 49  # corners in a row; odd, so that the kitchen stands in the middle
_BLOCK_M = 160.0
_JITTER_M = 24.0
_MISSING = 0.07
_DIAGONAL = 0.06
_METERS_PER_LAT = 111_200.0
_NEAREST_DM = 3_000  # nobody orders from next door
_REACH_DM = 62_000  # demand thins out towards this way
_TOPIC = 1
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


Edges = list[list[tuple[int, int]]]


def street_network(city: City, seed: int) -> Streets:
    """The city's streets and all routes from its kitchen; the same for the same seed."""
    draws = Draws(seed, _TOPIC, city.location_id)
    x, y = _corners(draws)
    edges = _edges(x, y, draws)
    way, before = shortest_ways(edges, _SIDE * _SIDE // 2)
    corners = [n for n, d in enumerate(way) if d >= _NEAREST_DM]
    lat, lon = _coordinates(city, x, y)
    routes = [_route(before, corner) for corner in corners]
    flat = np.asarray([n for route in routes for n in route], dtype=np.int64)
    owner = np.repeat(np.arange(len(routes)), [len(route) for route in routes])
    ways = np.asarray(way, dtype=np.int64)
    at = np.asarray(corners, dtype=np.int64)
    busy = 2 + draws.below(len(corners), 9)
    return Streets(
        lat=lat[at],
        lon=lon[at],
        address=_addresses(city, corners, draws),
        route_json=tuple(_route_json(lat, lon, route) for route in routes),
        length_dm=ways[at],
        weight=busy * np.maximum(_REACH_DM - ways[at], 1_000) // 1_000,
        point_lat=lat[flat],
        point_lon=lon[flat],
        point_key=owner * _KEY_SPAN + ways[flat],
    )


def _corners(draws: Draws) -> tuple[Floats, Floats]:
    """Meters east and north of the kitchen for each corner of the turned-back grid."""
    row, column = np.divmod(np.arange(_SIDE * _SIDE), _SIDE)
    middle = _SIDE // 2
    shift_x = (draws.uniform(len(row)) - 0.5) * _JITTER_M
    shift_y = (draws.uniform(len(row)) - 0.5) * _JITTER_M
    return (column - middle) * _BLOCK_M + shift_x, (row - middle) * _BLOCK_M + shift_y


def _coordinates(city: City, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    middle = len(x) // 2
    x, y = x - x[middle], y - y[middle]
    east = x * city.grid_cos - y * city.grid_sin
    north = x * city.grid_sin + y * city.grid_cos
    lat = [round(v, 5) for v in (city.lat + north / _METERS_PER_LAT).tolist()]
    lon = [round(v, 5) for v in (city.lon + east / city.meters_per_lon).tolist()]
    return np.asarray(lat), np.asarray(lon)


def _edges(x: Floats, y: Floats, draws: Draws) -> Edges:
    """Neighbours of each corner with their distance; some streets missing, some diagonal."""
    chance = draws.uniform(3 * _SIDE * _SIDE)
    edges: Edges = [[] for _ in range(_SIDE * _SIDE)]
    for node in range(_SIDE * _SIDE):
        row, column = divmod(node, _SIDE)
        right, up = column + 1 < _SIDE, row + 1 < _SIDE
        wanted = (
            (node + 1, right and chance[3 * node] >= _MISSING),
            (node + _SIDE, up and chance[3 * node + 1] >= _MISSING),
            (node + _SIDE + 1, right and up and chance[3 * node + 2] < _DIAGONAL),
        )
        for other, there in wanted:
            if there:
                dx, dy = x[other] - x[node], y[other] - y[node]
                length = int(np.floor(np.sqrt(dx * dx + dy * dy) * 10.0))
                edges[node].append((other, length))
                edges[other].append((node, length))
    return edges


def shortest_ways(edges: Edges, source: int) -> tuple[list[int], list[int]]:
    """Way from `source` to each corner (-1: none) and the corner before it (Dijkstra)."""
    way = [-1] * len(edges)
    before = [-1] * len(edges)
    queue = [(0, source, -1)]
    while queue:
        length, node, previous = heapq.heappop(queue)
        if way[node] >= 0:
            continue
        way[node], before[node] = length, previous
        for other, step in edges[node]:
            if way[other] < 0:
                heapq.heappush(queue, (length + step, other, node))
    return way, before


def _route(before: list[int], corner: int) -> list[int]:
    route = [corner]
    while before[route[-1]] >= 0:
        route.append(before[route[-1]])
    return route[::-1]


def _route_json(lat: Floats, lon: Floats, route: list[int]) -> str:
    return "[" + ",".join(f"[{float(lat[n])!r},{float(lon[n])!r}]" for n in route) + "]"


def _addresses(city: City, corners: list[int], draws: Draws) -> tuple[str, ...]:
    """A house at each corner, on the street or the avenue that crosses there."""
    turn = int(draws.below(1, len(_STEMS))[0])
    stems = _STEMS[turn:] + _STEMS[:turn]
    on_street = draws.uniform(len(corners)) < 0.6
    house = 1 + draws.below(len(corners), 98)
    found: list[str] = []
    for corner, along, number in zip(corners, on_street.tolist(), house.tolist(), strict=True):
        row, column = divmod(corner, _SIDE)
        if along:
            line = f"{100 * (column + 1) + number} {stems[row]} Street"
        else:
            line = f"{100 * (row + 1) + number} {stems[(column + 11) % len(stems)]} Avenue"
        found.append(f"{line}, {city.place}")
    return tuple(found)
