"""The record of a workspace's resources as a file, for whoever has neither Spark nor a warehouse.

One JSON document for all workspaces and targets, replaced as a whole: a reader sees the old one or
the new one. Contract: DESIGN section 9.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from caspers_lib.errors import ResourceStateError
from caspers_lib.runtime.workspace.resource_state import (
    GONE_OR_FOUND,
    RESOURCES,
    Resource,
    age,
    restored,
    stored,
    to_micros,
)

__all__ = ["FileResourceStore"]

_VERSION = 1
_HINT = "Restore it from a copy. Without it nobody knows what is to be deleted."


@dataclass(frozen=True, slots=True)
class FileResourceStore:
    """The record as a file of this machine.

    Args:
        path: the file; a lock file lies beside it.
        workspace: whose rows.
        target: whose rows.
    """

    path: Path
    workspace: str
    target: str

    def prepare(self) -> None:
        """See that the file exists.

        Raises:
            ResourceStateError: it can't be written, or what is there can't be read.
        """
        with self._locked():
            if self.path.exists():
                self._rows()
            else:
                self._replace([])

    def read(self) -> tuple[Resource, ...]:
        """Rows of this workspace and target, oldest first.

        Raises:
            ResourceStateError: the file can't be read: it is never taken for an empty one.
        """
        mine = (row for row in self._rows() if self._is_mine(row))
        found = (restored(str(self.path), _with_micros(self.path, row)) for row in mine)
        return tuple(sorted(found, key=age))

    def write(self, resource: Resource) -> None:
        """Insert or replace a row; it is on the disk when this returns.

        Args:
            resource: the whole row, as it is to be.

        Raises:
            ResourceStateError: the file can't be read or written.
        """
        new = stored(self.workspace, self.target, resource) | {
            "created_at": resource.created_at.isoformat(),
            "updated_at": resource.updated_at.isoformat(),
        }
        with self._locked():
            others = [row for row in self._rows() if _key(row) != _key(new)]
            self._replace([*others, new])

    def others_live(self) -> bool:
        """Whether another workspace or target has rows that are neither deleted nor found.

        Raises:
            ResourceStateError: the file can't be read.
        """
        others = (row for row in self._rows() if not self._is_mine(row))
        return any(row["status"] not in GONE_OR_FOUND for row in others)

    def _is_mine(self, row: dict[str, Any]) -> bool:
        return (row["workspace"], row["target"]) == (self.workspace, self.target)

    def _rows(self) -> list[dict[str, Any]]:
        try:
            document = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise _unreadable(self.path, "it is not there", "Was it prepared?") from error
        except (OSError, ValueError, RecursionError) as error:
            raise _unreadable(self.path, str(error)) from error
        if not isinstance(document, dict) or document.get("version") != _VERSION:
            raise _unreadable(self.path, f"it is no document of version {_VERSION}")
        rows = document.get("resources")
        names = {column.name for column in RESOURCES.columns}
        if not isinstance(rows, list) or not all(_is_row(row, names) for row in rows):
            raise _unreadable(self.path, "a row is none of ours")
        return rows

    def _replace(self, rows: list[dict[str, Any]]) -> None:
        text = json.dumps({"version": _VERSION, "resources": rows}, indent=2) + "\n"
        aside = self.path.with_name(f".{self.path.name}.aside")
        try:
            with aside.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(self.path)
            _sync_folder(self.path.parent)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time, of all threads and processes."""
        lock = self.path.with_name(f".{self.path.name}.lock")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError as error:
                raise _unwritable(self.path, error) from error
            yield
        finally:
            os.close(descriptor)


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[column] for column in RESOURCES.key)


def _is_row(row: object, names: set[str]) -> bool:
    return (
        isinstance(row, dict)
        and set(row) == names
        and all(isinstance(value, str) for value in row.values())
    )


def _with_micros(path: Path, row: dict[str, Any]) -> dict[str, Any]:
    try:
        moments = {k: datetime.fromisoformat(row[k]) for k in ("created_at", "updated_at")}
        return row | {name: to_micros(moment) for name, moment in moments.items()}
    except (ValueError, TypeError) as error:  # a TypeError if it has no time zone
        raise _unreadable(path, f"a moment is none: {error}") from error


def _sync_folder(folder: Path) -> None:
    """Make a renaming last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unreadable(path: Path, reason: str, hint: str = _HINT) -> ResourceStateError:
    return ResourceStateError(
        f"The record of resources {path} can't be read: {' '.join(reason.split())}", hint=hint
    )


def _unwritable(path: Path, error: OSError) -> ResourceStateError:
    return ResourceStateError(
        f"The record of resources {path} can't be written: {error.strerror}",
        hint="See that its folder may be written and has space left.",
    )
