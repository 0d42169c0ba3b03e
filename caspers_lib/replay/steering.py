"""Steering a replay like a tape: pause, resume, speed, seek, step, reset, as pure functions.

Each takes the state and the wall clock and gives the state that counts from then on. After the
wall clock went back, each begins a segment at the new time, so that the replay goes on. A seek
forward plays all that lies between at the next run. A seek back moves the watermark along: what
follows is played again, the very same events under the same ids.
"""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from caspers_lib.errors import ReplayStateError, SettingsError
from caspers_lib.replay.clock import DAY, utc_text
from caspers_lib.replay.state import ReplayState

__all__ = [
    "Steering",
    "course_line",
    "dataset_place",
    "parse_duration",
    "pause",
    "reset",
    "resume",
    "seek",
    "seek_second",
    "set_speed",
    "step",
]

Steering = Callable[[ReplayState, float], ReplayState]
"""A change of course: (state, wall clock in UTC epoch seconds) to the state from then on."""

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": DAY}


def pause(state: ReplayState, now: float) -> ReplayState:
    """Virtual time stands still from now on."""
    return replace(state, clock=state.clock_at(now).paused(now))


def resume(state: ReplayState, now: float) -> ReplayState:
    """Virtual time goes on at the speed it had before the pause."""
    return replace(state, clock=state.clock_at(now).resumed(now))


def set_speed(speed: float) -> Steering:
    """Another speed, in virtual seconds a wall-clock second; a paused replay keeps it for later.

    Raises:
        SettingsError: when applied; the speed is not a number above 0, up to `MAX_SPEED`.
    """
    return lambda state, now: replace(state, clock=state.clock_at(now).with_speed(speed, now))


def seek(target: str) -> Steering:
    """To a dataset day or timestamp, see `seek_second`."""
    return lambda state, now: _moved(state, seek_second(target, state, now), now)


def step(seconds: float) -> Steering:
    """Forward by some virtual seconds, paused or not.

    Raises:
        SettingsError: when applied; the step is not a number above 0, or leads out of the years
            that a time can have.
    """

    def stepped(state: ReplayState, now: float) -> ReplayState:
        if not (math.isfinite(seconds) and seconds > 0):
            raise SettingsError(
                f"The step is {seconds} virtual seconds; it must be a number above 0",
                hint="`caspers replay seek` goes back",
            )
        target, end = state.virtual_time(now) + seconds, state.clock.end
        if target > end:
            raise SettingsError(
                f"The step of {seconds:g} virtual seconds leads past {utc_text(end)} UTC, the last "
                "virtual time of an event",
                hint="`caspers replay status` shows where it stands",
            )
        return _moved(state, target, now)

    return stepped


def reset(state: ReplayState, now: float) -> ReplayState:
    """Back to the simulation's start, running at the speed it had then."""
    rewound = _moved(state, state.clock.start, now)
    return replace(rewound, clock=state.clock.rewound(now))


def seek_second(target: str, state: ReplayState, now: float) -> float:
    """The virtual second that a person means.

    Args:
        target: a dataset day of the loop that plays (`75` or `75.5`: at noon), or an ISO 8601
            timestamp of virtual time, UTC unless it says otherwise (`2024-03-16T12:30`).
        state: where the replay stands.
        now: wall clock, UTC epoch seconds.

    Raises:
        SettingsError: it is neither, or lies outside the dataset.
    """
    loop = state.loop_of(state.virtual_time(now))
    begin = state.epoch + loop * state.cycle_seconds
    end = min(begin + state.cycle_seconds, state.clock.end)
    try:
        day = float(target)
    except ValueError:
        moment = _moment(target)
        if not state.epoch <= moment < end:
            raise SettingsError(
                f"Seek to {target} is outside the dataset: virtual time is between "
                f"{utc_text(state.epoch)} and {utc_text(end)} UTC",
                hint="`caspers replay status` shows where it stands",
            ) from None
        return moment
    if not 0 <= day < (end - begin) / DAY:
        raise SettingsError(
            f"Seek to day {target} is outside the dataset: it has the days 0 to "
            f"{math.ceil((end - begin) / DAY) - 1}",
            hint="`caspers replay step` goes on into the next loop",
        )
    return begin + day * DAY


def course_line(state: ReplayState, now: float) -> str:
    """What the clock does from now on, in one line."""
    virtual = state.virtual_time(now)
    moment = f"{utc_text(virtual)} UTC ({dataset_place(state, virtual)})"
    if state.clock.is_paused:
        return f"paused at {moment}, goes on at speed {state.clock.running_speed:g}"
    return f"plays at speed {state.clock.speed:g} from {moment}"


def dataset_place(state: ReplayState, virtual: float) -> str:
    """Dataset day and loop of a virtual second, as text."""
    loop = state.loop_of(virtual)
    day = (virtual - state.epoch - loop * state.cycle_seconds) // DAY
    return f"dataset day {day:.0f}, loop {loop}"


def parse_duration(text: str) -> float:
    """Seconds of a duration such as `90s`, `15m`, `1h30m` or `2d`.

    Raises:
        SettingsError: it isn't one.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise SettingsError(
            f"{text!r} is not a duration; it must be numbers with a unit of s, m, h or d",
            hint="1h30m is an hour and a half",
        )
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _moved(state: ReplayState, virtual: float, now: float) -> ReplayState:
    clock = state.clock.moved_to(virtual, now)
    if state.written is None or virtual >= state.written:
        return replace(state, clock=clock)
    if state.pending is not None:
        raise ReplayStateError(
            "The newest run was cut off and its window is not finished: a seek back must wait",
            hint="run `caspers replay tick` first",
        )
    return replace(state, clock=clock, watermark=virtual, takes=state.takes + 1)


def _moment(text: str) -> float:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise SettingsError(
            f"Seek to {text!r}: that is neither a dataset day nor an ISO 8601 timestamp",
            hint="75, 75.5 and 2024-03-16T12:30 are fine",
        ) from error
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
