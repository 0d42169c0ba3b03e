"""The Spark data source `caspers_replay`: the dataset's events, batch and stream, in partitions.

The driver plans from the dataset's metadata; executors run the same
DuckDB mapping as the replay in process and hand Arrow batches over. Needs Spark 4.2 and this
library where the executors run. No other module of `caspers_lib.replay` loads pyspark.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pyspark.sql.datasource import (
    DataSource,
    DataSourceReader,
    DataSourceStreamReader,
    InputPartition,
)
from pyspark.sql.streaming.datasource import (
    ReadAllAvailable,
    ReadLimit,
    ReadMaxRows,
    SupportsTriggerAvailableNow,
)

from caspers_lib.domain import GHOST_KITCHEN, Domain
from caspers_lib.errors import ReplayStateError, SettingsError
from caspers_lib.replay.chaos import NO_CHAOS, Chaos
from caspers_lib.replay.clock import (
    CALENDAR_END,
    CALENDAR_START,
    Clock,
    event_shift,
    last_virtual_second,
    start_clock,
)
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.dataset_validation import validate_dataset
from caspers_lib.replay.event_batches import event_batches
from caspers_lib.replay.partitioning import first_events, partition_windows, timed_groups
from caspers_lib.replay.row_groups import RowGroup
from caspers_lib.replay.source_options import (
    BatchOptions,
    GivenStart,
    RunningReplay,
    StreamOptions,
    batch_options,
    dataset_path,
    stream_options,
)
from caspers_lib.replay.state import StateStore
from caspers_lib.replay.window import Window

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import SparkSession
    from pyspark.sql.types import StructType

__all__ = [
    "CaspersReplay",
    "Offset",
    "ReplayPartition",
    "ReplayReader",
    "ReplayStreamReader",
    "register_replay_source",
]

Offset = dict[str, float | int]
"""How far a stream has come: `virtual_time` in virtual seconds, and the `shift` it plays with."""


def register_replay_source(spark: "SparkSession") -> None:
    """Make `caspers_replay` known to a session, for `spark.read` and `spark.readStream`."""
    spark.dataSource.register(CaspersReplay)


class CaspersReplay(DataSource):
    """The replay's events as a Spark data source; a subclass sets another domain.

    Columns: the domain's seven event columns. Options:

    | option | unit | what it says |
    |---|---|---|
    | `path` | | the dataset, `events.parquet`; `load(path)` sets it |
    | `state` | folder | the clock of the replay whose `_replay_state.json` lies there |
    | `simulationStart` | ISO 8601 | or else s, the moment at which a clock of its own starts |
    | `startDay` | dataset day | with `simulationStart`: the day that falls on s (70) |
    | `speed` | virtual s a second | stream, with `simulationStart`: for ever (60) |
    | `after`, `until` | dataset day or ISO 8601 | batch: the window (after, until] |
    | `shift` | seconds | batch: from virtual to emitted time, without a clock (0) |
    | `chaos` | | what goes wrong on purpose, as `Chaos.parse` reads it (nothing) |
    | `rowsPerPartition` | events | a partition's size, about (250,000) |
    | `maxEventsPerBatch` | events | stream: the most of a micro-batch (all that are due) |

    A batch begins with the dataset and ends at p0, or without a clock with the first loop. Days
    and timestamps past the first loop play the next ones. A replay's chaos is its own: what is read
    here is clean, unless the option `chaos` says otherwise; it stays the same for a checkpoint.
    """

    domain: ClassVar[Domain] = GHOST_KITCHEN

    @classmethod
    def name(cls) -> str:
        """The format's name."""
        return "caspers_replay"

    def schema(self) -> str:
        """The domain's event columns."""
        return ", ".join(f"{column.name} {column.type}" for column in self.domain.event_columns)

    def reader(self, schema: "StructType") -> "ReplayReader":  # noqa: ARG002 - Spark checks it
        """The reader of a window.

        Raises:
            SettingsError: an option is not allowed.
            DatasetError: the dataset can't be replayed.
            ReplayStateError: the state can't be read or belongs to another dataset.
        """
        dataset = _fit_dataset(self.options, self.domain)
        options = batch_options(self.options, epoch=dataset.epoch)
        return ReplayReader(dataset, options, self.domain)

    def streamReader(self, schema: "StructType") -> "ReplayStreamReader":  # noqa: ARG002
        """The reader of a stream."""
        return ReplayStreamReader(self.options, self.domain)


