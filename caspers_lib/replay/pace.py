"""How fast a replay may write: a cap in events per second, kept by writing in pieces.

A piece is what a second allows. Each is a window of its own, so that readers see events at an even
rate, and pause, seek and speed are obeyed between two pieces.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from caspers_lib.errors import SettingsError

__all__ = ["Pace"]

_LEAST_CAP = 0.001  # an event in a quarter of an hour; longer waits are a mistake


@dataclass(frozen=True, slots=True)
class Pace:
    """A cap on the rate of writing.

    Args:
        events_per_second: at most so many events a wall-clock second; None for as fast as it goes.
        monotonic: a clock in wall-clock seconds that never goes back.
        sleep: waits for some wall-clock seconds.

    Raises:
        SettingsError: the cap is not a number of 0.001 or more.
    """

    events_per_second: float | None = None
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        """Refuse a cap under which nothing could be written."""
        cap = self.events_per_second
        if cap is not None and not (math.isfinite(cap) and cap >= _LEAST_CAP):
            raise SettingsError(
                f"The cap is {cap} events per second; it must be a number above 0, at least "
                f"{_LEAST_CAP}",
                hint="leave it out to write as fast as it goes",
            )

    @property
    def piece(self) -> int | None:
        """Events of a piece; None for all at once."""
        return None if self.events_per_second is None else max(1, int(self.events_per_second))

    def wait(self, events: int, since: float) -> None:
        """Wait until `events` may have been written.

        Args:
            events: number of events since then.
            since: when the first of them was due, by `monotonic`.
        """
        if self.events_per_second is None:
            return
        left = since + events / self.events_per_second - self.monotonic()
        if left > 0:
            self.sleep(left)
