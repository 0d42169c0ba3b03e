"""Rules of quality on a few landed lines: what is accepted, set aside, named and counted."""

import json
from dataclasses import replace
from typing import Any

import pytest
from pyspark.errors import PySparkException
from pyspark.sql import functions as F

from caspers_lib.domain import GHOST_KITCHEN, Rule, event_rules
from caspers_lib.medallion.bronze import direct_events, events_of_lines
from caspers_lib.medallion.quality import (
    accepted_events,
    parsed_events,
    quarantined_events,
    repaired_events,
    violated,
)
from caspers_lib.medallion.reconciliation import reconciliation
from caspers_lib.medallion.silver import silver_order_items, unique_events
from caspers_lib.testing import ITEM, event
from caspers_lib.testing import order_created as created
from tests.oracle import rows_of

pytestmark = pytest.mark.spark

HOSTILE = "o'\"\\\n\x00<script>alert(1)</script>'); DROP TABLE x; -- é😀"
# Event id to the event and the reasons why it is set aside, none where it is accepted.
EVENTS: dict[str, tuple[dict[str, object], list[str]]] = {
    "good": (event("good"), []),
    "good order": (created("good order", ITEM, ITEM), []),
    "free": (created("free", ITEM | {"price": 0}), []),
    "hostile": (event("hostile", order_id=HOSTILE), []),
    "new field": (event("new field", loyalty=3), []),
    "new body field": (event("new body field", body='{"loyalty":3}'), []),
    "new field of a line": (created("new field of a line", ITEM | {"spicy": True}), []),
    "late by years": (event("late by years", ts="1999-12-31 23:59:59.999"), []),
    "no decimals": (event("no decimals", ts="2024-02-29 23:59:59"), []),
    "first time": (event("first time", ts="1900-01-01 00:00:00.000"), []),
    "last time": (event("last time", ts="2261-12-31 23:59:59.999999"), []),
    "unknown type": (event("unknown type", event_type=HOSTILE), ["known_event_type"]),
    "no type": (event("no type", event_type=None), ["known_event_type"]),
    "no time": (event("no time", ts="yesterday"), ["ts_readable"]),
    "null time": (event("null time", ts=None), ["ts_readable"]),
    **{
        f"time {ts}": (event(f"time {ts}", ts=ts), ["ts_readable"])
        for ts in (
            "1899-12-31 23:59:59.999", "2262-01-01 00:00:00.000", "0001-01-01 00:00:00.000",
            "0000-01-01 00:00:00.000", "-0001-01-01 00:00:00", "9999-12-31 23:59:59.999",
            "10000-01-01 00:00:00.000", "+10000-01-01 00:00:00", "294247-01-10 04:00:54.775",
            "2024-02-30 00:00:00", "2024-03-11 24:00:00", "2024-3-1 1:2:3", "2024-03-11",
            "12:00:00", "2024-03-11T00:00:00", "2024-03-11 00:00:00Z", "2024-03-11 00:00:00+05:30",
            "2024-03-11 00:00:00 America/Los_Angeles", "2024-03-11 00:00:00.1234567", "now", "",
            "1710115200", "2024-03-11 00:00:00\n",
        )
    },
    "no order": (event("no order", order_id=""), ["order_id_present"]),
    "null order": (event("null order", order_id=None), ["order_id_present"]),
    "null site": (event("null site", location_id=None), ["location_id_present"]),
    "negative": (event("negative", sequence=-1), ["sequence_not_negative"]),
    "typed": (event("typed", sequence="1"), ["field_types", "sequence_not_negative"]),
    "site as text": (
        event("site as text", location_id="1"), ["field_types", "location_id_present"],
    ),
    "body is text": (event("body is text", body='"{}"'), ["body_valid"]),
    "body is cut": (event("body is cut", body='{"loc_lat":'), ["body_valid"]),
    **{
        f"body {body}": (event(f"body {body}", body=body), ["body_valid"])
        for body in (
            "{}{}", "{} {}", "{},{}", "{}],[{}", "{},1] {}", "{} and more", "{}}", "[{}]",
            '{"loc_lat":1e999}', '{"loc_lat":-1e999}', '{"loc_lat":"Infinity"}', '{"loc_lat":NaN}',
            '{"route_points":[[37.5,1e999]]}',
        )
    },
    "finite": (event("finite", body='{"loc_lat":1e308,"route_points":[[0,-1]]}'), []),
    "two lists": (
        created("two lists") | {"body": '{"items":[]}{"items":[]}'},
        ["body_valid", "items_not_empty"],
    ),
    "no body": (event("no body", body=None), ["body_valid"]),
    "body's field": (
        event("body's field", event_type="driver_ping", body='{"loc_lat":"north"}'),
        ["body_valid"],
    ),
    "empty order": (created("empty order"), ["items_not_empty"]),
    "order without items": (
        event("order without items", event_type="order_created"),
        ["items_not_empty", "qty_at_least_1", "price_not_negative"],
    ),
    "no quantity": (created("no quantity", ITEM, ITEM | {"qty": 0}), ["qty_at_least_1"]),
    "null quantity": (created("null quantity", ITEM | {"qty": None}), ["qty_at_least_1"]),
    "negative price": (created("negative price", ITEM | {"price": -1}), ["price_not_negative"]),
    "price as word": (
        created("price as word", ITEM | {"price": "x"}), ["body_valid", "price_not_negative"],
    ),
    "price beyond money": (
        created("price beyond money", ITEM | {"price": 1e10}), ["body_valid", "price_not_negative"],
    ),
    "largest order": (created("largest order", ITEM | {"price": 9_999_999_999.99}), []),
    "total beyond money": (
        created("total beyond money", ITEM | {"price": 9_999_999_999.99}, ITEM),
        ["order_total_fits"],
    ),
    "quantity beyond money": (
        created("quantity beyond money", ITEM | {"price": 5, "qty": 2_147_483_647}),
        ["order_total_fits"],
    ),
    "quantity beyond numbers": (
        created("quantity beyond numbers", ITEM | {"qty": 1e40}), ["body_valid", "qty_at_least_1"],
    ),
    "null item": (created("null item", None), ["qty_at_least_1", "price_not_negative"]),
}  # fmt: skip
BROKEN = ["not json", "[1]", '{"event_id":"cut"', HOSTILE.replace("\n", "")]


