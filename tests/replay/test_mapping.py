"""DuckDB's event lines against a plain Python account of the same mapping."""

import functools
import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.errors import DatasetError
from caspers_lib.replay.chaos import NO_CHAOS, Chaos
from caspers_lib.replay.dataset import EVENTS_SCHEMA, EventsFile
from caspers_lib.replay.dataset_query import read_slices
from caspers_lib.replay.event import event_id_name, order_suffix
from caspers_lib.replay.event_batches import event_arrow_schema, event_batches
from caspers_lib.replay.form import Form
from caspers_lib.replay.mapping import dataset_columns, events_sql
from caspers_lib.replay.window import LoopSlice, Window
from tests.replay.event_account import (
    DAY,
    EPOCH,
    Row,
    parsed,
    played,
    reference_event,
    reference_line,
    reference_lines,
    row_sets,
    texts,
    writes_numbers_as_python_does,
)


def mapped(dataset: EventsFile, *, loops: int = 1, shift: int = 0) -> list[str]:
    """The lines of a dataset's first loops."""
    return [event["line"] for event in formed(dataset, "lines", loops=loops, shift=shift)]


def formed(dataset: EventsFile, form: Form, *, loops: int, shift: int) -> list[Row]:
    """The rows of the query over a dataset's first loops."""
    until = dataset.last_ts + loops * dataset.cycle_seconds
    slices = [LoopSlice(n, dataset.first_ts, dataset.last_ts) for n in range(loops)]
    read_slices(shared_connection(), dataset, slices, dataset_columns(GHOST_KITCHEN))
    sql = events_sql(
        dataset,
        slices,
        form=form,
        domain=GHOST_KITCHEN,
        shift=shift,
        window=Window(None, until),
    )
    rows: list[Row] = shared_connection().sql(sql).to_arrow_table().to_pylist()
    return rows


@functools.cache
def shared_connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