@dataclass(frozen=True)
class ReplayPartition(InputPartition):
    """A window of virtual time that one task plays, `shift` seconds away from emitted time."""

    dataset: EventsFile
    window: Window
    shift: int
    chaos: Chaos = NO_CHAOS


class ReplayReader(DataSourceReader):
    """Reads a window of virtual time, in order within and across its partitions.

    Args:
        dataset: what is played.
        options: the window, the clock and the size of partitions.
        domain: the business.

    Raises:
        ReplayStateError: the state can't be read or belongs to another dataset.
        SettingsError: an event's time would lie outside the years 1 to 9999.
    """

    def __init__(self, dataset: EventsFile, options: BatchOptions, domain: Domain) -> None:
        self._dataset = dataset
        self._domain = domain
        self._rows = options.rows_per_partition
        self._chaos = options.chaos
        if isinstance(options.clock, GivenStart):
            self._dataset = dataset = dataset.begun_on(options.clock.start_day)
        p0, shift = float(dataset.epoch + dataset.cycle_seconds), 0
        if options.clock is not None:
            clock, shift = _clock_and_shift(options.clock, dataset)
            p0 = clock.start
        self._window = Window(options.after, p0 if options.until is None else options.until)
        self._shift = shift if options.shift is None else options.shift
        first, last = (second + self._shift for second in (dataset.first_ts, self._window.until))
        if first < CALENDAR_START or last > CALENDAR_END:
            raise SettingsError(
                f"The window of caspers_replay ends at virtual second {self._window.until:g}, the "
                f"shift is {self._shift} s; event times must lie in the years 1 to 9999",
                hint="an option until is a dataset day or a timestamp, and a shift is in seconds",
            )

    def partitions(self) -> list[InputPartition]:
        """Windows of about as many events each."""
        groups = timed_groups(self._dataset)
        windows = partition_windows(self._dataset, groups, self._window, rows=self._rows)
        # Spark invents a partition where there is none.
        return [
            ReplayPartition(self._dataset, part, self._shift, self._chaos)
            for part in windows or [self._window]
        ]

    def read(self, partition: InputPartition) -> Iterator["pa.RecordBatch"]:
        """The partition's events in time order."""
        return _played(partition, self._domain)


