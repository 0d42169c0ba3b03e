"""Bronze, silver and gold: every table as a function from DataFrame to DataFrame.

Nothing here loads Spark on import. Functions take batch or streaming DataFrames, of a classic
session or of Spark Connect.
"""

from caspers_lib.medallion.bronze import direct_events, events_of_lines, json_events
from caspers_lib.medallion.gold import aggregate
from caspers_lib.medallion.incremental import update_derived_tables
from caspers_lib.medallion.lifecycle import order_lifecycle
from caspers_lib.medallion.positions import PositionsFile
from caspers_lib.medallion.quality import accepted_events, quarantined_events, repaired_events
from caspers_lib.medallion.reconciliation import reconciliation
from caspers_lib.medallion.registration import PipelineSettings, register_pipeline, table_names
from caspers_lib.medallion.silver import order_items, unique_events
from caspers_lib.medallion.views import create_views

__all__ = [
    "PipelineSettings",
    "PositionsFile",
    "accepted_events",
    "aggregate",
    "create_views",
    "direct_events",
    "events_of_lines",
    "json_events",
    "order_items",
    "order_lifecycle",
    "quarantined_events",
    "reconciliation",
    "register_pipeline",
    "repaired_events",
    "table_names",
    "unique_events",
    "update_derived_tables",
]
