"""Event files that can't be read: set aside with the reason, so that the others can be.

A file that is cut off or broken fails the whole micro-batch that it is in, and every later update
begins with that batch. The batch commits nothing: once the file is out of the way, it is read again
without it, and nothing of the file is in any table.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from caspers_lib.errors import PipelineError, first_cause

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["UnreadableFile", "read_despite_bad_files", "unreadable_files", "why_unreadable"]

# Spark reads no name that begins so.
_ASIDE = "_unreadable"
_REASON = ".reason"
# What an error says before the cause, and the list of files says beside it.
_WHERE = re.compile(r"^\[FAILED_READ_FILE\S* Encountered error while reading file \S+: ")


@dataclass(frozen=True, slots=True)
class UnreadableFile:
    """An event file that is in no table.

    Args:
        path: where it is, relative to the folder of the events.
        reason: why it can't be read.
    """

    path: str
    reason: str


def unreadable_files(events: Path) -> tuple[UnreadableFile, ...]:
    """The files that were set aside, and links that lead nowhere.

    Args:
        events: folder of the event files; it need not be there.
    """
    aside = [
        UnreadableFile(
            str(reason.relative_to(events)).removesuffix(_REASON),
            reason.read_text(encoding="utf-8").strip(),
        )
        for reason in sorted((events / _ASIDE).rglob(f"*{_REASON}"))
    ]
    links = [
        UnreadableFile(str(link.relative_to(events)), "the link leads nowhere")
        for link in (Path(entry.path) for entry in _entries(events) if entry.is_symlink())
        if not link.exists()
    ]
    return (*aside, *sorted(links, key=lambda file: file.path))


def read_despite_bad_files(
    events: Path,
    read: Callable[[], None],
    why_unreadable: Callable[[Path], str | None],
    on_event: Callable[[str], None],
) -> None:
    """Run `read`; as long as a file fails it, set that file aside and run it again.

    Args:
        events: folder of the event files.
        read: an update of the tables that are made of them.
        why_unreadable: reads one file alone and says why it can't; None where it can.
        on_event: receives a line for each file that is set aside or has vanished.

    Raises:
        PipelineError: `read` failed for another reason, or a file can't be set aside.
    """
    before = set()
    for entry in list(_entries(events)):
        if refusal := _why_refused(entry):
            on_event(_set_aside(events, Path(entry.path), refusal))
        else:
            before.add(entry.path)
    while True:
        try:
            read()
            break
        except PipelineError as error:
            path = _named_file(error.message, before)
            reason = None if path is None else why_unreadable(path)
            if path is None or reason is None:
                raise
            before.discard(str(path))
            on_event(_set_aside(events, path, reason))
    vanished = sorted(path for path in before if not os.path.lexists(path))
    if vanished:
        more = f" and {len(vanished) - 1} more" if vanished[1:] else ""
        on_event(f"{vanished[0]}{more} vanished while files were read; its events may be missing")


def _entries(folder: Path) -> Iterator["os.DirEntry[str]"]:
    """What a reader of the events sees, at any depth."""
    try:
        listing = os.scandir(folder)
    except OSError:
        # It is not there, or Spark will name it as what can't be read.
        return
    with listing:
        for entry in listing:
            if entry.name[0] in "._":
                continue
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(Path(entry.path))


def _why_refused(entry: "os.DirEntry[str]") -> str:
    """Why Spark must not open a file: it would wait, run out of memory or find no line in it."""
    if not entry.is_file():
        return "" if entry.is_dir() or entry.is_symlink() else "it is not a regular file"
    suffix = Path(entry.name).suffix
    if suffix not in {".bz2", ".lz4", ".snappy"}:
        return ""
    try:
        with Path(entry.path).open("rb") as file:
            head = file.read(8)
    except OSError as error:
        return f"{error.strerror}"
    if suffix == ".bz2":
        return "" if not head or head.startswith(b"BZh") else "it is not a bzip2 file"
    # Two lengths: of the block and, within it, of its first chunk.
    framed = len(head) == 8 and int.from_bytes(head[4:]) <= entry.stat().st_size - 8
    if framed or not head:
        return ""
    return f"it is not in Hadoop's framing of {suffix}, the only one that Spark reads"


def _named_file(message: str, paths: set[str]) -> Path | None:
    """The file that an error names."""
    # Spark names it as a URI or as a path.
    decoded = unquote(message)
    named = [path for path in paths if path in message or path in decoded]
    return Path(max(named, key=len)) if named else None


def why_unreadable(spark: "SparkSession", path: Path) -> str | None:
    """Why Spark can't read the lines of a file, in one line; None where it can."""
    from pyspark.errors import PySparkException

    try:
        # A path is a pattern, in which each of these characters stands for itself.
        spark.read.format("text").load(re.sub(r"([\\*?\[\]{},])", r"\\\1", str(path))).count()
    except PySparkException as error:
        return _WHERE.sub("", first_cause(error))
    return None


def _set_aside(events: Path, path: Path, reason: str) -> str:
    """Move the file out of the way, with its reason beside it; returns a line that says so."""
    target = events / _ASIDE / path.relative_to(events)
    while os.path.lexists(target):
        target = target.with_name(f"again-{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # The reason first: a file is never aside without one.
        target.with_name(target.name + _REASON).write_text(f"{reason}\n", encoding="utf-8")
        path.rename(target)
    except OSError as error:
        raise PipelineError(
            f"The event file {path} can't be read ({reason}), nor moved away: {error.strerror}",
            hint="move it out of the folder; the next update reads the others",
        ) from error
    return f"{path.relative_to(events)} is set aside in {_ASIDE}: {reason}"
