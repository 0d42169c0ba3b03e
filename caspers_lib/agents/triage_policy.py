"""The published complaint policy: what each kind of complaint leads to, and in which words.

- Words of illness, allergy or foreign objects escalate at once, whatever the category.
- A delay is judged by the location's percentiles: above P75 and above P99 a share of the total is
  credited, otherwise 0.00 USD with an explanation. Too short a history is for a person to judge.
- A missing item is credited at its price, a spoiled one at a share of it, if the complaint names
  it as the order does (the longest such name counts); otherwise a person decides.
- Service, billing and everything else go to a person.
- Credits are multiples of 0.50 USD, half up, and never above the order's total.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType

from caspers_lib.agents.contracts import Priority

__all__ = ["CREDIT_STEP", "OUTCOMES", "Outcome", "TriagePolicy"]

CREDIT_STEP = Decimal("0.50")
"""Credits are multiples of this many USD."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TriagePolicy:
    """The figures of the complaint policy.

    Args:
        late_share: share of the order's total for a delivery above P75, 0 to 1.
        very_late_share: share for a delivery above P99, `late_share` to 1.
        quality_share: share of the named item's price for a quality complaint, 0 to 1.
        min_orders: fewer orders than this in the location's history, and a person judges a delay.
        urgent_pattern: regular expression, over the text in lower case, of complaints that can't
            wait.

    Raises:
        ValueError: a figure is outside its range.
    """

    late_share: Decimal = Decimal("0.15")
    very_late_share: Decimal = Decimal("0.30")
    quality_share: Decimal = Decimal("0.50")
    min_orders: int = 5
    urgent_pattern: str = (
        r"\b(sick|ill|unwell|vomit\w*|threw up|poison\w*|diarrh\w+|hospital\w*|doctor"
        r"|allerg\w+|anaphyla\w+|hives|hair|insect|bug|cockroach|fly|worm|mouldy?|moldy?"
        r"|undercooked|(piece|shard|splinter|bit)s? of (glass|metal|plastic|wood))\b"
    )

    def __post_init__(self) -> None:
        """Refuse figures outside their ranges."""
        if not 0 <= self.late_share <= self.very_late_share <= 1:
            raise ValueError("shares must satisfy 0 <= late_share <= very_late_share <= 1")
        if not 0 <= self.quality_share <= 1 or self.min_orders < 1:
            raise ValueError("quality_share must be within 0..1 and min_orders at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One way a complaint can go.

    Args:
        rationale: for the person who decides; `{...}` names a figure.
        response: a draft for the customer; `{...}` names a figure.
        confidence: of a suggested credit, 0 to 1; None when a person has to decide.
        priority: of an escalation; None when a credit is suggested.
        error: whether something that was needed is missing.
    """

    rationale: str
    response: str
    confidence: Decimal | None = None
    priority: Priority | None = None
    error: bool = False


_USUAL = (
    "location {location_id} (P75 {p75}, P99 {p99} minutes, {history_orders} orders in the 24 hours"
    " before the hour of delivery)"
)

OUTCOMES: Mapping[str, Outcome] = MappingProxyType(
    {
        "safety": Outcome(
            rationale="The text speaks of illness, an allergy or something that does not belong in"
            " food; order total {order_total} USD.",
            response="Thank you for telling us at once. Somebody from our kitchen team will"
            " call you today; please keep what is left of the food.",
            priority="urgent",
        ),
        "unknown_order": Outcome(
            rationale="No creation, delivery or line items were found for this order, so there is"
            " nothing to judge the complaint by.",
            response="Thank you for writing. We could not look up your order right away, so one"
            " of us is doing it by hand and will get back to you.",
            priority="standard",
            error=True,
        ),
        "delay_unjudged": Outcome(
            rationale="Delivered after {total_minutes} minutes; location {location_id} has only"
            " {history_orders} orders in the 24 hours before the hour of delivery, and {min_orders}"
            " are needed to call it late.",
            response="Sorry about the wait of {total_minutes} minutes. One of us is looking at"
            " what happened and will write to you.",
            priority="standard",
        ),
        "delay_very_late": Outcome(
            rationale="Delivered after {total_minutes} minutes, above the P99 of " + _USUAL + ":"
            " {very_late_percent} % of {order_total} USD.",
            response="{total_minutes} minutes is far from what we promise, and we are sorry."
            " We suggest a credit of {amount} USD.",
            confidence=Decimal("0.90"),
        ),
        "delay_late": Outcome(
            rationale="Delivered after {total_minutes} minutes, above the P75 of " + _USUAL + ":"
            " {late_percent} % of {order_total} USD.",
            response="Your order took {total_minutes} minutes, slower than it should be. Sorry!"
            " We suggest a credit of {amount} USD.",
            confidence=Decimal("0.75"),
        ),
        "delay_on_time": Outcome(
            rationale="Delivered after {total_minutes} minutes, not above the P75 of "
            + _USUAL
            + ": no credit.",
            response="We checked: your order was with you after {total_minutes} minutes, which is"
            " usual for that kitchen at that hour. We know waiting hungry is no fun, and pass"
            " your note on.",
            confidence=Decimal("0.80"),
        ),
        "missing_named": Outcome(
            rationale="The complaint names {item}, which the order lists at {item_price} USD; order"
            " total {order_total} USD.",
            response="{item} should have been in your bag, and we are sorry that it was not. We"
            " suggest a credit of {amount} USD.",
            confidence=Decimal("0.90"),
        ),
        "missing_unnamed": Outcome(
            rationale="The complaint names none of the order's {line_count} lines; order total"
            " {order_total} USD.",
            response="We are sorry that something was missing. Could you tell us which dish it"
            " was? One of us will settle it with you.",
            priority="standard",
        ),
        "quality_named": Outcome(
            rationale="The complaint names {item}, which the order lists at {item_price} USD:"
            " {quality_percent} % of it; order total {order_total} USD.",
            response="That is not how {item} leaves our kitchen on a good day. Sorry! We suggest a"
            " credit of {amount} USD.",
            confidence=Decimal("0.60"),
        ),
        "quality_unnamed": Outcome(
            rationale="A quality complaint that names none of the order's {line_count} lines; order"
            " total {order_total} USD.",
            response="We are sorry that your meal let you down. Could you tell us which dish it"
            " was? One of us will settle it with you.",
            priority="standard",
        ),
        "service": Outcome(
            rationale="How people behaved can't be read from the order's data; order total"
            " {order_total} USD.",
            response="That is not how we want anybody to be treated. One of us will talk to the"
            " people involved and come back to you.",
            priority="high",
        ),
        "billing": Outcome(
            rationale="A question of payment; the order's lines add up to {order_total} USD.",
            response="Thank you for checking your bill. One of us will go through the charge line"
            " by line and write to you.",
            priority="high",
        ),
        "other": Outcome(
            rationale="No rule covers this complaint; order total {order_total} USD.",
            response="Thank you for taking the time to write. One of us will read this properly"
            " and answer you.",
            priority="standard",
        ),
    }
)
"""Every outcome of the rules; what isn't known is written as `unknown`."""
