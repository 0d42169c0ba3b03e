"""The replay's state: one atomic JSON document, and the two plain texts beside it.

Contract: DESIGN section 5. `_replay_state.json` rules; `_watermark` and `_sim_start` (virtual
seconds as text) are written after it for readers of the original system, see
`caspers_lib.replay.original_state` for the way back.
"""

import itertools
import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from caspers_lib.errors import ReplayStateError
from caspers_lib.replay.clock import Clock, Segment
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.window import Window

__all__ = ["SIM_START_FILE", "STATE_FILE", "WATERMARK_FILE", "ReplayState", "StateStore"]

STATE_FILE = "_replay_state.json"
WATERMARK_FILE = "_watermark"
SIM_START_FILE = "_sim_start"
_VERSION = 2
_SINCE_VERSION_2: dict[str, object] = {
    "first_ts": None,
    "last_ts": None,
    "ticked_at": None,
    "takes": 0,
    "chaos": None,
}
_FAR = 2**53  # seconds; beyond it a float skips some
_HINT = "restore it from a copy, or begin anew with `caspers destroy`"


@dataclass(frozen=True, slots=True)
class ReplayState:
    """Where the replay stands.

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

    def loop_of(self, virtual: float) -> int:
        """The loop, from 0, that a virtual second belongs to."""
        return max(0, math.floor((virtual - self.epoch) / self.cycle_seconds))

    def check_dataset(self, dataset: EventsFile) -> None:
        """Refuse another dataset than the one that is played.

        Raises:
            ReplayStateError: its epoch, its loop, its first or its last event is another.
        """
        known = [self.epoch, self.cycle_seconds, self.first_ts, self.last_ts]
        found = [dataset.epoch, dataset.cycle_seconds, dataset.first_ts, dataset.last_ts]
        if None in known:
            known, found = known[:2], found[:2]
        if known == found:
            return
        names = ("epoch", "seconds a loop", "first event", "last event")
        differ = ", ".join(
            f"{name} {mine} instead of {theirs}"
            for name, mine, theirs in zip(names, found, known, strict=False)
            if mine != theirs
        )
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
        if version not in (1, _VERSION) or type(version) is not int:
            raise ValueError(f"its version is {version}, this library reads 1 and {_VERSION}")
        if version == 1:
            fields |= _SINCE_VERSION_2
        if missing := _SINCE_VERSION_2.keys() - fields.keys():
            raise KeyError(min(missing))
        clock = Clock(tuple(Segment(**s) for s in fields.pop("segments")))
        watermark, pending = fields.pop("watermark"), fields.pop("pending")
        window = None if pending is None else Window(**pending)
        state = cls(**fields, clock=clock, watermark=watermark, pending=window)
        _refuse_contradictions(state)
        return state


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
            ReplayStateError: the folder can't be written; the old state stands.
        """
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


def _refuse_contradictions(state: ReplayState) -> None:
    """Refuse what no run writes: played on, it would emit events again or leave some out."""
    segments, watermark, pending = state.clock.segments, state.watermark, state.pending
    wholes = [state.epoch, state.cycle_seconds, state.shift_seconds, state.takes]
    numbers = [*wholes, state.simulation_start]
    numbers += [n for s in segments for n in (s.wall, s.virtual, s.speed)]
    numbers += [] if watermark is None else [watermark]
    numbers += [] if pending is None else [pending.until]
    optional = (state.ticked_at, state.first_ts, state.last_ts)
    numbers += [n for n in optional if n is not None]
    if not all(type(n) in (int, float) and abs(n) < _FAR for n in numbers):
        raise ValueError("a time or a speed is no number of seconds")
    if not all(type(n) is int for n in wholes):
        raise ValueError("epoch, cycle_seconds, shift_seconds and takes must be whole")
    if not (state.chaos is None or isinstance(state.chaos, str)):
        raise ValueError("its chaos is no text")
    if not segments or any(a.wall > b.wall for a, b in itertools.pairwise(segments)):
        raise ValueError("its clock has no segments in the order of their wall-clock time")
    if min(s.speed for s in segments) < 0:
        raise ValueError("a speed is negative")
    if watermark is None and pending is None:
        raise ValueError("it has neither a watermark nor a pending window")
    if pending is not None and (pending.after != watermark or pending.is_empty):
        raise ValueError("its pending window does not begin at its watermark")


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
