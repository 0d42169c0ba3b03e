"""Asks a model from any thread, for agents that answer one request at a time.

One event loop in a thread of its own keeps the client, so that all requests share its connections,
its limits and its circuit breaker.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from decimal import Decimal
from threading import Lock, Thread
from types import TracebackType
from typing import Self

from caspers_lib.agents.contracts import AnswerKind
from caspers_lib.agents.model.asking import AnsweredQuestion, ClientMaker, Question, answer_question
from caspers_lib.agents.model.client import ModelClient
from caspers_lib.agents.model.limits import Spent
from caspers_lib.agents.model.settings import ModelSettings

__all__ = ["ModelThread"]


@dataclass(slots=True)
class _Lent:
    """A client and how many questions are at it."""

    client: ModelClient
    questions: int


class ModelThread:
    """A model that threads may ask at the same time; its own thread starts with the first question.

    As a context manager it gives up what is in flight at the block's end. The budget of a batch
    holds for its whole life.

    Args:
        settings: the endpoint and its limits, asked for before each question, since a key may
            change while an agent runs.
        make_client: makes a client, anew when the settings change.
    """

    def __init__(
        self, settings: Callable[[], ModelSettings], *, make_client: ClientMaker = ModelClient
    ) -> None:
        self._settings = settings
        self._make_client = make_client
        self._running: tuple[asyncio.AbstractEventLoop, Thread] | None = None
        self._starting = Lock()
        self._now: _Lent | None = None
        self._stopping = False

    def __enter__(self) -> Self:
        """Nothing starts yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give up the questions in flight and close the connections."""
        with self._starting:
            self._stopping = True
        if self._running:
            loop, thread = self._running
            asyncio.run_coroutine_threadsafe(self._stop(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def __call__(self, question: Question, kind: AnswerKind) -> AnsweredQuestion:
        """Ask, and wait for what comes of it.

        Args:
            question: what is asked.
            kind: the answer asked for.

        Returns:
            The answer, or the reason why there is none.

        Raises:
            SettingsError: httpx is not installed.
        """
        settings = self._settings()
        with self._starting:
            if self._stopping:
                return _given_up(question)
            asked = self._answered(settings, question, kind)
            result = asyncio.run_coroutine_threadsafe(asked, self._loop())
        try:
            return result.result()
        except CancelledError:
            return _given_up(question)

    def _loop(self) -> asyncio.AbstractEventLoop:
        if self._running is None:
            loop = asyncio.new_event_loop()
            self._running = loop, Thread(target=loop.run_forever, name="model", daemon=True)
            self._running[1].start()
        return self._running[0]

    async def _answered(
        self, settings: ModelSettings, question: Question, kind: AnswerKind
    ) -> AnsweredQuestion:
        lent = await self._lent(settings)
        try:
            return await answer_question(lent.client, None, question, kind)
        finally:
            lent.questions -= 1
            if lent is not self._now and not lent.questions:
                await lent.client.aclose()

    async def _lent(self, settings: ModelSettings) -> _Lent:
        """The client for one question; what an earlier client has spent stays spent."""
        before = self._now
        if before and before.client.settings == settings:
            before.questions += 1
            return before
        spent = before.client.spent if before else Spent()
        now = self._now = _Lent(self._make_client(settings, spent_today=spent), questions=1)
        if before and not before.questions:
            await before.client.aclose()
        return now

    async def _stop(self) -> None:
        mine = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not mine]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._now:
            await self._now.client.aclose()


def _given_up(question: Question) -> AnsweredQuestion:
    return AnsweredQuestion(
        key=question.key,
        response=None,
        reason="The agent is being stopped",
        kind="unavailable",
        calls=0,
        input_tokens=0,
        output_tokens=0,
        usd=Decimal(0),
        seconds=0.0,
        cached=False,
    )
