import pickle
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from caspers_lib.errors import SyncError
from caspers_lib.lakebase.change_feed import make_change_feed_handler, sync_once
from caspers_lib.lakebase.sync_spec import REFUNDS, SyncSpec
from caspers_lib.lakebase.target import SyncResult

Rows = Callable[[str], dict[str, Any]]
FEED = "TBLPROPERTIES (delta.enableChangeDataFeed = true)"
COLUMNS = "(order_id STRING, ts TIMESTAMP, order_ts TIMESTAMP, agent_response STRING)"


def test_the_handler_can_be_sent_to_another_process() -> None:
    handler = make_change_feed_handler(REFUNDS, "postgresql://x")
    assert pickle.loads(pickle.dumps(handler)).keywords == {  # noqa: S301
        "spec": REFUNDS,
        "dsn": "postgresql://x",
    }


@pytest.fixture
def spec(spark: Any) -> Iterator[SyncSpec]:
    """REFUNDS from a schema of its own."""
    spark.sql("CREATE SCHEMA IF NOT EXISTS lakebase_feed")
    yield replace(REFUNDS, source="lakebase_feed.refunds")
    spark.sql("DROP SCHEMA lakebase_feed CASCADE")


def value(order: str, number: int) -> str:
    return f"('{order}', timestamp'2024-03-01 12:00:00.123456', NULL, '{{\"usd\": {number}}}')"


@pytest.mark.spark
def test_the_target_follows_the_source_through_updates_deletes_and_a_lost_checkpoint(
    spark: Any, spec: SyncSpec, database: str, refund_rows: Rows, tmp_path: Path
) -> None:
    checkpoint = str(tmp_path / "checkpoint")

    def sync() -> SyncResult:
        return sync_once(spark, spec, database, checkpoint)

    def source() -> dict[str, Any]:
        query = f"SELECT order_id, get_json_object(agent_response, '$.usd') FROM {spec.source}"
        return {order: {"usd": int(usd)} for order, usd in spark.sql(query).collect()}

    table = spec.source
    spark.sql(f"CREATE TABLE {table} {COLUMNS} USING delta {FEED}")
    assert sync() == SyncResult()

    spark.sql(f"INSERT INTO {table} VALUES {value('a', 1)}, {value('b', 2)}, {value('c', 3)}")
    assert sync() == SyncResult(rows_in=3, written=3)
    assert refund_rows(database) == source()
    assert sync() == SyncResult()

    spark.sql(f"UPDATE {table} SET agent_response = '{{\"usd\": 9}}' WHERE order_id = 'a'")
    spark.sql(f"DELETE FROM {table} WHERE order_id = 'b'")
    spark.sql(f"INSERT INTO {table} VALUES {value('b', 5)}, ('bad', NULL, NULL, '{{')")
    spark.sql(f"DELETE FROM {table} WHERE order_id = 'bad'")
    result = sync()
    assert (result.written, result.deleted) == (2, 0)
    assert refund_rows(database) == source() == {"a": {"usd": 9}, "b": {"usd": 5}, "c": {"usd": 3}}
    with psycopg.connect(database) as connection:
        (ts,) = connection.execute(f"SELECT min(ts)::text FROM {spec.target}").fetchone() or ()
        assert ts.startswith("2024-03-01 12:00:00.123456")

    shutil.rmtree(checkpoint)
    assert sync().written == 0
    assert refund_rows(database) == source()

    spark.sql(f"DROP TABLE {table}")
    spark.sql(f"CREATE TABLE {table} {COLUMNS} USING delta {FEED}")
    spark.sql(f"INSERT INTO {table} VALUES {value('new', 1)}")
    assert sync() == SyncResult(rows_in=1, written=1)
    assert refund_rows(database) == {"new": {"usd": 1}}


@pytest.mark.spark
def test_a_batch_that_fails_is_an_error_with_the_servers_reason_and_applied_next_time(
    spark: Any, spec: SyncSpec, database: str, refund_rows: Rows, tmp_path: Path
) -> None:
    checkpoint = str(tmp_path / "checkpoint")
    spark.sql(f"CREATE TABLE {spec.source} {COLUMNS} USING delta {FEED}")
    sync_once(spark, spec, database, checkpoint)
    spark.sql(f"INSERT INTO {spec.source} VALUES {value('a', 1)}")
    with psycopg.connect(database) as connection:
        connection.execute(f"ALTER TABLE {spec.target} ADD CONSTRAINT no CHECK (order_id <> 'a')")
    with pytest.raises(
        SyncError, match=r"Batch \d of refunds can't be applied.*violates"
    ) as caught:
        sync_once(spark, spec, database, checkpoint)
    assert caught.value.hint
    with psycopg.connect(database) as connection:
        connection.execute(f"ALTER TABLE {spec.target} DROP CONSTRAINT no")
    assert sync_once(spark, spec, database, checkpoint).written == 1
    assert refund_rows(database) == {"a": {"usd": 1}}


@pytest.mark.spark
def test_a_source_that_does_not_exist_is_an_error_with_a_hint(
    spark: Any, spec: SyncSpec, database: str, tmp_path: Path
) -> None:
    with pytest.raises(
        SyncError, match=r"source lakebase_feed\.refunds .* can't be read"
    ) as caught:
        sync_once(spark, spec, database, str(tmp_path))
    assert "must run first" in caught.value.hint


@pytest.mark.spark
def test_a_source_without_a_change_feed_is_an_error_with_a_hint(
    spark: Any, spec: SyncSpec, database: str, tmp_path: Path
) -> None:
    spark.sql(f"CREATE TABLE {spec.source} {COLUMNS} USING delta")
    with pytest.raises(SyncError, match="has no change feed") as caught:
        sync_once(spark, spec, database, str(tmp_path))
    assert "delta.enableChangeDataFeed" in caught.value.hint
