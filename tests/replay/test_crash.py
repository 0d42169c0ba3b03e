"""A replay that dies at any point, then runs again, leaves the files of one that never died."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from caspers_lib.domain import Domain
from caspers_lib.replay import engine
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.engine import Replay
from caspers_lib.replay.event_batches import event_batches
from caspers_lib.replay.generator import generate_dataset
from caspers_lib.replay.state import StateStore
from caspers_lib.replay.volume_sink import count_events
from caspers_lib.replay.window import Window

DAY = 86_400
START = 1_750_000_000 // DAY * DAY + 50_000.25
TIMES = (START, START + 30.5, START + 61.25)  # three ticks; the second crosses the loop's end
SPEED = 5_000.0
PER_FILE = 90

Tree = dict[str, bytes]
FileTree = Callable[[Path], Tree]
MakeReplay = Callable[..., Replay]


class Death(BaseException):
    """The process is gone: nothing of its own catches this."""


class Mortal:
    """Counts the points at which something reaches the disk, and dies at one of them.

    Every `fsync` and every rename is two points: before and after it has taken effect. A dead
    process does no more harm and no more good: what it would do on its way out is not done.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.points = 0
        self.die_at = 0
        self.dead = False
        for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "unlink")):
            real = getattr(owner, name)
            monkeypatch.setattr(owner, name, as_function(self._call, real))

    def live(self, die_at: int = 0) -> None:
        """Begin a life that ends at the point `die_at`, counted from 1; 0 is a whole life."""
        self.points, self.die_at, self.dead = 0, die_at, False

    def _call(self, real: Callable[..., Any], *args: Any, **options: Any) -> Any:
        self._point()
        result = real(*args, **options)
        self._point()
        return result

    def _point(self) -> None:
        self.points += 1
        if self.dead or self.points == self.die_at:
            self.dead = True
            raise Death


def as_function(call: Callable[..., Any], real: Callable[..., Any]) -> Callable[..., Any]:
    """A plain function, so that it binds as a method where it replaces one."""

    def replaced(*args: Any, **options: Any) -> Any:
        return call(real, *args, **options)

    return replaced


@pytest.fixture(scope="module")
def remembered() -> Callable[..., list[pa.RecordBatch]]:
    """A window's events, mapped once: dying is about what is written, a hundred times over."""
    windows: dict[tuple[Window, int], list[pa.RecordBatch]] = {}

    def batches(
        dataset: EventsFile, window: Window, shift: int, *, domain: Domain, **_: Any
    ) -> list[pa.RecordBatch]:
        key = (window, shift)
        if key not in windows:
            windows[key] = list(event_batches(dataset, window, shift, domain=domain))
        return windows[key]

    return batches


@pytest.fixture
def mortal(
    monkeypatch: pytest.MonkeyPatch, remembered: Callable[..., list[pa.RecordBatch]]
) -> Mortal:
    """Small files, so that a tick writes several, and a way to die while writing them."""
    monkeypatch.setattr(engine, "event_batches", remembered)
    return Mortal(monkeypatch)


@pytest.fixture
def undisturbed(
    small: EventsFile,
    tmp_path: Path,
    mortal: Mortal,
    make_replay: MakeReplay,
    file_tree: FileTree,
) -> Callable[..., Tree]:
    """The files after ticks at these times in which nothing goes wrong."""
    known: dict[tuple[float, ...], Tree] = {}

    def files(*times: float) -> Tree:
        if times not in known:
            mortal.live()
            root = tmp_path / "undisturbed" / str(len(known))
            for now in times:
                make_replay(small, root, speed=SPEED, events_per_file=PER_FILE).tick(now)
            known[times] = file_tree(root)
        return known[times]

    return files


def recorded_times(root: Path, before: tuple[float, ...], dying: float) -> tuple[float, ...]:
    """The ticks whose windows count: the one that died only if its window was recorded."""
    state = StateStore(root / "misc").load()
    if state is None:
        return ()
    reached = state.watermark if state.pending is None else state.pending.until
    return (*before, dying) if reached == state.clock.virtual_time(dying) else before