@pytest.fixture(scope="module")
def bronze(spark: Any) -> Any:
    texts = [json.dumps(e) for e, _ in EVENTS.values()] + BROKEN
    # One of them twice, in another file.
    lines = [(text, "a.json") for text in texts] + [(json.dumps(event("good")), "b.json")]
    frame = spark.createDataFrame(lines, "value STRING, file STRING")
    return events_of_lines(frame, "file").cache()


@pytest.fixture(scope="module")
def aside(bronze: Any) -> dict[str | None, dict[str, Any]]:
    frame = quarantined_events(bronze)
    rows = [dict(zip(frame.columns, row, strict=True)) for row in rows_of(frame)]
    return {row["event_id"] or row["raw"]: row for row in rows}


@pytest.mark.parametrize("event_id", EVENTS)
def test_an_event_is_set_aside_with_exactly_the_rules_that_it_violates(
    aside: dict[str | None, dict[str, Any]], event_id: str
) -> None:
    reasons = EVENTS[event_id][1]
    found = aside.get(event_id)
    assert (found["reasons"] if found else []) == reasons


@pytest.mark.parametrize("line", BROKEN)
def test_a_line_that_cannot_be_read_is_set_aside_whole_and_nothing_else_is_said_of_it(
    aside: dict[str | None, dict[str, Any]], line: str
) -> None:
    assert aside[line]["reasons"] == ["json_readable"]
    assert aside[line]["source_file"] == "a.json"


def test_the_raw_text_of_a_row_is_the_event_as_it_landed(
    aside: dict[str | None, dict[str, Any]],
) -> None:
    for event_id in ("unknown type", "body is text", "negative price", "typed"):
        assert json.loads(aside[event_id]["raw"]) == EVENTS[event_id][0]


