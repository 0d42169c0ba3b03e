"""Gold: rows of a silver table grouped by a table's keys; the tables are data, `domain.gold`."""

from typing import TYPE_CHECKING

from caspers_lib.domain import AggregateTable

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["aggregate"]


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
