"""Reports on answers: what agrees, what it costs, what is worst; by rules, by hand, by a model."""

import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

import pytest

from caspers_lib.agents.contracts import ComplaintAnswer, RefundAnswer
from caspers_lib.agents.evaluation.case_answers import (
    CaseAnswer,
    model_case_answers,
    rule_complaint_answers,
    rule_refund_answers,
)
from caspers_lib.agents.evaluation.golden_complaints import golden_complaints
from caspers_lib.agents.evaluation.golden_questions import (
    complaint_case_questions,
    refund_case_questions,
)
from caspers_lib.agents.evaluation.golden_set import GoldenOrder, Verdict, golden_orders
from caspers_lib.agents.evaluation.labels import with_refund_labels
from caspers_lib.agents.evaluation.report import (
    NO_ANSWER,
    EvaluationReport,
    evaluate_complaints,
    evaluate_refunds,
)
from caspers_lib.agents.model.asking import AnsweredQuestion, answer_questions
from caspers_lib.agents.model.settings import ModelSettings
from caspers_lib.agents.refund_policy import OrderFacts, RefundPolicy
from caspers_lib.agents.triage_policy import TriagePolicy
from caspers_lib.replay.sample import sample_dataset
from tests.agents.evaluation.golden_events import HOSTILE_ORDER
from tests.agents.model_server import INJECTED, ModelServer, said

POLICY = RefundPolicy()
TRIAGE = TriagePolicy()


@pytest.fixture(scope="module")
def orders() -> tuple[GoldenOrder, ...]:
    return golden_orders(sample_dataset(), POLICY, orders=200)


def case(order_id: str, decision: str, usd: str | None) -> GoldenOrder:
    facts = OrderFacts(
        location_id=1, delivered=True, total_minutes=Decimal("61.20"),
        order_total=Decimal("40.00"), history_orders=9, p75=Decimal(40), p99=Decimal(60),
    )  # fmt: skip
    return GoldenOrder(
        order_id=order_id, facts=facts, p50=None, lines=(), street=None,
        expected=Verdict(decision=decision, usd=None if usd is None else Decimal(usd)),
    )  # fmt: skip


def given(key: str, decision: str | None, usd: str | None = None, /, **more: object) -> CaseAnswer:
    verdict = None
    if decision is not None:
        verdict = Verdict(decision=decision, usd=None if usd is None else Decimal(usd))
    base = CaseAnswer(key=key, verdict=verdict, reason=f"because of {key}")
    return replace(base, **more)  # type: ignore[arg-type]


CASES = [
    case("a", "none", "0.00"),
    case("b", "partial", "10.00"),
    case("c", "partial", "20.00"),
    case("d", "full", "40.00"),
    case("e", "error", None),
    case(HOSTILE_ORDER, "partial", "10.00"),
]
ANSWERS = [
    given("e", "error"),
    given("a", "none", "0"),
    given("b", "partial", "10.01", calls=2, input_tokens=100, output_tokens=10,
          usd=Decimal("0.02"), seconds=3.0),
    given("c", "full", "40.00", calls=1, input_tokens=50, output_tokens=5,
          usd=Decimal("0.01"), seconds=1.0),
    given(HOSTILE_ORDER, None, calls=1, input_tokens=7, seconds=2.0),
]  # fmt: skip


@pytest.fixture(scope="module")
def report() -> EvaluationReport:
    return evaluate_refunds(CASES, ANSWERS, answered_by="me", worst=3)


def test_the_rules_agree_exactly_with_the_golden_orders(orders: tuple[GoldenOrder, ...]) -> None:
    report = evaluate_refunds(orders, rule_refund_answers(orders, POLICY))
    assert (report.cases, report.answered, report.exact) == (200, 200, 200)
    assert (report.mean_error_usd, report.worst) == (Decimal(0), ())
    assert {expected == found for expected, found in report.confusion} == {True}
    assert (report.calls, report.usd, report.answered_by) == (0, 0, "rules")


