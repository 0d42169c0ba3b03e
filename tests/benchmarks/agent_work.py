"""The agents by rules: as expressions inside Spark, one by one in Python, and a first run."""

import random
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

from caspers_lib.agents.refund_policy import OrderFacts, RefundPolicy, refund_answer
from caspers_lib.agents.refund_rules import refund_answers
from caspers_lib.agents.streams import run_complaint_stream, run_refund_stream, run_response_stream
from caspers_lib.agents.tables import AGENT_TABLES, ensure_tables
from caspers_lib.agents.triage import complaint_responses
from caspers_lib.agents.triage_policy import TriagePolicy
from caspers_lib.medallion.registration import PipelineSettings
from caspers_lib.replay.generator import generate_dataset
from caspers_lib.runtime.spark import start_session, stop_session
from caspers_lib.runtime.tables_update import update_tables
from tests.benchmarks.measure import in_fresh_process, reported
from tests.benchmarks.medallion_work import NOW, _replay

ORDERS = 100_000
RUNS = 5
_WORK = "tests.benchmarks.agent_work"
_FACTS = (
    "order_id STRING, location_id INT, order_ts TIMESTAMP, delivered_ts TIMESTAMP,"
    " total_minutes DECIMAL(12,2), order_total DECIMAL(22,2),"
    " lines ARRAY<STRUCT<line: INT, item_name: STRING, price: DECIMAL(12,2)>>,"
    " history_orders INT, p50 DECIMAL(12,2), p75 DECIMAL(12,2), p99 DECIMAL(12,2)"
)


def rows(folder: Path) -> list[tuple[str, str, str, str]]:
    """What was measured, the measure, what it is held against, the ratio; for the table."""
    rules = in_fresh_process(_WORK, "rules", folder / "rules", folder).result
    alone = rules["alone"]
    found = [
        (
            f"{name} by rules inside Spark, orders a second",
            f"{rules[key]:,.0f}",
            against,
            ratio,
        )
        for name, key, against, ratio in (
            (
                "refunds", "refunds", f"one by one in Python {alone:,.0f}",
                f"{rules['refunds'] / alone:.1f}x",
            ),
            (
                "complaint answers", "responses", "expected 50,000",
                f"{rules['responses'] / 50_000:.1f}x",
            ),
        )
    ]  # fmt: skip
    dataset = generate_dataset(folder / "dataset")
    first = in_fresh_process(_WORK, "first_run", dataset, folder / "first")
    counts = first.result
    found += [
        (
            f"first run of {name}, {counts[name]['rows']:,} rows, s",
            f"{counts[name]['seconds']:.1f}",
            f"rows a second {counts[name]['rows'] / counts[name]['seconds']:,.0f}",
            "",
        )
        for name in ("refunds", "complaints", "responses")
    ]
    found.append(("its peak RSS, MB", f"{first.peak_mb:,.0f}", "", ""))
    return found


def _session(folder: Path) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    spark = start_session(folder / "warehouse", log=folder / "spark.log", work=folder / "work")
    for schema in ("lakeflow", "recommender", "complaints"):
        spark.sql(f"CREATE SCHEMA {schema} LOCATION '{folder}/warehouse/{schema}'")
    return spark


def rules(folder: Path, _unused: Path) -> dict[str, float]:
    """Orders a second, the median of some runs after the first."""
    from pyspark.sql import functions as F

    rng = random.Random(1)
    spark = _session(folder)
    made = spark.range(ORDERS).selectExpr(
        "concat('o-', id) AS order_id", "CAST(id % 4 AS INT) AS location_id",
        "timestamp_seconds(1700000000 + id) AS order_ts",
        "timestamp_seconds(1700002000 + id) AS delivered_ts",
        "CAST(20 + id % 60 AS DECIMAL(12,2)) AS total_minutes",
        "CAST(10 + (id % 4000) / 100 AS DECIMAL(22,2)) AS order_total",
        "array(struct(0 AS line, 'Rice' AS item_name, CAST(9.5 AS DECIMAL(12,2)) AS price),"
        " struct(1 AS line, 'Fried Rice' AS item_name, CAST(12 AS DECIMAL(12,2)) AS price))"
        " AS lines",
        "400 AS history_orders", "CAST(30 AS DECIMAL(12,2)) AS p50",
        "CAST(40 AS DECIMAL(12,2)) AS p75", "CAST(70 AS DECIMAL(12,2)) AS p99",
    )  # fmt: skip
    made.write.parquet(str(folder / "facts"))
    facts = spark.read.schema(_FACTS).parquet(str(folder / "facts"))
    category = F.element_at(
        F.array(*map(F.lit, ("delivery_delay", "missing_items", "food_quality", "other"))),
        F.col("location_id") + 1,
    )
    complaints = facts.select(
        F.col("order_id").alias("complaint_id"),
        "order_id",
        F.col("delivered_ts").alias("ts"),
        category.alias("complaint_category"),
        F.lit("I waited for long and the fried rice was a bit cold").alias("complaint_text"),
    )
    found = {}
    for name, answers in (
        ("refunds", refund_answers(facts, RefundPolicy())),
        ("responses", complaint_responses(complaints, facts, TriagePolicy())),
    ):
        seconds = []
        for _ in range(RUNS + 1):
            started = time.perf_counter()
            answers.write.format("noop").mode("overwrite").save()
            seconds.append(time.perf_counter() - started)
        found[name] = ORDERS / sorted(seconds[1:])[RUNS // 2]
    stop_session(spark)
    known = [
        OrderFacts(
            location_id=1,
            delivered=True,
            total_minutes=Decimal(rng.randint(20, 80)),
            order_total=Decimal(rng.randint(1000, 5000)) / 100,
            history_orders=400,
            p75=Decimal(40),
            p99=Decimal(70),
        )
        for _ in range(ORDERS)
    ]
    started = time.perf_counter()
    for one in known:
        refund_answer(one, RefundPolicy()).model_dump_json()
    found["alone"] = ORDERS / (time.perf_counter() - started)
    return found


def first_run(dataset: Path, folder: Path) -> dict[str, dict[str, float]]:
    """Seconds of each stream's first run over everything that was delivered."""
    _replay(dataset, folder).tick(NOW)
    spark = _session(folder)
    ensure_tables(spark)
    settings = PipelineSettings(events=str(folder / "events"))
    update_tables(spark, settings, storage=folder / "checkpoints")
    runs = {
        "refunds": (lambda c: run_refund_stream(spark, c), AGENT_TABLES.recommendations),
        "complaints": (
            lambda c: run_complaint_stream(spark, c, 0.15, 42),
            AGENT_TABLES.complaints,
        ),
        "responses": (lambda c: run_response_stream(spark, c), AGENT_TABLES.responses),
    }
    found = {}
    for name, (run, table) in runs.items():
        started = time.perf_counter()
        run(str(folder / "streams" / name))
        seconds = time.perf_counter() - started
        found[name] = {"seconds": seconds, "rows": spark.read.table(table.name).count()}
    stop_session(spark)
    return found


if __name__ == "__main__":
    work, first, second = sys.argv[1:]
    reported(lambda: globals()[work](Path(first), Path(second)))
