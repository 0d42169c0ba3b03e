"""The canonical dataset as a file: its columns, and what its metadata says.

What `EventsFile.open` refuses, no command accepts: the check, the replay and the Spark data source
all open the dataset here. The rows themselves are judged by `dataset_validation`.
"""

import hashlib
import itertools
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from caspers_lib.domain import GHOST_KITCHEN, Domain
from caspers_lib.errors import DatasetError, SettingsError, first_cause
from caspers_lib.replay.clock import CALENDAR_END, DAY, utc_text

__all__ = [
    "CYCLE_KEY",
    "EPOCH_KEY",
    "EVENTS_SCHEMA",
    "SORT_KEY",
    "STORY_KEY",
    "EventsFile",
    "read_metadata",
]

EPOCH_KEY = b"caspers.epoch"
CYCLE_KEY = b"caspers.cycle_seconds"
STORY_KEY = b"caspers.story"  # JSON: how the generator was asked; absent from foreign datasets
SORT_KEY = ("ts_seconds", "order_id", "sequence")

EVENTS_SCHEMA = pa.schema(
    [
        pa.field("event_type_id", pa.int8(), nullable=False),
        pa.field("ts_seconds", pa.int64(), nullable=False),
        pa.field("location_id", pa.int8(), nullable=False),
        pa.field("order_id", pa.string(), nullable=False),
        pa.field("sequence", pa.int8(), nullable=False),
        pa.field("customer_lat", pa.float32()),
        pa.field("customer_lon", pa.float32()),
        pa.field("customer_addr", pa.string()),
        pa.field("items_json", pa.string()),
        pa.field("route_json", pa.string()),
        pa.field("ping_lat", pa.float32()),
        pa.field("ping_lon", pa.float32()),
        pa.field("ping_progress", pa.float32()),
    ]
)

_LEAST_GAP_DAYS = 7
_HINT = "`caspers dataset generate` makes a fitting one"


