"""A replay that dies or fails at any point, then runs again, leaves what an undisturbed one leaves.

Of a volume these are the files, byte for byte; of a Delta table its rows, each once.
"""

import contextlib
import errno
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from caspers_lib.domain import Domain
from caspers_lib.errors import CaspersError, SinkError
from caspers_lib.replay import engine
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.delta_sink import DeltaSink
from caspers_lib.replay.engine import Replay
from caspers_lib.replay.event_batches import Form, event_batches
from caspers_lib.replay.generator import generate_dataset
from caspers_lib.replay.sink import Sink
from caspers_lib.replay.state import StateStore
from caspers_lib.replay.volume_sink import VolumeSink, count_events
from caspers_lib.replay.window import Window

DAY = 86_400
START = 1_750_000_000 // DAY * DAY + 50_000.25
TIMES = (START, START + 30.5, START + 61.25)  # three ticks; the second crosses the loop's end
SPEED = 5_000.0
SINKS: dict[str, Callable[[Path], Sink]] = {
    "batched": lambda folder: VolumeSink(folder, 90),
    "per_event": lambda folder: VolumeSink(folder, layout="per_event"),
    "delta": lambda folder: DeltaSink(folder, events_per_file=90),
}
# A file per event is many write points that are all alike: some of the events do.
EVERY = {"lines": 1, "named_lines": 20, "columns": 1}

Tree = dict[str, Any]
FileTree = Callable[[Path], dict[str, bytes]]
Left = Callable[[Path], Tree]


class Death(BaseException):
    """The process is gone: nothing of its own catches this."""


class Mortal:
    """Counts the points at which something reaches the disk, and dies or fails at one of them.

    Every `fsync`, every rename and removal and every change of a Delta log is two points: before
    and after it has taken effect. A dead process does no more harm and no more good: what it
    would do on its way out is not done. One that fails goes on.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._turn = threading.Lock()
        self.live()
        # Nothing is cut off from its power here, so no disk is waited for.
        monkeypatch.setattr(os, "fsync", self._as_function(lambda _descriptor: None))
        for owner, name in (
            (Path, "replace"),
            (Path, "unlink"),
            (DeltaTable, "create_write_transaction"),
        ):
            monkeypatch.setattr(owner, name, self._as_function(getattr(owner, name)))
        create = self._as_function(DeltaTable.create)
        monkeypatch.setattr(DeltaTable, "create", staticmethod(create))

    def live(self, die_at: int = 0, fail_at: int = 0) -> None:
        """Begin a life that ends, or fails, at a point counted from 1; 0 is a whole life."""
        self.points, self._die_at, self._fail_at, self._dead = 0, die_at, fail_at, False

    def _as_function(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """A plain function, so that it binds as a method where it replaces one."""

        def replaced(*args: Any, **options: Any) -> Any:
            self._point()
            result = real(*args, **options)
            self._point()
            return result

        return replaced

    def _point(self) -> None:
        with self._turn:
            self.points += 1
            self._dead = self._dead or self.points == self._die_at
            fails = self.points == self._fail_at
        if self._dead:
            raise Death
        if fails:
            raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture(scope="module")
def remembered() -> Callable[..., list[pa.RecordBatch]]:
    """A window's events, mapped once: dying is about what is written, hundreds of times over."""
    windows: dict[tuple[Window, int, Form], list[pa.RecordBatch]] = {}

    def batches(
        dataset: EventsFile, window: Window, shift: int, *, domain: Domain, form: Form, **_: Any
    ) -> list[pa.RecordBatch]:
        key = (window, shift, form)
        if key not in windows:
            found = event_batches(dataset, window, shift, domain=domain, form=form)
            windows[key] = [b.take(pa.array(range(0, b.num_rows, EVERY[form]))) for b in found]
        return windows[key]

    return batches


@pytest.fixture(params=SINKS)
def kind(request: pytest.FixtureRequest) -> str:
    """The sink, by its name in SINKS."""
    return str(request.param)


@pytest.fixture
def mortal(
    monkeypatch: pytest.MonkeyPatch, remembered: Callable[..., list[pa.RecordBatch]]
) -> Mortal:
    """A way to die while small files, several a tick, are written."""
    monkeypatch.setattr(engine, "event_batches", remembered)
    return Mortal(monkeypatch)


@pytest.fixture
def replay_in(small: EventsFile, kind: str) -> Callable[[Path], Replay]:
    """A replay of the small dataset into a sink under a folder."""

    def make(root: Path) -> Replay:
        return Replay(
            dataset=small,
            sink=SINKS[kind](root / "events"),
            store=StateStore(root / "misc"),
            start_day=1,
            speed=SPEED,
        )

    return make


