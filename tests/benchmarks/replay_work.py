"""The replay, and the way most people write it, each over the same window of the same file."""

import json
import sys
import time
import uuid
from pathlib import Path

import pandas as pd
from pyspark.sql import SparkSession

from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.engine import Replay
from caspers_lib.replay.state import StateStore
from caspers_lib.replay.volume_sink import VolumeSink
from caspers_lib.runtime.spark import start_session, stop_session
from tests.benchmarks.measure import reported

NOW = 1_795_000_000.0
TICKS = 20
TICK_WALL_SECONDS = 180.0  # 3 virtual hours at speed 60


def replay(dataset: Path, out: Path, day: int) -> Replay:
    """A replay whose first run writes the first `day` days."""
    store = StateStore(out / "misc")
    return Replay(
        EventsFile.open(dataset), VolumeSink(out / "events"), store, start_day=day, speed=60.0
    )


def first_run(dataset: Path, out: Path, day: int) -> int:
    """Events of the first run."""
    return replay(dataset, out, day).tick(NOW).events


def ticks(dataset: Path, out: Path, day: int) -> dict[str, float]:
    """Median wall-clock seconds of a tick of three virtual hours, and its events."""
    player = replay(dataset, out, day)
    player.tick(NOW)
    seconds, events = [], 0
    for number in range(1, TICKS + 1):
        started = time.perf_counter()
        events += player.tick(NOW + number * TICK_WALL_SECONDS).events
        seconds.append(time.perf_counter() - started)
    return {"median": sorted(seconds)[TICKS // 2], "events": events / TICKS}


def pandas_to_spark(dataset: Path, out: Path, day: int) -> dict[str, float]:
    """The baseline: the window into pandas, a function a row, Spark writes the JSON."""
    spark = start_session(
        out / "warehouse",
        log=out / "spark.log",
        work=out / "work",
        config={"spark.sql.execution.arrow.pyspark.enabled": "true", "spark.driver.memory": "4g"},
    )
    try:
        started = time.perf_counter()
        count = _naive(spark, dataset, out, day)
        return {"events": count, "seconds": time.perf_counter() - started}
    finally:
        stop_session(spark)


def _naive(spark: SparkSession, dataset: Path, out: Path, day: int) -> int:
    names = {
        1: "order_created",
        2: "gk_started",
        3: "gk_finished",
        4: "gk_ready",
        5: "driver_arrived",
        6: "driver_picked_up",
        7: "driver_ping",
        8: "delivered",
    }
    source = EventsFile.open(dataset)
    frame = pd.read_parquet(dataset)
    frame = frame[frame.ts_seconds <= source.epoch + day * 86_400 + NOW % 86_400]
    shift = int(NOW // 86_400) * 86_400 - day * 86_400 - source.epoch

    def body(row: pd.Series) -> str:
        if row.event_type_id == 1:
            return json.dumps(
                {
                    "customer_lat": row.customer_lat,
                    "customer_lon": row.customer_lon,
                    "customer_addr": row.customer_addr,
                    "items": json.loads(row.items_json),
                }
            )
        if row.event_type_id == 6:
            return json.dumps({"route_points": json.loads(row.route_json)})
        if row.event_type_id == 7:
            return json.dumps(
                {
                    "progress_pct": row.ping_progress,
                    "loc_lat": row.ping_lat,
                    "loc_lon": row.ping_lon,
                }
            )
        if row.event_type_id == 8:
            return json.dumps(
                {"delivered_lat": row.customer_lat, "delivered_lon": row.customer_lon}
            )
        return "{}"

    events = pd.DataFrame(
        {
            "event_id": [str(uuid.uuid4()) for _ in range(len(frame))],
            "event_type": frame.event_type_id.map(names),
            "ts": pd.to_datetime(frame.ts_seconds + shift, unit="s").dt.strftime(
                "%Y-%m-%d %H:%M:%S.000"
            ),
            "location_id": frame.location_id.astype("int32"),
            "order_id": frame.order_id,
            "sequence": frame.sequence.astype("int32"),
            "body": frame.apply(body, axis=1),
        }
    )
    spark.createDataFrame(events).write.mode("append").json(str(out / "events"))
    return len(events)


if __name__ == "__main__":
    work, dataset, out, day = sys.argv[1:]
    chosen = {"first_run": first_run, "ticks": ticks, "pandas_to_spark": pandas_to_spark}[work]
    reported(lambda: chosen(Path(dataset), Path(out), int(day)))