@dataclass(frozen=True, slots=True)
class EventsFile:
    """A dataset file that can be replayed, known by its metadata alone.

    Args:
        path: the parquet file.
        rows: number of events.
        first_ts: time of the first event (UTC epoch seconds).
        last_ts: time of the last event; may lie past the cycle's end (the tail).
        epoch: virtual second at which day 0 begins.
        cycle_seconds: length of one loop.
        is_sorted: every row group declares the order `SORT_KEY`, and no group begins before
            the one in front of it ends.
        fingerprint: the dataset's identity, 32 hexadecimal digits: a hash of the file's footer,
            which holds the schema, the metadata, and every column chunk's statistics, size and
            place. A copy has the same one wherever it lies; another dataset has another. It doesn't
            tell a change that leaves a chunk's compressed size, least and greatest value as they
            are, such as damage.
        start_days: days from which the start day may be chosen, counted from 0.
    """

    path: Path
    rows: int
    first_ts: int
    last_ts: int
    epoch: int
    cycle_seconds: int
    is_sorted: bool
    fingerprint: str
    start_days: int

    @classmethod
    def open(
        cls,
        path: Path,
        domain: Domain = GHOST_KITCHEN,
        *,
        cycle_days: int | None = None,
        begun_cycle: int | None = None,
    ) -> "EventsFile":
        """Describe the dataset at `path` by its metadata.

        Epoch and loop come from the file's key-value metadata. A file without them begins at the
        UTC midnight before its first event. Unless the loop is given, its times are read: it lasts
        as many days as the data, without a last one on which nothing is opened any more.

        Args:
            path: the parquet file.
            domain: the business.
            cycle_days: length of a loop that is asked for; the file's metadata may not contradict.
            begun_cycle: seconds of a loop of the replay that was begun with the dataset; they
                count where the file's metadata says nothing.

        Raises:
            DatasetError: no file, not parquet, a column missing, there twice or of another kind, no
                rows, a row without a time or far from all others, a time or a loop outside the
                years 1970 to 9999, or a loop of less than a day.
            SettingsError: the loop that is asked for is none, or not the file's own.
        """
        metadata = read_metadata(path)
        _check_columns(path, metadata.schema.to_arrow_schema())
        if metadata.num_rows == 0:
            raise DatasetError(f"The dataset {path} has no events", hint=_HINT)
        first, last, is_sorted = _time_range(path, metadata)
        _refuse_far_times(path, first, last)
        extra = metadata.metadata or {}
        declared = _whole_number(path, extra, CYCLE_KEY)
        asked = None if cycle_days is None else cycle_days * DAY
        if asked is not None and (asked < DAY or declared not in (None, asked)):
            allowed = (
                "1 or more" if declared is None else f"{declared / DAY:g}, as its metadata says"
            )
            raise SettingsError(
                f"A loop of the dataset {path} is asked to last {cycle_days} days; it must be "
                f"{allowed}"
            )
        epoch = _whole_number(path, extra, EPOCH_KEY)
        epoch = first - first % DAY if epoch is None else epoch
        cycle = asked or begun_cycle if declared is None else declared
        cycle = _data_days(path, epoch // DAY, domain) * DAY if cycle is None else cycle
        _refuse_bad_loop(path, epoch, cycle)
        # A loop that the file doesn't declare may be stretched to reach its start day.
        days = cycle if declared is not None else max(cycle, domain.cycle_seconds)
        return cls(
            path=path,
            rows=metadata.num_rows,
            first_ts=first,
            last_ts=last,
            epoch=epoch,
            cycle_seconds=cycle,
            is_sorted=is_sorted,
            fingerprint=_footer_hash(path),
            start_days=days // DAY,
        )

    def begun_on(self, day: int) -> "EventsFile":
        """The same dataset for a replay that begins on a day of it.

        A loop that the file doesn't declare lasts at least until that day is over, so that the
        first run plays each event once.

        Args:
            day: the start day, counted from 0.

        Raises:
            SettingsError: it is not from 0 to `start_days` - 1.
        """
        if not 0 <= day < self.start_days:
            raise SettingsError(
                f"START_DAY is {day}; the dataset {self.path} has the days 0 to "
                f"{self.start_days - 1}",
                hint="choose a day inside the dataset",
            )
        return replace(self, cycle_seconds=max(self.cycle_seconds, (day + 1) * DAY))

    @property
    def cycle_days(self) -> int:
        """Whole days of one loop."""
        return self.cycle_seconds // DAY


def read_metadata(path: Path) -> pq.FileMetaData:
    """The footer of a dataset.

    Raises:
        DatasetError: there is no file, or it is not parquet.
    """
    if not path.is_file():
        raise DatasetError(f"There is no dataset at {path}", hint=_HINT)
    try:
        return pq.read_metadata(path)
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(
            f"The dataset {path} can't be read as parquet: {first_cause(error)}", hint=_HINT
        ) from error


def _footer_hash(path: Path) -> str:
    """A parquet file ends with its footer, the footer's length (4 bytes) and a magic word (4)."""
    with path.open("rb") as file:
        file.seek(-8, os.SEEK_END)
        length = int.from_bytes(file.read(4), "little")
        file.seek(-8 - length, os.SEEK_END)
        return hashlib.blake2b(file.read(length), digest_size=16).hexdigest()


def _kind(of: pa.DataType) -> str:
    if pa.types.is_integer(of):
        return "integer"
    if pa.types.is_floating(of):
        return "float"
    if pa.types.is_string(of) or pa.types.is_large_string(of) or pa.types.is_string_view(of):
        return "string"
    return str(of)


def _check_columns(path: Path, found: pa.Schema) -> None:
    missing = [field.name for field in EVENTS_SCHEMA if field.name not in found.names]
    if missing:
        raise DatasetError(
            f"The dataset {path} lacks the column {', '.join(missing)}; "
            f"it has {', '.join(found.names)}",
            hint=_HINT,
        )
    names = [name.lower() for name in found.names]
    twice = [field.name for field in EVENTS_SCHEMA if names.count(field.name) > 1]
    if twice:
        raise DatasetError(
            f"The dataset {path} has the column {', '.join(twice)} more than once, upper and "
            "lower case being the same",
            hint=_HINT,
        )
    for field in EVENTS_SCHEMA:
        wanted, got = _kind(field.type), _kind(found.field(field.name).type)
        if wanted != got:
            raise DatasetError(
                f"The column {field.name} of {path} is {got}; it must be of any {wanted} type",
                hint=_HINT,
            )


def _time_range(path: Path, metadata: pq.FileMetaData) -> tuple[int, int, bool]:
    """First and last `ts_seconds`, and whether the file is sorted, from row-group statistics."""
    # Row groups number the leaves; a nested column in front of it has several.
    leaves = [metadata.schema.column(number).path for number in range(metadata.num_columns)]
    index = leaves.index("ts_seconds")
    ranges: list[tuple[int, int]] = []
    declared, nulls = True, 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        if group.num_rows == 0:
            continue
        statistics = group.column(index).statistics
        if statistics is None or not (statistics.has_min_max and statistics.has_null_count):
            return (*_scan_time_range(path), False)
        nulls += statistics.null_count
        ranges.append((statistics.min, statistics.max))
        declared = declared and _declares_sort_key(group, metadata.schema)
    _refuse_null_times(path, nulls)
    in_order = all(a[1] <= b[0] for a, b in itertools.pairwise(ranges))
    return min(r[0] for r in ranges), max(r[1] for r in ranges), declared and in_order


def _declares_sort_key(group: pq.RowGroupMetaData, schema: pq.ParquetSchema) -> bool:
    names = [schema.column(c.column_index).path for c in group.sorting_columns if not c.descending]
    return tuple(names[: len(SORT_KEY)]) == SORT_KEY


def _scan_time_range(path: Path) -> tuple[int, int]:
    bounds: list[int] = []
    nulls = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=["ts_seconds"]):
            seconds = batch.column(0)
            nulls += seconds.null_count
            found = pc.min_max(seconds)
            bounds += [bound for bound in found.as_py().values() if bound is not None]
            bounds = [min(bounds), max(bounds)] if bounds else []
    _refuse_null_times(path, nulls)
    return bounds[0], bounds[1]


