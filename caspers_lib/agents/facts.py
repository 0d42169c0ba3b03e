"""What is known about orders, joined once for a whole batch."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from caspers_lib.agents.timings import deliveries, event_time, hour_of, location_timings
from caspers_lib.domain import Domain

__all__ = ["ADDRESS_FIELD", "delivered_orders", "order_facts"]

ADDRESS_FIELD = "customer_addr"
"""Field of the opening event's body that says where the order was brought."""


def delivered_orders(
    orders: DataFrame, events: DataFrame, lines: DataFrame, domain: Domain
) -> DataFrame:
    """When each order was made and delivered, and what was in it.

    Args:
        orders: order_id STRING, each once: the orders that are wanted.
        events: rows of the bronze table, at least those of the wanted orders.
        lines: rows of the silver table of line items.
        domain: names the events and keys.

    Returns:
        One row per wanted order: order_id, location_id, order_ts, delivered_ts, total_minutes (as
        `timings.deliveries`), order_total DECIMAL(22,2) USD, lines, an array of structs (line,
        item_name, price USD, extended_price USD) sorted by line, and street STRING, the address up
        to its first comma. What isn't found is null; without order_ts the last three are null as
        well.
    """
    found = _delivered_orders(orders, deliveries(events, domain), lines, domain)
    if not any(f.name == ADDRESS_FIELD for f in domain.types_by_name[domain.opening].body):
        return found.select("*", F.lit(None).cast("string").alias("street"))
    return found.join(_streets(events, domain), "order_id", "left").select(
        *_ORDER_COLUMNS, F.when(F.col("order_ts").isNotNull(), F.col("street")).alias("street")
    )


def order_facts(
    orders: DataFrame, events: DataFrame, lines: DataFrame, domain: Domain
) -> DataFrame:
    """The wanted orders with what was usual at their locations before their hours of delivery.

    Args:
        orders: order_id STRING, each once: the orders that are wanted.
        events: rows of the bronze table as `timings.events_between` bounds them.
        lines: rows of the silver table of line items.
        domain: names the events and keys.

    Returns:
        The columns of `delivered_orders` without the street, and history_orders INT (0 without a
        history), p50, p75, p99 DECIMAL(12,2) minutes, null without a history.
    """
    delivered = deliveries(events, domain)
    wanted = _delivered_orders(orders, delivered, lines, domain).select(
        "*", hour_of(F.col("delivered_ts")).alias("hour_ts")
    )
    usual = location_timings(delivered)
    return wanted.join(usual, ["location_id", "hour_ts"], "left").select(
        *_ORDER_COLUMNS,
        F.coalesce("orders", F.lit(0)).alias("history_orders"),
        "p50",
        "p75",
        "p99",
    )


_USD = "DECIMAL(22,2)"
_ORDER_COLUMNS = (
    "order_id",
    "location_id",
    "order_ts",
    "delivered_ts",
    "total_minutes",
    "order_total",
    "lines",
)


def _delivered_orders(
    orders: DataFrame, delivered: DataFrame, lines: DataFrame, domain: Domain
) -> DataFrame:
    line = F.struct("line", "item_name", "price", "extended_price")
    # A set, because an event that came twice has its lines in the table twice.
    contents = lines.groupBy(F.col(domain.entity_key).alias("order_id")).agg(
        F.sort_array(F.collect_set(line)).alias("contents")
    )
    # A creation out of reach leaves no trace: whether a scan happened to touch it must not show.
    created = F.col("order_ts").isNotNull()
    return (
        orders.join(delivered, "order_id", "left")
        .join(contents, "order_id", "left")
        .select(
            *_ORDER_COLUMNS[:-2],
            F.when(created, _total(F.col("contents"))).alias("order_total"),
            F.when(created, F.col("contents")).alias("lines"),
        )
    )


def _streets(events: DataFrame, domain: Domain) -> DataFrame:
    """One row per order that was opened: the street that its first event names."""
    address = F.from_json("body", f"{ADDRESS_FIELD} STRING")[ADDRESS_FIELD]
    street = F.trim(F.substring_index(address, ",", 1))
    opened = events.where(F.col("event_type") == domain.opening).select(
        F.col(domain.entity_key).alias("order_id"),
        F.struct(event_time().alias("ts"), street.alias("street")).alias("opened"),
    )
    readable = opened.where(F.col("opened.ts").isNotNull())
    return readable.groupBy("order_id").agg(F.min("opened")["street"].alias("street"))


def _total(lines: Column) -> Column:
    """What the lines add up to in USD; null when one of them has no amount."""
    return F.aggregate(
        lines,
        F.lit(0).cast(_USD),
        lambda total, line: (total + line["extended_price"]).cast(_USD),
    )
