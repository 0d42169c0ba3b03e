"""The generator's parts: draws, demand, load and streets."""

import heapq
import json
import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caspers_lib.replay.generator.baskets import brand_weights, draw_baskets
from caspers_lib.replay.generator.cities import CITIES, WEEKDAY_LIFT, City
from caspers_lib.replay.generator.demand import (
    Load,
    arrivals,
    expected_orders,
    kitchen_load,
    trend,
)
from caspers_lib.replay.generator.draws import Draws
from caspers_lib.replay.generator.events import order_ids
from caspers_lib.replay.generator.orders import order_lives
from caspers_lib.replay.generator.street_map import (
    KITCHEN,
    SIDE,
    Edges,
    StreetMap,
    shortest_ways,
    street_map,
)
from caspers_lib.replay.generator.streets import Streets, customer_streets

SAN_FRANCISCO, SILICON_VALLEY, BELLEVUE, CHICAGO = CITIES


def test_draws_are_the_published_stream() -> None:
    assert Draws(42, 1).uniform(3).tolist() == [
        0.4674907799518424,
        0.04644889644868733,
        0.5955100095961371,
    ]
    assert Draws(42, 1).below(5, 1_000).tolist() == [467, 46, 595, 107, 974]


def test_streams_of_different_keys_differ() -> None:
    firsts = {float(Draws(42, a, b).uniform(1)[0]) for a in range(5) for b in range(5)}
    assert len(firsts) == 25


@given(
    seed=st.integers(0, 2**64),
    weights=st.lists(st.integers(0, 50), min_size=1, max_size=20).filter(any),
)
def test_a_weight_of_zero_is_never_drawn(seed: int, weights: list[int]) -> None:
    drawn = Draws(seed).weighted(50, np.asarray(weights))
    assert all(weights[index] > 0 for index in drawn.tolist())


@given(
    seed=st.integers(0, 2**64),
    quantiles=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=9).map(sorted),
)
def test_shaped_draws_stay_within_their_quantiles(seed: int, quantiles: list[float]) -> None:
    drawn = Draws(seed).shaped(50, quantiles)
    slack = 1e-9 * (1 + max(abs(q) for q in quantiles))
    assert quantiles[0] - slack <= drawn.min() <= drawn.max() <= quantiles[-1] + slack


def test_shaped_draws_follow_their_quantiles() -> None:
    drawn = Draws(1).shaped(20_000, (0.0, 10.0, 100.0))
    assert np.mean(drawn < 10.0) == pytest.approx(0.5, abs=0.02)
    assert np.mean(drawn < 55.0) == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize(
    ("city", "growth"),
    [(SAN_FRANCISCO, 0.74), (SILICON_VALLEY, 1.90), (BELLEVUE, 0.0), (CHICAGO, -0.25)],
)
def test_a_city_grows_by_its_rate_over_the_first_ninety_days(city: City, growth: float) -> None:
    assert (1 + city.growth_rate_daily) ** 90 - 1 == pytest.approx(growth, abs=1e-4)
    assert trend(city, 0) == 1.0
    assert trend(city, 89) - 1 == pytest.approx(growth, abs=1e-4)
    assert trend(city, 90) == pytest.approx(trend(city, 89))


@pytest.mark.parametrize("city", CITIES)
def test_growth_tires_over_the_years(city: City) -> None:
    assert 0.4 < trend(city, 3_650) < 14


def test_the_week_has_the_mean_day() -> None:
    assert sum(WEEKDAY_LIFT) / 7 == pytest.approx(1.0)


@pytest.mark.parametrize("city", CITIES)
def test_an_average_week_expects_the_base_orders(city: City) -> None:
    days = range(-7, 0)  # before the growth
    expected = [int(expected_orders(city, d, 0, Draws(1, d + 7)).sum()) / 1e6 for d in days]
    assert sum(expected) / 7 == pytest.approx(city.base_orders_day, rel=0.03)


