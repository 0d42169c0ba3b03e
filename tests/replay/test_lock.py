"""One run at a time: who holds the lock, who is refused, and what a dead process leaves."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
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


def test_another_machine_is_dead_when_its_lease_has_run_out(tmp_path: Path) -> None:
    left_by(tmp_path, host="elsewhere", pid=os.getpid(), until=1_000.0)
    early, late = (ReplayLock(tmp_path, clock=lambda now=now: now) for now in (999.0, 1_001.0))
    with pytest.raises(ReplayLockedError, match="on elsewhere"), early.held("run"):
        pass
    with late.held("run"):
        pass


def test_a_lease_is_renewed_in_time_and_not_more_often(tmp_path: Path) -> None:
    now = 1_000.0
    with ReplayLock(tmp_path, clock=lambda: now).held("run") as lease:
        before = (tmp_path / LOCK_FILE).read_text()
        now = 1_009.0
        lease.renew()
        assert (tmp_path / LOCK_FILE).read_text() == before
        now = 1_011.0
        lease.renew()
        assert json.loads((tmp_path / LOCK_FILE).read_text())["until"] == 1_131.0
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
