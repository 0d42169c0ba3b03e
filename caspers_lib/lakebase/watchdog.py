"""What runs for a data folder, and the process that stops it when its last user is gone.

Runs as a script too, in a bare interpreter beside each user of the server: hence nothing but the
standard library. The users hold a shared lock, which the kernel drops even on kill -9; the watchdog
waits on a pipe that only its user holds open.
"""

import fcntl
import os
import shutil
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "AREA_PREFIX",
    "PORT",
    "ServerRecord",
    "answers",
    "is_server",
    "is_taken_over",
    "read_record",
    "remove_area",
    "stop_if_unused",
    "stop_server",
    "take_lock",
]

AREA_PREFIX = "caspers-pg-"
"""Start of the name of a server's temporary folder, made only where ROOT can't serve."""

PORT = 5432
"""Names the socket file; no TCP port is opened."""

_POLL_SECONDS = 0.05
_FAST_STOP_SECONDS = 30.0
_HARD_STOP_SECONDS = 10.0
# A dying user closes its pipe some moments before the kernel drops its lock, and what it was about
# to start may appear a little later.
_GRACE_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """What a server wrote about itself into `postmaster.pid`.

    Args:
        pid: its process id.
        data: the data folder as it was given.
        run: the folder of its socket; None in the first moments of its life.
        ready: it accepts connections.
    """

    pid: int
    data: Path
    run: Path | None
    ready: bool


def read_record(data: Path) -> ServerRecord | None:
    """Read `postmaster.pid`.

    Args:
        data: the server's data folder.

    Returns:
        Its contents, None where there is none or it is cut short; it may be stale.
    """
    try:
        lines = os.fsdecode((data / "postmaster.pid").read_bytes()).split("\n")
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    if not lines[0].strip().isdecimal():
        return None
    folder = Path(lines[1]) if len(lines) > 1 else data
    run = Path(lines[4]) if len(lines) > 4 and lines[4] else None
    is_ready = len(lines) > 7 and lines[7].strip() == "ready"
    return ServerRecord(int(lines[0]), folder, run, is_ready)


def is_server(data: Path, record: ServerRecord) -> bool:
    """Whether the server of a record lives.

    Args:
        data: the server's data folder.
        record: its `postmaster.pid`.
    """
    if not _is_alive(record.pid):
        return False
    try:
        if not _has_proc():
            return record.data.samefile(data) and record.run is not None and answers(record.run)
        # PostgreSQL works in its data folder; a zombie works nowhere.
        return Path(f"/proc/{record.pid}/cwd").samefile(data)
    except OSError:
        return False


def is_taken_over(data: Path, record: ServerRecord) -> bool:
    """Whether the server of a record is dead and its process number belongs to another process.

    Args:
        data: the server's data folder.
        record: its `postmaster.pid`.
    """
    return _has_proc() and _is_alive(record.pid) and not is_server(data, record)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _has_proc() -> bool:
    return Path("/proc/self/cwd").exists()


def answers(run: Path) -> bool:
    """Whether something listens on the socket in `run`.

    Args:
        run: the folder of the socket.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(os.fsencode(run / f".s.PGSQL.{PORT}"))
        except OSError:
            return False
    return True


def take_lock(lock: int, operation: int, seconds: float) -> bool:
    """Take a `flock` within a time.

    Args:
        lock: an open file descriptor.
        operation: `fcntl.LOCK_SH` or `fcntl.LOCK_EX`.
        seconds: how long to try; 0 tries once.

    Returns:
        Whether it is held now.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        else:
            return True


def stop_if_unused(data: Path, users: Path, *, patience: float) -> bool:
    """Stop the server of a data folder unless someone still holds the users' lock.

    Args:
        data: the server's data folder.
        users: the lock file that users hold shared.
        patience: seconds to wait for the lock, and for a server that is only just starting.

    Returns:
        Whether no server is left; False while others use it.

    Raises:
        TimeoutError: the server does not stop.
    """
    try:
        lock = os.open(users, os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        if not take_lock(lock, fcntl.LOCK_EX, patience):
            return False
        deadline = time.monotonic() + patience
        while not stop_server(data) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        return True
    finally:
        os.close(lock)


def remove_area(run: Path | None, data: Path) -> None:
    """Remove a server's temporary folder, if it had one.

    Args:
        run: the folder of the server's socket.
        data: its data folder.
    """
    if run is None or run.parent == data.parent or not run.parent.name.startswith(AREA_PREFIX):
        return
    shutil.rmtree(run.parent, ignore_errors=True)


def stop_server(data: Path) -> bool:
    """Stop the server of a data folder, whoever uses it.

    Args:
        data: the server's data folder.

    Returns:
        Whether one ran.

    Raises:
        TimeoutError: the server does not stop.
    """
    record = read_record(data)
    if record is None or not is_server(data, record):
        return False
    for number, seconds in (
        (signal.SIGINT, _FAST_STOP_SECONDS),
        (signal.SIGQUIT, _HARD_STOP_SECONDS),
    ):
        if _stopped(data, record, number, seconds):
            remove_area(record.run, data)
            return True
    raise TimeoutError(f"process {record.pid} does not stop")


def _stopped(data: Path, record: ServerRecord, number: int, seconds: float) -> bool:
    try:
        os.kill(record.pid, number)
    except ProcessLookupError:
        return True
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        # The file goes last; the process may stay as a zombie where nobody collects it.
        if read_record(data) is None or not is_server(data, record):
            return True
        time.sleep(_POLL_SECONDS)
    return False


def _main(data: str, users: str) -> None:
    sys.stdin.buffer.read()
    stop_if_unused(Path(data), Path(users), patience=_GRACE_SECONDS)


if __name__ == "__main__":
    _main(*sys.argv[1:])
