"""Golden complaints: what is right follows from how they are made, and the rules find it."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from caspers_lib.agents.complaint_draws import complaint_category, complaint_id
from caspers_lib.agents.complaint_texts import complaint_text
from caspers_lib.agents.evaluation.golden_complaints import (
    COMPLAINT_KINDS,
    GoldenComplaint,
    golden_complaints,
    written_complaint,
)
from caspers_lib.agents.evaluation.golden_set import GoldenOrder, Verdict, golden_orders
from caspers_lib.agents.refund_policy import OrderFacts, RefundPolicy
from caspers_lib.agents.triage_answer import OrderLine, complaint_answer
from caspers_lib.agents.triage_policy import TriagePolicy
from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.replay.sample import sample_dataset
from tests.agents.evaluation.golden_events import HOSTILE_DISH, some_orders, write_events

POLICY = TriagePolicy()
FACTS = OrderFacts(
    location_id=2,
    delivered=True,
    total_minutes=Decimal("61.05"),
    order_total=Decimal("20.30"),
    history_orders=80,
    p75=Decimal("40.00"),
    p99=Decimal("60.00"),
)
UNKNOWN = replace(FACTS, total_minutes=None, order_total=None)


def golden_order(order_id: str, facts: OrderFacts, *dishes: str) -> GoldenOrder:
    lines = tuple(OrderLine(item_name=dish, price=Decimal("7.30")) for dish in dishes)
    return GoldenOrder(
        order_id=order_id,
        facts=facts,
        p50=None,
        lines=lines,
        street="5 Elm Street",
        expected=Verdict(decision="none", usd=Decimal(0)),
    )


def all_kinds(facts: OrderFacts, *dishes: str) -> dict[str, GoldenComplaint]:
    """A case of each kind that comes about for such orders."""
    orders = [golden_order(f"o-{n}", facts, *dishes) for n in range(400)]
    others = golden_order("others", facts, "Lentil Stew", "Bug Juice")
    return {case.kind: case for case in golden_complaints([*orders, others], POLICY)[:-1]}


def answered(case: GoldenComplaint) -> Verdict:
    answer = complaint_answer(case.complaint, case.order.facts, case.order.lines, POLICY)
    if answer.source == "error":
        return Verdict(decision="error")
    return Verdict(decision=answer.decision, usd=answer.credit_amount, priority=answer.priority)


def test_each_kind_comes_about_and_the_rules_answer_every_case_rightly() -> None:
    cases = golden_complaints(golden_orders(sample_dataset(), RefundPolicy()), POLICY)
    assert {case.kind for case in cases} == set(COMPLAINT_KINDS)
    assert len({case.key for case in cases}) == len(cases) == 1655
    assert [case for case in cases if not case.expected.allows(answered(case))] == []


def test_hostile_and_odd_orders_are_answered_rightly_too(tmp_path: Path) -> None:
    path = write_events(tmp_path / "events.parquet", some_orders())
    cases = golden_complaints(golden_orders(path, RefundPolicy()), POLICY)
    assert [case for case in cases if not case.expected.allows(answered(case))] == []
    assert any(HOSTILE_DISH in (case.complaint.text or "") for case in cases)
    assert any(case.expected.decision == "error" for case in cases)


@pytest.mark.parametrize(
    ("kind", "decision", "usd", "priority"),
    [
        ("delay", "suggest_credit", "6.00", None),
        ("missing dish", "suggest_credit", "7.50", None),
        ("missing dish of another order", "escalate", None, "standard"),
        ("missing, unnamed", "escalate", None, "standard"),
        ("quality, severe", "suggest_credit", "7.50", None),
        ("quality, usual", "suggest_credit", "3.50", None),
        ("quality, mild", "suggest_credit", "2.00", None),
        ("quality, unnamed", "escalate", None, "standard"),
        ("service", "escalate", None, "high"),
        ("billing", "escalate", None, "high"),
        ("other", "escalate", None, "standard"),
        ("urgent", "escalate", None, "urgent"),
        ("vague", "escalate", None, "standard"),
    ],
)
def test_what_is_right_follows_from_the_kind(
    kind: str, decision: str, usd: str | None, priority: str | None
) -> None:
    expected = all_kinds(FACTS, "Noodle Bowl", "Soup")[kind].expected
    assert expected.decision == decision
    assert expected.usd == (None if usd is None else Decimal(usd))
    assert expected.priority == priority


@pytest.mark.parametrize(
    ("took", "usd"),
    [("40.00", "0.00"), ("40.01", "3.00"), ("60.00", "3.00"), ("60.01", "6.00")],
)
def test_a_delay_is_credited_by_the_location_s_percentiles(took: str, usd: str) -> None:
    late = all_kinds(replace(FACTS, total_minutes=Decimal(took)), "Soup")["delay"]
    assert late.expected == Verdict(decision="suggest_credit", usd=Decimal(usd))
    assert f"{took[:2]} minutes" in (late.complaint.text or "")


def test_a_delay_without_a_history_is_for_a_person() -> None:
    case = all_kinds(replace(FACTS, history_orders=4), "Soup")["delay"]
    assert case.expected == Verdict(decision="escalate", priority="standard")


def test_a_credit_is_never_above_what_the_order_s_total_covers() -> None:
    cases = all_kinds(replace(FACTS, order_total=Decimal("7.30")), "Soup")
    assert cases["missing dish"].expected.usd == Decimal("7.00")


def test_an_order_of_which_something_is_unknown_can_only_be_judged_without_its_facts() -> None:
    cases = all_kinds(UNKNOWN)
    errors = {kind for kind, case in cases.items() if case.expected.decision == "error"}
    assert errors == {
        "delay", "missing dish of another order", "missing, unnamed", "quality, unnamed",
    }  # fmt: skip
    assert all(case.expected.allows(answered(case)) for case in cases.values())


@pytest.mark.parametrize(
    "dishes",
    [
        ("Rice", "Fried Rice"),
        ("Soup", "Soup"),
        ("bag",),
        ("a", "e", " "),
        ("?!", "..."),
        ("Sick Puppy Bug Soup", "Slightly Rotten Egg"),
        ("",),
    ],
)
def test_dishes_that_leave_a_doubt_are_not_named(dishes: tuple[str, ...]) -> None:
    cases = all_kinds(FACTS, *dishes)
    assert "service" in cases
    assert [case for case in cases.values() if not case.expected.allows(answered(case))] == []


def test_a_dish_of_another_order_is_no_dish_of_this_one_and_no_word_of_danger() -> None:
    text = all_kinds(FACTS, "Soup")["missing dish of another order"].complaint.text
    assert "Lentil Stew" in (text or "")


def test_the_same_seed_makes_the_same_complaints_and_another_one_others() -> None:
    orders = golden_orders(sample_dataset(), RefundPolicy(), orders=100)
    first = golden_complaints(orders, POLICY, seed=1)
    assert golden_complaints(orders, POLICY, seed=1) == first
    assert golden_complaints(orders, POLICY, seed=2) != first


def test_a_complaint_of_the_live_business_has_its_id_and_words() -> None:
    verdict = Verdict(decision="suggest_credit", usd=Decimal("3.00"))
    for order_id in (f"O{n}" for n in range(50)):
        case = written_complaint(golden_order(order_id, FACTS, "Soup", "Rice"), 42, verdict)
        assert case.complaint_id == complaint_id(order_id, GHOST_KITCHEN.namespace)
        assert case.complaint.category == complaint_category(order_id, 42)
        assert case.complaint.text == complaint_text(
            order_id,
            42,
            dishes=["Soup", "Rice"],
            total_minutes=Decimal("61.05"),
            street="5 Elm Street",
        )
        assert (case.expected, case.is_labelled) == (verdict, True)
