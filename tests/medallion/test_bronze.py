"""Bronze over a folder of a few good and broken lines, read by one stream."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from caspers_lib.medallion.bronze import event_ddl, json_event_stream, with_provenance
from tests.oracle import rows_of

HOSTILE = "o'\"\\\n\r\t\x00\u2028<script>alert(1)</script>'); DROP TABLE all_events; -- é😀"


def event(event_id: str, **fields: object) -> dict[str, object]:
    whole: dict[str, object] = {
        "event_id": event_id,
        "event_type": "gk_started",
        "ts": "2024-03-11 00:00:00.000",
        "location_id": 1,
        "order_id": "O1",
        "sequence": 1,
        "body": "{}",
    }
    return whole | fields


BROKEN = {
    "no JSON": "not json",
    "cut off": '{"event_id":"cut","sequence":1',
    "an array": "[1, 2]",
    "a text": '"text"',
    "a word for a number": json.dumps(event("word", location_id="first")),
    "a number as text": json.dumps(event("text", sequence="7")),
    "a fraction": json.dumps(event("fraction", sequence=1.5)),
    "too large": json.dumps(event("large", sequence=3_000_000_000)),
}

GOOD = [
    *(event(f"n{n}", order_id="numbers", sequence=n) for n in (10, 2, 13, 0, 1)),
    event("hostile", order_id=HOSTILE, body=json.dumps({"name": HOSTILE})),
    event("unicode", order_id="snow ☃ and \u202eback"),
    event("spoof", _rescued_data="planted"),
]


@pytest.fixture(scope="module")
def landed(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Rows of bronze; names of columns to values."""
    folder = tmp_path_factory.mktemp("landed")
    good = [json.dumps(line) for line in GOOD]
    write(folder / "events" / "part-00000-a-c000.json", good)
    write(folder / "events" / "part-00000-b-c000.json", list(BROKEN.values()))
    write(folder / "events" / ".part-00000-c-c000.json.tmp", [json.dumps(event("half"))])
    write(folder / "events" / "_SUCCESS", [json.dumps(event("mark"))])
    bronze = with_provenance(json_event_stream(spark, str(folder / "events")))
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
        "sequence INT, body STRING, _rescued_data STRING"
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
def test_numbers_are_numbers_and_sort_as_numbers(landed: list[dict[str, Any]]) -> None:
    sequences = [row["sequence"] for row in landed if row["order_id"] == "numbers"]
    assert sorted(sequences) == [0, 1, 2, 10, 13]
    assert type(by_id(landed, "n10")["location_id"]) is int


@pytest.mark.spark
def test_every_line_of_a_whole_file_is_one_row_and_no_other_file_is_read(
    landed: list[dict[str, Any]],
) -> None:
    assert len(landed) == len(GOOD) + len(BROKEN)
    assert not {"half", "mark"} & {row["event_id"] for row in landed}


@pytest.mark.spark
@pytest.mark.parametrize("line", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_line_keeps_its_text(landed: list[dict[str, Any]], line: str) -> None:
    assert [row["_rescued_data"] for row in landed].count(line) == 1


@pytest.mark.spark
def test_a_good_line_has_no_rescued_text_even_where_it_claims_one(
    landed: list[dict[str, Any]],
) -> None:
    assert len([row for row in landed if row["_rescued_data"] is None]) == len(GOOD)
    assert by_id(landed, "spoof")["_rescued_data"] is None


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