@pytest.fixture
def left(file_tree: FileTree) -> Left:
    """What stands under a folder: its files; of a Delta table the rows and the files' names."""

    def tree(root: Path) -> Tree:
        log = root / "events" / "_delta_log"
        if not log.exists():
            return dict(file_tree(root))
        table = DeltaTable(str(log.parent))
        rows = table.to_pyarrow_table().sort_by("event_id")
        ids = rows.column("event_id").to_pylist()
        assert len(set(ids)) == len(ids)
        names = sorted(path.name for path in log.parent.iterdir() if path.is_file())
        assert names == sorted(Path(uri).name for uri in table.file_uris())
        return {**file_tree(root / "misc"), "rows": rows.to_pylist(), "names": names}

    return tree


@pytest.fixture
def undisturbed(
    tmp_path: Path, mortal: Mortal, replay_in: Callable[[Path], Replay], left: Left
) -> Callable[..., Tree]:
    """What is left after ticks at these times in which nothing goes wrong."""
    known: dict[tuple[float, ...], Tree] = {}

    def tree(*times: float) -> Tree:
        if times not in known:
            mortal.live()
            root = tmp_path / "undisturbed" / str(len(known))
            for now in times:
                replay_in(root).tick(now)
            known[times] = left(root)
        return known[times]

    return tree


def recorded_times(root: Path, before: tuple[float, ...], dying: float) -> tuple[float, ...]:
    """The ticks whose windows count: the one that died only if its window was recorded."""
    state = StateStore(root / "misc").load()
    if state is None:
        return ()
    reached = state.watermark if state.pending is None else state.pending.until
    return (*before, dying) if reached == state.clock.virtual_time(dying) else before


def hidden_files(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "events").glob(".*"))


# The state is saved twice, in two and in three files. Beyond that, at least: two files and the
# folder's flush; eight of the same; two files, the log's change and the flushes after it.
STATE_POINTS = 2 * (2 * 2 + 2 * 3)
SINK_POINTS = {"batched": 2 * (2 * 2 + 1), "per_event": 2 * (2 * 8 + 1), "delta": 2 * (2 * 2 + 3)}


@pytest.mark.parametrize("which", [0, 1], ids=["the first run", "a later run"])
def test_r2_and_r4_death_at_any_write_point_leaves_the_same_in_the_end(
    which: int,
    kind: str,
    tmp_path: Path,
    mortal: Mortal,
    replay_in: Callable[[Path], Replay],
    left: Left,
    undisturbed: Callable[..., Tree],
) -> None:
    before, dying, later = TIMES[:which], TIMES[which], TIMES[which + 1]
    died, outcomes = 0, set()
    while True:
        root = tmp_path / str(died + 1)
        replay = replay_in(root)
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
        assert left(root) == undisturbed(*counted, later), f"died at point {died}"
        outcomes.add(counted)
    assert died >= STATE_POINTS + SINK_POINTS[kind]
    assert outcomes == {before, (*before, dying)}


def test_r2_death_while_recovering_from_death_changes_nothing_either(
    tmp_path: Path,
    mortal: Mortal,
    replay_in: Callable[[Path], Replay],
    left: Left,
    undisturbed: Callable[..., Tree],
) -> None:
    undisturbed(TIMES[0])
    for first, second in itertools.product(range(1, mortal.points + 1, 3), range(1, 25, 4)):
        root = tmp_path / f"{first} {second}"
        replay = replay_in(root)
        for point in (first, second):
            mortal.live(die_at=point)
            with contextlib.suppress(Death):  # a recovery may be over before its point
                replay.tick(TIMES[0])
        mortal.live()
        counted = recorded_times(root, (), TIMES[0])
        replay.tick(TIMES[1])
        expected = undisturbed(*counted, TIMES[1])
        assert left(root) == expected, f"died at points {first} and {second}"


def test_a_full_disk_at_any_write_point_is_one_error_after_which_the_next_run_is_right(
    kind: str,
    tmp_path: Path,
    mortal: Mortal,
    replay_in: Callable[[Path], Replay],
    left: Left,
    undisturbed: Callable[..., Tree],
) -> None:
    refusals = 0
    for point in itertools.count(1):
        root = tmp_path / str(point)
        replay = replay_in(root)
        mortal.live()
        replay.tick(TIMES[0])
        mortal.live(fail_at=point)
        try:
            replay.tick(TIMES[1])
        except (CaspersError, OSError) as error:
            if isinstance(error, SinkError):
                refusals += 1
                assert str(root / "events") in error.message
                assert isinstance(error.__cause__, OSError)
        else:
            # Past the last point, or at one that is on the way out of something done.
            if mortal.points < point:
                break
        assert hidden_files(root) == [], f"failed at point {point}"
        mortal.live()
        counted = recorded_times(root, TIMES[:1], TIMES[1])
        replay.tick(TIMES[2])
        assert left(root) == undisturbed(*counted, TIMES[2]), f"failed at point {point}"
    assert refusals >= SINK_POINTS[kind] // 2


