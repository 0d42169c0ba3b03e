"""Both ways to ask a model about a batch, in a real stream and in SQL."""

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from caspers_lib.agents.contracts import ComplaintText, RefundAnswer
from caspers_lib.agents.model.answer_text import parsed_text
from caspers_lib.agents.model.answers import ModelAnswers
from caspers_lib.agents.model.askers import AiQueryAsker, HttpAsker
from caspers_lib.agents.model.asking import Question, answer_questions
from caspers_lib.agents.model.complaint_writer import ComplaintWriter
from caspers_lib.agents.model.instructions import refund_instructions
from caspers_lib.agents.model.limits import Spent
from caspers_lib.agents.model.request_form import RequestForm
from caspers_lib.agents.model.settings import Limits, Message, ModelSettings
from caspers_lib.agents.refund_policy import RefundPolicy
from caspers_lib.agents.streams import (
    complaint_batch_handler,
    refund_batch_handler,
    run_complaint_stream,
    run_refund_stream,
)
from caspers_lib.errors import AnswerError, CaspersError
from tests.agents.model.test_answers import HOSTILE, KNOWN, UNKNOWN
from tests.agents.model_server import KEY, ModelServer, said, sent
from tests.agents.test_streams import Order

NOTHING = {"refund_usd": 0, "refund_class": "none", "reason": "On time."}
ORDERS = [Order(f"o-{n}", 1, 10.0 * n, 10.0 * n + 20 + n) for n in range(9)]
ORDERS += [Order(HOSTILE, 1, 95.0, 120.0), Order("tomorrow", 1, 1560.0, 1600.0), UNKNOWN]


def asker(url: str, cache: Path, **changed: Any) -> HttpAsker:
    settings = ModelSettings(
        base_url=url, model="m", api_key=SecretStr(KEY), concurrency=4, max_retries=0, **changed
    )
    told = refund_instructions(RefundPolicy())
    return HttpAsker(settings=settings, kind=RefundAnswer, instructions=told, cache=str(cache))


@pytest.fixture(scope="module")
def filled(business: Any) -> Any:
    business.append(
        [e for o in ORDERS for e in o.events()], [row for o in ORDERS for row in o.line_rows()]
    )
    return business


def closing(filled: Any) -> Any:
    return filled.spark.read.table(filled.tables.events).where("event_type = 'delivered'")


def sources(filled: Any, tables: Any) -> dict[str, str]:
    rows = filled.rows(tables.recommendations.name)
    return {r[0]: json.loads(r[3])["source"] for r in rows}


@pytest.mark.spark
def test_J5_a_stream_asks_side_by_side_and_pays_once(filled: Any, tmp_path: Path) -> None:
    tables, again = filled.fresh_outputs("first"), filled.fresh_outputs("second")
    with ModelServer(then=said(json.dumps(NOTHING)), latency_s=0.1).running() as server:
        model = ModelAnswers(asker=asker(server.url, tmp_path / "cache"))
        run_refund_stream(filled.spark, str(tmp_path / "stream"), tables=tables, model=model)
        answered = sources(filled, tables)
        assert answered == dict.fromkeys(KNOWN, "model") | {"no creation": "error"}
        assert len(server.requests) == len(KNOWN)
        assert 2 <= server.peak <= 4
        facts = [json.loads(r.said[1]["content"]) for r in server.requests]
        assert {f["order_id"] for f in facts} == set(KNOWN)
        # All is lost but what was paid for.
        refund_batch_handler(tables=again, model=model)(closing(filled), 0)
        assert sources(filled, again) == answered
        assert len(server.requests) == len(KNOWN)


@pytest.mark.spark
def test_a_days_budget_holds_over_batches(filled: Any, tmp_path: Path) -> None:
    tables = filled.fresh_outputs("budget")
    with ModelServer(then=said(json.dumps(NOTHING))).running() as server:
        budget = Limits(calls=6)
        model = ModelAnswers(asker=asker(server.url, tmp_path / "a", day_budget=budget))
        handler = refund_batch_handler(tables=tables, model=model)
        for _ in range(2):
            handler(closing(filled), 0)
        assert len(server.requests) <= 6
    found = list(sources(filled, tables).values())
    assert found.count("model") == len(server.requests) > 0
    assert found.count("rules") == len(KNOWN) - len(server.requests)


