"""A value that is read anew after a while, and shared until then."""

import time
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

__all__ = ["Remembered"]

ValueT = TypeVar("ValueT")


class Remembered(Generic[ValueT]):
    """Keeps what was read last; while one thread reads, the others wait for what it finds.

    Args:
        seconds: how long a value is good for.
        clock: seconds that pass.
    """

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._lock = Lock()
        self._known: tuple[float, ValueT] | None = None

    def value(self, read: Callable[[], ValueT]) -> ValueT:
        """What is known, or what `read` gives now; an error of it is not remembered.

        Args:
            read: reads the value.
        """
        with self._lock:
            if self._known is None or self._clock() - self._known[0] > self._seconds:
                self._known = self._clock(), read()
            return self._known[1]
