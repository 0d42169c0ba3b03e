"""How far an agent's answers agree with what is right, what they cost and how long they took.

Pure: cases and answers in, a frozen report out. `golden_set` and `golden_complaints` make the
cases, `labels` puts people's decisions in, `golden_questions` puts them to a model, and
`case_answers` brings the answers of rules and models into one form.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from types import MappingProxyType
from typing import Literal, Protocol, TypeAlias

from caspers_lib.agents.evaluation.case_answers import CaseAnswer
from caspers_lib.agents.evaluation.golden_complaints import GoldenComplaint
from caspers_lib.agents.evaluation.golden_set import GoldenOrder, Verdict

__all__ = [
    "NO_ANSWER",
    "Agent",
    "Agreement",
    "EvaluationReport",
    "WorstCase",
    "evaluate_complaints",
    "evaluate_refunds",
]

Agent: TypeAlias = Literal["refund", "complaint"]

NO_ANSWER = "no answer"
"""Column of a confusion table: nothing was answered that can be read."""

_NOTHING_GIVEN = "not asked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How many cases of one kind are answered exactly.

    Args:
        kind: the kind.
        cases: number of cases.
        exact: those answered exactly.
    """

    kind: str
    cases: int
    exact: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstCase:
    """A case that is not answered exactly.

    Args:
        key: the case's.
        order_id: its order.
        kind: what sort of case it is.
        expected: what is right.
        given: what was answered; None for no answer.
        difference: USD between the two, where one names no amount the other's.
        reason: the answer's reason, or why there is none.
    """

    key: str
    order_id: str
    kind: str
    expected: Verdict
    given: Verdict | None
    difference: Decimal
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationReport:
    """What came of an evaluation.

    Args:
        agent: whose answers.
        answered_by: `rules`, or the model's name.
        cases: number of cases.
        answered: cases with an answer.
        exact: cases in which decision, amount and priority are right.
        same_decision: cases in which the refund's class or the complaint's decision is right.
        labelled: cases whose right answer is a person's decision.
        priced: cases in which the right answer and the given one name an amount.
        mean_error_usd: mean absolute difference of these amounts, four decimals; None without any.
        confusion: number of cases by expected and given label (`Verdict.label`, `NO_ANSWER`).
        kinds: agreement by kind of case, sorted.
        calls: requests to a model.
        input_tokens: tokens sent.
        output_tokens: tokens received.
        usd: their price.
        cached: answers that were paid for before.
        p50_seconds: median time of a question, linearly interpolated; None if none was asked.
        p95_seconds: its 95th percentile.
        worst: what is not exact, the largest difference first.
    """

    agent: Agent
    answered_by: str
    cases: int
    answered: int
    exact: int
    same_decision: int
    labelled: int
    priced: int
    mean_error_usd: Decimal | None
    confusion: Mapping[tuple[str, str], int]
    kinds: tuple[Agreement, ...]
    calls: int
    input_tokens: int
    output_tokens: int
    usd: Decimal
    cached: int
    p50_seconds: float | None
    p95_seconds: float | None
    worst: tuple[WorstCase, ...]

    def share(self, count: int) -> float | None:
        """A number of cases as a share of all; None without cases."""
        return count / self.cases if self.cases else None

    def as_document(self) -> dict[str, object]:
        """Plain values for JSON."""
        confusion: dict[str, dict[str, int]] = {}
        for (expected, given), count in self.confusion.items():
            confusion.setdefault(expected, {})[given] = count
        error = self.mean_error_usd
        return {
            "agent": self.agent,
            "answered_by": self.answered_by,
            "cases": self.cases,
            "answered": self.answered,
            "labelled": self.labelled,
            "exact": {"cases": self.exact, "share": self.share(self.exact)},
            "same_decision": {
                "cases": self.same_decision,
                "share": self.share(self.same_decision),
            },
            "mean_error_usd": None if error is None else float(error),
            "priced": self.priced,
            "confusion": confusion,
            "kinds": {k.kind: {"cases": k.cases, "exact": k.exact} for k in self.kinds},
            "cost": {
                "calls": self.calls,
                "input_tokens": self.input_tokens,
                "output_tokens": self.output_tokens,
                "usd": float(self.usd),
                "cached": self.cached,
            },
            "seconds": {"p50": self.p50_seconds, "p95": self.p95_seconds},
            "worst": [_worst_document(case) for case in self.worst],
        }


def evaluate_refunds(
    cases: Sequence[GoldenOrder],
    answers: Iterable[CaseAnswer],
    *,
    answered_by: str = "rules",
    worst: int = 5,
) -> EvaluationReport:
    """How far refunds agree with what is right.

    Args:
        cases: the orders, each key once.
        answers: at most one for each; a case without one counts as not answered.
        answered_by: who gave them, for the report.
        worst: so many of the worst cases at most.

    Raises:
        ValueError: two answers have one key, or one has the key of no case.
    """
    return _report("refund", cases, answers, answered_by, worst)


def evaluate_complaints(
    cases: Sequence[GoldenComplaint],
    answers: Iterable[CaseAnswer],
    *,
    answered_by: str = "rules",
    worst: int = 5,
) -> EvaluationReport:
    """How far answers to complaints agree with what is right.

    Args:
        cases: the complaints, each key once.
        answers: at most one for each; a case without one counts as not answered.
        answered_by: who gave them, for the report.
        worst: so many of the worst cases at most.

    Raises:
        ValueError: two answers have one key, or one has the key of no case.
    """
    return _report("complaint", cases, answers, answered_by, worst)


