"""Files that nobody should have written: nothing stops, nothing vanishes, each row is found."""

import json
from pathlib import Path
from typing import Any

import pytest

from caspers_lib.medallion.reconciliation import reconciliation
from caspers_lib.testing import ITEM, event
from caspers_lib.testing import order_created as created
from tests.medallion.business import Business

pytestmark = pytest.mark.spark

LONG = 21_000_000
NOTHING = [
    "event_id_present", "known_event_type", "ts_readable", "order_id_present",
    "location_id_present", "sequence_not_negative", "body_valid",
]  # fmt: skip


def write_all(folder: Path) -> dict[str, list[str]]:
    """Files by name, and the reasons for which their rows are set aside."""
    good = created("good", ITEM)
    lines: dict[str, list[tuple[bytes, list[str]]]] = {
        "good.json": [(json.dumps(good).encode(), [])],
        "empty.json": [],
        "cut.json": [(json.dumps(good).encode()[:90], ["json_readable"])],
        "utf16.json": [(json.dumps(event("u")).encode("utf-16-le"), ["json_readable"])],
        "binary.json": [(bytes(range(128, 256)), ["json_readable"])],
        "long.json": [
            (b'{"event_id":"' + b"x" * LONG + b'"}', ["field_types", *NOTHING]),
            (json.dumps(event("after the long one")).encode(), []),
        ],
        "nulls.json": [
            (
                json.dumps(dict.fromkeys(good)).encode(),
                NOTHING,
            ),
            (b"null", ["json_readable"]),
            (b"{}", NOTHING),
        ],
        "ids as strings.json": [
            (
                json.dumps(event("s", location_id="1", sequence="2")).encode(),
                ["field_types", "location_id_present", "sequence_not_negative"],
            )
        ],
    }  # fmt: skip
    folder.mkdir()
    for name, rows in lines.items():
        (folder / name).write_bytes(b"\n".join(text for text, _ in rows))
    return {
        name: sorted(str(reasons) for _, reasons in rows if reasons) for name, rows in lines.items()
    }


def test_nothing_stops_nothing_vanishes_and_each_row_is_found_by_name(
    spark: Any, schema: str, tmp_path: Path
) -> None:
    wanted = write_all(tmp_path / "events")
    business = Business(spark, schema, tmp_path, Path(), days=1, start_day=0)
    business.update()

    found: dict[str, list[str]] = {name: [] for name in wanted}
    for source, reasons in business.rows("quarantined_events", "source_file", "reasons"):
        found[source.rpartition("/")[2].replace("%20", " ")].append(str(reasons))
    assert {name: sorted(reasons) for name, reasons in found.items()} == wanted
    longest = business.table("quarantined_events").selectExpr("max(length(raw))").first()[0]
    assert longest == LONG + len('{"event_id":""}')
    events, aside = business.table("all_events"), business.table("quarantined_events")
    rows = reconciliation(events, aside).collect()
    assert {r.rows_in - r.rows_out - r.rows_quarantined - r.rows_dropped for r in rows} == {0}
    assert sum(r.rows_in for r in rows) == events.count() == 10
    # No dimension is there at all; the tables are.
    assert business.table("silver_order_items").count() == 1
    assert business.table("gold_order_header").count() == 1
    assert business.table("silver_order_lifecycle").count() == 1
