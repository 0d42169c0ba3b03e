"""Paths as Spark, Delta and DuckDB need them: plain names, and logs of files that follow a move.

They take some characters of a path for a pattern, decode others, and a JVM of another locale can't
open a third kind. A stream's log keeps the absolute paths of the files that it has read.
"""

import atexit
import hashlib
import json
import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote, unquote

from caspers_lib.errors import EngineError

__all__ = ["plain_folder", "plain_path", "rebase_file_log"]


def plain_path(path: Path) -> Path:
    """A file or folder under a name that Spark, Delta and DuckDB take as it is.

    Args:
        path: a file or folder.

    Returns:
        The absolute path itself where it has but ASCII letters, digits and `_.-~/`; else a link
        to it, alone in its parent folder, that lasts as long as this process.

    Raises:
        EngineError: the temporary folder has no plain name either.
    """
    path = path.absolute()
    if _is_plain(path):
        return path
    parent = _links() / hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    link = parent / (path.name if _is_plain(Path(path.name)) else "link")
    if not link.is_symlink():
        parent.mkdir(exist_ok=True)
        link.symlink_to(path)
    return link


def plain_folder(folder: Path) -> Path:
    """The same for a folder, which is made if it isn't there; see `plain_path`."""
    if not _is_plain(folder.absolute()):
        folder.mkdir(parents=True, exist_ok=True)
    return plain_path(folder)


def rebase_file_log(checkpoint: Path, folder: Path) -> None:
    """Let a stream know the files that it has read by where their folder is now.

    Each part of its log is replaced whole; what was cut off is done by the next call.

    Args:
        checkpoint: the stream's checkpoint; its source is one folder of files.
        folder: that folder now, a plain absolute path.
    """
    base = f"file://{folder}/"
    for log in checkpoint.glob("sources/0/[0-9]*"):
        text = log.read_text(encoding="utf-8").rstrip("\n")
        version, *lines = text.split("\n")
        if text.count(f'"path":"{base}') == len(lines):
            continue
        entries = [json.loads(line) for line in lines]
        tails: dict[str, str] = {}
        for entry in entries:
            parent, _, name = entry["path"].rpartition("/")
            if parent not in tails:
                tails[parent] = _tail(parent, name, folder)
            entry["path"] = base + tails[parent] + name
        aside = log.with_name(f".{log.name}.tmp")
        rebased = [json.dumps(e, ensure_ascii=False, separators=(",", ":")) for e in entries]
        aside.write_text("\n".join([version, *rebased]), encoding="utf-8")
        # A checksum that is missing is none that contradicts.
        log.with_name(f".{log.name}.crc").unlink(missing_ok=True)
        aside.replace(log)


def _tail(parent: str, name: str, folder: Path) -> str:
    """What of a file's former parent folder lies below the folder: the longest that is there.

    Where none is there the file is gone, and no stream will meet it again.
    """
    parts = parent.split("/")
    for begin in range(1, len(parts)):
        tail = "/".join(parts[begin:]) + "/"
        # False, not an error, for a path that is too long.
        if os.path.exists(f"{folder}/{unquote(tail + name)}"):  # noqa: PTH110
            return tail
    return ""


def _is_plain(path: Path) -> bool:
    return quote(str(path)) == str(path)


@cache
def _links() -> Path:
    scratch = TemporaryDirectory(prefix="caspers-")
    atexit.register(scratch.cleanup)
    folder = Path(scratch.name)
    if not _is_plain(folder):
        raise EngineError(
            f"Spark, Delta and DuckDB can't work in the temporary folder {folder.parent}: its name"
            " may have ASCII letters, digits and _.-~ only",
            hint="set TMPDIR to another folder",
        )
    return folder
