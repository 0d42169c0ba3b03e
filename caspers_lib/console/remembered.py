"""A value that is read anew after a while, and shared until then."""

import time
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

__all__ = ["Remembered", "rest_seconds"]

ValueT = TypeVar("ValueT")

# To look through a million rows takes some 0.2 s: this makes it a twentieth of the server's time.
_SECONDS_PER_ROW = 4e-6
_FEW_ROWS = 20_000


def rest_seconds(rows: int) -> float:
    """How long what was read of a whole table is good for, seconds; 0 of a small one.

    Args:
        rows: of the table.
    """
    return rows * _SECONDS_PER_ROW if rows > _FEW_ROWS else 0.0


class Remembered(Generic[ValueT]):
    """Keeps what was read last; while one thread reads anew, the others get what was known.

    Args:
        good_for: seconds that a value is good for, told by the value.
        clock: seconds that pass.
    """

    def __init__(
        self,
        good_for: Callable[[ValueT], float],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._good_for, self._clock = good_for, clock
        self._reading = Lock()
        self._known: tuple[float, ValueT] | None = None

    def value(self, read: Callable[[], ValueT]) -> ValueT:
        """What is known, or what `read` gives now; an error of it is not remembered.

        Args:
            read: reads the value; the first time everybody waits for it.
        """
        known = self._known
        if known is not None and self._clock() < known[0]:
            return known[1]
        # What is good for no time at all is waited for: whoever wrote before sees it.
        wait = known is None or not self._good_for(known[1])
        if not self._reading.acquire(blocking=wait) and known is not None:
            return known[1]
        try:
            if self._known is not None and self._clock() < self._known[0]:
                return self._known[1]
            found = read()
            self._known = self._clock() + self._good_for(found), found
            return found
        finally:
            self._reading.release()
