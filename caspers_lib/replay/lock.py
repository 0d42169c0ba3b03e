"""One run at a time: a lock file beside the replay's state, on any file system.

Contract: DESIGN section 5. Nothing but "create, if it is not there" and "rename" is asked of the
file system, so it holds on a volume as on a local folder. The file says who holds it and until
when; what a dead process left is recognised and taken away.
"""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal
from uuid import uuid4

from caspers_lib.errors import ReplayLockedError
from caspers_lib.replay.processes import lives, started

__all__ = ["LOCK_FILE", "Holder", "Lease", "ReplayLock"]

LOCK_FILE = "_replay_lock"
LEASE_SECONDS = 120.0
_RENEW_SECONDS = 10.0
_POLL_SECONDS = 0.02
_STEERING_SECONDS = 10.0
_WRITING_SECONDS = 3.0

Purpose = Literal["run", "steer"]
# What this process holds: a lock file of its own that is not here is one it lost.
_held: set[str] = set()


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the lock.

    Args:
        token: unique for each time it is held.
        purpose: a run writes events, steering takes a moment.
        host: the machine.
        pid: the process on it.
        started: the process's own start, so that a later one of the same number is another.
        until: wall clock after which another machine takes it as dead, UTC epoch seconds.
    """

    token: str
    purpose: Purpose
    host: str
    pid: int
    started: str
    until: float

    def is_dead(self, now: float) -> bool:
        """Whether its process has ended; of another machine, whether its lease has run out."""
        if self.host != socket.gethostname():
            return now > self.until
        if self.pid == os.getpid():
            return self.token not in _held
        return not lives(self.pid) or started(self.pid) != self.started


@dataclass
class Lease:
    """A lock that is held.

    Args:
        path: the lock file.
        holder: who holds it.
        clock: the wall clock, UTC epoch seconds.
    """

    path: Path
    holder: Holder
    clock: Callable[[], float]

    def renew(self) -> None:
        """Say that the holder lives; cheap to call often.

        Raises:
            ReplayLockedError: another run has taken the lock, as this one was silent too long.
        """
        if self.holder.until - self.clock() > LEASE_SECONDS - _RENEW_SECONDS:
            return
        current = _read(self.path)
        if current is None or current.token != self.holder.token:
            raise ReplayLockedError(
                f"Another run has taken the replay's lock {self.path}: this one was silent for "
                f"more than {LEASE_SECONDS:.0f} s",
                hint="nothing is lost: the other run finishes what this one began",
            )
        self.holder = replace(self.holder, until=self.clock() + LEASE_SECONDS)
        aside = self.path.with_name(f".{LOCK_FILE}.{self.holder.token}")
        aside.write_text(_text(self.holder), encoding="utf-8")
        aside.replace(self.path)


@dataclass(frozen=True, slots=True)
class ReplayLock:
    """The lock of the replay whose state lies in a folder.

    Args:
        folder: the state's folder.
        clock: the wall clock, UTC epoch seconds.
        sleep: waits for some wall-clock seconds.
    """

    folder: Path
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep

    @contextmanager
    def held(self, purpose: Purpose, *, wait: float = 0.0) -> Iterator[Lease]:
        """Hold the lock for the block.

        Args:
            purpose: what for.
            wait: wall-clock seconds to wait for a run that holds it; one who steers is always
                waited for.

        Raises:
            ReplayLockedError: another run holds it.
            ReplayStateError: the folder can't be written.
        """
        lease = self._take(purpose, wait)
        try:
            yield lease
        finally:
            try:
                current = _read(lease.path)
                if current is not None and current.token == lease.holder.token:
                    lease.path.unlink(missing_ok=True)
            finally:
                # Last: a lock file that its process doesn't hold is taken away by others.
                _held.discard(lease.holder.token)

    def _take(self, purpose: Purpose, wait: float) -> Lease:
        self.folder.mkdir(parents=True, exist_ok=True)
        since = self.clock()
        holder = _this_process(purpose, since + LEASE_SECONDS)
        # First: between making the file and filling this set, the holder would look dead.
        _held.add(holder.token)
        try:
            return self._wait_for(holder, since, wait)
        except BaseException:
            _held.discard(holder.token)
            raise

    def _wait_for(self, holder: Holder, since: float, wait: float) -> Lease:
        path, turn = self.folder / LOCK_FILE, self.folder / f".{LOCK_FILE}.turn"
        empty_since = since
        while True:
            now = self.clock()
            holder = replace(holder, until=now + LEASE_SECONDS)
            if _create(path, holder):
                return Lease(path, holder, self.clock)
            other = _read(path)
            if other is not None:
                empty_since = now
            # An empty file is being filled; if that lasts, its process died in between.
            if now - empty_since > _WRITING_SECONDS if other is None else other.is_dead(now):
                _take_away(path, other, turn, holder, now)
            elif other is not None and now - since >= (
                wait if other.purpose == "run" else _STEERING_SECONDS
            ):
                raise _refused(path, other)
            self.sleep(_POLL_SECONDS)


def _refused(path: Path, other: Holder) -> ReplayLockedError:
    return ReplayLockedError(
        f"Process {other.pid} on {other.host} is writing the replay's events ({path})",
        hint="wait for it, or stop it; a lock of a dead process is taken over by itself",
    )


def _create(path: Path, holder: Holder) -> bool:
    """Make the lock file; False where there is one."""
    try:
        file = path.open("x", encoding="utf-8")
    except FileExistsError:
        return False
    try:
        with file:
            file.write(_text(holder))
    except OSError:
        path.unlink(missing_ok=True)
        raise
    # Where "create, if it is not there" is two steps, the later of two writers has it.
    current = _read(path)
    return current is not None and current.token == holder.token


def _take_away(path: Path, dead: Holder | None, turn: Path, me: Holder, now: float) -> None:
    """Remove the lock of a dead process, and only that.

    One at a time, by `turn`: who looks once more while he alone may remove a lock can't take away
    what a quicker one has made in its place.
    """
    if not _create(turn, me):
        other = _read(turn)
        # A process that died within this function left its turn behind.
        if _is_old(turn) if other is None else other.is_dead(now):
            turn.unlink(missing_ok=True)
        return
    try:
        if _read(path) == dead:
            path.unlink(missing_ok=True)
    finally:
        turn.unlink(missing_ok=True)


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > _WRITING_SECONDS
    except FileNotFoundError:
        return False


def _read(path: Path) -> Holder | None:
    """Who holds the lock; None where there is none, or where it is being written just now."""
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        return None


def _text(holder: Holder) -> str:
    return json.dumps(asdict(holder)) + "\n"


def _this_process(purpose: Purpose, until: float) -> Holder:
    pid = os.getpid()
    return Holder(str(uuid4()), purpose, socket.gethostname(), pid, started(pid), until)
