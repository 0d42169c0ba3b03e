"""How far each table that is kept incrementally is, and where that is written down."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

from caspers_lib.errors import PipelineError

__all__ = ["Position", "Positions", "PositionsFile"]


@dataclass(frozen=True, slots=True)
class Position:
    """How far a derived table is.

    Args:
        source_id: Delta's id of its source, which a table made anew does not share.
        version: version of the source up to which its rows are in the table.
        definition: digest of how the table is computed: another definition, another table.
    """

    source_id: str
    version: int
    definition: str


class Positions(Protocol):
    """Remembers positions by the table's name."""

    def get(self, table: str) -> Position | None:
        """The table's position; None where it has none."""

    def put(self, table: str, position: Position) -> None:
        """Remember it, all at once or not at all."""


@dataclass
class PositionsFile:
    """Positions in one JSON file, which is replaced whole.

    It also remembers that a full refresh has begun, so that one that was cut off is done again
    rather than left half done.

    Args:
        path: the file; it need not be there.
    """

    path: Path
    _lock: Lock = field(default_factory=Lock)

    def get(self, table: str) -> Position | None:
        """The table's position; None where it has none.

        Raises:
            PipelineError: the file is there and can't be read.
        """
        found = self._read()["tables"].get(table)
        try:
            return None if found is None else Position(**found)
        except TypeError as error:
            raise self._unreadable(error) from error

    def put(self, table: str, position: Position) -> None:
        """Remember the table's position."""
        with self._lock:
            document = self._read()
            document["tables"][table] = asdict(position)
            self._write(document)

    @property
    def is_refreshing(self) -> bool:
        """Whether a full refresh has begun and not ended."""
        return bool(self._read()["refreshing"])

    def set_refreshing(self, refreshing: bool) -> None:
        """Say that a full refresh begins, or has ended."""
        with self._lock:
            document = self._read()
            if document["refreshing"] != refreshing:
                self._write({**document, "refreshing": refreshing})

    def _read(self) -> dict[str, Any]:
        try:
            document = json.loads(self.path.read_text(encoding="utf-8"))
            return {
                "tables": dict(document["tables"]),
                "refreshing": bool(document["refreshing"]),
            }
        except FileNotFoundError:
            return {"tables": {}, "refreshing": False}
        except (ValueError, TypeError, KeyError) as error:
            raise self._unreadable(error) from error

    def _write(self, document: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        aside = self.path.with_name(f".{self.path.name}.tmp")
        with aside.open("w", encoding="utf-8") as file:
            json.dump(document, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self.path)

    def _unreadable(self, error: Exception) -> PipelineError:
        return PipelineError(
            f"The positions of the gold tables ({self.path}) can't be read: {error}",
            hint="delete the file: the next update computes these tables whole",
        )