@pytest.mark.parametrize("which", [0, 1], ids=["the first run", "a later run"])
def test_r2_and_r4_death_at_any_write_point_leaves_the_same_files_in_the_end(
    which: int,
    small: EventsFile,
    tmp_path: Path,
    mortal: Mortal,
    make_replay: MakeReplay,
    file_tree: FileTree,
    undisturbed: Callable[..., Tree],
) -> None:
    before, dying, later = TIMES[:which], TIMES[which], TIMES[which + 1]
    died, outcomes = 0, set()
    while True:
        root = tmp_path / str(died + 1)
        replay = make_replay(small, root, speed=SPEED, events_per_file=PER_FILE)
        mortal.live()
        for now in before:
            replay.tick(now)
        mortal.live(die_at=died + 1)
        try:
            replay.tick(dying)
        except Death:
            died += 1
        else:
            break
        mortal.live()
        counted = recorded_times(root, before, dying)
        replay.tick(later)
        assert file_tree(root) == undisturbed(*counted, later), f"died at point {died}"
        outcomes.add(counted)
    # Two saves of two or three files and several event files, each point before and after.
    assert died >= 2 * (2 * 2 + 2 * 3 + 3 * 3)
    assert outcomes == {before, (*before, dying)}


def test_r2_death_while_recovering_from_death_changes_nothing_either(
    small: EventsFile,
    tmp_path: Path,
    mortal: Mortal,
    make_replay: MakeReplay,
    file_tree: FileTree,
    undisturbed: Callable[..., Tree],
) -> None:
    undisturbed(TIMES[0])
    for first, second in itertools.product(range(1, mortal.points + 1, 3), range(1, 25, 4)):
        root = tmp_path / f"{first} {second}"
        replay = make_replay(small, root, speed=SPEED, events_per_file=PER_FILE)
        for point in (first, second):
            mortal.live(die_at=point)
            with contextlib.suppress(Death):  # a recovery may be over before its point
                replay.tick(TIMES[0])
        mortal.live()
        counted = recorded_times(root, (), TIMES[0])
        replay.tick(TIMES[1])
        expected = undisturbed(*counted, TIMES[1])
        assert file_tree(root) == expected, f"died at points {first} and {second}"


def test_an_error_while_writing_leaves_a_state_from_which_the_next_run_goes_on(
    small: EventsFile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_replay: MakeReplay,
    file_tree: FileTree,
    undisturbed: Callable[..., Tree],
) -> None:
    expected = undisturbed(TIMES[0], TIMES[1])
    root = tmp_path / "root"
    replay = make_replay(small, root, speed=SPEED, events_per_file=PER_FILE)
    replay.tick(TIMES[0])
    fsync, calls = os.fsync, []

    def full_disk(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 5:  # after the state's three files: the second event file
            raise OSError("no space left on device")
        fsync(descriptor)

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="no space left"):
            replay.tick(TIMES[1])
    assert not list((root / "events").glob(".*"))
    replay.tick(TIMES[1])
    assert file_tree(root) == expected


KILLED = """
import os, signal, sys
from pathlib import Path
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.state import StateStore
from caspers_lib.replay.engine import Replay
from caspers_lib.replay.volume_sink import VolumeSink

dataset, root, now, per_file, pieces = sys.argv[1:]
told = []

def on_events(count):
    told.append(count)
    if len(told) == int(pieces):
        os.kill(os.getpid(), signal.SIGKILL)

Replay(
    dataset=EventsFile.open(Path(dataset)),
    sink=VolumeSink(Path(root, "events"), int(per_file)),
    store=StateStore(Path(root, "misc")),
    start_day=19,
    speed=60.0,
).tick(float(now), on_events)
"""


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> EventsFile:
    """Twenty days, about 40,000 events."""
    path = tmp_path_factory.mktemp("month")
    return EventsFile.open(generate_dataset(path, days=20, scale=0.2))


def test_r2_kill_9_in_the_middle_of_writing_leaves_the_same_files_in_the_end(
    month: EventsFile,
    tmp_path: Path,
    make_replay: MakeReplay,
    file_tree: FileTree,
) -> None:
    per_file = 7_001  # batches are cut in two, in the middle of a file
    killed, whole, scratch = tmp_path / "killed", tmp_path / "whole", tmp_path / "scratch"
    scratch.mkdir()
    for pieces in (1, 3, 6):
        arguments = [str(a) for a in (month.path, killed, START, per_file, pieces)]
        done = subprocess.run(
            [sys.executable, "-c", KILLED, *arguments],
            check=False,
            env={**os.environ, "TMPDIR": str(scratch)},
            timeout=300,
        )
        assert done.returncode == -signal.SIGKILL
        # What was being written lies aside, and what has its name is whole.
        assert len(list((killed / "events").glob(".part-*.tmp"))) == 1
        assert count_events(killed / "events") % per_file == 0
        assert list(scratch.iterdir()) == []
    make_replay(month, killed, start_day=19, events_per_file=per_file).tick(START + 60)
    undisturbed = make_replay(month, whole, start_day=19, events_per_file=per_file)
    undisturbed.tick(START)
    undisturbed.tick(START + 60)
    assert file_tree(killed) == file_tree(whole)
    assert len(list((whole / "events").iterdir())) > 4
