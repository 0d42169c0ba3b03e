"""Bad data, altered targets, lost files, cut connections: a clear error; the next run mends it."""

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pyarrow as pa
import pytest
from pyspark.errors import PySparkException

from caspers_lib.errors import PostgresError, SyncError
from caspers_lib.lakebase import REFUNDS, SyncSpec
from caspers_lib.lakebase.change_feed import (
    SyncRun,
    read_source,
    snapshot_rows,
    source_plan,
    stream_error,
    sync_once,
)
from caspers_lib.lakebase.check import Difference, check_sync
from caspers_lib.lakebase.continuous import change_feed_handler
from caspers_lib.lakebase.server import EmbeddedPostgres
from caspers_lib.lakebase.staging import staging_table
from caspers_lib.lakebase.target import SyncResult, prepare_target, read_position
from caspers_lib.lakebase.upsert import Snapshot, apply_changes
from tests.lakebase.plans import PLAN
from tests.lakebase.stock_postgres import PASSWORD, StockPostgres
from tests.lakebase.test_server_hardening import fill
from tests.lakebase.test_upsert import NOON

Changes = Callable[..., pa.Table]
Rows = Callable[[str], dict[str, Any]]


def execute(dsn: str, statement: str, *values: object) -> Any:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), values)
        return cursor.fetchone() if cursor.description else None


def apply(dsn: str, changes: pa.Table) -> SyncResult:
    return apply_changes(dsn, PLAN, changes.to_batches())


def load(dsn: str, changes: pa.Table) -> SyncResult:
    return apply_changes(dsn, PLAN, changes.to_batches(), snapshot=Snapshot("source", 1, NOON))


def version(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        position = read_position(connection, REFUNDS)
    assert position is not None
    return position.commit_version


@pytest.mark.parametrize(
    ("key", "value"), [("a", "{"), ("a", '"\0"'), (None, "1"), ("\0", "1"), ("x" * 2001, "1")]
)
def test_a_refused_row_arrives_once_the_source_has_it_right(
    database: str, refund_changes: Changes, refund_rows: Rows, key: str | None, value: str
) -> None:
    prepare_target(database, PLAN)
    apply(database, refund_changes(("b", 1, "1"), (key, 1, value)))
    assert refund_rows(database) == {"b": 1}
    result = apply(database, refund_changes((key, 2, None), ("right", 2, "2")))
    assert result.written == 1
    assert refund_rows(database) == {"b": 1, "right": 2}


TARGET, ALTER = REFUNDS.target, f"ALTER TABLE {REFUNDS.target}"


@pytest.mark.parametrize(
    ("damage", "message", "hint", "cure"),
    [
        (f"{ALTER} DROP COLUMN ts", "column ts was synced and is gone", "Drop the table",
         f"DROP TABLE {TARGET}"),
        (f"{ALTER} ALTER COLUMN ts TYPE date", "column ts is date there", "Change it back",
         f"{ALTER} ALTER COLUMN ts TYPE timestamptz"),
        (f"{ALTER} ALTER COLUMN order_id TYPE varchar(3)", "order_id is character varying",
         "drop the table", f"DROP TABLE {TARGET}"),
        (f"{ALTER} DROP CONSTRAINT pg_recommendations_pkey", "its primary key isn't",
         "ADD PRIMARY KEY", f"{ALTER} ADD PRIMARY KEY (order_id)"),
        (f"TRUNCATE {TARGET}; {ALTER} ADD COLUMN mine int NOT NULL", "column mine needs a value",
         "DROP NOT NULL", f"{ALTER} ALTER COLUMN mine DROP NOT NULL"),
        (f"ALTER TABLE {REFUNDS.positions} DROP COLUMN doubled", "can't be prepared",
         "altered by hand", f"DROP TABLE {TARGET}, {REFUNDS.positions}"),
    ],
)  # fmt: skip
def test_a_target_that_was_altered_by_hand_is_named_and_mended_as_the_hint_says(
    database: str,
    refund_changes: Changes,
    refund_rows: Rows,
    damage: str,
    message: str,
    hint: str,
    cure: str,
) -> None:
    rows = refund_changes(("a", 1, "1"), ("b", 1, "2"))
    prepare_target(database, PLAN)
    load(database, rows)
    execute(database, damage)
    with pytest.raises(SyncError, match=message) as caught:
        prepare_target(database, PLAN)
    assert hint in caught.value.hint
    execute(database, cure)
    prepare_target(database, PLAN)
    load(database, rows)
    assert refund_rows(database) == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("damage", "message", "cure"),
    [
        ("CREATE UNIQUE INDEX mine ON {t} (agent_response)", "unique constraint \"mine\"",
         "DROP INDEX recommender.mine"),
        ("{a} ADD CONSTRAINT mine CHECK (order_id < 'b')", "check constraint \"mine\"",
         "{a} DROP CONSTRAINT mine"),
        ("{a} RENAME TO moved", "does not exist", "ALTER TABLE recommender.moved RENAME TO "
         "pg_recommendations"),
        ("ALTER TABLE {p} DROP COLUMN doubled", "column \"doubled\" does not exist",
         "ALTER TABLE {p} ADD COLUMN doubled bigint NOT NULL DEFAULT 0"),
    ],
)  # fmt: skip
def test_what_was_altered_between_two_batches_fails_the_whole_batch_until_it_is_undone(
    database: str,
    refund_changes: Changes,
    refund_rows: Rows,
    damage: str,
    message: str,
    cure: str,
) -> None:
    names = {"t": TARGET, "a": ALTER, "p": REFUNDS.positions}
    prepare_target(database, PLAN)
    apply(database, refund_changes(("a", 1, "1")))
    execute(database, damage.format(**names))
    batch = refund_changes(("a", 2, None), ("a2", 2, "5"), ("b", 2, "5"))
    with pytest.raises(SyncError, match=message) as caught:
        apply(database, batch)
    assert caught.value.message.startswith("The changes of refunds can't be applied")
    assert caught.value.hint
    execute(database, cure.format(**names))
    assert (refund_rows(database), version(database)) == ({"a": 1}, 1)
    apply(database, batch)
    assert (refund_rows(database), version(database)) == ({"a2": 5, "b": 5}, 2)


