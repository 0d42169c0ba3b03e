"""What every Spark function of the library gives; as a program, on executors of their own.

`spark-submit --py-files WHEEL cluster_program.py DATASET STATE FOLDER DSN` prints a JSON report.
The test that submits it calls `outcomes` on a local session too.
"""

import json
import sys
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any

SCHEMA = "tried_everywhere"
# Loop 0's end and the beginning of loop 1 of a dataset of three days.
AFTER, UNTIL = "1.5", "3.25"


def main(dataset: str, state: str, folder: Path, dsn: str) -> None:
    """Try everything on the cluster and print the report."""
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.getOrCreate()
    try:
        report = {
            "workers": whereabouts(spark),
            "outcomes": outcomes(spark, dataset, state, folder, dsn),
        }
    finally:
        spark.stop()
    print(json.dumps(report))


def whereabouts(spark: Any) -> list[list[str | None]]:
    """Where executors' Python workers find the library, and the folders they work in."""

    def look(batches: Iterator[Any]) -> Iterator[Any]:
        import importlib.util

        import pyarrow as pa

        found = importlib.util.find_spec("caspers_lib")
        origin = None if found is None else found.origin
        for _ in batches:
            pass
        yield pa.RecordBatch.from_pydict({"origin": [origin], "folder": [str(Path.cwd())]})

    tasks = spark.range(8, numPartitions=8).mapInArrow(look, "origin STRING, folder STRING")
    return sorted([list(row) for row in tasks.distinct().collect()], key=str)


def outcomes(spark: Any, dataset: str, state: str, folder: Path, dsn: str) -> dict[str, list[str]]:
    """Rows, as sorted JSON texts, of the source and of all that is made from its events."""
    from caspers_lib.replay.spark_source import register_replay_source

    register_replay_source(spark)
    spark.sql(f"CREATE SCHEMA {SCHEMA}")
    try:
        source = spark.read.format("caspers_replay").option("state", state)
        batch = source.options(after=AFTER, until=UNTIL, rowsPerPartition="100").load(dataset)
        _land(spark, dataset, state, folder)
        events = spark.read.table(f"{SCHEMA}.all_events")
        tables = {"batch": batch, "stream": events, **_tables(spark, events)}
        found = _texts(tables | _answers(events, tables["silver_order_items"]))
        return found | {"synced": _synced(spark, folder, dsn)}
    finally:
        spark.sql(f"DROP SCHEMA {SCHEMA} CASCADE")


def _tables(spark: Any, events: Any) -> dict[str, Any]:
    """Every table, from lines of JSON of which some are broken and some come twice."""
    from pyspark.sql import functions as F

    from caspers_lib.domain import GHOST_KITCHEN
    from caspers_lib.medallion.bronze import events_of_lines
    from caspers_lib.medallion.gold import aggregate
    from caspers_lib.medallion.lifecycle import silver_order_lifecycle
    from caspers_lib.medallion.quality import accepted_events, quarantined_events
    from caspers_lib.medallion.silver import silver_order_items, unique_events

    lines = events.select(F.to_json(F.struct("*")).alias("value"))
    broken = lines.where("hash(value) % 50 = 0").selectExpr("left(value, 100) AS value")
    again = lines.where("hash(value) % 50 = 1")
    bronze = events_of_lines(lines.unionByName(again).unionByName(broken), "'a file'")
    accepted = accepted_events(bronze)
    silver_order_items(unique_events(accepted)).write.saveAsTable(f"{SCHEMA}.items")
    silver_order_lifecycle(accepted).write.saveAsTable(f"{SCHEMA}.lifecycle")
    sources = {name: spark.read.table(f"{SCHEMA}.{name}") for name in ("items", "lifecycle")}
    by_source = {"line_items": sources["items"], "lifecycle": sources["lifecycle"]}
    return {
        "quarantined_events": quarantined_events(bronze).drop("ingest_ts"),
        "silver_order_items": sources["items"],
        "silver_order_lifecycle": sources["lifecycle"],
        **{t.name: aggregate(by_source[t.source], t) for t in GHOST_KITCHEN.gold},
    }


def _land(spark: Any, dataset: str, state: str, folder: Path) -> None:
    """The stream of events up to where the clock stands, into a bronze table."""
    events = spark.readStream.format("caspers_replay").option("state", state)
    query = (
        events.option("maxEventsPerBatch", "500")
        .option("rowsPerPartition", "250")
        .load(dataset)
        .writeStream.option("checkpointLocation", str(folder / "events"))
        .trigger(availableNow=True)
        .toTable(f"{SCHEMA}.all_events")
    )
    query.awaitTermination()


def _answers(events: Any, lines: Any) -> dict[str, Any]:
    """What the agents' rules say of every delivered order."""
    from pyspark.sql import functions as F

    from caspers_lib.agents.complaints import complaining_orders, raw_complaints
    from caspers_lib.agents.facts import delivered_orders, order_facts
    from caspers_lib.agents.model.prompts import complaint_questions, refund_questions
    from caspers_lib.agents.refund_policy import RefundPolicy
    from caspers_lib.agents.refund_rules import refund_answers
    from caspers_lib.agents.triage import complaint_responses
    from caspers_lib.agents.triage_policy import TriagePolicy
    from caspers_lib.domain import GHOST_KITCHEN

    closing = events.where(F.col("event_type") == GHOST_KITCHEN.closing)
    orders = closing.select("order_id").distinct()
    facts = order_facts(orders, events, lines, GHOST_KITCHEN)
    complaining = complaining_orders(closing, 0.5, 7).select("order_id").distinct()
    delivered = delivered_orders(complaining, events, lines, GHOST_KITCHEN)
    complaints = raw_complaints(delivered, 7, GHOST_KITCHEN.namespace)
    return {
        "refunds": refund_answers(facts, RefundPolicy()),
        "complaints": complaints,
        "responses": complaint_responses(complaints, facts, TriagePolicy()),
        "refund questions": refund_questions(facts, RefundPolicy()),
        "complaint questions": complaint_questions(complaints, facts),
    }


def _synced(spark: Any, folder: Path, dsn: str) -> list[str]:
    """The events as they arrive in PostgreSQL, copied there by the partitions."""
    import psycopg

    from caspers_lib.lakebase import SyncSpec, change_feed

    spec = SyncSpec(
        name="events",
        source=f"{SCHEMA}.all_events",
        keys=("event_id",),
        database="tried",
        schema=folder.name,
        table="events",
        mode="snapshot",
        jsonb=("body",),
    )
    small, change_feed.SMALL_ROWS = change_feed.SMALL_ROWS, 0
    try:
        change_feed.sync_once(spark, spec, dsn)
    finally:
        change_feed.SMALL_ROWS = small
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(f"SELECT to_jsonb(t)::text FROM {spec.target} AS t".encode())
        return sorted(row[0] for row in rows)


def _texts(frames: dict[str, Any]) -> dict[str, list[str]]:
    from pyspark.sql import functions as F

    rows = [f.select(F.lit(n).alias("of"), F.to_json(F.struct("*"))) for n, f in frames.items()]
    texts: dict[str, list[str]] = {name: [] for name in frames}
    # One job for all: on so few rows the jobs would take the time.
    for name, text in reduce(lambda a, b: a.union(b), rows).collect():
        texts[name].append(text)
    return {name: sorted(found) for name, found in texts.items()}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4])