@settings(max_examples=50)
@given(row_sets, st.integers(1, 3), st.integers(-EPOCH, 10**9))
def test_the_three_forms_equal_the_plain_python_account(
    write_rows: Callable[..., EventsFile],
    rows: list[Row],
    loops: int,
    shift: int,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        dataset = write_rows(Path(folder, "events.parquet"), rows)
        lines = mapped(dataset, loops=loops, shift=shift)
        named = formed(dataset, "named_lines", loops=loops, shift=shift)
        columns = formed(dataset, "columns", loops=loops, shift=shift)
    expected = reference_lines(rows, loops=loops, shift=shift)
    events = [reference_event(row, loop, shift) for row, loop in played(rows, loops)]
    assert [parsed(line) for line in lines] == [parsed(line) for line in expected]
    assert [{**e, "body": json.loads(e["body"])} for e in columns] == [
        {**e, "body": json.loads(e["body"])} for e in events
    ]
    assert named == [
        {"line": line, "name": e["event_id"]} for line, e in zip(lines, events, strict=True)
    ]
    if all(map(writes_numbers_as_python_does, rows)):
        assert (lines, columns) == (expected, events)


@pytest.mark.parametrize("type_id", [event.id for event in GHOST_KITCHEN.event_types])
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
    assert len(parsed(found[0])["body"]) == len(GHOST_KITCHEN.event_types[type_id - 1].body)
    assert json.loads(found[1])["body"] == "{}"


@pytest.mark.parametrize("form", ["lines", "named_lines", "columns"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("type_id", "column"), [(1, "customer_lat"), (7, "ping_progress"), (8, "customer_lon")]
)
def test_a_number_that_is_not_finite_is_refused(
    type_id: int,
    column: str,
    value: float,
    form: Form,
    tmp_path: Path,
    event_row: Callable[..., Row],
    write_rows: Callable[..., EventsFile],
) -> None:
    row = event_row(event_type_id=type_id, **{column: value})
    dataset = write_rows(tmp_path / "events.parquet", [event_row(sequence=1), row])
    with pytest.raises(DatasetError) as raised:
        list(event_batches(dataset, Window(None, EPOCH), 0, form=form))
    assert raised.value.message == (
        f"The dataset {dataset.path} can't be replayed: order 'A' has a {column} that is not a "
        f"finite number: {value}"
    )
    assert "caspers dataset check" in raised.value.hint
    assert raised.value.__cause__ is not None


NO_JSON = [
    *("", " ", "[", "[1", "{'a': 1}", "[1] 2", "nope", '["\t"]', '["\\x"]', "[01]", "/**/[]"),
    *("[1,]", "[1 ,\n]", '{"a":1,}', "[NaN]", "[nan]", '{"a": -Infinity}', "inf", '["\\"",]'),
]


@pytest.mark.parametrize("text", NO_JSON)
@pytest.mark.parametrize(("type_id", "column"), [(1, "items_json"), (6, "route_json")])
def test_a_text_that_should_be_json_and_is_not_is_refused(
    type_id: int,
    column: str,
    text: str,
    tmp_path: Path,
    event_row: Callable[..., Row],
    write_rows: Callable[..., EventsFile],
) -> None:
    row = event_row(event_type_id=type_id, order_id='it\'s\n"B"', **{column: text})
    dataset = write_rows(tmp_path / "events.parquet", [row])
    with pytest.raises(DatasetError) as raised:
        list(event_batches(dataset, Window(None, EPOCH), 0))
    assert raised.value.message == (
        f"The dataset {dataset.path} can't be replayed: order 'it's\\n\\\"B\\\"' has a text in "
        f"{column} that is not JSON"
    )


@pytest.mark.parametrize(
    "text",
    [
        *("[]", " [1, 2.5e3, -0] ", "null", '{"a": [{}, ""]}', '["Banana, nan, [inf]", ",]"]'),
        *('["NaN,]\\"", {"x,}": "-Infinity"}]', '["\\\\", "nan"]', "[1e400]", '["\\ud83c\\udf54"]'),
    ],
)
def test_json_that_looks_like_none_is_taken_over_as_it_is(
    text: str,
    tmp_path: Path,
    event_row: Callable[..., Row],
    write_rows: Callable[..., EventsFile],
) -> None:
    row = event_row(event_type_id=1, items_json=text)
    (line,) = mapped(write_rows(tmp_path / "events.parquet", [row]))
    assert json.loads(line)["body"] == f'{{"items":{text}}}'


def test_a_bad_value_that_the_events_type_does_not_use_is_allowed(
    tmp_path: Path,
    event_row: Callable[..., Row],
    write_rows: Callable[..., EventsFile],
) -> None:
    row = event_row(event_type_id=2, items_json="[", route_json="nan", ping_lat=math.nan)
    assert mapped(write_rows(tmp_path / "events.parquet", [row])) == [reference_line(row, 0, 0)]


@pytest.mark.parametrize("chaos", [NO_CHAOS, Chaos(dropped=1.0)], ids=["clean", "chaos"])
@pytest.mark.parametrize("form", ["lines", "columns"])
@pytest.mark.parametrize("column", ["order_id", "sequence"])
def test_an_event_without_its_name_is_refused(
    chaos: Chaos,
    column: str,
    form: Form,
    tmp_path: Path,
    event_row: Callable[..., Row],
    write_rows: Callable[..., EventsFile],
) -> None:
    dataset = write_rows(tmp_path / "events.parquet", [event_row(order_id="A")])
    table = pq.read_table(dataset.path)
    place = table.schema.get_field_index(column)
    nothing = pa.nulls(1, table.schema.field(place).type)
    pq.write_table(table.set_column(place, column, nothing), dataset.path)
    with pytest.raises(DatasetError, match=f"order '.*' has no {column}$"):
        list(event_batches(dataset, Window(None, EPOCH), 0, form=form, chaos=chaos))


def test_an_event_without_its_location_is_refused(
    tmp_path: Path,
    event_row: Callable[..., Row],
    write_rows: Callable[..., EventsFile],
) -> None:
    dataset = write_rows(tmp_path / "events.parquet", [event_row()])
    table = pq.read_table(dataset.path)
    place = table.schema.get_field_index("location_id")
    pq.write_table(table.set_column(place, "location_id", pa.nulls(1, pa.int8())), dataset.path)
    with pytest.raises(DatasetError, match=r"order 'A' has no location_id$"):
        list(event_batches(dataset, Window(None, EPOCH), 0))


def test_an_unknown_event_type_is_refused(
    tmp_path: Path,
    event_row: Callable[..., Row],
    write_rows: Callable[..., EventsFile],
) -> None:
    dataset = write_rows(tmp_path / "events.parquet", [event_row(event_type_id=9)])
    with pytest.raises(DatasetError, match=r"order 'A' has the unknown event_type_id 9$"):
        list(event_batches(dataset, Window(None, EPOCH), 0))


@pytest.mark.parametrize("column", ["location_id", "sequence"])
def test_a_number_too_large_for_its_column_is_refused_in_one_sentence(
    column: str,
    tmp_path: Path,
    event_row: Callable[..., Row],
    write_rows: Callable[..., EventsFile],
) -> None:
    dataset = write_rows(
        tmp_path / "events.parquet", [event_row(**{column: 2**31})], types={column: pa.int64()}
    )
    with pytest.raises(DatasetError, match=r"can't be replayed: .* out of range") as raised:
        list(event_batches(dataset, Window(None, EPOCH), 0, form="columns"))
    assert "\n" not in raised.value.message


def test_the_columns_have_the_domains_names_and_types(
    tmp_path: Path,
    event_row: Callable[..., Row],
    write_rows: Callable[..., EventsFile],
) -> None:
    dataset = write_rows(tmp_path / "events.parquet", [event_row()])
    (batch,) = event_batches(dataset, Window(None, EPOCH), 0, form="columns")
    assert batch.schema == event_arrow_schema(GHOST_KITCHEN)
    assert [(field.name, str(field.type)) for field in batch.schema] == [
        ("event_id", "string"),
        ("event_type", "string"),
        ("ts", "string"),
        ("location_id", "int32"),
        ("order_id", "string"),
        ("sequence", "int32"),
        ("body", "string"),
    ]


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
        for number in (event.id for event in GHOST_KITCHEN.event_types)
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


def test_a_slice_of_a_sorted_file_is_not_sorted_again(small: EventsFile) -> None:
    def sql(loops: int, *, is_sorted: bool) -> str:
        return events_sql(
            replace(small, is_sorted=is_sorted),
            [LoopSlice(n, 0, 1) for n in range(loops)],
            form="lines",
            domain=GHOST_KITCHEN,
            shift=0,
            window=Window(None, 1.0),
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
