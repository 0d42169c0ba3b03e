"""A cap on events per second: written in pieces, at an even rate, and the very same events."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from caspers_lib.errors import SettingsError
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.engine import Replay, steer
from caspers_lib.replay.pace import Pace
from caspers_lib.replay.steering import pause, seek, set_speed

DAY = 86_400
START = 1_750_000_000 // DAY * DAY + 50_000.25

MakeReplay = Callable[..., Replay]
Lines = Callable[[Path], list[str]]


@dataclass
class Stopwatch:
    """Wall-clock seconds that pass by sleeping alone."""

    now: float = 1_000.0
    slept: list[float] = field(default_factory=list)
    on_sleep: Callable[[], Any] = lambda: None

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)
        self.on_sleep()


def paced(replay: Replay, cap: float, watch: Stopwatch) -> Replay:
    return replace(replay, pace=Pace(cap, watch.monotonic, watch.sleep))


@pytest.mark.parametrize("cap", [40.0, 100.0, 1e6])
def test_a_cap_changes_when_events_are_written_and_not_which(
    cap: float,
    small: EventsFile,
    tmp_path: Path,
    make_replay: MakeReplay,
    written_lines: Lines,
) -> None:
    watch = Stopwatch()
    replay = paced(make_replay(small, tmp_path / "capped"), cap, watch)
    whole = make_replay(small, tmp_path / "whole")
    events = 0
    for now in (START, START + 400, START + 900):
        tick, other = replay.tick(now), whole.tick(now)
        assert (tick.events, tick.window, tick.state) == (other.events, other.window, other.state)
        events += tick.events
    assert written_lines(tmp_path / "capped") == written_lines(tmp_path / "whole")
    assert len(written_lines(tmp_path / "whole")) == events
    # All but each run's last piece has been waited for.
    assert watch.now - 1_000.0 >= (events - 3 * max(cap, 30)) / cap
    assert (watch.slept == []) == (cap == 1e6)


def test_each_piece_is_a_window_that_is_written_whole(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay
) -> None:
    watch = Stopwatch()
    replay = paced(make_replay(small, tmp_path), 40.0, watch)
    seen: list[float] = []

    def look() -> None:
        state = replay.store.load()
        assert state is not None
        assert state.pending is None
        assert state.watermark is not None
        seen.append(state.watermark)

    watch.on_sleep = look
    replay.tick(START)
    assert len(seen) > 3
    assert seen == sorted(set(seen))


def test_between_two_pieces_a_pause_a_speed_and_a_seek_are_obeyed(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay
) -> None:
    watch = Stopwatch()
    replay = replace(paced(make_replay(small, tmp_path), 20.0, watch), speed=None)
    make_replay(small, tmp_path).tick(START)
    now = START + 600

    def steer_once() -> None:
        watch.on_sleep = lambda: None
        steer(replay.store, seek("2.5"), now)
        steer(replay.store, set_speed(9.0), now)
        steer(replay.store, pause, now)

    watch.on_sleep = steer_once
    state = replay.tick(now).state
    assert state.watermark == small.epoch + 2.5 * DAY
    assert state.clock.is_paused
    assert state.clock.running_speed == 9.0


def test_a_run_that_is_stopped_leaves_the_rest_to_the_next_one(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay, written_lines: Lines
) -> None:
    watch = Stopwatch()
    replay = paced(make_replay(small, tmp_path / "stopped"), 20.0, watch)
    first = replay.tick(START, stopping=lambda: True)
    assert 0 < first.events <= 40
    rest = replay.tick(START)
    make_replay(small, tmp_path / "whole").tick(START)
    assert written_lines(tmp_path / "stopped") == written_lines(tmp_path / "whole")
    assert first.events + rest.events == len(written_lines(tmp_path / "whole"))


@pytest.mark.parametrize("cap", [0.0, -5.0, 1e-300, math.nan, math.inf])
def test_a_cap_that_lets_nothing_through_is_refused(cap: float) -> None:
    with pytest.raises(SettingsError, match="must be a number above 0"):
        Pace(cap)


def test_without_a_cap_nothing_waits() -> None:
    assert Pace().piece is None
    Pace(sleep=lambda _s: pytest.fail("slept")).wait(10**9, 0.0)
