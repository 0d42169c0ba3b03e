"""Bronze over a folder of a few good and broken lines, read by one stream."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from caspers_lib.errors import PipelineError
from caspers_lib.medallion.bronze import bronze_events, direct_events, event_ddl
from caspers_lib.testing import event
from tests.oracle import rows_of

HOSTILE = "o'\"\\\n\r\t\x00\u2028<script>alert(1)</script>'); DROP TABLE all_events; -- é😀"


# Lines that are no JSON object.
BROKEN = {
    "no JSON": "not json",
    "cut off": '{"event_id":"cut","sequence":1',
    "an array": "[1, 2]",
    "a text": '"text"',
    "null": "null",
    "two objects, the second without its end": '{"event_id":"one"}{"event_id":"two"',
    "two objects": '{"event_id":"one"}{"event_id":"two"}',
    "more behind it": '{"event_id":"one"} and more',
    "a NUL": '{"event_id":"\x00',
}

# Events with a field that does not fit, and what is rescued of it.
MISFITS = {
    "word": ({"location_id": "first"}, {"location_id": "first"}),
    "text": ({"sequence": "7"}, {"sequence": "7"}),
    "fraction": ({"sequence": 1.5}, {"sequence": "1.5"}),
    "large": ({"sequence": 3_000_000_000}, {"sequence": "3000000000"}),
    "object": ({"location_id": {"id": 1}}, {"location_id": '{"id":1}'}),
    "new": ({"loyalty": 3}, {"loyalty": "3"}),
    "spoof": ({"_rescued_data": "planted"}, {"_rescued_data": "planted"}),
    "case": ({"Sequence": 7}, {"Sequence": "7"}),
    "hostile new": ({"'; DROP": HOSTILE}, {"'; DROP": HOSTILE}),
    "both": ({"location_id": "x", "new": "y"}, {"location_id": "x", "new": "y"}),
}

GOOD = [
    *(event(f"n{n}", order_id="numbers", sequence=n) for n in (10, 2, 13, 0, 1)),
    event("hostile", order_id=HOSTILE, body=json.dumps({"name": HOSTILE})),
    event("unicode", order_id="snow ☃ and \u202eback"),
    event("nulls", event_type=None, ts=None, location_id=None, order_id=None, sequence=None),
]


@pytest.fixture(scope="module")
def landed(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Rows of bronze; names of columns to values."""
    folder = tmp_path_factory.mktemp("landed")
    good = [json.dumps(line) for line in GOOD]
    write(folder / "events" / "part-00000-a-c000.json", good)
    write(folder / "events" / "part-00000-b-c000.json", list(BROKEN.values()))
    misfits = [json.dumps(event(name, **fields)) for name, (fields, _) in MISFITS.items()]
    write(folder / "events" / "part-00000-d-c000.json", misfits)
    (folder / "events" / "empty.json").touch()
    # Lines with the other line end, empty ones between, and a file that ends without one.
    text = "\r\n\r\n".join(json.dumps(event(f"w{n}")) for n in range(2))
    (folder / "events" / "windows.json").write_bytes(text.encode())
    write(folder / "events" / ".part-00000-c-c000.json.tmp", [json.dumps(event("half"))])
    write(folder / "events" / "_SUCCESS", [json.dumps(event("mark"))])
    bronze = bronze_events(spark, str(folder / "events"))
    query = (
        bronze.writeStream.format("memory")
        .queryName("landed")
        .option("checkpointLocation", str(folder / "checkpoint"))
        .trigger(availableNow=True)
        .start()
    )
    assert query.awaitTermination(60)
    table = spark.table("landed")
    rows = [dict(zip(table.columns, row, strict=True)) for row in rows_of(table)]
    spark.catalog.dropTempView("landed")
    return rows


def write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def by_id(rows: list[dict[str, Any]], event_id: str) -> dict[str, Any]:
    (row,) = [row for row in rows if row["event_id"] == event_id]
    return row


def test_the_schema_of_an_event_is_explicit() -> None:
    assert event_ddl() == (
        "event_id STRING, event_type STRING, ts STRING, location_id INT, order_id STRING, "
        "sequence INT, body STRING"
    )


