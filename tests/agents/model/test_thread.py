"""A model that threads ask, against a server that misbehaves on purpose."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from threading import Thread
from time import monotonic, sleep

from pydantic import SecretStr

from caspers_lib.agents.contracts import RefundAnswer
from caspers_lib.agents.model.asking import AnsweredQuestion, Question
from caspers_lib.agents.model.settings import Limits, Message, ModelSettings
from caspers_lib.agents.model.thread import ModelThread
from tests.agents.model_server import HANG, KEY, ModelServer

QUESTION = Question(
    key="o-1", order_id="o-1", order_total=Decimal("31.50"), messages=(Message("user", "{}"),)
)


def settings_for(server: ModelServer, key: str = KEY) -> ModelSettings:
    return ModelSettings(base_url=server.url, model="m", api_key=SecretStr(key))


def asked(model: ModelThread) -> AnsweredQuestion:
    return model(QUESTION, RefundAnswer)


def test_threads_ask_at_the_same_time_over_the_client_s_connections() -> None:
    with ModelServer(latency_s=0.2).running() as server:
        settings = replace(settings_for(server), concurrency=4)
        with ModelThread(lambda: settings) as model, ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda _: asked(model), range(8)))
        assert [json.loads(a.response or "")["refund_usd"] for a in answers] == [7.88] * 8
        assert server.peak == 4
        assert server.connections == 4


def test_a_new_key_is_used_from_the_next_question_on_and_the_budget_stays() -> None:
    keys = iter(["sk-old-key", KEY, KEY])
    with ModelServer().running() as server:
        limits = Limits(calls=2)
        with ModelThread(
            lambda: replace(settings_for(server, next(keys)), day_budget=limits)
        ) as model:
            results = [asked(model) for _ in range(3)]
    assert [r.kind for r in results] == ["unavailable", "answered", "over_budget"]


def test_questions_in_flight_are_given_up_at_the_end() -> None:
    with ModelServer(then=HANG).running() as server:
        results: list[AnsweredQuestion] = []
        with ModelThread(lambda: settings_for(server)) as model:
            waiting = Thread(target=lambda: results.append(asked(model)))
            waiting.start()
            wait_for(server)
        waiting.join(timeout=30)
        results.append(asked(model))
    assert [r.reason for r in results] == ["The agent is being stopped"] * 2


def wait_for(server: ModelServer) -> None:
    deadline = monotonic() + 30
    while not server.in_flight and monotonic() < deadline:
        sleep(0.01)
    assert server.in_flight == 1


def test_one_that_was_never_asked_starts_no_thread() -> None:
    def never() -> ModelSettings:
        raise AssertionError("nobody asked")

    with ModelThread(never):
        pass
