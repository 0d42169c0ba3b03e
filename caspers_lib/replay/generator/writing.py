"""Parquet files that appear whole."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from caspers_lib.errors import DatasetError
from caspers_lib.replay.dataset import EVENTS_SCHEMA, SORT_KEY
from caspers_lib.replay.processes import lives

__all__ = ["ROW_GROUP_ROWS", "EventsWriter", "files_that_appear_whole", "writing_to"]

ROW_GROUP_ROWS = 20_000


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write to `folder` into a `DatasetError`."""
    try:
        yield
    except OSError as error:
        raise DatasetError(
            f"The dataset folder {folder} can't be written: {error.strerror or error}",
            hint="choose a folder that you may write to, on a disk with room",
        ) from error


@contextmanager
def files_that_appear_whole(folder: Path, names: Sequence[str]) -> Iterator[dict[str, Path]]:
    """Paths to write to, by final name; they get their names when the block ends well.

    The temporary names begin with a dot and stand in the same folder. The last name is renamed
    last. When the block fails, nothing remains of it; what a killed process has left behind under
    the same names is removed here.

    Raises:
        DatasetError: the folder can't be made or written.
    """
    aside = {name: folder / f".{name}.{os.getpid()}.tmp" for name in names}
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            _remove_leftovers(folder, name)
    try:
        yield aside
        with writing_to(folder):
            for name, path in aside.items():
                path.replace(folder / name)
    finally:
        for path in aside.values():
            path.unlink(missing_ok=True)


def _remove_leftovers(folder: Path, name: str) -> None:
    """Remove the temporary files for `name` whose process is gone."""
    for path in folder.iterdir():
        found = re.fullmatch(rf"\.{re.escape(name)}\.([1-9][0-9]{{0,8}})\.tmp", path.name)
        if found and not lives(int(found[1])):
            path.unlink(missing_ok=True)


class EventsWriter:
    """Writes sorted events in row groups of exactly `ROW_GROUP_ROWS` (the last may be smaller).

    Args:
        path: the parquet file.
        metadata: key-value metadata of the file.
        compression_level: zstd's, 1 to 22; None is zstd's own choice.

    Attributes:
        rows: number of rows added so far.

    Raises:
        DatasetError: the file can't be written, here or in any method.
    """

    def __init__(
        self, path: Path, metadata: Mapping[bytes, bytes], *, compression_level: int | None = None
    ) -> None:
        self._schema = EVENTS_SCHEMA.with_metadata(dict(metadata))
        self._folder = path.parent
        order = [pq.SortingColumn(EVENTS_SCHEMA.get_field_index(name)) for name in SORT_KEY]
        with writing_to(self._folder):
            self._writer = pq.ParquetWriter(
                path,
                self._schema,
                compression="zstd",
                compression_level=compression_level,
                sorting_columns=order,
            )
        self._held = self._schema.empty_table()
        self.rows = 0

    def append(self, rows: pa.Table) -> None:
        """Add rows that come after all earlier ones."""
        self.rows += rows.num_rows
        self._held = pa.concat_tables([self._held, rows.cast(self._schema)])
        while self._held.num_rows >= ROW_GROUP_ROWS:
            self._write(self._held.slice(0, ROW_GROUP_ROWS))
            self._held = self._held.slice(ROW_GROUP_ROWS)

    def __enter__(self) -> Self:
        """The writer itself."""
        return self

    def __exit__(
        self,
        failed: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write what is held, unless the block failed, and close the file."""
        if failed is None and self._held.num_rows:
            self._write(self._held)
        with writing_to(self._folder):
            self._writer.close()

    def _write(self, rows: pa.Table) -> None:
        with writing_to(self._folder):
            self._writer.write_table(rows, row_group_size=ROW_GROUP_ROWS)
