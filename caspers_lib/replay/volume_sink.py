"""Events into a volume as JSON: a file of many lines, or a file per event.

Layouts are `batched` and `per_event`. Files appear whole.
"""

import itertools
import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa

from caspers_lib.errors import SettingsError
from caspers_lib.replay.event_files import (
    cut_batches,
    flush_folder,
    make_folder,
    sink_errors,
    whole_file,
)
from caspers_lib.replay.form import Form

__all__ = ["EVENTS_PER_FILE", "Layout", "VolumeSink", "count_events"]

Layout = Literal["batched", "per_event"]

EVENTS_PER_FILE = 100_000
_READ_BYTES = 1 << 20
_EVENT_FILE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(-[0-9]+)?\.json")
_PIECE_EVENTS = 1_000
# A file's price is the wait for the disk, or on a volume for the object store. Waiting for several
# at a time lets a journal take them together.
_WRITERS = 16


@dataclass(frozen=True, slots=True)
class VolumeSink:
    """A folder that receives events as JSON files.

    Args:
        folder: the volume.
        events_per_file: lines after which the next file begins; in the layout `batched`.
        layout: `batched` is JSON lines, in files named as a Spark JSON append names them;
            `per_event` is a file per event, named for it.

    Raises:
        SettingsError: there is no such layout.
    """

    folder: Path
    events_per_file: int = EVENTS_PER_FILE
    layout: Layout = "batched"

    def __post_init__(self) -> None:
        """Refuse a layout that does not exist."""
        layouts = get_args(Layout)
        if self.layout not in layouts:
            raise SettingsError(
                f"The volume's layout is {self.layout!r}; allowed are {' and '.join(layouts)}",
                hint="`batched` is the default",
            )

    @property
    def form(self) -> Form:
        """Lines, as they stand in the files; with their files' names where each has its own."""
        return "lines" if self.layout == "batched" else "named_lines"

    def write(
        self,
        batches: Iterable[pa.RecordBatch],
        *,
        name: str,
        on_events: Callable[[int], None] = lambda _count: None,
    ) -> int:
        """Write lines and return how many there were.

        The same lines under the same name give the same files, byte for byte, whatever the
        batches' sizes.

        Args:
            batches: record batches of one line, newline included, a row: its first column, or
                the columns `line` and `name` in the layout `per_event`.
            name: what makes this set of files' names its own, in the layout `batched`.
            on_events: called with the number of lines of each written piece.

        Raises:
            SinkError: the folder can't be written. Files that have their names are whole; the
                same events under the same name give what an undisturbed run gives.
        """
        make_folder(self.folder)
        if self.layout == "batched":
            total = self._write_lines(batches, name, on_events)
        else:
            total = self._write_each(batches, on_events)
        with sink_errors(self.folder):
            flush_folder(self.folder)
        return total

    def _write_lines(
        self, batches: Iterable[pa.RecordBatch], name: str, on_events: Callable[[int], None]
    ) -> int:
        total = 0
        pieces = cut_batches(batches, self.events_per_file)
        for number, group in itertools.groupby(pieces, key=lambda piece: piece[0]):
            with whole_file(self.folder / f"part-{number:05d}-{name}-c000.json") as file:
                for _, piece in group:
                    with sink_errors(self.folder):
                        file.write(_text_buffer(piece.column(0)))
                    total += piece.num_rows
                    on_events(piece.num_rows)
        return total

    def _write_each(
        self, batches: Iterable[pa.RecordBatch], on_events: Callable[[int], None]
    ) -> int:
        total = 0
        with ThreadPoolExecutor(_WRITERS) as pool:
            for _, piece in cut_batches(batches, _PIECE_EVENTS):
                names = piece.column("name").to_pylist()
                lines = piece.column("line").to_pylist()
                # Taking the results raises what a writer raised; what has not begun is dropped.
                total += sum(pool.map(self._write_one, names, lines))
                on_events(piece.num_rows)
        return total

    def _write_one(self, name: str, line: str) -> int:
        data = line.encode()
        with whole_file(self.folder / f"{name}.json") as file, sink_errors(self.folder):
            file.write(data)
        return 1


def count_events(folder: Path) -> int:
    """Number of events in the volume, in either layout: in its whole files.

    A file named for an event, with a number where it is delivered again, holds one and is not
    opened: a hundred thousand of them cost a listing. Every other file has an event a line.
    """
    try:
        listing = os.scandir(folder)
    except FileNotFoundError:
        return 0
    with listing:
        names = [e.name for e in listing if e.name.endswith(".json") and e.name[0] not in "._"]
    many = [name for name in names if not _EVENT_FILE.fullmatch(name)]
    return len(names) - len(many) + sum(_count_newlines(folder / name) for name in many)


def _text_buffer(lines: pa.Array) -> memoryview:
    """The lines' bytes, one after another, as they lie in the array's own buffer."""
    text = lines.cast(pa.large_string())
    _, offsets, data = text.buffers()
    ends = memoryview(offsets).cast("q")
    # The cast of a slice may begin at an offset of its own.
    return memoryview(data)[ends[text.offset] : ends[text.offset + len(text)]]


def _count_newlines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(_READ_BYTES), b""))
