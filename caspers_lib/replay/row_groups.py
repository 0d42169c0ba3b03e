"""Which row groups of a dataset hold which times, so that a run reads those it needs and no other.

A parquet file's footer grows with its row groups. It is read once for as long as the file stays the
same, not at each run: a run on a hundred times the data takes as long as on one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["RowGroup", "read_rows", "row_groups"]

_BATCH_ROWS = 10_000
_EVER = np.iinfo(np.int64)


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Dataset seconds first..last of a row group (both included), and its number of events.

    Args:
        first: time of its first event; the earliest there is where the file has no statistics.
        last: time of its last event; the latest there is where the file has no statistics.
        rows: number of events, at least one.
        number: its place in the file, from 0.
        is_timed: the file has statistics of it.
    """

    first: int
    last: int
    rows: int
    number: int = 0
    is_timed: bool = True


@dataclass(frozen=True, slots=True)
class _Footer:
    metadata: pq.FileMetaData
    groups: tuple[RowGroup, ...]
    numbers: npt.NDArray[np.int64]
    firsts: npt.NDArray[np.int64]
    lasts: npt.NDArray[np.int64]


def row_groups(path: Path) -> tuple[RowGroup, ...]:
    """The row groups of a dataset that hold rows, in the order of the file."""
    return _footer(path).groups


def read_rows(path: Path, columns: Sequence[str], *, first: int, last: int) -> pa.RecordBatchReader:
    """The rows of the row groups that may hold times from `first` to `last`, in file order.

    Args:
        path: the dataset.
        columns: their names, in the wanted order.
        first: dataset seconds.
        last: dataset seconds, included.
    """
    footer = _footer(path)
    wanted = footer.numbers[(footer.lasts >= first) & (footer.firsts <= last)].tolist()
    found = footer.metadata.schema.to_arrow_schema()
    schema = pa.schema([(name, _known(found.field(name).type)) for name in columns])

    def batches() -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(path, metadata=footer.metadata) as file:
            # Given many row groups at once, Arrow's memory grows with their number.
            for group in wanted:
                for batch in file.iter_batches(
                    _BATCH_ROWS, row_groups=[group], columns=list(columns)
                ):
                    yield batch.select(list(columns)).cast(schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _known(of: pa.DataType) -> pa.DataType:
    """DuckDB takes no half floats from Arrow."""
    return pa.float32() if pa.types.is_float16(of) else of


def _footer(path: Path) -> _Footer:
    about = path.stat()
    return _footer_of(path, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=4)
def _footer_of(path: Path, _written_ns: int, _size: int) -> _Footer:
    """Kept until the file changes: its time and size are part of the key."""
    metadata = pq.read_metadata(path)
    # Row groups number the leaves; a nested column in front of it has several.
    leaves = [metadata.schema.column(number).path for number in range(metadata.num_columns)]
    index = leaves.index("ts_seconds")
    groups = tuple(_groups(metadata, index))
    return _Footer(
        metadata=metadata,
        groups=groups,
        numbers=np.array([g.number for g in groups], dtype=np.int64),
        firsts=np.array([g.first for g in groups], dtype=np.int64),
        lasts=np.array([g.last for g in groups], dtype=np.int64),
    )


def _groups(metadata: pq.FileMetaData, index: int) -> Iterator[RowGroup]:
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        statistics = group.column(index).statistics
        if statistics is not None and statistics.has_min_max:
            yield RowGroup(statistics.min, statistics.max, group.num_rows, number)
        elif group.num_rows:
            yield RowGroup(int(_EVER.min), int(_EVER.max), group.num_rows, number, is_timed=False)
