"""Silver: one row per line of an order.

An event that is delivered twice counts once (`unique_events`).
"""

from typing import TYPE_CHECKING

from caspers_lib.domain import GHOST_KITCHEN, Domain
from caspers_lib.spark_sql import event_time, utc_day

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["silver_order_items", "unique_events"]


def unique_events(events: "DataFrame") -> "DataFrame":
    """Each event once, by its `event_id`.

    A stream remembers every id, in its state store on disk, as the table itself has a row for it.
    A watermark would bound that, and silently drop whatever comes in under a clock that was set
    back by more than it: no clock plays a part here, neither the wall's nor the event's.

    Args:
        events: rows with `event_id`, batch or streaming.
    """
    return events.dropDuplicates(["event_id"])


def silver_order_items(events: "DataFrame", domain: Domain = GHOST_KITCHEN) -> "DataFrame":
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
    exploded = events.where(F.col("event_type") == items.event).select(
        domain.entity_key,
        domain.site_key,
        F.expr(event_time()).alias("order_ts"),
        F.posexplode(array).alias("position", "element"),
    )
    lines = exploded.select(
        domain.entity_key,
        (F.col("position") + 1).alias("line"),
        domain.site_key,
        "order_ts",
        F.expr(utc_day("order_ts")).alias("order_day"),
        *[F.col(f"element.{c.expression}").alias(c.name) for c in items.columns],
    )
    derived = [F.expr(c.expression).try_cast(c.type).alias(c.name) for c in items.derived]
    return lines.select("*", *derived)
