"""What a demo gives its console: how far it is, its databases, and the replay's controls."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from caspers_lib.console.source import LiveStatus, StageStatus, TableStatus
from caspers_lib.errors import SettingsError
from caspers_lib.replay import steering
from caspers_lib.replay.clock import DAY
from caspers_lib.replay.engine import steer
from caspers_lib.replay.state import ReplayState, StateStore
from caspers_lib.runtime.stages import StageReport

__all__ = ["DemoControls", "TableNow", "demo_status", "event_time", "seek_event_time"]


@dataclass(frozen=True, slots=True)
class TableNow:
    """A Delta table at a moment.

    Args:
        rows: how many.
        changed: when its newest commit was made, UTC.
    """

    rows: int
    changed: datetime


@dataclass(frozen=True, slots=True)
class DemoControls:
    """The console's `ReplayControls`; steers as `caspers replay` does.

    Args:
        store: the replay's state.
        now: the wall clock, UTC epoch seconds.
    """

    store: StateStore
    now: Callable[[], float] = time.time

    def pause(self) -> None:
        """Virtual time stands still from now on."""
        self._steer(steering.pause)

    def resume(self) -> None:
        """Virtual time goes on at the speed it had."""
        self._steer(steering.resume)

    def set_speed(self, speed: float) -> None:
        """Another speed, in virtual seconds per wall-clock second."""
        self._steer(steering.set_speed(speed))

    def seek(self, target: str) -> None:
        """To another time, see `seek_event_time`."""
        self._steer(seek_event_time(target))

    def _steer(self, change: steering.Steering) -> None:
        steer(self.store, change, self.now())


def seek_event_time(target: str) -> steering.Steering:
    """To a moment as people see it: in event time, which is what events and the page bear.

    Args:
        target: a dataset day of the loop that plays (`75`, `75.5`), event time in ISO 8601, UTC
            unless it says otherwise, or a duration from now on or back (`+6h`, `-30m`).

    Raises:
        SettingsError: when applied; it is none of these, or lies outside the dataset.
    """

    def sought(state: ReplayState, now: float) -> ReplayState:
        virtual = state.virtual_time(now)
        if target.startswith("+"):
            return _step(target, state, now)
        if target.startswith("-"):
            virtual -= steering.parse_duration(target[1:])
        elif (moment := _iso_seconds(target)) is not None:
            virtual = moment - state.shift_seconds
        else:
            return steering.seek(target)(state, now)
        _refuse_outside(target, virtual, state, now)
        return steering.seek(datetime.fromtimestamp(virtual, UTC).isoformat())(state, now)

    return sought


def demo_status(
    state: ReplayState | None,
    reports: tuple[StageReport, ...],
    tables: dict[str, TableNow],
    now: float,
) -> LiveStatus:
    """What the console shows besides Postgres.

    Args:
        state: the replay's state; None before it has begun.
        reports: what the stages report.
        tables: the Delta tables by name.
        now: wall clock, UTC epoch seconds.
    """
    return LiveStatus(
        virtual_time=event_time(state),
        due=_clock_time(state, now) if state else None,
        speed=state.clock.running_speed if state else None,
        paused=state is not None and state.clock.is_paused,
        place=_place(state) if state else "",
        stages=tuple(_stage_status(report, now) for report in reports),
        tables=tuple(
            TableStatus(name, table.rows, max(0.0, now - table.changed.timestamp()))
            for name, table in tables.items()
        ),
    )


def event_time(state: ReplayState | None) -> datetime | None:
    """Event time up to which events are written; None before the first run has ended."""
    if state is None or state.watermark is None:
        return None
    return datetime.fromtimestamp(state.watermark + state.shift_seconds, UTC)


def _clock_time(state: ReplayState, now: float) -> datetime:
    return datetime.fromtimestamp(state.clock.virtual_time(now) + state.shift_seconds, UTC)


def _place(state: ReplayState) -> str:
    reached = state.clock.start if state.watermark is None else state.watermark
    loop = state.loop_of(reached)
    day = (reached - state.epoch - loop * state.cycle_seconds) // DAY
    again = f", loop {loop}" if loop else ""
    return f"day {day:.0f} of {state.cycle_seconds // DAY}{again}"


def _stage_status(report: StageReport, now: float) -> StageStatus:
    seconds = now - report.started if report.state == "running" else report.seconds
    return StageStatus(report.name.replace("_", " "), report.state, report.detail, seconds)


def _iso_seconds(text: str) -> float | None:
    try:
        float(text)  # a day; Python also reads "20240316" as a date
    except ValueError:
        pass
    else:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _step(target: str, state: ReplayState, now: float) -> ReplayState:
    seconds = steering.parse_duration(target[1:])
    if seconds > state.cycle_seconds:
        raise SettingsError(
            f"Seek by {target} is further than one loop of the dataset,"
            f" {state.cycle_seconds // DAY} days",
            hint="All events on the way are written; go there in steps.",
        )
    return steering.step(seconds)(state, now)


def _refuse_outside(target: str, virtual: float, state: ReplayState, now: float) -> None:
    """The replay's own message would name dataset time, which nobody sees on the page."""
    begin = state.epoch + state.loop_of(state.virtual_time(now)) * state.cycle_seconds
    end = begin + state.cycle_seconds
    if not state.epoch <= virtual < end:
        first, last = (
            f"{datetime.fromtimestamp(second + state.shift_seconds, UTC):%Y-%m-%d %H:%M}"
            for second in (state.epoch, end)
        )
        raise SettingsError(
            f"Seek to {target} is outside the dataset: its events lie between {first} and {last}"
            " UTC",
            hint="A dataset day such as 75.5 is fine too.",
        )
