"""A replay steered like a tape: nothing lost, nothing doubled, and a seek back plays the same."""

import json
import math
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caspers_lib.errors import ReplayLockedError, ReplayStateError, SettingsError
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.engine import Replay, steer
from caspers_lib.replay.lock import ReplayLock
from caspers_lib.replay.state import ReplayState, StateStore
from caspers_lib.replay.steering import (
    Steering,
    course_line,
    parse_duration,
    pause,
    reset,
    resume,
    seek,
    seek_second,
    set_speed,
    step,
)
from caspers_lib.runtime.replay_status import clock_warning, replay_status

DAY = 86_400
START = 1_750_000_000 // DAY * DAY + 50_000.25  # 13:53:20.25, on dataset day 1

MakeReplay = Callable[..., Replay]
Lines = Callable[[Path], list[str]]
Expected = Callable[[EventsFile, float, int], list[dict[str, Any]]]
Tree = Callable[[Path], dict[str, bytes]]


def event_ids(lines: list[str]) -> Counter[str]:
    return Counter(json.loads(line)["event_id"] for line in lines)


changes = st.one_of(
    st.just(pause),
    st.just(resume),
    st.sampled_from([0.01, 1.0, 60.0, 5_000.5, 30_000.0]).map(set_speed),
    st.floats(1, 200_000).map(step),
    st.just(seek("2.9")),
)


@settings(max_examples=15)
@given(st.lists(st.tuples(st.floats(0, 10), st.none() | changes), min_size=1, max_size=6))
def test_r5_any_course_that_does_not_go_back_writes_what_one_run_writes(
    small: EventsFile,
    tmp_path_factory: pytest.TempPathFactory,
    make_replay: MakeReplay,
    written_lines: Lines,
    expected_events: Expected,
    course: list[tuple[float, Any]],
) -> None:
    root = tmp_path_factory.mktemp("steered")
    replay = make_replay(small, root, speed=None)
    state, now = make_replay(small, root).tick(START).state, START
    for seconds, change in course:
        now += seconds
        if change is None:
            state = replay.tick(now).state
        else:
            before = state.clock.virtual_time(now)
            try:
                state = steer(replay.store, change, now)
            except SettingsError:
                continue
            if state.clock.virtual_time(now) < before:  # a seek to a day that has passed
                return
    state = replay.tick(now + 1).state
    assert state.watermark is not None
    found = [json.loads(line) for line in written_lines(root)]
    for event in found:
        del event["event_id"], event["body"]
    expected = expected_events(small, state.watermark, state.shift_seconds)
    assert sorted(found, key=json.dumps) == expected


def test_a_pause_stands_still_and_resume_goes_on(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay, file_tree: Tree
) -> None:
    replay = make_replay(small, tmp_path)
    replay.tick(START)
    steer(replay.store, pause, START + 60)
    reached = replay.tick(START + 5_000).state.watermark
    assert reached is not None
    before = file_tree(tmp_path)
    assert replay.tick(START + 9_000).events == 0
    assert file_tree(tmp_path) == before
    steer(replay.store, resume, START + 10_000)
    assert replay.tick(START + 10_100).state.watermark == reached + 100 * 60


def test_a_seek_forward_plays_what_lies_between_at_the_next_run(
    small: EventsFile,
    tmp_path: Path,
    make_replay: MakeReplay,
    written_lines: Lines,
    expected_events: Expected,
) -> None:
    replay = make_replay(small, tmp_path)
    replay.tick(START)
    steer(replay.store, seek("2"), START + 10)
    state = replay.tick(START + 10).state
    assert state.watermark == small.epoch + 2 * DAY
    expected = expected_events(small, state.watermark, state.shift_seconds)
    assert len(written_lines(tmp_path)) == len(expected)


