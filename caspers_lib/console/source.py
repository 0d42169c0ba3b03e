"""What the serving process tells the console: how far the stages are and where Postgres is.

Everything else on the page comes from Postgres.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

__all__ = ["ConsoleSource", "LiveStatus", "StageState", "StageStatus"]

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
class LiveStatus:
    """A moment of the running business.

    Args:
        virtual_time: the replay's time, with a time zone; None before the first replay.
        speed: virtual seconds per wall-clock second; None while it is not known.
        stages: the stages in the order in which they run.
        tables: name and rows of each table, in the order to show.
        refunds_dsn: connection string of the refunds' database; None until it can be reached.
        complaints_dsn: the same for the complaints' database.
    """

    virtual_time: datetime | None = None
    speed: float | None = None
    stages: tuple[StageStatus, ...] = ()
    tables: tuple[tuple[str, int], ...] = ()
    refunds_dsn: str | None = None
    complaints_dsn: str | None = None

    @property
    def running(self) -> tuple[StageStatus, ...]:
        """The stages at work at this moment."""
        return tuple(stage for stage in self.stages if stage.state == "running")


ConsoleSource = Callable[[], LiveStatus]
