"""Silver: one row per line of an order.

Contract: DESIGN section 6, table `silver_order_items`, key (order_id, line). An event that is
delivered twice counts once (`unique_events`).
"""

from typing import TYPE_CHECKING

from caspers_lib.domain import GHOST_KITCHEN, Domain

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["DEDUPLICATION_HOURS", "order_items", "unique_events"]

DEDUPLICATION_HOURS = 168
"""Wall-clock hours for which an event's id is remembered after it came in."""


def unique_events(
    events: "DataFrame", *, stream: bool, hours: int = DEDUPLICATION_HOURS
) -> "DataFrame":
    """Each event once, by its `event_id`.

    A stream remembers the id of each event for `hours` after it came in (`ingest_ts`), so the state
    is bounded by what comes in within that time. An event's own time plays no part: a late one is
    never dropped. What is delivered again even later than `hours` counts twice.

    Args:
        events: rows with `event_id` and `ingest_ts`.
        stream: whether it is a stream; what is there in a batch needs no memory.
        hours: wall-clock hours.
    """
    if not stream:
        return events.dropDuplicates(["event_id"])
    marked = events.withWatermark("ingest_ts", f"{hours} hours")
    return marked.dropDuplicatesWithinWatermark(["event_id"])


def order_items(events: "DataFrame", domain: Domain = GHOST_KITCHEN) -> "DataFrame":
    """Line items of the opening events, in exact decimals.

    Args:
        events: rows of `all_events`, batch or streaming.
        domain: the business; its `line_items` name the array and the columns.

    Returns:
        order_id, line (from 1), location_id, order_ts, order_day, the item columns, and the
        derived ones. An event without a readable array gives no row; a value that is no such
        number, or doesn't fit its column, is null and stops nothing.
    """
    from pyspark.sql import functions as F

    items = domain.line_items
    array = F.from_json("body", f"{items.field} {items.element_type}")[items.field]
    order_ts = F.try_to_timestamp("ts")
    exploded = events.where(F.col("event_type") == items.event).select(
        domain.entity_key,
        domain.site_key,
        order_ts.alias("order_ts"),
        F.posexplode(array).alias("position", "element"),
    )
    lines = exploded.select(
        domain.entity_key,
        (F.col("position") + 1).alias("line"),
        domain.site_key,
        "order_ts",
        F.to_date("order_ts").alias("order_day"),
        *[F.col(f"element.{c.expression}").alias(c.name) for c in items.columns],
    )
    derived = [F.expr(c.expression).try_cast(c.type).alias(c.name) for c in items.derived]
    return lines.select("*", *derived)
