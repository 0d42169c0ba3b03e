"""Casper's Kitchens: ghost kitchens in four cities, as data.

Contract: DESIGN sections 4 (dataset), 5 (events) and 6 (tables).
"""

from uuid import UUID

from caspers_lib.domain.model import (
    MONEY,
    AggregateTable,
    BodyField,
    Column,
    Domain,
    EventType,
    LineItems,
)

__all__ = ["GHOST_KITCHEN"]

DAY = 86_400

_EVENT_TYPES = (
    EventType(
        1,
        "order_created",
        (
            BodyField("customer_lat", "customer_lat", "number", "DOUBLE"),
            BodyField("customer_lon", "customer_lon", "number", "DOUBLE"),
            BodyField("customer_addr", "customer_addr", "text", "STRING"),
            BodyField("items", "items_json", "json", "STRING"),
        ),
    ),
    EventType(2, "gk_started"),
    EventType(3, "gk_finished"),
    EventType(4, "gk_ready"),
    EventType(5, "driver_arrived"),
    EventType(
        6,
        "driver_picked_up",
        (BodyField("route_points", "route_json", "json", "ARRAY<ARRAY<DOUBLE>>"),),
    ),
    EventType(
        7,
        "driver_ping",
        (
            BodyField("progress_pct", "ping_progress", "number", "DOUBLE"),
            BodyField("loc_lat", "ping_lat", "number", "DOUBLE"),
            BodyField("loc_lon", "ping_lon", "number", "DOUBLE"),
        ),
    ),
    EventType(
        8,
        "delivered",
        (
            BodyField("delivered_lat", "customer_lat", "number", "DOUBLE"),
            BodyField("delivered_lon", "customer_lon", "number", "DOUBLE"),
        ),
    ),
)

_ITEMS = LineItems(
    table="silver_order_items",
    event="order_created",
    field="items",
    columns=(
        Column("item_id", "INT", "id", "the dish"),
        Column("menu_id", "INT", "menu_id"),
        Column("category_id", "INT", "category_id"),
        Column("brand_id", "INT", "brand_id"),
        Column("item_name", "STRING", "name", "the dish's name when it was ordered"),
        Column("price", MONEY, "price", "USD for one"),
        Column("qty", "INT", "qty", "units ordered"),
    ),
    derived=(Column("extended_price", MONEY, "price * qty", "USD for the line"),),
)

_REVENUE = "sum(extended_price)"
_ORDERS = "count(DISTINCT order_id)"

_GOLD = (
    AggregateTable(
        "gold_order_header",
        "One row per order",
        keys=(Column("order_id", "STRING"),),
        measures=(
            Column("location_id", "INT", "min(location_id)"),
            Column("order_day", "DATE", "min(order_day)", "UTC day of order_created"),
            Column("order_revenue", MONEY, _REVENUE, "USD"),
            Column("total_qty", "BIGINT", "sum(qty)", "units"),
            Column("total_items", "BIGINT", "count(1)", "lines"),
            Column(
                "brands_in_order",
                "ARRAY<INT>",
                "sort_array(collect_set(brand_id))",
                "distinct brand ids, sorted",
            ),
        ),
    ),
    AggregateTable(
        "gold_item_sales_day",
        "One row per dish and UTC day",
        keys=(
            Column("item_id", "INT"),
            Column("menu_id", "INT"),
            Column("category_id", "INT"),
            Column("brand_id", "INT"),
            Column("day", "DATE", "order_day"),
        ),
        measures=(
            Column("units_sold", "BIGINT", "sum(qty)", "units"),
            Column("gross_revenue", MONEY, _REVENUE, "USD"),
        ),
    ),
    AggregateTable(
        "gold_brand_sales_day",
        "One row per brand and UTC day",
        keys=(Column("brand_id", "INT"), Column("day", "DATE", "order_day")),
        measures=(
            Column("orders", "BIGINT", _ORDERS, "distinct orders, exact"),
            Column("items_sold", "BIGINT", "sum(qty)", "units"),
            Column("brand_revenue", MONEY, _REVENUE, "USD"),
        ),
    ),
    AggregateTable(
        "gold_location_sales_hourly",
        "One row per location and UTC hour",
        keys=(
            Column("location_id", "INT"),
            Column("hour_ts", "TIMESTAMP", "date_trunc('HOUR', order_ts)", "start of the hour"),
        ),
        measures=(
            Column("orders", "BIGINT", _ORDERS, "distinct orders, exact"),
            Column("revenue", MONEY, _REVENUE, "USD"),
        ),
    ),
)

GHOST_KITCHEN = Domain(
    name="ghost_kitchen",
    namespace=UUID("5d0c8a52-6d4b-5c0e-9f0e-0a6f3c1b7e21"),
    epoch=1_704_067_200,  # 2024-01-01T00:00:00Z
    cycle_seconds=90 * DAY,
    entity_key="order_id",
    site_key="location_id",
    event_types=_EVENT_TYPES,
    opening="order_created",
    closing="delivered",
    line_items=_ITEMS,
    gold=_GOLD,
)
