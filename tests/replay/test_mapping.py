"""DuckDB's event lines against a plain Python account of the same mapping."""

import json
import math
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.replay.dataset import EVENTS_SCHEMA, EventsFile
from caspers_lib.replay.mapping import event_id_name, event_lines_sql, order_suffix
from caspers_lib.replay.window import LoopSlice

EPOCH = GHOST_KITCHEN.epoch
DAY = 86_400
NAMESPACE = UUID("5d0c8a52-6d4b-5c0e-9f0e-0a6f3c1b7e21")

# Event type id: its name, and its body's keys with their column and whether it is JSON already.
EVENTS: dict[int, tuple[str, list[tuple[str, str, bool]]]] = {
    1: (
        "order_created",
        [
            ("customer_lat", "customer_lat", False),
            ("customer_lon", "customer_lon", False),
            ("customer_addr", "customer_addr", False),
            ("items", "items_json", True),
        ],
    ),
    2: ("gk_started", []),
    3: ("gk_finished", []),
    4: ("gk_ready", []),
    5: ("driver_arrived", []),
    6: ("driver_picked_up", [("route_points", "route_json", True)]),
    7: (
        "driver_ping",
        [
            ("progress_pct", "ping_progress", False),
            ("loc_lat", "ping_lat", False),
            ("loc_lon", "ping_lon", False),
        ],
    ),
    8: (
        "delivered",
        [
            ("delivered_lat", "customer_lat", False),
            ("delivered_lon", "customer_lon", False),
        ],
    ),
}
SHORT_ESCAPES = {"\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", '"': '"', "\\": "\\"}

Row = dict[str, Any]


def json_text(value: str) -> str:
    """A JSON string: quotes, backslashes and control characters escaped, all else as it is."""

    def escaped(char: str) -> str:
        if char in SHORT_ESCAPES:
            return "\\" + SHORT_ESCAPES[char]
        return char if char >= " " else f"\\u{ord(char):04X}"

    return '"' + "".join(map(escaped, value)) + '"'


def body_text(row: Row) -> str:
    fields = []
    for key, column, is_json in EVENTS[row["event_type_id"]][1]:
        value = row[column]
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            continue
        text = value if is_json else json_text(value) if isinstance(value, str) else repr(value)
        fields.append(f'"{key}":{text}')
    return "{" + ",".join(fields) + "}"


def reference_line(row: Row, loop: int, shift: int) -> str:
    order = row["order_id"] + ("" if loop == 0 else f"-L{loop}")
    seconds = row["ts_seconds"] + loop * DAY + shift
    ts = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    fields = {
        "event_id": json_text(str(uuid5(NAMESPACE, f"{order}|{row['sequence']}"))),
        "event_type": json_text(EVENTS[row["event_type_id"]][0]),
        "ts": json_text(ts.strftime("%Y-%m-%d %H:%M:%S") + ".000"),
        "location_id": str(row["location_id"]),
        "order_id": json_text(order),
        "sequence": str(row["sequence"]),
        "body": json_text(body_text(row)),
    }
    return "{" + ",".join(f'"{key}":{value}' for key, value in fields.items()) + "}\n"


def reference_lines(rows: list[Row], *, loops: int, shift: int) -> list[str]:
    played = [(row, loop) for row in rows for loop in range(loops)]
    played.sort(key=lambda p: (p[0]["ts_seconds"] + p[1] * DAY, p[0]["order_id"], p[0]["sequence"]))
    return [reference_line(row, loop, shift) for row, loop in played]


def parsed(line: str) -> Row:
    event: Row = json.loads(line)
    return {**event, "body": json.loads(event["body"])}


def mapped(dataset: EventsFile, *, loops: int = 1, shift: int = 0) -> list[str]:
    """The lines of a dataset's first loops."""
    slices = [LoopSlice(n, dataset.first_ts, dataset.last_ts) for n in range(loops)]
    sql = event_lines_sql(
        dataset.path,
        slices,
        domain=GHOST_KITCHEN,
        cycle_seconds=DAY,
        shift=shift,
        is_sorted=False,
    )
    with duckdb.connect() as connection:
        return [line for (line,) in connection.execute(sql).fetchall()]