def test_a_server_that_only_reads_is_an_error_with_a_hint(
    database: str, refund_changes: Changes, refund_rows: Rows
) -> None:
    prepare_target(database, PLAN)
    execute(database, "ALTER DATABASE test SET default_transaction_read_only = on")
    try:
        with pytest.raises(SyncError, match="read-only transaction") as caught:
            apply(database, refund_changes(("a", 1, "1")))
        with pytest.raises(SyncError, match=r"can't be prepared.* read-only transaction"):
            prepare_target(database, PLAN)
    finally:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute("ALTER DATABASE test RESET default_transaction_read_only")
    assert caught.value.hint
    assert apply(database, refund_changes(("a", 1, "1"))).written == 1
    assert refund_rows(database) == {"a": 1}


# The session that holds the staging table, the one that copies into it, or both.
SESSIONS = {
    "holder": "query LIKE 'CREATE UNLOGGED%%'",
    "copier": "query LIKE 'COPY%%'",
    "both": "query LIKE 'C%%'",
}


@pytest.mark.parametrize("victim", SESSIONS)
def test_a_connection_that_is_cut_in_the_middle_of_a_copy_loses_nothing(
    database: str, refund_changes: Changes, refund_rows: Rows, victim: str
) -> None:
    prepare_target(database, PLAN)
    apply(database, refund_changes(("a", 1, "1")))
    copying, cut = threading.Event(), threading.Event()
    rows = [(f"k{n}", 2, '"' + "x" * 1000 + '"') for n in range(2000)]

    def batches() -> Iterator[pa.RecordBatch]:
        yield from refund_changes(("a", 2, None)).to_batches()
        copying.set()
        assert cut.wait(60)
        yield from refund_changes(*rows).to_batches(max_chunksize=100)

    cuts = []

    def cut_connection() -> None:
        assert copying.wait(60)
        query = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            f"WHERE datname = 'test' AND pid <> pg_backend_pid() AND {SESSIONS[victim]}"
        )
        try:
            cuts.append(execute(database, query)[0])
        finally:
            cut.set()

    thread = threading.Thread(target=cut_connection)
    thread.start()
    try:
        if victim == "holder":
            # It is not needed any more: its table is there until another run takes it away.
            assert apply_changes(database, PLAN, batches()).rows_in == 2001
        else:
            with pytest.raises(SyncError, match="can't be copied") as caught:
                apply_changes(database, PLAN, batches())
            assert caught.value.hint
            assert (refund_rows(database), version(database)) == ({"a": 1}, 1)
    finally:
        cut.set()
        thread.join()
    assert cuts == [2 if victim == "both" else 1]
    apply(database, refund_changes(("a", 2, None), *rows))
    assert len(refund_rows(database)) == 2000
    with staging_table(database, PLAN):
        left = "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'sync_staging%%'"
        assert execute(database, left) == (1,)


