"""What a killed server or a killed start leaves behind, and how it goes."""

import hashlib
import os
import shutil
import signal
import time
from pathlib import Path

from caspers_lib.lakebase import watchdog

__all__ = ["NEW_DATA", "area_prefix", "clear_remains", "end_programs"]

NEW_DATA = "data-new-"
"""Start of the name of a data folder that is being made."""

_PROGRAMS = ("postgres", "initdb")
_REMOVE_SECONDS = 5.0


def area_prefix(data: Path) -> str:
    """Start of the names of a data folder's temporary folders.

    Args:
        data: the data folder.
    """
    return f"{watchdog.AREA_PREFIX}{hashlib.sha256(os.fsencode(data)).hexdigest()[:8]}-"


def clear_remains(data: Path, run: Path, temporary: Path) -> None:
    """Remove what is left beside and in a data folder; its server is dead.

    Args:
        data: the data folder.
        run: the folder of the socket.
        temporary: where its temporary folders are.
    """
    record = watchdog.read_record(data)
    if record is not None:
        if record.run is not None and not watchdog.answers(record.run):  # not the original's
            watchdog.remove_area(record.run, data)
        if watchdog.is_taken_over(data, record):
            # PostgreSQL would take the process that has the number now for its server.
            (data / "postmaster.pid").unlink()
    shutil.rmtree(run, ignore_errors=True)
    for area in temporary.glob(f"{area_prefix(data)}*"):  # of a start that was killed
        if area.stat().st_uid == os.geteuid():
            shutil.rmtree(area, ignore_errors=True)
    for remains in data.parent.glob(f"{NEW_DATA}*"):
        _remove(remains)


def end_programs(data: Path) -> None:
    """Kill what still works on a data folder after its server, or its starter, was killed.

    A busy back end would work on for hours, and an `initdb` finish for nobody. Nothing is lost by
    it: no transaction of theirs can commit any more, and the next start recovers what did.

    Args:
        data: the data folder, of which no server and no starter lives.
    """
    for process in Path("/proc").glob("[0-9]*"):
        try:
            program = (process / "exe").readlink().name.removesuffix(" (deleted)")
            if program in _PROGRAMS and _works_on(process, data):
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:  # has ended meanwhile, or is somebody else's
            continue


def _works_on(process: Path, data: Path) -> bool:
    if (process / "cwd").samefile(data):
        return True
    for variable in (process / "environ").read_bytes().split(b"\0"):
        name, _, value = variable.partition(b"=")
        if name == b"PGDATA":
            # The folder may have been handed down open.
            path = os.fsdecode(value).replace("/proc/self/", f"{process}/", 1)
            return Path(path).samefile(data)
    return False


def _remove(folder: Path) -> None:
    """Remove a folder, also from under a program that still writes to it."""
    deadline = time.monotonic() + _REMOVE_SECONDS
    while folder.exists() and time.monotonic() < deadline:
        end_programs(folder)
        shutil.rmtree(folder, ignore_errors=True)