def test_a_seek_back_plays_the_very_same_events_again(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay, written_lines: Lines
) -> None:
    replay = make_replay(small, tmp_path, speed=600.0)
    replay.tick(START)
    first_take = event_ids(written_lines(tmp_path))
    replay.tick(START + 60)
    once = written_lines(tmp_path)
    assert once
    steer(replay.store, seek(str(1 + 50_000.25 / DAY)), START + 60)
    assert replay.tick(START + 60).events == 0  # it stands where the first run ended
    state = replay.tick(START + 120).state
    assert state.takes == 1
    twice = written_lines(tmp_path)
    assert set(twice) == set(once)
    again = event_ids(twice) - event_ids(once)
    assert again == event_ids(once) - first_take


def test_a_window_that_is_played_again_gets_files_of_its_own(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay, written_lines: Lines
) -> None:
    replay = make_replay(small, tmp_path)
    replay.tick(START)
    steer(replay.store, pause, START)
    for _ in range(3):
        steer(replay.store, step(7_200), START + 1)
        assert replay.tick(START + 1).events > 0
        steer(replay.store, seek(str(1 + 50_000.25 / DAY)), START + 1)
    assert max(event_ids(written_lines(tmp_path)).values()) == 3


def test_a_changed_setting_counts_from_now_on_and_an_unchanged_one_leaves_what_was_steered(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay
) -> None:
    def tick(now: float, setting: float | None) -> ReplayState:
        replay = replace(make_replay(small, tmp_path, speed=None), speed_setting=setting)
        return replay.tick(START + now).state

    begun = tick(0, 60.0)
    steer(StateStore(tmp_path / "misc"), set_speed(5), START + 10)
    assert [tick(now, 60.0).clock.speed for now in (20, 30)] == [5.0, 5.0]
    assert tick(40, None).clock.speed == 5.0
    changed = tick(50, 120.0)
    assert changed.clock.speed == 120.0
    assert changed.virtual_time(START + 60) == begun.virtual_time(START) + 600 + 40 * 5 + 1200
    steer(StateStore(tmp_path / "misc"), pause, START + 60)
    assert tick(70, 60.0).clock.is_paused
    assert steer(StateStore(tmp_path / "misc"), resume, START + 80).clock.speed == 60.0


def test_a_state_that_knows_no_setting_keeps_its_speed(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay
) -> None:
    make_replay(small, tmp_path, speed=7.0).tick(START)
    replay = replace(make_replay(small, tmp_path, speed=None), speed_setting=60.0)
    assert replay.tick(START + 10).state.clock.speed == 7.0
    replay = replace(replay, speed_setting=30.0)
    assert replay.tick(START + 20).state.clock.speed == 30.0


def test_a_step_moves_a_paused_replay_and_leaves_it_paused(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay
) -> None:
    replay = make_replay(small, tmp_path)
    start = replay.tick(START).state.watermark
    assert start is not None
    steer(replay.store, pause, START)
    for number in (1, 2, 3):
        steer(replay.store, step(parse_duration("15m")), START + number)
        assert replay.tick(START + 100 * number).state.watermark == start + number * 900


def test_a_reset_goes_back_to_the_start_and_keeps_the_shift(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay, written_lines: Lines
) -> None:
    replay = make_replay(small, tmp_path, speed=600.0)
    first = replay.tick(START).state
    replay.tick(START + 60)
    once = written_lines(tmp_path)
    steer(replay.store, set_speed(5), START + 61)
    state = steer(replay.store, reset, START + 3 * DAY)
    assert state.clock.virtual_time(START + 3 * DAY) == first.watermark == state.watermark
    assert (state.clock.speed, state.shift_seconds) == (600.0, first.shift_seconds)
    make_replay(small, tmp_path, speed=None).tick(START + 3 * DAY + 60)
    assert set(written_lines(tmp_path)) == set(once)


going_on = st.sampled_from([pause, resume]) | st.floats().map(set_speed) | st.floats().map(step)
targets = (st.floats(0, 3) | st.floats()).map(str) | st.datetimes().map(datetime.isoformat)
moving = st.just(reset) | targets.map(seek)
clock_jumps = st.floats(0, 100) | st.floats(-1e9, 1e9) | st.floats(-5e10, 2e11)