texts = st.text(max_size=20) | st.text("\"\\/\x00\x01\x1f\x7f\n\r\t\u2028é🍔<>'|-L1", max_size=12)
float32s = st.floats(width=32)  # NaN, infinities and subnormal numbers too
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
json_texts = st.builds(
    json.dumps,
    st.lists(json_values, max_size=3),
    ensure_ascii=st.booleans(),
    indent=st.none() | st.just(1),
)
dataset_rows = st.fixed_dictionaries(
    {
        "event_type_id": st.sampled_from(sorted(EVENTS)),
        "ts_seconds": st.integers(EPOCH, EPOCH + 2 * DAY),
        "location_id": st.integers(-128, 127),
        "order_id": texts,
        "sequence": st.integers(-128, 127),
        "customer_lat": st.none() | float32s,
        "customer_lon": st.none() | float32s,
        "customer_addr": st.none() | texts,
        "items_json": st.none() | json_texts,
        "route_json": st.none() | json_texts,
        "ping_lat": st.none() | float32s,
        "ping_lon": st.none() | float32s,
        "ping_progress": st.none() | float32s,
    }
)
row_sets = st.lists(
    dataset_rows, min_size=1, max_size=12, unique_by=lambda row: (row["order_id"], row["sequence"])
)


def writes_numbers_as_python_does(row: Row) -> bool:
    """Exponents are written 1e16 here and 1e+16 there: the same numbers, other bytes."""
    numbers = [v for v in row.values() if isinstance(v, float) and math.isfinite(v)]
    return all(v == 0 or 1e-4 <= abs(v) < 1e16 for v in numbers)


