"""The replay's clock: wall-clock seconds to virtual seconds, piecewise.

A new speed, a pause or a seek adds a segment and never rewrites the past; virtual time goes back by
a seek alone. It ends with the times that the tables can hold.
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from caspers_lib.errors import SettingsError
from caspers_lib.spark_sql import FIRST_YEAR, LAST_YEAR

__all__ = [
    "CALENDAR_END",
    "CALENDAR_START",
    "DAY",
    "EVENTS_END",
    "EVENTS_START",
    "MAX_SPEED",
    "Clock",
    "Segment",
    "event_shift",
    "last_virtual_second",
    "start_clock",
    "utc_text",
]

DAY = 86_400
# A day within the years 1 to 9999, which Python, Spark and PostgreSQL show in any time zone.
CALENDAR_START = -62_135_510_400
CALENDAR_END = 253_402_214_400
# What the rules of the tables take for an event's time, and a day less.
EVENTS_START = int(datetime(FIRST_YEAR, 1, 2, tzinfo=UTC).timestamp())
EVENTS_END = int(datetime(LAST_YEAR, 12, 31, tzinfo=UTC).timestamp())
MAX_SPEED = 1_000_000.0
"""Virtual seconds a wall-clock second: a loop of 90 days in eight seconds."""


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
    """Segments in the order in which they were added; at least one, and the newest one counts.

    Args:
        segments: where virtual time goes on from, and how fast.
        end: the last virtual second, where the clock stops.
    """

    segments: tuple[Segment, ...]
    end: float = field(default=CALENDAR_END, compare=False, repr=False)

    def virtual_time(self, wall: float) -> float:
        """Virtual seconds at `wall` (UTC epoch seconds), at most `end`.

        A wall clock behind the newest segment gives the segment's own start.
        """
        newest = self.segments[-1]
        return min(newest.virtual + max(0.0, wall - newest.wall) * newest.speed, self.end)

    @property
    def start(self) -> float:
        """p0: virtual seconds at the simulation's start."""
        return self.segments[0].virtual

    @property
    def speed(self) -> float:
        """Virtual seconds a wall-clock second, from the newest segment on; 0 while paused."""
        return self.segments[-1].speed

    @property
    def is_paused(self) -> bool:
        """Virtual time stands still."""
        return self.speed == 0

    @property
    def running_speed(self) -> float:
        """The speed, or while paused the one that `resumed` goes on with."""
        return next((s.speed for s in reversed(self.segments) if s.speed), 1.0)

    def with_speed(self, speed: float, wall: float) -> "Clock":
        """The clock that runs at `speed` from `wall` on; a paused one stays so until resumed.

        Raises:
            SettingsError: the speed is not a number above 0, up to `MAX_SPEED`.
        """
        _refuse_bad_speed(speed)
        if speed == self.running_speed:
            return self
        clock = self._with(wall, self.virtual_time(wall), speed)
        return clock.paused(wall) if self.is_paused else clock

    def paused(self, wall: float) -> "Clock":
        """The clock that stands still from `wall` on."""
        return self if self.is_paused else self._with(wall, self.virtual_time(wall), 0.0)

    def resumed(self, wall: float) -> "Clock":
        """The clock that goes on from `wall` at the speed it had before the pause."""
        if not self.is_paused:
            return self
        return self._with(wall, self.virtual_time(wall), self.running_speed)

    def moved_to(self, virtual: float, wall: float) -> "Clock":
        """The clock that shows `virtual` at `wall`, and goes on from there as it did."""
        return self._with(wall, virtual, self.speed)

    def rewound(self, wall: float) -> "Clock":
        """The clock that shows p0 at `wall` and runs at the speed of the simulation's start."""
        return self._with(wall, self.start, self.segments[0].speed)

    def _with(self, wall: float, virtual: float, speed: float) -> "Clock":
        return replace(self, segments=(*self.segments, Segment(wall, virtual, speed)))


def start_clock(wall: float, *, epoch: int, start_day: int, speed: float) -> Clock:
    """The clock of a first run: p0 = epoch + start_day days + time of day of `wall`.

    Args:
        wall: UTC epoch seconds of the first run (s).
        epoch: virtual second at which day 0 begins (E).
        start_day: dataset day that falls on the day of `wall`.
        speed: virtual seconds a wall-clock second.

    Raises:
        SettingsError: the speed is not a number above 0, up to `MAX_SPEED`.
    """
    _refuse_bad_speed(speed)
    return Clock((Segment(wall, epoch + start_day * DAY + wall % DAY, speed),))


def event_shift(wall: float, *, epoch: int, start_day: int) -> int:
    """Seconds from virtual time to emitted time: midnight(s) - start_day days - epoch."""
    return int(wall // DAY) * DAY - start_day * DAY - epoch


def last_virtual_second(shift: int) -> int:
    """The last virtual second of which an event may bear the time.

    Args:
        shift: seconds from virtual to emitted time.
    """
    return min(CALENDAR_END, EVENTS_END - shift)


def utc_text(seconds: float) -> str:
    """A moment as text, `yyyy-MM-dd HH:mm:ss`, for people.

    Args:
        seconds: UTC epoch seconds; beyond the calendar, its end is shown.
    """
    shown = min(max(seconds, CALENDAR_START), CALENDAR_END)
    return (datetime(1970, 1, 1) + timedelta(seconds=shown)).isoformat(" ", "seconds")


def _refuse_bad_speed(speed: float) -> None:
    if not 0 < speed <= MAX_SPEED:
        raise SettingsError(
            f"The replay's speed is {speed}; it must be a number above 0, at most {MAX_SPEED:,.0f}",
            hint="60 plays an hour in a minute; `caspers replay pause` stops it",
        )
