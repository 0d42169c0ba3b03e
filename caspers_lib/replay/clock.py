"""The replay's clock: wall-clock seconds to virtual seconds, piecewise.

Contract: DESIGN section 5. A new speed adds a segment and never rewrites the past.
"""

import math
from dataclasses import dataclass, replace

from caspers_lib.errors import SettingsError

__all__ = ["DAY", "Clock", "Segment", "event_shift", "start_clock"]

DAY = 86_400


@dataclass(frozen=True, slots=True)
class Segment:
    """From `wall` on, virtual time runs from `virtual` at `speed`.

    Args:
        wall: UTC epoch seconds.
        virtual: virtual seconds.
        speed: virtual seconds a wall-clock second; 0 while paused.
    """

    wall: float
    virtual: float
    speed: float


@dataclass(frozen=True, slots=True)
class Clock:
    """Segments in the order of their wall-clock time; at least one."""

    segments: tuple[Segment, ...]

    def virtual_time(self, wall: float) -> float:
        """p(now): virtual seconds at `wall` (UTC epoch seconds).

        A wall clock that went back behind the newest segment gives the segment's own start:
        virtual time never goes back.
        """
        newest = self.segments[-1]
        return newest.virtual + max(0.0, wall - newest.wall) * newest.speed

    @property
    def speed(self) -> float:
        """Virtual seconds a wall-clock second, from the newest segment on."""
        return self.segments[-1].speed

    def with_speed(self, speed: float, wall: float) -> "Clock":
        """The clock that runs at `speed` from `wall` on; the past stays as it was.

        Raises:
            SettingsError: the speed is negative or not a number.
        """
        _refuse_bad_speed(speed)
        if speed == self.speed:
            return self
        newest = Segment(max(wall, self.segments[-1].wall), self.virtual_time(wall), speed)
        return replace(self, segments=(*self.segments, newest))


def start_clock(wall: float, *, epoch: int, start_day: int, speed: float) -> Clock:
    """The clock of a first run: p0 = epoch + start_day days + time of day of `wall`.

    Args:
        wall: UTC epoch seconds of the first run (s).
        epoch: virtual second at which day 0 begins (E).
        start_day: dataset day that falls on the day of `wall`.
        speed: virtual seconds a wall-clock second.

    Raises:
        SettingsError: the speed is negative or not a number.
    """
    _refuse_bad_speed(speed)
    return Clock((Segment(wall, epoch + start_day * DAY + wall % DAY, speed),))


def event_shift(wall: float, *, epoch: int, start_day: int) -> int:
    """Seconds from virtual time to emitted time: midnight(s) - start_day days - epoch."""
    return int(wall // DAY) * DAY - start_day * DAY - epoch


def _refuse_bad_speed(speed: float) -> None:
    if not (math.isfinite(speed) and speed >= 0):
        raise SettingsError(
            f"The replay's speed is {speed}; it must be a number of 0 or more",
            hint="60 plays an hour in a minute, 0 pauses",
        )
