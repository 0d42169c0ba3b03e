"""Whose turn it is to use the CPU, among calls that mostly wait for the network.

Hundreds of calls that are prepared side by side are all ready at the end of that work, wait side by
side, and come back side by side. A few at a time, they use the CPU while others wait.
"""

import asyncio
from collections import deque
from typing import Self

__all__ = ["Turn", "Turns"]


class Turns:
    """So many may work side by side; who is back from the network comes before who begins.

    Args:
        at_once: how many.
    """

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._back: deque[asyncio.Future[None]] = deque()
        self._beginning: deque[asyncio.Future[None]] = deque()

    async def take(self, *, is_back: bool) -> None:
        """Wait until there is room.

        Args:
            is_back: whether the caller had a turn before and gave it back.
        """
        if self._free:
            self._free -= 1
            return
        mine = asyncio.get_running_loop().create_future()
        (self._back if is_back else self._beginning).append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            # It may have been given the turn in the very moment that it was cancelled.
            if not mine.cancelled():
                self.give_back()
            raise

    def give_back(self) -> None:
        """Let the next one work."""
        for waiting in (self._back, self._beginning):
            while waiting:
                following = waiting.popleft()
                if not following.done():
                    following.set_result(None)
                    return
        self._free += 1


class Turn:
    """One call's turn, given back while the call waits for the network.

    Args:
        turns: those of all calls.
        is_traced: whether the transport tells `trace` how far it is.
    """

    def __init__(self, turns: Turns, *, is_traced: bool) -> None:
        self._turns = turns
        self._is_held = False
        # Where nobody tells, the request may have arrived.
        self.was_sent = not is_traced

    async def __aenter__(self) -> Self:
        """Wait for the turn to begin."""
        await self._take(is_back=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Give it back, should it be held."""
        self._give_back()

    async def trace(self, event: str, _details: object) -> None:
        """Follow the call by what httpx's transport says of it.

        Args:
            event: such as `connection.connect_tcp.started`.
        """
        if event == "http11.send_request_headers.started":
            await self._take(is_back=True)
            self.was_sent = True
        elif event in ("connection.connect_tcp.started", "http11.send_request_body.complete"):
            self._give_back()

    async def _take(self, *, is_back: bool) -> None:
        if not self._is_held:
            await self._turns.take(is_back=is_back)
            self._is_held = True

    def _give_back(self) -> None:
        if self._is_held:
            self._is_held = False
            self._turns.give_back()
