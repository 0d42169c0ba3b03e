import asyncio
import json
import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from caspers_lib.agents.contracts import ComplaintAnswer, RefundAnswer
from caspers_lib.agents.model.answer_cache import AnswerCache
from caspers_lib.agents.model.asking import (
    MAX_REPAIRED_CHARS,
    AnsweredQuestion,
    Question,
    answer_question,
    answer_questions,
)
from caspers_lib.agents.model.client import Limits, Message, ModelClient, ModelSettings
from caspers_lib.agents.model.limits import Spent
from tests.agents.model_server import (
    BUSY,
    FENCED,
    INJECTED,
    KEY,
    NO_CHOICES,
    REFUND,
    RIGHT,
    RIGHT_ANSWER,
    Act,
    ModelServer,
    failed,
    said,
)

STORED = json.dumps({**REFUND, "source": "model"}, separators=(",", ":"))
PRICES = {"usd_per_million_input": Decimal("1.5"), "usd_per_million_output": Decimal(6)}
HOSTILE = "o'\"\\\n\x00<script>alert(1)</script>'); DROP TABLE x; --"


def question(number: int = 0, **changed: Any) -> Question:
    fields = {
        "key": f"k-{number}",
        "order_id": f"o-{number}",
        "order_total": Decimal("31.50"),
        "messages": (Message("system", "Be fair."), Message("user", f"Order {number}?")),
    }
    return Question(**(fields | changed))


def settings(server: ModelServer, **changed: Any) -> ModelSettings:
    fields = {
        "base_url": server.url,
        "model": "m",
        "api_key": SecretStr(KEY),
        "max_retries": 0,
        "concurrency": 1,
        **PRICES,
    }
    return ModelSettings(**(fields | changed))


async def no_sleep(_seconds: float) -> None:
    await asyncio.sleep(0)


def quick_client(settings: ModelSettings, *, spent_today: Spent) -> ModelClient:
    return ModelClient(settings, spent_today=spent_today, sleep=no_sleep)


def answers(
    server: ModelServer, questions: Sequence[Question], kind: Any = RefundAnswer, **changed: Any
) -> list[AnsweredQuestion]:
    names = ("folder", "spent_today", "on_result")
    own = {name: changed.pop(name) for name in names if name in changed}
    made = settings(server, **changed)
    return answer_questions(questions, made, kind, make_client=quick_client, **own)


def kinds(found: Sequence[AnsweredQuestion]) -> list[str]:
    return [answer.kind for answer in found]


# One question -------------------------------------------------------------------------------------


def test_J2_an_answer_is_strict_json_that_says_a_model_gave_it() -> None:
    with ModelServer([FENCED]).running() as server:
        [answer] = answers(server, [question()])
    assert replace(answer, seconds=0) == AnsweredQuestion(
        key="k-0",
        response=STORED,
        reason=None,
        kind="answered",
        calls=1,
        input_tokens=120,
        output_tokens=30,
        usd=Decimal("0.00036"),
        seconds=0,
        cached=False,
    )
    assert answer.seconds > 0


def test_J3_a_broken_answer_is_repaired_once_with_the_reason() -> None:
    with ModelServer([INJECTED]).running() as server:
        [answer] = answers(server, [question()])
    assert (answer.response, answer.calls, answer.input_tokens) == (STORED, 2, 240)
    assert answer.usd == Decimal("0.00072")
    first, second = (request.said for request in server.requests)
    assert second[: len(first)] == first
    broken, repair = second[len(first) :]
    assert broken == {"role": "assistant", "content": INJECTED.text}
    assert repair["role"] == "user"
    assert (
        "refund_usd is 9999; it must be a number of USD from 0 to the order's total of 31.50"
        in (repair["content"])
    )


@pytest.mark.parametrize("text", [None, "", "null", "no", json.dumps(REFUND | {"x": 1})])
def test_J3_what_is_broken_twice_has_no_answer_but_a_reason(text: str | None) -> None:
    with ModelServer(then=said(text)).running() as server:
        [answer] = answers(server, [question()])
    assert (answer.response, answer.kind, answer.calls) == (None, "unreadable", 2)
    assert answer.input_tokens == 240
    assert answer.reason
    assert answer.reason.startswith("The answer ")
    assert answer.reason.isprintable()


def test_J2_a_text_that_orders_us_to_pay_gets_no_answer() -> None:
    with ModelServer(then=INJECTED).running() as server:
        [answer] = answers(server, [question()])
    assert answer.response is None
    assert "refund_usd is 9999" in str(answer.reason)


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_an_answer_that_is_cut_off_says_so_and_is_not_asked_for_again(api: str) -> None:
    with ModelServer(then=Act(text="<think>Let me see", is_cut=True)).running() as server:
        [answer] = answers(server, [question()], api=api, max_output_tokens=1_500)
    assert (answer.kind, answer.calls) == ("unreadable", 1)
    assert str(answer.reason).endswith("; max_output_tokens of 1,500 cut it off")