def test_the_rules_agree_exactly_with_the_golden_complaints(
    orders: tuple[GoldenOrder, ...],
) -> None:
    cases = golden_complaints(orders, TRIAGE)
    report = evaluate_complaints(cases, rule_complaint_answers(cases, TRIAGE))
    assert (report.cases, report.exact, report.worst) == (200, 200, ())
    assert len(report.kinds) == 13
    assert all(kind.exact == kind.cases for kind in report.kinds)


def test_one_cent_is_seen(orders: tuple[GoldenOrder, ...]) -> None:
    answers = list(rule_refund_answers(orders, POLICY))
    at = next(n for n, a in enumerate(answers) if a.verdict and a.verdict.decision == "partial")
    right = answers[at].verdict
    assert right is not None
    assert right.usd is not None
    answers[at] = replace(answers[at], verdict=replace(right, usd=right.usd + Decimal("0.01")))
    report = evaluate_refunds(orders, answers)
    assert (report.exact, report.same_decision) == (199, 200)
    assert report.mean_error_usd == Decimal("0.0001")
    (worst,) = report.worst
    assert (worst.key, worst.difference) == (answers[at].key, Decimal("0.01"))


def test_an_order_of_which_something_is_unknown_is_an_error_on_both_sides() -> None:
    unknown = case("unknown", "error", None)
    cases = [replace(unknown, facts=replace(unknown.facts, order_total=None))]
    report = evaluate_refunds(cases, rule_refund_answers(cases, POLICY))
    assert report.confusion == {("error", "error"): 1}
    assert (report.exact, report.priced) == (1, 0)


def test_a_policy_with_another_share_disagrees_where_something_is_given_back(
    orders: tuple[GoldenOrder, ...],
) -> None:
    generous = RefundPolicy(late_share=Decimal("0.26"))
    report = evaluate_refunds(orders, rule_refund_answers(orders, generous))
    late = sum(o.expected.decision == "partial" for o in orders)
    assert 200 - late <= report.exact < 200
    assert report.same_decision == 200


def test_agreement_counts_decisions_and_amounts(report: EvaluationReport) -> None:
    assert (report.cases, report.answered) == (6, 4)
    assert report.exact == 2  # a and e
    assert report.same_decision == 3  # and b
    assert (report.priced, report.mean_error_usd) == (3, Decimal("6.6700"))


def test_the_confusion_table_has_errors_and_what_is_not_answered(
    report: EvaluationReport,
) -> None:
    assert report.confusion == {
        ("none", "none"): 1,
        ("partial", "partial"): 1,
        ("partial", "full"): 1,
        ("partial", NO_ANSWER): 1,
        ("full", NO_ANSWER): 1,
        ("error", "error"): 1,
    }


def test_costs_add_up_and_latency_is_of_what_was_asked(report: EvaluationReport) -> None:
    assert (report.calls, report.input_tokens, report.output_tokens) == (4, 157, 15)
    assert report.usd == Decimal("0.03")
    assert (report.p50_seconds, report.p95_seconds) == (2.0, pytest.approx(2.9))


def test_the_worst_cases_come_with_the_largest_difference_first(
    report: EvaluationReport,
) -> None:
    found = [(w.key, w.given and w.given.decision, w.difference) for w in report.worst]
    assert found == [
        ("d", None, Decimal("40.00")),
        ("c", "full", Decimal("20.00")),
        (HOSTILE_ORDER, None, Decimal("10.00")),
    ]
    assert [w.reason for w in report.worst][1:] == ["because of c", f"because of {HOSTILE_ORDER}"]


def test_the_document_is_plain_json_and_hostile_ids_stay_text(report: EvaluationReport) -> None:
    document = json.loads(json.dumps(report.as_document()))
    assert document["exact"] == {"cases": 2, "share": pytest.approx(1 / 3)}
    assert document["confusion"]["partial"] == {"full": 1, "no answer": 1, "partial": 1}
    assert document["worst"][2]["order_id"] == HOSTILE_ORDER
    assert document["worst"][0]["given"] is None
    assert document["cost"]["usd"] == 0.03


