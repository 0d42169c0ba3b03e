from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caspers_lib.agents.refund_policy import OrderFacts, RefundPolicy, refund_answer

POLICY = RefundPolicy()
LATE = OrderFacts(
    location_id=2,
    delivered=True,
    total_minutes=Decimal("50.00"),
    order_total=Decimal("33.30"),
    history_orders=100,
    p75=Decimal("40.00"),
    p99=Decimal("60.00"),
)
minutes = st.decimals(0, 200, places=2)


@st.composite
def known_facts(draw: st.DrawFn) -> OrderFacts:
    p75, p99 = sorted([draw(minutes), draw(minutes)])
    return OrderFacts(
        location_id=draw(st.integers(1, 4)),
        delivered=True,
        total_minutes=draw(minutes | st.sampled_from([p75, p99, 2 * p99])),
        order_total=draw(st.decimals(0, 500, places=2)),
        history_orders=draw(st.integers(0, 400)),
        p75=p75,
        p99=p99,
    )


@given(known_facts())
def test_a_refund_never_exceeds_the_total_and_none_is_given_up_to_p75(facts: OrderFacts) -> None:
    answer = refund_answer(facts, POLICY)
    assert facts.order_total is not None
    assert facts.total_minutes is not None
    assert facts.p75 is not None
    assert 0 <= answer.refund_usd <= facts.order_total
    if facts.total_minutes <= facts.p75 or facts.history_orders < POLICY.min_orders:
        assert answer.refund_class == "none"


@given(known_facts(), st.decimals(0, 100, places=2))
def test_a_longer_wait_never_lowers_the_refund(facts: OrderFacts, more: Decimal) -> None:
    assert facts.total_minutes is not None
    later = replace(facts, total_minutes=facts.total_minutes + more)
    assert refund_answer(later, POLICY).refund_usd >= refund_answer(facts, POLICY).refund_usd


@pytest.mark.parametrize(
    ("took", "refund", "kind"),
    [
        ("40.00", "0.00", "none"),
        ("40.01", "8.33", "partial"),
        ("60.00", "8.33", "partial"),
        ("60.01", "16.65", "partial"),
        ("119.99", "16.65", "partial"),
        ("120.00", "33.30", "full"),
    ],
)
def test_the_share_grows_at_p75_at_p99_and_at_twice_p99(took: str, refund: str, kind: str) -> None:
    answer = refund_answer(replace(LATE, total_minutes=Decimal(took)), POLICY)
    assert (answer.refund_usd, answer.refund_class) == (Decimal(refund), kind)
    assert answer.source == "rules"


def test_half_a_cent_is_rounded_up() -> None:
    answer = refund_answer(replace(LATE, order_total=Decimal("0.02")), POLICY)
    assert answer.refund_usd == Decimal("0.01")


def test_a_refund_that_rounds_to_nothing_is_of_class_none() -> None:
    answer = refund_answer(replace(LATE, order_total=Decimal("0.01")), POLICY)
    assert (answer.refund_usd, answer.refund_class) == (0, "none")


def test_the_reason_cites_the_numbers_that_were_used() -> None:
    reason = refund_answer(LATE, POLICY).reason
    for number in ("50.00 minutes", "P75 40.00", "P99 60.00", "location 2", "25 %", "33.30 USD"):
        assert number in reason


def test_too_short_a_history_is_no_refund_and_says_so() -> None:
    answer = refund_answer(replace(LATE, history_orders=4), POLICY)
    assert (answer.refund_class, answer.source) == ("none", "rules")
    assert "delivered only 4 orders" in answer.reason
    assert "5 are needed" in answer.reason


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ({"delivered": False, "total_minutes": None}, "time of the delivered event"),
        ({"total_minutes": None, "order_total": None}, "when the order was created"),
        ({"order_total": None}, "line items are missing"),
    ],
)
def test_what_is_missing_is_an_error_answer_that_names_it(
    missing: dict[str, None], named: str
) -> None:
    answer = refund_answer(replace(LATE, **missing), POLICY)  # type: ignore[arg-type]
    assert (answer.source, answer.refund_usd, answer.refund_class) == ("error", 0, "none")
    assert named in answer.reason


@pytest.mark.parametrize(
    "figures",
    [
        {"late_share": Decimal("0.6")},
        {"late_share": Decimal(-1)},
        {"very_late_share": Decimal(2)},
        {"full_factor": Decimal("0.5")},
        {"min_orders": 0},
    ],
)
def test_a_policy_with_a_figure_outside_its_range_is_refused(figures: dict[str, Decimal]) -> None:
    with pytest.raises(ValueError, match="must"):
        RefundPolicy(**figures)  # type: ignore[arg-type]
