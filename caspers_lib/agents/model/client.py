"""Asks a model: in bounds, again where that makes sense, and never for long where it doesn't.

Importing this module does not load httpx; the first call does. `settings` says what the bounds are,
`limits` keeps them, `request_form` knows what servers refuse, `http` sends one request. What goes
wrong is a `ModelError` that says what it cost all the same.
"""

import asyncio
import logging
import random as random_numbers
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Self

from caspers_lib.agents.model.excerpts import excerpt
from caspers_lib.agents.model.limits import Budget, CircuitBreaker, Spent, TokenBucket
from caspers_lib.agents.model.replies import CallFailure, CallReply, retry_after_s
from caspers_lib.agents.model.request_form import ACCEPTED_FORMS, FormKey, RequestForm
from caspers_lib.agents.model.settings import Limits, Message, ModelSettings
from caspers_lib.errors import (
    ModelError,
    ModelRefusedError,
    ModelUnavailableError,
    ModelUnreadableError,
    SettingsError,
)

if TYPE_CHECKING:
    import httpx

    from caspers_lib.agents.model.http import ModelHttp

__all__ = ["Limits", "Message", "ModelClient", "ModelReply", "ModelSettings"]

logger = logging.getLogger(__name__)

_BYTES_A_TOKEN = 3  # fewer than in any usual text, so that an estimate is rather too high
_TOKENS_A_MESSAGE = 8
_LONGEST_REST_S = 86_400.0
_QUOTA_REST_S = 3_600.0  # longer than a batch takes; an agent that is served tries again after it
_MOST_DOUBLINGS = 30
_NOTHING = Spent()

