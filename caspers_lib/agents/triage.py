"""Answers to complaints by the published policy, in column expressions.

Contract: DESIGN section 7; `triage_policy` says what leads to what. Complaint texts and dish names
are compared and joined as data, never read as patterns or templates.
"""

from decimal import Decimal
from typing import get_args

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from caspers_lib.agents.contracts import ComplaintCategory
from caspers_lib.agents.refund_policy import percent
from caspers_lib.agents.triage_policy import CREDIT_STEP, OUTCOMES, TriagePolicy
from caspers_lib.agents.wording import filled

__all__ = ["complaint_responses"]

_USD = "DECIMAL(22,2)"
_SHARE = "DECIMAL(5,4)"


def complaint_responses(complaints: DataFrame, facts: DataFrame, policy: TriagePolicy) -> DataFrame:
    """One response per complaint.

    Args:
        complaints: complaint_id, order_id, ts, complaint_category, complaint_text, each
            complaint_id once.
        facts: as `facts.order_facts` makes them, each order_id once; an order that isn't in it
            counts as not found.
        policy: the shares and limits to apply.

    Returns:
        complaint_id STRING, order_id STRING, ts TIMESTAMP, agent_response STRING (JSON of
        `contracts.ComplaintAnswer`).
    """
    joined = complaints.join(facts, "order_id", "left")
    named = joined.select("*", _category().alias("category"), _named_line().alias("named"))
    judged = named.select("*", _outcome(policy).alias("outcome"))
    priced = judged.select("*", _amount(policy).alias("amount"))
    answer = F.struct(
        "order_id",
        F.col("category").alias("complaint_category"),
        _by_outcome({n: F.lit(_decision(n)) for n in OUTCOMES}).alias("decision"),
        F.when(_credited(), F.col("amount")).alias("credit_amount"),
        _by_outcome({n: _literal(o.confidence) for n, o in OUTCOMES.items()}).alias("confidence"),
        _by_outcome({n: _literal(o.priority) for n, o in OUTCOMES.items()}).alias("priority"),
        _words("rationale", policy).alias("rationale"),
        _words("response", policy).alias("customer_response"),
        _by_outcome({n: F.lit("error" if o.error else "rules") for n, o in OUTCOMES.items()}).alias(
            "source"
        ),
    )
    return priced.select(
        "complaint_id",
        "order_id",
        "ts",
        F.to_json(answer, {"ignoreNullFields": "false"}).alias("agent_response"),
    )


def _category() -> Column:
    category = F.col("complaint_category")
    return F.when(category.isin(*get_args(ComplaintCategory)), category).otherwise("other")


def _named_line() -> Column:
    """The order's line whose dish name stands in the text; of several the longest name."""
    text = F.lower(F.coalesce("complaint_text", F.lit("")))

    def is_named(line: Column) -> Column:
        name = F.coalesce(line["item_name"], F.lit(""))
        return (name != "") & line["price"].isNotNull() & F.contains(text, F.lower(name))

    def ranked(line: Column) -> Column:
        return F.struct(
            F.length(line["item_name"]).alias("length"),
            line["item_name"].alias("item_name"),
            line["price"].alias("price"),
        )

    return F.array_max(F.transform(F.filter("lines", is_named), ranked))


def _outcome(policy: TriagePolicy) -> Column:
    minutes, p75, p99 = F.col("total_minutes"), F.col("p75"), F.col("p99")
    category, named = F.col("category"), F.col("named").isNotNull()
    text = F.lower(F.coalesce("complaint_text", F.lit("")))
    delay = category == "delivery_delay"
    too_few = p75.isNull() | p99.isNull() | (F.col("history_orders") < policy.min_orders)
    unknown = F.col("order_total").isNull() | minutes.isNull()
    return (
        F.when(text.rlike(policy.urgent_pattern), "safety")
        .when(category == "service_issue", "service")
        .when(category == "billing", "billing")
        .when(category == "other", "other")
        .when(unknown, "unknown_order")
        .when(delay & too_few, "delay_unjudged")
        .when(delay & (minutes > p99), "delay_very_late")
        .when(delay & (minutes > p75), "delay_late")
        .when(delay, "delay_on_time")
        .when(
            category == "missing_items", F.when(named, "missing_named").otherwise("missing_unnamed")
        )
        .otherwise(F.when(named, "quality_named").otherwise("quality_unnamed"))
    )


def _amount(policy: TriagePolicy) -> Column:
    """The credit in USD: a multiple of `CREDIT_STEP` that the order's total covers."""
    total = F.greatest(F.col("order_total"), F.lit(Decimal(0))).cast(_USD)
    price = F.greatest(F.col("named")["price"], F.lit(Decimal(0))).cast(_USD)
    steps = _by_outcome(
        {
            "delay_very_late": _steps(total, policy.very_late_share),
            "delay_late": _steps(total, policy.late_share),
            "missing_named": _steps(price, Decimal(1)),
            "quality_named": _steps(price, policy.quality_share),
        }
    )
    covered = F.floor(total / F.lit(CREDIT_STEP)).cast("DECIMAL(24,0)")
    capped = F.least(F.coalesce(steps, F.lit(Decimal(0))), covered)
    return (capped * F.lit(CREDIT_STEP)).cast(_USD)


def _steps(usd: Column, share: Decimal) -> Column:
    """How many steps of credit a share of an amount is, half up."""
    return F.round(usd * F.lit(share).cast(_SHARE) / F.lit(CREDIT_STEP), 0).cast("DECIMAL(24,0)")


def _words(part: str, policy: TriagePolicy) -> Column:
    figures = (
        "location_id",
        "total_minutes",
        "order_total",
        "p75",
        "p99",
        "history_orders",
        "amount",
    )
    values = {name: F.col(name) for name in figures} | {
        "item": F.col("named")["item_name"],
        "item_price": F.col("named")["price"],
        "line_count": F.coalesce(F.size("lines"), F.lit(0)),
        "min_orders": F.lit(policy.min_orders),
        "late_percent": F.lit(percent(policy.late_share)),
        "very_late_percent": F.lit(percent(policy.very_late_share)),
        "quality_percent": F.lit(percent(policy.quality_share)),
    }
    return _by_outcome({n: filled(getattr(o, part), values) for n, o in OUTCOMES.items()})


def _decision(outcome: str) -> str:
    return "escalate" if OUTCOMES[outcome].priority else "suggest_credit"


def _credited() -> Column:
    return F.col("outcome").isin(*(n for n, o in OUTCOMES.items() if o.confidence is not None))


def _by_outcome(columns: dict[str, Column]) -> Column:
    """The column that belongs to the row's outcome; null for an outcome without one."""
    branches = iter(columns.items())
    first, column = next(branches)
    value = F.when(F.col("outcome") == first, column)
    for outcome, other in branches:
        value = value.when(F.col("outcome") == outcome, other)
    return value


def _literal(value: Decimal | str | None) -> Column:
    return F.lit(value).cast("DECIMAL(3,2)") if isinstance(value, Decimal) else F.lit(value)