@pytest.mark.spark
def test_the_columns_are_the_event_its_rescued_text_its_file_and_its_time(
    landed: list[dict[str, Any]],
) -> None:
    assert list(landed[0]) == [
        "event_id", "event_type", "ts", "location_id", "order_id", "sequence", "body",
        "_rescued_data", "source_file", "ingest_ts",
    ]  # fmt: skip


@pytest.mark.spark
def test_t1_numbers_are_numbers_and_sort_as_numbers(landed: list[dict[str, Any]]) -> None:
    sequences = [row["sequence"] for row in landed if row["order_id"] == "numbers"]
    assert sorted(sequences) == [0, 1, 2, 10, 13]
    assert type(by_id(landed, "n10")["location_id"]) is int


@pytest.mark.spark
def test_every_line_of_a_whole_file_is_one_row_and_no_other_file_is_read(
    landed: list[dict[str, Any]],
) -> None:
    assert len(landed) == len(GOOD) + len(BROKEN) + len(MISFITS) + 2
    assert not {"half", "mark"} & {row["event_id"] for row in landed}


@pytest.mark.spark
@pytest.mark.parametrize("line", BROKEN.values(), ids=BROKEN.keys())
def test_a_line_that_is_no_object_keeps_its_text_and_nothing_else(
    landed: list[dict[str, Any]], line: str
) -> None:
    (row,) = [row for row in landed if row["_rescued_data"] == line]
    assert {row[name] for name in event("x")} == {None}


@pytest.mark.spark
@pytest.mark.parametrize("name", MISFITS)
def test_a_field_that_is_new_or_of_another_type_is_rescued_and_the_others_stand(
    landed: list[dict[str, Any]], name: str
) -> None:
    fields, rescued = MISFITS[name]
    row = by_id(landed, name)
    assert json.loads(row["_rescued_data"]) == rescued
    assert row["body"] == "{}"
    assert {row[field] for field in fields if field in row and field != "_rescued_data"} <= {None}


@pytest.mark.spark
def test_a_good_line_has_no_rescued_text(landed: list[dict[str, Any]]) -> None:
    assert len([row for row in landed if row["_rescued_data"] is None]) == len(GOOD) + 2
    assert by_id(landed, "w1")["sequence"] == 1
    assert by_id(landed, "nulls")["sequence"] is None


@pytest.mark.spark
def test_events_without_files_have_the_same_columns(
    spark: Any, landed: list[dict[str, Any]]
) -> None:
    given = spark.createDataFrame([tuple(GOOD[0].values())], event_ddl())
    row = direct_events(given, "lakeflow.direct").first().asDict()
    assert list(row) == list(landed[0])
    assert (row["_rescued_data"], row["source_file"]) == (None, "lakeflow.direct")


@pytest.mark.spark
def test_hostile_text_survives(landed: list[dict[str, Any]]) -> None:
    row = by_id(landed, "hostile")
    assert row["order_id"] == HOSTILE
    assert json.loads(row["body"]) == {"name": HOSTILE}
    assert by_id(landed, "unicode")["order_id"] == "snow ☃ and \u202eback"


@pytest.mark.spark
def test_a_row_names_its_file_and_when_it_came_in(landed: list[dict[str, Any]]) -> None:
    assert by_id(landed, "n1")["source_file"].endswith("/events/part-00000-a-c000.json")
    (broken,) = [row for row in landed if row["_rescued_data"] == "not json"]
    assert broken["source_file"].endswith("/events/part-00000-b-c000.json")
    age = datetime.now(UTC).replace(tzinfo=None) - broken["ingest_ts"]
    assert abs(age.total_seconds()) < 3600  # a session in another zone would be hours off


@pytest.mark.parametrize("name", ["a[1]", "a{b,c}", "a*", "a?", "back\\slash"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_path_that_spark_takes_for_a_pattern_is_refused(name: str, stream: bool) -> None:
    never_used: Any = None
    with pytest.raises(PipelineError, match="for a pattern"):
        bronze_events(never_used, f"/Volumes/{name}/events", stream=stream)
