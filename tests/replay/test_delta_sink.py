"""Events in a Delta table: a window is one commit, is there once, and any reader understands it."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, Field, Schema, write_deltalake
from deltalake.exceptions import CommitFailedError
from deltalake.schema import PrimitiveType

from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.errors import SinkError
from caspers_lib.replay import delta_sink
from caspers_lib.replay.delta_sink import DeltaSink
from caspers_lib.replay.event_batches import event_arrow_schema

SCHEMA = event_arrow_schema()
Row = dict[str, Any]


def event(number: int, **changes: Any) -> Row:
    usual = {
        "event_id": f"id {number}",
        "event_type": "gk_started",
        "ts": f"2025-06-15 12:00:{number % 60:02d}.000",
        "location_id": number % 4 + 1,
        "order_id": f"order {number}",
        "sequence": number % 8,
        "body": "{}",
    }
    return {**usual, **changes}


EVENTS = [event(n) for n in range(40)]


def batches(rows: list[Row], size: int = 7) -> list[pa.RecordBatch]:
    parts = (rows[start : start + size] for start in range(0, len(rows), size))
    return [pa.RecordBatch.from_pylist(part, SCHEMA) for part in parts]


def rows_of(path: Path) -> list[Row]:
    rows: list[Row] = DeltaTable(str(path)).to_pyarrow_table().to_pylist()
    return sorted(rows, key=lambda row: str(row["event_id"]))


def in_order(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: str(row["event_id"]))


def data_files(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir() if p.is_file())


def test_a_window_is_one_commit_whatever_its_files_and_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta_sink, "_ROWS_PER_GROUP", 5)
    told: list[int] = []
    sink = DeltaSink(tmp_path, events_per_file=16)
    assert sink.write(batches(EVENTS), name="n", on_events=told.append) == len(EVENTS)
    assert sum(told) == len(EVENTS)
    assert DeltaTable(str(tmp_path)).version() == 1  # version 0 made the table
    assert data_files(tmp_path) == [f"part-0000{n}-n-c000.zstd.parquet" for n in range(3)]
    assert pq.read_metadata(tmp_path / data_files(tmp_path)[0]).num_row_groups == 3
    assert rows_of(tmp_path) == in_order(EVENTS)


def test_the_columns_are_the_events_with_their_types_and_comments(tmp_path: Path) -> None:
    DeltaSink(tmp_path).write([], name="n")
    found = json.loads(DeltaTable(str(tmp_path)).schema().to_json())["fields"]
    assert [(f["name"], f["type"], f["nullable"], f["metadata"]["comment"]) for f in found] == [
        (c.name, {"STRING": "string", "INT": "integer"}[c.type], True, c.comment)
        for c in GHOST_KITCHEN.event_columns
    ]


def test_r2_the_same_window_again_writes_nothing_and_counts_the_same(tmp_path: Path) -> None:
    def untouched() -> Iterator[pa.RecordBatch]:
        raise AssertionError("the events were asked for")
        yield

    sink, told = DeltaSink(tmp_path), list[int]()
    sink.write(batches(EVENTS[:30]), name="first")
    sink.write(batches(EVENTS[30:]), name="second")
    before = {p.name: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    assert sink.write(untouched(), name="first", on_events=told.append) == 30
    assert sink.write(untouched(), name="second", on_events=told.append) == 10
    assert told == [30, 10]
    assert {p.name: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_r2_every_window_is_known_for_ever_past_the_logs_checkpoints(tmp_path: Path) -> None:
    sink = DeltaSink(tmp_path)
    for number in range(105):
        sink.write(batches([event(number)]), name=f"window {number}")
    assert list(tmp_path.glob("_delta_log/*.checkpoint*.parquet"))
    for path in sorted(tmp_path.glob("_delta_log/*.json"))[:50]:
        path.unlink()  # as the log's own clean-up does
    assert all(sink.write([], name=f"window {number}") == 1 for number in range(105))
    assert len(rows_of(tmp_path)) == 105


def test_no_events_make_an_empty_table_and_no_commit(tmp_path: Path) -> None:
    sink = DeltaSink(tmp_path / "a" / "b")
    assert sink.write([], name="n") == 0
    assert sink.write(batches([]), name="n") == 0
    assert rows_of(tmp_path / "a" / "b") == []
    assert DeltaTable(str(tmp_path / "a" / "b")).version() == 0


def test_the_logs_statistics_are_those_of_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta_sink, "_ROWS_PER_GROUP", 10)
    rows = [*EVENTS[::-1], event(99, order_id="x" * 10_000)]
    DeltaSink(tmp_path).write(batches(rows, 3), name="n")
    log = (tmp_path / "_delta_log" / f"{1:020}.json").read_text()
    (added,) = (json.loads(line)["add"] for line in log.splitlines() if "add" in json.loads(line))
    # None of what is too long to be of use: the bodies, and here an order's id.
    columns = ["event_id", "event_type", "ts", "location_id", "sequence"]
    assert json.loads(added["stats"]) == {
        "numRecords": 41,
        "minValues": {name: min(row[name] for row in rows) for name in columns},
        "maxValues": {name: max(row[name] for row in rows) for name in columns},
    }


def test_files_and_log_are_on_disk_when_the_window_counts_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, flushed = os.fsync, set[int]()

    def fsync(descriptor: int) -> None:
        flushed.add(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    DeltaSink(tmp_path, events_per_file=15).write(batches(EVENTS), name="n")
    places = [p for p in tmp_path.rglob("*") if p.is_file()] + [tmp_path, tmp_path / "_delta_log"]
    assert len(places) == 3 + 2 + 2
    assert {p.stat().st_ino for p in places} <= flushed


HOSTILE = ["'; DROP TABLE events; --", '\\"\\\\', "a\nb\r\n\tc", "\0", "<script>", "日本 é 🍜", ""]


def test_hostile_text_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [event(n, order_id=text, body=text) for n, text in enumerate(HOSTILE)]
    DeltaSink(tmp_path).write(batches(rows), name="n")
    assert rows_of(tmp_path) == in_order(rows)
    files = str(tmp_path / "*.parquet")
    found = duckdb.execute("SELECT * FROM read_parquet(?) ORDER BY event_id", [files]).fetchall()
    assert found == [tuple(row.values()) for row in in_order(rows)]


class Disconnected(Exception):
    pass


def test_a_source_that_breaks_leaves_the_table_as_it_was(tmp_path: Path) -> None:
    def breaking() -> Iterator[pa.RecordBatch]:
        yield from batches(EVENTS)
        raise Disconnected

    sink = DeltaSink(tmp_path, events_per_file=15)
    sink.write(batches([event(99)]), name="before")
    with pytest.raises(Disconnected):
        sink.write(breaking(), name="n")
    assert rows_of(tmp_path) == [event(99)]
    assert list(tmp_path.glob(".*")) == []
    sink.write(batches(EVENTS), name="n")
    assert rows_of(tmp_path) == in_order([*EVENTS, event(99)])
    assert len(data_files(tmp_path)) == 1 + 3


def test_files_of_a_killed_run_are_no_part_of_the_table_and_are_replaced(tmp_path: Path) -> None:
    sink = DeltaSink(tmp_path, events_per_file=20)
    sink.write([], name="n")
    for name in ("part-00000-n-c000.zstd.parquet", ".part-00001-n-c000.zstd.parquet.tmp"):
        (tmp_path / name).write_bytes(b"PAR1 and then nothing")
    assert rows_of(tmp_path) == []
    sink.write(batches(EVENTS), name="n")
    assert rows_of(tmp_path) == in_order(EVENTS)
    assert data_files(tmp_path) == [f"part-0000{n}-n-c000.zstd.parquet" for n in range(2)]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), CommitFailedError("a conflict")]
)
@pytest.mark.parametrize("takes_effect", [False, True])
def test_a_commit_that_fails_is_one_error_and_the_next_run_is_right(
    error: Exception, takes_effect: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = DeltaTable.create_write_transaction

    def fail(*args: Any, **options: Any) -> None:
        if takes_effect:
            real(*args, **options)
        raise error

    sink = DeltaSink(tmp_path)
    with monkeypatch.context() as broken, pytest.raises(SinkError) as caught:
        broken.setattr(DeltaTable, "create_write_transaction", fail)
        sink.write(batches(EVENTS), name="n")
    assert caught.value.__cause__ is error
    assert str(tmp_path) in caught.value.message
    assert caught.value.hint
    assert sink.write(batches(EVENTS), name="n") == len(EVENTS)
    assert rows_of(tmp_path) == in_order(EVENTS)


def table_of(path: Path, fields: list[Field], **options: Any) -> None:
    DeltaTable.create(str(path), Schema(fields), **options)


FIELDS = [Field(f.name, PrimitiveType("string" if pa.types.is_string(f.type) else "integer"))
          for f in SCHEMA]  # fmt: skip
OTHERS: dict[str, tuple[list[Field], dict[str, Any], str]] = {
    "a column too few": (FIELDS[:-1], {}, "its columns are event_id string"),
    "a column too many": ([*FIELDS, Field("x", PrimitiveType("date"))], {}, "x date;"),
    "another order": (FIELDS[::-1], {}, "its columns are body string, sequence integer"),
    "another type": (
        [*FIELDS[:3], Field("location_id", PrimitiveType("long")), *FIELDS[4:]],
        {},
        "location_id long",
    ),
    "a column that is never null": (
        [Field("event_id", PrimitiveType("string"), nullable=False), *FIELDS[1:]],
        {},
        "event_id string not null",
    ),
    "partitions": (FIELDS, {"partition_by": ["location_id"]}, "it is partitioned by location_id"),
    "a later writer": (
        FIELDS,
        {"configuration": {"delta.enableChangeDataFeed": "true"}},
        "it asks for Delta's writer version",
    ),
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_table_is_refused_and_left_alone(other: str, tmp_path: Path) -> None:
    fields, options, reason = OTHERS[other]
    table_of(tmp_path, fields, **options)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SinkError) as caught:
        DeltaSink(tmp_path).write(batches(EVENTS), name="n")
    assert caught.value.message.startswith(
        f"Events can't be written into the Delta table {tmp_path}: "
    )
    assert reason in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint
    assert sorted(tmp_path.rglob("*")) == before


def test_a_table_of_events_that_someone_else_made_is_taken(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path), pa.Table.from_pylist([event(99)], SCHEMA))
    DeltaSink(tmp_path).write(batches(EVENTS), name="n")
    assert rows_of(tmp_path) == in_order([*EVENTS, event(99)])


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_in_the_tables_place_is_refused(below: str, tmp_path: Path) -> None:
    (tmp_path / "events").write_text("not a folder")
    with pytest.raises(SinkError, match="can't be written into") as caught:
        DeltaSink(tmp_path / "events" / below).write(batches(EVENTS), name="n")
    assert caught.value.hint.startswith("choose a folder, not a file")


def test_a_log_that_is_none_is_one_error(tmp_path: Path) -> None:
    DeltaSink(tmp_path).write([], name="n")
    (tmp_path / "_delta_log" / f"{0:020}.json").write_text("{not a log\n")
    with pytest.raises(SinkError, match="can't be written into") as caught:
        DeltaSink(tmp_path).write(batches(EVENTS), name="n")
    assert caught.value.__cause__ is not None
    assert "\n" not in caught.value.message


def test_without_deltalake_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with pytest.raises(SinkError, match="`deltalake` is not installed") as caught:
        DeltaSink(tmp_path / "events").write(batches(EVENTS), name="n")
    assert "caspers_lib[local]" in caught.value.hint
    assert isinstance(caught.value.__cause__, ImportError)
    assert not (tmp_path / "events").exists()


TOO_LARGE = """
import random, resource, sys
from pathlib import Path
import pyarrow as pa
from deltalake import DeltaTable
from caspers_lib.errors import SinkError
from caspers_lib.replay.delta_sink import DeltaSink
from caspers_lib.replay.event_batches import event_arrow_schema

