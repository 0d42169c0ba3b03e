"""Complaints about golden orders whose right answer follows from how they are made.

Contract: DESIGN section 7. A case says one thing in words that leave no doubt, so that what is
right is known without reading the text: `triage_answer` is not asked. Credits are counted in halves
of a USD. Which order complains in which way is drawn as in `complaint_draws`.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType

from caspers_lib.agents.complaint_draws import complaint_category, complaint_id, draw
from caspers_lib.agents.complaint_texts import UNKNOWN_WAIT, complaint_text
from caspers_lib.agents.contracts import Priority
from caspers_lib.agents.evaluation.golden_set import GOLDEN_SEED, GoldenOrder, Verdict
from caspers_lib.agents.refund_policy import OrderFacts
from caspers_lib.agents.triage_answer import Complaint, OrderLine
from caspers_lib.agents.triage_policy import TriagePolicy, plain_words, whole_words
from caspers_lib.domain import GHOST_KITCHEN, Domain

__all__ = ["COMPLAINT_KINDS", "GoldenComplaint", "golden_complaints", "written_complaint"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenComplaint:
    """A complaint and what is right for it.

    Args:
        complaint_id: identifies it.
        kind: how it was made, one of `COMPLAINT_KINDS`; `written` for one of the live business.
        complaint: what the customer wrote.
        order: the order complained about.
        expected: the decision with its amount or priority.
        is_labelled: whether a person has decided it.
    """

    complaint_id: str
    kind: str
    complaint: Complaint
    order: GoldenOrder
    expected: Verdict
    is_labelled: bool = False

    @property
    def key(self) -> str:
        """Identifies the case."""
        return self.complaint_id

    @property
    def order_id(self) -> str:
        """The order complained about."""
        return self.order.order_id


_Said = tuple[str, str]
"""A category and a text; `{wait}` and `{dish}` are places."""

_SAID: Mapping[str, tuple[_Said, ...]] = MappingProxyType(
    {
        "delay": (
            ("delivery_delay", "From order to door it took {wait}."),
            ("delivery_delay", "We waited {wait} for our dinner."),
        ),
        "missing dish": (
            ("missing_items", "I paid for {dish} and it was not in the bag."),
            ("missing_items", "Everything else came, only {dish} is missing."),
        ),
        "missing dish of another order": (
            ("missing_items", "I paid for {dish} and it was not in the bag."),
        ),
        "missing, unnamed": (("missing_items", "Part of what I ordered did not arrive."),),
        "quality, severe": (
            ("food_quality", "{dish} was rotten."),
            ("food_quality", "{dish} was burnt, we threw it out."),
        ),
        "quality, mild": (
            ("food_quality", "{dish} was slightly too salty."),
            ("food_quality", "{dish} was a bit dry."),
        ),
        "quality, usual": (
            ("food_quality", "{dish} arrived cold and had gone limp."),
            ("food_quality", "{dish} had no taste at all."),
        ),
        "quality, unnamed": (("food_quality", "The whole meal was cold."),),
        "service": (
            ("service_issue", "The driver was rude when I asked about the drinks."),
            ("service_issue", "The driver left our dinner at the wrong entrance."),
        ),
        "billing": (("billing", "The sum on my receipt is not the one in the app."),),
        "other": (("other", "Please use less plastic."),),
        "urgent": (
            ("food_quality", "I felt sick an hour after the meal."),
            ("food_quality", "My son is allergic and was taken to hospital."),
            ("delivery_delay", "It took {wait}. You will hear from my lawyer."),
            ("billing", "I never ordered this. That is fraud."),
            ("service_issue", "The driver threatened my neighbour."),
        ),
        "vague": (
            ("delivery_delay", "?!"),
            ("missing_items", "..."),
            ("food_quality", ":-("),
        ),
    }
)

COMPLAINT_KINDS = tuple(_SAID)
"""The ways in which complaints are made."""

_ESCALATED: Mapping[str, Priority] = MappingProxyType(
    {
        "missing dish of another order": "standard",
        "missing, unnamed": "standard",
        "quality, unnamed": "standard",
        "service": "high",
        "billing": "high",
        "other": "standard",
        "urgent": "urgent",
        "vague": "standard",
    }
)
"""Kinds that a person decides."""

_NEEDS_FACTS = frozenset(
    {"delay", "missing dish of another order", "missing, unnamed", "quality, unnamed"}
)
"""Kinds that can't be judged where something about the order is unknown."""

_NAMES_A_LINE = frozenset({"missing dish", "quality, severe", "quality, mild", "quality, usual"})
"""Kinds that name one of the order's dishes; its price is what is credited a share of."""

_NAMES_ANOTHER = "missing dish of another order"

_FALLBACK = "service"
"""A kind that every order can have: what it says of dishes and minutes doesn't matter."""


def golden_complaints(
    orders: Sequence[GoldenOrder], policy: TriagePolicy, *, seed: int = GOLDEN_SEED
) -> tuple[GoldenComplaint, ...]:
    """A complaint about each of the orders, in their order.

    Args:
        orders: as `golden_set.golden_orders` makes them; dishes of other orders are theirs.
        policy: the complaint policy.
        seed: another seed makes other complaints.

    Returns:
        A case an order. An order on which no dish can be told from the others, or whose dishes
        are named like words of a text, gets one of a kind that names none.
    """
    dishes = sorted({line.item_name or "" for order in orders for line in order.lines} - {""})
    urgent = re.compile(whole_words(policy.urgent_words))
    harmless = [dish for dish in dishes if not urgent.search(plain_words(dish))]
    return tuple(_complaint(order, harmless, policy, seed) for order in orders)


