"""The replay's state: one atomic JSON document, and the two plain texts beside it.

`_replay_state.json` rules; `_watermark` and `_sim_start` (virtual seconds as text) are written
after it for readers of the original system, see `caspers_lib.replay.original_state` for the way
back. Saving and loading have one judge, `ReplayState.check`: what is saved can be loaded and shown.
"""

import json
import math
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from caspers_lib.errors import ReplayStateError
from caspers_lib.replay.clock import (
    CALENDAR_END,
    CALENDAR_START,
    DAY,
    EVENTS_END,
    EVENTS_START,
    Clock,
    Segment,
    last_virtual_second,
)
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.form import Form
from caspers_lib.replay.window import Window

__all__ = ["SIM_START_FILE", "STATE_FILE", "WATERMARK_FILE", "ReplayState", "StateStore"]

STATE_FILE = "_replay_state.json"
WATERMARK_FILE = "_watermark"
SIM_START_FILE = "_sim_start"
_VERSION = 4
_SINCE: dict[int, dict[str, object]] = {
    2: {"first_ts": None, "last_ts": None, "ticked_at": None, "takes": 0, "chaos": None},
    3: {"domain": None, "checked": None, "form": None, "events_per_file": None},
    4: {"speed_setting": None},
}
"""The fields that a version brought, with the values that older documents stand for."""
_FAR = 2**53  # beyond it a float skips whole numbers
_HINT = "restore it from a copy, or begin anew with `caspers destroy`"


