"""From Delta to Postgres: synced tables, their plans, the change-feed sync, the embedded server.

Importing this package alone loads no driver: a name loads what it needs when it is first used.
"""

from typing import TYPE_CHECKING

from caspers_lib._lazy import lazy_names

if TYPE_CHECKING:
    from caspers_lib.lakebase.access import Database, Postgres
    from caspers_lib.lakebase.change_feed import SyncRun, sync_once
    from caspers_lib.lakebase.check import SyncCheck, check_sync
    from caspers_lib.lakebase.connection import connect
    from caspers_lib.lakebase.continuous import Follower, change_feed_handler
    from caspers_lib.lakebase.managed import create_synced_table
    from caspers_lib.lakebase.server import EmbeddedPostgres
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
    "EmbeddedPostgres",
    "Follower",
    "Postgres",
    "SyncCheck",
    "SyncMode",
    "SyncPlan",
    "SyncRun",
    "SyncSpec",
    "agent_tables",
    "change_feed_handler",
    "check_sync",
    "connect",
    "create_synced_table",
    "order_tables",
    "plan_sync",
    "sync_once",
]

__getattr__ = lazy_names(
    __name__,
    {
        "COMPLAINTS": "synced_tables",
        "COMPLAINT_TEXTS": "synced_tables",
        "REFUNDS": "synced_tables",
        "Database": "access",
        "EmbeddedPostgres": "server",
        "Follower": "continuous",
        "Postgres": "access",
        "SyncCheck": "check",
        "SyncMode": "sync_spec",
        "SyncPlan": "sync_plan",
        "SyncRun": "change_feed",
        "SyncSpec": "sync_spec",
        "agent_tables": "synced_tables",
        "change_feed_handler": "continuous",
        "check_sync": "check",
        "connect": "connection",
        "create_synced_table": "managed",
        "order_tables": "synced_tables",
        "plan_sync": "sync_plan",
        "sync_once": "change_feed",
    },
)
