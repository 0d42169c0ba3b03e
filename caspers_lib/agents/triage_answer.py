"""The complaint policy's answer to one complaint.

Contract: docs/contracts.md, Agents. `triage.complaint_responses` gives the same answers for a whole
DataFrame.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, ROUND_HALF_UP, Decimal
from typing import cast, get_args

from caspers_lib.agents.contracts import ComplaintAnswer, ComplaintCategory
from caspers_lib.agents.refund_policy import OrderFacts
from caspers_lib.agents.triage_policy import (
    CREDIT_STEP,
    OUTCOMES,
    TriagePolicy,
    credit_shares,
    plain_words,
    policy_figures,
    whole_words,
)

__all__ = ["Complaint", "OrderLine", "complaint_answer"]

_CENTS = Decimal("0.01")


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderLine:
    """A line of an order; None is unknown.

    Args:
        item_name: the dish.
        price: USD for one, two decimals.
    """

    item_name: str | None
    price: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """What a customer wrote about an order.

    Args:
        order_id: the order.
        category: what it is about; anything that is no `ComplaintCategory` counts as `other`.
        text: the customer's words.
    """

    order_id: str
    category: str | None
    text: str | None

    @property
    def known_category(self) -> ComplaintCategory:
        """The category that the complaint is handled as."""
        known = self.category in get_args(ComplaintCategory)
        return cast("ComplaintCategory", self.category) if known else "other"


def complaint_answer(
    complaint: Complaint,
    facts: OrderFacts | None,
    lines: Sequence[OrderLine],
    policy: TriagePolicy,
) -> ComplaintAnswer:
    """The policy's answer to one complaint.

    Args:
        complaint: what the customer wrote.
        facts: what is known about the order; None if it isn't found.
        lines: the order's lines; empty where they aren't known.
        policy: the shares, limits and words to apply.

    Returns:
        An answer with source `rules`, or `error` when the order isn't known.
    """
    text = (complaint.text or "").lower()
    named = _named_lines(text, lines)
    words = _words(text, named)
    outcome_name = _outcome(complaint.known_category, text, words, facts, bool(named), policy)
    outcome = OUTCOMES[outcome_name]
    total = facts.order_total if facts else None
    amount = _amount(outcome_name, total, named, policy)
    urgent = re.search(whole_words(policy.urgent_words), words)
    figures: dict[str, object] = {
        "location_id": facts.location_id if facts else None,
        "total_minutes": facts.total_minutes if facts else None,
        "order_total": total,
        "p75": facts.p75 if facts else None,
        "p99": facts.p99 if facts else None,
        "history_orders": facts.history_orders if facts else None,
        "amount": amount,
        "item": ", ".join(line.item_name or "" for line in named),
        "item_price": _named_price(named),
        "urgent_word": urgent[1] if urgent else "",
        "line_count": len(lines),
    }
    known = {name: "unknown" if value is None else value for name, value in figures.items()}
    known |= policy_figures(policy)
    return ComplaintAnswer(
        order_id=complaint.order_id,
        complaint_category=complaint.known_category,
        decision="escalate" if outcome.priority else "suggest_credit",
        credit_amount=None if outcome.priority else amount,
        confidence=outcome.confidence,
        priority=outcome.priority,
        rationale=outcome.rationale.format(**known),
        customer_response=outcome.response.format(**known),
        source="error" if outcome.error else "rules",
    )


def _named_lines(text: str, lines: Sequence[OrderLine]) -> list[OrderLine]:
    """The lines whose dish the text names, without those that are a part of another named one."""
    named = [
        line
        for line in lines
        if line.item_name and line.price is not None and line.item_name.lower() in text
    ]
    names = {(line.item_name or "").lower() for line in named}

    def stands_alone(line: OrderLine) -> bool:
        name = (line.item_name or "").lower()
        return not any(name in other and name != other for other in names)

    return [line for line in named if stands_alone(line)]


def _words(text: str, named: Sequence[OrderLine]) -> str:
    for line in named:
        text = text.replace((line.item_name or "").lower(), " ")
    return plain_words(text)


def _outcome(  # noqa: PLR0911 - a decision list
    category: ComplaintCategory,
    text: str,
    words: str,
    facts: OrderFacts | None,
    named: bool,
    policy: TriagePolicy,
) -> str:
    if re.search(whole_words(policy.urgent_words), words):
        return "safety"
    if not any(character.isalnum() for character in text):
        return "vague"
    by_person = {"service_issue": "service", "billing": "billing", "other": "other"}
    if category in by_person:
        return by_person[category]
    if facts is None or facts.order_total is None or facts.total_minutes is None:
        return "unknown_order"
    if category == "delivery_delay":
        return _delay(facts.total_minutes, facts, policy)
    if category == "missing_items":
        return "missing_named" if named else "missing_unnamed"
    if not named:
        return "quality_unnamed"
    if re.search(whole_words(policy.severe_words), words):
        return "quality_severe"
    return "quality_mild" if re.search(whole_words(policy.mild_words), words) else "quality_named"


def _delay(minutes: Decimal, facts: OrderFacts, policy: TriagePolicy) -> str:
    if facts.p75 is None or facts.p99 is None or facts.history_orders < policy.min_orders:
        return "delay_unjudged"
    if minutes > facts.p99:
        return "delay_very_late"
    return "delay_late" if minutes > facts.p75 else "delay_on_time"


def _amount(
    outcome: str, total: Decimal | None, named: Sequence[OrderLine], policy: TriagePolicy
) -> Decimal:
    """The credit in USD: a multiple of `CREDIT_STEP` that the order's total covers."""
    paid = max(total or Decimal(0), Decimal(0))
    of, share = credit_shares(policy).get(outcome, ("total", Decimal(0)))
    base = paid if of == "total" else max(_named_price(named), Decimal(0))
    steps = (base * share / CREDIT_STEP).quantize(Decimal(1), ROUND_HALF_UP)
    covered = (paid / CREDIT_STEP).quantize(Decimal(1), ROUND_FLOOR)
    return (min(steps, covered) * CREDIT_STEP).quantize(_CENTS)


def _named_price(named: Sequence[OrderLine]) -> Decimal:
    return sum((line.price or Decimal(0) for line in named), Decimal("0.00"))
