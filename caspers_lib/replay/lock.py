"""One run at a time: a lock file beside the replay's state, on any file system.

Nothing but "create, if it is not there" and "rename" is asked of the file system, so it holds on a
volume as on a local folder. The file says who holds it; what a dead process left is recognised and
taken away. No wall clock is compared with another: a holder on another machine is dead when its
file stays unchanged for as long as a lease lasts, by a clock here that never goes back.
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
        until: when the lease ends by the holder's own wall clock, UTC epoch seconds. Others don't
            compare it with theirs: that it changes says that the holder lives.
    """

    token: str
    purpose: Purpose
    host: str
    pid: int
    started: str
    until: float

    @property
    def is_here(self) -> bool:
        """Whether its process is one of this machine."""
        return self.host == socket.gethostname()

    def is_dead(self, unchanged: float) -> bool:
        """Whether its process has ended.

        Args:
            unchanged: seconds for which its file has not changed; they decide for a process of
                another machine.
        """
        if not self.is_here:
            return unchanged > LEASE_SECONDS
        if self.pid == os.getpid():
            return self.token not in _held
        return not lives(self.pid) or started(self.pid) != self.started


@dataclass
class Lease:
    """A lock that is held.

    Args:
        path: the lock file.
        holder: who holds it.
        clock: seconds of a clock that never goes back.
        renewed: when it was last renewed, by `clock`.
    """

    path: Path
    holder: Holder
    clock: Callable[[], float]
    renewed: float

    def renew(self) -> None:
        """Say that the holder lives; cheap to call often.

        Raises:
            ReplayLockedError: another run has taken the lock, as this one was silent too long.
        """
        since, now = self.renewed, self.clock()
        if now - since < _RENEW_SECONDS:
            return
        current = _read(self.path)
        if current is None or current.token != self.holder.token:
            raise ReplayLockedError(
                f"Another run has taken the replay's lock {self.path}: this one was silent for "
                f"more than {LEASE_SECONDS:.0f} s",
                hint="nothing is lost: the other run finishes what this one began",
            )
        self.holder = replace(self.holder, until=self.holder.until + now - since)
        aside = self.path.with_name(f".{LOCK_FILE}.{self.holder.token}")
        aside.write_text(_text(self.holder), encoding="utf-8")
        aside.replace(self.path)
        self.renewed = now


@dataclass
class _Watched:
    """A lock file as it is seen again and again.

    Args:
        since: when it was first seen as it is now, by a clock that never goes back.
        holder: what it says; None for nothing, or while it is being written.
        is_alive: whether it was seen to change.
    """

    since: float
    holder: Holder | None = None
    is_alive: bool = False

    def is_dead(self, holder: Holder | None, now: float) -> bool:
        """Whether the process that left what the file says now has ended."""
        if holder != self.holder:
            self.is_alive = self.holder is not None
            self.since, self.holder = now, holder
        if holder is None:
            return now - self.since > _WRITING_SECONDS
        return holder.is_dead(now - self.since)


@dataclass(frozen=True, slots=True)
class ReplayLock:
    """The lock of the replay whose state lies in a folder.

    Args:
        folder: the state's folder.
        clock: seconds of a clock that never goes back.
        sleep: waits for some seconds.
    """

    folder: Path
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    @contextmanager
    def held(self, purpose: Purpose, *, wait: float = 0.0) -> Iterator[Lease]:
        """Hold the lock for the block.

        Args:
            purpose: what for.
            wait: seconds to wait for a run that holds it; one who steers is always waited for, and
                a process of another machine until it shows that it lives.

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
        holder = _this_process(purpose)
        # First: between making the file and filling this set, the holder would look dead.
        _held.add(holder.token)
        try:
            return self._wait_for(holder, wait)
        except BaseException:
            _held.discard(holder.token)
            raise

    def _wait_for(self, holder: Holder, wait: float) -> Lease:
        path, turn = self.folder / LOCK_FILE, self.folder / f".{LOCK_FILE}.turn"
        since = self.clock()
        lock, turns = _Watched(since), _Watched(since)
        while True:
            if _create(path, holder):
                return Lease(path, holder, self.clock, renewed=self.clock())
            now, other = self.clock(), _read(path)
            if lock.is_dead(other, now):
                if _create(turn, holder):
                    _take_away(path, other, turn)
                # A process that died within that function left its turn behind.
                elif turns.is_dead(_read(turn), now):
                    turn.unlink(missing_ok=True)
            elif other is not None and (other.is_here or lock.is_alive):
                patience = wait if other.purpose == "run" else _STEERING_SECONDS
                if now - since >= patience:
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


def _take_away(path: Path, dead: Holder | None, turn: Path) -> None:
    """Remove the lock of a dead process, and only that; the caller has made `turn`.

    Only one process at a time removes a lock, and it looks once more: so none removes the lock that
    a quicker one has made in its place.
    """
    try:
        if _read(path) == dead:
            path.unlink(missing_ok=True)
    finally:
        turn.unlink(missing_ok=True)


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


def _this_process(purpose: Purpose) -> Holder:
    pid, until = os.getpid(), time.time() + LEASE_SECONDS
    return Holder(str(uuid4()), purpose, socket.gethostname(), pid, started(pid), until)
