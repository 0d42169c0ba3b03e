"""The state of the original system, from which a replay goes on where only that is there.

The original keeps two plain texts of virtual seconds, `_sim_start` and `_watermark`; the wall clock
that belongs to them is when the files were written.
"""

from dataclasses import dataclass
from pathlib import Path

from caspers_lib.errors import ReplayStateError
from caspers_lib.replay.clock import DAY, Clock, Segment, event_shift, start_clock
from caspers_lib.replay.state import SIM_START_FILE, STATE_FILE, WATERMARK_FILE, ReplayState

__all__ = ["OriginalState", "read_original_state"]

_FAR = 253_402_300_800  # the year 10000
_HINT = "restore the other one, or delete both to begin anew"


@dataclass(frozen=True, slots=True)
class OriginalState:
    """What the two texts say.

    Args:
        start: virtual seconds at the simulation's start (p0).
        watermark: virtual seconds up to which every event is written.
        started_at: when the start was written, UTC epoch seconds.
        written_at: when the watermark was written, UTC epoch seconds.
    """

    start: float
    watermark: float
    started_at: float
    written_at: float

    def as_state(self, *, epoch: int, cycle_seconds: int, speed: float) -> ReplayState:
        """The same as a state document: the next window begins at the watermark.

        Virtual time stood at the watermark when that was written, and runs at `speed` from then
        on, whatever the speed was before.

        Args:
            epoch: the dataset's epoch (E).
            cycle_seconds: the dataset's loop length (C).
            speed: virtual seconds a wall-clock second.

        Raises:
            ReplayStateError: the start lies outside the dataset.
            SettingsError: the speed is not a number above 0.
        """
        start_day, time_of_day = divmod(self.start - epoch, DAY)
        if not 0 <= self.start - epoch < cycle_seconds:
            raise ReplayStateError(
                f"{SIM_START_FILE} says {self.start:g}; the dataset's days are the virtual seconds "
                f"{epoch} to {epoch + cycle_seconds}",
                hint="choose the dataset that it was begun with",
            )
        # The start gives the time of day to the second, the file's own time the day.
        first_day = round((self.started_at - time_of_day) / DAY)
        start = first_day * DAY + time_of_day
        clock = start_clock(start, epoch=epoch, start_day=int(start_day), speed=speed)
        newest = Segment(max(start, self.written_at), self.watermark, speed)
        return ReplayState(
            simulation_start=start,
            epoch=epoch,
            cycle_seconds=cycle_seconds,
            shift_seconds=event_shift(start, epoch=epoch, start_day=int(start_day)),
            clock=Clock((*clock.segments, newest)),
            watermark=self.watermark,
        )


def read_original_state(folder: Path) -> OriginalState | None:
    """The original system's state in a folder, or None where there is none.

    Raises:
        ReplayStateError: one text lacks the other, can't be read or is no number of seconds.
    """
    paths = [folder / name for name in (SIM_START_FILE, WATERMARK_FILE)]
    there = [path for path in paths if path.exists()]
    if not there:
        return None
    if len(there) == 1:
        raise ReplayStateError(
            f"{folder} holds {there[0].name} but neither {STATE_FILE} nor "
            f"{next(path.name for path in paths if path != there[0])}",
            hint=_HINT,
        )
    (start, started_at), (watermark, written_at) = (_seconds(path) for path in paths)
    if watermark < start:
        raise ReplayStateError(
            f"{paths[1]} says {watermark:.0f}, which is before the {start:.0f} of {paths[0].name}",
            hint="no run writes that; restore both from one copy",
        )
    return OriginalState(start, watermark, started_at, written_at)


def _seconds(path: Path) -> tuple[float, float]:
    """The number in a file, and when the file was written."""
    try:
        text, written_at = path.read_text(encoding="utf-8").strip(), path.stat().st_mtime
        seconds = float(text)
    except (OSError, ValueError) as error:
        raise _unreadable(path, str(error)) from error
    if not 0 <= seconds < _FAR:
        raise _unreadable(path, f"{text[:40]!r} is no time between the years 1970 and 9999")
    return seconds, written_at


def _unreadable(path: Path, reason: str) -> ReplayStateError:
    return ReplayStateError(
        f"The replay's {path} can't be read as virtual seconds: {reason}",
        hint="restore it from a copy, or delete both texts to begin anew",
    )
