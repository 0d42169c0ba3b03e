"""The oracle itself, on two orders that are worked out by hand."""

from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from tests.oracle import DAY, Played, differences, expected, played_at

EPOCH = 1_704_067_200  # 2024-01-01T00:00:00Z
ITEMS = (
    '[{"id":1,"category_id":2,"menu_id":3,"brand_id":9,"name":"Soup","price":0.10,"qty":3},'
    '{"id":4,"category_id":5,"menu_id":6,"brand_id":2,"name":"Tea","price":0.20,"qty":1}]'
)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    path = tmp_path / "events.parquet"
    rows = [(1, EPOCH + 60, "A", ITEMS), (8, EPOCH + 120, "A", None), (1, EPOCH + DAY, "B", ITEMS)]
    values = ", ".join(
        f"({kind}, {ts}, 1::TINYINT, '{order_id}', {repr(items) if items else 'NULL'})"
        for kind, ts, order_id, items in rows
    )
    duckdb.execute(
        "COPY (SELECT * FROM (VALUES " + values + ") AS t(event_type_id, ts_seconds, location_id, "
        f"order_id, items_json)) TO '{path}' (FORMAT parquet)"
    )
    return path


def test_only_what_is_played_counts_and_a_second_loop_has_its_suffix(dataset: Path) -> None:
    cycle = 2 * DAY
    answer = expected(Played(dataset, cycle, shift=DAY, until=EPOCH + cycle + 60))
    assert answer.events == 4
    headers = sorted(answer.tables["gold_order_header"])
    assert headers == [
        ("A", 1, date(2024, 1, 2), Decimal("0.50"), 4, 2, [2, 9]),
        ("A-L1", 1, date(2024, 1, 4), Decimal("0.50"), 4, 2, [2, 9]),
        ("B", 1, date(2024, 1, 3), Decimal("0.50"), 4, 2, [2, 9]),
    ]
    assert len(answer.tables["silver_order_items"]) == 6
    assert expected(Played(dataset, cycle, shift=0, until=EPOCH + 59)).events == 0


def test_lines_are_numbered_and_priced(dataset: Path) -> None:
    answer = expected(Played(dataset, DAY, shift=0, until=EPOCH + 60))
    day = date(2024, 1, 1)
    head = ("A", 1, 1, datetime(2024, 1, 1, 0, 1), day)
    assert sorted(answer.tables["silver_order_items"])[0] == (
        *head, 1, 3, 2, 9, "Soup", Decimal("0.10"), 3, Decimal("0.30"),
    )  # fmt: skip
    assert answer.tables["gold_location_sales_hourly"] == [
        (1, datetime(2024, 1, 1), 1, Decimal("0.50"))
    ]


def test_the_window_ends_at_the_start_days_time_of_day_plus_what_has_passed() -> None:
    start = 20_775 * DAY + 3600.5
    played = played_at(
        Path("x"), epoch=EPOCH, days=90, start_day=70, speed=60, start=start, now=start + 2
    )
    assert played.until == EPOCH + 70 * DAY + 3600.5 + 120
    assert EPOCH + 70 * DAY + played.shift == 20_775 * DAY


def test_a_row_too_many_and_a_row_too_few_are_differences() -> None:
    assert differences([(1, [2])], [(1, [2])]) == []
    assert differences([(1, [2])], [(1, [2]), (1, [2])]) == ["has (1, (2,))"]
    assert differences([(1, Decimal("0.10"))], [(1, Decimal("0.11"))]) == [
        "lacks (1, Decimal('0.10'))",
        "has (1, Decimal('0.11'))",
    ]