class ReplayStreamReader(DataSourceStreamReader, SupportsTriggerAvailableNow):
    """Reads what the clock has come to since the last micro-batch, from the first event on.

    An offset is a point of virtual time, so that any range of offsets is the same events, planned
    anew, however often: a restart reads an uncommitted batch again exactly. Loops go on for ever.
    An offset never goes back: after a seek back or a reset of the replay the stream waits until
    the clock passes the offset again, and nothing is read twice. A seek forward reads all that
    lies between.

    Args:
        options: as Spark gives them; checked at the first call, because Spark hides an error that
            is raised here behind one of its own.
        domain: the business.
        now: wall clock, UTC epoch seconds.
    """

    def __init__(
        self, options: Mapping[str, str], domain: Domain, now: Callable[[], float] = time.time
    ) -> None:
        self._given = options
        self._domain = domain
        self._now = now
        self._last: float | None = None

    @cached_property
    def _options(self) -> StreamOptions:
        return stream_options(self._given)

    @cached_property
    def _dataset(self) -> EventsFile:
        dataset, clock = _fit_dataset(self._given, self._domain), self._options.clock
        return dataset.begun_on(clock.start_day) if isinstance(clock, GivenStart) else dataset

    @cached_property
    def _groups(self) -> list[RowGroup]:
        return timed_groups(self._dataset)

    def initialOffset(self) -> Offset:
        """Just before the dataset's first event: the first batch holds all with v <= p(now).

        Raises:
            SettingsError: an option is not allowed, or there is no clock.
            DatasetError: the dataset can't be replayed.
            ReplayStateError: the state can't be read or belongs to another dataset.
        """
        _, shift = self._due()
        return _offset(self._dataset.first_ts - 1, shift)

    def getDefaultReadLimit(self) -> ReadLimit:
        """`maxEventsPerBatch`, or all that are due."""
        most = self._options.max_events
        return ReadAllAvailable() if most is None else ReadMaxRows(most)

    def prepareForTriggerAvailableNow(self) -> None:
        """Such a query ends at what the clock shows now."""
        self._last = self._due()[0]

    def latestOffset(self, start: Offset, limit: ReadLimit) -> Offset:
        """p(now), or less where the limit says so; `start` where no second has passed.

        Raises:
            ReplayStateError: the state can't be read, belongs to another dataset, or is that of a
                replay begun anew.
        """
        until, shift = self._due()
        if shift != start["shift"]:
            raise ReplayStateError(
                f"The stream's checkpoint belongs to a replay with a shift of {start['shift']} s, "
                f"this one has {shift} s",
                hint="a replay that was begun anew needs a new checkpoint",
            )
        after = start["virtual_time"]
        until = until if self._last is None else min(until, self._last)
        # Events sit on whole seconds: a fraction alone would be an empty batch at every poll.
        if math.floor(until) <= math.floor(after):
            return start
        window = Window(after, until)
        if isinstance(limit, ReadMaxRows):
            window = first_events(self._dataset, self._groups, window, most=limit.max_rows)
        return _offset(window.until, shift)

    def reportLatestOffset(self) -> Offset:
        """p(now), for the query's progress: what is due and not read yet is the lag."""
        return _offset(*self._due())

    def partitions(self, start: Offset, end: Offset) -> list[InputPartition]:
        """Windows of about as many events each; the same for the same offsets."""
        window = Window(start["virtual_time"], end["virtual_time"])
        rows, shift = self._options.rows_per_partition, int(end["shift"])
        windows = partition_windows(self._dataset, self._groups, window, rows=rows)
        chaos = self._options.chaos
        return [ReplayPartition(self._dataset, part, shift, chaos) for part in windows]

    def read(self, partition: InputPartition) -> Iterator["pa.RecordBatch"]:
        """The partition's events in time order."""
        return _played(partition, self._domain)

    def _due(self) -> tuple[float, int]:
        clock, shift = _clock_and_shift(self._options.clock, self._dataset)
        return clock.virtual_time(self._now()), shift


def _played(partition: InputPartition, domain: Domain) -> Iterator["pa.RecordBatch"]:
    assert isinstance(partition, ReplayPartition)  # noqa: S101 - the reader planned it
    return event_batches(
        partition.dataset,
        partition.window,
        partition.shift,
        domain=domain,
        form="columns",
        chaos=partition.chaos,
    )


def _fit_dataset(options: Mapping[str, str], domain: Domain) -> EventsFile:
    """The option `path`, judged as the replay does, unless the replay of `state` has done so."""
    path, folder = dataset_path(options), options.get("state")
    state = None if folder is None else StateStore(Path(folder)).load()
    dataset = EventsFile.open(path, domain, begun_cycle=state.cycle_seconds if state else None)
    if state is None or state.checked != dataset.fingerprint:
        validate_dataset(dataset, domain)
    return dataset


def _offset(virtual_time: float, shift: int) -> Offset:
    return {"virtual_time": float(virtual_time), "shift": shift}


def _clock_and_shift(source: RunningReplay | GivenStart, dataset: EventsFile) -> tuple[Clock, int]:
    if isinstance(source, RunningReplay):
        return _running_clock(source, dataset)
    start, day = source.simulation_start, source.start_day
    clock = start_clock(start, epoch=dataset.epoch, start_day=day, speed=source.speed)
    shift = event_shift(start, epoch=dataset.epoch, start_day=day)
    return replace(clock, end=last_virtual_second(shift)), shift


def _running_clock(source: RunningReplay, dataset: EventsFile) -> tuple[Clock, int]:
    state = StateStore(source.folder).load()
    if state is None:
        raise ReplayStateError(
            f"No replay has run in {source.folder}: there is no clock to follow",
            hint="run `caspers replay tick` first, or give simulationStart",
        )
    state.check_dataset(dataset)
    return state.clock, state.shift_seconds
