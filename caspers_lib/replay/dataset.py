"""The canonical dataset as a file: its columns, and what its metadata says.

Contract: DESIGN section 4.
"""

import hashlib
import itertools
import os
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from caspers_lib.domain import GHOST_KITCHEN, Domain
from caspers_lib.errors import DatasetError, first_cause

__all__ = ["CYCLE_KEY", "EPOCH_KEY", "EVENTS_SCHEMA", "SORT_KEY", "STORY_KEY", "EventsFile"]

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

_DAY = 86_400
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
    """

    path: Path
    rows: int
    first_ts: int
    last_ts: int
    epoch: int
    cycle_seconds: int
    is_sorted: bool
    fingerprint: str

    @classmethod
    def open(cls, path: Path, domain: Domain = GHOST_KITCHEN) -> "EventsFile":
        """Describe the dataset at `path` without reading its rows.

        Epoch and cycle come from the file's key-value metadata. A file without them is taken to
        begin at the UTC midnight before its first event and to loop as the domain says.

        Raises:
            DatasetError: no file, not parquet, a column missing, there twice or of another kind, no
                rows, a row without a time, or a loop of less than a day.
        """
        metadata = _read_metadata(path)
        _check_columns(path, metadata.schema.to_arrow_schema())
        if metadata.num_rows == 0:
            raise DatasetError(f"The dataset {path} has no events", hint=_HINT)
        first, last, is_sorted = _time_range(path, metadata)
        extra = metadata.metadata or {}
        cycle = _whole_number(path, extra, CYCLE_KEY, domain.cycle_seconds)
        if cycle < _DAY:
            raise DatasetError(
                f"The metadata {CYCLE_KEY.decode()} of {path} is {cycle}; a loop must last a day "
                f"({_DAY} s) or more",
                hint=_HINT,
            )
        return cls(
            path=path,
            rows=metadata.num_rows,
            first_ts=first,
            last_ts=last,
            epoch=_whole_number(path, extra, EPOCH_KEY, first - first % _DAY),
            cycle_seconds=cycle,
            is_sorted=is_sorted,
            fingerprint=_footer_hash(path),
        )

    @property
    def cycle_days(self) -> int:
        """Whole days of one loop."""
        return self.cycle_seconds // _DAY


def _read_metadata(path: Path) -> pq.FileMetaData:
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


def _whole_number(path: Path, extra: dict[bytes, bytes], key: bytes, default: int) -> int:
    text = extra.get(key)
    if text is None:
        return default
    try:
        return int(text)
    except ValueError as error:
        raise DatasetError(
            f"The metadata {key.decode()} of {path} is {text!r}; it must be whole seconds",
            hint=_HINT,
        ) from error
