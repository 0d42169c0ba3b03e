"""The refund policy over a whole DataFrame, in column expressions.

Contract: the same answers as `refund_policy.refund_answer`, row by row.
"""

from decimal import Decimal

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from caspers_lib.agents.refund_policy import (
    REFUND_REASONS,
    UNKNOWN_OUTCOMES,
    RefundPolicy,
    percent,
)
from caspers_lib.agents.wording import filled

__all__ = ["refund_answers"]


def refund_answers(facts: DataFrame, policy: RefundPolicy) -> DataFrame:
    """One refund recommendation per row of facts.

    Args:
        facts: order_id STRING, location_id INT, order_ts and delivered_ts TIMESTAMP,
            total_minutes DECIMAL (minutes), order_total DECIMAL (USD), history_orders BIGINT,
            p75 and p99 DECIMAL (minutes); as `facts.order_facts` makes them.
        policy: the shares and limits to apply.

    Returns:
        order_id STRING, ts TIMESTAMP (delivery), order_ts TIMESTAMP (creation), agent_response
        STRING (JSON of `contracts.RefundAnswer`).
    """
    judged = facts.select("*", _outcome(policy).alias("outcome"))
    priced = judged.select("*", _refund(policy).alias("refund_usd"))
    answer = F.struct(
        F.col("refund_usd"),
        _refund_class().alias("refund_class"),
        _reason(policy).alias("reason"),
        F.when(F.col("outcome").isin(*sorted(UNKNOWN_OUTCOMES)), "error")
        .otherwise("rules")
        .alias("source"),
    )
    return priced.select(
        "order_id",
        F.col("delivered_ts").alias("ts"),
        "order_ts",
        F.to_json(answer).alias("agent_response"),
    )


def _outcome(policy: RefundPolicy) -> Column:
    minutes, p75, p99 = F.col("total_minutes"), F.col("p75"), F.col("p99")
    too_few = p75.isNull() | p99.isNull() | (F.col("history_orders") < policy.min_orders)
    return (
        F.when(F.col("delivered_ts").isNull(), "unreadable_delivery")
        .when(minutes.isNull(), "unknown_creation")
        .when(F.col("order_total").isNull(), "unknown_total")
        .when(too_few, "no_history")
        .when(minutes <= p75, "on_time")
        .when(minutes >= F.lit(policy.full_factor) * p99, "extremely_late")
        .when(minutes > p99, "very_late")
        .otherwise("late")
    )


def _refund(policy: RefundPolicy) -> Column:
    share = F.lit(Decimal(0)).cast("DECIMAL(5,4)")
    for outcome, value in policy.shares.items():
        share = F.when(F.col("outcome") == outcome, F.lit(value).cast("DECIMAL(5,4)")).otherwise(
            share
        )
    total = F.coalesce(F.col("order_total"), F.lit(Decimal(0)))
    paid = F.greatest(total, F.lit(Decimal(0))).cast("DECIMAL(22,2)")
    return F.round(share * paid, 2).cast("DECIMAL(22,2)")


def _refund_class() -> Column:
    return (
        F.when(F.col("refund_usd") == 0, "none")
        .when(F.col("refund_usd") == F.col("order_total"), "full")
        .otherwise("partial")
    )


def _reason(policy: RefundPolicy) -> Column:
    figures = ("total_minutes", "location_id", "p75", "p99", "history_orders", "order_total")
    values = {name: F.col(name) for name in figures} | {
        "min_orders": F.lit(policy.min_orders),
        "full_factor": F.lit(str(policy.full_factor)),
    }
    reason = F.lit(None).cast("string")
    for outcome, template in REFUND_REASONS.items():
        share = policy.shares.get(outcome, Decimal(0))
        text = filled(template, values | {"percent": F.lit(percent(share))})
        reason = F.when(F.col("outcome") == outcome, text).otherwise(reason)
    return reason