def test_a_broken_answer_goes_back_in_short() -> None:
    with ModelServer([said("x" * 60_000)]).running() as server:
        answers(server, [question()])
    assert len(server.requests[1].said[-2]["content"]) == MAX_REPAIRED_CHARS


@pytest.mark.parametrize(
    ("act", "kind"),
    [
        (BUSY, "unavailable"),
        (failed(404), "unavailable"),
        (failed(400), "refused"),
        (NO_CHOICES, "unreadable"),
    ],
)
def test_J2_a_model_that_fails_gives_no_answer_but_the_reason(act: Any, kind: str) -> None:
    with ModelServer(then=act).running() as server:
        [answer] = answers(server, [question()])
    assert (answer.response, answer.kind, answer.calls) == (None, kind, 1)
    assert answer.reason
    assert answer.reason.startswith("The model 'm' at http://127.0.0.1:")


def test_a_repair_that_is_refused_is_no_refusal_of_the_question() -> None:
    with ModelServer([said("no")], then=failed(400)).running() as server:
        [answer] = answers(server, [question()])
    assert (answer.kind, answer.calls) == ("unreadable", 2)
    assert "HTTP 400" in str(answer.reason)
    assert "(before that: The answer holds no JSON object: 'no')" in str(answer.reason)


def test_a_repair_that_finds_nobody_leaves_the_question_open() -> None:
    with ModelServer([said("no")], then=BUSY).running() as server:
        [answer] = answers(server, [question()])
    assert (answer.kind, answer.calls, answer.input_tokens) == ("unavailable", 2, 120)


def test_a_complaint_s_answer_is_about_the_order_asked_about() -> None:
    fields = {
        "complaint_category": "other",
        "decision": "escalate",
        "priority": "high",
        "rationale": "why",
        "customer_response": "Sorry!",
    }
    texts = [json.dumps(fields), json.dumps({**fields, "order_id": "o-9"}), json.dumps(fields)]
    asked = [question(0, order_id=HOSTILE), question(1)]
    with ModelServer([said(text) for text in texts]).running() as server:
        found = answers(server, asked, ComplaintAnswer)
    assert [json.loads(str(a.response))["order_id"] for a in found] == [HOSTILE, "o-1"]
    assert [a.calls for a in found] == [1, 2]


def test_the_price_is_rounded_up_to_a_millionth_of_a_dollar() -> None:
    with ModelServer().running() as server:
        [answer] = answers(server, [question()], usd_per_million_output=Decimal("0.01"))
    assert answer.usd == Decimal("0.000181")


# Many questions -----------------------------------------------------------------------------------


def test_results_come_in_the_questions_order_whenever_they_arrive() -> None:
    asked, told = [question(n) for n in range(30)], count()
    with ModelServer(together=10).running() as server:
        found = answers(server, asked, concurrency=10, on_result=lambda: next(told))
    assert [a.key for a in found] == [q.key for q in asked]
    assert next(told) == 30
    assert server.peak == 10


def test_no_question_needs_no_model() -> None:
    assert answers(ModelServer(), [], base_url="http://127.0.0.1:9/v1") == []


def test_J2_a_question_beyond_the_budget_is_not_asked_and_says_so() -> None:
    with ModelServer().running() as server:
        found = answers(server, [question(n) for n in range(5)], batch_budget=Limits(calls=2))
    assert kinds(found) == ["answered"] * 2 + ["over_budget"] * 3
    assert [(a.response, a.calls, a.usd) for a in found[2:]] == [(None, 0, 0)] * 3
    assert "was not asked: the batch's budget of 2 calls" in str(found[2].reason)
    assert len(server.requests) == 2


def test_J7_once_the_model_is_gone_nobody_waits_for_it() -> None:
    with ModelServer(then=BUSY).running() as server:
        found = answers(server, [question(n) for n in range(50)], breaker_failures=3)
    assert kinds(found) == ["unavailable"] * 50
    assert [a.calls for a in found] == [1] * 3 + [0] * 47
    assert "was not asked: it failed too often in a row" in str(found[-1].reason)


def test_a_refused_question_costs_the_others_nothing() -> None:
    script = [RIGHT_ANSWER, failed(400), RIGHT_ANSWER]
    with ModelServer(script).running() as server:
        found = answers(server, [question(n) for n in range(3)], breaker_failures=1)
    assert kinds(found) == ["answered", "refused", "answered"]


