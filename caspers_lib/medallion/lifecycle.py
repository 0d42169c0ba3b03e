"""Silver: one row per order, when what happened and how long it took.

Contract: DESIGN section 6, table `silver_order_lifecycle`, key order_id. A time is that of the
first event of its type; so an event that comes again, late or out of order changes nothing that is
right already, and rows can be brought up to date with new events alone.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from caspers_lib.domain import GHOST_KITCHEN, Domain
from caspers_lib.domain.tables import MINUTES

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

__all__ = ["lifecycle_columns", "order_lifecycle"]


def order_lifecycle(events: "DataFrame", domain: Domain = GHOST_KITCHEN) -> "DataFrame":
    """One row per order of the events, the columns of `lifecycle_table`.

    Args:
        events: accepted events (`quality.accepted_events`).
        domain: the business.
    """
    from pyspark.sql import functions as F

    time = F.try_to_timestamp("ts")
    firsts = [
        F.min(F.when(F.col("event_type") == t.name, time)).alias(t.time_column)
        for t in domain.event_types
    ]
    grouped = events.groupBy(domain.entity_key).agg(
        F.min(domain.site_key).alias(domain.site_key), *firsts
    )
    columns = lifecycle_columns(F.col, domain)
    return grouped.select(
        domain.entity_key, *[column.alias(name) for name, column in columns.items()]
    )


def lifecycle_columns(
    value: Callable[[str], "Column"], domain: Domain = GHOST_KITCHEN
) -> dict[str, "Column"]:
    """Every column but the key, by name, from the times and the site.

    Args:
        value: gives the column with the first time of an event type, or the site, by its name.
        domain: the business.
    """
    from pyspark.sql import functions as F

    types = domain.types_by_name
    times = {t.name: value(t.time_column) for t in domain.event_types}
    status = F.lit(None).cast("STRING")
    for t in domain.event_types:
        status = F.when(times[t.name].isNotNull(), F.lit(t.name)).otherwise(status)
    return {
        domain.site_key: value(domain.site_key),
        domain.day_column: F.to_date(times[domain.opening]),
        **{types[name].time_column: time for name, time in times.items()},
        **{d.name: _minutes(times[d.start], times[d.end]) for d in domain.lifecycle.durations},
        "status": status,
    }


def _minutes(start: "Column", end: "Column") -> "Column":
    from pyspark.sql import functions as F

    millis = F.unix_millis(end) - F.unix_millis(start)
    return F.round(millis.cast("DECIMAL(15,0)") / F.lit(60_000), 2).cast(MINUTES)