def written_complaint(
    order: GoldenOrder, seed: int, expected: Verdict, domain: Domain = GHOST_KITCHEN
) -> GoldenComplaint:
    """The complaint that the live business writes about an order, for a verdict of a person.

    Args:
        order: the order.
        seed: the seed of the live business's complaints.
        expected: what the person decided.
        domain: gives the namespace of complaint_id.
    """
    order_id = order.order_id
    text = complaint_text(
        order_id,
        seed,
        dishes=[line.item_name for line in order.lines],
        total_minutes=order.facts.total_minutes,
        street=order.street,
    )
    category = complaint_category(order_id, seed)
    return GoldenComplaint(
        complaint_id=complaint_id(order_id, domain.namespace),
        kind="written",
        complaint=Complaint(order_id=order_id, category=category, text=text),
        order=order,
        expected=expected,
        is_labelled=True,
    )


def _complaint(
    order: GoldenOrder, dishes: Sequence[str], policy: TriagePolicy, seed: int
) -> GoldenComplaint:
    kind = COMPLAINT_KINDS[draw("golden_kind", order.order_id, seed) % len(COMPLAINT_KINDS)]
    category, words = _SAID[kind][draw("golden_text", order.order_id, seed) % len(_SAID[kind])]
    line = _drawn_line(order, seed) if kind in _NAMES_A_LINE else None
    other = _dish_of_others(order, dishes, seed) if kind == _NAMES_ANOTHER else None
    dish = (line.item_name if line else other) or ""
    text = words.replace("{wait}", _wait(order.facts)).replace("{dish}", dish)
    # Where a dish is called `bag`, words may name it by chance, and nobody knows what is meant.
    in_doubt = _named(text, order.lines) != ([line] if line else [])
    if in_doubt or ("{dish}" in words and not dish):
        kind, line, (category, text) = _FALLBACK, None, _SAID[_FALLBACK][0]
    return GoldenComplaint(
        complaint_id=f"{order.order_id}/{kind}",
        kind=kind,
        complaint=Complaint(order_id=order.order_id, category=category, text=text),
        order=order,
        expected=_expected(kind, order.facts, line, policy),
    )


def _expected(
    kind: str, facts: OrderFacts, line: OrderLine | None, policy: TriagePolicy
) -> Verdict:
    total, minutes = facts.order_total, facts.total_minutes
    priority = _ESCALATED.get(kind)
    if priority and kind not in _NEEDS_FACTS:
        return Verdict(decision="escalate", priority=priority)
    if total is None or minutes is None:
        return Verdict(decision="error")
    if priority:
        return Verdict(decision="escalate", priority=priority)
    if line is not None:
        return _credit((line.price or Decimal(0)) * _share_of_price(kind, policy), total)
    if facts.p75 is None or facts.p99 is None or facts.history_orders < policy.min_orders:
        return Verdict(decision="escalate", priority="standard")
    late, very_late = minutes > facts.p75, minutes > facts.p99
    share = policy.very_late_share if very_late else policy.late_share if late else Decimal(0)
    return _credit(total * share, total)


def _share_of_price(kind: str, policy: TriagePolicy) -> Decimal:
    return {
        "missing dish": Decimal(1),
        "quality, severe": policy.severe_share,
        "quality, mild": policy.mild_share,
        "quality, usual": policy.quality_share,
    }[kind]


def _credit(usd: Decimal, total: Decimal) -> Verdict:
    """A credit of so much, in halves of a USD, half up, as far as the order's total covers it."""
    halves = math.floor(Fraction(usd) * 2 + Fraction(1, 2))
    covered = math.floor(Fraction(total) * 2)
    cents = min(halves, covered) * 50
    return Verdict(decision="suggest_credit", usd=Decimal(cents).scaleb(-2))


def _drawn_line(order: GoldenOrder, seed: int) -> OrderLine | None:
    lines = order.lines
    return lines[draw("golden_dish", order.order_id, seed) % len(lines)] if lines else None


def _dish_of_others(order: GoldenOrder, dishes: Sequence[str], seed: int) -> str | None:
    """A dish that the order hasn't, and whose name is no part of one that it has."""
    own = [(line.item_name or "").lower() for line in order.lines]
    start = draw("golden_dish", order.order_id, seed) % max(len(dishes), 1)
    others = (dishes[(start + step) % len(dishes)] for step in range(len(dishes)))
    return next(
        (dish for dish in others if not any(dish.lower() in name for name in own)),
        None,
    )


def _named(text: str, lines: Sequence[OrderLine]) -> list[OrderLine]:
    """The lines whose dish the text names, be it as a part of another name."""
    return [line for line in lines if (line.item_name or "").lower() in text.lower()]


def _wait(facts: OrderFacts) -> str:
    minutes = facts.total_minutes
    return UNKNOWN_WAIT if minutes is None else f"{math.floor(minutes)} minutes"
