"""A city's streets: a turned grid with gaps, one-way streets and long diagonal roads.

Distances are whole decimeters, so that equal ways stay equal on every machine.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from caspers_lib.replay.generator.draws import Draws, Floats

__all__ = ["KITCHEN", "SIDE", "Edges", "StreetMap", "shortest_ways", "street_map"]

SIDE = 49  # corners in a row; odd, so that the kitchen stands in the middle
KITCHEN = SIDE * SIDE // 2

_BLOCK_M = 160.0
_JITTER_M = 24.0
_MISSING = 0.07
_ONE_WAY = 0.45
_ROADS = 4
_ROAD_SPREAD = 18  # corners between a road and the middle of the map, at most

Edges = list[list[tuple[int, int]]]


@dataclass(frozen=True, slots=True)
class StreetMap:
    """Corners and the blocks between them.

    Corner `row * SIDE + column`; a street runs along a row, an avenue along a column, a road
    across both.

    Args:
        x: meters along the streets for each corner, before the grid is turned.
        y: meters along the avenues for each corner.
        edges: for each corner where one may drive from it: (corner, decimeters).
        road: number of the diagonal road through each corner; corners without one are not there.
    """

    x: Floats
    y: Floats
    edges: Edges
    road: dict[int, int]


def street_map(draws: Draws) -> StreetMap:
    """A map of `SIDE` x `SIDE` corners; every second one-way street runs the other way."""
    count = SIDE * SIDE
    row, column = np.divmod(np.arange(count), SIDE)
    middle = SIDE // 2
    x = (column - middle) * _BLOCK_M + (draws.uniform(count) - 0.5) * _JITTER_M
    y = (row - middle) * _BLOCK_M + (draws.uniform(count) - 0.5) * _JITTER_M
    there = draws.uniform(2 * count) >= _MISSING
    streets, avenues = _directions(draws), _directions(draws)
    roads = _roads(draws)
    edges: Edges = [[] for _ in range(count)]
    for a, b, direction in _blocks(there.tolist(), streets, avenues, roads):
        dx, dy = x[b] - x[a], y[b] - y[a]
        length = int(np.floor(np.sqrt(dx * dx + dy * dy) * 10.0))
        if direction >= 0:
            edges[a].append((b, length))
        if direction <= 0:
            edges[b].append((a, length))
    return StreetMap(x, y, edges, {n: i for i, corners in enumerate(roads) for n in corners})


def _directions(draws: Draws) -> list[int]:
    """For each of a direction's streets: 0 both ways, 1 and -1 one way. The kitchen's is free."""
    one_way = (draws.uniform(SIDE) < _ONE_WAY).tolist()
    one_way[SIDE // 2] = False
    return [(1 if line % 2 else -1) if single else 0 for line, single in enumerate(one_way)]


def _roads(draws: Draws) -> list[list[int]]:
    """Corners of each diagonal road from south to north; every second one leans to the west."""
    offsets = (draws.below(_ROADS, 2 * _ROAD_SPREAD + 1) - _ROAD_SPREAD).tolist()
    found: list[list[int]] = []
    for number, offset in enumerate(offsets):
        columns = ((row if number % 2 else SIDE - 1 - row) + offset for row in range(SIDE))
        found.append([r * SIDE + c for r, c in enumerate(columns) if 0 <= c < SIDE])
    return found


def _blocks(
    there: list[bool], streets: list[int], avenues: list[int], roads: list[list[int]]
) -> Iterator[tuple[int, int, int]]:
    """Every block once: its two corners, and 0 both ways, 1 only forward, -1 only back."""
    for node in range(SIDE * SIDE):
        row, column = divmod(node, SIDE)
        if column + 1 < SIDE and there[2 * node]:
            yield node, node + 1, streets[row]
        if row + 1 < SIDE and there[2 * node + 1]:
            yield node, node + SIDE, avenues[column]
    for corners in roads:
        for a, b in pairwise(corners):
            yield a, b, 0


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
