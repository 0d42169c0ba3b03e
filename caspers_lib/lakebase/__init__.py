"""From Delta to Postgres: sync plans, the change-feed sync, the embedded server."""

from caspers_lib.lakebase.sync_spec import COMPLAINTS, REFUNDS, SyncColumn, SyncSpec

__all__ = ["COMPLAINTS", "REFUNDS", "SyncColumn", "SyncSpec"]