@settings(max_examples=50)
@given(row_sets, st.integers(1, 3), st.integers(-EPOCH, 10**9))
def test_lines_equal_the_plain_python_account(
    write_rows: Callable[..., EventsFile],
    rows: list[Row],
    loops: int,
    shift: int,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        dataset = write_rows(Path(folder, "events.parquet"), rows)
        found = mapped(dataset, loops=loops, shift=shift)
    expected = reference_lines(rows, loops=loops, shift=shift)
    assert [parsed(line) for line in found] == [parsed(line) for line in expected]
    if all(map(writes_numbers_as_python_does, rows)):
        assert found == expected


@pytest.mark.parametrize("type_id", sorted(EVENTS))
def test_each_event_type_has_its_own_body(
    type_id: int,
    tmp_path: Path,
    event_row: Callable[..., Row],
    write_rows: Callable[..., EventsFile],
) -> None:
    full = event_row(
        event_type_id=type_id,
        customer_lat=37.5,
        customer_lon=-122.25,
        customer_addr='1 "Quay" St\\',
        items_json='[{"id": 1, "name": "Crème \\"brûlée\\"", "price": 9.5, "qty": 2}]',
        route_json="[[37.5, -122.25], [37.75, -122.5]]",
        ping_lat=37.625,
        ping_lon=-122.375,
        ping_progress=12.5,
    )
    bare = event_row(event_type_id=type_id, sequence=1)
    found = mapped(write_rows(tmp_path / "events.parquet", [full, bare]))
    assert found == [reference_line(full, 0, 0), reference_line(bare, 0, 0)]
    assert len(parsed(found[0])["body"]) == len(EVENTS[type_id][1])
    assert json.loads(found[1])["body"] == "{}"


def test_every_event_type_of_the_domain_is_in_the_account() -> None:
    assert {e.id: e.name for e in GHOST_KITCHEN.event_types} == {
        number: name for number, (name, _) in EVENTS.items()
    }
    assert GHOST_KITCHEN.namespace == NAMESPACE


def test_numbers_that_are_not_finite_leave_their_field_out(
    tmp_path: Path,
    event_row: Callable[..., Row],
    write_rows: Callable[..., EventsFile],
) -> None:
    row = event_row(
        event_type_id=7, ping_lat=math.nan, ping_lon=-math.inf, ping_progress=float(np.float32(0.1))
    )
    (line,) = mapped(write_rows(tmp_path / "events.parquet", [row]))
    assert json.loads(line)["body"] == '{"progress_pct":0.10000000149011612}'


def test_an_empty_text_is_a_value_and_a_missing_one_is_none(
    tmp_path: Path,
    event_row: Callable[..., Row],
    write_rows: Callable[..., EventsFile],
) -> None:
    rows = [
        event_row(event_type_id=1, customer_addr=""),
        event_row(event_type_id=1, customer_addr=None, sequence=1),
    ]
    found = mapped(write_rows(tmp_path / "events.parquet", rows))
    assert [json.loads(line)["body"] for line in found] == ['{"customer_addr":""}', "{}"]


def test_a_line_is_one_line_whatever_the_texts_hold(
    tmp_path: Path,
    event_row: Callable[..., Row],
    write_rows: Callable[..., EventsFile],
) -> None:
    hostile = "a\nb\r\n\x00\"; DROP TABLE x; --<script>\\'\x1b\x7f"
    row = event_row(
        event_type_id=1, order_id=hostile, customer_addr=hostile, items_json='[\n{"id":\r\n1}]'
    )
    (line,) = mapped(write_rows(tmp_path / "events.parquet", [row]))
    assert line.index("\n") == len(line) - 1
    assert "\r" not in line
    assert parsed(line)["order_id"] == parsed(line)["body"]["customer_addr"] == hostile


def test_loops_after_the_first_name_their_orders_apart(
    tmp_path: Path,
    event_row: Callable[..., Row],
    write_rows: Callable[..., EventsFile],
) -> None:
    assert [order_suffix(n) for n in (0, 1, 2, 10)] == ["", "-L1", "-L2", "-L10"]
    rows = [event_row(order_id="A"), event_row(order_id="B", ts_seconds=EPOCH + DAY)]
    found = [parsed(x) for x in mapped(write_rows(tmp_path / "events.parquet", rows), loops=3)]
    assert [event["order_id"] for event in found] == ["A", "A-L1", "B", "A-L2", "B-L1", "B-L2"]
    assert len({event["event_id"] for event in found}) == len(found)


@given(texts, st.integers(-128, 127), texts, st.integers(-128, 127))
@example("A", 11, "A|1", 1)
def test_two_events_have_one_name_only_if_they_are_the_same(
    order: str, sequence: int, other: str, other_sequence: int
) -> None:
    same = (order, sequence) == (other, other_sequence)
    assert (event_id_name(order, sequence) == event_id_name(other, other_sequence)) == same


@pytest.mark.parametrize(
    ("integer", "float_", "string"),
    [
        (pa.int8(), pa.float16(), pa.string()),
        (pa.uint8(), pa.float32(), pa.large_string()),
        (pa.int16(), pa.float64(), pa.string_view()),
        (pa.uint16(), pa.float64(), pa.large_string()),
        (pa.int32(), pa.float32(), pa.string()),
        (pa.uint32(), pa.float64(), pa.string()),
        (pa.int64(), pa.float16(), pa.large_string()),
        (pa.uint64(), pa.float64(), pa.string()),
    ],
    ids=str,
)
def test_narrower_and_wider_column_types_give_the_same_lines(
    integer: pa.DataType,
    float_: pa.DataType,
    string: pa.DataType,
    tmp_path: Path,
    event_row: Callable[..., Row],
    write_rows: Callable[..., EventsFile],
) -> None:
    optional = {
        "customer_lat": 1.5,
        "customer_lon": -0.25,
        "customer_addr": "é",
        "items_json": "[]",
        "route_json": "[[1, 2]]",
        "ping_lat": 2.5,
        "ping_progress": 100.0,
    }
    rows = [
        event_row(event_type_id=number, sequence=number, ts_seconds=EPOCH + number, **optional)
        for number in EVENTS
    ]
    kinds = {"float": float_, "string": string}
    types = {field.name: kinds.get(str(field.type), integer) for field in EVENTS_SCHEMA}
    if integer.bit_width < 32:
        types["ts_seconds"] = pa.int64()
    dataset = write_rows(tmp_path / "events.parquet", rows, types=types)
    assert mapped(dataset, loops=2) == reference_lines(rows, loops=2, shift=0)


def test_numbers_wider_than_the_dataset_ever_needs_keep_every_digit(
    tmp_path: Path,
    event_row: Callable[..., Row],
    write_rows: Callable[..., EventsFile],
) -> None:
    row = event_row(
        event_type_id=7, sequence=2**63, ping_lat=1e300, ping_lon=5e-324, ping_progress=1 / 3
    )
    types = {"sequence": pa.uint64()} | dict.fromkeys(
        ("ping_lat", "ping_lon", "ping_progress"), pa.float64()
    )
    (line,) = mapped(write_rows(tmp_path / "events.parquet", [row], types=types))
    assert parsed(line)["sequence"] == 2**63
    assert parsed(line)["body"] == {"progress_pct": 1 / 3, "loc_lat": 1e300, "loc_lon": 5e-324}


@pytest.mark.parametrize(
    "folder",
    [
        "it's",
        "a*b",
        "a?b",
        "we[ir]d",
        "br]ck",
        "{a,b}",
        "two  spaces ",
        "back\\slash",
        'quo"te',
        "Käse🍔",
        "~",
        "%41",
        "location_id=9",
        "order_id=x/ts_seconds=1",
    ],
)
def test_the_dataset_may_lie_in_a_folder_of_any_name(
    folder: str,
    tmp_path: Path,
    event_row: Callable[..., Row],
    write_rows: Callable[..., EventsFile],
) -> None:
    row = event_row()
    write_rows(tmp_path / "axb" / "events.parquet", [event_row(order_id="what a pattern finds")])
    dataset = write_rows(tmp_path / folder / "events.parquet", [row])
    assert mapped(dataset) == [reference_line(row, 0, 0)]


@pytest.mark.parametrize(
    "name", ["body", "digest", "suffix", "virtual_ts", "entity_id", "line", "filename", "event_id"]
)
def test_a_further_column_of_the_file_changes_nothing_whatever_its_name(
    name: str,
    tmp_path: Path,
    event_row: Callable[..., Row],
    write_rows: Callable[..., EventsFile],
) -> None:
    row = event_row()
    dataset = write_rows(tmp_path / "events.parquet", [row])
    pq.write_table(pq.read_table(dataset.path).append_column(name, pa.array(["x"])), dataset.path)
    assert mapped(EventsFile.open(dataset.path)) == [reference_line(row, 0, 0)]


def test_a_slice_of_a_sorted_file_is_not_sorted_again(tmp_path: Path) -> None:
    def sql(loops: int, *, is_sorted: bool) -> str:
        return event_lines_sql(
            tmp_path / "events.parquet",
            [LoopSlice(n, 0, 1) for n in range(loops)],
            domain=GHOST_KITCHEN,
            cycle_seconds=DAY,
            shift=0,
            is_sorted=is_sorted,
        )

    assert "ORDER BY" not in sql(1, is_sorted=True)
    assert "ORDER BY" in sql(2, is_sorted=True)
    assert "ORDER BY" in sql(1, is_sorted=False)


def test_lines_come_in_the_order_of_time_order_id_and_sequence(
    tmp_path: Path,
    event_row: Callable[..., Row],
    write_rows: Callable[..., EventsFile],
) -> None:
    keys = [
        (t, order, n) for t in (0, 5, DAY + 5) for order in ("A", "B", "é", "a") for n in (0, 2, 10)
    ]
    rows = [event_row(ts_seconds=EPOCH + t, order_id=o, sequence=n) for t, o, n in reversed(keys)]
    dataset = write_rows(tmp_path / "events.parquet", rows)
    events = [json.loads(line) for line in mapped(dataset, loops=2)]
    found = [(e["ts"], e["order_id"].partition("-L")[0], e["sequence"]) for e in events]
    assert len(found) == 2 * len(rows)
    assert found == sorted(found)
