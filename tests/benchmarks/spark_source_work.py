"""The partitioned Spark data source, and a data source that makes its rows one by one."""

import json
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition

from caspers_lib.replay.generator import generate_dataset
from caspers_lib.replay.spark_source import CaspersReplay
from caspers_lib.runtime.spark import start_session, stop_session
from tests.benchmarks.measure import in_fresh_process, reported

_DAY = 86_400
_NAMES = {
    1: "order_created",
    2: "gk_started",
    3: "gk_finished",
    4: "gk_ready",
    5: "driver_arrived",
    6: "driver_picked_up",
    7: "driver_ping",
    8: "delivered",
}


def rows(folder: Path) -> list[tuple[str, str, str, str]]:
    """What was measured, the measure, what it is held against, the ratio; for the table."""
    days = 90
    dataset = generate_dataset(folder / "spark", days=days)
    # A window as large as those it is for, so that planning and starting workers weigh little; the
    # baseline would take a quarter of an hour over it.
    large = generate_dataset(folder / "spark10", days=days, scale=10)

    def speed(source: str, dataset: Path, days: int) -> tuple[int, float]:
        module = "tests.benchmarks.spark_source_work"
        found = in_fresh_process(module, source, dataset, folder / source, days).result
        return found["events"], found["events"] / found["seconds"]

    events, ours = speed("caspers_replay", large, days)
    _, naive = speed("row_by_row", dataset, days // 9)
    return [
        (
            f"Spark data source, {events:,} events, events/s",
            f"{ours:,.0f}",
            f"row by row {naive:,.0f}",
            f"{ours / naive:.1f}x",
        )
    ]


class RowByRow(DataSource):
    """The baseline: the file into pandas, a tuple a row."""

    @classmethod
    def name(cls) -> str:
        return "row_by_row"

    def schema(self) -> str:
        return CaspersReplay(self.options).schema()

    def reader(self, schema: Any) -> DataSourceReader:  # noqa: ARG002
        return _RowByRowReader(self.options["path"], float(self.options["until"]))


class _RowByRowReader(DataSourceReader):
    def __init__(self, path: str, days: float) -> None:
        self._path = path
        self._days = days

    def read(self, partition: InputPartition) -> Iterator[tuple[Any, ...]]:  # noqa: ARG002
        frame = pd.read_parquet(self._path)
        first = frame.ts_seconds.min() // _DAY * _DAY
        frame = frame[frame.ts_seconds <= first + self._days * _DAY]
        for _, row in frame.iterrows():
            moment = datetime.fromtimestamp(row.ts_seconds, UTC)
            yield (
                str(uuid.uuid4()),
                _NAMES[row.event_type_id],
                moment.strftime("%Y-%m-%d %H:%M:%S.000"),
                int(row.location_id),
                row.order_id,
                int(row.sequence),
                json.dumps(_body(row)),
            )


def _body(row: Any) -> dict[str, Any]:
    if row.event_type_id == 1:
        return {
            "customer_lat": row.customer_lat,
            "customer_lon": row.customer_lon,
            "customer_addr": row.customer_addr,
            "items": json.loads(row.items_json),
        }
    if row.event_type_id == 6:
        return {"route_points": json.loads(row.route_json)}
    if row.event_type_id == 7:
        return {
            "progress_pct": row.ping_progress,
            "loc_lat": row.ping_lat,
            "loc_lon": row.ping_lon,
        }
    if row.event_type_id == 8:
        return {"delivered_lat": row.customer_lat, "delivered_lon": row.customer_lon}
    return {}


def read_seconds(source: str, dataset: Path, out: Path, days: int) -> dict[str, float]:
    """Events of the first `days` days, and the wall-clock seconds of a warm read of them."""
    spark = start_session(out / "warehouse", log=out / "spark.log", work=out / "work")
    try:
        spark.dataSource.register({"caspers_replay": CaspersReplay, "row_by_row": RowByRow}[source])
        warm = spark.read.format(source).option("until", "1").load(str(dataset))
        warm.write.format("noop").mode("overwrite").save()
        frame = spark.read.format(source).option("until", str(days)).load(str(dataset))
        started = time.perf_counter()
        frame.write.format("noop").mode("overwrite").save()
        seconds = time.perf_counter() - started
        return {"events": frame.count(), "seconds": seconds}
    finally:
        stop_session(spark)


if __name__ == "__main__":
    source, dataset, out, days = sys.argv[1:]
    reported(lambda: read_seconds(source, Path(dataset), Path(out), int(days)))
