"""The lifecycle of a few orders, worked out by hand."""

import json
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.domain.tables import bronze_table, lifecycle_table
from caspers_lib.medallion.bronze import events_of_lines
from caspers_lib.medallion.incremental import update_derived_tables
from caspers_lib.medallion.lifecycle import silver_order_lifecycle
from caspers_lib.medallion.positions import PositionsFile
from caspers_lib.medallion.quality import accepted_events
from caspers_lib.testing import ITEM, event
from caspers_lib.testing import order_created as created
from tests.medallion.business import under
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
    frame = silver_order_lifecycle(spark.createDataFrame(events, COLUMNS_IN))
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


def test_new_events_merged_into_rows_give_what_all_of_them_give(
    spark: Any, schema: str, tmp_path: Path
) -> None:
    bronze, silver = bronze_table(GHOST_KITCHEN), lifecycle_table(GHOST_KITCHEN)
    types = [t.name for t in GHOST_KITCHEN.event_types if t.name != "order_created"]
    # Orders that begin late, go on, end, and get an earlier event of a type they have had.
    arrivals = [
        [event(f"a{n}", event_type=types[n], order_id=f"O{n % 3}", ts=f"2024-03-11 0{n}:30:00.000")
         for n in range(6)],
        [created("c0", ITEM, order_id="O0", ts="2024-03-10 23:59:59.999"),
         event("b1", event_type=types[1], order_id="O1", ts="2024-03-10 23:00:00"),
         event("b2", event_type="delivered", order_id="O2", ts="2024-03-11 09:00:00.5"),
         created("c9", ITEM, order_id="O9", ts="2024-03-12 00:00:00.000"),
         event("bad", event_type=types[0], order_id="O0", ts="1024-03-12 00:00:00.000")],
    ]  # fmt: skip
    with under(spark, {"spark.sql.session.timeZone": "America/Los_Angeles"}):
        spark.sql(replace(bronze, name=f"{schema}.{bronze.name}").create_sql())
        for number, arrived in enumerate(arrivals):
            lines = spark.createDataFrame([(json.dumps(e),) for e in arrived], "value STRING")
            events_of_lines(lines, "'x'").write.insertInto(f"{schema}.{bronze.name}")
            (done,) = update_derived_tables(
                spark, schema, PositionsFile(tmp_path / "positions.json"), only={silver.name}
            )
            assert done.how.startswith(("computed whole: first update", "5 new events")[number])
        table = spark.table(f"{schema}.{silver.name}")
        whole = silver_order_lifecycle(accepted_events(spark.table(f"{schema}.{bronze.name}")))
        assert table.count() == 4
        assert sorted(map(repr, rows_of(table))) == sorted(map(repr, rows_of(whole)))
