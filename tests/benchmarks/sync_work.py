"""From Delta to Postgres: upserts against hand-written ones, lag, and memory as rows grow."""

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
import pyarrow as pa
from adbc_driver_postgresql import dbapi

from caspers_lib.lakebase import REFUNDS, SyncSpec, plan_sync
from caspers_lib.lakebase.change_feed import sync_once
from caspers_lib.lakebase.server import EmbeddedPostgres
from caspers_lib.lakebase.staging import copy_rows, staging_table
from caspers_lib.lakebase.target import prepare_target
from caspers_lib.lakebase.upsert import apply_changes, apply_staged
from caspers_lib.runtime.spark import plan_for_few_rows, start_session, stop_session
from tests.benchmarks.measure import in_fresh_process, reported

ROWS = 1_000_000
NEW_ROWS = 1_500
LAG_RUNS = 15
_WORK = "tests.benchmarks.sync_work"
_BATCH = 10_000
_COLUMNS = ("order_id", "ts", "order_ts", "agent_response")
PLAN = plan_sync(
    REFUNDS,
    {"order_id": "string", "ts": "timestamp", "order_ts": "timestamp", "agent_response": "string"},
)


def rows(folder: Path) -> list[tuple[str, str, str, str]]:
    """What was measured, the measure, what it is held against, the ratio; for the table."""
    upserts = in_fresh_process(_WORK, "upserts", folder / "upserts").result
    found = [
        (
            f"upsert of {ROWS:,} {what} rows, rows a second",
            f"{ROWS / upserts[f'ours, {what}']:,.0f}",
            f"by hand, {by} {ROWS / upserts[f'{by}, {what}']:,.0f}",
            f"{upserts[f'{by}, {what}'] / upserts[f'ours, {what}']:.2f}x",
        )
        for what in ("fresh", "existing", "unchanged")
        for by in ("ADBC", "COPY")
    ]
    lag = in_fresh_process(_WORK, "lag", folder / "lag").result
    found.append(
        (
            f"{NEW_ROWS:,} new rows, warm: commit to Postgres, s",
            f"{lag['lag']:.2f}",
            f"the upsert alone {lag['upsert']:.2f}",
            f"{lag['lag'] / lag['upsert']:.1f}x",
        )
    )
    one, ten = (
        in_fresh_process(_WORK, "load", folder / f"load{times}", times).result for times in (1, 10)
    )
    found.append(
        (
            f"peak RSS of the driver's Python, {ten['rows']:,.0f} rows loaded, MB",
            f"{ten['peak_mb']:,.0f}",
            f"{one['rows']:,.0f} rows {one['peak_mb']:,.0f}",
            f"{ten['peak_mb'] / one['peak_mb']:.2f}x",
        )
    )
    return found


def upserts(folder: Path) -> dict[str, float]:
    """Seconds of each way to bring the same rows in: new keys, then other values, then the same."""
    seconds = {}
    with EmbeddedPostgres(folder / "postgres" / "data") as server:
        server.ensure_database("bench")
        dsn = server.dsn("bench")
        prepare_target(dsn, PLAN)
        with psycopg.connect(dsn) as connection:
            for name in ("by_adbc", "by_copy"):
                connection.execute(
                    f"CREATE TABLE {name} (order_id text PRIMARY KEY, ts timestamptz, "
                    "order_ts timestamptz, agent_response jsonb)"
                )
        ways: dict[str, Callable[[str, pa.Table], None]] = {
            "ours": _ours,
            "ADBC": _adbc,
            "COPY": _copy,
        }
        for version, what in ((0, "fresh"), (1, "existing"), (1, "unchanged")):
            table = _rows(version, commit=len(seconds))
            for name, way in ways.items():
                started = time.perf_counter()
                way(dsn, table)
                seconds[f"{name}, {what}"] = time.perf_counter() - started
    return seconds


def _rows(version: int, *, commit: int, count: int = ROWS) -> pa.Table:
    """A change feed of recommendations, keys in no order."""
    moments = pa.array(range(count), pa.timestamp("us", "UTC"))
    answers = [
        f'{{"refund_usd": {n % 50}.5, "refund_class": "partial", "reason": "took 61.5 minutes, P75 '
        f'of location 2 is 44.0", "source": "rules", "version": {version}}}'
        for n in range(count)
    ]
    return pa.table(
        {
            "order_id": pa.array([f"order-{n * 7919 % count:09d}" for n in range(count)]),
            "ts": moments,
            "order_ts": moments,
            "agent_response": pa.array(answers),
            "_change_type": pa.repeat(pa.scalar("insert"), count),
            "_commit_version": pa.repeat(pa.scalar(commit, pa.int64()), count),
            "_commit_timestamp": moments,
        }
    )


