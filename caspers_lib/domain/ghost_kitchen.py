"""Casper's Kitchens: ghost kitchens in four cities, as data."""

from uuid import UUID

from caspers_lib.domain.model import (
    MONEY,
    AggregateTable,
    BodyField,
    Column,
    Domain,
    Duration,
    EventType,
    Lifecycle,
    LineItems,
    Reference,
    Rule,
)
from caspers_lib.spark_sql import utc_hour

__all__ = ["GHOST_KITCHEN", "LATE_MINUTES"]

DAY = 86_400
LATE_MINUTES = 60
"""An order that takes longer than so many minutes is late."""

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
        Column("menu_id", "INT", "menu_id", "the menu it is on"),
        Column("category_id", "INT", "category_id", "the category it is in"),
        Column("brand_id", "INT", "brand_id", "the brand that sells it"),
        Column("item_name", "STRING", "name", "the dish's name when it was ordered"),
        Column("price", MONEY, "price", "USD for one"),
        Column("qty", "INT", "qty", "units ordered"),
    ),
    derived=(Column("extended_price", MONEY, "price * qty", "USD for the line"),),
)

_LIFECYCLE = Lifecycle(
    "silver_order_lifecycle",
    (
        Duration("prep_minutes", "order_created", "gk_ready", "from the order to ready food"),
        Duration("wait_minutes", "gk_ready", "driver_picked_up", "from ready food to its pick-up"),
        Duration("drive_minutes", "driver_picked_up", "delivered", "from pick-up to delivery"),
        Duration("total_minutes", "order_created", "delivered", "from the order to delivery"),
    ),
)

_IF_ITEMS = "NOT (event_type <=> 'order_created') OR "
_TOTAL = (
    "aggregate(parsed.items, CAST(0 AS DECIMAL(38,2)),"
    " (total, i) -> CAST(total + i.price * i.qty AS DECIMAL(38,2)))"
)
_RULES = (
    Rule(
        "qty_at_least_1",
        f"{_IF_ITEMS}forall(parsed.items, i -> coalesce(i.qty >= 1, false))",
        "quarantine",
        "every line of an order has a quantity of 1 or more",
    ),
    Rule(
        "price_not_negative",
        f"{_IF_ITEMS}forall(parsed.items, i -> coalesce(i.price >= 0, false))",
        "quarantine",
        "every line of an order has a price of 0 or more",
    ),
    Rule(
        "order_total_fits",
        f"{_IF_ITEMS}coalesce({_TOTAL} < 10000000000, true)",
        "quarantine",
        f"an order comes to no more than {MONEY} holds",
    ),
)

_REVENUE = "sum(extended_price)"
# The type of the sum itself: no number of orders exceeds it, and no day's revenue stops an update.
_SUM = "DECIMAL(22,2)"


def _orders(comment: str) -> Column:
    return Column(
        "orders", "BIGINT", "count(DISTINCT order_id)", comment, "approx_count_distinct(order_id)"
    )


