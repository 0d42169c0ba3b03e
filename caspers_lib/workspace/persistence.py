"""Writes that another writer of the same Delta table may get in the way of."""

import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from caspers_lib.errors import ResourceStateError, SettingsError

__all__ = ["Persistence"]

T = TypeVar("T")

_CONFLICT = re.compile(
    r"DELTA_CONCURRENT_|Concurrent\w*Exception"
    r"|DELTA_(METADATA|PROTOCOL)_CHANGED|(Metadata|Protocol)ChangedException"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Persistence:
    """How often a write is tried again that another writer got in the way of.

    Args:
        attempts: how often it is tried at all.
        longest_pause: seconds between two attempts at most.
        sleep: pauses for so many seconds.
        draw: a number between 0 and 1, so that two writers don't meet again.

    Raises:
        SettingsError: there would be no attempt.
    """

    attempts: int = 8
    longest_pause: float = 10.0
    sleep: Callable[[float], None] = time.sleep
    draw: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        """Refuse to try nothing."""
        if self.attempts < 1:
            raise SettingsError(f"attempts is {self.attempts}.", hint="Choose 1 or more.")

    def until_done(
        self, what: str, attempt: Callable[[], T], errors: tuple[type[Exception], ...]
    ) -> T:
        """What the attempt gives that no other writer got in the way of.

        Args:
            what: what was not done; begins the error.
            attempt: may be made any number of times.
            errors: what it raises, also for other reasons.

        Raises:
            ResourceStateError: there was another writer at every attempt.
        """
        for number in range(self.attempts):
            try:
                return attempt()
            except errors as error:
                if not _CONFLICT.search(f"{type(error).__name__} {error}"):
                    raise
                conflict = error
            if number + 1 < self.attempts:
                self.sleep((0.5 + self.draw() / 2) * min(self.longest_pause, 0.2 * 2**number))
        raise ResourceStateError(
            f"{what}: others wrote at the same time, {self.attempts} times over.",
            hint="Call it again; if it lasts, see who writes to this table.",
        ) from conflict