@pytest.fixture
def small_disk(short_folder: Path, tmp_path: Path) -> Iterator[Path]:
    disk = short_folder / f"disk-{tmp_path.name[-8:]}"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=150m,mode=755", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_is_full_is_named_and_the_batch_applied_when_there_is_room(
    small_disk: Path, refund_changes: Changes, refund_rows: Rows
) -> None:
    batch = refund_changes(*((f"k{n}", 2, '"' + "x" * 2000 + '"') for n in range(4000)))
    with EmbeddedPostgres(small_disk / "postgres" / "data") as server:
        server.ensure_database("test")
        dsn = server.dsn("test")
        prepare_target(dsn, PLAN)
        apply(dsn, refund_changes(("a", 1, "1")))
        ballast = fill(small_disk)
        with pytest.raises(SyncError, match=r"(?i)no space left") as caught:
            apply(dsn, batch)
        assert caught.value.hint
        assert len(caught.value.message.splitlines()) == 1
        assert (refund_rows(dsn), version(dsn)) == ({"a": 1}, 1)
        ballast.unlink()
        assert apply(dsn, batch).written == 4000
        assert len(refund_rows(dsn)) == 4001


FEED = "delta.enableChangeDataFeed = true"


@pytest.fixture
def spec(spark: Any) -> Iterator[SyncSpec]:
    spark.sql("CREATE SCHEMA lakebase_bad_input")
    yield replace(REFUNDS, source="lakebase_bad_input.refunds")
    spark.sql("DROP SCHEMA lakebase_bad_input CASCADE")


@pytest.fixture
def sync(spark: Any, spec: SyncSpec, database: str) -> Callable[..., SyncRun]:
    def run(spec: SyncSpec = spec, **options: Any) -> SyncRun:
        return sync_once(spark, spec, database, **options)

    return run


def create(spark: Any, spec: SyncSpec, properties: str = FEED) -> Path:
    columns = "order_id STRING, ts TIMESTAMP, order_ts TIMESTAMP, agent_response STRING, cents INT"
    spark.sql(f"CREATE TABLE {spec.source} ({columns}) USING delta TBLPROPERTIES ({properties})")
    (detail,) = spark.sql(f"DESCRIBE DETAIL {spec.source}").collect()
    return Path(detail.location.removeprefix("file:"))


def insert(spark: Any, spec: SyncSpec, *orders: str) -> None:
    rows = ", ".join(f"('{order}', '1')" for order in orders)
    spark.sql(f"INSERT INTO {spec.source} (order_id, agent_response) VALUES {rows}")


def is_equal(spark: Any, spec: SyncSpec, database: str) -> bool:
    return check_sync(spark, spec, database).is_equal


