"""Live updates: one poller for all who listen, and a number for each of them.

A listener costs a coroutine that compares two numbers, so 200 of them cost next to nothing; the
database is asked once a beat, whoever listens, and by nobody when no one does.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable

import psycopg
from starlette.concurrency import run_in_threadpool

from caspers_lib.errors import CaspersError

__all__ = ["LISTENERS", "Changes"]

logger = logging.getLogger(__name__)

LISTENERS = 500
"""Open connections at most."""

BEAT_SECONDS = 1.0
# A proxy drops a connection that is silent for long.
SILENCE_SECONDS = 15.0


class Changes:
    """Tells listeners that something has changed.

    Args:
        edition: a number that is another whenever something has changed; called in a thread.
        beat: seconds between two looks.
        listeners: at most.
        clock: seconds that pass.
    """

    def __init__(
        self,
        edition: Callable[[], int],
        *,
        beat: float = BEAT_SECONDS,
        listeners: int = LISTENERS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._edition, self._beat, self._clock = edition, beat, clock
        self._most = listeners
        self._looked = -beat
        self._looking = False
        self._closed = False
        self.listeners = 0
        self.known: int | None = None

    @property
    def is_full(self) -> bool:
        """Whether no further listener is taken."""
        return self.listeners >= self._most

    def close(self) -> None:
        """End all listening within half a beat, for a server that stops."""
        self._closed = True

    async def listen(self) -> AsyncIterator[str]:
        """Server-sent events: `changed` with the number, first of all the number now."""
        self.listeners += 1
        told: int | None = None
        quiet_since = self._clock()
        try:
            yield "retry: 2000\n\n"
            while not self._closed:
                await self._look()
                if self.known is not None and self.known != told:
                    told, quiet_since = self.known, self._clock()
                    yield f"event: changed\nid: {told}\ndata: {told}\n\n"
                elif self._clock() - quiet_since >= SILENCE_SECONDS:
                    quiet_since = self._clock()
                    yield ": still here\n\n"
                await asyncio.sleep(self._beat / 2)
        finally:
            self.listeners -= 1

    async def _look(self) -> None:
        """Ask the database if that is due; whoever comes first does it for all."""
        if self._looking or self._clock() - self._looked < self._beat:
            return
        self._looking = True
        try:
            self.known = await run_in_threadpool(self._edition)
        except (CaspersError, psycopg.Error) as error:
            logger.info("live updates: %s", error)
        finally:
            self._looked = self._clock()
            self._looking = False