def test_no_cases_make_a_report_without_shares() -> None:
    report = evaluate_refunds([], [])
    document = report.as_document()
    assert document["exact"] == {"cases": 0, "share": None}
    assert (report.mean_error_usd, report.p50_seconds) == (None, None)


def test_an_answer_to_no_case_or_a_second_one_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="no case"):
        evaluate_refunds(CASES, [given("z", "none", "0")])
    with pytest.raises(ValueError, match="two answers"):
        evaluate_refunds(CASES, [given("a", "none", "0"), given("a", "none", "0")])


def test_labels_replace_what_is_right_and_are_counted(orders: tuple[GoldenOrder, ...]) -> None:
    late = next(o for o in orders if o.expected.decision == "partial")
    cases = with_refund_labels(orders, {late.order_id: Decimal(0)})
    report = evaluate_refunds(cases, rule_refund_answers(cases, POLICY))
    assert (report.labelled, report.exact) == (1, 199)
    assert report.confusion["none", "partial"] == 1


def test_a_model_s_answers_keep_their_reasons_and_their_cost() -> None:
    right = AnsweredQuestion(
        key="b", response='{"refund_usd":10.0,"refund_class":"partial","reason":"late",'
        '"source":"model"}', reason=None, kind="answered", calls=1, input_tokens=9,
        output_tokens=3, usd=Decimal("0.1"), seconds=0.5, cached=False,
    )  # fmt: skip
    paid = replace(right, key="a", calls=0, cached=True)
    none = replace(right, key="c", response=None, reason="no JSON", kind="unreadable")
    answers = {a.key: a for a in model_case_answers([right, paid, none], RefundAnswer)}
    assert answers["b"].verdict == Verdict(decision="partial", usd=Decimal(10))
    assert (answers["b"].reason, answers["b"].seconds) == ("late", 0.5)
    assert (answers["a"].seconds, answers["a"].cached) == (None, True)
    assert (answers["c"].verdict, answers["c"].reason) == (None, "no JSON")


@pytest.fixture
def server() -> Iterator[ModelServer]:
    nothing = {"refund_usd": 0, "refund_class": "none", "reason": "Nothing to give back."}
    with ModelServer(then=said(json.dumps(nothing)), key=None).running() as server:
        yield server


def settings(server: ModelServer) -> ModelSettings:
    return ModelSettings(
        base_url=server.url, model="m", usd_per_million_input=Decimal(10), max_retries=0
    )


def test_a_model_that_gives_nothing_is_right_where_nothing_is_due(
    server: ModelServer, orders: tuple[GoldenOrder, ...]
) -> None:
    cases = orders[:40]
    due = sum(o.expected.decision == "partial" for o in cases)
    assert 0 < due < 40
    answered = answer_questions(
        refund_case_questions(cases, POLICY), settings(server), RefundAnswer
    )
    report = evaluate_refunds(cases, model_case_answers(answered, RefundAnswer), answered_by="m")
    assert report.confusion == {("none", "none"): 40 - due, ("partial", "none"): due}
    assert (report.calls, report.input_tokens, report.output_tokens) == (40, 4800, 1200)
    assert report.usd == Decimal("0.048")
    assert report.p95_seconds is not None
    assert {r.said[0]["role"] for r in server.requests} == {"system"}
    assert {w.reason for w in report.worst} == {"Nothing to give back."}


def test_answers_that_break_the_contract_are_no_answers(
    server: ModelServer, orders: tuple[GoldenOrder, ...]
) -> None:
    server.then = INJECTED
    cases = golden_complaints(orders[:5], TRIAGE)
    questions = complaint_case_questions(cases, TRIAGE)
    answered = answer_questions(questions, settings(server), ComplaintAnswer)
    report = evaluate_complaints(cases, model_case_answers(answered, ComplaintAnswer))
    assert (report.answered, report.exact, report.calls) == (0, 0, 10)
    assert {found for _, found in report.confusion} == {NO_ANSWER}
