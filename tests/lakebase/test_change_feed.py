import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from caspers_lib.errors import SyncError
from caspers_lib.lakebase import REFUNDS, SyncSpec
from caspers_lib.lakebase.change_feed import SyncRun, sync_once
from caspers_lib.lakebase.continuous import change_feed_handler
from caspers_lib.lakebase.target import SyncResult
from tests.lakebase.plans import PLAN

Rows = Callable[[str], dict[str, Any]]
FEED = "TBLPROPERTIES (delta.enableChangeDataFeed = true)"
COLUMNS = "(order_id STRING, ts TIMESTAMP, order_ts TIMESTAMP, agent_response STRING)"


def test_the_handler_can_be_sent_to_another_process() -> None:
    handler = change_feed_handler(PLAN, "postgresql://x")
    assert pickle.loads(pickle.dumps(handler)).keywords == {  # noqa: S301
        "plan": PLAN,
        "database": "postgresql://x",
    }


@pytest.fixture
def spec(spark: Any) -> Iterator[SyncSpec]:
    """REFUNDS from a schema of its own."""
    spark.sql("CREATE SCHEMA IF NOT EXISTS lakebase_feed")
    yield replace(REFUNDS, source="lakebase_feed.refunds")
    spark.sql("DROP SCHEMA lakebase_feed CASCADE")


@pytest.fixture
def sync(spark: Any, spec: SyncSpec, database: str) -> Callable[..., SyncRun]:
    def run(**options: Any) -> SyncRun:
        return sync_once(spark, spec, database, **options)

    return run


def create(spark: Any, spec: SyncSpec, *values: str) -> None:
    spark.sql(f"CREATE TABLE {spec.source} {COLUMNS} USING delta {FEED}")
    if values:
        insert(spark, spec, *values)


def insert(spark: Any, spec: SyncSpec, *values: str) -> None:
    spark.sql(f"INSERT INTO {spec.source} VALUES {', '.join(values)}")


def value(order: str, number: int) -> str:
    return f"('{order}', timestamp'2024-03-01 12:00:00.123456', NULL, '{{\"usd\": {number}}}')"


def source(spark: Any, spec: SyncSpec) -> dict[str, Any]:
    query = f"SELECT order_id, get_json_object(agent_response, '$.usd') FROM {spec.source}"
    return {order: {"usd": int(usd)} for order, usd in spark.sql(query).collect()}


def execute(database: str, statement: str) -> Any:
    with psycopg.connect(database) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchone() if cursor.description else None


@pytest.mark.spark
def test_the_target_follows_the_source_through_updates_deletes_and_a_source_made_anew(
    spark: Any,
    spec: SyncSpec,
    sync: Callable[..., SyncRun],
    database: str,
    refund_rows: Rows,
) -> None:
    create(spark, spec)
    assert (sync().result, sync().loaded) == (SyncResult(), None)

    insert(spark, spec, value("a", 1), value("b", 2), value("c", 3))
    run = sync()
    assert (run.result, run.loaded) == (SyncResult(rows_in=3, written=3), None)
    assert run.position.commit_version == 1
    assert run.position.lag_seconds is not None
    assert refund_rows(database) == source(spark, spec)
    assert sync().result == SyncResult()

    spark.sql(f"UPDATE {spec.source} SET agent_response = '{{\"usd\": 9}}' WHERE order_id = 'a'")
    spark.sql(f"DELETE FROM {spec.source} WHERE order_id = 'b'")
    insert(spark, spec, value("b", 5), "('bad', NULL, NULL, '{')")
    spark.sql(f"DELETE FROM {spec.source} WHERE order_id = 'bad'")
    result = sync().result
    assert (result.written, result.deleted) == (2, 0)
    assert refund_rows(database) == {"a": {"usd": 9}, "b": {"usd": 5}, "c": {"usd": 3}}
    assert refund_rows(database) == source(spark, spec)
    (ts,) = execute(database, f"SELECT min(ts)::text FROM {spec.target}")
    assert ts.startswith("2024-03-01 12:00:00.123456")

    insert(spark, spec, value("d", 1))
    assert sync().result == SyncResult(rows_in=1, written=1)

    spark.sql(f"DROP TABLE {spec.source}")
    create(spark, spec, value("new", 1), value("a", 9))
    run = sync()
    assert run.loaded == "the source is another table than before"
    assert run.result == SyncResult(rows_in=2, written=1, unchanged=1, deleted=3)
    assert refund_rows(database) == {"new": {"usd": 1}, "a": {"usd": 9}}


