"""Updates of the tables, against plain Spark batch code, DuckDB, and a history of ten times."""

import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import duckdb

from caspers_lib.domain import GHOST_KITCHEN, Table
from caspers_lib.domain.tables import (
    aggregate_table,
    bronze_table,
    lifecycle_table,
    line_items_table,
    quarantine_table,
)
from caspers_lib.medallion import (
    accepted_events,
    aggregate,
    bronze_events,
    quarantined_events,
    silver_order_items,
    silver_order_lifecycle,
    unique_events,
)
from caspers_lib.medallion.bronze import event_ddl
from caspers_lib.medallion.incremental import update_derived_tables
from caspers_lib.medallion.positions import PositionsFile
from caspers_lib.medallion.registration import PipelineSettings
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.engine import Replay
from caspers_lib.replay.generator import generate_dataset
from caspers_lib.replay.state import StateStore
from caspers_lib.replay.volume_sink import VolumeSink
from caspers_lib.runtime.spark import plan_for_few_rows, start_session, stop_session
from caspers_lib.runtime.tables_update import update_streaming_tables, update_tables
from tests.benchmarks.measure import in_fresh_process, reported

NOW = 1_795_000_000.0 + 20 * 3600
CYCLE_WALL_SECONDS = 90 * 86_400 / 60.0
TICK_WALL_SECONDS = 155.0  # about 1,500 events, over day and night
UPDATES = 30
ORIGINAL_GOLD = [t.name for t in GHOST_KITCHEN.gold if t.source == "line_items"]
_WORK = "tests.benchmarks.medallion_work"


def rows(folder: Path) -> list[tuple[str, str, str, str]]:
    """What was measured, the measure, what it is held against, the ratio; for the table."""
    dataset = generate_dataset(folder / "dataset")
    events = _replay(dataset, folder / "landed").tick(NOW).events
    landed = folder / "landed" / "events"
    ours = in_fresh_process(_WORK, "first_update", landed, folder / "ours")
    same = in_fresh_process(_WORK, "same_batch", landed, folder / "same")
    plain = in_fresh_process(_WORK, "plain_batch", landed, folder / "plain")
    duck = in_fresh_process(_WORK, "duckdb_batch", landed, folder / "duck")
    found = [
        (
            f"first update, {events:,} events, 11 tables, s",
            f"{ours.result:.0f}",
            f"Spark batch, the same rows {same.result:.0f}",
            f"{ours.result / same.result:.2f}x",
        ),
        (
            "the same",
            f"{ours.result:.0f}",
            f"Spark batch without rules, rescue, deduplication {plain.result:.0f}",
            f"{ours.result / plain.result:.2f}x",
        ),
        (
            "the same",
            f"{ours.result:.0f}",
            f"DuckDB into its own file {duck.result:.0f}",
            f"{ours.result / duck.result:.1f}x",
        ),
        (
            "its peak RSS, MB",
            f"{ours.peak_mb:,.0f}",
            f"Spark batch, the same rows {same.peak_mb:,.0f}",
            f"{ours.peak_mb / same.peak_mb:.2f}x",
        ),
    ]
    one, ten = (
        in_fresh_process(_WORK, "later_updates", dataset, folder / f"x{loops}", loops).result
        for loops in (1, 10)
    )
    for name, what in (("six", "the original's six tables"), ("all", "all eleven tables")):
        found.append(
            (
                f"update after {ten['new']:,.0f} events, {ten['events']:,} there, {what}, s",
                f"{ten[name]:.1f}",
                f"{one['events']:,} there {one[name]:.1f}",
                f"{ten[name] / one[name]:.2f}x",
            )
        )
    return found


def _replay(dataset: Path, folder: Path) -> Replay:
    sink, store = VolumeSink(folder / "events"), StateStore(folder / "misc")
    return Replay(EventsFile.open(dataset), sink, store, start_day=70, speed=60.0)


def _session(folder: Path) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    spark = start_session(folder / "warehouse", log=folder / "spark.log", work=folder / "work")
    spark.sql(f"CREATE SCHEMA lakeflow LOCATION '{folder}/warehouse/lakeflow'")
    return spark


def first_update(events: Path, folder: Path) -> float:
    """Seconds of the first update in a fresh process, Spark's start aside."""
    spark = _session(folder)
    started = time.perf_counter()
    update_tables(spark, PipelineSettings(events=str(events)), storage=folder / "checkpoints")
    seconds = time.perf_counter() - started
    stop_session(spark)
    return seconds


def same_batch(events: Path, folder: Path) -> float:
    """Seconds of a batch that writes the same rows: no streams, no state, a table after another."""
    spark = _session(folder)
    started = time.perf_counter()

    def save(rows: Any, table: Table) -> Any:
        spark.sql("USE lakeflow")
        spark.sql(table.create_sql())
        rows.select(*[c.name for c in table.columns]).write.insertInto(table.name)
        return spark.table(table.name)

    domain = GHOST_KITCHEN
    bronze = save(bronze_events(spark, str(events), stream=False), bronze_table(domain))
    save(quarantined_events(bronze), quarantine_table(domain))
    opening = accepted_events(bronze, events_of=domain.line_items.event)
    items = save(silver_order_items(unique_events(opening)), line_items_table(domain))
    lifecycle = save(silver_order_lifecycle(accepted_events(bronze)), lifecycle_table(domain))
    for table in domain.gold:
        source = items if table.source == "line_items" else lifecycle
        save(aggregate(source, table), aggregate_table(table))
    seconds = time.perf_counter() - started
    stop_session(spark)
    return seconds


