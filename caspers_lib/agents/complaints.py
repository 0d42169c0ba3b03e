"""Complaints that customers write about delivered orders, as a DataFrame function.

Contract: DESIGN section 7; the draws are those of `complaint_draws`, so any engine can recompute
which orders complain.
"""

from uuid import UUID

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from caspers_lib.agents.complaint_draws import category_bounds, sample_bound
from caspers_lib.agents.complaint_texts import (
    COMPLAINT_ENDINGS,
    COMPLAINT_SHAPES,
    UNKNOWN_ITEM,
    UNKNOWN_WAIT,
)
from caspers_lib.agents.wording import filled

__all__ = ["complaining_orders", "raw_complaints"]


def complaining_orders(orders: DataFrame, rate: float, seed: int) -> DataFrame:
    """The orders whose customers complain: `complaint_draws.complains` as a filter.

    Args:
        orders: any DataFrame with order_id STRING.
        rate: share of orders that complain, 0 to 1.
        seed: another seed draws another sample.

    Raises:
        ValueError: the rate is outside 0..1.
    """
    return orders.where(_draw("complains", seed) < F.lit(sample_bound(rate)))


def raw_complaints(orders: DataFrame, seed: int, namespace: UUID) -> DataFrame:
    """One complaint for each of the orders.

    Args:
        orders: as `facts.delivered_orders` makes them.
        seed: the seed of the sample.
        namespace: UUID namespace of complaint_id.

    Returns:
        complaint_id STRING (UUIDv5), order_id STRING, ts TIMESTAMP (delivery),
        complaint_category STRING, complaint_text STRING, generated_by STRING (`rules`).
    """
    drawn = orders.select("*", _category(seed).alias("complaint_category"))
    return drawn.select(
        _complaint_id(namespace).alias("complaint_id"),
        "order_id",
        F.col("delivered_ts").alias("ts"),
        "complaint_category",
        _text(seed).alias("complaint_text"),
        F.lit("rules").alias("generated_by"),
    )


def _draw(purpose: str, seed: int) -> Column:
    text = F.concat(F.lit(f"{seed}:{purpose}:"), F.col("order_id"))
    return F.conv(F.substring(F.md5(text), 1, 8), 16, 10).cast("bigint")


def _category(seed: int) -> Column:
    drawn = _draw("category", seed)
    bounds = category_bounds()
    category = F.lit(bounds[-1][0])
    for name, end in reversed(bounds[:-1]):
        category = F.when(drawn < F.lit(end), name).otherwise(category)
    return category


def _complaint_id(namespace: UUID) -> Column:
    """UUIDv5: sha1 over namespace and name, with the version and variant bits set."""
    name = F.concat(F.lit("complaint:"), F.col("order_id")).cast("binary")
    digest = F.sha1(F.concat(F.unhex(F.lit(namespace.hex)), name))
    variant = F.translate(F.substring(digest, 17, 1), "0123456789abcdef", "89ab89ab89ab89ab")
    return F.concat_ws(
        "-",
        F.substring(digest, 1, 8),
        F.substring(digest, 9, 4),
        F.concat(F.lit("5"), F.substring(digest, 14, 3)),
        F.concat(variant, F.substring(digest, 18, 3)),
        F.substring(digest, 21, 12),
    )


def _text(seed: int) -> Column:
    places = {"item": _item(seed), "wait": _wait()}
    text = F.lit(None).cast("string")
    for category, shapes in COMPLAINT_SHAPES.items():
        chosen = _chosen("shape", seed, [filled(shape, places) for shape in shapes])
        text = F.when(F.col("complaint_category") == category, chosen).otherwise(text)
    return F.concat(text, _chosen("ending", seed, [F.lit(e) for e in COMPLAINT_ENDINGS]))


def _chosen(purpose: str, seed: int, options: list[Column]) -> Column:
    return F.get(F.array(*options), F.pmod(_draw(purpose, seed), F.lit(len(options))).cast("int"))


def _item(seed: int) -> Column:
    """The name of one of the order's dishes."""
    lines = F.col("lines")
    index = F.pmod(_draw("item", seed), F.greatest(F.size(lines), F.lit(1))).cast("int")
    return F.coalesce(F.get(lines, index)["item_name"], F.lit(UNKNOWN_ITEM))


def _wait() -> Column:
    minutes = F.floor("total_minutes").cast("string")
    return F.coalesce(F.concat(minutes, F.lit(" minutes")), F.lit(UNKNOWN_WAIT))
