"""Gold tables of a handful of line items, against figures worked out by hand."""

from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.domain.tables import line_items_table
from caspers_lib.medallion.gold import aggregate
from caspers_lib.medallion.incremental import update_derived_tables
from caspers_lib.medallion.positions import PositionsFile
from tests.oracle import COLUMNS, rows_of

pytestmark = pytest.mark.spark

LAST_SECOND = datetime(2024, 3, 11, 23, 59, 59, 999_000)
MIDNIGHT = datetime(2024, 3, 12)
LATER = datetime(2024, 3, 12, 0, 59, 59)
FIRST, SECOND = date(2024, 3, 11), date(2024, 3, 12)


def line(
    order_id: str, number: int, ts: datetime, *, brand: int, item: int, price: str, qty: int = 1
) -> tuple[Any, ...]:
    ids = (item, item // 10, item // 10 * 2, brand)
    amount = Decimal(price)
    return (order_id, number, 1, ts, ts.date(), *ids, "Soup", amount, qty, amount * qty)


LINES = [
    # Two brands, brand 9 before and after brand 2, one dish on two lines.
    line("A", 1, LAST_SECOND, brand=9, item=90, price="0.10", qty=3),
    line("A", 2, LAST_SECOND, brand=2, item=20, price="0.20"),
    line("A", 3, LAST_SECOND, brand=9, item=90, price="0.10"),
    line("B", 1, MIDNIGHT, brand=2, item=20, price="1234567.89"),
    line("C", 1, LATER, brand=2, item=21, price="0.01", qty=2),
    line("C", 2, LATER, brand=2, item=20, price="0.02"),
]


@pytest.fixture(scope="module")
def items(spark: Any) -> Any:
    columns = COLUMNS["silver_order_items"]
    ddl = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    return spark.createDataFrame(LINES, ddl)


def gold_rows(items: Any, name: str) -> list[tuple[Any, ...]]:
    (table,) = [table for table in GHOST_KITCHEN.gold if table.name == name]
    frame = aggregate(items, table)
    assert dict(frame.dtypes) == COLUMNS[name]
    return sorted(rows_of(frame.select(*COLUMNS[name])))


def test_every_gold_table_is_checked_here_and_by_the_oracle() -> None:
    gold = [name for name in COLUMNS if name.startswith("gold_")]
    assert [table.name for table in GHOST_KITCHEN.gold] == gold


def test_an_order_has_one_header_with_its_distinct_brands_sorted(items: Any) -> None:
    assert gold_rows(items, "gold_order_header") == [
        ("A", 1, FIRST, Decimal("0.60"), 5, 3, [2, 9]),
        ("B", 1, SECOND, Decimal("1234567.89"), 1, 1, [2]),
        ("C", 1, SECOND, Decimal("0.04"), 3, 2, [2]),
    ]


def test_a_dish_counts_by_the_day_of_its_order(items: Any) -> None:
    assert gold_rows(items, "gold_item_sales_day") == [
        (20, 2, 4, 2, FIRST, 1, Decimal("0.20")),
        (20, 2, 4, 2, SECOND, 2, Decimal("1234567.91")),
        (21, 2, 4, 2, SECOND, 2, Decimal("0.02")),
        (90, 9, 18, 9, FIRST, 4, Decimal("0.40")),
    ]


def test_a_brand_counts_an_order_once_however_many_lines_it_has(items: Any) -> None:
    assert gold_rows(items, "gold_brand_sales_day") == [
        (2, FIRST, 1, 1, Decimal("0.20")),
        (2, SECOND, 2, 4, Decimal("1234567.93")),
        (9, FIRST, 1, 4, Decimal("0.40")),
    ]


def test_a_location_counts_orders_by_the_hour_in_utc(items: Any) -> None:
    assert gold_rows(items, "gold_location_sales_hourly") == [
        (1, datetime(2024, 3, 11, 23), 1, Decimal("0.60")),
        (1, datetime(2024, 3, 12, 0), 2, Decimal("1234567.93")),
    ]


def test_t4_order_counts_stay_exact_when_there_are_many(spark: Any) -> None:
    orders = 40_000
    many = spark.range(orders * 2).selectExpr(
        "concat('O', id DIV 2) AS order_id", "1 AS location_id", "4 AS brand_id", "1 AS qty",
        "TIMESTAMP '2024-03-11 12:00:00' AS order_ts", "DATE '2024-03-11' AS order_day",
        "CAST(0.07 AS DECIMAL(12,2)) AS extended_price",
    )  # fmt: skip
    revenue = Decimal("0.07") * orders * 2
    assert gold_rows(many, "gold_brand_sales_day") == [(4, FIRST, orders, orders * 2, revenue)]
    assert gold_rows(many, "gold_location_sales_hourly") == [
        (1, datetime(2024, 3, 11, 12), orders, revenue)
    ]


def test_an_approximate_count_is_there_on_request(spark: Any) -> None:
    lines = spark.createDataFrame(
        [("A", 4, 1, FIRST, Decimal("0.07")), ("B", 4, 1, FIRST, Decimal("0.07"))],
        "order_id STRING, brand_id INT, qty INT, order_day DATE, extended_price DECIMAL(12,2)",
    )
    (table,) = [t for t in GHOST_KITCHEN.gold if t.name == "gold_brand_sales_day"]
    assert "approx_count_distinct" in {m.approximate.partition("(")[0] for m in table.measures}
    assert aggregate(lines, table, approximate=True).first().orders == 2


ORDERS = [
    # Location, day, hour of the order, minutes (None: not delivered).
    (1, FIRST, 10, "20.00"), (1, FIRST, 10, "40.00"), (1, FIRST, 10, None),
    (1, FIRST, 11, "61.00"), (2, SECOND, 10, "60.00"), (None, None, None, "5.00"),
]  # fmt: skip


@pytest.fixture(scope="module")
def orders(spark: Any) -> Any:
    events = [t.time_column for t in GHOST_KITCHEN.event_types]
    ddl = ", ".join(f"{k} {v}" for k, v in COLUMNS["silver_order_lifecycle"].items())
    rows = []
    for number, (location, day, hour, minutes) in enumerate(ORDERS):
        created = day and datetime(day.year, day.month, day.day, hour, 30)
        times = dict.fromkeys(events[: 8 if minutes else 3], created)
        columns = {
            "order_id": f"O{number}", "location_id": location, "order_day": day, **times,
            "total_minutes": minutes and Decimal(minutes),
        }  # fmt: skip
        rows.append(tuple(columns.get(name) for name in COLUMNS["silver_order_lifecycle"]))
    return spark.createDataFrame(rows, ddl)


def test_delivery_percentiles_are_by_location_and_hour_of_the_order(orders: Any) -> None:
    def hour(day: date, number: int) -> datetime:
        return datetime(day.year, day.month, day.day, number)

    assert gold_rows(orders, "gold_delivery_percentiles_hourly") == [
        (1, hour(FIRST, 10), 2, Decimal("30.00"), Decimal("35.00"), Decimal("39.80")),
        (1, hour(FIRST, 11), 1, Decimal("61.00"), Decimal("61.00"), Decimal("61.00")),
        (2, hour(SECOND, 10), 1, Decimal("60.00"), Decimal("60.00"), Decimal("60.00")),
    ]


def test_the_funnel_counts_how_far_orders_came(orders: Any) -> None:
    assert gold_rows(orders, "gold_kitchen_funnel_day") == [
        (1, FIRST, 4, 4, 4, 3, 3, 3, 3, 3),
        (2, SECOND, 1, 1, 1, 1, 1, 1, 1, 1),
    ]


def test_late_is_more_than_60_minutes_and_a_share_of_the_delivered(orders: Any) -> None:
    assert gold_rows(orders, "gold_late_share_day") == [
        (1, FIRST, 3, 1, Decimal("0.3333")),
        (2, SECOND, 1, 0, Decimal("0.0000")),
    ]


def test_days_that_python_cannot_hold_stop_no_update(
    spark: Any, schema: str, tmp_path: Path
) -> None:
    lines = line_items_table(GHOST_KITCHEN)
    spark.sql(replace(lines, name=f"{schema}.{lines.name}").create_sql())

    def sell(*days: str) -> dict[str, str]:
        rows = ", ".join(
            f"('O', TIMESTAMP'{day} 12:00:00Z', DATE'{day}', 4, 1, 1, 9999999999.99)"
            for day in days
        )
        spark.sql(
            f"INSERT INTO {schema}.{lines.name} (order_id, order_ts, order_day, brand_id,"
            f" location_id, qty, extended_price) VALUES {rows}"
        )
        only = {"gold_brand_sales_day", "gold_location_sales_hourly"}
        done = update_derived_tables(
            spark, schema, PositionsFile(tmp_path / "positions.json"), only=only
        )
        return {update.table: update.how for update in done}

    assert set(sell("2024-03-11").values()) == {"computed whole: first update"}
    # As an earlier version let them in. Two of the largest lines are more than one holds.
    far = ("+10000-01-01", "-0044-03-15")
    assert set(sell(*far, *far, "2024-03-11").values()) == {"3 days"}
    for table in ("gold_brand_sales_day", "gold_location_sales_hourly"):
        revenue = (
            spark.table(f"{schema}.{table}")
            .selectExpr("brand_revenue" if table == "gold_brand_sales_day" else "revenue")
            .collect()
        )
        assert [row[0] for row in revenue] == [Decimal("19999999999.98")] * 3