@settings(deadline=None)
@given(st.lists(st.tuples(clock_jumps, st.none() | going_on, st.none() | moving), max_size=8))
def test_whatever_is_accepted_while_the_clock_jumps_can_be_loaded_shown_and_played(
    begun_once: ReplayState,
    tmp_path_factory: pytest.TempPathFactory,
    course: list[tuple[float, Steering | None, Steering | None]],
) -> None:
    store = StateStore(tmp_path_factory.mktemp("jumps"))
    state, now = begun_once, START
    store.save(state)
    for jump, change, move in course:
        now = min(max(now + jump, 0.0), 2.5e11)
        reached = state.virtual_time(now)
        if change is not None:
            with suppress(SettingsError):
                state = steer(store, change, now)
                assert state.seconds_ahead(now) == 0
        assert state.virtual_time(now) >= reached
        if move is not None:
            with suppress(SettingsError):
                state = steer(store, move, now)
                assert state.seconds_ahead(now) == 0
        state = replace(state, watermark=state.virtual_time(now), ticked_at=now)  # a run
        store.save(state)
        assert store.load() == state
        status = replay_status(state, now, alive=False)
        assert datetime.fromisoformat(str(status.virtual_time))
        datetime.fromtimestamp(state.virtual_time(now) + state.shift_seconds, UTC)
        assert "UTC" in course_line(state, now)
        clock_warning(state.seconds_ahead(now))


@pytest.mark.parametrize("change", [pause, resume, set_speed(2.0), step(60.0)])
def test_only_a_seek_or_a_reset_lets_virtual_time_go_back(
    change: Steering, small: EventsFile, tmp_path: Path, make_replay: MakeReplay
) -> None:
    state = make_replay(small, tmp_path).tick(START).state
    state = make_replay(small, tmp_path).tick(START + 60).state
    for now in (START + 30, START - 5_000):
        assert state.virtual_time(now) == state.watermark
        assert change(state, now).virtual_time(now) >= (state.watermark or 0)


def test_after_a_wall_clock_that_went_back_the_replay_waits_or_goes_on_by_todays(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay
) -> None:
    replay = make_replay(small, tmp_path, speed=None)
    state = make_replay(small, tmp_path).tick(START).state
    state = replay.tick(START + 600).state
    assert state.seconds_ahead(START + 600) == 0
    late = replay.tick(START + 100)
    assert (late.events, late.state.seconds_ahead(START + 100)) == (0, pytest.approx(500))
    steer(replay.store, resume, START + 100)
    healed = replay.tick(START + 110).state
    assert healed.watermark == pytest.approx((state.watermark or 0) + 10 * 60)


@pytest.fixture(scope="module")
def begun_once(
    small: EventsFile, tmp_path_factory: pytest.TempPathFactory, make_replay: MakeReplay
) -> ReplayState:
    return make_replay(small, tmp_path_factory.mktemp("begun")).tick(START).state


@pytest.fixture
def begun(small: EventsFile, tmp_path: Path, make_replay: MakeReplay) -> ReplayState:
    """A loop of three days, at day 1 of loop 0, 13:53:20.25."""
    return make_replay(small, tmp_path).tick(START).state


