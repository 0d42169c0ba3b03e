import csv
import io
import json
from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caspers_lib.errors import SyncError
from caspers_lib.lakebase.staging import csv_chunks, raw_text, stage
from caspers_lib.lakebase.sync_spec import REFUNDS, SyncColumn, SyncSpec

SPEC = SyncSpec(
    "s", "a.b", ("k",), "d", "s", "t", (SyncColumn("k", "text"), SyncColumn("v", "text"))
)


def feed(*rows: tuple[str | bytes | None, str | bytes | None, str, int]) -> pa.Table:
    """(key, value, change type, version); bytes stand for text that may be broken."""

    def text(values: list[str | bytes | None]) -> pa.Array:
        raw = [value.encode() if isinstance(value, str) else value for value in values]
        return pa.Array.from_buffers(pa.string(), len(raw), pa.array(raw, pa.binary()).buffers())

    return pa.table(
        {
            "k": text([row[0] for row in rows]),
            "v": text([row[1] for row in rows]),
            "_change_type": pa.array([row[2] for row in rows], pa.string()),
            "_commit_version": pa.array([row[3] for row in rows], pa.int64()),
        }
    )


def staged(table: pa.Table) -> list[tuple[bytes | None, bytes | None, bool, int]]:
    rows = stage(table, SPEC, since=0).rows.to_pylist()
    return [(row["c0"], row["c1"], row["deleted"], row["version"]) for row in rows]


def test_old_values_of_updates_are_left_out() -> None:
    table = feed(("a", "1", "update_preimage", 3), ("a", "2", "update_postimage", 3))
    assert staged(table) == [(b"a", b"2", False, 3)]


def test_changes_before_the_position_are_left_out_and_those_at_it_stay() -> None:
    table = feed(("a", "1", "insert", 4), ("b", "1", "insert", 5), ("c", "1", "insert", 6))
    rows = stage(table, SPEC, since=5).rows
    assert rows["c0"].to_pylist() == [b"b", b"c"]


def test_a_deletion_carries_its_key_alone() -> None:
    assert staged(feed(("a", "x\0", "delete", 1))) == [(b"a", None, True, 1)]


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (None, "v", "k is null, and it is a key"),
        ("a\0", "v", "k holds a NUL character"),
        ("a", "\0", "v holds a NUL character"),
        ("a", b"\xff", "v is not valid UTF-8"),
        (b"\xc3", "v", "k is not valid UTF-8"),
        ("é" * 1001, "v", "k is a key of more than 2000 bytes"),
    ],
)
def test_what_postgres_cannot_hold_is_set_aside_with_its_reason(
    key: str | bytes | None, value: str | bytes, reason: str
) -> None:
    batch = stage(feed(("b", "", "insert", 6), (key, value, "insert", 7)), SPEC, since=0)
    assert batch.rows["c0"].to_pylist() == [b"b"]
    (refusal,) = batch.refused
    assert (refusal.version, refusal.reason) == (7, reason)
    assert "\0" not in refusal.raw


def test_refused_values_are_kept_as_readable_json() -> None:
    raw = raw_text(["a", "b", "c"], [b"x\0'\"", None, b"\xff"])
    assert json.loads(raw) == {"a": "x\0'\"", "b": None, "c": "\\xff"}
    assert "\0" not in raw


def test_a_feed_that_lacks_a_column_is_refused_by_name() -> None:
    with pytest.raises(SyncError, match=r"lacks \['v'\]"):
        stage(feed(("a", "b", "insert", 1)).drop_columns(["v"]), SPEC, since=0)


def test_a_column_without_a_text_form_is_refused_by_name() -> None:
    table = feed(("a", "b", "insert", 1)).drop_columns(["v"])
    with pytest.raises(SyncError, match=r"'v' of a\.b .* no text form") as caught:
        stage(table.append_column("v", pa.array([[1]])), SPEC, since=0)
    assert "to_json" in caught.value.hint


def test_timestamps_travel_with_their_zone(refund_changes: Callable[..., pa.Table]) -> None:
    rows = stage(refund_changes(("a", 1, "{}")), REFUNDS, since=0).rows
    assert rows["c1"].to_pylist() == [b"1970-01-01 00:00:00.000001Z"]


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(st.lists(st.tuples(TEXT, TEXT)))
def test_csv_brings_any_text_back(rows: list[tuple[str, str]]) -> None:
    table = feed(*((key, value, "insert", 1) for key, value in rows))
    lines = b"".join(csv_chunks(stage(table, SPEC, since=0).rows)).decode()
    read = list(csv.reader(io.StringIO(lines, newline=""), strict=True))
    assert [(row[3], row[4]) for row in read] == rows
