"""What a dataset file says of itself, and which files are refused."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.errors import DatasetError, SettingsError
from caspers_lib.replay.dataset import CYCLE_KEY, EPOCH_KEY, EVENTS_SCHEMA, SORT_KEY, EventsFile
from caspers_lib.replay.generator import generate_dataset

DAY = 86_400
EPOCH = GHOST_KITCHEN.epoch

Row = dict[str, Any]


@pytest.fixture
def table(event_row: Callable[..., Row]) -> pa.Table:
    """Six rows in the dataset's order, without metadata."""
    rows = [event_row(ts_seconds=EPOCH + 5_000 + n // 2, sequence=n) for n in range(6)]
    return pa.Table.from_pylist(rows, EVENTS_SCHEMA)


def write(path: Path, table: pa.Table, *, declared: bool = True, **options: Any) -> Path:
    """Write a table, with the dataset's order declared or not."""
    order = [(name, "ascending") for name in SORT_KEY]
    if declared:
        options["sorting_columns"] = pq.SortingColumn.from_ordering(table.schema, order)
    pq.write_table(table, path, row_group_size=2, **options)
    return path


def test_a_generated_dataset_describes_itself(small: EventsFile) -> None:
    found = pq.read_table(small.path)
    bounds = pc.min_max(found["ts_seconds"])
    assert small.rows == found.num_rows
    assert (small.first_ts, small.last_ts) == (bounds["min"].as_py(), bounds["max"].as_py())
    assert (small.epoch, small.cycle_seconds, small.cycle_days) == (EPOCH, 3 * DAY, 3)
    assert small.is_sorted


def test_it_is_described_without_reading_its_rows(tmp_path: Path, table: pa.Table) -> None:
    loop = {EPOCH_KEY: str(EPOCH), CYCLE_KEY: str(2 * DAY)}
    path = write(tmp_path / "events.parquet", table.replace_schema_metadata(loop))
    before = EventsFile.open(path)
    data = path.read_bytes()
    footer = int.from_bytes(data[-8:-4], "little") + 8
    path.write_bytes(b"PAR1" + b"\xff" * (len(data) - footer - 4) + data[-footer:])
    with pytest.raises(OSError):
        pq.read_table(path)
    assert EventsFile.open(path) == before


def orders(days: int, at: int = 3_600, first: int = 0) -> list[tuple[int, int]]:
    """The type and time of an opening event and of one forty minutes later, an order a day."""
    times = [EPOCH + day * DAY + at for day in range(first, first + days)]
    return [(kind, time + late) for time in times for kind, late in ((1, 0), (8, 2_400))]


@pytest.mark.parametrize(
    ("rows", "days"),
    [
        (orders(1), 1),
        (orders(30), 30),
        (orders(200), 200),
        (orders(91), 91),
        (orders(90, at=DAY - 600), 90),  # what is opened on its last day ends on the next one
        (orders(1, at=DAY - 600), 1),
        ([(8, time) for _, time in orders(3)], 3),
        (orders(3) + orders(3, first=8), 11),
    ],
)
def test_a_file_without_metadata_begins_at_midnight_and_loops_after_the_days_of_its_data(
    rows: list[tuple[int, int]], days: int, tmp_path: Path, event_row: Callable[..., Row]
) -> None:
    table = pa.Table.from_pylist(
        [event_row(event_type_id=k, ts_seconds=t + 40 * DAY, sequence=k) for k, t in rows],
        EVENTS_SCHEMA,
    )
    path = write(tmp_path / "events.parquet", table)
    found = EventsFile.open(path)
    assert found.epoch == datetime(2024, 2, 10, tzinfo=UTC).timestamp()
    assert (found.cycle_days, found.start_days) == (days, max(days, 90))
    assert EventsFile.open(path, cycle_days=7).cycle_days == 7
    assert EventsFile.open(path, begun_cycle=90 * DAY).cycle_days == 90
    # No event is played twice before the start day is over.
    assert found.begun_on(days - 1) == found
    assert found.begun_on(found.start_days - 1).cycle_days == found.start_days
    with pytest.raises(SettingsError, match=f"has the days 0 to {found.start_days - 1}"):
        found.begun_on(found.start_days)


@pytest.mark.parametrize("years", [-40, 40])
@pytest.mark.parametrize("days", [1, 2, 60])
def test_a_row_far_from_all_others_is_named_and_does_not_stretch_the_loop(
    days: int, years: int, tmp_path: Path, event_row: Callable[..., Row]
) -> None:
    times = [time for _, time in orders(days)] * 3 + [EPOCH + years * 366 * DAY]
    rows = [event_row(ts_seconds=t, order_id=f"O{n}") for n, t in enumerate(times)]
    path = write(tmp_path / "events.parquet", pa.Table.from_pylist(rows, EVENTS_SCHEMA))
    with pytest.raises(DatasetError, match=f"has 1 of its {len(rows)} rows far from") as caught:
        EventsFile.open(path)
    assert f"of order 'O{len(rows) - 1}' on " in caught.value.message
    assert "--cycle-days" in caught.value.hint
    assert EventsFile.open(path, cycle_days=90).cycle_days == 90


@pytest.mark.parametrize(("asked", "allowed"), [(0, "2, as"), (3, "2, as"), (-1, "2, as")])
def test_a_loop_that_contradicts_the_file_is_refused(
    asked: int, allowed: str, tmp_path: Path, table: pa.Table
) -> None:
    loop = table.replace_schema_metadata({CYCLE_KEY: str(2 * DAY)})
    path = write(tmp_path / "events.parquet", loop)
    with pytest.raises(SettingsError, match=f"must be {allowed}"):
        EventsFile.open(path, cycle_days=asked)
    assert EventsFile.open(path, cycle_days=2, begun_cycle=DAY).cycle_days == 2


def test_epoch_and_cycle_come_from_the_metadata(tmp_path: Path, table: pa.Table) -> None:
    said = table.replace_schema_metadata({EPOCH_KEY: "1000", CYCLE_KEY: str(2 * DAY)})
    found = EventsFile.open(write(tmp_path / "events.parquet", said))
    assert (found.epoch, found.cycle_seconds, found.cycle_days) == (1_000, 2 * DAY, 2)


def test_a_file_is_sorted_where_it_says_so_and_its_row_groups_agree(
    tmp_path: Path, table: pa.Table
) -> None:
    path = tmp_path / "events.parquet"
    assert EventsFile.open(write(path, table)).is_sorted
    assert not EventsFile.open(write(path, table, declared=False)).is_sorted
    assert not EventsFile.open(write(path, table.take([4, 5, 0, 1, 2, 3]))).is_sorted
    assert not EventsFile.open(write(path, table.take([0, 4, 1, 2, 3, 5]))).is_sorted


@pytest.mark.parametrize(
    "order",
    [
        [("ts_seconds", "ascending")],
        [("ts_seconds", "descending"), ("order_id", "ascending"), ("sequence", "ascending")],
        [("order_id", "ascending"), ("ts_seconds", "ascending"), ("sequence", "ascending")],
    ],
)
def test_another_declared_order_is_not_the_datasets(
    order: list[tuple[str, str]], tmp_path: Path, table: pa.Table
) -> None:
    columns = pq.SortingColumn.from_ordering(table.schema, order)
    path = write(tmp_path / "events.parquet", table, declared=False, sorting_columns=columns)
    assert not EventsFile.open(path).is_sorted


@pytest.mark.parametrize(
    "options", [{"write_statistics": False}, {"write_statistics": ["order_id"]}]
)
def test_a_file_without_statistics_is_scanned_for_its_times(
    options: dict[str, Any], tmp_path: Path, table: pa.Table
) -> None:
    folder = tmp_path / "ts_seconds=7"
    folder.mkdir()
    found = EventsFile.open(write(folder / "events.parquet", table, **options))
    assert (found.first_ts, found.last_ts) == (EPOCH + 5_000, EPOCH + 5_002)
    assert not found.is_sorted


def test_nested_columns_in_front_of_the_time_do_not_hide_it(
    tmp_path: Path, table: pa.Table
) -> None:
    nested = pa.array([{"ts_seconds": 1, "b": 2, "c": [3]}] * table.num_rows)
    found = EventsFile.open(write(tmp_path / "a.parquet", table.add_column(0, "meta", nested)))
    assert (found.first_ts, found.last_ts) == (EPOCH + 5_000, EPOCH + 5_002)
    assert found.is_sorted


def test_a_copy_has_the_same_fingerprint(small: EventsFile, tmp_path: Path) -> None:
    copy = tmp_path / "another name.parquet"
    copy.write_bytes(small.path.read_bytes())
    assert EventsFile.open(copy).fingerprint == small.fingerprint
    assert re.fullmatch("[0-9a-f]{32}", small.fingerprint)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.slice(1),
        lambda t: t.take([2, 3, 0, 1, 4, 5]),
        lambda t: retyped(t, "order_id", pa.array(["B"] * 6)),
        lambda t: retyped(t, "ping_lat", pa.array([1.5] * 6, pa.float32())),
        lambda t: retyped(t, "location_id", t["location_id"].cast(pa.int32())),
        lambda t: t.append_column("note", t["order_id"]),
        lambda t: t.replace_schema_metadata({EPOCH_KEY: "1000"}),
    ],
)
def test_other_rows_columns_or_metadata_have_another_fingerprint(
    change: Callable[[pa.Table], pa.Table], tmp_path: Path, table: pa.Table
) -> None:
    mine = EventsFile.open(write(tmp_path / "mine.parquet", table))
    other = EventsFile.open(write(tmp_path / "other.parquet", change(table)))
    assert mine.fingerprint != other.fingerprint


