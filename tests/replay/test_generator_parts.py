"""The generator's parts: draws, demand, load and streets."""

import json
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
from caspers_lib.replay.generator.streets import Edges, shortest_ways, street_network

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


def test_orders_wait_for_the_kitchen_and_cook_longer_under_pressure() -> None:
    streets = street_network(BELLEVUE, 42)
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
    size, streets = graph
    edges: Edges = [[] for _ in range(size)]
    best = [0.0] + [float("inf")] * (size - 1)
    for a, b, length in streets:
        edges[a].append((b, length))
        edges[b].append((a, length))
    for _ in range(size):
        for a, b, length in streets:
            best[a], best[b] = min(best[a], best[b] + length), min(best[b], best[a] + length)
    way, before = shortest_ways(edges, 0)
    assert way == [-1 if b == float("inf") else b for b in best]
    for node, previous in enumerate(before):
        assert (previous < 0) == (node == 0 or way[node] < 0)
        if previous >= 0:
            assert (node, way[node] - way[previous]) in edges[previous]


@pytest.mark.parametrize("city", CITIES)
def test_routes_lead_by_street_from_the_kitchen_to_the_customer(city: City) -> None:
    streets = street_network(city, 42)
    assert len(streets.lat) > 2_000
    assert len(set(streets.address)) == len(streets.address)
    assert all(address.endswith(city.place) for address in streets.address)
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


def test_positions_move_from_the_kitchen_to_the_customer() -> None:
    streets = street_network(CHICAGO, 42)
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
