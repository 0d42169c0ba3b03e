"""What a model is asked about: one order's facts as JSON, for a whole batch at once.

Contract: docs/contracts.md, Agents. What customers wrote stays within a JSON string: it is data,
and the instructions say so.
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from caspers_lib.agents.model.instructions import TEXT_CHARACTERS
from caspers_lib.agents.refund_policy import RefundPolicy

__all__ = [
    "complaint_questions",
    "refund_questions",
]


def refund_questions(facts: DataFrame, policy: RefundPolicy) -> DataFrame:
    """The orders that a model can judge, each with its facts.

    Args:
        facts: as `facts.order_facts` makes them.
        policy: says from when something may be given back.

    Returns:
        key STRING (the order), order_id STRING, ts TIMESTAMP (delivery), at_most DECIMAL(22,2)
        USD (0 where the policy gives nothing), facts STRING (JSON). Orders of which something is
        unknown aren't in it.
    """
    late = (F.col("history_orders") >= policy.min_orders) & (F.col("total_minutes") > F.col("p75"))
    total = F.greatest("order_total", F.lit(0)).cast("DECIMAL(22,2)")
    return facts.where("total_minutes IS NOT NULL AND order_total IS NOT NULL").select(
        F.col("order_id").alias("key"),
        "order_id",
        F.col("delivered_ts").alias("ts"),
        F.when(F.coalesce(late, F.lit(False)), total).otherwise(0).alias("at_most"),
        _json("order_id", *_ORDER_FACTS).alias("facts"),
    )


def complaint_questions(complaints: DataFrame, facts: DataFrame) -> DataFrame:
    """The complaints that a model can judge, each with its order's facts.

    Args:
        complaints: complaint_id, order_id, ts, complaint_category, complaint_text, each
            complaint_id once.
        facts: as `facts.order_facts` makes them.

    Returns:
        key STRING (the complaint), order_id STRING, ts TIMESTAMP (delivery), at_most
        DECIMAL(22,2) USD, facts STRING (JSON). Complaints about an order of which something is
        unknown aren't in it.
    """
    known = facts.where("total_minutes IS NOT NULL AND order_total IS NOT NULL")
    text = F.coalesce("complaint_text", F.lit(""))
    joined = complaints.join(known, "order_id").select(
        "*",
        F.substring(text, 1, TEXT_CHARACTERS).alias("shown_text"),
        (F.length(text) > TEXT_CHARACTERS).alias("complaint_text_is_cut"),
    )
    dishes = F.transform("lines", lambda line: F.struct(line["item_name"], line["price"]))
    return joined.select(
        F.col("complaint_id").alias("key"),
        "order_id",
        "ts",
        F.greatest("order_total", F.lit(0)).cast("DECIMAL(22,2)").alias("at_most"),
        _json(
            "order_id",
            "complaint_category",
            F.col("shown_text").alias("complaint_text"),
            "complaint_text_is_cut",
            *_ORDER_FACTS,
            dishes.alias("lines"),
        ).alias("facts"),
    )


_ORDER_FACTS = ("location_id", "total_minutes", "order_total", "history_orders", "p75", "p99")


def _json(*columns: str | Column) -> Column:
    return F.to_json(F.struct(*columns), {"ignoreNullFields": "false"})
