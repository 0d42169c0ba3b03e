"""Where the replay stands, as data: for `caspers replay status` and for other programs."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from caspers_lib.replay.clock import DAY
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.event_counts import hourly_counts, window_counts
from caspers_lib.replay.state import ReplayState, StateStore
from caspers_lib.replay.window import Window
from caspers_lib.runtime.local_root import LocalRoot, Owner, read_owner

__all__ = [
    "ReplayReport",
    "ReplayStatus",
    "clock_warning",
    "read_replay_report",
    "replay_status",
]

ReplayPhase = Literal["not_started", "running", "paused", "stopped"]
_RATE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class ReplayStatus:
    """Where the replay stands.

    Args:
        status: not_started, running (a process plays it), paused or stopped.
        speed: virtual seconds a wall-clock second; 0 while paused.
        watermark: virtual seconds up to which events are written.
        shift_seconds: from virtual to emitted time.
        loop: the watermark's loop, from 0.
        virtual_time: the clock's virtual time now, ISO 8601 UTC.
        clock_ahead_seconds: wall-clock seconds for which virtual time stands still, because this
            machine's clock went back behind the replay's; 0 as a rule.
    """

    status: ReplayPhase
    speed: float | None = None
    watermark: float | None = None
    shift_seconds: int | None = None
    loop: int | None = None
    virtual_time: str | None = None
    clock_ahead_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """The document of `caspers replay status --json`.

    Args:
        replay: where it stands.
        event_time: `ts` that an event of this moment bears, ISO 8601 UTC.
        dataset_day: dataset day of the clock's virtual time, from 0.
        lag_seconds: virtual seconds from the watermark to the clock's time.
        events_per_second: events that the newest wall-clock minute of play holds, a second; 0 while
            paused.
        next_tick: when the process that plays it ticks next, ISO 8601 UTC; None where none does.
        chaos: what is made dirty on purpose, None for nothing.
        hours: events by hour of the dataset day that plays, 24 numbers; empty before the first
            run.
    """

    replay: ReplayStatus
    event_time: str | None = None
    dataset_day: int | None = None
    lag_seconds: float | None = None
    events_per_second: float | None = None
    next_tick: str | None = None
    chaos: str | None = None
    hours: tuple[int, ...] = ()

    def as_document(self) -> dict[str, object]:
        """Plain values for JSON: one flat object."""
        document = asdict(self)
        return {**document.pop("replay"), **document}


def replay_status(state: ReplayState | None, now: float, *, alive: bool) -> ReplayStatus:
    """The replay's part of a status.

    Args:
        state: the replay's state, None before the first run.
        now: wall clock, UTC epoch seconds.
        alive: whether a process plays it.
    """
    if state is None:
        return ReplayStatus("not_started")
    running: ReplayPhase = "running" if alive else "stopped"
    return ReplayStatus(
        status="paused" if state.clock.is_paused else running,
        speed=state.clock.speed,
        watermark=state.watermark,
        shift_seconds=state.shift_seconds,
        loop=None if state.watermark is None else state.loop_of(state.watermark),
        virtual_time=_iso(state.virtual_time(now)),
        clock_ahead_seconds=state.seconds_ahead(now),
    )


def clock_warning(seconds_ahead: float) -> str:
    """What to do about a replay that waits because the wall clock went back; empty if none does.

    Args:
        seconds_ahead: see `ReplayState.seconds_ahead`.
    """
    if not seconds_ahead:
        return ""
    days, hours = seconds_ahead / DAY, seconds_ahead / 3_600
    ahead = f"{days:,.1f} days" if days >= 1 else f"{hours:,.2f} hours"
    return (
        f"the replay's clock is {ahead} ahead of this machine's, which went back: no event is due "
        "until then; `caspers replay resume` goes on from here by today's clock, `seek` and "
        "`reset` from elsewhere"
    )


def read_replay_report(root: LocalRoot, now: float, *, dataset: Path | None = None) -> ReplayReport:
    """Where the replay of ROOT stands; one that runs is not disturbed.

    Args:
        root: where it lies.
        now: wall clock, UTC epoch seconds.
        dataset: the events file that is played; None is what the newest process played.

    Raises:
        CaspersError: a part is there but can't be read.
    """
    owner, alive = read_owner(root)
    state = StateStore(root.replay_state).load()
    status = replay_status(state, now, alive=alive)
    if state is None:
        return ReplayReport(status)
    known = Path(owner.dataset) if owner and owner.dataset else root.dataset_file
    events = EventsFile.open(dataset or known, begun_cycle=state.cycle_seconds)
    virtual = state.virtual_time(now)
    loop_begin = state.epoch + state.loop_of(virtual) * state.cycle_seconds
    day = int((virtual - loop_begin) // DAY)
    reached = virtual if state.watermark is None else state.watermark
    return ReplayReport(
        replay=status,
        event_time=_iso(virtual + state.shift_seconds),
        dataset_day=day,
        lag_seconds=max(0.0, virtual - reached),
        events_per_second=_events_per_second(events, reached, state.clock.speed),
        next_tick=_next_tick(state, owner if alive else None, now),
        chaos=state.chaos,
        hours=tuple(hourly_counts(events, loop_begin + day * DAY, hours=24)),
    )


def _events_per_second(events: EventsFile, reached: float, speed: float) -> float:
    window = Window(reached - _RATE_SECONDS * speed, reached)
    return sum(window_counts(events, window).values()) / _RATE_SECONDS


def _next_tick(state: ReplayState, owner: Owner | None, now: float) -> str | None:
    if owner is None or owner.tick_seconds is None or state.ticked_at is None:
        return None
    # A time that is still to come was taken before the wall clock went back.
    return _iso(min(state.ticked_at, now) + owner.tick_seconds)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