class _Case(Protocol):
    @property
    def key(self) -> str: ...
    @property
    def order_id(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def expected(self) -> Verdict: ...
    @property
    def is_labelled(self) -> bool: ...


def _report(
    agent: Agent,
    cases: Sequence[_Case],
    answers: Iterable[CaseAnswer],
    answered_by: str,
    worst: int,
) -> EvaluationReport:
    pairs = _paired(cases, answers)
    given = [answer for _, answer in pairs]
    errors = [
        abs(case.expected.usd - a.verdict.usd)
        for case, a in pairs
        if a.verdict and case.expected.usd is not None and a.verdict.usd is not None
    ]
    seconds = sorted(a.seconds for a in given if a.seconds is not None)
    return EvaluationReport(
        agent=agent,
        answered_by=answered_by,
        cases=len(pairs),
        answered=sum(a.verdict is not None for a in given),
        exact=sum(_is_exact(case, a) for case, a in pairs),
        same_decision=sum(
            case.expected.decision == a.verdict.decision for case, a in pairs if a.verdict
        ),
        labelled=sum(case.is_labelled for case in cases),
        priced=len(errors),
        mean_error_usd=_mean(errors),
        confusion=_confusion(pairs),
        kinds=_agreements(pairs),
        calls=sum(a.calls for a in given),
        input_tokens=sum(a.input_tokens for a in given),
        output_tokens=sum(a.output_tokens for a in given),
        usd=sum((a.usd for a in given), Decimal(0)),
        cached=sum(a.cached for a in given),
        p50_seconds=_percentile(seconds, 0.50),
        p95_seconds=_percentile(seconds, 0.95),
        worst=_worst(pairs, worst),
    )


_Pairs: TypeAlias = Sequence[tuple[_Case, CaseAnswer]]


def _paired(cases: Sequence[_Case], answers: Iterable[CaseAnswer]) -> _Pairs:
    by_key: dict[str, CaseAnswer] = {}
    for answer in answers:
        if answer.key in by_key:
            raise ValueError(f"two answers have the key {answer.key!r}; each may have one")
        by_key[answer.key] = answer
    unknown = by_key.keys() - {case.key for case in cases}
    if unknown:
        raise ValueError(f"the answer {min(unknown)!r} belongs to no case")
    return [(case, by_key.get(case.key) or _no_answer(case)) for case in cases]


def _no_answer(case: _Case) -> CaseAnswer:
    return CaseAnswer(key=case.key, verdict=None, reason=_NOTHING_GIVEN)


def _label(given: Verdict | None) -> str:
    return given.label if given else NO_ANSWER


def _confusion(pairs: _Pairs) -> Mapping[tuple[str, str], int]:
    counts = Counter((case.expected.label, _label(answer.verdict)) for case, answer in pairs)
    return MappingProxyType(dict(sorted(counts.items())))


def _agreements(pairs: _Pairs) -> tuple[Agreement, ...]:
    cases = Counter(case.kind for case, _ in pairs)
    exact = Counter(case.kind for case, answer in pairs if _is_exact(case, answer))
    return tuple(Agreement(kind=k, cases=cases[k], exact=exact[k]) for k in sorted(cases))


def _is_exact(case: _Case, answer: CaseAnswer) -> bool:
    return answer.verdict is not None and case.expected.allows(answer.verdict)


def _worst(pairs: _Pairs, limit: int) -> tuple[WorstCase, ...]:
    wrong = [
        WorstCase(
            key=case.key,
            order_id=case.order_id,
            kind=case.kind,
            expected=case.expected,
            given=answer.verdict,
            difference=_difference(case.expected, answer.verdict),
            reason=answer.reason,
        )
        for case, answer in pairs
        if not _is_exact(case, answer)
    ]
    return tuple(sorted(wrong, key=lambda case: (-case.difference, case.key))[:limit])


def _difference(expected: Verdict, given: Verdict | None) -> Decimal:
    found = given.usd if given else None
    return abs((expected.usd or Decimal(0)) - (found or Decimal(0)))


def _mean(errors: Sequence[Decimal]) -> Decimal | None:
    if not errors:
        return None
    return (sum(errors, Decimal(0)) / len(errors)).quantize(Decimal("0.0001"), ROUND_HALF_UP)


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    """Linearly interpolated; None of nothing."""
    if not ordered:
        return None
    position = (len(ordered) - 1) * share
    low, high = ordered[math.floor(position)], ordered[math.ceil(position)]
    return low + (high - low) * (position - math.floor(position))


def _worst_document(case: WorstCase) -> dict[str, object]:
    return {
        "key": case.key,
        "order_id": case.order_id,
        "kind": case.kind,
        "expected": _verdict_document(case.expected),
        "given": _verdict_document(case.given) if case.given else None,
        "difference_usd": float(case.difference),
        "reason": case.reason,
    }


def _verdict_document(verdict: Verdict) -> dict[str, object]:
    usd = None if verdict.usd is None else float(verdict.usd)
    return {"decision": verdict.decision, "usd": usd, "priority": verdict.priority}
