"""Gold: line items grouped by a table's keys.

Contract: DESIGN section 6; the tables themselves are data, `domain.gold`.
"""

from typing import TYPE_CHECKING

from caspers_lib.domain import AggregateTable

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["aggregate"]


def aggregate(items: "DataFrame", table: AggregateTable) -> "DataFrame":
    """One row per key of `table`, with its measures.

    Args:
        items: rows of the silver table of line items.
        table: keys and measures.
    """
    from pyspark.sql import functions as F

    keys = [F.expr(k.expression).cast(k.type).alias(k.name) for k in table.keys]
    measures = [F.expr(m.expression).cast(m.type).alias(m.name) for m in table.measures]
    return items.groupBy(*keys).agg(*measures)
