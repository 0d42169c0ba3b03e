"""Gold: rows of a silver table grouped by a table's keys; the tables are data, `domain.gold`."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from caspers_lib.domain import GHOST_KITCHEN, AggregateTable, Domain
from caspers_lib.errors import SettingsError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = [
    "aggregate",
    "gold_brand_sales_day",
    "gold_delivery_percentiles_hourly",
    "gold_item_sales_day",
    "gold_kitchen_funnel_day",
    "gold_late_share_day",
    "gold_location_sales_hourly",
    "gold_order_header",
    "gold_table",
]


def aggregate(
    source: "DataFrame", table: AggregateTable, *, approximate: bool = False
) -> "DataFrame":
    """One row per key of `table`, with its measures.

    Args:
        source: rows of the table's source, line items or lifecycle; rows of the lifecycle whose
            day is not known yet count nowhere.
        table: keys and measures.
        approximate: take the cheaper expression of each measure that has one, such as an
            approximate count of orders.
    """
    from pyspark.sql import functions as F

    if table.source == "lifecycle":
        source = source.where(F.col("order_day").isNotNull())
    keys = [F.expr(k.expression).cast(k.fixed_type).alias(k.name) for k in table.keys]
    measures = [
        F.expr((approximate and m.approximate) or m.expression).cast(m.fixed_type).alias(m.name)
        for m in table.measures
    ]
    return source.groupBy(*keys).agg(*measures)


def gold_table(name: str, domain: Domain = GHOST_KITCHEN) -> "Callable[..., DataFrame]":
    """The function that makes a gold table: `aggregate` with the table's keys and measures.

    Args:
        name: the table's name.
        domain: the business whose table it is.

    Raises:
        SettingsError: the domain has no such table.
    """
    tables = {table.name: table for table in domain.gold}
    if name not in tables:
        raise SettingsError(
            f"{domain.name} has no gold table {name!r}", hint=f"Allowed are {', '.join(tables)}."
        )
    return partial(aggregate, table=tables[name])


gold_order_header = gold_table("gold_order_header")
gold_item_sales_day = gold_table("gold_item_sales_day")
gold_brand_sales_day = gold_table("gold_brand_sales_day")
gold_location_sales_hourly = gold_table("gold_location_sales_hourly")
gold_delivery_percentiles_hourly = gold_table("gold_delivery_percentiles_hourly")
gold_kitchen_funnel_day = gold_table("gold_kitchen_funnel_day")
gold_late_share_day = gold_table("gold_late_share_day")
