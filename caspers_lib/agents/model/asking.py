"""Questions to a model and what came of each: a checked answer, or the reason why there is none.

A text that breaks the contract is sent back once with the reason. A
question never fails for another one's sake: whatever happens, each has a result of its own.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from decimal import ROUND_UP, Decimal
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, cast

from caspers_lib.agents.contracts import (
    AnswerKind,
    AskedKind,
    ComplaintText,
    response_format,
)
from caspers_lib.agents.model.answer_cache import AnswerCache, CachedAnswer, cache_key
from caspers_lib.agents.model.answer_text import parsed_answer, parsed_text
from caspers_lib.agents.model.client import ModelClient
from caspers_lib.agents.model.excerpts import excerpt, redacted
from caspers_lib.agents.model.limits import Spent
from caspers_lib.agents.model.settings import Message, ModelSettings
from caspers_lib.errors import AnswerError, ModelError

__all__ = [
    "AnsweredQuestion",
    "ClientMaker",
    "Outcome",
    "Question",
    "answer_question",
    "answer_questions",
    "asked_format",
    "checked_response",
]

logger = logging.getLogger(__name__)

Outcome: TypeAlias = Literal[
    "answered", "unavailable", "over_budget", "refused", "unreadable", "failed"
]
"""What came of a question. Unavailable and over budget say nothing about the question; refused and
unreadable are to blame on it or the model; failed is a fault of this library."""

MAX_REPAIRED_CHARS = 4_096
"""So much of a broken answer is shown to the model that is to repair it."""

_MICRO_USD = Decimal("0.000001")
_NOTHING = Spent()


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a model is asked about one order.

    Args:
        key: identifies the question among its batch.
        order_id: the order; a complaint's answer has to be about it.
        order_total: USD, the most that may be given back; None where it is unknown.
        messages: the conversation up to the model's answer.
    """

    key: str
    order_id: str
    order_total: Decimal | None
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredQuestion:
    """What came of a question.

    Args:
        key: the question's.
        response: the answer as strict JSON; None if there is none.
        reason: why there is none, in one line for people; None if there is one.
        kind: what came of it.
        calls: requests sent, 0 if it was never asked.
        input_tokens: tokens sent.
        output_tokens: tokens received.
        usd: their price, rounded up to a millionth.
        seconds: from taking it up to its result.
        cached: whether the answer was paid for before; calls, tokens and price are then 0.
    """

    key: str
    response: str | None
    reason: str | None
    kind: Outcome
    calls: int
    input_tokens: int
    output_tokens: int
    usd: Decimal
    seconds: float
    cached: bool


class ClientMaker(Protocol):
    """Makes the client of a batch, such as `ModelClient` itself."""

    def __call__(self, settings: ModelSettings, *, spent_today: Spent) -> ModelClient:
        """A client that knows what was spent before on this day."""


def answer_questions(
    questions: Sequence[Question],
    settings: ModelSettings,
    kind: AskedKind,
    *,
    folder: Path | None = None,
    spent_today: Spent = _NOTHING,
    make_client: ClientMaker = ModelClient,
    on_result: Callable[[], object] = lambda: None,
) -> list[AnsweredQuestion]:
    """Ask a model about many orders at the same time.

    Args:
        questions: each with a key of its own.
        settings: the endpoint, limits and prices.
        kind: the answer asked for.
        folder: where answers that were paid for are kept; None keeps none.
        spent_today: what the agent has spent before on this UTC day.
        make_client: makes the client.
        on_result: is called whenever there is one more result.

    Returns:
        A result for each question, in their order.

    Raises:
        SettingsError: httpx is not installed.
    """
    if not questions:
        return []
    cache = None if folder is None else AnswerCache(folder)

    async def answers() -> list[AnsweredQuestion]:
        async with make_client(settings, spent_today=spent_today) as client:
            return await _answered(client, cache, questions, kind, on_result)

    return _run(answers)


async def answer_question(
    client: ModelClient,
    cache: AnswerCache | None,
    question: Question,
    kind: AskedKind,
    *,
    monotonic: Callable[[], float] = time.monotonic,
) -> AnsweredQuestion:
    """Ask a model about one order, and once more if its answer breaks the contract.

    Args:
        client: asks the model.
        cache: answers that were paid for; None for none.
        question: what is asked.
        kind: the answer asked for.
        monotonic: seconds that never go back.

    Returns:
        The answer, or the reason why there is none.

    Raises:
        SettingsError: httpx is not installed.
    """
    began = monotonic()
    key = _key(client.settings, question, kind) if cache else ""
    if cache and (response := await _from_cache(cache, key, question, kind, client.settings)):
        return _result(question, Spent(), monotonic() - began, response=response, cached=True)
    spent, conversation, broken = Spent(), question.messages, ""
    for _ in ("ask",) if client.settings.is_agent else ("ask", "repair"):
        try:
            reply = await client.ask(conversation, asked_format(kind))
        except ModelError as error:
            spent += Spent(error.calls, error.input_tokens, error.output_tokens, error.usd)
            after = f" (before that: {broken})" if broken else ""
            # A refused repair is to blame on the broken answer, not on the question.
            outcome: Outcome = "unreadable" if broken and error.kind == "refused" else error.kind
            return _result(
                question, spent, monotonic() - began, kind=outcome, reason=error.message + after
            )
        spent += Spent(reply.calls, reply.input_tokens, reply.output_tokens, reply.usd)
        try:
            response = checked_response(
                reply.text, question, kind, is_agent=client.settings.is_agent
            )
        except AnswerError as error:
            broken = error.message
            if reply.is_cut:
                # The next one would end there as well.
                most = client.settings.max_output_tokens
                broken += f"; max_output_tokens of {most:,} cut it off"
                break
            conversation = (*question.messages, *_repair(reply.text, broken))
            continue
        if reply.in_models_place:
            # The stream's own rules say the same; the question waits for the model.
            why = "The agent's model gave no answer; its rules did"
            return _result(question, spent, monotonic() - began, kind="unavailable", reason=why)
        if cache and reply.text:
            await _keep(cache, key, reply.text, spent)
        return _result(question, spent, monotonic() - began, response=response)
    return _result(question, spent, monotonic() - began, kind="unreadable", reason=broken)


