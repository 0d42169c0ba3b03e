"""What the serving process gives the console: how far the stages are, and the replay's controls.

Everything else on the page comes from Postgres. A console that stands alone has neither.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol

__all__ = [
    "LiveStatus",
    "ReplayControls",
    "StageState",
    "StageStatus",
    "StatusSource",
    "TableStatus",
]

# Event time follows the clock by a round of the stages, and by the time that the page plays it.
_USUAL_SECONDS = 120.0

StageState = Literal["waiting", "running", "done", "failed"]


@dataclass(frozen=True, slots=True)
class StageStatus:
    """One stage of the business and how far it is.

    Args:
        name: the stage's name, as people read it.
        state: `waiting` (not begun), `running`, `done` or `failed`.
        detail: one line on what it does or did, or why it failed; may be empty.
        seconds: wall-clock time it has taken so far; 0 while it waits.
    """

    name: str
    state: StageState
    detail: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class TableStatus:
    """A table of the pipeline.

    Args:
        name: `schema.table`.
        rows: how many.
        age_seconds: wall-clock time since it last changed; None where that is not known.
    """

    name: str
    rows: int
    age_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class LiveStatus:
    """A moment of the running business.

    Args:
        virtual_time: event time up to which events are written, with a time zone; None before the
            first replay.
        speed: virtual seconds per wall-clock second, while paused those that it goes on with;
            None while it is not known.
        due: event time of the replay's clock now, up to which events are to be shown.
        paused: virtual time stands still.
        place: where in the dataset it plays, in words; may be empty.
        stages: the stages in the order in which they run.
        tables: the pipeline's tables, in the order to show.
    """

    virtual_time: datetime | None = None
    due: datetime | None = None
    speed: float | None = None
    paused: bool = False
    place: str = ""
    stages: tuple[StageStatus, ...] = ()
    tables: tuple[TableStatus, ...] = ()

    def behind(self, shown: datetime | None) -> timedelta | None:
        """How far the page has to catch up; None while it is as far as rounds allow.

        Args:
            shown: the newest event time that the tables hold; None where they hold none.
        """
        if shown is None or self.due is None:
            return None
        distance = self.due - shown
        usual = timedelta(seconds=_USUAL_SECONDS * (self.speed or 0.0))
        return distance if distance > usual else None

    @property
    def running(self) -> tuple[StageStatus, ...]:
        """The stages at work at this moment."""
        return tuple(stage for stage in self.stages if stage.state == "running")

    @property
    def failed(self) -> tuple[StageStatus, ...]:
        """The stages that failed."""
        return tuple(stage for stage in self.stages if stage.state == "failed")


StatusSource = Callable[[], LiveStatus]
"""Tells the business's status now; called from any thread."""


class ReplayControls(Protocol):
    """Steers the replay; each method waits until the change counts, and is called by any thread.

    Raises:
        CaspersError: a value is not allowed, or the replay can't be steered now; one sentence.
    """

    def pause(self) -> None:
        """Virtual time stands still from now on."""

    def resume(self) -> None:
        """Virtual time goes on at the speed it had."""

    def set_speed(self, speed: float) -> None:
        """Another speed, in virtual seconds per wall-clock second."""

    def seek(self, target: str) -> None:
        """To another time.

        Args:
            target: a dataset day (`75`, `75.5`), event time in ISO 8601 and UTC, or a duration
                from now on or back (`+6h`, `-30m`).
        """
