"""The replay, and the way most people write it, each over the same window of the same file."""

import json
import os
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from caspers_lib.replay.dataset import CYCLE_KEY, EPOCH_KEY, EVENTS_SCHEMA, EventsFile
from caspers_lib.replay.engine import Replay
from caspers_lib.replay.generator import generate_dataset
from caspers_lib.replay.generator.writing import ROW_GROUP_ROWS
from caspers_lib.replay.state import StateStore
from caspers_lib.replay.volume_sink import VolumeSink
from caspers_lib.runtime.spark import start_session, stop_session
from tests.benchmarks.measure import Measurement, in_fresh_process, reported

NOW = 1_795_000_000.0
DAYS = 90
START_DAY = 70
TICKS = 20
TICK_WALL_SECONDS = 180.0  # 3 virtual hours at speed 60
_WORK = "tests.benchmarks.replay_work"


def rows(folder: Path) -> list[tuple[str, str, str, str]]:
    """What was measured, the measure, what it is held against, the ratio; for the table."""
    one = generate_dataset(folder / "x1", days=DAYS)
    by_scale = generate_dataset(folder / "scale10", days=DAYS, scale=10)

    def run(work: str, dataset: Path, name: str, *words: object) -> Measurement:
        return in_fresh_process(_WORK, work, dataset, folder / name, *words)

    ours, naive = run("first_run", one, "ours"), run("pandas_to_spark", one, "naive")
    floor = run("floor", one, "floor", folder / "ours" / "events")
    speed, floor_speed = ours.result / ours.wall, ours.result / floor.wall
    naive_speed = naive.result["events"] / naive.result["seconds"]
    big = run("first_run", by_scale, "big")
    found = [
        (
            f"replay of {ours.result:,} events, events/s",
            f"{speed:,.0f}",
            f"pandas + Spark {naive_speed:,.0f}",
            f"{speed / naive_speed:.1f}x",
        ),
        (
            "the same",
            f"{speed:,.0f}",
            f"floor: decode, write the same bytes {floor_speed:,.0f}",
            f"{speed / floor_speed:.2f}x",
        ),
        (
            "its peak RSS, MB",
            f"{ours.peak_mb:.0f}",
            f"pandas + Spark {naive.peak_mb:.0f}",
            f"{ours.peak_mb / naive.peak_mb:.2f}x",
        ),
        (
            f"peak RSS for {big.result:,} events, MB",
            f"{big.peak_mb:.0f}",
            f"1x data {ours.peak_mb:.0f}",
            f"{big.peak_mb / ours.peak_mb:.2f}x",
        ),
    ]
    small = run("ticks", one, "t1").result
    for copies in (10, 100):
        longer = lengthened(one, folder / f"x{copies}.parquet", copies)
        large = run("ticks", longer, f"t{copies}").result
        longer.unlink()
        found.append(
            (
                f"tick of 3 virtual hours in {copies}x data ({large['events']:,.0f} events), ms",
                f"{large['median'] * 1000:.0f}",
                f"1x data ({small['events']:,.0f} events) {small['median'] * 1000:.0f}",
                f"{large['median'] / small['median']:.2f}x",
            )
        )
    return found


def lengthened(dataset: Path, path: Path, copies: int) -> Path:
    """The same story told `copies` times in a row, as one long dataset."""
    with pq.ParquetFile(dataset) as file:
        table, metadata = file.read(), dict(file.metadata.metadata)
        order = file.metadata.row_group(0).sorting_columns
    cycle = int(metadata[CYCLE_KEY])
    # A copy's tail would stand behind the beginning of the next one.
    table = table.filter(pc.less(table["ts_seconds"], int(metadata[EPOCH_KEY]) + cycle))
    metadata[CYCLE_KEY] = str(cycle * copies).encode()
    schema = EVENTS_SCHEMA.with_metadata(metadata)
    seconds, orders = table["ts_seconds"], table.schema.get_field_index("order_id")
    with pq.ParquetWriter(path, schema, compression="zstd", sorting_columns=order) as writer:
        for number in range(copies):
            shifted = table.set_column(1, schema.field(1), pc.add(seconds, number * cycle))
            # A copy's orders are its own, and sort as those of the first one do.
            named = pc.binary_join_element_wise(table["order_id"], str(number), "~")
            shifted = shifted.set_column(orders, schema.field(orders), named)
            writer.write_table(shifted.cast(schema), row_group_size=ROW_GROUP_ROWS)
    return path


def replay(dataset: Path, out: Path, day: int) -> Replay:
    """A replay whose first run writes the first `day` days."""
    sink, store = VolumeSink(out / "events"), StateStore(out / "misc")
    return Replay(EventsFile.open(dataset), sink, store, start_day=day, speed=60.0)


def first_run(dataset: Path, out: Path) -> int:
    """Events of the first run."""
    return replay(dataset, out, DAYS - 1).tick(NOW).events


def ticks(dataset: Path, out: Path) -> dict[str, float]:
    """Median wall-clock seconds of a tick of three virtual hours, and its events."""
    source = EventsFile.open(dataset)
    player = replay(dataset, out, source.cycle_days - DAYS + START_DAY)
    # The history is neither judged nor written: its size is not what a tick is about.
    state = player._state(None, NOW)
    player.store.save(replace(state, watermark=state.clock.virtual_time(NOW)))
    seconds, events = [], 0
    for number in range(1, TICKS + 1):
        started = time.perf_counter()
        events += player.tick(NOW + number * TICK_WALL_SECONDS).events
        seconds.append(time.perf_counter() - started)
    return {"median": sorted(seconds)[TICKS // 2], "events": events / TICKS}


def floor(dataset: Path, out: Path, written: Path) -> int:
    """The least that any replay does: decode the dataset, write as many bytes, flush them."""
    out.mkdir(parents=True)
    with pq.ParquetFile(dataset) as file:
        decoded = sum(batch.num_rows for batch in file.iter_batches())
    for path in sorted(written.iterdir()):
        with (out / path.name).open("wb") as copy:
            copy.write(path.read_bytes())
            copy.flush()
            os.fsync(copy.fileno())
    return decoded


def pandas_to_spark(dataset: Path, out: Path) -> dict[str, float]:
    """The baseline: the window into pandas, a function a row, Spark writes the JSON."""
    spark = start_session(
        out / "warehouse",
        log=out / "spark.log",
        work=out / "work",
        config={"spark.sql.execution.arrow.pyspark.enabled": "true", "spark.driver.memory": "4g"},
    )
    try:
        started = time.perf_counter()
        count = _naive(spark, dataset, out, DAYS - 1)
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
    name, *paths = sys.argv[1:]
    works = (first_run, ticks, floor, pandas_to_spark)
    chosen = next(work for work in works if work.__name__ == name)
    reported(lambda: chosen(*map(Path, paths)))
