"""Bronze, silver and gold: every table as a function from DataFrame to DataFrame.

Nothing here loads Spark on import. Functions take batch or streaming DataFrames, of a classic
session or of Spark Connect.
"""

from caspers_lib.medallion.bronze import bronze_events, direct_events, events_of_lines
from caspers_lib.medallion.gold import (
    aggregate,
    gold_brand_sales_day,
    gold_delivery_percentiles_hourly,
    gold_item_sales_day,
    gold_kitchen_funnel_day,
    gold_late_share_day,
    gold_location_sales_hourly,
    gold_order_header,
    gold_table,
)
from caspers_lib.medallion.incremental import update_derived_tables
from caspers_lib.medallion.lifecycle import silver_order_lifecycle
from caspers_lib.medallion.positions import PositionsFile
from caspers_lib.medallion.quality import accepted_events, quarantined_events, repaired_events
from caspers_lib.medallion.reconciliation import reconciliation
from caspers_lib.medallion.registration import PipelineSettings, register_pipeline, table_names
from caspers_lib.medallion.silver import silver_order_items, unique_events
from caspers_lib.medallion.views import create_views

__all__ = [
    "PipelineSettings",
    "PositionsFile",
    "accepted_events",
    "aggregate",
    "bronze_events",
    "create_views",
    "direct_events",
    "events_of_lines",
    "gold_brand_sales_day",
    "gold_delivery_percentiles_hourly",
    "gold_item_sales_day",
    "gold_kitchen_funnel_day",
    "gold_late_share_day",
    "gold_location_sales_hourly",
    "gold_order_header",
    "gold_table",
    "quarantined_events",
    "reconciliation",
    "register_pipeline",
    "repaired_events",
    "silver_order_items",
    "silver_order_lifecycle",
    "table_names",
    "unique_events",
    "update_derived_tables",
]