@pytest.mark.spark
def test_a_database_restored_from_a_backup_catches_up(
    spark: Any,
    spec: SyncSpec,
    sync: Callable[..., SyncRun],
    database: str,
    refund_rows: Rows,
) -> None:
    create(spark, spec, value("a", 1))
    sync()
    for number in (2, 3):
        insert(spark, spec, value(f"b{number}", number))
        sync()
    execute(database, f"DELETE FROM {spec.target} WHERE order_id <> 'a'")
    execute(database, f"UPDATE {spec.positions} SET commit_version = 1, batch_id = -1")
    insert(spark, spec, value("c", 4))
    run = sync()
    assert (run.result, run.loaded) == (SyncResult(rows_in=3, written=3), None)
    assert refund_rows(database) == source(spark, spec)


@pytest.mark.spark
def test_changes_that_were_vacuumed_are_made_up_for_by_loading_the_table(
    spark: Any,
    spec: SyncSpec,
    sync: Callable[..., SyncRun],
    database: str,
    refund_rows: Rows,
) -> None:
    create(spark, spec, value("a", 1), value("b", 2))
    sync()
    spark.sql(f"UPDATE {spec.source} SET agent_response = '{{\"usd\": 7}}' WHERE order_id = 'a'")
    spark.sql(f"DELETE FROM {spec.source} WHERE order_id = 'b'")
    insert(spark, spec, value("c", 3))
    (detail,) = spark.sql(f"DESCRIBE DETAIL {spec.source}").collect()
    changes = list(Path(detail.location.removeprefix("file:")).rglob("*cdc*.parquet"))
    assert changes
    for file in changes:
        file.unlink()
    run = sync()
    assert run.loaded == "the change feed no longer reaches version 2"
    assert refund_rows(database) == source(spark, spec) == {"a": {"usd": 7}, "c": {"usd": 3}}
    insert(spark, spec, value("d", 3))
    assert sync().loaded is None
    assert refund_rows(database) == source(spark, spec)


@pytest.mark.spark
def test_large_batches_are_copied_from_the_partitions(
    spark: Any, sync: Callable[..., SyncRun], spec: SyncSpec, database: str
) -> None:
    create(spark, spec)
    rows = "concat('o', id), now(), NULL, concat('{\"usd\": ', id, '}')"
    spark.sql(f"INSERT INTO {spec.source} SELECT {rows} FROM range(25000)")
    assert sync().result == SyncResult(rows_in=25_000, written=25_000)
    spark.sql(f"INSERT INTO {spec.source} SELECT {rows} FROM range(25000, 50000)")
    spark.sql(f"DELETE FROM {spec.source} WHERE order_id = 'o1'")
    insert(spark, spec, "(NULL, now(), NULL, '1')", "('bad', now(), NULL, '{')")
    assert sync().result == SyncResult(rows_in=25_003, written=25_000, deleted=1, refused=2)
    counts = f"SELECT count(*), count(DISTINCT order_id) FROM {spec.target}"
    assert execute(database, counts) == (49_999, 49_999)
    assert execute(database, f"SELECT count(*) FROM {spec.dead_letters}") == (2,)
    spark.sql(f"UPDATE {spec.source} SET order_id = concat('new-', order_id) WHERE ts IS NOT NULL")
    assert sync().result == SyncResult(100_001, 49_999, 1, 49_999, refused=2)
    new = (
        f"SELECT count(*), count(*) FILTER (WHERE starts_with(order_id, 'new-')) FROM {spec.target}"
    )
    assert execute(database, new) == (49_999, 49_999)
    left = "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'sync_staging%'"
    assert execute(database, left) == (0,)


