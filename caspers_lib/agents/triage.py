"""Answers to complaints by the published policy, in column expressions.

Contract: docs/contracts.md, Agents; `triage_policy` says what leads to what, and `triage_answer`
gives the same answers for one complaint. Complaint texts and dish names are compared and joined as
data, never read as patterns or templates.
"""

from decimal import Decimal
from typing import get_args

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from caspers_lib.agents.contracts import ComplaintCategory
from caspers_lib.agents.triage_policy import (
    CREDIT_STEP,
    LETTER_OR_DIGIT,
    OUTCOMES,
    TriagePolicy,
    credit_shares,
    policy_figures,
    whole_words,
)
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
    read = joined.select("*", _category().alias("category"), _text().alias("lower_text"))
    named = read.select("*", _named_lines().alias("named"))
    named = named.select("*", _plain_words().alias("words"))
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


def _text() -> Column:
    return F.lower(F.coalesce("complaint_text", F.lit("")))


def _named_lines() -> Column:
    """The order's lines whose dish the text names; null where no lines are known."""

    def is_named(line: Column) -> Column:
        name = F.coalesce(line["item_name"], F.lit(""))
        return (name != "") & line["price"].isNotNull() & F.contains("lower_text", F.lower(name))

    def dish(line: Column) -> Column:
        name = line["item_name"]
        return F.struct(
            F.lower(name).alias("lower_name"), name.alias("name"), line["price"].alias("price")
        )

    dishes = F.transform(F.filter("lines", is_named), dish)

    def stands_alone(line: Column) -> Column:
        """Whether the dish isn't merely a part of another named one."""
        name = line["lower_name"]
        return ~F.exists(
            dishes, lambda o: (o["lower_name"] != name) & F.contains(o["lower_name"], name)
        )

    return F.filter(dishes, stands_alone)


def _plain_words() -> Column:
    """The text's words, those of named dishes left out: a dish may be called anything."""
    text = F.aggregate(
        F.coalesce("named", F.array()),
        F.col("lower_text"),
        lambda text, line: F.replace(text, line["lower_name"], F.lit(" ")),
    )
    return F.trim(F.regexp_replace(text, "[^a-z0-9]+", " "))


def _urgent_word(policy: TriagePolicy) -> Column:
    return F.regexp_extract("words", whole_words(policy.urgent_words), 1)


def _outcome(policy: TriagePolicy) -> Column:
    minutes, p75, p99 = F.col("total_minutes"), F.col("p75"), F.col("p99")
    category, named = F.col("category"), F.coalesce(F.size("named"), F.lit(0)) > 0
    delay = category == "delivery_delay"
    too_few = p75.isNull() | p99.isNull() | (F.col("history_orders") < policy.min_orders)
    unknown = F.col("order_total").isNull() | minutes.isNull()
    quality = (
        F.when(~named, "quality_unnamed")
        .when(F.col("words").rlike(whole_words(policy.severe_words)), "quality_severe")
        .when(F.col("words").rlike(whole_words(policy.mild_words)), "quality_mild")
        .otherwise("quality_named")
    )
    return (
        F.when(_urgent_word(policy) != "", "safety")
        .when(~F.col("lower_text").rlike(LETTER_OR_DIGIT), "vague")
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
        .otherwise(quality)
    )


def _amount(policy: TriagePolicy) -> Column:
    """The credit in USD: a multiple of `CREDIT_STEP` that the order's total covers."""
    total = F.greatest(F.col("order_total"), F.lit(Decimal(0))).cast(_USD)
    price = F.greatest(_named_price(), F.lit(Decimal(0))).cast(_USD)
    paid = {"total": total, "items": price}
    steps = _by_outcome(
        {name: _steps(paid[of], share) for name, (of, share) in credit_shares(policy).items()}
    )
    covered = F.floor(total / F.lit(CREDIT_STEP)).cast("DECIMAL(24,0)")
    capped = F.least(F.coalesce(steps, F.lit(Decimal(0))), covered)
    return (capped * F.lit(CREDIT_STEP)).cast(_USD)


def _named_price() -> Column:
    """What the named dishes cost together in USD, each once a line."""
    return F.aggregate(
        F.coalesce("named", F.array()),
        F.lit(0).cast(_USD),
        lambda total, line: (total + line["price"]).cast(_USD),
    )


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
    values = (
        {name: F.col(name) for name in figures}
        | {
            "item": F.array_join(F.transform("named", lambda line: line["name"]), ", "),
            "item_price": _named_price(),
            "urgent_word": _urgent_word(policy),
            "line_count": F.coalesce(F.size("lines"), F.lit(0)),
        }
        | {name: F.lit(text) for name, text in policy_figures(policy).items()}
    )
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
