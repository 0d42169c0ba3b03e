"""The Spark data source `caspers_replay`: its options, its plan, its offsets, and on Spark."""

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark import pipelines as dp
from pyspark.errors import PySparkException
from pyspark.sql.streaming.datasource import ReadAllAvailable, ReadMaxRows

from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.errors import CaspersError, DatasetError, ReplayStateError, SettingsError
from caspers_lib.replay.chaos import Chaos
from caspers_lib.replay.clock import start_clock
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.event_batches import event_batches
from caspers_lib.replay.partitioning import (
    first_events,
    partition_windows,
    timed_groups,
)
from caspers_lib.replay.row_groups import RowGroup
from caspers_lib.replay.source_options import batch_options, stream_options
from caspers_lib.replay.spark_source import (
    CaspersReplay,
    ReplayReader,
    ReplayStreamReader,
    register_replay_source,
)
from caspers_lib.replay.state import ReplayState, StateStore
from caspers_lib.replay.steering import reset, seek
from caspers_lib.replay.window import Window
from caspers_lib.runtime.pipeline import run_update

DAY = 86_400
NOW = 1_795_000_000.0
SHIFT = 1000 * DAY
START = "2026-11-18T11:06:40"  # NOW

Row = dict[str, Any]


def mapped(dataset: EventsFile, window: Window, shift: int = SHIFT) -> list[Row]:
    """The window's events by the mapping in this process, in order."""
    batches = event_batches(dataset, window, shift, form="columns")
    return [row for batch in batches for row in batch.to_pylist()]


def in_order(rows: list[Row]) -> list[str]:
    return sorted(json.dumps(row) for row in rows)


def rows_of(frame: Any) -> list[Row]:
    found: list[Row] = frame.toArrow().to_pylist()
    return found


def stands_at(dataset: EventsFile, folder: Path, day: float, *, speed: float = 0.0) -> Path:
    """A folder with the state of a replay whose clock shows `day` at NOW."""
    clock = start_clock(NOW, epoch=dataset.epoch, start_day=1, speed=speed or 60.0)
    clock = clock if speed else clock.paused(NOW)
    state = ReplayState(
        simulation_start=NOW,
        epoch=dataset.epoch,
        cycle_seconds=dataset.cycle_seconds,
        shift_seconds=SHIFT,
        clock=clock.moved_to(dataset.epoch + day * DAY, NOW),
        watermark=0.0,
        first_ts=dataset.first_ts,
        last_ts=dataset.last_ts,
    )
    StateStore(folder).save(state)
    return folder


class Stream:
    """A stream reader as Spark drives it, with a wall clock of the test's own."""

    def __init__(self, dataset: EventsFile, **options: str) -> None:
        self.now = NOW
        given = {"path": str(dataset.path), **options}
        self.reader = ReplayStreamReader(given, GHOST_KITCHEN, lambda: self.now)
        self.offset = self.reader.initialOffset()
        self.rows: list[Row] = []

    def poll(self) -> int:
        """One micro-batch, if there is one; the number of its events."""
        end = self.reader.latestOffset(self.offset, self.reader.getDefaultReadLimit())
        # What Spark keeps is the offset's text.
        end = json.loads(json.dumps(end))
        if end == self.offset:
            return 0
        found = self.read(self.offset, end)
        self.rows += found
        self.offset = end
        return len(found)

    def read(self, start: Any, end: Any) -> list[Row]:
        parts = self.reader.partitions(start, end)
        batches = itertools.chain.from_iterable(map(self.reader.read, parts))
        return [row for batch in batches for row in batch.to_pylist()]


