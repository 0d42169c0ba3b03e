"""The tables as a declarative pipeline: `pyspark.pipelines` gets the library's functions.

Contract: DESIGN section 6.
"""

from typing import TYPE_CHECKING

from caspers_lib.domain import GHOST_KITCHEN, AggregateTable, Domain
from caspers_lib.medallion.bronze import json_event_stream, with_provenance
from caspers_lib.medallion.gold import aggregate
from caspers_lib.medallion.silver import order_items

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["register_pipeline", "table_names"]


def table_names(domain: Domain = GHOST_KITCHEN) -> tuple[str, ...]:
    """Names of the pipeline's tables, upstream first."""
    return (domain.bronze, domain.line_items.table, *(t.name for t in domain.gold))


def register_pipeline(
    spark: "SparkSession", *, events: str, domain: Domain = GHOST_KITCHEN
) -> None:
    """Declare bronze, silver and gold in the pipeline that is being defined.

    Call it where `pyspark.pipelines` decorators are allowed: a pipeline's source file, or an
    in-process graph. Names are bare: the pipeline's own catalog and schema hold the tables.

    Args:
        spark: the pipeline's session.
        events: folder of landed event files.
        domain: the business.
    """
    from pyspark import pipelines as dp

    def bronze() -> "DataFrame":
        return with_provenance(json_event_stream(spark, events, domain), domain)

    def silver() -> "DataFrame":
        return order_items(spark.readStream.table(domain.bronze), domain)

    dp.table(name=domain.bronze, comment="Every event as it landed")(bronze)
    dp.table(name=domain.line_items.table, comment="One row per line of an order")(silver)
    for table in domain.gold:
        _register_aggregate(spark, table, domain)


def _register_aggregate(spark: "SparkSession", table: AggregateTable, domain: Domain) -> None:
    from pyspark import pipelines as dp

    def gold() -> "DataFrame":
        return aggregate(spark.read.table(domain.line_items.table), table)

    dp.materialized_view(name=table.name, comment=table.comment)(gold)