def plain_batch(events: Path, folder: Path) -> float:
    """Seconds of the batch that people write: read, explode, group, save, a table after another."""
    from pyspark.sql import functions as F

    spark = _session(folder)
    started = time.perf_counter()
    raw = spark.read.schema(f"{event_ddl()}, _corrupt STRING").option(
        "columnNameOfCorruptRecord", "_corrupt"
    )
    raw.json(str(events)).selectExpr(
        "*", "_metadata.file_path AS source_file", "current_timestamp() AS ingest_ts"
    ).write.saveAsTable("lakeflow.all_events")
    bronze = spark.table("lakeflow.all_events")
    bronze.where("_corrupt IS NOT NULL").write.saveAsTable("lakeflow.quarantined_events")
    items = GHOST_KITCHEN.line_items
    array = F.from_json("body", f"items {items.element_type}")["items"]
    ts = F.to_timestamp("ts")
    bronze.where("event_type = 'order_created'").select(
        "order_id", "location_id", ts.alias("order_ts"), F.to_date(ts).alias("order_day"),
        F.posexplode(array).alias("line", "i"),
    ).selectExpr(
        "order_id", "line", "location_id", "order_ts", "order_day",
        *(f"i.{c.expression} AS {c.name}" for c in items.columns),
        "CAST(i.price * i.qty AS DECIMAL(12,2)) AS extended_price",
    ).write.partitionBy("order_day").saveAsTable("lakeflow.silver_order_items")  # fmt: skip
    firsts = [
        F.min(F.when(F.col("event_type") == t.name, ts)).alias(t.time_column)
        for t in GHOST_KITCHEN.event_types
    ]
    minutes = "(unix_millis(delivered_ts) - unix_millis(order_created_ts)) / 60000"
    bronze.groupBy("order_id").agg(F.min("location_id").alias("location_id"), *firsts).selectExpr(
        "*", "to_date(order_created_ts) AS order_day", f"{minutes} AS total_minutes"
    ).write.partitionBy("order_day").saveAsTable("lakeflow.silver_order_lifecycle")
    for table in GHOST_KITCHEN.gold:
        name = "items" if table.source == "line_items" else "lifecycle"
        source = spark.table(f"lakeflow.silver_order_{name}")
        keys = [F.expr(k.expression).alias(k.name) for k in table.keys]
        measures = [F.expr(m.expression).cast(m.type).alias(m.name) for m in table.measures]
        writer = source.groupBy(*keys).agg(*measures).write
        if table.day:
            writer = writer.partitionBy(table.day)
        writer.saveAsTable(f"lakeflow.{table.name}")
    seconds = time.perf_counter() - started
    stop_session(spark)
    return seconds


def duckdb_batch(events: Path, folder: Path) -> float:
    """Seconds of DuckDB for bronze, line items, lifecycle and two gold tables, in its own file."""
    folder.mkdir(parents=True)
    started = time.perf_counter()
    with duckdb.connect(str(folder / "tables.duckdb")) as connection:
        connection.execute(
            "CREATE TABLE all_events AS SELECT * FROM "
            f"read_json('{events}/*.json', format = 'newline_delimited')"
        )
        connection.execute(
            """CREATE TABLE items AS
            SELECT order_id, location_id, ts::TIMESTAMP AS order_ts, ts::DATE AS order_day,
              unnest(from_json(body -> 'items', '[{"id": "INT", "brand_id": "INT",
                "name": "VARCHAR", "price": "DECIMAL(12,2)", "qty": "INT"}]'), recursive := true)
            FROM all_events WHERE event_type = 'order_created'"""
        )
        connection.execute(
            """CREATE TABLE lifecycle AS
            SELECT order_id, min(location_id) AS location_id,
              min(ts) FILTER (event_type = 'order_created') AS created,
              min(ts) FILTER (event_type = 'delivered') AS delivered
            FROM all_events GROUP BY ALL"""
        )
        connection.execute(
            """CREATE TABLE brand_day AS
            SELECT brand_id, order_day, count(DISTINCT order_id), sum(qty), sum(price * qty)
            FROM items GROUP BY ALL"""
        )
        connection.execute(
            """CREATE TABLE header AS
            SELECT order_id, sum(price * qty), sum(qty), count(*) FROM items GROUP BY ALL"""
        )
    return time.perf_counter() - started


def later_updates(dataset: Path, folder: Path, loops: int) -> dict[str, float]:
    """Median seconds of a warm update after about 1,500 events, with `loops` times the history."""
    replay = _replay(dataset, folder)
    now = NOW
    events = replay.tick(now).events
    if loops > 1:
        now += (loops - 1) * CYCLE_WALL_SECONDS
        events += replay.tick(now).events
    spark = _session(folder)
    settings, storage = PipelineSettings(events=str(folder / "events")), folder / "checkpoints"
    update_tables(spark, settings, storage=storage)
    plan_for_few_rows(spark)
    positions = PositionsFile(storage / "derived_tables.json")
    six, everything, new = [], [], []
    for _ in range(UPDATES):
        now += TICK_WALL_SECONDS
        new.append(replay.tick(now).events)
        started = time.perf_counter()
        update_streaming_tables(spark, settings, storage=storage)
        update_derived_tables(spark, "lakeflow", positions, only=ORIGINAL_GOLD)
        six.append(time.perf_counter() - started)
        update_derived_tables(spark, "lakeflow", positions)
        everything.append(time.perf_counter() - started)
    stop_session(spark)
    # The first updates warm the JVM up: it takes about twenty until planning is compiled.
    warm = slice(UPDATES * 2 // 3, None)
    return {
        "events": events,
        "new": median(new[warm]),
        "six": median(six[warm]),
        "all": median(everything[warm]),
    }


if __name__ == "__main__":
    work, first, second, *more = sys.argv[1:]
    words = (Path(first), Path(second), *map(int, more))
    reported(lambda: globals()[work](*words))
