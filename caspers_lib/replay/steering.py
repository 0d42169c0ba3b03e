"""Steering a replay like a tape: pause, resume, speed, seek, step, reset, as pure functions.

Contract: DESIGN section 5. Each takes the state and the wall clock and gives the state that counts
from then on. A seek forward plays all that lies between at the next run. A seek back moves the
watermark along: what follows is played again, the very same events under the same ids.
"""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from caspers_lib.errors import ReplayStateError, SettingsError
from caspers_lib.replay.clock import DAY
from caspers_lib.replay.state import ReplayState

__all__ = [
    "Steering",
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
    return replace(state, clock=state.clock.paused(now))


def resume(state: ReplayState, now: float) -> ReplayState:
    """Virtual time goes on at the speed it had before the pause."""
    return replace(state, clock=state.clock.resumed(now))


def set_speed(speed: float) -> Steering:
    """Another speed, in virtual seconds a wall-clock second; a paused replay keeps it for later.

    Raises:
        SettingsError: when applied; the speed is not a number above 0.
    """
    return lambda state, now: replace(state, clock=state.clock.with_speed(speed, now))


def seek(target: str) -> Steering:
    """To a dataset day or timestamp, see `seek_second`."""
    return lambda state, now: _moved(state, seek_second(target, state, now), now)


def step(seconds: float) -> Steering:
    """Forward by some virtual seconds, paused or not.

    Raises:
        SettingsError: when applied; the step is not a number above 0.
    """

    def stepped(state: ReplayState, now: float) -> ReplayState:
        if not (math.isfinite(seconds) and seconds > 0):
            raise SettingsError(
                f"The step is {seconds} virtual seconds; it must be a number above 0",
                hint="`caspers replay seek` goes back",
            )
        return _moved(state, state.clock.virtual_time(now) + seconds, now)

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
    loop = state.loop_of(state.clock.virtual_time(now))
    begin = state.epoch + loop * state.cycle_seconds
    end = begin + state.cycle_seconds
    try:
        day = float(target)
    except ValueError:
        moment = _moment(target)
        if not state.epoch <= moment < end:
            raise SettingsError(
                f"Seek to {target} is outside the dataset: virtual time is between "
                f"{_utc(state.epoch)} and {_utc(end)} UTC",
                hint="`caspers replay status` shows where it stands",
            ) from None
        return moment
    if not 0 <= day < state.cycle_seconds / DAY:
        raise SettingsError(
            f"Seek to day {target} is outside the dataset: it has the days 0 to "
            f"{state.cycle_seconds // DAY - 1}",
            hint="`caspers replay step` goes on into the next loop",
        )
    return begin + day * DAY


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
    written = state.watermark if state.pending is None else state.pending.until
    if written is None or virtual >= written:
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


def _utc(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"