_ERRORS: Mapping[str, type[ModelError]] = {
    "unavailable": ModelUnavailableError,
    "refused": ModelRefusedError,
    "unreadable": ModelUnreadableError,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReply:
    """What a model answered, and what all calls for it took.

    Args:
        text: what it wrote; None if it wrote nothing.
        input_tokens: tokens sent, as the server counts them.
        output_tokens: tokens received.
        usd: their price.
        calls: requests sent, failed ones included.
        seconds: from the question to the reply, waits included.
        is_cut: whether the limit of output tokens ended it.
        in_models_place: whether a served agent's rules wrote it because its model did not.
    """

    text: str | None
    input_tokens: int
    output_tokens: int
    usd: Decimal
    calls: int
    seconds: float
    is_cut: bool = False
    in_models_place: bool = False


class ModelClient:
    """Asks one endpoint, from one event loop, within the settings' bounds.

    Args:
        settings: the endpoint, limits and prices.
        clock: UTC epoch seconds, for the day's budget and dates that servers send.
        monotonic: seconds that never go back, for everything else.
        sleep: waits for some seconds.
        random: a number from 0 to 1, for the jitter.
        transport: carries the requests in place of connections of its own, for tests.
        spent_today: what was spent before on this UTC day.
        forms: the forms of requests that endpoints have accepted after they refused another one;
            all clients of a process share them.
    """

    def __init__(
        self,
        settings: ModelSettings,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = random_numbers.random,
        transport: "httpx.AsyncBaseTransport | None" = None,
        spent_today: Spent = _NOTHING,
        forms: MutableMapping[FormKey, RequestForm] = ACCEPTED_FORMS,
    ) -> None:
        self._settings = settings
        self._forms = forms
        self._form_key = (settings.base_url, settings.model, settings.api)
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep
        self._random = random
        self._transport = transport
        self._http: ModelHttp | None = None
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._turn = asyncio.Lock()
        self._settled = asyncio.Event()
        self._bucket = TokenBucket(settings.calls_per_minute, clock=monotonic)
        self._breaker = CircuitBreaker(
            settings.breaker_failures, settings.breaker_reset_s, clock=monotonic
        )
        self._budget = Budget(
            settings.batch_budget, settings.day_budget, clock=clock, spent_today=spent_today
        )

    async def __aenter__(self) -> Self:
        """Get ready to ask.

        Raises:
            SettingsError: httpx is not installed.
        """
        self._open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connections."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        if self._http:
            await self._http.close()

    @property
    def settings(self) -> ModelSettings:
        """How the model is asked."""
        return self._settings

    @property
    def spent(self) -> Spent:
        """What this client has spent so far."""
        return self._budget.spent

    async def ask(
        self, messages: Sequence[Message], response_format: Mapping[str, object] | None = None
    ) -> ModelReply:
        """Ask one question, with further tries where a failure may pass.

        Where the server refuses a part of the request, the request goes without it from now on.

        Args:
            messages: the conversation.
            response_format: as chat completions take it; None for any text.

        Returns:
            The reply; its text is not checked.

        Raises:
            ModelUnavailableError: the model is busy, out of reach, or not asked for that reason.
            ModelBudgetError: a budget leaves no room for the call.
            ModelRefusedError: the model refuses this question.
            ModelUnreadableError: what came back was no reply, twice.
            SettingsError: httpx is not installed.
        """
        self._open()
        began = self._monotonic()
        spent, tries = Spent(), _Tries(self._settings.max_retries)
        while True:
            outcome, cost = await self._call(messages, response_format, spent, tries.last)
            spent += cost
            if isinstance(outcome, CallReply):
                return ModelReply(
                    text=outcome.text,
                    input_tokens=spent.input_tokens,
                    output_tokens=spent.output_tokens,
                    usd=spent.usd,
                    calls=spent.calls,
                    seconds=self._monotonic() - began,
                    is_cut=outcome.is_cut,
                    in_models_place=outcome.in_models_place,
                )
            pause = self._pause_before_next(outcome, tries)
            if pause is None:
                why = f"gave no answer: {tries.story(outcome)}"
                raise self._error(_ERRORS[outcome.kind], why, spent)
            await self._sleep(pause)

    async def _call(
        self,
        messages: Sequence[Message],
        response_format: Mapping[str, object] | None,
        spent: Spent,
        last: str,
    ) -> tuple[CallReply | CallFailure, Spent]:
        """What came of a call and its cost, in the first form that the server does not refuse."""
        estimate, cost = self._estimate(messages, response_format), Spent()
        async with self._slots:
            # Others may have found the form while this question waited.
            form = self._forms.get(self._form_key, RequestForm())
            while True:
                try:
                    outcome, paid = await self._call_within_limits(
                        messages, response_format, form, estimate
                    )
                except ModelError as error:
                    # Not sent; what earlier calls cost and why they failed is part of the story.
                    why = error.message[0].lower() + error.message[1:]
                    after = f" again after {last}" if last else ""
                    what = f"was not asked{after}: {why}"
                    raise self._error(type(error), what, spent + cost) from None
                cost += paid
                if isinstance(outcome, CallReply) or outcome.next_form is None:
                    self._remember(form, outcome)
                    return outcome, cost
                form, last = outcome.next_form, outcome.reason

    async def _call_within_limits(
        self,
        messages: Sequence[Message],
        response_format: Mapping[str, object] | None,
        form: RequestForm,
        estimate: Spent,
    ) -> tuple[CallReply | CallFailure, Spent]:
        self._refuse_if_open()
        while (reservation := self._budget.reserve(estimate)) is None:
            await self._settled.wait()
            self._refuse_if_open()
        cost, healthy, admission = Spent(), None, None
        try:
            await self._await_turn()
            admission = self._breaker.admit()
            if admission is None:
                raise self._rest()
            cost = estimate  # should this be cancelled, it was sent
            outcome = await self._open().call(messages, response_format, form)
            cost = self._cost(outcome, estimate)
            healthy = outcome.healthy if isinstance(outcome, CallFailure) else True
            return outcome, cost
        finally:
            if admission:
                self._breaker.report(admission, healthy)
            self._budget.settle(reservation, cost)
            self._wake_waiting()

    async def _await_turn(self) -> None:
        """Wait until a call may start; one waits for the bucket, the others stand in line."""
        async with self._turn:
            self._refuse_if_open()
            while (pause := self._bucket.wait_s()) > 0:
                await self._sleep(pause)
                self._refuse_if_open()
            self._bucket.take()

    def _refuse_if_open(self) -> None:
        if self._breaker.is_open:
            raise self._rest()

    def _rest(self) -> ModelUnavailableError:
        return ModelUnavailableError(self._breaker.reason)

    def _remember(self, form: RequestForm, outcome: CallReply | CallFailure) -> None:
        """Keep the form that the server has just accepted, for the questions to come."""
        if isinstance(outcome, CallFailure):
            if outcome.is_form_refused:
                # Another server may stand there by now; the next question begins anew.
                self._forms.pop(self._form_key, None)
        elif form != self._forms.get(self._form_key, RequestForm()):
            self._forms[self._form_key] = form
            name = excerpt(self._settings.model)
            logger.warning("the model %s refuses the usual request; sent now: %s", name, form)

    def _wake_waiting(self) -> None:
        self._settled.set()
        self._settled = asyncio.Event()

    def _pause_before_next(self, failure: CallFailure, tries: "_Tries") -> float | None:
        """Seconds until the next try; None if there is none."""
        if failure.is_quota:
            if not self._breaker.is_open:
                logger.warning("the model is not asked any more: %s", failure.reason)
            self._breaker.trip(_QUOTA_REST_S, f"it answered {failure.reason}")
            return None
        asked = retry_after_s(failure.retry_after, self._clock())
        if asked is not None and asked > self._settings.retry_after_cap_s:
            pause = f"it asks for a pause of {asked:.0f} s"
            self._breaker.trip(min(asked, _LONGEST_REST_S), pause)
            tries.end(pause)
            return None
        if not tries.may_go_on(failure):
            return None
        jitter = self._random()
        if asked:
            # The others would be turned away as well. When it ends they don't all come at once.
            self._bucket.pause(asked)
            return asked + jitter * self._settings.backoff_base_s
        base, cap = self._settings.backoff_base_s, self._settings.backoff_cap_s
        return jitter * min(cap, base * 2.0 ** min(tries.retries - 1, _MOST_DOUBLINGS))

    def _cost(self, outcome: CallReply | CallFailure, estimate: Spent) -> Spent:
        """What a call cost; where the server does not say, what was estimated."""
        if isinstance(outcome, CallFailure):
            return estimate if outcome.may_be_paid else Spent(calls=1)
        sent, received = outcome.input_tokens, outcome.output_tokens
        sent = estimate.input_tokens if sent is None else sent
        received = _tokens(outcome.text or "") if received is None else received
        return Spent(1, sent, received, self._settings.usd(sent, received))

    def _estimate(
        self, messages: Sequence[Message], response_format: Mapping[str, object] | None
    ) -> Spent:
        sent = sum(_tokens(m.content) + _TOKENS_A_MESSAGE for m in messages)
        sent += _tokens(str(response_format)) if response_format else 0
        most = self._settings.max_output_tokens
        return Spent(1, sent, most, self._settings.usd(sent, most))

    def _error(self, kind: type[ModelError], what: str, spent: Spent) -> ModelError:
        return kind(
            f"The model {excerpt(self._settings.model)} at {self._settings.base_url} {what}",
            calls=spent.calls,
            input_tokens=spent.input_tokens,
            output_tokens=spent.output_tokens,
            usd=spent.usd,
        )

    def _open(self) -> "ModelHttp":
        if self._http is None:
            try:
                from caspers_lib.agents.model.http import ModelHttp
            except ModuleNotFoundError as error:
                raise SettingsError(
                    f"A model is configured, but {error.name} is not installed",
                    hint="pip install 'caspers_lib[agents]'",
                ) from error
            self._http = ModelHttp(self._settings, transport=self._transport)
        return self._http


class _Tries:
    """The tries for one question: how many there were, and why the last one failed."""

    def __init__(self, max_retries: int) -> None:
        self._max_retries = max_retries
        self.retries = 0
        self.last = ""
        self._ended = ""
        self._unreadable = 0

    def may_go_on(self, failure: CallFailure) -> bool:
        """Whether another try makes sense; counts it if so."""
        self.last = failure.reason
        self._unreadable += failure.retries == "once"
        if failure.retries == "never" or self._unreadable > 1 or self.retries >= self._max_retries:
            return False
        self.retries += 1
        return True

    def end(self, why: str) -> None:
        """Note why there is no further try."""
        self._ended = why

    def story(self, failure: CallFailure) -> str:
        """Why there is no answer, in words."""
        calls = f" ({self.retries + 1} calls)" if self.retries else ""
        return f"{failure.reason}{calls}{f', and {self._ended}' if self._ended else ''}"


def _tokens(text: str) -> int:
    return len(text.encode("utf-8", "replace")) // _BYTES_A_TOKEN + 1
