import asyncio
import socket
import subprocess
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from caspers_lib.agents.contracts import ComplaintAnswer, RefundAnswer, response_format
from caspers_lib.agents.model.client import (
    Limits,
    Message,
    ModelClient,
    ModelReply,
    ModelSettings,
)
from caspers_lib.agents.model.limits import Spent
from caspers_lib.errors import (
    ModelBudgetError,
    ModelError,
    ModelRefusedError,
    ModelUnavailableError,
    ModelUnreadableError,
    SettingsError,
)
from tests.agents.model_server import (
    BUSY,
    CUT,
    DRIP,
    HANG,
    KEY,
    KEY_ECHO,
    MEGABYTES,
    NO_CHOICES,
    PACKED,
    PAGE,
    PARTICULAR_SERVERS,
    RIGHT,
    RIGHT_ANSWER,
    WRONG_JSON,
    Act,
    ModelServer,
    Refusal,
    failed,
    refused,
    said,
    sent,
    without_usage,
)

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
HELLO = (Message("system", "Be fair."), Message("user", "What does order o-1 get?"))
PRICES = {"usd_per_million_input": Decimal("1.5"), "usd_per_million_output": Decimal(6)}


class Time:
    """Time that passes by sleeping only."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def clock(self) -> float:
        return NOON.timestamp() + self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


def settings(server: ModelServer, **changed: Any) -> ModelSettings:
    fields = {"base_url": server.url, "model": "m", "api_key": SecretStr(KEY), **PRICES}
    return ModelSettings(**(fields | changed))


def client(
    server: ModelServer,
    time: Time | None = None,
    *,
    random: float = 1.0,
    spent_today: Spent | None = None,
    **changed: Any,
) -> ModelClient:
    time = time or Time()
    return ModelClient(
        settings(server, **changed),
        clock=time.clock,
        monotonic=time.monotonic,
        sleep=time.sleep,
        random=lambda: random,
        spent_today=spent_today or Spent(),
    )


def with_client(subject: ModelClient, work: Callable[[ModelClient], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with subject:
            return await work(subject)

    return asyncio.run(run())


def ask(subject: ModelClient) -> ModelReply:
    return with_client(subject, lambda c: c.ask(HELLO))


def refusal(subject: ModelClient) -> ModelError:
    with pytest.raises(ModelError) as refused:
        ask(subject)
    return refused.value


def outcomes(subject: ModelClient, times: int, *, at_once: bool = False) -> list[Any]:
    """What comes of asking several times, errors included."""

    async def work(c: ModelClient) -> list[Any]:
        if at_once:
            asked = [c.ask(HELLO) for _ in range(times)]
            return await asyncio.gather(*asked, return_exceptions=True)
        found: list[Any] = []
        for _ in range(times):
            try:
                found.append(await c.ask(HELLO))
            except ModelError as error:
                found.append(error)
        return found

    return with_client(subject, work)


def kinds(found: Iterable[Any]) -> list[str]:
    return [f.kind if isinstance(f, ModelError) else type(f).__name__ for f in found]


# A call -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_reply_says_what_was_written_and_what_it_cost(api: str) -> None:
    with ModelServer().running() as server:
        reply = ask(client(server, api=api))
    assert reply == ModelReply(
        text=RIGHT,
        input_tokens=120,
        output_tokens=30,
        usd=Decimal("0.00036"),
        calls=1,
        seconds=0,
    )


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("kind", [RefundAnswer, ComplaintAnswer])
def test_the_wish_for_a_format_is_made_as_each_api_takes_it(api: str, kind: Any) -> None:
    wanted = response_format(kind)
    with ModelServer().running() as server:
        with_client(client(server, api=api), lambda c: c.ask(HELLO, wanted))
    [request] = server.requests
    got = request.body["text"]["format"] if api == "responses" else request.body["response_format"]
    assert str(wanted["json_schema"]["schema"]) in str(got)  # type: ignore[index]
    assert request.said == [{"role": m.role, "content": m.content} for m in HELLO]


def test_a_temperature_of_none_is_left_out() -> None:
    with ModelServer().running() as server:
        ask(client(server, temperature=None))
        ask(client(server, temperature=0.5))
    assert [r.body.get("temperature") for r in server.requests] == [None, 0.5]


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_reply_without_text_is_a_reply(api: str) -> None:
    with ModelServer([said(None)]).running() as server:
        assert ask(client(server, api=api)).text is None


@pytest.mark.parametrize("ending", ["", "/"])
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_an_address_may_end_in_a_slash(api: str, ending: str) -> None:
    with ModelServer().running() as server:
        assert ask(client(server, api=api, base_url=server.url + ending)).text == RIGHT


def test_a_question_is_sent_as_it_was_written() -> None:
    written = 'Zwei "Käsespätzle" \u00e9 \n 🍜 '
    with ModelServer().running() as server:
        with_client(client(server), lambda c: c.ask([Message("user", written)]))
    assert server.requests[0].said[0]["content"] == written


class Carrier(httpx.AsyncBaseTransport):
    """Carries requests to nowhere: what it is given is raised or answered."""

    def __init__(self, outcome: httpx.Response | Exception) -> None:
        self.outcome = outcome
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def test_another_transport_carries_the_requests() -> None:
    body = {"choices": [{"message": {"content": RIGHT}}]}
    carrier = Carrier(httpx.Response(200, json=body))
    subject = ModelClient(settings(ModelServer(), base_url="http://nowhere/v1"), transport=carrier)
    assert ask(subject).text == RIGHT
    [request] = carrier.requests
    assert (request.url, request.headers["host"]) == (
        "http://nowhere/v1/chat/completions",
        "nowhere",
    )


@pytest.mark.parametrize(
    ("outcome", "reason", "is_paid"),
    [
        (httpx.ConnectError("no route"), "the connection failed: ConnectError 'no route'", False),
        (httpx.ReadError(f"cut {KEY}"), "the connection failed: ReadError 'cut [key]'", True),
        (OSError("reset"), "the connection failed: OSError 'reset'", True),
        (httpx.ReadTimeout("late"), "no answer within 60 s", True),
    ],
)
def test_J7_what_a_transport_raises_is_a_reason(
    outcome: Exception, reason: str, is_paid: bool
) -> None:
    made = settings(ModelServer(), base_url="http://nowhere/v1", max_retries=0)
    error = refusal(ModelClient(made, transport=Carrier(outcome)))
    assert reason in error.message
    assert (error.usd > 0) is is_paid


def test_text_in_parts_is_joined_and_thoughts_are_left_out() -> None:
    parts = b"""{"choices": [{"message": {"content": [
        {"type": "reasoning", "text": "hm"}, {"type": "text", "text": "a"},
        {"type": "text", "text": "b"}, "c", {"type": "text", "text": 7}]}}]}"""
    with ModelServer([sent(parts)]).running() as server:
        assert ask(client(server)).text == "ab"


def test_where_the_server_counts_no_tokens_they_are_estimated() -> None:
    strange = b'{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": -5}}'
    with ModelServer([without_usage(RIGHT_ANSWER), sent(strange)]).running() as server:
        for reply in outcomes(client(server), 2):
            assert 10 < reply.input_tokens < 100
            assert 0 < reply.output_tokens < 100
            assert reply.usd > 0


def test_the_server_is_asked_with_our_key_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    # Clients of other make take these from the environment.
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "of-another-service")
    with ModelServer(key=None).running() as server:
        ask(client(server, api_key=None))
    with ModelServer().running() as other:
        ask(client(other))
    for request in (*server.requests, *other.requests):
        assert "of-another-service" not in str(request.headers)


def test_a_proxy_of_the_environment_is_used_but_not_for_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with ModelServer().running() as proxy, ModelServer().running() as server:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        ask(client(server))
        assert proxy.requests == []
        ask(client(server, base_url="http://model.invalid/v1"))
    assert [r.headers["host"] for r in proxy.requests] == ["model.invalid"]


# Failures that pass -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "act", [failed(500), BUSY, failed(408), failed(409), failed(429), CUT, HANG, DRIP]
)
def test_J7_what_may_pass_is_tried_again(act: Act) -> None:
    time = Time()
    timeout = 0.2 if act in (HANG, DRIP) else 60
    with ModelServer([act, act]).running() as server:
        reply = ask(client(server, time, timeout_s=timeout))
    assert (reply.text, reply.calls) == (RIGHT, 3)
    assert time.slept == [0.5, 1.0]


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (BUSY, """HTTP 503: '{"error": {"message": "overloaded", "type": "error"}}' (3 calls)"""),
        (CUT, "the connection failed: RemoteProtocolError"),
        (HANG, "no answer within 0.1 s (3 calls)"),
        (DRIP, "no answer within 0.1 s (3 calls)"),
    ],
)
def test_J7_what_does_not_pass_is_unavailable_with_the_reason(act: Act, reason: str) -> None:
    timeout = 0.1 if act in (HANG, DRIP) else 60
    with ModelServer(then=act).running() as server:
        error = refusal(client(server, max_retries=2, timeout_s=timeout))
    assert isinstance(error, ModelUnavailableError)
    assert (error.kind, error.calls) == ("unavailable", 3)
    assert reason in error.message


def test_J7_a_server_that_is_gone_is_unavailable_and_costs_nothing() -> None:
    with ModelServer().running() as server:
        pass
    error = refusal(client(server, max_retries=1))
    assert (error.kind, error.calls, error.usd) == ("unavailable", 2, 0)
    assert "the connection failed: ConnectError" in error.message


def test_J7_a_server_that_can_t_be_reached_in_time_costs_nothing() -> None:
    with ExitStack() as sockets:
        full = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):  # the queue is full after these
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}/v1"
        error = refusal(client(ModelServer(), base_url=url, max_retries=0, timeout_s=0.2))
    assert "no answer within 0.2 s" in error.message
    assert (error.calls, error.usd) == (1, 0)


def test_a_call_that_may_have_been_paid_counts_as_estimated() -> None:
    with ModelServer([CUT]).running() as server:
        reply = ask(client(server, max_output_tokens=1_000))
    assert reply.output_tokens == 1_000 + 30
    with ModelServer([BUSY]).running() as server:
        assert ask(client(server, max_output_tokens=1_000)).output_tokens == 30


def test_pauses_double_up_to_a_cap_with_full_jitter() -> None:
    for random in (1.0, 0.25, 0.0):
        time = Time()
        with ModelServer(then=BUSY).running() as server:
            refusal(client(server, time, random=random, max_retries=4, backoff_cap_s=3))
        assert time.slept == [random * pause for pause in (0.5, 1.0, 2.0, 3.0)]


# Retry-After --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "pause"),
    [
        ("7", 7.5),
        ("0.25", 0.75),
        (format_datetime(NOON + timedelta(seconds=9), usegmt=True), 9.5),
        (format_datetime(NOON - timedelta(days=1), usegmt=True), 0.5),
        ("-3", 0.5),
        ("soon", 0.5),
        ("nan", 0.5),
        ("Mon, 99 Foo 2026", 0.5),
    ],
)
def test_J7_the_pause_that_a_server_asks_for_is_kept(header: str, pause: float) -> None:
    time = Time()
    with ModelServer([failed(429, retry_after=header)]).running() as server:
        ask(client(server, time))
    assert time.slept[0] == pytest.approx(pause)


@pytest.mark.parametrize("header", ["61", "inf", "1e300", "Fri, 31 Dec 2100 00:00:00 GMT"])
def test_J7_a_pause_that_is_too_long_is_not_waited_for_by_anybody(header: str) -> None:
    time = Time()
    with ModelServer(then=failed(503, retry_after=header)).running() as server:
        first, second = outcomes(client(server, time), 2)
    assert [(f.kind, f.calls) for f in (first, second)] == [("unavailable", 1), ("unavailable", 0)]
    assert "it asks for a pause of" in first.message
    assert time.slept == []
    assert len(server.requests) == 1


class HeldTime(Time):
    """Time that a test lets pass."""

    def __init__(self) -> None:
        super().__init__()
        self.may_pass = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await self.may_pass.wait()
        self.now += seconds


def test_a_pause_holds_the_other_calls_too() -> None:
    time = HeldTime()

    async def work(c: ModelClient) -> None:
        first = asyncio.create_task(c.ask(HELLO))
        while len(time.slept) < 1:
            await asyncio.sleep(0.001)
        second = asyncio.create_task(c.ask(HELLO))
        while len(time.slept) < 2 and not second.done():
            await asyncio.sleep(0.001)
        assert len(server.requests) == 1
        time.may_pass.set()
        await asyncio.gather(first, second)

    with ModelServer([failed(429, retry_after="7")]).running() as server:
        with_client(client(server, time), work)
    assert time.slept[:2] == [7.5, 7.0]


def test_a_server_that_is_busy_is_not_taken_for_a_broken_one() -> None:
    with ModelServer(then=failed(429)).running() as server:
        found = outcomes(client(server, breaker_failures=2, max_retries=0), 5)
    assert [(f.kind, f.calls) for f in found] == [("unavailable", 1)] * 5


# Failures that don't pass -------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 413, 415, 422, 451])
def test_a_question_that_is_refused_is_not_asked_again(status: int) -> None:
    with ModelServer(then=failed(status, "not this one")).running() as server:
        found = outcomes(client(server, breaker_failures=1), 3)
    assert kinds(found) == ["refused"] * 3
    assert all(isinstance(f, ModelRefusedError) and f.calls == 1 for f in found)
    assert f"HTTP {status}: '{{" in found[0].message


@pytest.mark.parametrize("status", [301, 307, 401, 403, 404, 405])
def test_J7_wrong_settings_are_no_fault_of_the_question_and_soon_not_tried(status: int) -> None:
    act = failed(status, "no", location="http://127.0.0.1:9/elsewhere")
    with ModelServer(then=act).running() as server:
        found = outcomes(client(server, breaker_failures=2), 4)
    assert [(f.kind, f.calls) for f in found] == [("unavailable", n) for n in (1, 1, 0, 0)]
    assert f"HTTP {status} (" in found[0].message
    assert len(server.requests) == 2


def test_a_wrong_key_is_unavailable() -> None:
    with ModelServer(key="another").running() as server:
        error = refusal(client(server))
    assert "HTTP 401 (the key is missing or wrong)" in error.message


def test_a_question_that_is_no_text_is_refused_unsent() -> None:
    with ModelServer().running() as server:
        subject = client(server)
        with pytest.raises(ModelRefusedError, match="no UTF-8"):
            with_client(subject, lambda c: c.ask([Message("user", "half \ud800")]))
    assert server.requests == []


# The form of a request ----------------------------------------------------------------------------


@pytest.mark.parametrize("maker", PARTICULAR_SERVERS)
def test_a_server_that_refuses_parameters_is_adapted_to_once(maker: str) -> None:
    refuses = PARTICULAR_SERVERS[maker]

    async def work(c: ModelClient) -> list[int]:
        return [(await c.ask(HELLO, response_format(RefundAnswer))).calls for _ in range(40)]

    with ModelServer(refuses=refuses).running() as server:
        limits = {"max_retries": 0, "breaker_failures": 1, "concurrency": 1}
        calls = with_client(client(server, **limits), work)
        again = with_client(client(server, **limits), work)
    assert calls == [1 + len(refuses)] + [1] * 39
    assert again == [1] * 40
    sent = server.requests[-1].body
    assert sent.get("max_tokens", sent.get("max_completion_tokens")) == 1024
    assert "Be fair." in sent["messages"][0]["content"]


def test_calls_at_the_same_time_adapt_to_a_server_side_by_side() -> None:
    refuses = PARTICULAR_SERVERS["openai_reasoning"]
    with ModelServer(refuses=refuses, together=8).running() as server:
        found = outcomes(client(server, concurrency=8), 40, at_once=True)
    assert kinds(found) == ["ModelReply"] * 40
    assert len(server.requests) <= 40 + 8 * len(refuses)


def test_clients_share_only_the_forms_that_their_own_endpoint_has_accepted() -> None:
    refuses = PARTICULAR_SERVERS["openai_reasoning"]
    with ModelServer(refuses=refuses).running() as server, ModelServer().running() as other:
        assert ask(client(server)).calls == 3
        assert ask(client(server)).calls == 1
        assert ask(client(server, model="another")).calls == 3
        ask(client(other))
    assert {"max_tokens", "temperature"} <= set(other.requests[0].body)


def test_a_form_that_no_server_takes_blames_no_question() -> None:
    error = {"error": {"message": "Unsupported parameter", "param": "max_completion_tokens"}}
    never = Refusal(lambda _body: True, refused(400, error))
    with ModelServer(refuses=[never]).running() as server:
        found = outcomes(client(server, breaker_failures=2), 4)
    assert [(f.kind, f.calls) for f in found] == [("unavailable", n) for n in (2, 2, 0, 0)]
    assert "HTTP 400 (the server refuses the request's output_limit)" in found[0].message
    assert "Unsupported parameter" in found[0].message


def test_a_server_that_changes_its_mind_is_adapted_to_anew() -> None:
    takes_new, takes_old = (
        Refusal(
            lambda body, name=name: name in body,  # type: ignore[misc]
            refused(400, {"error": {"message": f"Unknown parameter: '{name}'"}}),
        )
        for name in ("max_tokens", "max_completion_tokens")
    )
    with ModelServer(refuses=[takes_new]).running() as server:
        ask(client(server))
        server.refuses = [takes_old]
        assert refusal(client(server)).kind == "unavailable"
        assert ask(client(server)).calls == 1


def test_a_refusal_that_stays_without_the_part_is_the_question_s() -> None:
    act = failed(400, "invalid: the soup's temperature")
    with ModelServer([act, act]).running() as server:
        assert refusal(client(server)).kind == "refused"
        ask(client(server))
    assert [("temperature" in r.body) for r in server.requests] == [True, False, True]


def test_an_adaptation_needs_room_in_the_budget_and_is_part_of_the_cost() -> None:
    refuses = PARTICULAR_SERVERS["openai_reasoning"]
    with ModelServer(refuses=refuses).running() as server:
        error = refusal(client(server, batch_budget=Limits(calls=2)))
    assert (error.kind, error.calls) == ("over_budget", 2)
    assert "again after HTTP 400 (the server refuses the request's temperature)" in error.message


# A quota that is used up --------------------------------------------------------------------------

QUOTAS = [
    failed(402, "Insufficient Balance"),
    refused(429, {"error": {"message": "You exceeded your current quota, please check your plan and"
                            " billing details.", "type": "insufficient_quota", "code": None}}),
    refused(429, {"error": {"message": "no", "code": "billing_hard_limit_reached"}}),
    refused(400, {"error": {"message": "Your credit balance is too low to access the API."}}),
    refused(403, {"error_code": "PERMISSION_DENIED", "message": "The endpoint is temporarily"
                  " disabled due to a Databricks-set rate limit of 0."}),
]  # fmt: skip


@pytest.mark.parametrize("act", QUOTAS)
def test_a_quota_that_is_used_up_ends_the_asking_at_once_and_is_said_once(
    act: Act, caplog: pytest.LogCaptureFixture
) -> None:
    with ModelServer(then=act).running() as server:
        found = outcomes(client(server, concurrency=1), 40, at_once=True)
    assert [(f.kind, f.calls) for f in found] == [("unavailable", n) for n in [1] + [0] * 39]
    assert f"was not asked: it answered HTTP {act.status} (the quota is used up)" in str(found[9])
    assert len(server.requests) == 1
    assert caplog.text.count("the model is not asked any more") == 1


PASSING_QUOTAS = [
    failed(429, "You exceeded your current quota", retry_after="1"),
    failed(429, "You exceeded your current quota. Please retry in 34.07s."),
    failed(429, "Rate limit reached. Please try again in 11.4s. Upgrade at /settings/billing"),
    failed(429, "Resource has been exhausted (e.g. check quota)."),
    failed(429, "Exceeded the rate limit of 0.5 requests a second"),
]


@pytest.mark.parametrize("act", PASSING_QUOTAS)
def test_a_limit_that_passes_is_waited_for(act: Act) -> None:
    with ModelServer([act]).running() as server:
        assert ask(client(server)).calls == 2


UNREADABLE = [
    (PAGE, "no JSON: '<html><body>Please log in"),
    (WRONG_JSON, "no JSON: '{"),
    (NO_CHOICES, "JSON without choices"),
    (sent(b"[]"), "JSON that is no object"),
    (sent(b'{"choices": []}'), "JSON without choices"),
    (sent(b'{"choices": [{"message": null}]}'), "JSON without choices"),
    (sent(b""), "no JSON"),
    (sent(b"\xff\xfe"), "no JSON"),
    (sent(b"[" * 100_000), "no JSON"),
    (MEGABYTES, "longer than 1,000,000 bytes"),
    (PACKED, "packed as 'gzip'"),
]


@pytest.mark.parametrize(("act", "reason"), UNREADABLE)
def test_J3_what_is_no_reply_is_asked_for_once_more(act: Act, reason: str) -> None:
    with ModelServer([act]).running() as server:
        assert ask(client(server)).calls == 2
    with ModelServer(then=act).running() as server:
        error = refusal(client(server, max_retries=9))
    assert isinstance(error, ModelUnreadableError)
    assert (error.kind, error.calls) == ("unreadable", 2)
    assert reason in error.message


def test_a_response_without_output_is_no_reply() -> None:
    with ModelServer(then=sent(b'{"output": "x"}')).running() as server:
        assert "without output" in refusal(client(server, api="responses")).message


def test_megabytes_are_not_read_to_their_end() -> None:
    with ModelServer(then=Act(body=b"x" * 50_000_000)).running() as server:
        refusal(client(server, max_retries=0))
    assert server.sent_bytes < 20_000_000


# The key ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "act",
    [
        KEY_ECHO,
        failed(401, f"bad key {KEY}"),
        failed(500, KEY),
        sent(f"<p>{KEY}</p>".encode()),
        failed(400, "x" * 70 + KEY),
    ],
)
def test_the_key_is_nowhere_in_an_error(act: Act) -> None:
    with ModelServer(then=act).running() as server:
        error = refusal(client(server, max_retries=0))
    shown = "".join(traceback.format_exception(error)) + repr(error) + repr(error.__dict__)
    assert KEY not in shown
    assert KEY[:8] not in shown
    assert error.__cause__ is None
    assert error.__context__ is None
    assert error.message.isprintable()


def test_the_key_is_taken_out_of_a_text_that_repeats_it() -> None:
    with ModelServer([said(f"the key is {KEY}.")]).running() as server:
        assert ask(client(server)).text == "the key is [key]."


def test_a_message_shows_no_more_than_an_excerpt_of_a_body() -> None:
    with ModelServer(then=failed(400, "\r\n\x1b[2J" * 10_000)).running() as server:
        error = refusal(client(server))
    assert len(error.message) < 300
    assert error.message.isprintable()


# Limits -------------------------------------------------------------------------------------------


def test_J5_no_more_requests_are_in_flight_than_allowed() -> None:
    with ModelServer(together=5).running() as server:
        found = outcomes(client(server, concurrency=5), 40, at_once=True)
    assert {f.text for f in found} == {RIGHT}
    assert server.peak == 5
    assert server.connections == 5


def test_J5_five_hundred_requests_are_in_flight_at_once() -> None:
    with ModelServer(together=500).running() as server:
        found = outcomes(client(server, concurrency=500), 600, at_once=True)
    assert {f.text for f in found} == {RIGHT}
    assert server.peak == 500


def test_a_connection_is_kept_from_one_question_to_the_next() -> None:
    with ModelServer().running() as server:
        outcomes(client(server, concurrency=50), 10)
    assert server.connections == 1


def test_calls_at_the_same_time_stay_within_the_budget_of_calls() -> None:
    budget = Limits(calls=3)
    with ModelServer().running() as server:
        found = outcomes(client(server, batch_budget=budget, concurrency=8), 20, at_once=True)
    assert kinds(found).count("over_budget") == 17
    assert len(server.requests) == 3
    assert all(f.calls == 0 for f in found if isinstance(f, ModelBudgetError))


def test_calls_wait_for_one_another_where_the_budget_of_tokens_is_short() -> None:
    # Some 40 tokens of input and 200 of output are reserved, 150 are used.
    budget = Limits(tokens=900)
    with ModelServer().running() as server:
        subject = client(server, batch_budget=budget, concurrency=8, max_output_tokens=200)
        found = outcomes(subject, 20, at_once=True)
    assert kinds(found).count("ModelReply") == 5
    assert kinds(found).count("over_budget") == 15
    assert subject.spent == Spent(5, 600, 150, Decimal("0.0018"))
    assert server.peak <= 3


def test_a_budget_of_dollars_counts_what_was_spent_today() -> None:
    day = Limits(usd=Decimal("0.0100"))
    with ModelServer().running() as server:
        spent = Spent(9, 9, 9, Decimal("0.0099"))
        error = refusal(client(server, day_budget=day, spent_today=spent))
        ask(client(server, day_budget=day))
    assert (error.kind, error.calls) == ("over_budget", 0)
    assert "was not asked: the day's budget of 0.0100 USD leaves no room" in error.message
    assert len(server.requests) == 1


def test_a_further_try_needs_room_in_the_budget_as_well() -> None:
    with ModelServer(then=BUSY).running() as server:
        error = refusal(client(server, batch_budget=Limits(calls=2)))
    assert (error.kind, error.calls) == ("over_budget", 2)
    assert "was not asked again after HTTP 503" in error.message


def test_calls_start_no_faster_than_so_many_a_minute() -> None:
    time = Time()
    with ModelServer().running() as server:
        outcomes(client(server, time, calls_per_minute=30), 4, at_once=True)
    assert time.now == pytest.approx(6)


def test_J7_a_server_that_keeps_failing_is_left_alone_for_a_while() -> None:
    time = Time()
    with ModelServer(then=BUSY).running() as server:
        subject = client(server, time, breaker_failures=4, breaker_reset_s=30, max_retries=1)

        async def work(c: ModelClient) -> list[int]:
            asked = []
            for pause in (0, 0, 0, 0, 30, 0):
                time.now += pause
                with pytest.raises(ModelUnavailableError):
                    await c.ask(HELLO)
                asked.append(len(server.requests))
            server.then = RIGHT_ANSWER
            time.now += 30
            await c.ask(HELLO)
            return asked

        # Two questions of two calls each, then none; after the while one call tries.
        assert with_client(subject, work) == [2, 4, 4, 4, 5, 5]


def test_a_queue_for_the_bucket_ends_when_the_breaker_opens() -> None:
    time = HeldTime()

    async def work(c: ModelClient) -> list[Any]:
        first, *others = (asyncio.create_task(c.ask(HELLO)) for _ in range(50))
        await asyncio.wait({first})
        time.may_pass.set()
        return await asyncio.gather(first, *others, return_exceptions=True)

    with ModelServer(then=failed(401)).running() as server:
        limits = {"calls_per_minute": 1, "breaker_failures": 1, "breaker_reset_s": 600}
        found = with_client(client(server, time, concurrency=50, **limits), work)
    assert set(kinds(found)) == {"unavailable"}
    assert len(server.requests) == 1
    assert time.now == pytest.approx(60)


def test_a_call_that_is_cancelled_gives_its_place_back() -> None:
    async def work(c: ModelClient) -> ModelReply:
        hanging = asyncio.create_task(c.ask(HELLO))
        while not server.requests:
            await asyncio.sleep(0.001)
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)
        return await c.ask(HELLO)

    with ModelServer([HANG]).running() as server:
        subject = client(server, concurrency=1, breaker_failures=1)
        assert with_client(subject, work).text == RIGHT
        # It was sent, so it may be paid.
        assert subject.spent.calls == 2


# Imports ------------------------------------------------------------------------------------------


def test_importing_what_asks_loads_nothing_heavy() -> None:
    check = (
        "import sys, caspers_lib.agents.model.asking;"
        " sys.exit(bool({'httpx', 'pyspark', 'mlflow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_a_missing_package_is_said_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "caspers_lib.agents.model.http", raising=False)
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(SettingsError, match="httpx is not installed") as refused:
        ask(client(ModelServer(), base_url="http://127.0.0.1:9/v1"))
    assert refused.value.hint == "pip install 'caspers_lib[agents]'"
