"""Events into a volume as JSON-lines files, in the layout `batched`.

Contract: DESIGN section 5. Files are named as a Spark JSON append names them and appear whole.
"""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from caspers_lib.replay.event_batches import Form

__all__ = ["EVENTS_PER_FILE", "VolumeSink", "count_events"]

EVENTS_PER_FILE = 100_000
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class VolumeSink:
    """A folder that receives events as JSON-lines files, as a Spark JSON append writes them.

    Args:
        folder: the volume.
        events_per_file: lines after which the next file begins.
    """

    folder: Path
    events_per_file: int = EVENTS_PER_FILE

    @property
    def form(self) -> Form:
        """Lines, as they stand in the files."""
        return "lines"

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
            batches: record batches whose first column holds one line, newline included, a row.
            name: what makes this set of files' names its own.
            on_events: called with the number of lines of each written piece.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        total = 0
        pieces = _pieces(batches, self.events_per_file)
        for number, group in itertools.groupby(pieces, key=lambda piece: piece[0]):
            with _whole_file(self.folder / f"part-{number:05d}-{name}-c000.json") as file:
                for _, lines in group:
                    file.write(_text_buffer(lines))
                    total += len(lines)
                    on_events(len(lines))
        return total


def count_events(folder: Path) -> int:
    """Number of events in the volume: the newlines of its whole files."""
    return sum(_count_newlines(path) for path in sorted(folder.glob("[!._]*.json")))


def _pieces(
    batches: Iterable[pa.RecordBatch], events_per_file: int
) -> Iterator[tuple[int, pa.Array]]:
    """Batches cut at file boundaries, each piece with its file's number."""
    written = 0
    for batch in batches:
        lines, start = batch.column(0), 0
        while start < len(lines):
            room = events_per_file - written % events_per_file
            piece = lines.slice(start, room)
            yield written // events_per_file, piece
            start += len(piece)
            written += len(piece)


def _text_buffer(lines: pa.Array) -> memoryview:
    """The lines' bytes, one after another, as they lie in the array's own buffer."""
    text = lines.cast(pa.large_string())
    _, offsets, data = text.buffers()
    ends = memoryview(offsets).cast("q")
    # The cast of a slice may begin at an offset of its own.
    return memoryview(data)[ends[text.offset] : ends[text.offset + len(text)]]


@contextmanager
def _whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that gets its name when it is complete and on disk, and none when writing fails."""
    aside = path.with_name(f".{path.name}.tmp")
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _count_newlines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(_READ_BYTES), b""))