# Forks a process for each life, so that these are short; the modules load once.
LIVES = """
import json, os, signal, sys, time
from pathlib import Path
from caspers_lib.replay import volume_sink
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.delta_sink import DeltaSink
from caspers_lib.replay.engine import Replay
from caspers_lib.replay.state import StateStore
from caspers_lib.replay.volume_sink import VolumeSink

volume_sink._PIECE_EVENTS = 101  # several pieces of few events
SINKS = {
    "batched": lambda folder: VolumeSink(folder, 101),
    "per_event": lambda folder: VolumeSink(folder, layout="per_event"),
    "delta": lambda folder: DeltaSink(folder, events_per_file=101),
}

def live(dataset, kind, root, now, pieces):
    told = []

    def on_events(count):
        told.append(count)
        if len(told) == pieces:
            os.kill(os.getpid(), signal.SIGKILL)

    Replay(
        dataset=EventsFile.open(Path(dataset)),
        sink=SINKS[kind](Path(root, "events")),
        store=StateStore(Path(root, "misc")),
        start_day=2,
        speed=2_000.0,
    ).tick(now, on_events)

for line in sys.stdin:
    order = json.loads(line)
    kill_after, began = order.pop("kill_after"), time.monotonic()
    if (pid := os.fork()) == 0:
        try:
            live(**order)
            os._exit(0)
        finally:
            os._exit(1)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(json.dumps([status, time.monotonic() - began]), flush=True)
"""

Life = Callable[..., tuple[int, float]]


@pytest.fixture(scope="module")
def few_days(tmp_path_factory: pytest.TempPathFactory) -> EventsFile:
    """Three days, about 700 events."""
    return EventsFile.open(generate_dataset(tmp_path_factory.mktemp("few"), days=3, scale=0.03))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def live(few_days: EventsFile, scratch: Path) -> Iterator[Life]:
    """A run in a process of its own; its exit code, and the wall-clock seconds it took."""
    with subprocess.Popen(
        [sys.executable, "-c", LIVES],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None

        def life(
            kind: str,
            root: Path,
            now: float,
            *,
            pieces: int = 0,
            kill_after: float | None = None,
        ) -> tuple[int, float]:
            order = {"dataset": str(few_days.path), "kind": kind, "root": str(root), "now": now}
            order |= {"pieces": pieces, "kill_after": kill_after}
            server.stdin.write(json.dumps(order) + "\n")  # type: ignore[union-attr]
            server.stdin.flush()  # type: ignore[union-attr]
            status, seconds = json.loads(server.stdout.readline())  # type: ignore[union-attr]
            return status, seconds

        yield life
        server.stdin.close()


@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_r2_kill_9_in_the_middle_of_writing_leaves_the_same_in_the_end(
    pieces: int, kind: str, live: Life, tmp_path: Path, scratch: Path, left: Left
) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    assert live(kind, killed, START, pieces=pieces)[0] == -signal.SIGKILL
    if kind == "batched":
        # What was being written lies aside, and what has its name is whole.
        assert len(hidden_files(killed)) == 1
        assert count_events(killed / "events") % 101 == 0
    elif kind == "delta":
        assert DeltaTable(str(killed / "events")).version() == 0
    assert list(scratch.iterdir()) == []
    for now in (START, START + 60):
        assert live(kind, killed, now)[0] == live(kind, whole, now)[0] == 0
    assert hidden_files(killed) == []
    assert left(killed) == left(whole)


def test_r2_kill_9_at_random_moments_leaves_the_same_in_the_end(
    kind: str, live: Life, tmp_path: Path, left: Left
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    moments = random.Random(5)
    for now in (START, START + 30, START + 60):
        _, seconds = live(kind, whole, now)
        for _ in range(4):
            status, _ = live(kind, killed, now, kill_after=moments.uniform(0, seconds))
            assert status in (0, -signal.SIGKILL)
        assert live(kind, killed, now)[0] == 0
    # The texts beside the state follow it with the next window, if a kill came between them.
    for root in (whole, killed):
        assert live(kind, root, START + 90)[0] == 0
    assert hidden_files(killed) == []
    for path in (killed / "misc").glob("._replay_lock.*"):
        path.unlink()  # of a process killed while it took a dead one's lock away
    assert left(killed) == left(whole)