@pytest.mark.spark
def test_J6_a_model_writes_the_texts_and_draws_nothing(filled: Any, tmp_path: Path) -> None:
    def run(name: str, writer: ComplaintWriter | None) -> dict[str, tuple[str, str, str]]:
        tables = filled.fresh_outputs(name)
        if writer is None:
            complaint_batch_handler(rate=1.0, seed=3, tables=tables)(closing(filled), 0)
        else:
            checkpoint = str(tmp_path / name)
            run_complaint_stream(filled.spark, checkpoint, 1.0, 3, tables=tables, writer=writer)
        rows = filled.rows(tables.complaints.name)
        return {r[0]: (r[3], r[4], r[5]) for r in rows}

    by_rules = run("ruled", None)
    text = "It took \u4e45 & <b>cold</b>"
    with ModelServer([*[said("\x00")] * 2], then=said(f'"{text}"')).running() as server:
        ask = replace(asker(server.url, tmp_path / "a"), kind=ComplaintText)
        ask = replace(ask, settings=replace(ask.settings, concurrency=2))
        written = run("written", ComplaintWriter(asker=ask, texts_per_batch=5))
        asked = [json.loads(r.said[1]["content"]) for r in server.requests]
    assert {key: row[0] for key, row in written.items()} == {k: r[0] for k, r in by_rules.items()}
    by_model = {key for key, row in written.items() if row[2] == "m"}
    assert 3 <= len(by_model) <= 5, "as many as may be asked, without those that broke the form"
    assert {written[key][1] for key in by_model} == {text}
    assert all(written[key] == by_rules[key] for key in set(written) - by_model)
    assert all(set(a["dishes"]) <= {"Noodle Bowl"} for a in asked)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [("", "0 characters"), (None, "0 characters"), ("x" * 1_001, "1,001"), ("a\x00b", "control")],
)
def test_a_text_that_is_none_is_refused(text: str | None, wrong: str) -> None:
    with pytest.raises(AnswerError, match=wrong):
        parsed_text(text)


# The stand-in takes what the platform's function takes, by name, and nothing else.
AI_QUERY = """
CREATE OR REPLACE TEMPORARY FUNCTION ai_query(
  endpoint STRING, request STRING, modelParameters STRUCT<max_tokens: INT, temperature: DOUBLE>,
  responseFormat STRING, failOnError BOOLEAN)
RETURNS STRUCT<result: STRING, errorMessage: STRING>
RETURN CASE
  WHEN endpoint = 'plain-model' AND get_json_object(responseFormat, '$.type') = 'json_schema'
    THEN named_struct('result', CAST(NULL AS STRING), 'errorMessage',
      'HTTP 400: {"message": "response_format: Extra inputs are not permitted"}')
  WHEN endpoint = 'plain-model' THEN named_struct('result',
    '{"refund_usd": 3, "refund_class": "partial", "reason": "late"}',
    'errorMessage', CAST(NULL AS STRING))
  WHEN endpoint <> 'good-model' OR failOnError OR get_json_object(responseFormat, '$.type')
    <> 'json_schema' OR modelParameters.max_tokens <> 1024
    THEN named_struct('result', CAST(NULL AS STRING), 'errorMessage', 'bad call')
  WHEN request LIKE '%\\"fails\\"%'
    THEN named_struct('result', CAST(NULL AS STRING), 'errorMessage', 'busy\\nnow')
  WHEN request LIKE '%\\"chats\\"%'
    THEN named_struct('result', 'I would rather not', 'errorMessage', CAST(NULL AS STRING))
  ELSE named_struct('result',
    '{"refund_usd": 3, "refund_class": "partial", "reason": "late"}',
    'errorMessage', CAST(NULL AS STRING))
END"""


