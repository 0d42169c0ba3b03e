"""The published refund policy, and its answer for one order.

Contract: docs/contracts.md, Agents: no refund at or below P75, never more than the order's total.
`refund_rules.refund_answers` gives the same answers for a whole DataFrame.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from types import MappingProxyType

from caspers_lib.agents.contracts import RefundAnswer, RefundClass

__all__ = [
    "REFUND_REASONS",
    "UNKNOWN_OUTCOMES",
    "OrderFacts",
    "RefundPolicy",
    "percent",
    "refund_answer",
]

CENT = Decimal("0.01")

_TOOK = "Delivered {total_minutes} minutes after it was ordered"
_HISTORY = (
    "location {location_id} (P75 {p75}, P99 {p99}, {history_orders} orders in the 24 hours before"
    " the hour of delivery)"
)

REFUND_REASONS: Mapping[str, str] = MappingProxyType(
    {
        "unreadable_delivery": "The time of the delivered event is missing or can't be read, so"
        " how long the order took is unknown.",
        "unknown_creation": "No event within the 24 hours up to the delivery says when the order"
        " was created, so how long it took is unknown.",
        "unknown_total": _TOOK + ", but its line items are missing, so its total is unknown.",
        "no_history": _TOOK + "; location {location_id} delivered only {history_orders} orders in"
        " the 24 hours before the hour of delivery, and {min_orders} are needed to call an order"
        " late.",
        "on_time": _TOOK + ", not above the P75 of " + _HISTORY + ".",
        "late": _TOOK + ", above the P75 of " + _HISTORY + ": {percent} % of {order_total} USD.",
        "very_late": _TOOK + ", above the P99 of " + _HISTORY + ": {percent} % of {order_total}"
        " USD.",
        "extremely_late": _TOOK + ", at least {full_factor} times the P99 of " + _HISTORY + ":"
        " {percent} % of {order_total} USD.",
    }
)
"""Wording of each outcome's reason; `{...}` names a fact or a figure of the policy."""

UNKNOWN_OUTCOMES = frozenset({"unreadable_delivery", "unknown_creation", "unknown_total"})
"""Outcomes that say what is missing; their answers have source `error`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFacts:
    """What is known about a delivered order; None is unknown.

    Args:
        location_id: the kitchen's location.
        delivered: whether the time of delivery is known.
        total_minutes: minutes from creation to delivery, two decimals, never negative.
        order_total: USD, two decimals.
        history_orders: orders that the location delivered in the 24 hours before the hour of
            delivery.
        p75: 75th percentile of their total minutes, two decimals.
        p99: 99th percentile of their total minutes, two decimals.
    """

    location_id: int | None
    delivered: bool
    total_minutes: Decimal | None
    order_total: Decimal | None
    history_orders: int
    p75: Decimal | None
    p99: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundPolicy:
    """How late an order must be for which share of its total.

    An order above its location's P75 gets `late_share`, above P99 `very_late_share`, and the whole
    total when it took at least `full_factor` times the P99. Amounts are rounded half up to cents.

    Args:
        late_share: share of the total above P75, 0 to 1.
        very_late_share: share of the total above P99, `late_share` to 1.
        full_factor: multiple of P99 from which the whole total is given back, at least 1.
        min_orders: fewer delivered orders than this in the history, and nobody is late; at least 1.

    Raises:
        ValueError: a figure is outside its range.
    """

    late_share: Decimal = Decimal("0.25")
    very_late_share: Decimal = Decimal("0.50")
    full_factor: Decimal = Decimal("2")
    min_orders: int = 5

    def __post_init__(self) -> None:
        """Refuse figures outside their ranges."""
        if not 0 <= self.late_share <= self.very_late_share <= 1:
            raise ValueError("shares must satisfy 0 <= late_share <= very_late_share <= 1")
        if self.full_factor < 1 or self.min_orders < 1:
            raise ValueError("full_factor and min_orders must be at least 1")

    @property
    def shares(self) -> Mapping[str, Decimal]:
        """Share of the total by outcome; outcomes that give nothing are not in it."""
        return {
            "late": self.late_share,
            "very_late": self.very_late_share,
            "extremely_late": Decimal(1),
        }


def percent(share: Decimal) -> str:
    """A share of one as a percentage without trailing zeros."""
    return f"{(share * 100).normalize():f}"


def refund_answer(facts: OrderFacts, policy: RefundPolicy) -> RefundAnswer:
    """The policy's answer for one order.

    Args:
        facts: what is known about the order.
        policy: the shares and limits to apply.

    Returns:
        An answer with source `rules`, or `error` when something needed is missing.
    """
    outcome = _outcome(facts, policy)
    share = policy.shares.get(outcome, Decimal(0))
    paid = max(facts.order_total or Decimal(0), Decimal(0))
    refund = (share * paid).quantize(CENT, ROUND_HALF_UP)
    figures = {
        "total_minutes": facts.total_minutes,
        "location_id": facts.location_id,
        "p75": facts.p75,
        "p99": facts.p99,
        "history_orders": facts.history_orders,
        "order_total": facts.order_total,
        "min_orders": policy.min_orders,
        "full_factor": policy.full_factor,
        "percent": percent(share),
    }
    known = {name: "unknown" if value is None else value for name, value in figures.items()}
    return RefundAnswer(
        refund_usd=refund,
        refund_class=_refund_class(refund, paid),
        reason=REFUND_REASONS[outcome].format(**known),
        source="error" if outcome in UNKNOWN_OUTCOMES else "rules",
    )


def _refund_class(refund: Decimal, paid: Decimal) -> RefundClass:
    if refund == 0:
        return "none"
    return "full" if refund == paid else "partial"


def _outcome(facts: OrderFacts, policy: RefundPolicy) -> str:  # noqa: PLR0911 - a decision list
    if not facts.delivered:
        return "unreadable_delivery"
    if facts.total_minutes is None:
        return "unknown_creation"
    if facts.order_total is None:
        return "unknown_total"
    if facts.p75 is None or facts.p99 is None or facts.history_orders < policy.min_orders:
        return "no_history"
    if facts.total_minutes <= facts.p75:
        return "on_time"
    if facts.total_minutes >= policy.full_factor * facts.p99:
        return "extremely_late"
    return "very_late" if facts.total_minutes > facts.p99 else "late"