@dataclass(frozen=True, slots=True)
class ReplayState:
    """Where the replay stands, and the choices that stay as it was begun with them.

    Args:
        simulation_start: wall clock of the first run (s), UTC epoch seconds.
        epoch: the dataset's epoch (E).
        cycle_seconds: the dataset's loop length (C).
        shift_seconds: from virtual to emitted time, fixed for ever.
        clock: wall clock to virtual time.
        watermark: virtual seconds up to which every event is written; None before the first run
            has ended.
        pending: the window being written, if any.
        first_ts: the dataset's first event (UTC epoch seconds); None where it is not known.
        last_ts: the dataset's last event; with the first one it tells datasets apart.
        ticked_at: wall clock of the newest run, UTC epoch seconds; None where it is not known.
        takes: how often a seek went back behind the watermark, so that events are played again.
        chaos: what is made dirty on purpose, as `Chaos` writes it; None for nothing.
        domain: name of the business; None where it is not known.
        checked: fingerprint of the dataset whose rows were found fit; None where none was.
        form: the form in which the newest window is written; None where it is not known.
        events_per_file: where the newest window is written as lines, after how many the next file
            begins; None otherwise.
        speed_setting: the deployment's speed as the newest run found it; None where it is not
            known.
    """

    simulation_start: float
    epoch: int
    cycle_seconds: int
    shift_seconds: int
    clock: Clock
    watermark: float | None = None
    pending: Window | None = None
    first_ts: int | None = None
    last_ts: int | None = None
    ticked_at: float | None = None
    takes: int = 0
    chaos: str | None = None
    domain: str | None = None
    checked: str | None = None
    form: Form | None = None
    events_per_file: int | None = None
    speed_setting: float | None = None

    def __post_init__(self) -> None:
        """End the clock where events would leave the times that the tables hold."""
        end = last_virtual_second(self.shift_seconds)
        object.__setattr__(self, "clock", replace(self.clock, end=end))

    @property
    def start_day(self) -> int:
        """Dataset day that falls on the day of the first run."""
        midnight = int(self.simulation_start // DAY) * DAY
        return (midnight - self.epoch - self.shift_seconds) // DAY

    @property
    def written(self) -> float | None:
        """Virtual second up to which a run has written or begun to write."""
        return self.watermark if self.pending is None else self.pending.until

    def virtual_time(self, now: float) -> float:
        """p(now): what the clock shows, and never less than what is written.

        Args:
            now: wall clock, UTC epoch seconds.
        """
        shown = self.clock.virtual_time(now)
        return shown if self.written is None else max(shown, self.written)

    def seconds_ahead(self, now: float) -> float:
        """Wall-clock seconds for which virtual time stands still, as the wall clock went back.

        Args:
            now: wall clock, UTC epoch seconds.
        """
        newest = self.clock.segments[-1]
        if not newest.speed:
            return 0.0
        resumes = newest.wall + (self.virtual_time(now) - newest.virtual) / newest.speed
        ahead = resumes - now
        return ahead if ahead >= 1 else 0.0  # less is rounding, or over at once

    def clock_at(self, now: float) -> Clock:
        """The clock to steer: after the wall clock went back, it begins a segment at `now`.

        Args:
            now: wall clock, UTC epoch seconds.
        """
        reached = self.virtual_time(now)
        if now >= self.clock.segments[-1].wall and reached == self.clock.virtual_time(now):
            return self.clock
        return self.clock.moved_to(reached, now)

    def loop_of(self, virtual: float) -> int:
        """The loop, from 0, that a virtual second belongs to."""
        return max(0, math.floor((virtual - self.epoch) / self.cycle_seconds))

    def check_dataset(self, dataset: EventsFile) -> None:
        """Refuse another dataset than the one that is played.

        Raises:
            ReplayStateError: its epoch, its loop, its first or its last event is another.
        """
        compared = {
            "epoch": (dataset.epoch, self.epoch),
            "seconds a loop": (dataset.cycle_seconds, self.cycle_seconds),
            "first event": (dataset.first_ts, self.first_ts),
            "last event": (dataset.last_ts, self.last_ts),
        }
        differ = ", ".join(
            f"{name} {its} instead of {known}"
            for name, (its, known) in compared.items()
            if known is not None and its != known
        )
        if not differ:
            return
        raise ReplayStateError(
            f"The replay was begun with another dataset than {dataset.path}, which has {differ}",
            hint="go on with the dataset it was begun with, or begin anew with `caspers destroy`",
        )

    def to_json(self) -> str:
        """The document, readable by a person."""
        fields = {"version": _VERSION, **asdict(self)}
        fields["segments"] = fields.pop("clock")["segments"]
        return json.dumps(fields, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "ReplayState":
        """Parse a document.

        Raises:
            ValueError, KeyError, TypeError, RecursionError: it isn't one.
        """
        fields: dict[str, Any] = json.loads(text)
        version = fields.pop("version")
        if type(version) is not int or not 1 <= version <= _VERSION:
            raise ValueError(f"its version is {version}, this library reads 1 to {_VERSION}")
        for since, defaults in _SINCE.items():
            if version < since:
                fields |= defaults
            elif missing := defaults.keys() - fields.keys():
                raise KeyError(min(missing))
        clock = Clock(tuple(Segment(**s) for s in fields.pop("segments")))
        watermark, pending = fields.pop("watermark"), fields.pop("pending")
        window = None if pending is None else Window(**pending)
        state = cls(**fields, clock=clock, watermark=watermark, pending=window)
        state.check()
        return state

    def check(self) -> None:
        """Refuse what can't be loaded, shown or played on without doubling or losing events.

        Raises:
            ValueError: says what is wrong.
        """
        segments, pending = self.clock.segments, self.pending
        if not segments:
            raise ValueError("its clock has no segments")
        optional = (self.first_ts, self.last_ts, self.events_per_file)
        wholes = [self.epoch, self.cycle_seconds, self.shift_seconds, self.takes]
        for whole in (*wholes, *(n for n in optional if n is not None)):
            if type(whole) is not int or abs(whole) >= _FAR:
                raise ValueError(f"{whole!r} is no whole number of seconds, takes or events")
        if min(n for n in (self.cycle_seconds, self.events_per_file) if n is not None) < 1:
            raise ValueError("its cycle_seconds and events_per_file must be 1 or more")
        speeds = [segment.speed for segment in segments]
        speeds += [] if self.speed_setting is None else [self.speed_setting]
        for speed in speeds:
            if not (_is_number(speed) and 0 <= speed < _FAR):
                raise ValueError(f"the speed {speed!r} is no number of 0 or more")
        self._check_times()
        if self.watermark is None and pending is None:
            raise ValueError("it has neither a watermark nor a pending window")
        if pending is not None and (pending.after != self.watermark or pending.is_empty):
            raise ValueError("its pending window does not begin at its watermark")
        texts = (self.chaos, self.domain, self.checked)
        if not all(text is None or isinstance(text, str) for text in texts):
            raise ValueError("its chaos, domain and checked must be texts")
        if self.form not in (None, *get_args(Form)):
            raise ValueError(f"its form is {self.form!r}; known are {', '.join(get_args(Form))}")

    def _check_times(self) -> None:
        segments = self.clock.segments
        walls = [self.simulation_start, *(s.wall for s in segments)]
        walls += [] if self.ticked_at is None else [self.ticked_at]
        virtual = [self.epoch, *(s.virtual for s in segments)]
        virtual += [n for n in (self.watermark, self.written) if n is not None]
        for second in (*walls, *virtual):
            if not _is_shown(second):
                raise ValueError(f"the time {second!r} is not within the years 1 to 9999")
        for second in virtual:
            if not EVENTS_START <= second + self.shift_seconds <= EVENTS_END:
                raise ValueError(
                    f"events of virtual second {second!r} get a ts of no table's years"
                )


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _is_shown(second: float) -> bool:
    return _is_number(second) and CALENDAR_START <= second <= CALENDAR_END


class StateStore:
    """Reads and replaces the state in a folder (the volume `misc`)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def folder(self) -> Path:
        """Where the state lies."""
        return self._folder

    def load(self) -> ReplayState | None:
        """The state, or None where there has been no run.

        Raises:
            ReplayStateError: the state exists and can't be read: never taken for a first run.
        """
        path = self._folder / STATE_FILE
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise ReplayStateError(
                f"The replay's state {path} can't be read: {error}", hint=_HINT
            ) from error
        try:
            return ReplayState.from_json(text)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = f"it lacks {error}" if isinstance(error, KeyError) else error
            raise ReplayStateError(
                f"The replay's state {path} is not a state document: {reason}", hint=_HINT
            ) from error

    def save(self, state: ReplayState) -> None:
        """Replace the state atomically; after a crash the old or the new one stands, whole.

        Raises:
            ReplayStateError: it could not be loaded again, or the folder can't be written; the old
                state stands.
        """
        try:
            state.check()
        except ValueError as error:
            raise ReplayStateError(
                f"The replay's state can't be saved: {error}",
                hint="nothing was changed; see whether this machine's clock is right",
            ) from error
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._folder / STATE_FILE, state.to_json())
            self._save_texts(state)
        except OSError as error:
            raise ReplayStateError(
                f"The replay's state in {self._folder} can't be written: {error.strerror or error}",
                hint="see to the cause, then run again: nothing is lost and nothing doubled",
            ) from error

    def _save_texts(self, state: ReplayState) -> None:
        # The start is written once: the time of its file is the simulation's start.
        texts = {SIM_START_FILE: state.clock.start, WATERMARK_FILE: state.watermark}
        for name, seconds in texts.items():
            path, text = self._folder / name, f"{seconds}\n"
            if seconds is None or (path.is_file() and path.read_bytes() == text.encode()):
                continue
            write_atomically(path, text)


def write_atomically(path: Path, text: str) -> None:
    """Write `text` aside, flush it to disk, and rename it into place."""
    aside = path.with_name(f".{path.name}.tmp")
    try:
        with aside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