def test_t3_every_row_is_accepted_or_set_aside(bronze: Any) -> None:
    accepted, rejected = accepted_events(bronze), quarantined_events(bronze)
    assert accepted.count() + rejected.count() == bronze.count()
    assert set(accepted.columns) == set(bronze.columns)
    ids = {row[0] for row in accepted.select("event_id").collect()}
    assert ids == {event_id for event_id, (_, reasons) in EVENTS.items() if not reasons}


def test_a_warning_is_counted_and_sets_nothing_aside(bronze: Any) -> None:
    warned = parsed_events(bronze).select("event_id", violated(event_rules(GHOST_KITCHEN), "warn"))
    found = {row[0]: row[1] for row in warned.collect() if row[0] and row[1]}
    assert found["new field"] == ["no_new_field"]
    assert found["new body field"] == ["no_new_body_field"]
    assert "good" not in found


def test_in_is_out_and_quarantined_and_dropped_for_each_file_and_by_rule(bronze: Any) -> None:
    rows = {r.source_file: r for r in reconciliation(bronze, quarantined_events(bronze)).collect()}
    good = sum(not reasons for _, reasons in EVENTS.values())
    bad = len(EVENTS) - good + len(BROKEN)
    first, second = rows["a.json"], rows["b.json"]
    assert (first.rows_in, first.rows_out, first.rows_quarantined, first.rows_dropped) == (
        good + bad, good, bad, 0,
    )  # fmt: skip
    assert (second.rows_in, second.rows_out, second.rows_quarantined) == (1, 0, 0)
    assert (second.rows_dropped, second.by_rule) == (1, {"duplicate_event": 1})
    assert first.by_rule["json_readable"] == len(BROKEN)
    assert first.by_rule["known_event_type"] == 2
    assert first.by_rule["no_new_body_field"] >= 1


def test_a_row_that_the_quarantine_lacks_is_missing_in_the_sum(bronze: Any) -> None:
    lacking = quarantined_events(bronze).where("event_id <> 'no time'")
    (row,) = [r for r in reconciliation(bronze, lacking).collect() if r.source_file == "a.json"]
    assert row.rows_in > row.rows_out + row.rows_quarantined + row.rows_dropped


def test_repaired_rows_come_back_as_events_and_count_once(bronze: Any) -> None:
    rejected = quarantined_events(bronze).where("event_id IN ('negative', 'no quantity')")
    mended = rejected.select(
        F.regexp_replace(
            F.regexp_replace("raw", '"sequence":-1', '"sequence":1'),
            r'\\"qty\\": 0',
            r'\\"qty\\": 1',
        ).alias("value")
    )
    again = direct_events(repaired_events(mended), "repaired")
    assert quarantined_events(again).count() == 0
    everything = unique_events(accepted_events(bronze.unionByName(again)))
    lines = silver_order_items(everything.unionByName(again).dropDuplicates(["event_id"]))
    assert {r[0] for r in again.select("event_id").collect()} == {"negative", "no quantity"}
    assert lines.where("order_id = 'O1'").count() >= 5


def test_a_dropped_row_is_counted_by_its_rule(bronze: Any) -> None:
    rule = Rule("no_ping", "event_type <> 'driver_ping'", "drop", "no pings")
    domain = replace(GHOST_KITCHEN, rules=(*GHOST_KITCHEN.rules, rule))
    pings = bronze.where("event_id = 'good'").withColumn("event_type", F.lit("driver_ping"))
    assert accepted_events(pings, domain).count() == 0
    rows = reconciliation(pings, quarantined_events(pings, domain), domain).collect()
    assert [(r.rows_in, r.rows_dropped, r.by_rule) for r in sorted(rows)] == [
        (1, 1, {"no_ping": 1}),
        (1, 1, {"no_ping": 1}),
    ]


def test_a_rule_that_fails_stops_and_names_itself_and_the_event(bronze: Any) -> None:
    rule = Rule("no_ping", "event_type <> 'gk_started'", "fail", "nothing starts")
    domain = replace(GHOST_KITCHEN, rules=(*GHOST_KITCHEN.rules, rule))
    with pytest.raises(PySparkException, match="rule no_ping is violated by event"):
        accepted_events(bronze, domain).collect()
