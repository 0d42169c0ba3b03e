import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caspers_lib.errors import PostgresError, SyncError
from caspers_lib.lakebase import REFUNDS, plan_sync, upsert
from caspers_lib.lakebase.sync_plan import SyncPlan
from caspers_lib.lakebase.target import (
    SyncResult,
    count_rows,
    prepare_target,
    read_position,
)
from caspers_lib.lakebase.upsert import CheckpointAheadError, Snapshot
from tests.lakebase.plans import PLAN, REFUND_COLUMNS

Changes = Callable[..., pa.Table]
Rows = Callable[[str], dict[str, Any]]

NOON = datetime(2024, 3, 11, 12, tzinfo=UTC)

HOSTILE = (
    'it\'s "quoted"',
    "line\nbreak\r\n\ttab",
    "<script>alert(1)</script>",
    "'; DROP TABLE recommender.pg_recommendations; --",
    "\\N",
    "\\.",
    "",
    "%s {target} $1",
    "ключ 🍜",
    '","',
)


def apply_changes(dsn: str, plan: SyncPlan, changes: pa.Table, *, batch_id: int) -> SyncResult:
    return upsert.apply_changes(dsn, plan, changes.to_batches(), batch_id=batch_id)


@pytest.fixture
def target(database: str) -> str:
    prepare_target(database, PLAN)
    return database


def fetch(dsn: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode()).fetchall()


def dead_letters(dsn: str) -> list[tuple[int, dict[str, Any], str]]:
    query = f"SELECT commit_version, raw, reason FROM {REFUNDS.dead_letters} ORDER BY 1, 2"
    return [(version, json.loads(raw), reason) for version, raw, reason in fetch(dsn, query)]