def test_datasets_of_two_seeds_have_two_fingerprints(small: EventsFile, tmp_path: Path) -> None:
    # Epoch, cycle and nearly all sizes are equal.
    other = EventsFile.open(generate_dataset(tmp_path, seed=3, days=3, scale=0.02))
    assert (other.epoch, other.cycle_seconds) == (small.epoch, small.cycle_seconds)
    assert other.fingerprint != small.fingerprint


def retyped(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, values)


def with_null_times(table: pa.Table, count: int) -> pa.Table:
    times = [None] * count + table["ts_seconds"].to_pylist()[count:]
    return retyped(table, "ts_seconds", pa.array(times, pa.int64()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.drop_columns(["items_json", "ping_lat"]),
            "lacks the column items_json, ping_lat; it has event_type_id, ts_seconds",
        ),
        (
            lambda t: t.rename_columns([n.upper() for n in t.column_names]),
            "lacks the column event_",
        ),
        (
            lambda t: retyped(t, "ts_seconds", t["ts_seconds"].cast(pa.timestamp("s"))),
            r"column ts_seconds of .* is timestamp\[.*\]; it must be of any integer type",
        ),
        (
            lambda t: retyped(t, "order_id", t["sequence"]),
            "column order_id of .* is integer; it must be of any string type",
        ),
        (
            lambda t: retyped(t, "ping_lat", t["order_id"]),
            "column ping_lat of .* is string; it must be of any float type",
        ),
        (
            lambda t: retyped(t, "sequence", t["sequence"].cast(pa.float64())),
            "column sequence of .* is float; it must be of any integer type",
        ),
        (lambda t: t.append_column("order_id", t["order_id"]), "has the column order_id more than"),
        (lambda t: t.append_column("Order_ID", t["order_id"]), "has the column order_id more than"),
        (lambda t: t.slice(0, 0), "has no events"),
        (lambda t: with_null_times(t, 1), "has rows with null ts_seconds in 1$"),
        (lambda t: with_null_times(t, 6), "has rows with null ts_seconds in 6$"),
        (
            lambda t: t.replace_schema_metadata({EPOCH_KEY: "today"}),
            r"metadata caspers\.epoch of .* is b'today'; it must be whole seconds",
        ),
        (
            lambda t: t.replace_schema_metadata({CYCLE_KEY: "1.5"}),
            r"metadata caspers\.cycle_seconds of .* is b'1\.5'; it must be whole seconds",
        ),
        *(
            (
                lambda t, seconds=seconds: t.replace_schema_metadata({CYCLE_KEY: seconds}),
                rf"cycle_seconds of .* is {seconds}; a loop must last a day \(86400 s\) or more",
            )
            for seconds in ("0", "-1", "86399")
        ),
    ],
)
@pytest.mark.parametrize("options", [{}, {"write_statistics": False}])
def test_a_dataset_of_the_wrong_shape_is_refused_by_name(
    change: Callable[[pa.Table], pa.Table],
    message: str,
    options: dict[str, Any],
    tmp_path: Path,
    table: pa.Table,
) -> None:
    nullable = pa.schema([field.with_nullable(True) for field in EVENTS_SCHEMA])
    path = tmp_path / "events.parquet"
    write(path, change(table.cast(nullable)), declared=False, **options)
    with pytest.raises(DatasetError, match=message) as caught:
        EventsFile.open(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_a_file_that_is_not_there_or_not_parquet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="There is no dataset at"):
        EventsFile.open(tmp_path / "events.parquet")
    with pytest.raises(DatasetError, match="There is no dataset at"):
        EventsFile.open(tmp_path)
    for data in (b"", b"order_id,ts\n1,2\n", b"PAR1" + b"\0" * 100 + b"PAR1"):
        path = tmp_path / "broken.parquet"
        path.write_bytes(data)
        with pytest.raises(DatasetError, match="can't be read as parquet") as caught:
            EventsFile.open(path)
        assert "\n" not in caught.value.message
        assert caught.value.__cause__ is not None
