"""One run at a time: who holds the lock, who is refused, and what a dead process leaves."""

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from caspers_lib.errors import ReplayLockedError
from caspers_lib.replay import lock as lock_module
from caspers_lib.replay.lock import LOCK_FILE, Holder, ReplayLock
from caspers_lib.replay.processes import started

HOLDS = """
import sys, time
from pathlib import Path
from caspers_lib.replay.lock import ReplayLock
with ReplayLock(Path(sys.argv[1])).held("run"):
    print("held", flush=True)
    time.sleep(60)
"""


def left_by(folder: Path, **changes: object) -> Holder:
    """A lock file of another holder."""
    holder = Holder("t", "run", socket.gethostname(), 2**22 - 7, "1", 2e9)
    holder = replace(holder, **changes)  # type: ignore[arg-type]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LOCK_FILE).write_text(json.dumps(asdict(holder)))
    return holder


def test_a_second_run_is_refused_and_told_who_holds_the_lock(tmp_path: Path) -> None:
    with ReplayLock(tmp_path).held("run"):
        with pytest.raises(ReplayLockedError) as caught, ReplayLock(tmp_path).held("run"):
            pass
        assert f"Process {os.getpid()} on {socket.gethostname()}" in caught.value.message
        assert (tmp_path / LOCK_FILE).exists()
    with ReplayLock(tmp_path).held("run"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_fails_gives_the_lock_back(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), ReplayLock(tmp_path).held("run"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_lock_of_a_process_that_was_killed_is_taken_over(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        told = f"Process {process.pid} "
        with pytest.raises(ReplayLockedError, match=told), ReplayLock(tmp_path).held("run"):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (tmp_path / LOCK_FILE).exists()
        with ReplayLock(tmp_path).held("run"):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_process_number_that_another_process_has_now_is_no_holder(tmp_path: Path) -> None:
    left_by(tmp_path, pid=os.getppid(), started="another time")
    with ReplayLock(tmp_path).held("run"):
        pass


def test_a_living_process_is_a_holder_however_long_it_is_silent(tmp_path: Path) -> None:
    parent = os.getppid()
    left_by(tmp_path, pid=parent, started=started(parent), until=0.0)
    with pytest.raises(ReplayLockedError), ReplayLock(tmp_path).held("run"):
        pass


class Clock:
    """Seconds that pass while somebody sleeps; a minute a poll."""

    def __init__(self, on_sleep: Callable[[], None] = lambda: None) -> None:
        self.now = 1_000.0
        self._on_sleep = on_sleep

    def __call__(self) -> float:
        return self.now

    def sleep(self, _seconds: float) -> None:
        self.now += 60
        self._on_sleep()


@pytest.mark.parametrize("until", [0.0, 1e12])
def test_another_machine_is_dead_when_its_file_stays_as_it_is_for_a_lease(
    until: float, tmp_path: Path
) -> None:
    left_by(tmp_path, host="elsewhere", pid=os.getpid(), until=until)
    clock = Clock()
    with ReplayLock(tmp_path, clock, clock.sleep).held("run"):
        assert clock.now > 1_000 + lock_module.LEASE_SECONDS
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("until", [0.0, 1e12])
def test_another_machine_that_renews_its_lease_is_a_holder(until: float, tmp_path: Path) -> None:
    untils = itertools.count(until + 1)
    left_by(tmp_path, host="elsewhere", until=until)
    clock = Clock(lambda: left_by(tmp_path, host="elsewhere", until=next(untils)) and None)
    told = pytest.raises(ReplayLockedError, match="on elsewhere")
    with told, ReplayLock(tmp_path, clock, clock.sleep).held("run"):
        pass


def test_what_a_process_of_another_machine_left_while_it_removed_a_lock_is_taken_away(
    tmp_path: Path,
) -> None:
    left_by(tmp_path, started="dead")
    other = Holder("u", "run", "elsewhere", 1, "1", 1e12)
    (tmp_path / f".{LOCK_FILE}.turn").write_text(json.dumps(asdict(other)))
    clock = Clock()
    with ReplayLock(tmp_path, clock, clock.sleep).held("run"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lease_is_renewed_in_time_and_not_more_often(tmp_path: Path) -> None:
    now = 1_000.0
    with ReplayLock(tmp_path, clock=lambda: now).held("run") as lease:
        before = (tmp_path / LOCK_FILE).read_text()
        now = 1_009.0
        lease.renew()
        assert (tmp_path / LOCK_FILE).read_text() == before
        now = 1_011.0
        lease.renew()
        renewed, first = json.loads((tmp_path / LOCK_FILE).read_text()), json.loads(before)
        assert renewed == first | {"until": first["until"] + 11}
    assert list(tmp_path.iterdir()) == []


def test_a_run_whose_lock_was_taken_stops_and_leaves_the_others(tmp_path: Path) -> None:
    now = 1_000.0
    lock = ReplayLock(tmp_path, clock=lambda: now)
    taken = pytest.raises(ReplayLockedError, match="Another run has taken")
    with taken, lock.held("run") as lease:
        other = left_by(tmp_path, host="elsewhere")
        now = 2_000.0
        lease.renew()
    assert json.loads((tmp_path / LOCK_FILE).read_text()) == asdict(other)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"token": "t"}'])
def test_a_lock_file_that_was_never_filled_is_taken_over(text: str, tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_text(text)
    ticks = iter(range(100))
    lock = ReplayLock(tmp_path, clock=lambda: float(next(ticks)), sleep=lambda _s: None)
    with lock.held("run"):
        pass


def test_a_full_disk_leaves_no_lock_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lock_module, "_text", full)
    with pytest.raises(OSError, match="No space left"), ReplayLock(tmp_path).held("run"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("died_while_removing", [False, True])
def test_of_many_who_find_a_dead_lock_one_gets_it_at_a_time(
    died_while_removing: bool, tmp_path: Path
) -> None:
    inside, most, taken = 0, 0, 0
    guard = threading.Lock()

    def run() -> None:
        nonlocal inside, most, taken
        # Polled in quick succession, so that many look at the same moment.
        lock = ReplayLock(tmp_path, sleep=lambda _seconds: time.sleep(0.0005))
        with lock.held("steer", wait=60):
            with guard:
                inside += 1
                taken += 1
                most = max(most, inside)
            time.sleep(0.0005)
            with guard:
                inside -= 1

    for _ in range(20):
        left_by(tmp_path, started="dead")
        if died_while_removing:
            shutil.copy(tmp_path / LOCK_FILE, tmp_path / f".{LOCK_FILE}.turn")
        threads = [threading.Thread(target=run) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert list(tmp_path.iterdir()) == []
    assert (most, taken) == (1, 20 * 12)