@given(seed=st.integers(0, 1_000), scale=st.sampled_from([0.01, 0.3, 1.0, 2.5, 10.0]))
def test_scale_multiplies_orders_and_leaves_the_load_alone(seed: int, scale: float) -> None:
    expected = expected_orders(CHICAGO, 5, 0, Draws(seed, 1))
    created, crowd = arrivals(expected, scale, Draws(seed, 2))
    _, crowd_at_one = arrivals(expected, 1.0, Draws(seed, 2))
    assert crowd.tolist() == crowd_at_one.tolist()
    assert abs(len(created) - crowd.sum() * scale) <= 1
    assert created.tolist() == sorted(created.tolist())
    slots = np.bincount(created // 300, minlength=288)
    assert not slots[crowd == 0].any()


def test_at_scale_one_the_load_is_that_of_the_orders() -> None:
    expected = expected_orders(CHICAGO, 5, 0, Draws(3, 1))
    created, crowd = arrivals(expected, 1.0, Draws(3, 2))
    assert np.bincount(created // 300, minlength=288).tolist() == crowd.tolist()


def test_a_kitchen_without_orders_works_off_its_queue() -> None:
    load = kitchen_load(BELLEVUE, 0, np.zeros(288, dtype=np.int64), 1_000.0)
    assert load.wait.tolist()[:5] == [1_000.0, 700.0, 400.0, 100.0, 0.0]
    assert not load.pressure.any()


def test_a_crowd_makes_a_queue_that_is_bounded() -> None:
    load = kitchen_load(BELLEVUE, 0, np.full(288, 40, dtype=np.int64), 0.0)
    assert all(a <= b for a, b in pairwise(load.wait.tolist()))
    assert load.wait[-1] == 6_000.0
    assert load.pressure.max() == 2.0


def test_the_queue_at_the_kitchen_explains_most_of_an_orders_time() -> None:
    streets = customer_streets(SAN_FRANCISCO, 42)
    waits, minutes = [], []
    left = 0.0
    for day in range(28):
        expected = expected_orders(SAN_FRANCISCO, day, 0, Draws(42, 2, day, 1))
        created, crowd = arrivals(expected, 1.0, Draws(42, 2, day, 1))
        load = kitchen_load(SAN_FRANCISCO, day, crowd, left)
        left = float(load.wait[-1])
        baskets = draw_baskets(len(created), brand_weights(1, day), Draws(42, 3, day, 1))
        lives = order_lives(SAN_FRANCISCO, streets, baskets, created, load, 0, Draws(5, day))
        waits += load.wait[created // 300].tolist()
        minutes += ((lives.delivered - lives.created) / 60).tolist()
    late = np.asarray(minutes) > 60
    queued = np.asarray(waits) > 600
    assert np.corrcoef(waits, minutes)[0, 1] > 0.7
    assert late[queued].mean() > 0.2
    assert late[~queued].mean() < 0.01


def test_orders_wait_for_the_kitchen_and_cook_longer_under_pressure() -> None:
    streets = customer_streets(BELLEVUE, 42)
    created = np.arange(0, 86_400, 600)
    baskets = draw_baskets(len(created), brand_weights(3, 0), Draws(1))
    calm = Load(wait=np.zeros(289), pressure=np.zeros(288))
    queue = Load(wait=np.full(289, 1_800.0), pressure=np.zeros(288))
    pressed = Load(wait=np.zeros(289), pressure=np.ones(288))
    alone, behind, hasty = (
        order_lives(BELLEVUE, streets, baskets, created, load, 1_000_000, Draws(2))
        for load in (calm, queue, pressed)
    )
    assert (alone.created == created + 1_000_000).all()
    assert (behind.started - alone.started == 1_800).all()
    assert (behind.finished - behind.started == alone.finished - alone.started).all()
    assert (behind.arrived - behind.ready >= alone.arrived - alone.ready).all()
    assert (hasty.started == alone.started).all()
    assert (hasty.finished - hasty.started > 1.1 * (alone.finished - alone.started)).all()


# --- streets ----------------------------------------------------------------------------------


@given(
    st.integers(2, 8).flatmap(
        lambda n: st.lists(
            st.tuples(st.integers(0, n - 1), st.integers(0, n - 1), st.integers(1, 20)),
            max_size=20,
        ).map(lambda found: (n, found))
    )
)
def test_shortest_ways_agree_with_trying_every_street(
    graph: tuple[int, list[tuple[int, int, int]]],
) -> None:
    size, one_ways = graph
    edges: Edges = [[] for _ in range(size)]
    best = [0.0] + [float("inf")] * (size - 1)
    for a, b, length in one_ways:
        edges[a].append((b, length))
    for _ in range(size):
        for a, b, length in one_ways:
            best[b] = min(best[b], best[a] + length)
    way, before = shortest_ways(edges, 0)
    assert way == [-1 if b == float("inf") else b for b in best]
    for node, previous in enumerate(before):
        assert (previous < 0) == (node == 0 or way[node] < 0)
        if previous >= 0:
            assert (node, way[node] - way[previous]) in edges[previous]


@pytest.fixture(scope="module", params=CITIES, ids=lambda city: city.code)
def city(request: pytest.FixtureRequest) -> City:
    found: City = request.param
    return found


@pytest.fixture(scope="module")
def streets(city: City) -> Streets:
    return customer_streets(city, 42)


@pytest.fixture(scope="module")
def plan(city: City) -> StreetMap:
    """The map that the city's customers live on."""
    return street_map(Draws(42, 1, city.location_id))


@pytest.fixture(scope="module")
def driven(city: City, plan: StreetMap, streets: Streets) -> list[list[int]]:
    """The corners of every customer's route, found again by their coordinates."""
    x, y = plan.x - plan.x[KITCHEN], plan.y - plan.y[KITCHEN]
    north = x * city.grid_sin + y * city.grid_cos
    east = x * city.grid_cos - y * city.grid_sin
    lat = np.round(city.lat + north / 111_200.0, 5).tolist()
    lon = np.round(city.lon + east / city.meters_per_lon, 5).tolist()
    corner = {place: n for n, place in enumerate(zip(lat, lon, strict=True))}
    assert len(corner) == SIDE * SIDE
    return [[corner[a, b] for a, b in json.loads(text)] for text in streets.route_json]


def test_routes_follow_streets_in_the_direction_in_which_they_run(
    plan: StreetMap, streets: Streets, driven: list[list[int]]
) -> None:
    length = {(a, b): d for a, found in enumerate(plan.edges) for b, d in found}
    for route, total in zip(driven, streets.length_dm.tolist(), strict=True):
        assert route[0] == KITCHEN
        assert sum(length[step] for step in pairwise(route)) == total


def test_no_way_is_shorter_than_the_one_that_is_driven(
    plan: StreetMap, streets: Streets, driven: list[list[int]]
) -> None:
    best = {KITCHEN: 0}
    queue = [(0, KITCHEN)]
    while queue:
        gone, here = heapq.heappop(queue)
        for there, step in plan.edges[here] if gone == best[here] else ():
            if gone + step < best.get(there, 1 << 60):
                best[there] = gone + step
                heapq.heappush(queue, (gone + step, there))
    assert [best[route[-1]] for route in driven] == streets.length_dm.tolist()


def test_one_way_streets_run_either_way_and_make_some_routes_longer(plan: StreetMap) -> None:
    edges = [dict(found) for found in plan.edges]
    one_way = [(a, b) for a, found in enumerate(edges) for b in found if a not in edges[b]]
    assert {b - a for a, b in one_way} == {1, -1, SIDE, -SIDE}
    assert 0.15 < len(one_way) / sum(map(len, edges)) < 0.5
    both = [list(found.items()) for found in edges]
    for a, b in one_way:
        both[b].append((a, edges[a][b]))
    lawful, lawless = (shortest_ways(e, KITCHEN)[0] for e in (plan.edges, both))
    longer = [a > b for a, b in zip(lawful, lawless, strict=True) if a > 0]
    assert sum(longer) > 0.2 * len(longer)


def test_long_roads_run_across_the_grid_and_are_driven(
    plan: StreetMap, driven: list[list[int]]
) -> None:
    across = {(a, b) for a, found in enumerate(plan.edges) for b, _ in found}
    across = {(a, b) for a, b in across if abs(b - a) in (SIDE - 1, SIDE + 1)}
    assert {abs(b - a) for a, b in across} == {SIDE - 1, SIDE + 1}
    assert all(a in plan.road and b in plan.road for a, b in across)
    assert {(b, a) for a, b in across} == across
    assert len(across) > 150
    used = [any(step in across for step in pairwise(route)) for route in driven]
    assert sum(used) > 0.3 * len(used)


def test_nearly_every_corner_can_be_reached(city: City, streets: Streets) -> None:
    assert len(streets.lat) > 0.97 * SIDE * SIDE
    assert 3_000 <= streets.length_dm.min() < streets.length_dm.max() < 130_000
    for n in range(0, len(streets.lat), 97):
        route = json.loads(streets.route_json[n])
        assert route[0] == [city.lat, city.lon]
        assert route[-1] == [streets.lat[n], streets.lon[n]]
        meters = [
            np.hypot((b[0] - a[0]) * 111_200, (b[1] - a[1]) * city.meters_per_lon)
            for a, b in pairwise(route)
        ]
        assert max(meters) < 280
        assert sum(meters) == pytest.approx(streets.length_dm[n] / 10, rel=0.01)


def test_addresses_look_like_a_citys_and_are_nobody_elses(city: City, streets: Streets) -> None:
    form = re.compile(
        r"[1-9][0-9]{2,3} [A-Z][a-z]+( [A-Z][a-z]+)? (Street|Avenue|Road)(, Apt [1-5][A-D])?, "
        + re.escape(city.place)
    )
    assert all(form.fullmatch(address) for address in streets.address)
    assert len(set(streets.address)) == len(streets.address)
    kinds = {word for address in streets.address for word in re.findall(r"(\w+),", address)}
    assert {"Street", "Avenue", "Road"} <= kinds
    in_flats = sum(", Apt " in address for address in streets.address)
    assert 0.15 < in_flats / len(streets.address) < 0.35


def test_positions_move_from_the_kitchen_to_the_customer() -> None:
    streets = customer_streets(CHICAGO, 42)
    customer = np.asarray([100, 100, 100])
    length = int(streets.length_dm[100])
    lat, lon = streets.positions(customer, np.asarray([0, length // 2, length]))
    assert (lat[0], lon[0]) == (CHICAGO.lat, CHICAGO.lon)
    assert (lat[2], lon[2]) == pytest.approx((streets.lat[100], streets.lon[100]), abs=1e-5)


def test_brands_launch_and_exit() -> None:
    pioneers, late = brand_weights(1, 0), brand_weights(1, 89)
    assert pioneers[12] == 0 < late[12]  # brand 13 launches on day 35
    assert pioneers[11] > 0 == late[11]  # brand 12 exits after day 41
    assert brand_weights(1, 41)[11] > 0 == brand_weights(1, 42)[11]


@pytest.mark.parametrize("location", [1, 2, 3, 4])
def test_every_location_always_has_a_choice_of_brands(location: int) -> None:
    assert all((brand_weights(location, day) > 0).sum() >= 8 for day in range(400))


def test_order_ids_sort_as_their_numbers() -> None:
    numbers = np.asarray([0, 9, 10, 35, 36, 74_566, 36**7 - 1])
    ids = order_ids(numbers).to_pylist()
    assert ids[:2] == ["O0000000", "O0000009"]
    assert ids == sorted(ids)
    assert [int(text[1:], 36) for text in ids] == numbers.tolist()