def test_a_fault_with_one_question_costs_the_others_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Faulty(ModelClient):
        async def ask(self, messages: Any, response_format: Any = None) -> Any:
            if messages[-1].content == "Order 1?":
                raise ZeroDivisionError(f"with {KEY}\n" * 99)
            return await super().ask(messages, response_format)

    with ModelServer().running() as server:
        found = answer_questions(
            [question(n) for n in range(3)], settings(server), RefundAnswer, make_client=Faulty
        )
    assert kinds(found) == ["answered", "failed", "answered"]
    assert (found[1].response, found[1].calls) == (None, 0)
    reason = str(found[1].reason)
    assert reason.startswith(r"Unexpected ZeroDivisionError: 'with [key]\nwith [key]")
    assert len(reason) < 200
    assert KEY not in caplog.text


def test_what_was_spent_before_counts_for_the_day() -> None:
    asked = [question(n) for n in range(9)]
    with ModelServer().running() as server:
        day = answers(server, asked, day_budget=Limits(calls=10), spent_today=Spent(calls=6))
    assert [a.calls for a in day].count(1) == 4


def test_it_works_where_an_event_loop_runs_already() -> None:
    async def notebook() -> list[AnsweredQuestion]:
        return answers(server, [question()])

    with ModelServer().running() as server:
        threads = threading.active_count()
        [answer] = asyncio.run(notebook())
        assert threading.active_count() <= threads
    assert answer.response == STORED


# The cache ----------------------------------------------------------------------------------------


def test_an_answer_is_paid_for_once(tmp_path: Path) -> None:
    asked = [question(n) for n in range(3)]
    with ModelServer().running() as server:
        first = answers(server, asked, folder=tmp_path)
        again = answers(server, asked, folder=tmp_path, batch_budget=Limits(calls=0))
        assert len(server.requests) == 3
    assert [a.response for a in again] == [a.response for a in first]
    assert [(a.cached, a.calls, a.input_tokens, a.usd) for a in again] == [(True, 0, 0, 0)] * 3
    assert not any(a.cached for a in first)


def test_a_repaired_answer_is_kept_for_the_question_as_it_was_asked(tmp_path: Path) -> None:
    with ModelServer([said("no")]).running() as server:
        answers(server, [question()], folder=tmp_path)
        [again] = answers(server, [question()], folder=tmp_path)
    assert (again.response, again.cached) == (STORED, True)
    [file] = tmp_path.rglob("*.json")
    assert json.loads(file.read_bytes())["input_tokens"] == 240


@pytest.mark.parametrize("act", [said("no"), BUSY, failed(400)])
def test_what_is_no_answer_is_not_kept(act: Any, tmp_path: Path) -> None:
    with ModelServer([act, act]).running() as server:
        answers(server, [question()], folder=tmp_path)
        server.script.clear()
        assert kinds(answers(server, [question()], folder=tmp_path)) == ["answered"]


@pytest.mark.parametrize(
    "changed",
    [
        {"order_total": Decimal("31.49")},
        {"order_total": None},
        {"order_id": "o-9"},
        {"messages": (Message("user", "Order 0?"),)},
    ],
)
def test_another_question_is_not_answered_from_the_cache(
    changed: dict[str, Any], tmp_path: Path
) -> None:
    with ModelServer().running() as server:
        answers(server, [question()], folder=tmp_path)
        [other] = answers(server, [question(**changed)], folder=tmp_path)
        [another] = answers(server, [question()], folder=tmp_path, model="m2")
        [same] = answers(server, [question(key="other key")], folder=tmp_path)
    assert (other.cached, another.cached, same.cached) == (False, False, True)


def test_a_kept_answer_that_the_contract_refuses_by_now_is_asked_for_again(tmp_path: Path) -> None:
    with ModelServer().running() as server:
        answers(server, [question()], folder=tmp_path)
        [file] = tmp_path.rglob("*.json")
        kept = json.loads(file.read_bytes())
        file.write_text(json.dumps(kept | {"text": RIGHT.replace("7.88", "99")}))
        [again] = answers(server, [question()], folder=tmp_path)
    assert (again.cached, again.response) == (False, STORED)
    assert json.loads(file.read_bytes())["text"] == RIGHT


def test_an_answer_that_can_not_be_kept_is_an_answer_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    with ModelServer().running() as server, caplog.at_level(logging.WARNING):
        [answer] = answers(server, [question()], folder=tmp_path / "file")
    assert answer.response == STORED
    assert "is not kept for another run" in caplog.text


def test_no_file_holds_the_key(tmp_path: Path) -> None:
    leak = json.dumps(REFUND | {"reason": f"Because of {KEY}."})
    with ModelServer([said(leak)]).running() as server:
        [answer] = answers(server, [question()], folder=tmp_path)
    assert "Because of [key]." in str(answer.response)
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.rglob("*.json"))


def test_one_question_can_be_asked_with_a_client_of_one_s_own(tmp_path: Path) -> None:
    async def work() -> AnsweredQuestion:
        async with ModelClient(settings(server)) as client:
            return await answer_question(client, AnswerCache(tmp_path), question(), RefundAnswer)

    with ModelServer().running() as server:
        assert asyncio.run(work()).response == STORED
