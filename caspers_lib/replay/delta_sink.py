"""Events into a Delta table, without Spark, each exactly once.

A window is one commit, which carries the window's name as an application transaction: a window
whose name the table knows is not written again.
"""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa

from caspers_lib.domain import GHOST_KITCHEN, Column, Domain
from caspers_lib.errors import SinkError, first_cause
from caspers_lib.replay.event_files import (
    cut_batches,
    flush_file,
    flush_folder,
    make_folder,
    sink_errors,
    whole_file,
)
from caspers_lib.replay.form import Form, event_arrow_schema

if TYPE_CHECKING:
    from deltalake import DeltaTable, Field, Schema
    from deltalake.transaction import AddAction
    from pyarrow.parquet import FileMetaData, ParquetWriter

__all__ = ["EVENTS_PER_FILE", "DeltaSink"]

EVENTS_PER_FILE = 500_000
_ROWS_PER_GROUP = 50_000
_DELTA_TYPES = {"STRING": "string", "INT": "integer"}
# Later writer versions add constraints, generated columns, column mapping and the like, which a
# file written without their knowledge could break.
_WRITER_VERSION = 2


@dataclass(frozen=True, slots=True)
class DeltaSink:
    """A Delta table that receives events, a window a commit.

    Readers see a window whole or not at all. The data files are named for their window: what a
    killed run left of one is no part of the table, and is replaced when the window is written.
    The file system must know hard links, with which Delta's log is written safely; the mount of a
    Unity Catalog volume does not: there Spark writes Delta.

    Args:
        path: the table's folder; made with its table if missing.
        domain: the business, whose event columns are the table's.
        events_per_file: rows after which the next data file of a window begins.
    """

    path: Path
    domain: Domain = GHOST_KITCHEN
    events_per_file: int = EVENTS_PER_FILE

    @property
    def form(self) -> Form:
        """The event's columns."""
        return "columns"

    def write(
        self,
        batches: Iterable[pa.RecordBatch],
        *,
        name: str,
        on_events: Callable[[int], None] = lambda _count: None,
    ) -> int:
        """Append a window's events and return how many there are.

        Args:
            batches: the events in time order; not touched if the table has the window.
            name: the window's name; the table takes each name once.
            on_events: called with the number of events of each written piece.

        Raises:
            SinkError: the table can't be written, is another table than one of events, or
                `deltalake` is missing. The table is as before.
        """
        table = _events_table(self.path, self.domain)
        known = table.transaction_version(_transaction(name))
        if known is not None:
            on_events(known)
            return known
        total, files = self._write_files(batches, name, on_events)
        if files:
            _commit(self.path, table, files, name, total)
        return total

    def _write_files(
        self, batches: Iterable[pa.RecordBatch], name: str, on_events: Callable[[int], None]
    ) -> "tuple[int, list[AddAction]]":
        total, files = 0, []
        pieces = cut_batches(batches, self.events_per_file)
        for number, group in itertools.groupby(pieces, key=lambda piece: piece[0]):
            path = self.path / f"part-{number:05d}-{name}-c000.zstd.parquet"
            with whole_file(path) as file, _parquet_writer(file, self.path, self.domain) as writer:
                for rows in _row_groups(piece for _, piece in group):
                    with sink_errors(self.path):
                        writer.write_table(rows)
                    total += rows.num_rows
                    on_events(rows.num_rows)
            files.append(_add_action(path))
        return total, files


def _transaction(name: str) -> str:
    """The application transaction that a window is; its version is the number of its events."""
    return f"caspers_replay/{name}"


def _events_table(path: Path, domain: Domain) -> "DeltaTable":
    """The table of events at `path`, made if missing.

    Raises:
        SinkError: there is another table, or none can be made.
    """
    try:
        from deltalake import DeltaTable
    except ImportError as error:
        raise SinkError(
            "Events can't be written as a Delta table: `deltalake` is not installed",
            hint="`pip install 'caspers_lib[local]'`",
        ) from error
    make_folder(path)
    with _delta_errors(path):
        if not DeltaTable.is_deltatable(str(path)):
            table = DeltaTable.create(str(path), _table_schema(domain))
            _flush_log(path, [0])
            return table
        table = DeltaTable(str(path))
    _refuse_other(table, path, domain)
    return table


def _table_schema(domain: Domain) -> "Schema":
    from deltalake import Field, Schema
    from deltalake.schema import PrimitiveType

    def field(column: Column) -> Field:
        kind = PrimitiveType(_DELTA_TYPES[column.type])
        return Field(column.name, kind, metadata={"comment": column.comment})

    return Schema([field(column) for column in domain.event_columns])