@pytest.mark.spark
@pytest.mark.parametrize("first_lost", [1, 3])
def test_a_log_that_no_longer_reaches_the_position_is_made_up_for_by_loading_the_table(
    spark: Any, spec: SyncSpec, sync: Callable[..., SyncRun], database: str, first_lost: int
) -> None:
    log = create(spark, spec, f"{FEED}, delta.checkpointInterval = 3") / "_delta_log"
    insert(spark, spec, "a")
    sync()
    for number in range(3):
        insert(spark, spec, f"b{number}")
    # Either all that lies before the log's own checkpoint, or a hole in the middle.
    for number in range(first_lost, 4):
        (log / f"{number:020}.json").unlink()
        (log / f".{number:020}.json.crc").unlink(missing_ok=True)
    run = sync()
    assert run.loaded == "the change feed no longer reaches version 2"
    assert run.result == SyncResult(rows_in=4, written=3, unchanged=1)
    assert is_equal(spark, spec, database)
    insert(spark, spec, "c")
    assert (sync().loaded, is_equal(spark, spec, database)) == (None, True)


@pytest.mark.spark
def test_commits_without_a_feed_are_made_up_for_by_loading_the_table(
    spark: Any, spec: SyncSpec, sync: Callable[..., SyncRun], database: str
) -> None:
    create(spark, spec)
    insert(spark, spec, "a")
    sync()
    for value in ("false", "true"):
        spark.sql(
            f"ALTER TABLE {spec.source} SET TBLPROPERTIES (delta.enableChangeDataFeed = {value})"
        )
        insert(spark, spec, f"while {value}")
    assert sync().loaded == "the change feed no longer reaches version 2"
    assert is_equal(spark, spec, database)


@pytest.mark.spark
def test_commits_with_other_columns_are_made_up_for_by_loading_the_table(
    spark: Any, spec: SyncSpec, sync: Callable[..., SyncRun], database: str
) -> None:
    create(spark, spec)
    insert(spark, spec, "a")
    sync()
    insert(spark, spec, "b")
    wider = spark.table(spec.source).selectExpr("* EXCEPT (cents)", "bigint(cents) AS cents")
    wider.write.mode("overwrite").option("overwriteSchema", "true").saveAsTable(spec.source)
    assert sync().loaded == "the change feed has other columns at version 2"
    assert is_equal(spark, spec, database)

    insert(spark, spec, "c")
    spark.sql(
        f"ALTER TABLE {spec.source} SET TBLPROPERTIES (delta.columnMapping.mode = 'name', "
        "delta.minReaderVersion = 2, delta.minWriterVersion = 5)"
    )
    spark.sql(f"ALTER TABLE {spec.source} DROP COLUMN cents")
    fewer = replace(spec, columns=("order_id", "ts", "order_ts", "agent_response"))
    assert sync(fewer).loaded == "the change feed has other columns at version 4"
    assert is_equal(spark, fewer, database)
    assert sync(fewer).loaded is None


@pytest.mark.spark
def test_a_broken_file_of_the_source_is_named_and_is_no_reason_to_load(
    spark: Any, spec: SyncSpec, sync: Callable[..., SyncRun], database: str
) -> None:
    folder = create(spark, spec)
    insert(spark, spec, "a")
    sync()
    before = set(folder.glob("*.parquet"))
    insert(spark, spec, "b")
    (file,) = set(folder.glob("*.parquet")) - before
    good = file.read_bytes()
    (folder / f".{file.name}.crc").unlink()
    file.write_bytes(b"garbage" * 100)
    with pytest.raises(SyncError, match=rf"The sync of refunds failed: .*{file.name}") as caught:
        sync()
    assert len(caught.value.message.splitlines()) == 1
    assert version(database) == 1
    file.write_bytes(good)
    run = sync()
    assert (run.loaded, run.result.written) == (None, 1)
    assert is_equal(spark, spec, database)


@pytest.mark.spark
def test_a_database_restored_from_a_backup_catches_up_although_the_source_has_nothing_new(
    spark: Any, spec: SyncSpec, sync: Callable[..., SyncRun], database: str
) -> None:
    create(spark, spec)
    insert(spark, spec, "a")
    sync()
    position = execute(database, f"TABLE {spec.positions}")
    for order in ("b", "c"):
        insert(spark, spec, order)
        sync()
    execute(database, f"DELETE FROM {spec.target} WHERE order_id <> 'a'")
    execute(
        database,
        f"UPDATE {spec.positions} SET generation = %s, commit_version = %s, batch_id = %s",
        *position[2:5],
    )
    run = sync()
    assert (run.loaded, run.result.written) == (None, 2)
    assert is_equal(spark, spec, database)


