from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest
from pyspark.sql import functions as F

from caspers_lib.agents.timings import deliveries, location_timings
from caspers_lib.domain import GHOST_KITCHEN

pytestmark = pytest.mark.spark


def test_deliveries_join_creation_and_delivery_and_count_repeated_events_once(
    business: Any,
) -> None:
    def event(kind: str, ts: str | None, order: str) -> tuple[Any, ...]:
        return ("id", kind, ts, 3, order, 1, "{}")

    rows = [
        event("order_created", "2024-03-01 10:00:00.000", "usual"),
        event("delivered", "2024-03-01 10:41:00.300", "usual"),
        event("delivered", "2024-03-01 10:41:00.300", "usual"),
        event("order_created", "2024-03-01 10:00:00.000", "usual"),
        event("gk_started", "2024-03-01 10:05:00.000", "usual"),
        event("order_created", "2024-03-01 10:00:00.000", "under way"),
        event("delivered", "2024-03-01 11:00:00.000", "no creation"),
        event("order_created", "2024-03-01 12:00:00.000", "backwards"),
        event("delivered", "2024-03-01 11:00:00.000", "backwards"),
        event("order_created", "2024-02-28 11:00:00.000", "days"),
        event("delivered", "2024-03-01 11:00:00.001", "days"),
        event("delivered", "yesterday", "unreadable"),
        event("delivered", None, "timeless"),
    ]
    found = {
        r.order_id: (r.location_id, r.order_ts is not None, r.total_minutes)
        for r in deliveries(business.events(rows), GHOST_KITCHEN).collect()
    }
    assert found == {
        "usual": (3, True, Decimal("41.01")),
        "no creation": (3, False, None),
        "backwards": (3, False, None),
        "days": (3, False, None),
    }


def test_timings_are_the_exact_percentiles_of_the_24_hours_before_the_hour(spark: Any) -> None:
    noon = int(datetime(2024, 3, 1, 12, tzinfo=UTC).timestamp())
    took = [Decimal(m) / 4 for m in range(80, 300, 7)]
    inside = [(1, noon - 60 * i - 1, m) for i, m in enumerate(took)]
    edges = [
        (1, noon, Decimal(900)),
        (1, noon - 24 * 3600, Decimal("10.01")),
        (1, noon - 24 * 3600 - 1, Decimal(900)),
        (2, noon - 5, Decimal(900)),
        (1, noon - 5, None),
        (1, noon + 3 * 3600, Decimal(900)),
    ]
    delivered = spark.createDataFrame(
        inside + edges, "location_id INT, s BIGINT, total_minutes DECIMAL(12,2)"
    ).select("location_id", F.timestamp_seconds("s").alias("delivered_ts"), "total_minutes")
    timed = location_timings(delivered).select("*", F.unix_seconds("hour_ts").alias("s"))
    row = timed.where(f"location_id = 1 AND s = {noon}").collect()
    values = sorted([*took, Decimal("10.01")])

    def percentile(p: str) -> Decimal:
        position = (len(values) - 1) * Decimal(p)
        low = int(position)
        high = min(low + 1, len(values) - 1)
        exact = values[low] + (values[high] - values[low]) * (position - low)
        return exact.quantize(Decimal("0.01"), ROUND_HALF_UP)

    assert [(r.orders, r.p50, r.p75, r.p99) for r in row] == [
        (len(values), percentile("0.5"), percentile("0.75"), percentile("0.99"))
    ]
