from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caspers_lib.agents.complaint_draws import (
    complains,
    complaint_category,
    complaint_id,
    draw,
)
from caspers_lib.agents.contracts import CATEGORY_WEIGHTS

IDS = [f"order-{n}" for n in range(20_000)]
NAMESPACE = UUID(int=7)
order_ids = st.text(st.characters(exclude_categories=["Cs"]))


def test_a_draw_is_the_documented_one() -> None:
    # As `printf 3:complains:order-1 | md5sum` says.
    assert draw("complains", "order-1", 3) == 0x9AE05796


@given(order_ids, st.integers())
def test_at_rate_zero_nobody_complains_and_at_rate_one_everybody(order_id: str, seed: int) -> None:
    assert not complains(order_id, 0, seed)
    assert complains(order_id, 1, seed)


@given(order_ids, st.floats(0, 1), st.floats(0, 1))
def test_who_complains_at_a_low_rate_complains_at_a_higher_one(
    order_id: str, one: float, other: float
) -> None:
    low, high = sorted([one, other])
    assert complains(order_id, high, 1) >= complains(order_id, low, 1)


def test_the_sample_is_as_large_as_its_rate_and_another_seed_draws_another() -> None:
    first, second = ({i for i in IDS if complains(i, 0.15, seed)} for seed in (1, 2))
    assert len(first) == pytest.approx(3000, abs=4 * (20_000 * 0.15 * 0.85) ** 0.5)
    assert len(first & second) < len(first) / 3


def test_the_categories_are_drawn_by_their_weights_independently_of_the_sample() -> None:
    complaining = [i for i in IDS if complains(i, 0.5, 1)]
    drawn = [complaint_category(i, 1) for i in complaining]
    for name, weight in CATEGORY_WEIGHTS.items():
        expected, share = len(drawn) * float(weight), float(weight)
        assert drawn.count(name) == pytest.approx(expected, abs=4 * (expected * (1 - share)) ** 0.5)


def test_a_complaint_id_is_repeatable_and_differs_by_order_j6() -> None:
    ids = {complaint_id(i, NAMESPACE) for i in IDS[:1000]}
    assert len(ids) == 1000
    assert ids == {complaint_id(i, NAMESPACE) for i in reversed(IDS[:1000])}
    assert {UUID(i).version for i in ids} == {5}


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_outside_zero_to_one_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="must be between 0 and 1"):
        complains("order-1", rate, 1)
