"""The lifecycle of a few orders, worked out by hand."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest

from caspers_lib.medallion.lifecycle import order_lifecycle
from tests.oracle import COLUMNS, rows_of

pytestmark = pytest.mark.spark

COLUMNS_IN = "event_type STRING, ts STRING, location_id INT, order_id STRING"


@pytest.fixture(scope="module")
def orders(spark: Any) -> dict[str, dict[str, Any]]:
    def at(time: str) -> str:
        return f"2024-03-11 {time}.000"

    events = [
        ("order_created", at("23:50:00"), 3, "whole"),
        ("gk_started", at("23:51:00"), 3, "whole"),
        ("gk_finished", "2024-03-12 00:01:00.000", 3, "whole"),
        ("gk_ready", "2024-03-12 00:02:30.000", 3, "whole"),
        ("driver_arrived", "2024-03-12 00:02:00.000", 3, "whole"),
        ("driver_picked_up", "2024-03-12 00:03:00.000", 3, "whole"),
        ("driver_ping", "2024-03-12 00:05:00.000", 3, "whole"),
        ("driver_ping", "2024-03-12 00:04:00.000", 3, "whole"),
        ("delivered", "2024-03-12 00:10:20.000", 3, "whole"),
        ("delivered", "2024-03-12 00:10:20.000", 3, "whole"),
        ("order_created", at("12:00:00"), 1, "begun"),
        ("gk_ready", at("12:10:00"), 1, "begun"),
        ("delivered", at("13:00:00"), 2, "never created"),
        ("order_created", at("12:00:00"), 2, "skewed"),
        ("delivered", at("11:59:00"), 2, "skewed"),
    ]
    frame = order_lifecycle(spark.createDataFrame(events, COLUMNS_IN))
    assert dict(frame.dtypes) == COLUMNS["silver_order_lifecycle"]
    return {row[0]: dict(zip(frame.columns, row, strict=True)) for row in rows_of(frame)}


Orders = dict[str, dict[str, Any]]


def test_an_order_has_the_first_time_of_each_event_and_its_minutes(orders: Orders) -> None:
    whole = orders["whole"]
    assert whole["driver_ping_ts"] == datetime(2024, 3, 12, 0, 4)
    assert [whole[f"{name}_minutes"] for name in ("prep", "wait", "drive", "total")] == [
        Decimal("12.50"), Decimal("0.50"), Decimal("7.33"), Decimal("20.33"),
    ]  # fmt: skip
    assert (whole["status"], whole["location_id"]) == ("delivered", 3)


def test_its_day_is_the_utc_day_of_its_creation(orders: Orders) -> None:
    assert orders["whole"]["order_day"] == date(2024, 3, 11)


def test_what_has_not_happened_is_null(orders: Orders) -> None:
    begun = orders["begun"]
    assert begun["status"] == "gk_ready"
    assert begun["prep_minutes"] == Decimal("10.00")
    assert (begun["wait_minutes"], begun["total_minutes"], begun["delivered_ts"]) == (None,) * 3


def test_an_order_whose_creation_never_came_has_no_day_yet(orders: Orders) -> None:
    lost = orders["never created"]
    assert (lost["order_day"], lost["total_minutes"], lost["status"]) == (None, None, "delivered")


def test_a_wrong_clock_shows_as_negative_minutes(orders: Orders) -> None:
    assert orders["skewed"]["total_minutes"] == Decimal("-1.00")
