"""What a ROOT says of itself in `root.json`, and which ROOT is refused.

The record is written with the first thing under ROOT. It names the layout, the domain and the
names that are parts of paths, which all stay, and the folder that ROOT was when it was owned last.
"""

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from caspers_lib import __version__
from caspers_lib.domain import GHOST_KITCHEN, Domain
from caspers_lib.errors import RootError

if TYPE_CHECKING:
    from caspers_lib.runtime.local_root import LocalRoot

__all__ = ["LAYOUT", "RootRecord", "check_root", "new_record"]

LAYOUT = 1
"""Which files lie where, and what they hold; another number is another version's."""

# Settings that are parts of paths.
_NAMES = {"catalog", "events_volume", "simulator_schema"}


class _Folder(BaseModel):
    """Which folder ROOT is, whatever its path.

    Args:
        device: number of its file system; it may change when the machine starts again.
        inode: its number there; a copy has another.
        path: where it is, links resolved.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    device: int
    inode: int
    path: str

    @classmethod
    def of(cls, path: Path) -> Self:
        status = path.stat()
        return cls(device=status.st_dev, inode=status.st_ino, path=os.path.realpath(path))

    def is_same(self, other: "_Folder") -> bool:
        """Whether both are one folder, before and after a move."""
        return self.inode == other.inode and (
            self.device == other.device or self.path == other.path
        )


class RootRecord(BaseModel):
    """What `root.json` holds.

    Args:
        layout: which files lie where, and what they hold: `LAYOUT`.
        version: the library's version that made ROOT.
        domain: name of the business.
        catalog: setting of this name, part of paths.
        simulator_schema: the same.
        events_volume: the same.
        folder: which folder ROOT was when a process owned it last.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    layout: int
    version: str
    domain: str
    catalog: str
    simulator_schema: str
    events_volume: str
    folder: _Folder


def check_root(root: "LocalRoot", domain: Domain = GHOST_KITCHEN) -> RootRecord | None:
    """Refuse a ROOT that this version can't go on with; nothing is written.

    Args:
        root: what is checked.
        domain: the business that it should hold.

    Returns:
        Its record; None for a ROOT that is new.

    Raises:
        RootError: another version or another domain made it, it has other names, its record is
            damaged, or it was copied while in use.
    """
    record = _read(root)
    if record is None:
        return None
    if record.domain != domain.name:
        raise RootError(
            f"ROOT {root.path} holds the domain {record.domain!r}, not {domain.name!r}",
            hint=f"choose another folder with --root, or begin anew: `{_destroy(root)}`",
        )
    for name in sorted(_NAMES):
        recorded, given = getattr(record, name), getattr(root.settings, name)
        if recorded != given:
            raise RootError(
                f"ROOT {root.path} has the {name.upper()} {recorded!r}, not {given!r}",
                hint=f"set CASPERS_{name.upper()}={shlex.quote(recorded)}, or choose another"
                " folder with --root",
            )
    _refuse_torn_copy(root, record)
    return record


def new_record(root: "LocalRoot", domain: Domain, known: RootRecord | None) -> RootRecord:
    """The record of ROOT from now on.

    Args:
        root: what is recorded; the folder exists.
        domain: the business that a new ROOT will hold.
        known: its record so far; None for a new ROOT.
    """
    folder = _Folder.of(root.path)
    if known is not None:
        return known.model_copy(update={"folder": folder})
    names = root.settings.model_dump(include=_NAMES)
    return RootRecord(
        layout=LAYOUT, version=__version__, domain=domain.name, folder=folder, **names
    )


def _read(root: "LocalRoot") -> RootRecord | None:
    """The record; None for a ROOT that is new."""
    try:
        text = root.record.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        if any((root.path / part).exists() for part in ("warehouse", "Volumes", "postgres")):
            raise _other_version(root, "a version without records") from None
        return None
    try:
        document = json.loads(text)
        layout = document.get("layout") if isinstance(document, dict) else None
        if isinstance(layout, int) and layout != LAYOUT:
            raise _other_version(root, f"version {document.get('version')}")
        record = RootRecord.model_validate(document)
    except ValueError as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise RootError(
            f"{root.record} is not the record of a ROOT: {reason}",
            hint=f"restore it from a copy, or begin anew: `{_destroy(root)}`",
        ) from error
    return record


def _refuse_torn_copy(root: "LocalRoot", record: RootRecord) -> None:
    """Refuse a copy that was made while files were being written.

    A checkpoint that was copied after its table would lose rows, and a server's data folder that
    was copied while it ran is not sound. The marks of a killed process don't matter in its own
    place: there every file is as it left them.
    """
    marks = [mark for mark in (root.in_use, root.postgres / "postmaster.pid") if mark.exists()]
    if marks and not record.folder.is_same(_Folder.of(root.path)):
        raise RootError(
            f"ROOT {root.path} was copied from {record.folder.path} while that was in use: its "
            "tables, checkpoints and PostgreSQL may contradict each other",
            hint="end what runs there and copy it again; if nothing ran there, "
            f"`{shlex.join(['rm', *map(str, marks)])}`",
        )


def _other_version(root: "LocalRoot", version: str) -> RootError:
    return RootError(
        f"ROOT {root.path} was made by {version} of caspers_lib; this is {__version__}",
        hint=f"go on with the version that made it, or begin anew: `{_destroy(root)}`",
    )


def _destroy(root: "LocalRoot") -> str:
    return f"caspers destroy --root {shlex.quote(str(root.path))}"
