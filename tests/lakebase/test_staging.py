import json
from collections.abc import Callable

import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caspers_lib.errors import SyncError
from caspers_lib.lakebase import SyncSpec, plan_sync
from caspers_lib.lakebase.staged_rows import raw_text, staged_rows
from caspers_lib.lakebase.staging import Staged, copy_rows, staging_table
from caspers_lib.lakebase.target import prepare_target
from tests.lakebase.plans import PLAN as REFUND_PLAN

PLAN = plan_sync(
    SyncSpec(name="s", source="a.b", keys=("k",), database="d", schema="s", table="t"),
    {"k": "string", "v": "string"},
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


def test_a_deletion_carries_its_key_alone() -> None:
    (row,) = staged_rows(feed(("a", "x\0", "delete", 1)), PLAN).to_pylist()
    assert (row["c0"], row["c1"], row["deleted"], row["version"]) == ("a", None, True, 1)
    assert row["refusal"] is None


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
    sound, refused = staged_rows(
        feed(("b", "", "insert", 6), (key, value, "insert", 7)), PLAN, part=3
    ).to_pylist()
    assert (sound["c0"], sound["refusal"], sound["raw"]) == ("b", None, None)
    assert (refused["version"], refused["refusal"], refused["part"]) == (7, reason, 3)
    assert refused["c1"] is None
    assert refused["c0"] == (None if reason.startswith("k ") else "a")
    assert "\0" not in refused["raw"]


def test_refused_values_are_kept_as_readable_json() -> None:
    raw = raw_text(["a", "b", "c"], [b"x\0'\"", None, b"\xff"])
    assert json.loads(raw) == {"a": "x\0'\"", "b": None, "c": "\\xff"}
    assert "\0" not in raw


def test_a_column_without_a_text_form_is_refused_by_name() -> None:
    table = feed(("a", "b", "insert", 1)).drop_columns(["v"])
    with pytest.raises(SyncError, match=r"'v' of a\.b .* can't be sent as text") as caught:
        staged_rows(table.append_column("v", pa.array([[1]])), PLAN)
    assert "to_json" in caught.value.hint


def test_times_and_numbers_travel_in_binary(refund_changes: Callable[..., pa.Table]) -> None:
    rows = staged_rows(refund_changes(("a", 1, "{}")), REFUND_PLAN)
    assert rows.schema.field("c1").type == pa.timestamp("us", "UTC")
    assert rows.schema.field("c3").type == pa.string()
    assert [column.staged_type for column in REFUND_PLAN.columns][1:] == [
        "timestamp with time zone",
        "timestamp with time zone",
        "text",
    ]


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1))
def test_any_text_arrives_as_it_is(database: str, rows: list[tuple[str, str]]) -> None:
    prepare_target(database, PLAN)
    table = feed(*((key, value, "insert", 1) for key, value in rows))
    table = table.append_column(
        "_commit_timestamp", pa.array([0] * len(rows), pa.timestamp("us", "UTC"))
    )
    with staging_table(database, PLAN) as staging:
        staged = copy_rows(database, staging, PLAN, table.to_batches(), part=1)
        with psycopg.connect(database) as connection:
            query = f"SELECT c0, c1 FROM {staging.sql} ORDER BY n"
            assert connection.execute(query.encode()).fetchall() == rows
    assert staged == Staged(1, len(rows), version=1, committed_at=0)
