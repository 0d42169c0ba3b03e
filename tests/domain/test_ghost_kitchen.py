"""The business as data, against the contract's tables (docs/contracts.md)."""

from dataclasses import FrozenInstanceError
from datetime import UTC, datetime

import pytest

from caspers_lib.domain import GHOST_KITCHEN, domain_tables
from tests.oracle import COLUMNS

BODIES = {
    "order_created": ["customer_lat", "customer_lon", "customer_addr", "items"],
    "gk_started": [],
    "gk_finished": [],
    "gk_ready": [],
    "driver_arrived": [],
    "driver_picked_up": ["route_points"],
    "driver_ping": ["progress_pct", "loc_lat", "loc_lon"],
    "delivered": ["delivered_lat", "delivered_lon"],
}
KEYS = {
    "gold_order_header": ["order_id"],
    "gold_item_sales_day": ["item_id", "menu_id", "category_id", "brand_id", "day"],
    "gold_brand_sales_day": ["brand_id", "day"],
    "gold_location_sales_hourly": ["location_id", "hour_ts"],
    "gold_delivery_percentiles_hourly": ["location_id", "hour_ts"],
    "gold_kitchen_funnel_day": ["location_id", "day"],
    "gold_late_share_day": ["location_id", "day"],
}


def test_event_types_have_their_ids_names_and_bodies() -> None:
    types = GHOST_KITCHEN.event_types
    assert [(t.id, t.name) for t in types] == list(enumerate(BODIES, start=1))
    assert {t.name: [f.name for f in t.body] for t in types} == BODIES


def test_an_order_is_opened_and_closed_by_events_that_exist() -> None:
    names = GHOST_KITCHEN.types_by_name
    assert list(names) == list(BODIES)
    assert {GHOST_KITCHEN.opening, GHOST_KITCHEN.closing} == {"order_created", "delivered"}
    items = GHOST_KITCHEN.line_items
    assert items.field in [field.name for field in names[items.event].body]


def test_a_loop_is_90_days_from_2024_utc() -> None:
    assert datetime.fromtimestamp(GHOST_KITCHEN.epoch, UTC) == datetime(2024, 1, 1, tzinfo=UTC)
    assert GHOST_KITCHEN.cycle_seconds == 90 * 86_400


def test_an_event_has_seven_fields() -> None:
    assert [(c.name, c.type) for c in GHOST_KITCHEN.event_columns] == [
        ("event_id", "STRING"),
        ("event_type", "STRING"),
        ("ts", "STRING"),
        ("location_id", "INT"),
        ("order_id", "STRING"),
        ("sequence", "INT"),
        ("body", "STRING"),
    ]


def test_an_item_is_read_by_the_datasets_names_into_silvers() -> None:
    assert GHOST_KITCHEN.line_items.element_type == (
        "ARRAY<STRUCT<id: INT, menu_id: INT, category_id: INT, brand_id: INT, name: STRING, "
        "price: DECIMAL(12,2), qty: INT>>"
    )


def test_gold_tables_have_their_keys_and_columns() -> None:
    assert {t.name: [k.name for k in t.keys] for t in GHOST_KITCHEN.gold} == KEYS


def test_every_table_has_its_columns_and_types_and_says_what_they_are() -> None:
    for table in domain_tables(GHOST_KITCHEN):
        if table.name in COLUMNS:
            assert {c.name: c.type.lower() for c in table.columns} == COLUMNS[table.name]
        assert table.comment
        assert [c.name for c in table.columns if not c.comment] == []


def test_a_gold_tables_rows_lie_within_a_day_of_its_source() -> None:
    for table in GHOST_KITCHEN.gold:
        names = {c.name: c.type for c in (*table.keys, *table.measures)}
        assert names.get(table.day) == "DATE" or names.get(table.hour) == "TIMESTAMP"


def test_every_amount_of_money_is_a_decimal_with_two_places() -> None:
    items = GHOST_KITCHEN.line_items
    columns = [*items.columns, *items.derived, *(m for t in GHOST_KITCHEN.gold for m in t.measures)]
    money = {c.name: c.type for c in columns if "price" in c.name or "revenue" in c.name}
    assert len(money) == 6
    # A sum has the type that Spark gives it: none can be too large for its column.
    assert {t for name, t in money.items() if "revenue" in name} == {"DECIMAL(22,2)"}
    assert {t for name, t in money.items() if "price" in name} == {"DECIMAL(12,2)"}


def test_the_business_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        GHOST_KITCHEN.epoch = 0  # type: ignore[misc]
    with pytest.raises(TypeError):
        GHOST_KITCHEN.types_by_name["refunded"] = None  # type: ignore[index]
    assert isinstance(hash(GHOST_KITCHEN), int)
