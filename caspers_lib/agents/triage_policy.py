"""The published complaint policy: what each kind of complaint leads to, and in which words.

- Words of illness, allergy, foreign objects, courts, fraud or abuse escalate at once, whatever the
  category.
- A text without a word says nothing: a person reads it.
- A delay is judged by the location's percentiles: above P75 and above P99 a share of the total is
  credited, otherwise 0.00 USD with an explanation. Too short a history is for a person to judge.
- Missing items are credited at their prices, spoiled ones at a share that goes by the words used,
  if the complaint names them as the order does (`Rice` within `Fried Rice` doesn't count when both
  are on the order); otherwise a person decides.
- Service, billing and everything else go to a person.
- Credits are multiples of 0.50 USD, half up, and never above the order's total.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType

from caspers_lib.agents.contracts import Priority
from caspers_lib.agents.refund_policy import percent

__all__ = [
    "CREDIT_STEP",
    "LETTER_OR_DIGIT",
    "OUTCOMES",
    "Outcome",
    "TriagePolicy",
    "credit_shares",
    "plain_words",
    "policy_figures",
    "whole_words",
]

CREDIT_STEP = Decimal("0.50")
"""Credits are multiples of this many USD."""

LETTER_OR_DIGIT = r"[\p{L}\p{N}]"
"""Pattern, in Java's notation, of what a text needs to say anything; Python: `str.isalnum`."""