# Options


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"untill": "3"}, "no option untill"),
        ({"speed": "60"}, "no option speed"),
        ({"after": "yesterday"}, "'yesterday'; it must be a dataset day"),
        ({"until": "nan"}, "'nan'; it must be a dataset day"),
        ({"shift": "1.5"}, "'1.5'; it must be a whole number"),
        ({"shift": "1", "state": "x"}, "give shift, state or simulationStart"),
        ({"startDay": "3"}, "startDay of caspers_replay counts only with simulationStart"),
        ({"rowsPerPartition": "0"}, "'0'; it must be a whole number of 1 or more"),
        ({"simulationStart": "noon"}, "'noon'; it must be an ISO 8601 timestamp"),
        ({"simulationStart": START, "startDay": "-1"}, "'-1'; it must be a whole number of 0"),
        ({"simulationStart": START, "state": "x"}, "exclude each other"),
    ],
)
def test_a_bad_batch_option_is_one_clear_sentence(options: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        batch_options(options, epoch=0)
    assert said in refused.value.message
    assert "\n" not in refused.value.message


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "needs the option state"),
        ({"until": "3", "state": "x"}, "no option until"),
        ({"speed": "60", "state": "x"}, "speed of caspers_replay counts only with"),
        ({"simulationStart": START, "speed": "0"}, "above 0"),
        ({"simulationStart": START, "speed": "inf"}, "above 0"),
        ({"state": "x", "maxEventsPerBatch": "0"}, "'0'; it must be a whole number of 1 or more"),
    ],
)
def test_a_bad_stream_option_is_one_clear_sentence(options: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        stream_options(options)
    assert said in refused.value.message
    assert "\n" not in refused.value.message


def test_days_and_timestamps_mean_the_same_virtual_seconds() -> None:
    epoch = GHOST_KITCHEN.epoch
    wanted = (epoch + 1.5 * DAY, epoch + 95.0 * DAY)
    for after, until in (
        ("1.5", "95"),
        ("2024-01-02T12:00", "2024-04-05"),
        ("2024-01-02T14:00+02:00", "2024-04-05T00:00:00Z"),
    ):
        options = batch_options({"after": after, "until": until}, epoch=epoch)
        assert (options.after, options.until) == wanted


@pytest.mark.parametrize(
    "far", [{"until": "1e30"}, {"shift": "253402300800"}, {"shift": "-99999999999999"}], ids=str
)
def test_a_window_out_of_the_calendar_is_refused(far: dict[str, str], small: EventsFile) -> None:
    options = batch_options(far, epoch=small.epoch)
    with pytest.raises(SettingsError, match="must lie in the years 1 to 9999"):
        ReplayReader(small, options, GHOST_KITCHEN)


def test_a_dataset_a_start_day_and_a_state_that_do_not_fit_are_refused(
    small: EventsFile, tmp_path: Path
) -> None:
    def refusal(**options: str) -> CaspersError:
        with pytest.raises(CaspersError) as refused:
            ReplayStreamReader(options, GHOST_KITCHEN).initialOffset()
        assert "\n" not in refused.value.message
        return refused.value

    path, state = str(small.path), str(tmp_path / "misc")
    assert "the option path" in refusal(state=state).message
    assert isinstance(refusal(path=str(tmp_path / "none"), state=state), DatasetError)
    assert "the days 0 to 2" in refusal(path=path, simulationStart=START, startDay="3").message
    assert "there is no clock to follow" in refusal(path=path, state=state).message
    stands_at(replace(small, epoch=0), tmp_path / "misc", 1.0)
    other = refusal(path=path, state=state)
    assert isinstance(other, ReplayStateError)
    assert "which has epoch 1704067200 instead of 0" in other.message
    state_of_another = replace(small, first_ts=small.first_ts + 1)
    stands_at(state_of_another, tmp_path / "misc", 1.0)
    assert "which has first event" in refusal(path=path, state=state).message


def test_no_other_module_of_the_replay_loads_pyspark() -> None:
    program = (
        "import pkgutil, importlib, sys, caspers_lib.replay as r\n"
        "names = [m.name for m in pkgutil.walk_packages(r.__path__, r.__name__ + '.')]\n"
        "[importlib.import_module(n) for n in names if not n.endswith('.spark_source')]\n"
        "assert 'caspers_lib.replay.partitioning' in sys.modules\n"
        "assert 'pyspark' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# The plan


@pytest.fixture(scope="module")
def grouped(small: EventsFile, tmp_path_factory: pytest.TempPathFactory) -> EventsFile:
    """The small dataset in row groups of 50 events."""
    path = tmp_path_factory.mktemp("grouped") / "events.parquet"
    with pq.ParquetFile(small.path) as file:
        columns = pq.SortingColumn.from_ordering(
            file.schema_arrow, [(n, "ascending") for n in ("ts_seconds", "order_id", "sequence")]
        )
        pq.write_table(file.read(), path, row_group_size=50, sorting_columns=columns)
    return EventsFile.open(path)


def windows(dataset: EventsFile) -> st.SearchStrategy[Window]:
    """Windows before, in and past the first loops, with ends on and between seconds."""
    days = st.floats(-1, 12) | st.sampled_from([0.0, 3.0, 6.0])
    edges = days.map(lambda day: dataset.epoch + day * DAY)
    edges |= st.sampled_from(
        [float(t) for t in (dataset.first_ts - 1, dataset.first_ts, dataset.last_ts)]
    )
    return st.builds(Window, st.none() | edges, edges)


@cache
def all_times(dataset: EventsFile) -> np.ndarray[Any, Any]:
    """When the events of the first loops happen, counted out loop by loop."""
    seconds = pq.read_table(dataset.path).column("ts_seconds").to_numpy()
    times = [seconds + loop * dataset.cycle_seconds for loop in range(5)]
    return np.sort(np.concatenate(times))


def times_of(dataset: EventsFile, window: Window) -> np.ndarray[Any, Any]:
    times = all_times(dataset)
    after = -np.inf if window.after is None else window.after
    return times[(times > after) & (times <= window.until)]


@given(st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_partitions_cover_the_window_once_in_order_and_are_about_as_large(
    grouped: EventsFile, data: st.DataObject
) -> None:
    window = data.draw(windows(grouped))
    rows = data.draw(st.sampled_from([1, 40, 100, 1000]))
    parts = partition_windows(grouped, timed_groups(grouped), window, rows=rows)
    counts = [len(times_of(grouped, part)) for part in parts]
    assert sum(counts) == len(times_of(grouped, window))
    if parts:
        assert (parts[0].after, parts[-1].until) == (window.after, window.until)
    for one, next_one in itertools.pairwise(parts):
        assert one.until == next_one.after
        assert not one.is_empty
        assert one.until == int(one.until)
    # Within a row group events are taken as evenly spread; a part's ends lie in two of them, or
    # in four where two loops overlap.
    assert max(counts, default=0) <= rows + 4 * 50


@given(st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_first_events_of_a_window_are_as_many_as_fit_and_time_always_goes_on(
    grouped: EventsFile, data: st.DataObject
) -> None:
    window = data.draw(windows(grouped))
    most = data.draw(st.sampled_from([1, 7, 50, 300, 5000]))
    found = first_events(grouped, timed_groups(grouped), window, most=most)
    times = times_of(grouped, window)
    count = len(times_of(grouped, found))
    assert found.after == window.after
    if len(times) <= most:
        assert found == window
    else:
        assert window.after is None or found.until > window.after
        assert 0 < count <= max(most, int((times == times[0]).sum()))
        # One more second would be too many.
        assert np.searchsorted(times, found.until + 1, side="right") > most


def test_a_second_with_more_events_than_fit_is_read_whole(
    tmp_path: Path, write_rows: Any, event_row: Any
) -> None:
    begin = GHOST_KITCHEN.epoch
    moments = [begin, begin, begin, begin + 1, begin + 1, begin + 2]
    rows = [event_row(ts_seconds=at, sequence=n) for n, at in enumerate(moments)]
    dataset = write_rows(tmp_path / "events.parquet", rows)
    until, ends = float(begin + 9), []
    window = Window(None, until)
    while not window.is_empty and len(ends) < 9:
        found = first_events(dataset, timed_groups(dataset), window, most=2)
        ends.append(found.until - begin)
        window = Window(found.until, until)
    assert ends == [0, 1, 9]


def test_a_file_without_statistics_is_one_row_group(small: EventsFile, tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    pq.write_table(pq.read_table(small.path), path, write_statistics=False)
    plain = EventsFile.open(path)
    assert timed_groups(plain) == [RowGroup(small.first_ts, small.last_ts, small.rows)]
    window = Window(None, float(small.epoch + 4 * DAY))
    parts = partition_windows(plain, timed_groups(plain), window, rows=100)
    assert len(parts) > 2
    found = [row for part in parts for row in mapped(plain, part)]
    assert found == mapped(small, window)


# The stream, without Spark


def test_r10_polled_often_at_1x_the_stream_never_stalls_and_loses_nothing(
    small: EventsFile, tmp_path: Path
) -> None:
    # Three polls a second around the busiest minute.
    seconds = pq.read_table(small.path).column("ts_seconds").to_numpy() - small.epoch
    begin = int(np.bincount(seconds // 60).argmax()) * 60 - 1
    state = stands_at(small, tmp_path, begin / DAY, speed=1.0)
    stream = Stream(small, state=str(state))
    history = stream.poll()
    assert history == len(mapped(small, Window(None, small.epoch + begin)))
    while stream.now < NOW + 62:
        stream.now += 0.3
        stream.poll()
    end = stream.offset["virtual_time"]
    assert isinstance(end, float)
    assert end > small.epoch + begin + 61
    assert len(stream.rows) > history
    assert stream.rows == mapped(small, Window(None, end))


def test_r10_any_range_of_offsets_is_planned_anew_with_the_same_rows(
    small: EventsFile, tmp_path: Path
) -> None:
    state = str(stands_at(small, tmp_path, 4.2))
    stream = Stream(small, state=state, rowsPerPartition="60", maxEventsPerBatch="150")
    ranges = []
    while True:
        start, known = stream.offset, len(stream.rows)
        if not stream.poll():
            break
        ranges.append((start, stream.offset, stream.rows[known:]))
    assert len(ranges) > 3
    # The clock has gone on, and the plan is another one.
    stands_at(small, tmp_path, 8.0)
    later = Stream(small, state=state, rowsPerPartition="25")
    for start, end, rows in reversed(ranges):
        assert later.read(start, end) == rows
        assert 0 < len(rows) <= 150
    assert [row for *_, rows in ranges for row in rows] == mapped(
        small, Window(None, small.epoch + 4.2 * DAY)
    )


def test_r10_the_stream_goes_on_past_the_datasets_end(small: EventsFile) -> None:
    stream = Stream(small, simulationStart=START, startDay="2", speed="86400")
    for _ in range(12):
        stream.now += 1.0
        stream.poll()
    window = Window(None, stream.offset["virtual_time"])
    assert {row["order_id"].rpartition("-")[2] for row in stream.rows} >= {"L1", "L2", "L3"}
    assert stream.rows == mapped(small, window, int(stream.offset["shift"]))


def test_a_poll_within_a_second_makes_no_batch(small: EventsFile, tmp_path: Path) -> None:
    stream = Stream(small, state=str(stands_at(small, tmp_path, 1.0, speed=1.0)))
    stream.poll()
    start = stream.offset
    stream.now += 0.9
    assert stream.reader.latestOffset(start, ReadAllAvailable()) is start
    stream.now += 0.2
    assert stream.reader.latestOffset(start, ReadAllAvailable()) != start


def test_the_replays_state_steers_the_stream_and_an_offset_never_goes_back(
    small: EventsFile, tmp_path: Path
) -> None:
    store = StateStore(stands_at(small, tmp_path, 1.0, speed=60.0))
    stream = Stream(small, state=str(tmp_path))
    stream.poll()
    assert stream.offset["virtual_time"] == small.epoch + DAY
    stream.now += 1800
    stream.poll()
    assert stream.offset["virtual_time"] == small.epoch + DAY + 60 * 1800

    def steer(change: Callable[[ReplayState, float], ReplayState]) -> None:
        state = store.load()
        assert state is not None
        store.save(change(state, stream.now))

    reached = stream.offset
    for back in (seek("0.5"), reset):
        steer(back)
        assert stream.poll() == 0
        assert stream.offset == reached
        assert stream.reader.partitions(reached, reached) == []
    steer(seek("2.75"))
    stream.poll()
    assert stream.rows == mapped(small, Window(None, small.epoch + 2.75 * DAY))


def test_a_replay_begun_anew_needs_a_new_checkpoint(small: EventsFile, tmp_path: Path) -> None:
    stream = Stream(small, state=str(stands_at(small, tmp_path, 1.0)))
    stream.poll()
    state = StateStore(tmp_path).load()
    assert state is not None
    StateStore(tmp_path).save(replace(state, shift_seconds=SHIFT + DAY))
    with pytest.raises(ReplayStateError, match="checkpoint belongs to a replay"):
        stream.poll()


def test_chaos_is_the_same_in_every_cutting_into_partitions(small: EventsFile) -> None:
    text = "late=0.2,duplicate=0.2,dropped=0.2,wrong_type=0.1,seed=5"
    until = small.epoch + 4 * DAY
    window = Window(None, until)
    expected = event_batches(small, window, 0, form="columns", chaos=Chaos.parse(text))
    wanted = [row for batch in expected for row in batch.to_pylist()]
    for rows in (50, 10_000):
        given = {"chaos": text, "until": "4", "rowsPerPartition": str(rows)}
        options = batch_options(given, epoch=small.epoch)
        reader = ReplayReader(small, options, GHOST_KITCHEN)
        parts = [reader.read(part) for part in reader.partitions()]
        found = [row for part in parts for batch in part for row in batch.to_pylist()]
        assert in_order(found) == in_order(wanted)
        assert (len(parts) > 5) == (rows == 50)


def test_available_now_ends_at_what_the_clock_showed(small: EventsFile, tmp_path: Path) -> None:
    stream = Stream(small, state=str(stands_at(small, tmp_path, 1.0, speed=60.0)))
    stream.reader.prepareForTriggerAvailableNow()
    stream.now += 3600
    limit = ReadMaxRows(40)
    ends = []
    while (end := stream.reader.latestOffset(stream.offset, limit)) != stream.offset:
        ends.append(end)
        stream.offset = end
    assert len(ends) > 2
    assert ends[-1]["virtual_time"] == small.epoch + DAY
    assert stream.reader.reportLatestOffset()["virtual_time"] == small.epoch + DAY + 60 * 3600


# On Spark


@pytest.fixture(scope="module")
def source(spark: Any) -> Any:
    register_replay_source(spark)
    return spark


@pytest.mark.spark
def test_the_schema_is_the_domains_event_columns(source: Any, small: EventsFile) -> None:
    frame = source.read.format("caspers_replay").load(str(small.path))
    assert frame.dtypes == [(c.name, c.type.lower()) for c in GHOST_KITCHEN.event_columns]
    assert CaspersReplay.name() == "caspers_replay"


@pytest.mark.spark
@pytest.mark.parametrize(
    ("after", "until"),
    [(None, "1.25"), ("0.5", "2.75"), ("2.9", "3.1"), ("2.5", "9.4"), ("5", "5"), ("3", "1")],
)
def test_a_batch_of_any_window_is_what_the_mapping_in_process_gives(
    source: Any, small: EventsFile, after: str | None, until: str
) -> None:
    reader = source.read.format("caspers_replay").option("until", until).option("shift", SHIFT)
    reader = reader.option("rowsPerPartition", 150)
    reader = reader if after is None else reader.option("after", after)
    begin = None if after is None else small.epoch + float(after) * DAY
    window = Window(begin, small.epoch + float(until) * DAY)
    assert rows_of(reader.load(str(small.path))) == mapped(small, window)


@pytest.mark.spark
def test_a_batch_ends_at_p0_and_without_a_clock_with_the_first_loop(
    source: Any, small: EventsFile
) -> None:
    reader = source.read.format("caspers_replay")
    whole = rows_of(reader.load(str(small.path)))
    assert whole == mapped(small, Window(None, small.epoch + 3 * DAY), shift=0)
    reader = reader.option("simulationStart", START).option("startDay", 1)
    first_run = rows_of(reader.load(str(small.path)))
    shift = int((np.datetime64(START) - np.datetime64("2024-01-02T11:06:40")).astype(int))
    p0 = small.epoch + DAY + NOW % DAY
    assert first_run == mapped(small, Window(None, p0), shift)


@pytest.mark.spark
def test_sparks_error_says_what_is_wrong_with_an_option_and_a_row(
    source: Any, small: EventsFile, tmp_path: Path, write_rows: Any, event_row: Any
) -> None:
    with pytest.raises(PySparkException, match="no option untill"):
        source.read.format("caspers_replay").option("untill", 3).load(str(small.path)).count()
    stream = source.readStream.format("caspers_replay").load(str(small.path))
    query = stream.writeStream.format("noop").option("checkpointLocation", str(tmp_path / "c"))
    with pytest.raises(PySparkException, match="needs the option state") as failed:
        query.trigger(availableNow=True).start().awaitTermination()
    assert "UnboundLocalError" not in str(failed.value)
    strange = write_rows(tmp_path / "strange.parquet", [event_row(event_type_id=99)])
    with pytest.raises(PySparkException, match="unknown event type ids 99"):
        rows_of(source.read.format("caspers_replay").load(str(strange.path)))


def _write_or_fail(folder: Path, batch: Any, number: int) -> None:
    """Keeps each attempt at each batch; the first attempt at batch 1 fails after writing."""
    attempt = len(list(folder.glob(f"{number}-*")))
    target = folder / f"{number}-{attempt}"
    batch.write.parquet(str(target))
    if (number, attempt) == (1, 0):
        raise RuntimeError("the sink is full")


@pytest.mark.spark
def test_r10_a_restart_reads_the_uncommitted_batch_again_and_nothing_is_lost_or_doubled(
    source: Any, small: EventsFile, tmp_path: Path
) -> None:
    state = stands_at(small, tmp_path / "misc", 2.0)
    out = tmp_path / "out"
    out.mkdir()

    def run() -> None:
        stream = source.readStream.format("caspers_replay").option("state", str(state))
        query = (
            stream.option("maxEventsPerBatch", 150)
            .option("rowsPerPartition", 60)
            .load(str(small.path))
            .writeStream.option("checkpointLocation", str(tmp_path / "checkpoint"))
            .foreachBatch(partial(_write_or_fail, out))
            .trigger(availableNow=True)
            .start()
        )
        query.awaitTermination()

    with pytest.raises(PySparkException, match="the sink is full"):
        run()
    # By the restart the clock has gone on, into the next loop.
    stands_at(small, tmp_path / "misc", 4.0)
    run()
    attempts = {p.name: in_order(pq.read_table(p).to_pylist()) for p in out.iterdir()}
    assert attempts["1-0"] == attempts["1-1"]
    assert len(attempts["1-0"]) > 100
    last = [rows for name, rows in attempts.items() if name != "1-0"]
    found = sorted(itertools.chain.from_iterable(last))
    assert found == in_order(mapped(small, Window(None, small.epoch + 4.0 * DAY)))


@pytest.fixture
def schema(spark: Any) -> Iterator[str]:
    name = f"replay_{uuid4().hex[:8]}"
    spark.sql(f"CREATE SCHEMA {name}")
    yield name
    spark.sql(f"DROP SCHEMA {name} CASCADE")


@pytest.mark.spark
def test_a_declarative_pipeline_streams_from_it_update_by_update(
    source: Any, schema: str, small: EventsFile, tmp_path: Path
) -> None:
    def define(spark: Any) -> None:
        dp.table(name="events")(
            lambda: (
                spark.readStream.format("caspers_replay")
                .option("state", str(tmp_path / "misc"))
                .load(str(small.path))
            )
        )

    for day in (1.5, 3.5):
        stands_at(small, tmp_path / "misc", day)
        run_update(source, define, storage=tmp_path / "storage", database=schema)
        found = rows_of(source.read.table(f"{schema}.events"))
        assert in_order(found) == in_order(mapped(small, Window(None, small.epoch + day * DAY)))
