"""The replay: windows of the dataset, written as events, exactly once.

The pending window, and the form in which it is written, are recorded before anything is written; a
run after a crash first finishes exactly that window, in that form, under the same file names.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import uuid5

from caspers_lib.domain import GHOST_KITCHEN, Domain
from caspers_lib.errors import ReplayStateError, SettingsError
from caspers_lib.replay.chaos import Chaos
from caspers_lib.replay.chaos_manifest import manifest_batches
from caspers_lib.replay.clock import event_shift, start_clock
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.dataset_validation import validate_dataset
from caspers_lib.replay.event_batches import event_batches
from caspers_lib.replay.event_counts import window_counts, window_of
from caspers_lib.replay.form import Form
from caspers_lib.replay.lock import ReplayLock
from caspers_lib.replay.original_state import OriginalState, read_original_state
from caspers_lib.replay.pace import Pace
from caspers_lib.replay.sink import Sink
from caspers_lib.replay.state import ReplayState, StateStore
from caspers_lib.replay.steering import Steering
from caspers_lib.replay.volume_sink import Layout, VolumeSink
from caspers_lib.replay.window import Window

__all__ = ["CHAOS_FOLDER", "Preview", "Replay", "Tick", "steer"]

CHAOS_FOLDER = "chaos"
_STEERING_WAIT = 60.0


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
class Preview:
    """What a run would write.

    Args:
        window: virtual seconds (after, until], a window that was cut off included.
        counts: events by name of their type.
        state: the state that the run begins with.
        is_first: whether no run has been before.
    """

    window: Window
    counts: dict[str, int]
    state: ReplayState
    is_first: bool

    @property
    def events(self) -> int:
        """Number of events."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class Replay:
    """A dataset that is played into a sink.

    Args:
        dataset: what is played.
        sink: what receives the events.
        store: the state (in the volume `misc`).
        start_day: dataset day that falls on the day of the first run; None later on keeps it.
        speed: virtual seconds a wall-clock second that this run is told; None keeps the speed the
            replay has.
        speed_setting: the deployment's speed. It counts on the first run and from each run on that
            finds it changed, so that a speed set by `steer` stays; None keeps what it was.
        domain: the business.
        chaos: what is made dirty on purpose, from the first run on; None later on keeps what the
            replay was begun with.
        pace: how fast it may write.
        scratch: folder for what does not fit into memory; None is the system's.
    """

    dataset: EventsFile
    sink: Sink
    store: StateStore
    start_day: int | None
    speed: float | None
    speed_setting: float | None = None
    domain: Domain = GHOST_KITCHEN
    chaos: Chaos | None = None
    pace: Pace = field(default_factory=Pace)
    scratch: Path | None = None

    def __post_init__(self) -> None:
        """Let the loop reach the start day."""
        if self.start_day is not None:
            object.__setattr__(self, "dataset", self.dataset.begun_on(self.start_day))

    @property
    def lock(self) -> ReplayLock:
        """The lock that keeps a second run away."""
        return ReplayLock(self.store.folder)

    def tick(
        self,
        now: float,
        on_events: Callable[[int], None] = lambda _count: None,
        *,
        stopping: Callable[[], bool] = lambda: False,
    ) -> Tick:
        """Write every event between the watermark and `now`.

        Under a cap it takes as long as the events take, in pieces; between two of them steering
        is obeyed.

        Args:
            now: wall clock, UTC epoch seconds.
            on_events: called with the number of events of each written piece.
            stopping: asked between two pieces whether to leave the rest to the next run.

        Raises:
            SettingsError: the speed or, on the first run, the start day is not allowed.
            ReplayLockedError: another run is writing.
            ReplayStateError: the state can't be read, or was begun with another dataset, domain,
                start day or chaos.
            DatasetError: the dataset holds a row that is no event.
            SinkError: the events can't be written.
        """
        after = self.next_window(now).after  # refused before anything is made
        self._validate(self.store.load())
        events, since = 0, self.pace.monotonic()
        while True:
            piece = self._locked_piece(now, on_events)
            events += piece.events
            if piece.window.until >= piece.state.virtual_time(now) or stopping():
                return Tick(events, Window(after, piece.window.until), piece.state)
            self.pace.wait(events, since)

    def _locked_piece(self, now: float, on_events: Callable[[int], None]) -> Tick:
        with self.lock.held("run") as lease:

            def on_written(count: int) -> None:
                lease.renew()
                on_events(count)

            return self._piece(now, on_written)

    def _piece(self, now: float, on_events: Callable[[int], None]) -> Tick:
        stored = self.store.load()
        finished = 0
        state = self._state(stored, now)
        if state.pending is not None:
            finished, state = self._finish(state, on_events)
        window = Window(state.watermark, state.virtual_time(now))
        if window.is_empty:
            # A new speed counts from this moment on, even where it has played nothing yet.
            if state != stored:
                self.store.save(state)
            return Tick(finished, window, state)
        if self.pace.piece is not None:
            window = window_of(self.dataset, window, self.pace.piece, scratch=self.scratch)
        state = replace(
            state,
            pending=window,
            ticked_at=float(now),
            form=self.sink.form,
            events_per_file=self._events_per_file,
        )
        self.store.save(state)
        count, state = self._finish(state, on_events)
        return Tick(finished + count, window, state)

    def preview(self, now: float) -> Preview:
        """What a run at `now` would write; nothing is changed.

        Args:
            now: wall clock, UTC epoch seconds.

        Raises:
            ReplayStateError, SettingsError, DatasetError: as `tick` would.
        """
        stored = self.store.load()
        state = self._state(stored, now)
        self._validate(stored)
        window = Window(state.watermark, state.virtual_time(now))
        if state.pending is not None:
            window = Window(state.watermark, max(window.until, state.pending.until))
        counts = window_counts(self.dataset, window, domain=self.domain, scratch=self.scratch)
        return Preview(window, counts, state, is_first=stored is None)

    def next_window(self, now: float) -> Window:
        """The window that a run at `now` would write; after a crash first the pending one.

        Args:
            now: wall clock, UTC epoch seconds.

        Raises:
            ReplayStateError, SettingsError: as `tick` would, before anything is written.
        """
        state = self._state(self.store.load(), now)
        return state.pending or Window(state.watermark, state.virtual_time(now))

    def _validate(self, stored: ReplayState | None) -> None:
        """Read the whole dataset once, before the first event of it is written."""
        if stored is None or stored.checked != self.dataset.fingerprint:
            validate_dataset(self.dataset, self.domain, self.scratch)

    def _state(self, stored: ReplayState | None, now: float) -> ReplayState:
        if stored is not None:
            return self._steered(stored, now)
        original = read_original_state(self.store.folder)
        return self._first_state(now) if original is None else self._imported(original)

    def _first_state(self, now: float) -> ReplayState:
        if self.start_day is None:
            raise SettingsError("A first run needs a start day", hint="the default is 70")
        epoch, speed = self.dataset.epoch, self._first_speed()
        return ReplayState(
            simulation_start=now,
            epoch=epoch,
            cycle_seconds=self.dataset.cycle_seconds,
            shift_seconds=event_shift(now, epoch=epoch, start_day=self.start_day),
            clock=start_clock(now, epoch=epoch, start_day=self.start_day, speed=speed),
            first_ts=self.dataset.first_ts,
            last_ts=self.dataset.last_ts,
            chaos=self._asked_chaos(),
            domain=self.domain.name,
            checked=self.dataset.fingerprint,
            speed_setting=self.speed_setting,
        )

    def _first_speed(self) -> float:
        speed = self.speed_setting if self.speed is None else self.speed
        if speed is None:
            raise SettingsError("A first run needs a speed", hint="the default is 60")
        return speed

    def _imported(self, original: OriginalState) -> ReplayState:
        state = original.as_state(
            epoch=self.dataset.epoch,
            cycle_seconds=self.dataset.cycle_seconds,
            speed=self._first_speed(),
        )
        begun = replace(self, start_day=None)  # it has a start day of its own
        return begun._steered(state, state.clock.segments[-1].wall)

    def _asked_chaos(self) -> str | None:
        return self.chaos.text or None if self.chaos else None

    def _steered(self, state: ReplayState, now: float) -> ReplayState:
        state.check_dataset(self.dataset)
        for name, begun, given in (
            ("domain", state.domain or self.domain.name, self.domain.name),
            ("START_DAY", state.start_day, self.start_day),
            ("chaos", state.chaos or "off", self._asked_chaos() or "off" if self.chaos else None),
        ):
            if given is not None and given != begun:
                raise ReplayStateError(
                    f"The replay was begun with {name} {begun}, which stays; asked for is {given}",
                    hint="leave it out, or begin anew with `caspers destroy`",
                )
        clock, speed, setting = state.clock, self.speed, state.speed_setting
        if self.speed_setting is not None:
            if speed is None and setting not in (None, self.speed_setting):
                speed = self.speed_setting
            setting = self.speed_setting
        if speed not in (None, clock.running_speed):
            clock = state.clock_at(now).with_speed(speed, now)
        return replace(
            state,
            clock=clock,
            speed_setting=setting,
            first_ts=self.dataset.first_ts,
            last_ts=self.dataset.last_ts,
            domain=self.domain.name,
            checked=self.dataset.fingerprint,
        )

    @property
    def _events_per_file(self) -> int | None:
        sink = self.sink
        if isinstance(sink, VolumeSink) and sink.layout == "batched":
            return sink.events_per_file
        return None

    def _sink_of(self, state: ReplayState) -> Sink:
        """The sink as the pending window was begun with: another one would double its events."""
        is_same = (state.form, state.events_per_file) == (self.sink.form, self._events_per_file)
        if state.form is None or is_same:
            return self.sink
        if isinstance(self.sink, VolumeSink) and state.form in ("lines", "named_lines"):
            layout: Layout = "batched" if state.form == "lines" else "per_event"
            per_file = state.events_per_file or self.sink.events_per_file
            return replace(self.sink, layout=layout, events_per_file=per_file)
        raise ReplayStateError(
            f"The newest run was cut off while it wrote {state.form}; this one would write "
            f"{self.sink.form}",
            hint="run once with the sink of that run, which finishes its window, then change it",
        )

    def _finish(
        self, state: ReplayState, on_events: Callable[[int], None]
    ) -> tuple[int, ReplayState]:
        """Write the pending window, then move the watermark to its end."""
        window = state.pending
        assert window is not None  # noqa: S101 - both callers set it
        # Played again after a seek back, a window of the same ends is another set of files.
        take = f"|{state.takes}" if state.takes else ""
        text = f"{state.simulation_start}|{window.after}|{window.until}{take}"
        name = str(uuid5(self.domain.namespace, text))
        chaos, sink = Chaos.parse(state.chaos or ""), self._sink_of(state)
        self._write_manifest(window, chaos, name, sink.form)
        batches = event_batches(
            self.dataset,
            window,
            state.shift_seconds,
            domain=self.domain,
            form=sink.form,
            chaos=chaos,
            scratch=self.scratch,
        )
        count = sink.write(batches, name=name, on_events=on_events)
        state = replace(state, watermark=window.until, pending=None)
        self.store.save(state)
        return count, state

    def _write_manifest(self, window: Window, chaos: Chaos, name: str, form: Form) -> None:
        """What chaos does to the window's events, beside the state, before any is written."""
        if not chaos.is_on:
            return
        manifest = manifest_batches(
            self.dataset,
            window,
            chaos,
            domain=self.domain,
            form=form,
            scratch=self.scratch,
        )
        VolumeSink(self.store.folder / CHAOS_FOLDER).write(manifest, name=name)


def steer(store: StateStore, change: Steering, now: float) -> ReplayState:
    """Change the course of a replay, also of one that runs in another process.

    A run that is writing is waited for; the next one obeys.

    Args:
        store: the replay's state.
        change: what to do, see `caspers_lib.replay.steering`.
        now: wall clock, UTC epoch seconds.

    Raises:
        SettingsError: the speed or the target is not allowed.
        ReplayLockedError: a run writes for more than a minute.
        ReplayStateError: the replay has not begun, or its state can't be read.
    """
    if store.load() is None:
        raise ReplayStateError(
            f"No replay has begun in {store.folder}", hint="`caspers replay tick` begins one"
        )
    with ReplayLock(store.folder).held("steer", wait=_STEERING_WAIT):
        state = store.load()
        assert state is not None  # noqa: S101 - it was there, and nothing removes it
        steered = change(state, now)
        if steered != state:
            store.save(steered)
        return steered
