"""The replay: windows of the dataset, written as events, exactly once.

Contract: DESIGN section 5. The pending window is recorded before anything is written; a run after
a crash first finishes exactly that window under the same file names.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid5

from caspers_lib.domain import GHOST_KITCHEN, Domain
from caspers_lib.errors import ReplayStateError, SettingsError
from caspers_lib.replay.clock import event_shift, start_clock
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.event_batches import event_batches
from caspers_lib.replay.sink import Sink
from caspers_lib.replay.state import ReplayState, StateStore
from caspers_lib.replay.window import Window

__all__ = ["Replay", "Tick"]


@dataclass(frozen=True, slots=True)
class Tick:
    """What one run wrote.

    Args:
        events: number of events.
        window: virtual seconds (after, until] that are now written.
        state: where the replay stands.
    """

    events: int
    window: Window
    state: ReplayState


@dataclass(frozen=True, slots=True)
class Replay:
    """A dataset that is played into a sink.

    Args:
        dataset: what is played.
        sink: what receives the events.
        store: the state (in the volume `misc`).
        start_day: dataset day that falls on the day of the first run.
        speed: virtual seconds a wall-clock second on the first run; None later on keeps the
            speed the replay has.
        domain: the business.
        scratch: folder for what does not fit into memory; None is the system's.
    """

    dataset: EventsFile
    sink: Sink
    store: StateStore
    start_day: int
    speed: float | None
    domain: Domain = GHOST_KITCHEN
    scratch: Path | None = None

    def tick(self, now: float, on_events: Callable[[int], None] = lambda _count: None) -> Tick:
        """Write every event between the watermark and `now`.

        Args:
            now: wall clock, UTC epoch seconds.
            on_events: called with the number of events of each written piece.

        Raises:
            SettingsError: the speed or, on the first run, the start day is not allowed.
            ReplayStateError: the state can't be read or belongs to another dataset.
            DatasetError: the dataset holds a row that is no event.
        """
        stored = self.store.load()
        finished = 0
        state = self._state(stored, now)
        if state.pending is not None:
            finished, state = self._finish(state, on_events)
        window = Window(state.watermark, state.clock.virtual_time(now))
        if window.is_empty:
            # A new speed counts from this moment on, even where it has played nothing yet.
            if state != stored:
                self.store.save(state)
            return Tick(finished, window, state)
        state = replace(state, pending=window)
        self.store.save(state)
        count, state = self._finish(state, on_events)
        return Tick(finished + count, window, state)

    def next_window(self, now: float) -> Window:
        """The window that a run at `now` would write; after a crash first the pending one.

        Args:
            now: wall clock, UTC epoch seconds.

        Raises:
            ReplayStateError, SettingsError: as `tick` would, before anything is written.
        """
        state = self._state(self.store.load(), now)
        return state.pending or Window(state.watermark, state.clock.virtual_time(now))

    def _state(self, stored: ReplayState | None, now: float) -> ReplayState:
        return self._first_state(now) if stored is None else self._steered(stored, now)

    def _first_state(self, now: float) -> ReplayState:
        if not 0 <= self.start_day < self.dataset.cycle_days:
            raise SettingsError(
                f"START_DAY is {self.start_day}; the dataset {self.dataset.path} has the days "
                f"0 to {self.dataset.cycle_days - 1}",
                hint="choose a day inside the dataset",
            )
        if self.speed is None:
            raise SettingsError("A first run needs a speed", hint="the default is 60")
        epoch = self.dataset.epoch
        return ReplayState(
            simulation_start=now,
            epoch=epoch,
            cycle_seconds=self.dataset.cycle_seconds,
            shift_seconds=event_shift(now, epoch=epoch, start_day=self.start_day),
            clock=start_clock(now, epoch=epoch, start_day=self.start_day, speed=self.speed),
        )

    def _steered(self, state: ReplayState, now: float) -> ReplayState:
        mine = (self.dataset.epoch, self.dataset.cycle_seconds)
        if mine != (state.epoch, state.cycle_seconds):
            raise ReplayStateError(
                f"The replay was begun with a dataset of epoch {state.epoch} and "
                f"{state.cycle_seconds} s a loop; {self.dataset.path} has {mine[0]} and {mine[1]}",
                hint="go on with the dataset it was begun with, or begin anew with "
                "`caspers destroy`",
            )
        if self.speed is None:
            return state
        return replace(state, clock=state.clock.with_speed(self.speed, now))

    def _finish(
        self, state: ReplayState, on_events: Callable[[int], None]
    ) -> tuple[int, ReplayState]:
        """Write the pending window, then move the watermark to its end."""
        window = state.pending
        assert window is not None  # noqa: S101 - both callers set it
        name = uuid5(
            self.domain.namespace, f"{state.simulation_start}|{window.after}|{window.until}"
        )
        batches = event_batches(
            self.dataset,
            window,
            state.shift_seconds,
            domain=self.domain,
            form=self.sink.form,
            scratch=self.scratch,
        )
        count = self.sink.write(batches, name=str(name), on_events=on_events)
        state = replace(state, watermark=window.until, pending=None)
        self.store.save(state)
        return count, state