def version_applied(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        position = read_position(connection, REFUNDS)
    assert position is not None
    return position.commit_version


def test_rows_arrive_with_their_types(target: str, refund_changes: Changes) -> None:
    result = apply_changes(
        target, PLAN, refund_changes(("a", 7, '{"refund_usd": 1.5}')), batch_id=0
    )
    assert result == SyncResult(rows_in=1, written=1)
    query = (
        "SELECT order_id, extract(epoch FROM ts)::text, (agent_response->>'refund_usd')::numeric, "
        f"pg_typeof(ts)::text, pg_typeof(agent_response)::text FROM {REFUNDS.target}"
    )
    assert fetch(target, query) == [("a", "0.000007", 1.5, "timestamp with time zone", "jsonb")]


def test_rows_that_do_not_change_are_not_written(target: str, refund_changes: Changes) -> None:
    apply_changes(target, PLAN, refund_changes(("a", 1, "[1]"), ("b", 1, "[1]")), batch_id=0)
    query = f"SELECT order_id, xmin::text FROM {REFUNDS.target} ORDER BY 1"
    before = fetch(target, query)
    changes = refund_changes(("a", 1, "[1]"), ("b", 1, "[2]"))
    changes = changes.set_column(5, "_commit_version", pa.array([2, 2]))
    result = apply_changes(target, PLAN, changes, batch_id=1)
    after = fetch(target, query)
    assert result == SyncResult(rows_in=2, written=1, unchanged=1)
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_deleted_rows_go(target: str, refund_changes: Changes, refund_rows: Rows) -> None:
    apply_changes(target, PLAN, refund_changes(("a", 1, "1"), ("b", 1, "1")), batch_id=0)
    changes = refund_changes(("a", 2, None), ("never there", 2, None))
    result = apply_changes(target, PLAN, changes, batch_id=1)
    assert result == SyncResult(rows_in=2, deleted=1, unchanged=1)
    assert refund_rows(target) == {"b": 1}


def test_the_newest_change_of_a_key_counts_whatever_the_order(
    target: str, refund_changes: Changes, refund_rows: Rows
) -> None:
    changes = refund_changes(("a", 3, "3"), ("a", 1, "1"), ("b", 2, None), ("b", 1, "1"))
    result = apply_changes(target, PLAN, changes, batch_id=0)
    assert refund_rows(target) == {"a": 3}
    assert result == SyncResult(rows_in=4, written=1, unchanged=1)


def test_in_one_commit_an_insertion_follows_a_deletion(
    target: str, refund_changes: Changes, refund_rows: Rows
) -> None:
    apply_changes(target, PLAN, refund_changes(("a", 1, "1")), batch_id=0)
    changes = refund_changes(("a", 2, "2"), ("a", 2, None))
    apply_changes(target, PLAN, changes, batch_id=1)
    assert refund_rows(target) == {"a": 2}


def test_hostile_text_survives_as_data(
    target: str, refund_changes: Changes, refund_rows: Rows
) -> None:
    wanted = {f"{text}#{n}": text for n, text in enumerate(HOSTILE)} | {"": ""}
    changes = refund_changes(*((key, 1, json.dumps(value)) for key, value in wanted.items()))
    apply_changes(target, PLAN, changes, batch_id=0)
    assert refund_rows(target) == wanted


@pytest.mark.parametrize(
    ("poison", "reason"),
    [
        ("{not json", "invalid input syntax for type json"),
        ("", "invalid input syntax for type json"),
        ('{"a": "\\u0000"}', "unsupported Unicode escape sequence"),
        ('{"a": "\0"}', "agent_response holds a NUL character"),
        ("[" * 100_000, "stack depth limit exceeded"),
        ("1e999999", "value overflows numeric format"),
    ],
)
def test_a_refused_row_goes_aside_and_the_rest_goes_on(
    target: str, refund_changes: Changes, refund_rows: Rows, poison: str, reason: str
) -> None:
    changes = refund_changes(("a", 5, "1"), ("bad", 5, poison), ("c", 6, "3"))
    result = apply_changes(target, PLAN, changes, batch_id=0)
    assert result == SyncResult(rows_in=3, written=2, refused=1)
    assert refund_rows(target) == {"a": 1, "c": 3}
    ((version, raw, why),) = dead_letters(target)
    assert (version, raw["order_id"], raw["agent_response"]) == (5, "bad", poison)
    assert why.startswith(reason)
    assert version_applied(target) == 6


def test_a_null_key_goes_aside(target: str, refund_changes: Changes, refund_rows: Rows) -> None:
    apply_changes(target, PLAN, refund_changes((None, 1, "1"), ("b", 1, "1")), batch_id=0)
    assert refund_rows(target) == {"b": 1}
    ((_, raw, reason),) = dead_letters(target)
    assert (raw["order_id"], reason) == (None, "order_id is null, and it is a key")


def feed_of(columns: dict[str, pa.Array], *, kind: str = "insert", version: int = 1) -> pa.Table:
    count = len(next(iter(columns.values())))
    return pa.table(
        {
            **columns,
            "_change_type": [kind] * count,
            "_commit_version": [version] * count,
            "_commit_timestamp": pa.array([0] * count, pa.timestamp("us", "UTC")),
        }
    )


def test_a_value_out_of_range_goes_aside(database: str) -> None:
    spec = replace(REFUNDS, jsonb=())
    plan = plan_sync(spec, {"order_id": "string", "usd": "decimal(4,2)"})
    prepare_target(database, plan)
    changes = feed_of({"order_id": pa.array(["a", "b", "c"]), "usd": pa.array([1.5, 1e6, None])})
    result = apply_changes(database, plan, changes, batch_id=0)
    assert result == SyncResult(rows_in=3, written=2, refused=1)
    assert dead_letters(database)[0][2].startswith("numeric field overflow")


MICROSECONDS = pa.timestamp("us", "UTC")
FIRST_TIME = -210_866_803_200_000_000  # PostgreSQL's, in microseconds from 1970


@pytest.mark.parametrize(
    ("spark_type", "values", "refused"),
    [
        ("timestamp", pa.array([2**63 - 1, -62_135_596_800_000_000, None], MICROSECONDS), []),
        ("timestamp", pa.array([FIRST_TIME, FIRST_TIME - 1, -(2**63) + 1], MICROSECONDS), [1, 2]),
        ("timestamp_ntz", pa.array([FIRST_TIME, FIRST_TIME - 1], pa.timestamp("us")), [1]),
        ("date", pa.array([0, -2_440_588, 2_145_031_948], pa.int32()).cast(pa.date32()), []),
        (
            "date",
            pa.array([-2_440_589, 2_145_031_949, -(2**31), 2**31 - 1], pa.int32()).cast(
                pa.date32()
            ),
            [0, 1, 2, 3],
        ),
        ("double", pa.array([float("nan"), float("inf"), -0.0, 5e-324, None]), []),
        ("tinyint", pa.array([127, -128], pa.int8()), []),
        ("bigint", pa.array([2**63 - 1, -(2**63)], pa.int64()), []),
        ("decimal(38,18)", pa.array([Decimal("12345678901234567890.123456789012345678")]), []),
        ("boolean", pa.array([True, False, None]), []),
        ("binary", pa.array(["\\x00ff", "\\x"]), []),
    ],
)
def test_values_at_the_edge_arrive_or_go_aside(
    database: str, spark_type: str, values: pa.Array, refused: list[int]
) -> None:
    spec = replace(REFUNDS, jsonb=())
    plan = plan_sync(spec, {"order_id": "string", "v": spark_type})
    prepare_target(database, plan)
    keys = pa.array([str(n) for n in range(len(values))])
    result = apply_changes(database, plan, feed_of({"order_id": keys, "v": values}), batch_id=0)
    assert (result.written, result.refused) == (len(values) - len(refused), len(refused))
    assert [raw["order_id"] for _, raw, _ in dead_letters(database)] == [str(n) for n in refused]


def test_many_refused_rows_among_good_ones_are_all_found(
    target: str, refund_changes: Changes, refund_rows: Rows
) -> None:
    changes = refund_changes(*((f"k{n}", 1, "{" if n % 7 == 0 else str(n)) for n in range(300)))
    result = apply_changes(target, PLAN, changes, batch_id=0)
    assert result.refused == len(dead_letters(target)) == 43
    assert refund_rows(target) == {f"k{n}": n for n in range(300) if n % 7}


def test_a_refused_row_is_in_the_dead_letters_once_however_often_it_comes(
    target: str, refund_changes: Changes
) -> None:
    changes = refund_changes(("bad", 1, "{"), ("nul", 1, "\0"), ("ok", 1, "1"))
    for batch_id in range(3):
        load(target, changes, version=batch_id)
    assert [raw["order_id"] for _, raw, _ in dead_letters(target)] == ["bad", "nul"]


def test_an_older_value_stays_when_the_newest_is_refused(
    target: str, refund_changes: Changes, refund_rows: Rows
) -> None:
    apply_changes(target, PLAN, refund_changes(("a", 1, "1"), ("a", 2, "{")), batch_id=0)
    assert refund_rows(target) == {"a": 1}


def test_a_row_that_was_refused_can_still_be_deleted(
    target: str, refund_changes: Changes, refund_rows: Rows
) -> None:
    apply_changes(target, PLAN, refund_changes(("a", 1, "{")), batch_id=0)
    changes = refund_changes(("a", 2, "{")).set_column(4, "_change_type", pa.array(["delete"]))
    result = apply_changes(target, PLAN, changes, batch_id=1)
    assert result == SyncResult(rows_in=1, unchanged=1)
    assert refund_rows(target) == {}


def test_a_batch_that_comes_again_changes_nothing(
    target: str, refund_changes: Changes, refund_rows: Rows
) -> None:
    first = refund_changes(("a", 1, "1"), ("b", 2, "2"))
    apply_changes(target, PLAN, first, batch_id=0)
    apply_changes(target, PLAN, refund_changes(("a", 3, "3"), ("b", 4, None)), batch_id=1)
    result = apply_changes(target, PLAN, first, batch_id=0)
    assert result == SyncResult()
    assert refund_rows(target) == {"a": 3}
    assert version_applied(target) == 4


def test_an_empty_batch_is_no_change(target: str, refund_changes: Changes) -> None:
    assert apply_changes(target, PLAN, refund_changes(), batch_id=0) == SyncResult()
    assert version_applied(target) == -1


def test_a_failure_in_the_middle_leaves_neither_rows_nor_position(
    target: str, refund_changes: Changes, refund_rows: Rows
) -> None:
    apply_changes(target, PLAN, refund_changes(("a", 1, "1")), batch_id=0)
    with psycopg.connect(target) as connection:
        connection.execute(
            f"ALTER TABLE {REFUNDS.positions} ADD CONSTRAINT fails CHECK (commit_version < 2)"
        )
    changes = refund_changes(("b", 2, "2"), ("bad", 2, "{"))
    with pytest.raises(SyncError, match="Batch 1 of refunds can't be applied") as caught:
        apply_changes(target, PLAN, changes, batch_id=1)
    assert isinstance(caught.value.__cause__, psycopg.Error)
    assert refund_rows(target) == {"a": 1}
    assert dead_letters(target) == []
    assert version_applied(target) == 1


def test_a_target_that_was_not_prepared_is_refused(target: str, refund_changes: Changes) -> None:
    other = plan_sync(replace(REFUNDS, name="other"), REFUND_COLUMNS)
    with pytest.raises(SyncError, match="has no position for other"):
        apply_changes(target, other, refund_changes(("a", 1, "1")), batch_id=0)


def test_names_with_quotes_dots_and_percent_signs_work(
    database: str, refund_changes: Changes
) -> None:
    spec = replace(REFUNDS, schema='sch"ema %s', table="ta.ble {x}")
    plan = plan_sync(spec, REFUND_COLUMNS)
    prepare_target(database, plan)
    apply_changes(database, plan, refund_changes(("a", 1, "1"), ("b", 1, "{")), batch_id=0)
    assert count_rows(database, spec) == 1


def test_preparing_again_keeps_everything(
    target: str, refund_changes: Changes, refund_rows: Rows
) -> None:
    first = prepare_target(target, PLAN)
    apply_changes(target, PLAN, refund_changes(("a", 1, "1")), batch_id=0)
    again = prepare_target(target, PLAN)
    assert again.generation == first.generation
    assert (again.commit_version, again.batch_id) == (1, 0)
    assert again.totals == SyncResult(rows_in=1, written=1)
    assert refund_rows(target) == {"a": 1}


def load(dsn: str, rows: pa.Table, *, version: int = 0, source: str = "source-1") -> SyncResult:
    snapshot = Snapshot(source, version, NOON)
    return upsert.apply_changes(dsn, PLAN, rows.to_batches(), snapshot=snapshot)


def test_a_source_made_anew_replaces_the_target_in_one_go(
    target: str, refund_changes: Changes, refund_rows: Rows
) -> None:
    load(target, refund_changes(("old", 9, "1"), ("kept", 9, "1"), ("bad", 9, "{")), version=9)
    first = prepare_target(target, PLAN)
    assert (first.source_id, first.commit_version, len(dead_letters(target))) == ("source-1", 9, 1)
    result = load(target, refund_changes(("new", 0, "1"), ("kept", 0, "1")), source="source-2")
    anew = prepare_target(target, PLAN)
    assert result.deleted == 1
    assert anew.generation != first.generation
    assert (anew.source_id, anew.commit_version, anew.batch_id) == ("source-2", 0, -1)
    assert dead_letters(target) == []
    assert refund_rows(target) == {"new": 1, "kept": 1}


def test_a_snapshot_writes_only_what_differs_and_keeps_what_it_cannot_replace(
    target: str, refund_changes: Changes, refund_rows: Rows
) -> None:
    load(target, refund_changes(("same", 1, "1"), ("other", 1, "1"), ("gone", 1, "1"),
                                ("now bad", 1, "1"), ("now nul", 1, "1")), version=1)  # fmt: skip
    result = load(
        target,
        refund_changes(
            ("same", 1, "1"), ("other", 1, "2"), ("now bad", 1, "{"), ("now nul", 1, '"\0"')
        ),
        version=2,
    )
    assert result == SyncResult(rows_in=4, written=1, unchanged=1, deleted=1, refused=2)
    assert refund_rows(target) == {"same": 1, "other": 2, "now bad": 1, "now nul": 1}


def test_rows_that_share_a_key_are_counted_and_the_newest_by_its_column_counts(
    target: str, refund_changes: Changes, refund_rows: Rows
) -> None:
    twice = refund_changes(("a", 5, "1"), ("a", 9, "2"), ("a", 7, "3"), ("b", 1, "4"))
    twice = twice.set_column(5, "_commit_version", pa.array([1, 1, 1, 1]))
    plan = plan_sync(replace(REFUNDS, newest_by="ts"), REFUND_COLUMNS)
    result = apply_changes(target, plan, twice, batch_id=0)
    assert refund_rows(target) == {"a": 2, "b": 4}
    assert result == SyncResult(rows_in=4, written=2, doubled=2)


def test_a_checkpoint_that_is_ahead_of_the_target_is_noticed(
    target: str, refund_changes: Changes
) -> None:
    apply_changes(target, PLAN, refund_changes(("a", 1, "1")), batch_id=0)
    with pytest.raises(CheckpointAheadError, match="at batch 2, the target at 0"):
        apply_changes(target, PLAN, refund_changes(("b", 3, "1")), batch_id=2)
    assert version_applied(target) == 1


def test_rows_are_counted_and_none_where_there_is_no_table_yet(
    database: str, refund_changes: Changes
) -> None:
    assert count_rows(database, REFUNDS) is None
    prepare_target(database, PLAN)
    assert count_rows(database, REFUNDS) == 0
    apply_changes(database, PLAN, refund_changes(("a", 1, "1"), ("b", 1, "1")), batch_id=0)
    assert count_rows(database, REFUNDS) == 2


def test_there_are_no_rows_where_there_is_no_database_yet(server: Any) -> None:
    assert count_rows(server.dsn("not made"), REFUNDS) is None


def test_a_server_that_cannot_be_reached_is_an_error_with_a_hint() -> None:
    with pytest.raises(PostgresError, match="can't be reached") as caught:
        count_rows("postgresql://user:secret@/db?host=/nonexistent", REFUNDS)
    assert caught.value.hint
    assert "secret" not in caught.value.message


KEYS = ("a", "b", "c'", 'd"\n')
VALUES = st.one_of(st.none(), st.integers(0, 3), st.sampled_from(HOSTILE))
COMMITS = st.lists(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4), max_size=8)


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[tuple[int, int]]]:
    """A history of commits (key -> value, None = delete) and the batches that deliver it.

    Batches go on where the last one ended, with any of them delivered again from any earlier
    commit on, as after a crash or a lost checkpoint.
    """
    commits = draw(COMMITS)
    batches = []
    done = 0
    while done < len(commits):
        start = draw(st.integers(0, done))
        done = draw(st.integers(done, len(commits)))
        batches.append((start, done))
    return commits, batches


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(deliveries())
def test_any_delivery_of_any_history_leaves_the_target_equal_to_the_source(
    emptied: Callable[[], str],
    refund_changes: Changes,
    refund_rows: Rows,
    delivery: tuple[list[dict[str, Any]], list[tuple[int, int]]],
) -> None:
    commits, batches = delivery
    dsn = emptied()
    prepare_target(dsn, PLAN)
    for batch_id, (start, end) in enumerate(batches):
        changes = [
            (key, version, None if value is None else json.dumps(value))
            for version in range(start, end)
            for key, value in commits[version].items()
        ]
        apply_changes(dsn, PLAN, refund_changes(*changes), batch_id=batch_id)
    model: dict[str, Any] = {}
    for commit in commits:
        model.update(commit)
    assert refund_rows(dsn) == {key: value for key, value in model.items() if value is not None}