@pytest.mark.spark
def test_commits_without_rows_move_the_position_once_and_start_no_stream_again(
    spark: Any, spec: SyncSpec, sync: Callable[..., SyncRun]
) -> None:
    create(spark, spec)
    for order in ("a", "b"):
        insert(spark, spec, order)
    sync()
    spark.sql(f"OPTIMIZE {spec.source}")
    spark.sql(f"ALTER TABLE {spec.source} SET TBLPROPERTIES ('a.note' = 'x')")
    run = sync()
    assert (run.result, run.loaded, run.position.commit_version) == (SyncResult(), None, 4)
    # Each stream has a generation of its own.
    assert sync().position == run.position


@pytest.mark.spark
def test_a_key_whose_double_was_deleted_is_named_by_the_check_and_mended_by_a_reload(
    spark: Any, spec: SyncSpec, sync: Callable[..., SyncRun], database: str
) -> None:
    create(spark, spec)
    spark.sql(f"INSERT INTO {spec.source} (order_id, cents) VALUES ('a', 1), ('a', 2), ('b', 1)")
    assert sync().result == SyncResult(rows_in=3, written=2, doubled=1)
    spark.sql(f"DELETE FROM {spec.source} WHERE cents = 2")
    assert sync().result == SyncResult(rows_in=1, deleted=1)
    found = check_sync(spark, spec, database)
    assert (found.is_equal, found.first) == (False, (Difference(("a",), "missing"),))
    assert sync(reload=True).result == SyncResult(rows_in=2, written=1, unchanged=1)
    assert is_equal(spark, spec, database)


@pytest.mark.spark
def test_a_version_is_read_as_it_was_while_the_table_is_written_on(
    spark: Any, spec: SyncSpec, sync: Callable[..., SyncRun], database: str
) -> None:
    create(spark, spec)
    insert(spark, spec, "a", "b")
    state, plan = read_source(spark, spec), source_plan(spark, spec)
    rows = snapshot_rows(spark, plan, state.version, state.committed_at)
    spark.sql(f"DELETE FROM {spec.source} WHERE order_id = 'a'")
    insert(spark, spec, "c")
    assert {row.order_id for row in rows.collect()} == {"a", "b"}
    sync()
    # A column that the position's version doesn't have can't be compared.
    spark.sql(f"ALTER TABLE {spec.source} ADD COLUMN note STRING")
    with pytest.raises(SyncError, match="can't be read as it was at the target's") as caught:
        check_sync(spark, spec, database)
    assert "caspers sync refunds" in caught.value.hint
    sync()
    assert is_equal(spark, spec, database)


@pytest.mark.spark
def test_no_error_from_sparks_other_process_tells_a_password(
    spark: Any, spec: SyncSpec, stock: StockPostgres, tmp_path: Path
) -> None:
    create(spark, spec)
    insert(spark, spec, "a")
    secret = PASSWORD + "-wrong"
    wrong = stock.dsn("test", password=secret)
    with pytest.raises(PostgresError) as refused:
        sync_once(spark, spec, wrong)

    changes = spark.readStream.option("readChangeFeed", "true").option("startingVersion", 0)
    handler = change_feed_handler(source_plan(spark, spec), wrong)
    writer = changes.table(spec.source).writeStream.foreachBatch(handler)
    query = writer.option("checkpointLocation", str(tmp_path / "2")).trigger(availableNow=True)
    with pytest.raises(PySparkException) as caught:
        query.start().awaitTermination()
    error = stream_error(spec, caught.value)
    assert "authentication failed" in error.message
    for text in (str(refused.value), str(caught.value), str(error)):
        assert secret not in text
        assert quote(secret, safe="") not in text
