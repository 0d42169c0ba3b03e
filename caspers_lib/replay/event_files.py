"""How events get into files: cut to size, written aside, flushed to disk, then named.

Files appear whole, under a name that readers see only at the end.

Everything here is the plain file API, in what a Unity Catalog volume's mount can do: files are
written from their beginning to their end, renamed within their folder and removed. It can't
append, write at random, lock or link, so nothing here does.
"""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from caspers_lib.errors import SinkError

__all__ = ["cut_batches", "flush_file", "flush_folder", "make_folder", "sink_errors", "whole_file"]

_HINTS = {
    errno.ENOSPC: "free some disk space",
    errno.EDQUOT: "free some of the disk quota",
    errno.EFBIG: "raise the largest size that a file may have here",
    errno.EACCES: "let this user write there, or choose another folder",
    errno.EPERM: "let this user write there, or choose another folder",
    errno.EROFS: "choose a folder that can be written",
    errno.EEXIST: "choose a folder, not a file",
    errno.ENOTDIR: "choose a folder, not a file",
}


@contextmanager
def sink_errors(folder: Path) -> Iterator[None]:
    """Turn what the file system refuses into one clear error.

    Args:
        folder: where events were to be written.

    Raises:
        SinkError: in place of an OSError, which is its cause.
    """
    try:
        yield
    except OSError as error:
        cure = _HINTS.get(error.errno or 0, "see to the cause")
        raise SinkError(
            f"Events can't be written into {folder}: {error.strerror or error}",
            hint=f"{cure}, then run again: the window is written whole",
        ) from error


def make_folder(folder: Path) -> None:
    """Make the folder that receives events, where it is missing.

    Raises:
        SinkError: it can't be made.
    """
    with sink_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that gets its name when it is complete and on disk, and none when writing fails.

    What a killed process leaves aside is replaced when the same file is written again.

    Raises:
        SinkError: the file system refuses it.
    """
    aside = path.with_name(f".{path.name}.tmp")
    with sink_errors(path.parent):
        file = aside.open("wb")
    try:
        yield file
        with sink_errors(path.parent):
            file.flush()
            os.fsync(file.fileno())
            file.close()
            aside.replace(path)
    except BaseException:
        # On a full disk closing fails too, over the bytes that are still buffered.
        with suppress(OSError):
            file.close()
        with suppress(OSError):
            aside.unlink()
        raise


def flush_file(path: Path) -> None:
    """Wait until a file or folder that someone else wrote is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk."""
    try:
        flush_file(folder)
    except OSError as error:
        # Some mounted file systems, such as those of volumes, may know no flushing of folders.
        if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS}:
            raise


def cut_batches(
    batches: Iterable[pa.RecordBatch], rows_per_file: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Batches cut at file boundaries, each piece with its file's number, counted from 0."""
    written = 0
    for batch in batches:
        start = 0
        while start < batch.num_rows:
            room = rows_per_file - written % rows_per_file
            piece = batch.slice(start, room)
            yield written // rows_per_file, piece
            start += piece.num_rows
            written += piece.num_rows
