"""Complaints that customers write about delivered orders, as a DataFrame function.

Contract: docs/contracts.md, Agents; the draws are those of `complaint_draws`, so any engine can
recompute which orders complain, and `complaint_texts.complaint_text` writes the same words.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from caspers_lib.agents.complaint_draws import category_bounds, sample_bound
from caspers_lib.agents.complaint_texts import (
    FEWEST_MINUTES,
    UNKNOWN_ITEM,
    UNKNOWN_ITEMS,
    UNKNOWN_STREET,
    UNKNOWN_WAIT,
    tone_bounds,
)
from caspers_lib.agents.complaint_words import COMPLAINT_CORES, COMPLAINT_TONES

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
    drawn = orders.select("*", *(_draw(p, seed).alias(f"draw_{p}") for p in _PURPOSES))
    told = drawn.select(
        "*",
        _number_within("draw_category", category_bounds()).alias("category"),
        _number_within("draw_tone", tone_bounds()).alias("tone"),
    )
    return told.select(
        _complaint_id(namespace).alias("complaint_id"),
        "order_id",
        F.col("delivered_ts").alias("ts"),
        F.get(F.array(*map(F.lit, COMPLAINT_CORES)), F.col("category")).alias("complaint_category"),
        _text().alias("complaint_text"),
        F.lit("rules").alias("generated_by"),
    )


_PURPOSES = ("category", "tone", "shape", "opening", "ending", "item")


def _draw(purpose: str, seed: int) -> Column:
    text = F.concat(F.lit(f"{seed}:{purpose}:"), F.col("order_id"))
    return F.conv(F.substring(F.md5(text), 1, 8), 16, 10).cast("bigint")


def _number_within(drawn: str, bounds: tuple[tuple[str, int], ...]) -> Column:
    """The number, from 0, of the name whose share a draw falls into."""
    ends = F.array(*(F.lit(end) for _, end in bounds))
    return F.size(F.filter(ends, lambda end: end <= F.col(drawn)))


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


def _text() -> Column:
    """As `complaint_texts.complaint_text`: all sentences in one array, one found by number."""
    tones = list(COMPLAINT_TONES.values())
    cores = [of_tone[name] for of_tone in COMPLAINT_CORES.values() for name in COMPLAINT_TONES]
    tone = F.col("tone")
    kind = F.col("category") * len(tones) + tone
    return F.concat(
        _chosen("draw_opening", tone, [t.openings for t in tones]),
        _filled(_chosen("draw_shape", kind, cores), _places()),
        _chosen("draw_ending", tone, [t.endings for t in tones]),
    )


def _chosen(drawn: str, group: Column, groups: Sequence[Sequence[str]]) -> Column:
    """One of the texts of a group; every group has as many."""
    (size,) = {len(texts) for texts in groups}
    texts = F.array(*(F.lit(text) for texts in groups for text in texts))
    return F.get(texts, (group * size + F.pmod(drawn, F.lit(size))).cast("int"))


def _filled(template: Column, places: Mapping[str, Column]) -> Column:
    """The template with its places filled; what is filled in is never read as a template."""

    def part(text: Column, index: Column) -> Column:
        value = text
        for name, column in places.items():
            value = F.when((index % 2 == 1) & (text == name), column).otherwise(value)
        return value

    # Between braces stands a place: every second part.
    return F.array_join(F.transform(F.split(template, "[{}]"), part), "")


def _places() -> dict[str, Column]:
    first, second = _dish(0), _dish(1)
    other = F.concat(first, F.lit(" and "), F.when(second != first, second))
    minutes = F.floor("total_minutes")
    wait = F.when(minutes >= FEWEST_MINUTES, F.concat(minutes.cast("string"), F.lit(" minutes")))
    return {
        "item": F.coalesce(first, F.lit(UNKNOWN_ITEM)),
        "Item": F.coalesce(first, F.lit(UNKNOWN_ITEM.capitalize())),
        "items": F.coalesce(other, first, F.lit(UNKNOWN_ITEMS)),
        "wait": F.coalesce(wait, F.lit(UNKNOWN_WAIT)),
        "street": F.coalesce(_written(F.col("street")), F.lit(UNKNOWN_STREET)),
    }


def _dish(further: int) -> Column:
    """The name of one of the order's dishes, or of the one so many lines further on."""
    lines = F.col("lines")
    index = F.pmod(F.col("draw_item") + further, F.greatest(F.size(lines), F.lit(1)))
    return _written(F.get(lines, index.cast("int"))["item_name"])


def _written(text: Column) -> Column:
    """The text, or null where there is nothing but blanks."""
    return F.when(F.trim(text) != "", text)
