"""The plan that most tests of the sync carry out."""

from caspers_lib.lakebase import REFUNDS, plan_sync

REFUND_COLUMNS = {
    "order_id": "string",
    "ts": "timestamp",
    "order_ts": "timestamp",
    "agent_response": "string",
}
PLAN = plan_sync(REFUNDS, REFUND_COLUMNS)
