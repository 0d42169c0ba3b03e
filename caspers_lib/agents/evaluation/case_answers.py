"""Answers to golden cases, by the rules or by a model, in one form that can be judged."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal

from caspers_lib.agents.contracts import AnswerKind, ComplaintAnswer, RefundAnswer
from caspers_lib.agents.evaluation.golden_complaints import GoldenComplaint
from caspers_lib.agents.evaluation.golden_set import GoldenOrder, Verdict
from caspers_lib.agents.model.asking import AnsweredQuestion
from caspers_lib.agents.refund_policy import RefundPolicy, refund_answer
from caspers_lib.agents.triage_answer import complaint_answer
from caspers_lib.agents.triage_policy import TriagePolicy

__all__ = [
    "CaseAnswer",
    "model_case_answers",
    "rule_complaint_answers",
    "rule_refund_answers",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseAnswer:
    """What an agent said about a case, and what that took.

    Args:
        key: the case's.
        verdict: what it decided; None if it gave no answer.
        reason: its reason, or why there is no answer.
        calls: requests to a model.
        input_tokens: tokens sent.
        output_tokens: tokens received.
        usd: their price.
        seconds: how long it took; None where nothing was asked or the answer was there before.
        cached: whether the answer was paid for before.
    """

    key: str
    verdict: Verdict | None
    reason: str
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: Decimal = Decimal(0)
    seconds: float | None = None
    cached: bool = False


def rule_refund_answers(
    orders: Iterable[GoldenOrder],
    policy: RefundPolicy,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[CaseAnswer]:
    """The rules' answers, one after the other.

    Args:
        orders: the cases.
        policy: the policy that the rules apply.
        clock: seconds that never go back.
    """
    for order in orders:
        began = clock()
        answer = refund_answer(order.facts, policy)
        seconds = clock() - began
        yield CaseAnswer(
            key=order.key, verdict=_verdict(answer), reason=answer.reason, seconds=seconds
        )


def rule_complaint_answers(
    cases: Iterable[GoldenComplaint],
    policy: TriagePolicy,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[CaseAnswer]:
    """The rules' answers, one after the other.

    Args:
        cases: the cases.
        policy: the policy that the rules apply.
        clock: seconds that never go back.
    """
    for case in cases:
        began = clock()
        answer = complaint_answer(case.complaint, case.order.facts, case.order.lines, policy)
        seconds = clock() - began
        yield CaseAnswer(
            key=case.key, verdict=_verdict(answer), reason=answer.rationale, seconds=seconds
        )


def model_case_answers(
    answered: Iterable[AnsweredQuestion], kind: AnswerKind
) -> Iterator[CaseAnswer]:
    """What a model answered, as `asking.answer_questions` hands it back.

    Args:
        answered: what came of each question.
        kind: the answer that was asked for.
    """
    for result in answered:
        verdict, reason = None, result.reason or ""
        if result.response is not None:
            answer = kind.model_validate_json(result.response)
            reason = answer.reason if isinstance(answer, RefundAnswer) else answer.rationale
            verdict = _verdict(answer)
        yield CaseAnswer(
            key=result.key,
            verdict=verdict,
            reason=reason,
            calls=result.calls,
            input_tokens=result.input_tokens,
            output_tokens=result.output_tokens,
            usd=result.usd,
            seconds=result.seconds if result.calls else None,
            cached=result.cached,
        )


def _verdict(answer: RefundAnswer | ComplaintAnswer) -> Verdict:
    if answer.source == "error":
        return Verdict(decision="error")
    if isinstance(answer, RefundAnswer):
        return Verdict(decision=answer.refund_class, usd=answer.refund_usd)
    return Verdict(decision=answer.decision, usd=answer.credit_amount, priority=answer.priority)