_GOLD = (
    AggregateTable(
        "gold_order_header",
        "One row per order",
        keys=(Column("order_id", "STRING", comment="the order, with -L<n> in loop n"),),
        measures=(
            Column("location_id", "INT", "min(location_id)", "the kitchen's location"),
            Column("order_day", "DATE", "min(order_day)", "UTC day of order_created"),
            Column("order_revenue", _SUM, _REVENUE, "USD"),
            Column("total_qty", "BIGINT", "sum(qty)", "units"),
            Column("total_items", "BIGINT", "count(1)", "lines"),
            Column(
                "brands_in_order",
                "ARRAY<INT>",
                "sort_array(collect_set(brand_id))",
                "distinct brand ids, sorted",
            ),
        ),
        day="order_day",
        change_feed=True,
    ),
    AggregateTable(
        "gold_item_sales_day",
        "One row per dish and UTC day",
        keys=(
            Column("item_id", "INT", comment="the dish"),
            Column("menu_id", "INT", comment="the menu it is on"),
            Column("category_id", "INT", comment="the category it is in"),
            Column("brand_id", "INT", comment="the brand"),
            Column("day", "DATE", "order_day", "UTC day of the order"),
        ),
        measures=(
            Column("units_sold", "BIGINT", "sum(qty)", "units"),
            Column("gross_revenue", _SUM, _REVENUE, "USD"),
        ),
        day="day",
    ),
    AggregateTable(
        "gold_brand_sales_day",
        "One row per brand and UTC day",
        keys=(
            Column("brand_id", "INT", comment="the brand"),
            Column("day", "DATE", "order_day", "UTC day of the order"),
        ),
        measures=(
            _orders("distinct orders, exact"),
            Column("items_sold", "BIGINT", "sum(qty)", "units"),
            Column("brand_revenue", _SUM, _REVENUE, "USD"),
        ),
        day="day",
    ),
    AggregateTable(
        "gold_location_sales_hourly",
        "One row per location and UTC hour",
        keys=(
            Column("location_id", "INT", comment="the kitchen's location"),
            Column("hour_ts", "TIMESTAMP", utc_hour("order_ts"), "start of the hour"),
        ),
        measures=(
            _orders("distinct orders, exact"),
            Column("revenue", _SUM, _REVENUE, "USD"),
        ),
        hour="hour_ts",
    ),
    AggregateTable(
        "gold_delivery_percentiles_hourly",
        "How long delivery took, one row per location and UTC hour of the order",
        keys=(
            Column("location_id", "INT", comment="the kitchen's location"),
            Column("hour_ts", "TIMESTAMP", utc_hour("order_created_ts"), "start of the hour"),
        ),
        measures=(
            Column("deliveries", "BIGINT", "count(total_minutes)", "delivered orders"),
            *(
                Column(
                    f"p{percent}_minutes",
                    "DECIMAL(12,2)",
                    # Four places are all that interpolation can give; what is beyond is noise.
                    f"round(percentile(total_minutes, {percent / 100}), 4)",
                    f"minutes that {percent} % of these orders took at most, interpolated",
                    f"percentile_approx(total_minutes, {percent / 100})",
                )
                for percent in (50, 75, 99)
            ),
        ),
        source="lifecycle",
        hour="hour_ts",
    ),
    AggregateTable(
        "gold_kitchen_funnel_day",
        "How far the orders came, one row per location and UTC day of the order",
        keys=(
            Column("location_id", "INT", comment="the kitchen's location"),
            Column("day", "DATE", "order_day", "UTC day of the order"),
        ),
        measures=tuple(
            Column(
                f"{event.name}_orders",
                "BIGINT",
                f"count({event.time_column})",
                f"orders that have had {event.name}",
            )
            for event in _EVENT_TYPES
        ),
        source="lifecycle",
        day="day",
    ),
    AggregateTable(
        "gold_late_share_day",
        f"Orders that took more than {LATE_MINUTES} minutes, one row per location and UTC day",
        keys=(
            Column("location_id", "INT", comment="the kitchen's location"),
            Column("day", "DATE", "order_day", "UTC day of the order"),
        ),
        measures=(
            Column("delivered_orders", "BIGINT", "count(total_minutes)", "delivered orders"),
            Column(
                "late_orders",
                "BIGINT",
                f"count_if(total_minutes > {LATE_MINUTES})",
                f"delivered in more than {LATE_MINUTES} minutes",
            ),
            Column(
                "late_share",
                "DECIMAL(5,4)",
                f"try_divide(count_if(total_minutes > {LATE_MINUTES}), count(total_minutes))",
                "late orders among the delivered ones, 0 to 1; null where none is delivered",
            ),
        ),
        source="lifecycle",
        day="day",
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
    lifecycle=_LIFECYCLE,
    rules=_RULES,
    references=(
        Reference("location_id", "locations", "location_id", "name"),
        Reference("brand_id", "brands", "brand_id", "name"),
        Reference("menu_id", "menus", "id", "name"),
        Reference("category_id", "categories", "id", "name"),
        Reference("item_id", "items", "id", "name"),
    ),
)