def _refuse_null_times(path: Path, nulls: int) -> None:
    """No window holds a row without a time: the replay would drop it silently."""
    if nulls:
        raise DatasetError(
            f"The dataset {path} has rows with null ts_seconds in {nulls:,}", hint=_HINT
        )


def _refuse_far_times(path: Path, first: int, last: int) -> None:
    if first < 0 or last >= CALENDAR_END:
        raise DatasetError(
            f"The dataset {path} has ts_seconds from {first} to {last}; they must be UTC epoch "
            "seconds of the years 1970 to 9999",
            hint="milliseconds must be divided by 1,000, microseconds by 1,000,000",
        )


def _refuse_bad_loop(path: Path, epoch: int, cycle: int) -> None:
    if cycle < DAY:
        raise DatasetError(
            f"The metadata {CYCLE_KEY.decode()} of {path} is {cycle}; a loop must last a day "
            f"({DAY} s) or more",
            hint=_HINT,
        )
    if epoch < 0 or epoch + cycle > CALENDAR_END:
        raise DatasetError(
            f"The cycle of {path} is {cycle} seconds from {epoch} on; it must lie in the years "
            "1970 to 9999",
            hint=f"mend the metadata {EPOCH_KEY.decode()} and {CYCLE_KEY.decode()}",
        )


def _data_days(path: Path, epoch_day: int, domain: Domain) -> int:
    """Days of the data, without a last one that only holds what was opened before it."""
    opening = domain.types_by_name[domain.opening].id
    events: Counter[int] = Counter()
    last_opened = -1
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=["ts_seconds", "event_type_id"]):
            days = batch.column("ts_seconds").to_numpy().astype(np.int64) // DAY
            numbers, counts = np.unique(days, return_counts=True)
            events.update(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
            opens = pc.equal(batch.column("event_type_id"), opening).fill_null(False)
            last_opened = max(days[opens.to_numpy(zero_copy_only=False)], default=last_opened)
    _refuse_strays(path, events)
    last = max(events)
    return max(last - epoch_day + (0 if epoch_day <= last_opened < last else 1), 1)


def _refuse_strays(path: Path, events: Mapping[int, int]) -> None:
    """Refuse days so far from the others that they would stretch the loop beyond all measure.

    They lie beyond a gap that is longer than the days of the middle three fifths of the events.

    Args:
        path: the dataset.
        events: events by day, counted from 1970-01-01.
    """
    days = sorted(events)
    until = dict(zip(days, itertools.accumulate(events[day] for day in days), strict=True))
    total = until[days[-1]]
    core = [d for d in days if until[d] > total / 5 and until[d] - events[d] < total * 4 / 5]
    longest = max(core[-1] - core[0] + 1, _LEAST_GAP_DAYS)
    gaps = [(a, b) for a, b in itertools.pairwise(days) if b - a > longest]
    begin = max((b for _, b in gaps if b <= core[0]), default=days[0])
    end = min((a for a, _ in gaps if a >= core[-1]), default=days[-1])
    strays = [day for day in days if not begin <= day <= end]
    if not strays:
        return
    span = [("ts_seconds", ">=", strays[0] * DAY), ("ts_seconds", "<", (strays[0] + 1) * DAY)]
    rows = pq.read_table(path, columns=["order_id"], filters=span, partitioning=None)
    count = sum(events[day] for day in strays)
    stray, first, last = (utc_text(day * DAY)[:10] for day in (strays[0], begin, end))
    raise DatasetError(
        f"The dataset {path} has {count:,} of its {total:,} rows far from the others, which are "
        f"from {first} to {last}: the first is of order {rows.column(0)[0].as_py()!r} on {stray}",
        hint="mend or remove these rows, or give the length of a loop with `--cycle-days`",
    )


def _whole_number(path: Path, extra: dict[bytes, bytes], key: bytes) -> int | None:
    text = extra.get(key)
    if text is None:
        return None
    try:
        return int(text)
    except ValueError as error:
        raise DatasetError(
            f"The metadata {key.decode()} of {path} is {text!r}; it must be whole seconds",
            hint=_HINT,
        ) from error
