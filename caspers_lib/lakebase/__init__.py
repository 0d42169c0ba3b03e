"""From Delta to Postgres: synced tables, their plans, the change-feed sync, the embedded server."""

from caspers_lib.lakebase.access import Database, Postgres
from caspers_lib.lakebase.sync_plan import SyncPlan, plan_sync
from caspers_lib.lakebase.sync_spec import SyncMode, SyncSpec
from caspers_lib.lakebase.synced_tables import (
    COMPLAINT_TEXTS,
    COMPLAINTS,
    REFUNDS,
    agent_tables,
    order_tables,
)

__all__ = [
    "COMPLAINTS",
    "COMPLAINT_TEXTS",
    "REFUNDS",
    "Database",
    "Postgres",
    "SyncMode",
    "SyncPlan",
    "SyncSpec",
    "agent_tables",
    "order_tables",
    "plan_sync",
]