def _refuse_other(table: "DeltaTable", path: Path, domain: Domain) -> None:
    """Refuse a table in which files of events, added as they are, would not be right."""
    found, wanted = (
        [_described(f) for f in s.fields] for s in (table.schema(), _table_schema(domain))
    )
    reason = ""
    if found != wanted:
        reason = f"its columns are {', '.join(found)}; a table of events has {', '.join(wanted)}"
    elif table.metadata().partition_columns:
        reason = f"it is partitioned by {', '.join(table.metadata().partition_columns)}"
    elif table.protocol().min_writer_version > _WRITER_VERSION:
        reason = (
            f"it asks for Delta's writer version {table.protocol().min_writer_version}; "
            f"{_WRITER_VERSION} is the highest whose tables are written here"
        )
    if reason:
        raise SinkError(
            f"Events can't be written into the Delta table {path}: {reason}",
            hint="choose another folder; a table that is missing is made",
        )


def _described(field: "Field") -> str:
    kind = getattr(field.type, "type", field.type)
    # What else a column's metadata says (an invariant, an identity) would have to be kept to.
    more = sorted(set(field.metadata) - {"comment"})
    return " ".join([field.name, str(kind), *([] if field.nullable else ["not null"]), *more])


@contextmanager
def _parquet_writer(file: BinaryIO, folder: Path, domain: Domain) -> "Iterator[ParquetWriter]":
    """A writer of events whose footer is in the file at the end."""
    from pyarrow.parquet import ParquetWriter

    schema = event_arrow_schema(domain)
    # Readers skip files by these columns; bodies are long and never compared.
    compared = [name for name in schema.names if name != "body"]
    with sink_errors(folder):
        writer = ParquetWriter(file, schema, compression="zstd", write_statistics=compared)
    try:
        yield writer
    except BaseException:
        # Left open it would be closed later, into a file that is no longer there.
        with suppress(OSError):
            writer.close()
        raise
    with sink_errors(folder):
        writer.close()


def _row_groups(pieces: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Pieces put together, so that a row group is worth its metadata."""
    waiting: list[pa.RecordBatch] = []
    for piece in pieces:
        waiting.append(piece)
        if sum(p.num_rows for p in waiting) >= _ROWS_PER_GROUP:
            yield pa.Table.from_batches(waiting)
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting)


def _add_action(path: Path) -> "AddAction":
    """A written file as an entry of the log, with its columns' statistics."""
    from deltalake.transaction import AddAction
    from pyarrow.parquet import read_metadata

    with sink_errors(path.parent):
        stat, metadata = path.stat(), read_metadata(path)
    return AddAction(
        path=path.name,
        size=stat.st_size,
        partition_values={},
        modification_time=stat.st_mtime_ns // 1_000_000,
        data_change=True,
        stats=json.dumps(_statistics(metadata)),
    )


def _statistics(metadata: "FileMetaData") -> dict[str, Any]:
    """The file's statistics as Delta's log has them, from its row groups' own."""
    least: dict[str, Any] = {}
    most: dict[str, Any] = {}
    groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
    for index in range(metadata.num_columns):
        chunks = [group.column(index) for group in groups]
        # Parquet keeps none of very long values.
        if all(c.is_stats_set and c.statistics.has_min_max for c in chunks):
            name = chunks[0].path_in_schema
            least[name] = min(c.statistics.min for c in chunks)
            most[name] = max(c.statistics.max for c in chunks)
    return {"numRecords": metadata.num_rows, "minValues": least, "maxValues": most}


def _commit(
    path: Path, table: "DeltaTable", files: "list[AddAction]", name: str, total: int
) -> None:
    """Make a window's files part of the table, all at once, under its name."""
    from deltalake import CommitProperties, Transaction

    before = table.version()
    with _delta_errors(path):
        flush_folder(path)
        table.create_write_transaction(
            [*files],
            mode="append",
            schema=table.schema(),
            commit_properties=CommitProperties(
                app_transactions=[Transaction(_transaction(name), total)]
            ),
        )
        table.update_incremental()
        _flush_log(path, range(before + 1, table.version() + 1))


def _flush_log(path: Path, versions: Iterable[int]) -> None:
    """Wait until commits are on disk: the replay's state goes on from here."""
    log = path / "_delta_log"
    for version in versions:
        flush_file(log / f"{version:020}.json")
    flush_folder(log)


@contextmanager
def _delta_errors(path: Path) -> Iterator[None]:
    from deltalake.exceptions import DeltaError

    try:
        with sink_errors(path):
            yield
    except DeltaError as error:
        raise SinkError(
            f"Events can't be written into the Delta table {path}: {first_cause(error)}",
            hint="run again: a window that is not in the table yet is written whole",
        ) from error
