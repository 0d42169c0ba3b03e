"""Wall clock to virtual time, and virtual to emitted time."""

import math
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caspers_lib.errors import SettingsError
from caspers_lib.replay.clock import CALENDAR_END, DAY, Clock, Segment, event_shift, start_clock

EPOCH = 1_704_067_200
NOON = 1_750_000_000 // DAY * DAY + DAY / 2

walls = st.integers(10**12, 4 * 10**12).map(lambda milliseconds: milliseconds / 1_000)
speeds = st.floats(0.01, 100_000)
days = st.integers(0, 364)


def clock_at(wall: float = NOON, speed: float = 60.0) -> Clock:
    return start_clock(wall, epoch=EPOCH, start_day=70, speed=speed)


@given(walls, days)
def test_the_first_run_stands_on_the_start_day_at_its_own_time_of_day(
    wall: float, start_day: int
) -> None:
    clock = start_clock(wall, epoch=EPOCH, start_day=start_day, speed=60)
    now = datetime.fromtimestamp(wall, UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    day = datetime.fromtimestamp(EPOCH, UTC) + timedelta(days=start_day)
    assert clock.virtual_time(wall) == pytest.approx((day + (now - midnight)).timestamp(), abs=1e-5)


def test_the_first_run_stands_at_this_virtual_second() -> None:
    assert clock_at().virtual_time(NOON) == EPOCH + 70 * DAY + DAY / 2


def test_virtual_time_runs_at_the_speed() -> None:
    clock = clock_at(speed=60)
    start = clock.virtual_time(NOON)
    assert clock.virtual_time(NOON + 10) == start + 600
    assert clock.virtual_time(NOON + 10.5) == start + 630


@given(walls, st.lists(st.tuples(st.floats(0, 1e6), st.none() | speeds), max_size=12))
def test_virtual_time_never_goes_back(wall: float, steps: list[tuple[float, float | None]]) -> None:
    clock, reached = clock_at(wall), -math.inf
    for seconds, speed in steps:
        wall += seconds
        if speed is not None:
            clock = clock.with_speed(speed, wall)
        assert clock.virtual_time(wall) >= reached
        reached = clock.virtual_time(wall)


@given(walls, speeds, speeds, st.floats(0, 1e6), st.floats(0, 1e6))
def test_r5_a_new_speed_counts_from_now_on(
    wall: float, old: float, new: float, before: float, after: float
) -> None:
    clock = start_clock(wall, epoch=EPOCH, start_day=70, speed=old)
    change = wall + before
    changed = clock.with_speed(new, change)
    assert changed.virtual_time(change) == clock.virtual_time(change)
    played = changed.virtual_time(change + after) - changed.virtual_time(change)
    assert played == pytest.approx(after * new, abs=0.1)
    assert changed.segments[:1] == clock.segments


def test_r5_slowing_down_after_a_day_at_60x_does_not_stall_the_replay() -> None:
    clock = clock_at(speed=60)
    slowed = clock.with_speed(1, NOON + DAY)
    reached = clock.virtual_time(NOON + DAY)
    assert slowed.virtual_time(NOON + DAY) == reached
    assert slowed.virtual_time(NOON + DAY + 1) == reached + 1


def test_each_new_speed_adds_a_segment_and_the_same_speed_adds_none() -> None:
    clock = clock_at(speed=60)
    assert clock.with_speed(60, NOON + 5) is clock
    twice = clock.with_speed(1, NOON + 5).with_speed(2, NOON + 10)
    start = clock.segments[0]
    assert twice.segments == (
        start,
        Segment(NOON + 5, start.virtual + 300, 1),
        Segment(NOON + 10, start.virtual + 305, 2),
    )
    assert twice.speed == 2


def test_a_pause_holds_virtual_time_and_it_goes_on_from_there_at_the_same_speed() -> None:
    paused = clock_at(speed=60).paused(NOON + 10)
    assert paused.is_paused
    assert paused.virtual_time(NOON + 10_000) == paused.virtual_time(NOON + 10)
    assert paused.paused(NOON + 20) is paused
    resumed = paused.resumed(NOON + 10_000)
    assert resumed.virtual_time(NOON + 10_001) == paused.virtual_time(NOON + 10) + 60
    assert resumed.resumed(NOON + 10_002) is resumed


def test_a_new_speed_during_a_pause_counts_from_when_it_goes_on() -> None:
    paused = clock_at(speed=60).paused(NOON + 10).with_speed(5, NOON + 20)
    assert paused.is_paused
    assert paused.running_speed == 5
    assert paused.virtual_time(NOON + 10_000) == paused.virtual_time(NOON + 10)
    resumed = paused.resumed(NOON + 10_000)
    assert resumed.virtual_time(NOON + 10_001) == paused.virtual_time(NOON + 10) + 5


@given(walls, speeds, st.floats(0, 1e6), st.floats(-1e6, 1e6), st.floats(0, 1e6), st.booleans())
def test_a_move_shows_its_target_and_goes_on_as_it_did(
    wall: float, speed: float, before: float, distance: float, after: float, is_paused: bool
) -> None:
    clock = clock_at(wall, speed)
    if is_paused:
        clock = clock.paused(wall)
    target = clock.virtual_time(wall + before) + distance
    moved = clock.moved_to(target, wall + before)
    assert moved.virtual_time(wall + before) == target
    expected = 0 if is_paused else after * speed
    assert moved.virtual_time(wall + before + after) - target == pytest.approx(expected, abs=0.1)
    assert moved.running_speed == speed
    assert moved.segments[:-1] == clock.segments


def test_a_reset_shows_the_start_again_at_the_speed_it_had_then() -> None:
    clock = clock_at(speed=60)
    rewound = clock.with_speed(5, NOON + 100).paused(NOON + 200).rewound(NOON + 300)
    assert rewound.virtual_time(NOON + 310) == clock.start + 600


def test_a_wall_clock_that_went_back_stops_virtual_time_until_a_segment_begins_there() -> None:
    clock = clock_at(speed=60).with_speed(1, NOON + 100)
    reached = clock.virtual_time(NOON + 100)
    assert clock.virtual_time(NOON - 5_000) == reached
    faster = clock.with_speed(1_000, NOON - 5_000)
    assert faster.virtual_time(NOON - 5_000) == reached
    assert faster.virtual_time(NOON - 4_999) == reached + 1_000


def test_virtual_time_ends_with_the_calendar() -> None:
    clock = clock_at(speed=1e6)
    assert clock.virtual_time(NOON + 1e12) == CALENDAR_END
    assert clock.paused(NOON + 1e12).resumed(NOON + 2e12).virtual_time(NOON + 3e12) == CALENDAR_END


def test_at_1x_every_poll_however_often_moves_virtual_time() -> None:
    clock = clock_at(speed=1)
    polls = [clock.virtual_time(NOON + DAY + n / 1_000) for n in range(1_000)]
    assert all(b > a for a, b in pairwise(polls))
    assert polls[-1] - polls[0] == pytest.approx(0.999)


@pytest.mark.parametrize("speed", [0.0, -1.0, -1e-9, math.nan, math.inf, -math.inf])
def test_a_speed_that_is_no_speed_is_refused(speed: float) -> None:
    with pytest.raises(SettingsError, match=rf"speed is {speed}; it must be a number above 0"):
        clock_at().with_speed(speed, NOON)
    with pytest.raises(SettingsError, match=rf"speed is {speed}; it must be a number above 0"):
        clock_at(speed=speed)


@given(walls, days)
def test_the_start_day_falls_on_the_day_of_the_first_run(wall: float, start_day: int) -> None:
    shift = event_shift(wall, epoch=EPOCH, start_day=start_day)
    emitted = datetime.fromtimestamp(EPOCH + start_day * DAY + shift, UTC)
    assert emitted.date() == datetime.fromtimestamp(wall, UTC).date()
    assert emitted.time().isoformat() == "00:00:00"


@given(st.integers(10_000, 40_000), st.integers(0, DAY * 1_000 - 1), days)
def test_r1_the_shift_is_the_same_at_every_moment_of_the_first_runs_day(
    day: int, millisecond: int, start_day: int
) -> None:
    first, later = (
        event_shift(wall, epoch=EPOCH, start_day=start_day)
        for wall in (day * DAY, day * DAY + millisecond / 1_000)
    )
    assert first == later == (day - start_day) * DAY - EPOCH