def _ours(dsn: str, table: pa.Table) -> None:
    with staging_table(dsn, PLAN) as staging:
        staged = copy_rows(dsn, staging, PLAN, table.to_batches(_BATCH), part=1)
        apply_staged(dsn, PLAN, staging, [staged])


def _adbc(dsn: str, table: pa.Table) -> None:
    """Arrow into an unlogged table, then an upsert in key order."""
    with psycopg.connect(dsn) as connection:
        connection.execute("DROP TABLE IF EXISTS staged")
        connection.execute(
            "CREATE UNLOGGED TABLE staged (order_id text, ts timestamptz, order_ts timestamptz, "
            "agent_response text)"
        )
    with dbapi.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("staged", table.select(_COLUMNS), mode="append")
        connection.commit()
    _upsert(dsn, "by_adbc", "order_id, ts, order_ts, agent_response::jsonb")


def _copy(dsn: str, table: pa.Table) -> None:
    """Binary COPY, a row at a time, then an upsert in key order."""
    with psycopg.connect(dsn) as connection:
        connection.execute("DROP TABLE IF EXISTS staged")
        connection.execute(
            "CREATE UNLOGGED TABLE staged (order_id text, ts timestamptz, order_ts timestamptz, "
            "agent_response text)"
        )
        statement = "COPY staged FROM STDIN (FORMAT binary)"
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(["text", "timestamptz", "timestamptz", "text"])
            for batch in table.select(_COLUMNS).to_batches(_BATCH):
                for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    copy.write_row(row)
    _upsert(dsn, "by_copy", "order_id, ts, order_ts, agent_response::jsonb")


def _upsert(dsn: str, target: str, values: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("ANALYZE staged")
        connection.execute(
            f"INSERT INTO {target} SELECT {values} FROM staged ORDER BY order_id "
            "ON CONFLICT (order_id) DO UPDATE SET ts = EXCLUDED.ts, "
            "order_ts = EXCLUDED.order_ts, agent_response = EXCLUDED.agent_response".encode()
        )


def lag(folder: Path) -> dict[str, float]:
    """Median seconds from a commit of new rows to Postgres, and of their upsert alone."""
    spark = _session(folder)
    spark.sql(
        "CREATE TABLE bench.refunds (order_id STRING, ts TIMESTAMP, order_ts TIMESTAMP, "
        "agent_response STRING) USING delta TBLPROPERTIES (delta.enableChangeDataFeed = true)"
    )
    plan_for_few_rows(spark)
    spec = _bench_spec()
    took, alone = [], []
    with EmbeddedPostgres(folder / "postgres" / "data") as server:
        server.ensure_database("bench")
        dsn = server.dsn("bench")
        for run in range(LAG_RUNS):
            _insert(spark, run * NEW_ROWS, NEW_ROWS)
            started = time.perf_counter()
            sync_once(spark, spec, dsn)
            took.append(time.perf_counter() - started)
        prepare_target(dsn, PLAN)
        for run in range(LAG_RUNS):
            changes = _rows(run, commit=run, count=NEW_ROWS).to_batches()
            started = time.perf_counter()
            apply_changes(dsn, PLAN, changes)
            alone.append(time.perf_counter() - started)
    stop_session(spark)
    return {"lag": median(took[5:]), "upsert": median(alone[5:])}


def load(folder: Path, times: int) -> dict[str, float]:
    """Peak memory of this process while a table is loaded."""
    spark = _session(folder)
    spark.sql(
        "CREATE TABLE bench.refunds (order_id STRING, ts TIMESTAMP, order_ts TIMESTAMP, "
        "agent_response STRING) USING delta TBLPROPERTIES (delta.enableChangeDataFeed = true)"
    )
    count = 200_000 * times
    _insert(spark, 0, count)
    with EmbeddedPostgres(folder / "postgres" / "data") as server:
        server.ensure_database("bench")
        run = sync_once(spark, _bench_spec(), server.dsn("bench"))
    stop_session(spark)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return {"rows": run.result.written, "peak_mb": peak}


def _bench_spec() -> SyncSpec:
    return replace(REFUNDS, source="bench.refunds", schema="bench")


def _session(folder: Path) -> Any:
    folder.mkdir(parents=True)
    spark = start_session(folder / "warehouse", log=folder / "spark.log", work=folder / "work")
    spark.sql(f"CREATE SCHEMA bench LOCATION '{folder}/warehouse/bench'")
    return spark


def _insert(spark: Any, first: int, count: int) -> None:
    spark.sql(
        "INSERT INTO bench.refunds SELECT concat('order-', id), timestamp_micros(id), "
        'timestamp_micros(id), concat(\'{"refund_usd": \', id % 50, \', "source": "rules"}\') '
        f"FROM range({first}, {first + count})"
    )


if __name__ == "__main__":
    work, path, *more = sys.argv[1:]
    words = (Path(path), *map(int, more))
    reported(lambda: globals()[work](*words))