@pytest.mark.spark
def test_ai_query_is_asked_in_sql_and_its_text_is_checked(spark: Any) -> None:
    spark.sql(AI_QUERY)
    rows = [
        (key, key, Decimal("12.00"), json.dumps({"order_id": key}))
        for key in ("o-1", HOSTILE, "fails", "chats")
    ]
    columns = "key STRING, order_id STRING, at_most DECIMAL(22,2), facts STRING"
    questions = spark.createDataFrame(rows, columns)
    ask = AiQueryAsker(endpoint="good-model", kind=RefundAnswer, instructions="It's 'policy'")
    answers = {a.key: a for a in ask.answers(questions, Spent())}
    for key in ("o-1", HOSTILE):
        answer = RefundAnswer.model_validate_json(answers[key].response or "")
        assert (answer.refund_usd, answer.source) == (3, "model")
    assert (answers["fails"].kind, answers["fails"].reason) == ("unavailable", "ai_query: busy")
    assert (answers["chats"].kind, answers["chats"].response) == ("unreadable", None)


@pytest.mark.spark
def test_ai_query_goes_without_what_the_endpoint_refuses(spark: Any) -> None:
    spark.sql(AI_QUERY)
    columns = "key STRING, order_id STRING, at_most DECIMAL(22,2), facts STRING"
    questions = spark.createDataFrame([("o-1", "o-1", Decimal("12.00"), "{}")], columns)
    ask = AiQueryAsker(endpoint="plain-model", kind=RefundAnswer, instructions="")
    assert [a.kind for a in ask.answers(questions, Spent())] == ["answered"]


def test_ai_query_is_told_only_the_parameters_that_the_endpoint_takes() -> None:
    ask = AiQueryAsker(endpoint="m", kind=RefundAnswer, instructions="", max_output_tokens=7)
    form = RequestForm(
        output_limit="max_completion_tokens", has_temperature=False, response_format="none"
    )
    assert ask.call_sql(form) == (
        "ai_query('m', prompt, modelParameters => named_struct('max_completion_tokens', 7),"
        " failOnError => false)"
    )


@pytest.mark.parametrize("name", ["it's", "a'); DROP TABLE x; --", "", "a b"])
def test_an_endpoints_name_is_a_name(name: str) -> None:
    with pytest.raises(CaspersError, match="endpoint"):
        AiQueryAsker(endpoint=name, kind=RefundAnswer, instructions="")


def test_a_key_is_not_shown_by_what_asks() -> None:
    assert KEY not in repr(asker("http://127.0.0.1:1/v1", Path("x")))


def agent_answer(source: str) -> ModelServer:
    return ModelServer(then=said(json.dumps({**NOTHING, "source": source})))


@pytest.mark.parametrize("source", ["rules", "model"])
def test_a_served_agent_says_itself_who_answered(source: str) -> None:
    with agent_answer(source).running() as server:
        (answered,) = answer_questions([QUESTION], agent_settings(server.url), RefundAnswer)
    assert json.loads(answered.response or "")["source"] == source


def test_a_served_agent_that_cannot_judge_gives_no_answer_and_is_not_asked_twice() -> None:
    with agent_answer("error").running() as server:
        (answered,) = answer_questions([QUESTION], agent_settings(server.url), RefundAnswer)
        assert len(server.requests) == 1
    assert (answered.response, answered.kind) == (None, "unreadable")
    assert "source is 'error'" in (answered.reason or "")


def test_what_an_agent_says_in_its_models_place_is_not_kept(tmp_path: Path) -> None:
    text = json.dumps({**NOTHING, "source": "rules"})
    output = [{"type": "message", "content": [{"type": "output_text", "text": text}]}]
    instead = json.dumps({"output": output, "custom_outputs": {"in_models_place": True}})
    script = [sent(instead.encode()), said(json.dumps({**NOTHING, "source": "model"}))]
    with ModelServer(script).running() as server:
        settings = agent_settings(server.url)
        (first,), (later,) = (
            answer_questions([QUESTION], settings, RefundAnswer, folder=tmp_path) for _ in script[:]
        )
    assert (first.kind, first.response) == ("unavailable", None)
    assert json.loads(later.response or "")["source"] == "model"


QUESTION = Question(
    key="k", order_id="k", order_total=Decimal(12), messages=(Message("user", "{}"),)
)


def agent_settings(url: str) -> ModelSettings:
    return ModelSettings(
        base_url=url, model="agent", api="responses", api_key=SecretStr(KEY), is_agent=True
    )
