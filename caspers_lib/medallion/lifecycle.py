"""Silver: one row per order, when what happened and how long it took.

A time is that of the first event of its type; so an event that comes again, late or out of order
changes nothing that is right already, and rows can be brought up to date with new events alone.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from caspers_lib.domain import GHOST_KITCHEN, Domain
from caspers_lib.spark_sql import event_time, minutes_between, quote_name, quote_text, utc_day

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["lifecycle_columns", "silver_order_lifecycle"]


def silver_order_lifecycle(events: "DataFrame", domain: Domain = GHOST_KITCHEN) -> "DataFrame":
    """One row per order of the events, the columns of `lifecycle_table`.

    Args:
        events: accepted events (`quality.accepted_events`).
        domain: the business.
    """
    from pyspark.sql import functions as F

    time = F.expr(event_time())
    firsts = [
        F.min(F.when(F.col("event_type") == t.name, time)).alias(t.time_column)
        for t in domain.event_types
    ]
    grouped = events.groupBy(domain.entity_key).agg(
        F.min(domain.site_key).alias(domain.site_key), *firsts
    )
    columns = lifecycle_columns(quote_name, domain)
    return grouped.select(
        domain.entity_key, *[F.expr(sql).alias(name) for name, sql in columns.items()]
    )


def lifecycle_columns(
    value: Callable[[str], str], domain: Domain = GHOST_KITCHEN
) -> dict[str, str]:
    """SQL of every column but the key, by name, from the times and the site.

    Args:
        value: gives the SQL of the first time of an event type, or of the site, by the column's
            name.
        domain: the business.
    """
    times = {t.name: value(t.time_column) for t in domain.event_types}
    # The furthest type decides.
    reached = "".join(
        f" WHEN {times[t.name]} IS NOT NULL THEN {quote_text(t.name)}"
        for t in reversed(domain.event_types)
    )
    return {
        domain.site_key: value(domain.site_key),
        domain.day_column: utc_day(times[domain.opening]),
        **{t.time_column: times[t.name] for t in domain.event_types},
        **{
            d.name: minutes_between(times[d.start], times[d.end])
            for d in domain.lifecycle.durations
        },
        "status": f"CASE{reached} END",
    }