_HEALTH = (
    r"sick|ill|unwell|vomit\w*|threw up|poison\w*|diarrh\w+|hospital\w*|doctor|allerg\w+"
    r"|anaphyla\w+|hives|hair|insect|bug|cockroach|fly|worm|mouldy?|moldy?|undercooked"
    r"|(piece|shard|splinter|bit)s? of (glass|metal|plastic|wood)"
)
_LEGAL = (
    r"lawyers?|attorney|sue|suing|lawsuit|legal action|small claims"
    r"|health (department|inspector)"
)
_FRAUD = r"fraud\w*|scam\w*|stole|stolen|theft|chargeback|card (was )?(charged|used) without"
_ABUSE = (
    r"threaten\w*|harass\w*|assault\w*|attacked|abus(e|ed|ive)|racist|sexist|slur|groped|unsafe"
    r"|kill|hurt you|burn (it|you|this place)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TriagePolicy:
    """The figures and words of the complaint policy.

    A pattern is a regular expression over `plain_words` of the text: lower-case ASCII letters and
    digits with single blanks between words. It matches whole words.

    Args:
        late_share: share of the order's total for a delivery above P75, 0 to 1.
        very_late_share: share for a delivery above P99, `late_share` to 1.
        mild_share: share of the named items' prices for a mild quality complaint, 0 to 1.
        quality_share: share for any other quality complaint, `mild_share` to 1.
        severe_share: share for a severe one, `quality_share` to 1.
        min_orders: fewer orders than this in the location's history, and a person judges a delay.
        urgent_words: pattern of complaints that can't wait: health, legal, fraud, abuse.
        severe_words: pattern of severe quality complaints.
        mild_words: pattern of mild ones; a text with both is severe.

    Raises:
        ValueError: a figure is outside its range.
    """

    late_share: Decimal = Decimal("0.15")
    very_late_share: Decimal = Decimal("0.30")
    mild_share: Decimal = Decimal("0.25")
    quality_share: Decimal = Decimal("0.50")
    severe_share: Decimal = Decimal("1")
    min_orders: int = 5
    urgent_words: str = f"{_HEALTH}|{_LEGAL}|{_FRAUD}|{_ABUSE}"
    severe_words: str = (
        r"inedible|uneatable|rotten|spoiled|spoilt|rancid|raw|burnt|burned|charred|disgusting"
        r"|threw it (all )?(away|out)|could not (eat|finish)|all over the bag|sour"
    )
    mild_words: str = r"a (bit|little|touch)|slightly|somewhat|lukewarm|rather|not quite|could be"

    def __post_init__(self) -> None:
        """Refuse figures outside their ranges."""
        if not 0 <= self.late_share <= self.very_late_share <= 1:
            raise ValueError("shares must satisfy 0 <= late_share <= very_late_share <= 1")
        if not 0 <= self.mild_share <= self.quality_share <= self.severe_share <= 1:
            raise ValueError(
                "shares must satisfy 0 <= mild_share <= quality_share <= severe_share <= 1"
            )
        if self.min_orders < 1:
            raise ValueError("min_orders must be at least 1")


def plain_words(text: str) -> str:
    """The text's words as patterns see them: lower-case ASCII letters and digits, single blanks.

    Engines of regular expressions differ in what a letter or a word's end is; on this alphabet
    they agree.
    """
    return re.sub("[^a-z0-9]+", " ", text.lower()).strip()


def whole_words(pattern: str) -> str:
    """The pattern for whole words only; what it finds is the first group."""
    return rf"\b({pattern})\b"


def credit_shares(policy: TriagePolicy) -> Mapping[str, tuple[str, Decimal]]:
    """Of what an outcome credits which share: of the order's `total`, or of the named `items`."""
    return {
        "delay_late": ("total", policy.late_share),
        "delay_very_late": ("total", policy.very_late_share),
        "missing_named": ("items", Decimal(1)),
        "quality_mild": ("items", policy.mild_share),
        "quality_named": ("items", policy.quality_share),
        "quality_severe": ("items", policy.severe_share),
    }


def policy_figures(policy: TriagePolicy) -> Mapping[str, str]:
    """The policy's own figures that an outcome's words may name."""
    return {
        "min_orders": str(policy.min_orders),
        "late_percent": percent(policy.late_share),
        "very_late_percent": percent(policy.very_late_share),
        "mild_percent": percent(policy.mild_share),
        "quality_percent": percent(policy.quality_share),
        "severe_percent": percent(policy.severe_share),
    }


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
            rationale="The text speaks of `{urgent_word}`: health, law, fraud or abuse; order total"
            " {order_total} USD.",
            response="Thank you for telling us at once. Somebody with the authority to help will"
            " call you today. If it is about the food, please keep what is left of it.",
            priority="urgent",
        ),
        "vague": Outcome(
            rationale="The text has no word to go by; order total {order_total} USD.",
            response="We got your note but can't tell what went wrong. Could you write us a line"
            " more? One of us will read it.",
            priority="standard",
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
            rationale="The complaint names {item}, listed by the order at {item_price} USD; order"
            " total {order_total} USD.",
            response="We looked at your order: {item} should have been in the bag. We are sorry,"
            " and suggest a credit of {amount} USD.",
            confidence=Decimal("0.90"),
        ),
        "missing_unnamed": Outcome(
            rationale="The complaint names none of the order's {line_count} lines; order total"
            " {order_total} USD.",
            response="We are sorry that something was missing. Could you tell us which dish it"
            " was? One of us will settle it with you.",
            priority="standard",
        ),
        "quality_mild": Outcome(
            rationale="The complaint names {item}, listed by the order at {item_price} USD, in mild"
            " words: {mild_percent} % of it; order total {order_total} USD.",
            response="Thank you for being so fair about {item}. We want it better than that, and"
            " suggest a credit of {amount} USD.",
            confidence=Decimal("0.65"),
        ),
        "quality_severe": Outcome(
            rationale="The complaint names {item}, listed by the order at {item_price} USD, in"
            " severe words: {severe_percent} % of it; order total {order_total} USD.",
            response="Nobody should be served {item} like that, and we are sorry. We suggest a"
            " credit of {amount} USD.",
            confidence=Decimal("0.70"),
        ),
        "quality_named": Outcome(
            rationale="The complaint names {item}, listed by the order at {item_price} USD:"
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
