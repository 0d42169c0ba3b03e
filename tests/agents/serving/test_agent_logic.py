"""What one request means to an agent: facts, lookups, models, and everything that is neither."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pytest

from caspers_lib.agents.contracts import AnswerKind, ComplaintAnswer, RefundAnswer
from caspers_lib.agents.model.asking import AnsweredQuestion, Question
from caspers_lib.agents.model.instructions import complaint_instructions, refund_instructions
from caspers_lib.agents.refund_policy import OrderFacts, RefundPolicy, refund_answer
from caspers_lib.agents.serving.agent_logic import (
    AgentReply,
    ComplaintAgent,
    RefundAgent,
    agent_logic,
)
from caspers_lib.agents.serving.order_requests import (
    MAX_REQUEST_CHARS,
    ComplaintRequest,
    KnownOrder,
    RefundRequest,
    Unreadable,
    facts_json,
    read_complaint_request,
    read_refund_request,
)
from caspers_lib.agents.triage_answer import OrderLine, complaint_answer
from caspers_lib.agents.triage_policy import TriagePolicy
from caspers_lib.errors import CaspersError, SettingsError

HOSTILE = "o'\"\\\n\x00;<script>alert(1)</script>'); DROP TABLE x; --"
FACTS = {
    "order_id": "o-1", "location_id": 3, "total_minutes": 41.37, "order_total": 24.1,
    "history_orders": 12, "p75": 30, "p99": 50.25,
}  # fmt: skip
COMPLAINT = FACTS | {
    "complaint_category": "missing_items",
    "complaint_text": "The soup was missing.",
    "complaint_text_is_cut": False,
    "lines": [{"item_name": "Soup", "price": 7.5}, {"item_name": None, "price": None}],
}
ALONE = {name: COMPLAINT[name] for name in ("order_id", "complaint_category", "complaint_text")}
KNOWN = KnownOrder(
    order_id="o-1",
    facts=OrderFacts(
        location_id=3, delivered=True, total_minutes=Decimal("41.37"),
        order_total=Decimal("24.10"), history_orders=12, p75=Decimal("30.00"),
        p99=Decimal("50.25"),
    ),
    lines=(
        OrderLine(item_name="Soup", price=Decimal("7.50")), OrderLine(item_name=None, price=None),
    ),
)  # fmt: skip


def said(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def refund_of(reply: AgentReply) -> RefundAnswer:
    assert reply.answer is not None
    fields = json.loads(reply.answer, parse_float=Decimal, parse_int=Decimal)
    answer = RefundAnswer.model_validate(fields)
    assert answer.source == reply.answered_by
    return answer


def complaint_of(reply: AgentReply) -> ComplaintAnswer:
    assert reply.answer is not None
    fields = json.loads(reply.answer, parse_float=Decimal, parse_int=Decimal)
    answer = ComplaintAnswer.model_validate(fields)
    assert answer.source == reply.answered_by
    return answer


@dataclass
class Scripted:
    """A model that answers as a test says, and remembers what it was asked."""

    response: str | None
    reason: str | None = None
    asked: list[Question] = field(default_factory=list)

    def __call__(self, question: Question, _kind: AnswerKind) -> AnsweredQuestion:
        self.asked.append(question)
        return AnsweredQuestion(
            key=question.key, response=self.response, reason=self.reason, kind="answered",
            calls=1, input_tokens=100, output_tokens=20, usd=Decimal(0), seconds=0.1, cached=False,
        )  # fmt: skip


# Facts.


def test_facts_become_the_rules_answer_digit_by_digit() -> None:
    reply = RefundAgent().reply(said(FACTS))
    assert refund_of(reply) == refund_answer(KNOWN.facts, RefundPolicy())
    assert reply == AgentReply(answer=reply.answer, answered_by="rules")


def test_a_complaint_with_facts_gets_the_rules_answer() -> None:
    reply = ComplaintAgent().reply(said(COMPLAINT))
    request = read_complaint_request(said(COMPLAINT))
    assert isinstance(request, ComplaintRequest)
    expected = complaint_answer(request.complaint, KNOWN.facts, KNOWN.lines, TriagePolicy())
    assert complaint_of(reply) == expected
    assert expected.credit_amount == Decimal("7.50")


def test_whole_numbers_and_decimals_are_the_same_number() -> None:
    whole = FACTS | {"order_total": 24, "total_minutes": 41}
    text = said(whole).replace("24", "24.00").replace("41", "4.1e1")
    assert read_refund_request(text) == read_refund_request(said(whole))


@pytest.mark.parametrize("name", ["location_id", "total_minutes", "order_total", "p75", "p99"])
def test_facts_that_are_unknown_are_null(name: str) -> None:
    request = read_refund_request(said(FACTS | {name: None}))
    assert isinstance(request, RefundRequest)
    assert request.order is not None
    assert request.order.facts == replace(KNOWN.facts, **{name: None})
    assert refund_of(RefundAgent().reply(said(FACTS | {name: None}))).source in {"rules", "error"}


def test_unknown_lines_and_texts_are_null() -> None:
    unknown = {"lines": None, "complaint_text": None, "complaint_category": None}
    answer = complaint_of(ComplaintAgent().reply(said(COMPLAINT | unknown)))
    assert (answer.decision, answer.complaint_category) == ("escalate", "other")


def test_an_order_id_is_data_whatever_it_holds() -> None:
    assert refund_of(RefundAgent().reply(said(FACTS | {"order_id": HOSTILE}))).source == "rules"
    answer = complaint_of(ComplaintAgent().reply(said(COMPLAINT | {"order_id": HOSTILE})))
    assert answer.order_id == HOSTILE


def test_a_text_that_was_cut_is_said_to_be() -> None:
    reply = ComplaintAgent().reply(said(COMPLAINT | {"complaint_text_is_cut": True}))
    assert reply.note == "The complaint is longer than the request holds; its rest was not judged"
    assert reply.answered_by == "rules"


def test_facts_for_a_model_are_those_that_came_in() -> None:
    assert json.loads(facts_json(KNOWN)) == FACTS
    request = read_complaint_request(said(COMPLAINT))
    assert isinstance(request, ComplaintRequest)
    assert request.order == KNOWN
    assert json.loads(facts_json(KNOWN, request)) == COMPLAINT


# What can't be read.

BROKEN_FACTS: list[tuple[dict[str, Any] | str, str]] = [
    ({"total_minutes": "41.37"}, "total_minutes is '41.37'; it must be minutes from 0"),
    ({"total_minutes": -1}, "total_minutes is -1; it must be minutes from 0"),
    ({"total_minutes": 41.375}, "total_minutes is 41.375; it must be minutes from 0"),
    ({"total_minutes": 10**10}, "total_minutes is 10000000000; it must be minutes from 0"),
    ({"order_total": True}, "order_total is True; it must be USD"),
    ({"order_total": [1]}, "order_total is a list; it must be USD"),
    ({"order_total": float("nan")}, "order_total is NaN; it must be USD"),
    ({"order_total": float("inf")}, "order_total is Infinity; it must be USD"),
    ({"history_orders": None}, "history_orders is null; it must be a whole number from 0"),
    ({"history_orders": 1.5}, "history_orders is 1.5; it must be a whole number from 0"),
    ({"location_id": 2**31}, "location_id is 2147483648; it must be a whole number"),
    ({"p98": 1}, "The request has the unknown key 'p98'"),
    ({"<b>\n": 1}, r"The request has the unknown key '<b>\n'"),
]


@pytest.mark.parametrize(("change", "reason"), BROKEN_FACTS)
def test_broken_facts_of_a_known_order_are_labelled_and_refund_nothing(
    change: dict[str, Any], reason: str
) -> None:
    reply = RefundAgent().reply(said(FACTS | change))
    answer = refund_of(reply)
    assert (answer.refund_usd, answer.refund_class, answer.source) == (0, "none", "error")
    assert answer.reason.startswith(reason)
    assert "\n" not in answer.reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        *BROKEN_FACTS,
        ({"lines": [{"item_name": 1, "price": 1}]}, "lines is a list; it must be a list of obj"),
        ({"lines": [{"item_name": "Soup"}]}, "lines is a list; it must be a list of objects"),
        ({"complaint_text": 7}, "complaint_text is 7; it must be UTF-8 text"),
        ({"complaint_text": "half \ud800"}, r"complaint_text is 'half \ud800'; it must be UTF-8"),
    ],
)
def test_a_broken_complaint_of_a_known_order_goes_to_a_person(
    change: dict[str, Any], reason: str
) -> None:
    answer = complaint_of(ComplaintAgent().reply(said(COMPLAINT | change)))
    assert (answer.decision, answer.priority, answer.source) == ("escalate", "standard", "error")
    assert (answer.order_id, answer.complaint_category) == ("o-1", "missing_items")
    assert answer.rationale.startswith(reason)


@pytest.mark.parametrize("missing", FACTS)
def test_a_fact_that_is_missing_is_named(missing: str) -> None:
    facts = {name: value for name, value in FACTS.items() if name != missing}
    request = read_refund_request(said(facts))
    assert request == Unreadable(
        reason=f"The request lacks {missing}", order_id=None if missing == "order_id" else "o-1"
    )


NO_ORDER = [
    ("", "The request is empty"),
    (" \n", "The request is empty"),
    ("x" * 201, "The request is neither a JSON object nor an order's id: 'xxx"),
    ("{", "The request must be one JSON object, each key once; it is '{'"),
    ('{"order_id": "a", "order_id": "b"}', "The request must be one JSON object, each key once"),
    ('{"a":' * 50_000, "The request must be one JSON object, each key once"),
    (f'{{"order_id": "{"x" * MAX_REQUEST_CHARS}"}}', "The request has 262,160 characters; at most"),
    ('{"order_id": 7}', "order_id is 7; it must be UTF-8 text"),
    ('{"order_id": ""}', "order_id is ''; it must be UTF-8 text"),
    ('{"order_id": null}', "order_id is null; it must be UTF-8 text"),
    (r'{"order_id": "\ud800"}', r"order_id is '\ud800'; it must be UTF-8 text"),
    ("half \ud800", "The request is neither a JSON object nor an order's id"),
]


@pytest.mark.parametrize(("text", "reason"), NO_ORDER)
def test_without_an_order_there_is_no_answer_but_one_sentence(text: str, reason: str) -> None:
    reply = RefundAgent().reply(text)
    assert (reply.answer, reply.answered_by) == (None, "error")
    assert reply.note is not None
    assert reply.note.startswith(reason)
    assert "\n" not in reply.note


@pytest.mark.parametrize("text", ["o-1", "", "[1]", '"o-1"', "7", "null", "{}", "[" * 100_000])
def test_a_complaint_must_be_an_object(text: str) -> None:
    reply = ComplaintAgent().reply(text)
    assert (reply.answer, reply.answered_by) == (None, "error")
    assert reply.note is not None
    assert reply.note.startswith("The request ")


# Lookups.


@pytest.mark.parametrize("text", ["o-1", " o-1\n", '{"order_id": "o-1"}'])
def test_an_order_id_alone_is_looked_up(text: str) -> None:
    known = {"o-1": KNOWN}
    reply = RefundAgent(facts_of=known.get).reply(text)
    assert reply == RefundAgent().reply(said(FACTS))


def test_an_order_id_with_quotes_reaches_the_lookup_as_it_is() -> None:
    asked: list[str] = []

    def facts_of(order_id: str) -> None:
        asked.append(order_id)

    plain = 'o\'; DROP TABLE x; -- "y"'
    RefundAgent(facts_of=facts_of).reply(plain)
    RefundAgent(facts_of=facts_of).reply(said({"order_id": HOSTILE}))
    assert asked == [plain, HOSTILE]


def test_a_complaint_alone_is_looked_up() -> None:
    known = {"o-1": KNOWN}
    reply = ComplaintAgent(facts_of=known.get).reply(said(ALONE))
    assert reply == ComplaintAgent().reply(said(COMPLAINT))


def broken_lookup(_: str) -> KnownOrder | None:
    raise CaspersError("The warehouse w gave no answer: it sleeps")


@pytest.mark.parametrize(
    ("facts_of", "reason"),
    [
        (None, "Order 'o-1' can't be looked up here; the request must bring its facts as JSON."),
        (lambda _: None, "There is no order 'o-1'."),
        (broken_lookup, "Order 'o-1' could not be looked up: The warehouse w gave no answer: it"),
    ],
)
def test_an_order_that_is_not_known_is_said_not_to_be(
    facts_of: Callable[[str], KnownOrder | None] | None, reason: str
) -> None:
    refund = refund_of(RefundAgent(facts_of=facts_of).reply("o-1"))
    assert (refund.refund_usd, refund.source) == (0, "error")
    assert refund.reason.startswith(reason)
    complaint = complaint_of(ComplaintAgent(facts_of=facts_of).reply(said(ALONE)))
    assert (complaint.decision, complaint.priority) == ("escalate", "standard")
    assert complaint.source == "error"
    assert complaint.rationale.startswith(reason)


def test_words_of_danger_are_urgent_even_if_the_order_is_not_known() -> None:
    sick = ALONE | {"complaint_text": "We got sick."}
    reply = ComplaintAgent().reply(said(sick))
    assert complaint_of(reply).priority == "urgent"
    assert reply.note is not None
    assert reply.note.startswith("Order 'o-1' can't be looked up here")


# Models.


def answered(refund: str, refund_class: str) -> str:
    answer = RefundAnswer.model_validate(
        {
            "refund_usd": Decimal(refund), "refund_class": refund_class, "reason": "It was late.",
            "source": "model",
        }
    )  # fmt: skip
    return answer.model_dump_json()


def test_a_model_answers_in_the_rules_place() -> None:
    model = Scripted(answered("5.00", "partial"))
    reply = RefundAgent(ask=model).reply(said(FACTS))
    assert refund_of(reply).refund_usd == Decimal("5.00")
    assert (reply.answered_by, reply.input_tokens, reply.output_tokens) == ("model", 100, 20)
    [question] = model.asked
    assert question.order_total == Decimal("24.10")
    assert [m.role for m in question.messages] == ["system", "user"]
    assert question.messages[0].content == refund_instructions(RefundPolicy())
    assert json.loads(question.messages[1].content) == FACTS


@pytest.mark.parametrize(
    "early", [{"total_minutes": 30}, {"history_orders": 4}, {"p75": None}, {"order_total": -3}]
)
def test_a_model_can_give_nothing_where_the_policy_gives_nothing(early: dict[str, Any]) -> None:
    model = Scripted(answered("0.00", "none"))
    RefundAgent(ask=model).reply(said(FACTS | early))
    assert [q.order_total for q in model.asked] == [0]


def test_the_rules_answer_where_a_model_gives_none_and_the_reply_says_so() -> None:
    busy = Scripted(None, "it is busy")
    reply = RefundAgent(ask=busy).reply(said(FACTS))
    assert refund_of(reply) == refund_of(RefundAgent().reply(said(FACTS)))
    assert reply.note == "The rules answered in the model's place: it is busy"
    assert reply.input_tokens == 100
    cut = ComplaintAgent(ask=busy).reply(said(COMPLAINT | {"complaint_text_is_cut": True}))
    assert cut.answered_by == "rules"
    assert cut.note is not None
    assert "it is busy; The complaint is longer" in cut.note


def test_the_rules_answer_where_a_model_can_t_be_asked_at_all() -> None:
    def ask(_question: Question, _kind: AnswerKind) -> AnsweredQuestion:
        raise SettingsError("A model is configured, but httpx is not installed")

    reply = RefundAgent(ask=ask).reply(said(FACTS))
    assert reply.answered_by == "rules"
    assert reply.note is not None
    assert reply.note.endswith("place: A model is configured, but httpx is not installed")


@pytest.mark.parametrize("unknown", [{"total_minutes": None}, {"order_total": None}])
def test_a_model_is_not_asked_about_an_order_of_which_too_little_is_known(
    unknown: dict[str, None],
) -> None:
    model = Scripted("never")
    assert refund_of(RefundAgent(ask=model).reply(said(FACTS | unknown))).source == "error"
    answer = complaint_of(ComplaintAgent(ask=model).reply(said(COMPLAINT | unknown)))
    assert answer.source == "error"
    assert model.asked == []


def test_a_complaint_is_put_to_a_model_with_its_lines_and_text() -> None:
    model = Scripted(None, "busy")
    ComplaintAgent(ask=model).reply(said(COMPLAINT))
    [question] = model.asked
    assert json.loads(question.messages[1].content) == COMPLAINT
    assert question.messages[0].content == complaint_instructions(TriagePolicy())
    assert question.order_total == Decimal("24.10")


def test_agents_are_made_by_their_kind() -> None:
    assert [agent_logic(kind).kind for kind in ("refund", "complaint")] == ["refund", "complaint"]  # type: ignore[arg-type]


def test_the_logic_loads_neither_mlflow_nor_spark_nor_a_web_framework() -> None:
    heavy = ("mlflow", "pyspark", "fastapi", "httpx", "pandas", "databricks")
    modules = ("agent_logic", "app", "deployment", "order_lookup", "served")
    imports = "; ".join(f"import caspers_lib.agents.serving.{name}" for name in modules)
    check = f"import sys; {imports}; sys.exit(any(m in sys.modules for m in {heavy!r}))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
