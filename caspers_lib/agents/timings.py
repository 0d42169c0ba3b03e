"""How long orders took, and what is usual at a location at that hour.

An order is compared with the orders that its location delivered in the 24 hours before the hour of
its own delivery. Only whole, earlier hours count, so an order's answer does not depend on which
micro-batch it came in. Times are epoch-based: the session's time zone plays no part.
"""

from datetime import UTC, datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from caspers_lib import spark_sql
from caspers_lib.domain import Domain

__all__ = [
    "HISTORY_HOURS",
    "LONGEST_ORDER_HOURS",
    "deliveries",
    "event_time",
    "events_between",
    "hour_of",
    "location_timings",
]

HISTORY_HOURS = 24
"""Hours of deliveries that an order is compared with."""

LONGEST_ORDER_HOURS = 24
"""Hours between creation and delivery beyond which a creation counts as not found."""

_HOUR_SECONDS = 3600
_MINUTES = "DECIMAL(12,2)"


def event_time() -> Column:
    """The event's time as TIMESTAMP from the text in `ts`; null when it can't be read."""
    return F.expr(spark_sql.event_time())


def hour_of(time: Column) -> Column:
    """The start of the hour that `time` falls in, in UTC."""
    seconds = F.unix_seconds(time)
    return F.timestamp_seconds(seconds - F.pmod(seconds, F.lit(_HOUR_SECONDS)))


def events_between(events: DataFrame, first: datetime | None, last: datetime | None) -> DataFrame:
    """The events that can matter to orders delivered from `first` to `last`.

    Args:
        events: the bronze table; `ts` is text that sorts as time.
        first: earliest delivery, aware; None when no delivery has a readable time.
        last: latest delivery, aware.

    Returns:
        The rows from the beginning of the history that is needed up to `last`, by a comparison of
        texts that Delta's file statistics prune by.
    """
    if first is None or last is None:
        return events.where(F.lit(False))
    reach = (HISTORY_HOURS + LONGEST_ORDER_HOURS) * _HOUR_SECONDS
    since = int(first.timestamp()) // _HOUR_SECONDS * _HOUR_SECONDS - reach
    return events.where(F.col("ts").between(_text(since), _text(int(last.timestamp()) + 1)))


def deliveries(events: DataFrame, domain: Domain) -> DataFrame:
    """One row per delivered order; an event that comes several times counts once, at its earliest.

    Args:
        events: rows of the bronze table.
        domain: names the opening and closing events and the keys.

    Returns:
        order_id STRING, location_id INT, order_ts TIMESTAMP, delivered_ts TIMESTAMP, total_minutes
        DECIMAL(12,2). order_ts and total_minutes are null when no creation lies within
        `LONGEST_ORDER_HOURS` before the delivery.
    """
    opening, closing = (F.col("event_type") == kind for kind in (domain.opening, domain.closing))
    ends = (
        events.where((opening | closing) & F.col(domain.entity_key).isNotNull())
        .groupBy(F.col(domain.entity_key).alias("order_id"))
        .agg(
            F.min(F.when(closing, F.col(domain.site_key))).alias("location_id"),
            F.min(F.when(opening, event_time())).alias("created_ts"),
            F.min(F.when(closing, event_time())).alias("delivered_ts"),
        )
        .where(F.col("delivered_ts").isNotNull())
    )
    millis = F.unix_millis("delivered_ts") - F.unix_millis("created_ts")
    believable = millis.between(0, LONGEST_ORDER_HOURS * _HOUR_SECONDS * 1000)
    minutes = F.round(millis.cast("DECIMAL(15,0)") / F.lit(60_000), 2).cast(_MINUTES)
    return ends.select(
        "order_id",
        "location_id",
        F.when(believable, F.col("created_ts")).alias("order_ts"),
        "delivered_ts",
        F.when(believable, minutes).alias("total_minutes"),
    )


def location_timings(delivered: DataFrame) -> DataFrame:
    """What was usual at each location before each hour in which it delivered.

    Args:
        delivered: as `deliveries` makes it; rows without total_minutes don't count.

    Returns:
        location_id INT, hour_ts TIMESTAMP, orders INT, and p50, p75, p99 DECIMAL(12,2): exact
        percentiles, linearly interpolated and rounded half up, of the minutes of the orders
        delivered in [hour_ts - 24 h, hour_ts). Hours without a history have no row.
    """
    hourly = (
        delivered.where(F.col("total_minutes").isNotNull())
        .groupBy("location_id", hour_of(F.col("delivered_ts")).alias("hour_ts"))
        .agg(F.collect_list("total_minutes").alias("minutes"))
    )
    # Windows over hours with their minutes in an array: a window per order would sort each of its
    # minutes into 24 groups.
    before = (
        Window.partitionBy("location_id")
        .orderBy(F.unix_seconds("hour_ts"))
        .rangeBetween(-HISTORY_HOURS * _HOUR_SECONDS, -_HOUR_SECONDS)
    )
    history = hourly.select(
        "location_id",
        "hour_ts",
        F.sort_array(F.flatten(F.collect_list("minutes").over(before))).alias("minutes"),
    ).where(F.size("minutes") > 0)
    return history.select(
        "location_id",
        "hour_ts",
        F.size("minutes").alias("orders"),
        *(_percentile(F.col("minutes"), p).alias(f"p{p}") for p in (50, 75, 99)),
    )


def _percentile(ordered: Column, percent: int) -> Column:
    """The percentile of an ascending array of decimals, in decimal arithmetic throughout."""
    last = F.size(ordered) - 1
    position = last * percent
    below = F.floor(position / F.lit(100)).cast("int")
    weight = (position % 100).cast("DECIMAL(3,0)")
    low, high = F.get(ordered, below), F.get(ordered, F.least(below + 1, last))
    return F.round((low * (F.lit(100) - weight) + high * weight) / F.lit(100), 2).cast(_MINUTES)


def _text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S.000")
