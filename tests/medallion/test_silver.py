"""Line items of a few orders, all taken apart by one query."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from caspers_lib.domain import GHOST_KITCHEN, Column, Domain, EventType, LineItems
from caspers_lib.medallion.silver import silver_order_items, unique_events
from tests.oracle import COLUMNS, rows_of

pytestmark = pytest.mark.spark

EVENTS = (
    "event_id STRING, event_type STRING, ts STRING, location_id INT, order_id STRING, "
    "sequence INT, body STRING"
)
NOON = "2024-03-11 12:00:00.000"
HOSTILE = "o'\"\\\n\r\t\x00\u2028<script>alert(1)</script>'); DROP TABLE x; -- é😀 \u202e"


def item(**fields: object) -> dict[str, object]:
    whole: dict[str, object] = {
        "id": 7, "category_id": 6, "menu_id": 5, "brand_id": 4,
        "name": "Soup", "price": 9.5, "qty": 1,
    }  # fmt: skip
    return whole | fields


def body(*items: object) -> str:
    return json.dumps({"customer_lat": 37.5, "customer_addr": "1 Any Street", "items": list(items)})


# Order id to (event type, ts, body).
ORDERS: dict[str, tuple[str, str | None, str | None]] = {
    "three lines": (
        "order_created", NOON, body(item(id=1, qty=2), item(id=2), item(id=1, name="Tea")),
    ),
    "cents": ("order_created", NOON, body(*[item(price=0.1, qty=3)] * 3, item(price=0.2))),
    "price as text": ("order_created", NOON, body(item(price="1.25", qty=4))),
    "price of a float32": ("order_created", NOON, body(item(price=12.350000381469727))),
    "half a cent": ("order_created", NOON, body(item(price=2.675))),
    "hostile": ("order_created", NOON, body(item(name=HOSTILE), item(name=""))),
    "before midnight": ("order_created", "2024-03-11 23:59:59.999", body(item())),
    "at midnight": ("order_created", "2024-03-12 00:00:00.000", body(item())),
    "leap day": ("order_created", "2024-02-29 23:59:59.999", body(item())),
    "time unknown": ("order_created", "yesterday", body(item())),
    "price unknown": ("order_created", NOON, body(item(price="many"), item())),
    "price beyond the column": ("order_created", NOON, body(item(price=1e12), item())),
    "total beyond the column": ("order_created", NOON, body(item(price=9_999_999_999.99, qty=2))),
    "quantity beyond the column": ("order_created", NOON, body(item(qty=3_000_000_000))),
    "no body": ("order_created", NOON, None),
    "blank body": ("order_created", NOON, ""),
    "empty body": ("order_created", NOON, "{}"),
    "no items": ("order_created", NOON, body()),
    "cut off": ("order_created", NOON, '{"items":[{"id":1,'),
    "items are no list": ("order_created", NOON, '{"items":"soup"}'),
    "not json": ("order_created", NOON, "<items/>"),
    "another event": ("delivered", NOON, body(item())),
}  # fmt: skip


@pytest.fixture(scope="module")
def lines(spark: Any) -> dict[str, list[dict[str, Any]]]:
    """Silver rows by order, in the order of their lines."""
    events = [
        (f"e{n}", kind, ts, 3, order_id, 1, text)
        for n, (order_id, (kind, ts, text)) in enumerate(ORDERS.items())
    ]
    silver = silver_order_items(spark.createDataFrame(events, EVENTS))
    assert dict(silver.dtypes) == COLUMNS["silver_order_items"]
    found: dict[str, list[dict[str, Any]]] = {order_id: [] for order_id in ORDERS}
    for row in sorted(rows_of(silver), key=lambda row: row[1]):
        found[row[0]].append(dict(zip(silver.columns, row, strict=True)))
    return found


Lines = dict[str, list[dict[str, Any]]]


def test_a_line_carries_the_order_its_number_and_the_item(lines: Lines) -> None:
    assert lines["three lines"][0] == {
        "order_id": "three lines",
        "line": 1,
        "location_id": 3,
        "order_ts": datetime(2024, 3, 11, 12, 0),
        "order_day": date(2024, 3, 11),
        "item_id": 1,
        "menu_id": 5,
        "category_id": 6,
        "brand_id": 4,
        "item_name": "Soup",
        "price": Decimal("9.50"),
        "qty": 2,
        "extended_price": Decimal("19.00"),
    }


def test_lines_are_numbered_from_1_in_the_order_of_the_body(lines: Lines) -> None:
    found = [(row["line"], row["item_id"], row["item_name"]) for row in lines["three lines"]]
    assert found == [(1, 1, "Soup"), (2, 2, "Soup"), (3, 1, "Tea")]


@pytest.mark.parametrize(
    ("order_id", "total"),
    [
        ("cents", "1.10"),
        ("price as text", "5.00"),
        ("price of a float32", "12.35"),
        ("half a cent", "2.68"),
    ],
)
def test_t4_money_is_exact_to_the_cent(lines: Lines, order_id: str, total: str) -> None:
    assert sum(row["extended_price"] for row in lines[order_id]) == Decimal(total)


def test_hostile_text_survives_in_names(lines: Lines) -> None:
    assert [row["item_name"] for row in lines["hostile"]] == [HOSTILE, ""]


@pytest.mark.parametrize(
    ("order_id", "day"),
    [
        ("before midnight", date(2024, 3, 11)),
        ("at midnight", date(2024, 3, 12)),
        ("leap day", date(2024, 2, 29)),
    ],
)
def test_the_day_turns_at_midnight_utc(lines: Lines, order_id: str, day: date) -> None:
    assert [row["order_day"] for row in lines[order_id]] == [day]


def test_the_time_keeps_its_milliseconds(lines: Lines) -> None:
    assert lines["before midnight"][0]["order_ts"] == datetime(2024, 3, 11, 23, 59, 59, 999_000)


def test_an_unreadable_time_is_absent(lines: Lines) -> None:
    (row,) = lines["time unknown"]
    assert (row["order_ts"], row["order_day"]) == (None, None)


@pytest.mark.parametrize("order_id", ["price unknown", "price beyond the column"])
def test_an_unreadable_price_is_absent_and_spares_the_other_lines(
    lines: Lines, order_id: str
) -> None:
    broken, sound = lines[order_id]
    assert (broken["price"], broken["extended_price"]) == (None, None)
    assert sound["extended_price"] == Decimal("9.50")


def test_a_total_beyond_the_column_is_absent_and_stops_nothing(lines: Lines) -> None:
    (row,) = lines["total beyond the column"]
    assert (row["price"], row["extended_price"]) == (Decimal("9999999999.99"), None)
    (row,) = lines["quantity beyond the column"]
    assert (row["qty"], row["extended_price"]) == (None, None)


@pytest.mark.parametrize(
    "order_id",
    ["no body", "blank body", "empty body", "no items", "cut off", "items are no list", "not json"],
)
def test_an_order_without_a_readable_list_gives_no_row(lines: Lines, order_id: str) -> None:
    assert lines[order_id] == []


def test_only_the_opening_event_gives_lines(lines: Lines) -> None:
    assert lines["another event"] == []


@pytest.fixture
def clinic() -> Iterator[Domain]:
    """A business of another kind, with the same shape."""
    treatments = LineItems(
        table="silver_visit_treatments",
        event="visit_begun",
        field="treatments",
        columns=(Column("code", "STRING", "c"), Column("minutes", "INT", "m")),
        derived=(Column("hours", "DECIMAL(6,2)", "minutes / 60"),),
    )
    yield Domain(
        name="clinic",
        namespace=GHOST_KITCHEN.namespace,
        epoch=0,
        cycle_seconds=86_400,
        entity_key="visit_id",
        site_key="ward_id",
        event_types=(EventType(1, "visit_begun"),),
        opening="visit_begun",
        closing="visit_begun",
        line_items=treatments,
        gold=(),
    )


def test_another_business_needs_only_its_own_data(spark: Any, clinic: Domain) -> None:
    text = json.dumps({"treatments": [{"c": "X-1", "m": 90}, {"c": "Y-2", "m": 10}]})
    events = spark.createDataFrame(
        [("e", "visit_begun", NOON, 2, "V1", 1, text)],
        EVENTS.replace("location_id", "ward_id").replace("order_id", "visit_id"),
    )
    noon = datetime(2024, 3, 11, 12, tzinfo=UTC).replace(tzinfo=None)
    assert rows_of(silver_order_items(events, clinic)) == [
        ("V1", 1, 2, noon, noon.date(), "X-1", 90, Decimal("1.50")),
        ("V1", 2, 2, noon, noon.date(), "Y-2", 10, Decimal("0.17")),
    ]


def test_t2_an_event_counts_once_and_none_is_lost_whatever_the_clock_did(
    spark: Any, schema: str, tmp_path: Path
) -> None:
    table = f"{schema}.landed"
    # Days by which the clock is off as each batch comes in.
    for batch, days in enumerate((0, 31, 0, -400)):
        # Each time 20 new events, and all that came before once more.
        spark.sql(
            f"SELECT concat('e', id) AS event_id, "
            f"TIMESTAMP '2024-03-11 12:00:00' + INTERVAL {days} DAYS AS ingest_ts "
            f"FROM range({batch * 20 + 20})"
        ).write.mode("append").saveAsTable(table)
        query = (
            unique_events(spark.readStream.table(table))
            .writeStream.option("checkpointLocation", str(tmp_path / "checkpoint"))
            .trigger(availableNow=True)
            .toTable(f"{schema}.once")
        )
        query.awaitTermination()
    counted = spark.table(f"{schema}.once").groupBy("event_id").count().collect()
    assert {row[0]: row[1] for row in counted} == {f"e{n}": 1 for n in range(80)}


def test_in_a_batch_an_event_counts_once(spark: Any) -> None:
    rows = spark.createDataFrame([("a",), ("a",), ("b",)], "event_id STRING")
    assert sorted(r[0] for r in unique_events(rows).collect()) == ["a", "b"]