def test_a_seek_target_is_a_day_of_the_loop_that_plays_or_a_timestamp(begun: ReplayState) -> None:
    epoch, cycle = begun.epoch, begun.cycle_seconds
    assert seek_second("0", begun, START) == epoch
    assert seek_second("2.5", begun, START) == epoch + 2.5 * DAY
    assert seek_second("2024-01-02", begun, START) == epoch + DAY
    assert seek_second("2024-01-02T06:30:00.5", begun, START) == epoch + DAY + 23_400.5
    assert seek_second("2024-01-02T06:30+02:00", begun, START) == epoch + DAY + 16_200
    later = step(2 * cycle)(begun, START)
    assert seek_second("0.5", later, START) == epoch + 2 * cycle + DAY / 2
    assert seek_second("2024-01-02", later, START) == epoch + DAY


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("3", "Seek to day 3 is outside the dataset: it has the days 0 to 2"),
        ("-0.1", "Seek to day -0.1 is outside the dataset: it has the days 0 to 2"),
        ("nan", "Seek to day nan is outside the dataset"),
        ("inf", "Seek to day inf is outside the dataset"),
        ("2023-12-31T23:59:59", "between 2024-01-01 00:00:00 and 2024-01-04 00:00:00 UTC"),
        ("2024-01-04", "Seek to 2024-01-04 is outside the dataset"),
        ("noon", "'noon': that is neither a dataset day nor an ISO 8601 timestamp"),
        ("", "neither a dataset day nor"),
    ],
)
def test_a_seek_outside_the_dataset_is_refused(
    target: str, told: str, begun: ReplayState, tmp_path: Path, file_tree: Tree
) -> None:
    before = file_tree(tmp_path)
    with pytest.raises(SettingsError) as caught:
        steer(StateStore(tmp_path / "misc"), seek(target), START)
    assert told in caught.value.message
    assert caught.value.hint
    assert file_tree(tmp_path) == before
    assert begun.takes == 0


@pytest.mark.parametrize("speed", [0.0, -1.0, math.nan, math.inf])
def test_a_speed_of_zero_or_less_is_refused(
    speed: float, begun: ReplayState, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="must be a number above 0"):
        steer(StateStore(tmp_path / "misc"), set_speed(speed), START)
    assert StateStore(tmp_path / "misc").load() == begun


@pytest.mark.parametrize("seconds", [0.0, -60.0, math.nan, math.inf])
def test_a_step_that_does_not_go_forward_is_refused(seconds: float, begun: ReplayState) -> None:
    with pytest.raises(SettingsError, match="must be a number above 0"):
        step(seconds)(begun, START)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("1h30m", 5_400), ("2d", 172_800), ("0.5h", 1_800)],
)
def test_a_duration_has_numbers_with_units(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "m", "1h 30m", "-5m", "1w", "5mm", "1e3s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="is not a duration"):
        parse_duration(text)


def test_a_replay_that_has_not_begun_cannot_be_steered(tmp_path: Path) -> None:
    with pytest.raises(ReplayStateError, match="No replay has begun"):
        steer(StateStore(tmp_path / "misc"), pause, START)
    assert not list(tmp_path.iterdir())


def test_after_a_run_that_was_cut_off_a_seek_back_waits_and_the_rest_does_not(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay
) -> None:
    replay = make_replay(small, tmp_path)
    replay.tick(START)

    def die(_count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replay.tick(START + 120, die)
    with pytest.raises(ReplayStateError, match="its window is not finished"):
        steer(replay.store, seek("0"), START + 130)
    state = steer(replay.store, pause, START + 130)
    assert state.pending is not None
    finished = replay.tick(START + 200).state
    assert finished.pending is None
    assert finished.watermark == finished.clock.virtual_time(START + 200)


def test_steering_waits_for_a_run_and_a_run_for_who_steers(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay = make_replay(small, tmp_path)
    replay.tick(START)
    monkeypatch.setattr("caspers_lib.replay.engine._STEERING_WAIT", 0.1)
    with replay.lock.held("run"), pytest.raises(ReplayLockedError, match="is writing"):
        steer(replay.store, pause, START + 1)
    assert not steer(replay.store, resume, START + 1).clock.is_paused
    seen: list[float] = []
    lock = ReplayLock(replay.store.folder, sleep=seen.append)
    with lock.held("steer"):
        ticks = iter(range(100))
        waiting = ReplayLock(
            replay.store.folder, clock=lambda: float(next(ticks)), sleep=seen.append
        )
        with pytest.raises(ReplayLockedError), waiting.held("run"):
            pass
    assert seen
