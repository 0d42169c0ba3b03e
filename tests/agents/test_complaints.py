from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from caspers_lib.agents.complaint_draws import complains, complaint_category, complaint_id
from caspers_lib.agents.complaints import complaining_orders, raw_complaints
from caspers_lib.domain import GHOST_KITCHEN

pytestmark = pytest.mark.spark

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
SCHEMA = (
    "order_id STRING, delivered_ts TIMESTAMP, total_minutes DECIMAL(12,2),"
    " lines ARRAY<STRUCT<line: INT, item_name: STRING, price: DECIMAL(12,2)>>"
)
HOSTILE = "Pho'\"\\\n\x00{wait}%s$1<script>alert(1)</script>"


def test_the_sample_ids_and_categories_equal_the_python_twin_j6(spark: Any) -> None:
    names = [f"o-{n}" for n in range(1500)] + ["", "é漢\U0001f35c", "a'\"\\\n\x00;--", "x" * 300]
    rows = [(i, NOON, Decimal("48.90"), [(0, "Soup", Decimal("5.00"))]) for i in names]
    orders = spark.createDataFrame(rows, SCHEMA)

    for rate in (0, 0.15, 1):
        sampled = complaining_orders(orders.select("order_id"), rate, 7).collect()
        assert sorted(r.order_id for r in sampled) == sorted(
            i for i in names if complains(i, rate, 7)
        )
    complaints = raw_complaints(orders, 7, GHOST_KITCHEN.namespace).collect()
    assert {r.order_id: (r.complaint_id, r.complaint_category) for r in complaints} == {
        i: (complaint_id(i, GHOST_KITCHEN.namespace), complaint_category(i, 7)) for i in names
    }
    assert {r.generated_by for r in complaints} == {"rules"}
    assert all(r.complaint_text for r in complaints)
    assert len({r.complaint_text for r in complaints}) > 60


def test_a_complaint_tells_what_was_true_of_its_order_and_hostile_names_stay_text(
    spark: Any,
) -> None:
    lines = [(0, HOSTILE, Decimal("5.00")), (1, "Rice", Decimal("3.00"))]
    rows = [(f"o-{n}", NOON, Decimal("48.90"), lines) for n in range(300)]
    rows += [(f"bare-{n}", None, None, None) for n in range(100)]
    found = raw_complaints(spark.createDataFrame(rows, SCHEMA), 7, GHOST_KITCHEN.namespace)
    texts = {r.order_id: r.complaint_text for r in found.collect()}

    full = [t for i, t in texts.items() if i.startswith("o-")]
    assert any(HOSTILE in t for t in full)
    assert any("Rice" in t for t in full)
    assert any("48 minutes" in t for t in full)
    assert not any("unknown" in t or "{item}" in t for t in texts.values())
    bare = [t for i, t in texts.items() if i.startswith("bare-")]
    assert any("much longer than expected" in t for t in bare)
    assert not any("minutes" in t for t in bare)
