"""What `check_dataset` accepts, reports and refuses."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.errors import DatasetError
from caspers_lib.replay.dataset import EVENTS_SCHEMA
from caspers_lib.replay.dataset_check import check_dataset
from caspers_lib.replay.generator import generate_dataset

DAY = 86_400


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_dataset(tmp_path_factory.mktemp("dataset"), days=14, scale=0.05)


@pytest.fixture(scope="module")
def table(path: Path) -> pa.Table:
    return pq.read_table(path)


Change = Callable[[pa.Table], pa.Table]


def with_column(name: str, values: Callable[[pa.ChunkedArray], Any]) -> Change:
    """A change of one column; the schema's own nullability is dropped."""

    def change(table: pa.Table) -> pa.Table:
        return table.set_column(table.schema.get_field_index(name), name, values(table[name]))

    return change


def first_as(value: Any) -> Callable[[pa.ChunkedArray], pa.Array]:
    return lambda column: pa.array([value, *column.to_pylist()[1:]], type=column.type)


def test_the_report_counts_what_an_independent_query_counts(path: Path) -> None:
    report = check_dataset(path)
    names = {t.id: t.name for t in GHOST_KITCHEN.event_types}
    counts = duckdb.sql(f"SELECT event_type_id, count(*) FROM '{path}' GROUP BY ALL").fetchall()
    assert report.events == {names[number]: count for number, count in counts}
    assert report.rows == sum(report.events.values())
    assert report.orders == report.delivered == report.events["order_created"]
    assert list(report.events) == list(names.values())
    assert report.days == 14
    assert report.is_sorted
    first, last = duckdb.sql(f"SELECT min(ts_seconds), max(ts_seconds) FROM '{path}'").fetchall()[0]
    assert (report.first_ts, report.last_ts) == (first, last)
    assert sum(x.first_week + x.last_week for x in report.locations) == report.orders


def test_minutes_and_orders_are_exact_on_a_dataset_made_by_hand(tmp_path: Path) -> None:
    def event(order: str, minute: int, type_id: int, day: int = 0) -> dict[str, Any]:
        seconds = GHOST_KITCHEN.epoch + day * DAY + minute * 60
        return {
            **dict.fromkeys(EVENTS_SCHEMA.names),
            "event_type_id": type_id,
            "ts_seconds": seconds,
            "location_id": 1,
            "order_id": order,
            "sequence": type_id - 1,
        }

    rows = [event("a", 0, 1), event("a", 20, 8), event("b", 5, 1), event("b", 45, 8)]
    rows += [event("c", 7, 1), event("d", 1, 1, day=89), event("e", 2, 1, day=88)]
    rows += [event("f", 3, 1, day=88), event("g", 4, 1, day=87)]
    rows += [event("h", 0, 1, day=83), event("i", -1, 1, day=83)]  # the last week's edge
    rows += [event("j", -1, 1, day=7), event("k", 0, 1, day=7), event("l", 0, 1, day=90)]
    file = tmp_path / "events.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=EVENTS_SCHEMA), file)
    report = check_dataset(file)
    assert (report.orders, report.delivered, report.days) == (12, 2, 90)
    assert report.total_minutes == pytest.approx((30.0, 35.0, 39.8))
    (at,) = report.locations
    assert (at.location_id, at.first_week, at.last_week) == (1, 4, 5)
    assert at.growth == 0.25
    assert not report.is_sorted


def test_the_lines_say_what_people_ask(path: Path) -> None:
    text = "\n".join(check_dataset(path).lines())
    assert "a cycle of 14 days, sorted" in text
    assert "2024-01-01 00:" in text
    assert re.search(r"order_created +\d+\n", text)
    assert re.search(r"minutes to deliver: P50 \d\d\.\d, P75", text)
    assert re.search(
        r"location 4: \d+ orders in the first week, \d+ in the last \([+-]\d+%\)", text
    )


def test_a_short_dataset_has_no_growth(tmp_path: Path) -> None:
    report = check_dataset(generate_dataset(tmp_path, days=2, scale=0.02))
    assert report.locations == ()
    assert not any("location" in line for line in report.lines())


@pytest.mark.parametrize(
    "types",
    [
        {"event_type_id": pa.int64(), "location_id": pa.int32(), "sequence": pa.uint8()},
        {"ts_seconds": pa.int32(), "customer_lat": pa.float64(), "order_id": pa.large_string()},
    ],
)
def test_wider_narrower_and_unsorted_is_accepted(
    table: pa.Table, path: Path, tmp_path: Path, types: dict[str, pa.DataType]
) -> None:
    for name, of in types.items():
        table = with_column(name, lambda column, of=of: column.cast(of))(table)
    shuffled = table.take(pc.sort_indices(table, [("order_id", "descending")]))
    file = tmp_path / "[odd] name*.parquet"
    pq.write_table(table.slice(0, 5), tmp_path / "o name, another file.parquet")
    pq.write_table(table.slice(0, 5), tmp_path / "[odd] name, too.parquet")
    pq.write_table(shuffled.replace_schema_metadata(pq.read_schema(path).metadata), file)
    report, wanted = check_dataset(file), check_dataset(path)
    assert not report.is_sorted
    assert (report.events, report.total_minutes) == (wanted.events, wanted.total_minutes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["items_json"]), "lacks the column items_json"),
        (
            with_column("event_type_id", first_as(9)),
            r"unknown event type ids 9; allowed are 1 order_created, .*, 8 delivered",
        ),
        (with_column("event_type_id", first_as(-3)), "unknown event type ids -3"),
        (with_column("event_type_id", first_as(None)), "rows with null event_type_id in 1$"),
        (with_column("ts_seconds", first_as(None)), "rows with null ts_seconds in 1$"),
        (with_column("order_id", first_as(None)), "rows with null order_id in 1$"),
        (
            with_column("items_json", first_as('[{"id": 1')),
            r"1 rows whose items_json is not a JSON array, the first in order 'O[0-9A-Z]{7}'",
        ),
        (with_column("items_json", first_as('{"id": 1}')), "1 rows whose items_json is not a JSON"),
        (with_column("items_json", first_as("")), "1 rows whose items_json is not a JSON"),
        (
            with_column("ts_seconds", lambda c: pc.multiply(c, 1_000)),
            "must be UTC epoch seconds of the years 1970 to 9999",
        ),
    ],
)
def test_a_broken_dataset_is_refused_by_name(
    table: pa.Table, tmp_path: Path, change: Change, message: str
) -> None:
    file = tmp_path / "events.parquet"
    pq.write_table(change(table), file)
    with pytest.raises(DatasetError, match=message) as refused:
        check_dataset(file)
    assert "\n" not in refused.value.message
    assert refused.value.hint


def test_a_file_cut_short_is_refused(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "events.parquet"
    file.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DatasetError, match="can't be read"):
        check_dataset(file)


def test_damage_inside_the_file_is_refused(path: Path, tmp_path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[2_000:20_000] = b"\xff" * 18_000
    file = tmp_path / "events.parquet"
    file.write_bytes(content)
    with pytest.raises(DatasetError, match="can't be read"):
        check_dataset(file)


def test_a_null_basket_is_an_absent_optional_value(table: pa.Table, tmp_path: Path) -> None:
    file = tmp_path / "events.parquet"
    pq.write_table(with_column("items_json", first_as(None))(table), file)
    assert check_dataset(file).orders > 0