async def _answered(
    client: ModelClient,
    cache: AnswerCache | None,
    questions: Sequence[Question],
    kind: AskedKind,
    on_result: Callable[[], object],
) -> list[AnsweredQuestion]:
    results: dict[int, AnsweredQuestion] = {}
    waiting = iter(enumerate(questions))

    async def work(waiting: Iterator[tuple[int, Question]]) -> None:
        for place, question in waiting:
            results[place] = await _answered_whatever_happens(client, cache, question, kind)
            on_result()

    workers = min(client.settings.concurrency, len(questions))
    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(work(waiting))
    return [results[place] for place in range(len(questions))]


async def _answered_whatever_happens(
    client: ModelClient, cache: AnswerCache | None, question: Question, kind: AskedKind
) -> AnsweredQuestion:
    try:
        return await answer_question(client, cache, question, kind)
    except Exception as error:  # noqa: BLE001 - one question must not cost the others' answers
        logger.warning("a question to the model failed with %s", type(error).__name__)
        said = redacted(str(error), client.settings.secret)
        reason = f"Unexpected {type(error).__name__}: {excerpt(said)}"
        return _result(question, Spent(), 0.0, kind="failed", reason=reason)


def asked_format(kind: AskedKind) -> dict[str, object] | None:
    """The response format that a model is asked for; None for a customer's text."""
    return None if kind is ComplaintText else response_format(cast("AnswerKind", kind))


def checked_response(
    text: str | None, question: Question, kind: AskedKind, *, is_agent: bool = False
) -> str:
    """The answer that a model's text holds, as it is stored.

    Args:
        text: what the model wrote.
        question: what it was asked.
        kind: the answer asked for.
        is_agent: whether an agent wrote it, which says itself who answered.

    Raises:
        AnswerError: it holds none that keeps the contract.
    """
    if kind is ComplaintText:
        return parsed_text(text).model_dump_json()
    return parsed_answer(
        text,
        cast("AnswerKind", kind),
        order_total=question.order_total,
        order_id=question.order_id,
        keeps_source=is_agent,
    ).model_dump_json()


def _repair(text: str | None, broken: str) -> tuple[Message, Message]:
    """The broken answer, and the request for another one."""
    request = (
        f"This answer can't be used. {broken}. Answer the question again in the form that was asked"
        " for, and with nothing else."
    )
    shown = (text or "").strip()[:MAX_REPAIRED_CHARS] or "(nothing)"
    return Message("assistant", shown), Message("user", request)


def _key(settings: ModelSettings, question: Question, kind: AskedKind) -> str:
    return cache_key(
        {
            "base_url": settings.base_url,
            "is_agent": settings.is_agent,
            "model": settings.model,
            "temperature": settings.temperature,
            "schema": kind.__name__,
            "order_id": question.order_id,
            "order_total": None if question.order_total is None else f"{question.order_total:f}",
            "messages": [asdict(message) for message in question.messages],
        }
    )


async def _from_cache(
    cache: AnswerCache, key: str, question: Question, kind: AskedKind, settings: ModelSettings
) -> str | None:
    """The answer that was paid for before; one that the contract refuses by now is forgotten."""
    found = await asyncio.to_thread(cache.get, key)
    if found is None:
        return None
    try:
        return checked_response(found.text, question, kind, is_agent=settings.is_agent)
    except AnswerError:
        await asyncio.to_thread(cache.remove, key)
        return None


async def _keep(cache: AnswerCache, key: str, text: str, spent: Spent) -> None:
    answer = CachedAnswer(text, spent.input_tokens, spent.output_tokens)
    try:
        await asyncio.to_thread(cache.put, key, answer)
    except OSError as error:
        # The answer stands; should the batch run again, it is paid for again.
        logger.warning("an answer is not kept for another run: %s", error)


def _result(
    question: Question,
    spent: Spent,
    seconds: float,
    *,
    response: str | None = None,
    reason: str | None = None,
    kind: Outcome = "answered",
    cached: bool = False,
) -> AnsweredQuestion:
    return AnsweredQuestion(
        key=question.key,
        response=response,
        reason=reason,
        kind=kind,
        calls=spent.calls,
        input_tokens=spent.input_tokens,
        output_tokens=spent.output_tokens,
        usd=spent.usd.quantize(_MICRO_USD, ROUND_UP),
        seconds=seconds,
        cached=cached,
    )


def _run(
    answers: Callable[[], Coroutine[object, object, list[AnsweredQuestion]]],
) -> list[AnsweredQuestion]:
    """The coroutine's result, from a thread of its own where this one runs a loop (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(answers())
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(answers())).result()