@pytest.mark.spark
def test_a_column_that_is_new_in_the_source_is_followed_and_other_changes_are_refused(
    spark: Any, sync: Callable[..., SyncRun], spec: SyncSpec, database: str
) -> None:
    create(spark, spec, value("a", 1))
    sync()
    spark.sql(f"ALTER TABLE {spec.source} ADD COLUMN note ARRAY<STRING>")
    spark.sql(f"INSERT INTO {spec.source} VALUES ('b', now(), NULL, '2', array('x', NULL))")
    assert sync().result == SyncResult(rows_in=1, written=1)
    notes = f"SELECT json_object_agg(order_id, note) FROM {spec.target}"
    assert execute(database, notes) == ({"a": None, "b": ["x", None]},)

    execute(database, f"ALTER TABLE {spec.target} ALTER COLUMN ts TYPE text")
    with pytest.raises(SyncError, match="column ts is text there and timestamp") as caught:
        sync()
    assert caught.value.hint
    assert execute(database, f"SELECT count(*) FROM {spec.target}") == (2,)

    execute(database, f"DROP TABLE {spec.target}")
    run = sync()
    assert (run.loaded, run.result.written) == ("first load", 2)
    assert execute(database, notes) == ({"a": None, "b": ["x", None]},)


@pytest.mark.spark
def test_a_snapshot_needs_no_change_feed(
    spark: Any, spec: SyncSpec, database: str, refund_rows: Rows
) -> None:
    spark.sql(f"CREATE TABLE {spec.source} {COLUMNS} USING delta")
    insert(spark, spec, value("a", 1), value("b", 2))
    snapshot = replace(spec, mode="snapshot")
    assert sync_once(spark, snapshot, database).loaded == "first load"
    spark.sql(f"DELETE FROM {spec.source} WHERE order_id = 'a'")
    run = sync_once(spark, snapshot, database)
    assert run.loaded == "snapshot"
    assert run.result == SyncResult(rows_in=1, unchanged=1, deleted=1)
    assert refund_rows(database) == {"b": {"usd": 2}}
    assert sync_once(spark, snapshot, database).loaded is None


@pytest.mark.spark
def test_a_batch_that_fails_is_an_error_with_the_servers_reason_and_applied_next_time(
    spark: Any, spec: SyncSpec, sync: Callable[..., SyncRun], database: str, refund_rows: Rows
) -> None:
    create(spark, spec)
    sync()
    insert(spark, spec, value("a", 1))
    execute(database, f"ALTER TABLE {spec.target} ADD CONSTRAINT no CHECK (order_id <> 'a')")
    with pytest.raises(
        SyncError, match=r"The changes of refunds can't be applied.*violates"
    ) as caught:
        sync()
    assert caught.value.hint
    execute(database, f"ALTER TABLE {spec.target} DROP CONSTRAINT no")
    assert sync().result.written == 1
    assert refund_rows(database) == {"a": {"usd": 1}}


@pytest.mark.spark
def test_a_source_that_does_not_exist_is_an_error_with_a_hint(
    sync: Callable[..., SyncRun],
) -> None:
    with pytest.raises(
        SyncError, match=r"source lakebase_feed\.refunds .* can't be read"
    ) as caught:
        sync()
    assert "must run first" in caught.value.hint


@pytest.mark.spark
def test_a_source_without_a_change_feed_is_an_error_with_a_hint(
    spark: Any, spec: SyncSpec, sync: Callable[..., SyncRun]
) -> None:
    spark.sql(f"CREATE TABLE {spec.source} {COLUMNS} USING delta")
    with pytest.raises(SyncError, match="has no change feed") as caught:
        sync()
    assert "delta.enableChangeDataFeed" in caught.value.hint