folder, rows = Path(sys.argv[1]), int(sys.argv[2])
digits = random.Random(1)

def batch(number):
    columns = [[f"{digits.random()}" for _ in range(rows)] if pa.types.is_string(f.type) else
               [1] * rows for f in event_arrow_schema()]
    return pa.record_batch(columns, event_arrow_schema())

sink, batches = DeltaSink(folder, events_per_file=rows), [batch(0)]
sink.write(batches, name="before")
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
try:
    sink.write(batches, name="n")
except SinkError as error:
    print(error.message, len(list(folder.glob("*"))), len(list(folder.glob(".*"))), sep="\\n")
print(DeltaTable(folder).count())
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
sink.write(batches, name="n")
print(DeltaTable(folder).count(), len(list(folder.glob("*"))))
"""


@pytest.mark.parametrize("rows", [3_000, 60_000], ids=["at its end", "in its middle"])
def test_a_limit_of_the_system_while_a_file_is_written_leaves_the_table_as_it_was(
    rows: int, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TOO_LARGE, str(tmp_path), str(rows)],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    message = f"Events can't be written into {tmp_path}: File too large"
    assert done.stdout.splitlines() == [message, "2", "0", str(rows), f"{2 * rows} 3"]
    assert done.stderr == ""


@pytest.mark.spark
def test_spark_reads_the_rows_with_their_types(tmp_path: Path, spark: Any) -> None:
    rows = [*EVENTS, *(event(50 + n, order_id=t, body=t) for n, t in enumerate(HOSTILE))]
    sink = DeltaSink(tmp_path / "events", events_per_file=30)
    for start in range(0, len(rows), 16):
        sink.write(batches(rows[start : start + 16]), name=f"n{start}")
    found = spark.read.format("delta").load(str(tmp_path / "events"))
    assert found.dtypes == [(c.name, c.type.lower()) for c in GHOST_KITCHEN.event_columns]
    assert [f.metadata.get("comment") for f in found.schema.fields] == [
        c.comment for c in GHOST_KITCHEN.event_columns
    ]
    assert in_order([row.asDict() for row in found.collect()]) == in_order(rows)
    assert found.where("ts >= '2025-06-15 12:00:38.000'").count() == sum(
        row["ts"] >= "2025-06-15 12:00:38.000" for row in rows
    )
    # A table that Spark made is taken too.
    found.limit(0).write.format("delta").save(str(tmp_path / "by spark"))
    DeltaSink(tmp_path / "by spark").write(batches(EVENTS), name="n")
    assert spark.read.format("delta").load(str(tmp_path / "by spark")).count() == len(EVENTS)
