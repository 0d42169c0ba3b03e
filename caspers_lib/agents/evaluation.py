"""How far an agent's answers agree with what is right, what they cost and how long they take.

The golden set is an oracle of its own. `golden_refunds.sql` counts facts and refunds anew from the
events file. A golden complaint says one thing in words that leave no doubt: the right answer
follows from its kind in `golden_complaints.toml`. The code that is measured shares no more than the
policies' figures. People's decisions, as labels, take the place of what is computed.
"""

import json
import math
import re
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from fractions import Fraction
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from caspers_lib.agents.complaint_draws import (
    COMPLAINT_SEED,
    complaint_category,
    complaint_id,
    draw,
)
from caspers_lib.agents.complaint_texts import UNKNOWN_WAIT, complaint_text
from caspers_lib.agents.contracts import ComplaintAnswer, Priority, RefundAnswer
from caspers_lib.agents.model import instructions
from caspers_lib.agents.model.asking import AnsweredQuestion, Question
from caspers_lib.agents.model.excerpts import excerpt
from caspers_lib.agents.model.settings import Message
from caspers_lib.agents.refund_policy import OrderFacts, RefundPolicy, refund_answer
from caspers_lib.agents.triage_answer import Complaint, OrderLine, complaint_answer
from caspers_lib.agents.triage_policy import TriagePolicy, plain_words, whole_words
from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.errors import DatasetError, first_cause
from caspers_lib.spark_paths import plain_path

__all__ = [
    "COMPLAINT_KINDS", "LABELS", "Agent", "GoldenCase", "Verdict",
    "evaluation_report", "golden_cases", "golden_complaints", "golden_refunds", "model_questions",
    "rule_answers",
]  # fmt: skip

Agent: TypeAlias = Literal["refund", "complaint"]

LABELS = (
    "none", "partial", "full", "suggest_credit", "escalate", "escalate standard",
    "escalate high", "escalate urgent", "error", "no answer",
)  # fmt: skip
"""Rows and columns of a confusion table; the last one is for cases without a readable answer."""

_REFUND_POLICY, _TRIAGE_POLICY = RefundPolicy(), TriagePolicy()
_FILES = files("caspers_lib.agents")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is decided about a case.

    Args:
        decision: `none`, `partial` or `full` of a refund, `suggest_credit` or `escalate` of a
            complaint, `error` where something that is needed is unknown.
        usd: USD that are given back; None where nothing is said of it.
        priority: of an escalation; None where nothing is said of it.
    """

    decision: str
    usd: Decimal | None = None
    priority: Priority | None = None

    @property
    def label(self) -> str:
        """One of `LABELS`: the decision, with its priority if any."""
        return f"{self.decision} {self.priority}" if self.priority else self.decision

    def allows(self, given: "Verdict | None") -> bool:
        """Whether `given` is right where this is expected; a priority left open allows any."""
        if given is None or (self.decision, self.usd) != (given.decision, given.usd):
            return False
        return self.priority in (None, given.priority)


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenCase:
    """A delivered order, or a complaint about one, and the answer that is right.

    Args:
        key: the order's id, or the complaint's.
        kind: the sort of case.
        order_id: the order as the dataset names it.
        facts: what the policies go by.
        lines: the order's lines in their order; empty where they can't be used.
        street: the address up to its first comma; None where it is unknown.
        expected: the right answer.
        complaint: what the customer wrote; None where the case is a refund.
        is_labelled: whether a person decided it.
    """

    key: str
    kind: str
    order_id: str
    facts: OrderFacts
    lines: tuple[OrderLine, ...]
    street: str | None
    expected: Verdict
    complaint: Complaint | None = None
    is_labelled: bool = False


def golden_cases(
    path: Path, agent: Agent, *, orders: int, labels: Mapping[str, Verdict]
) -> tuple[GoldenCase, ...]:
    """An agent's golden set, with labels in the place of what is computed.

    Args:
        path: the dataset's events file.
        agent: whose cases.
        orders: number of orders in the sample, at most.
        labels: as `labels.read_labels` gives them; what they name is taken besides the sample.

    Raises:
        DatasetError: the file can't be read or has no delivered order, or a label gives back more
            than its order's total.
    """
    if agent == "refund":
        cases = golden_refunds(path, orders=orders, also=labels)
    else:
        cases = golden_complaints(golden_refunds(path, orders=orders))
        cases += _written_complaints(path, labels)
    if not cases:
        raise DatasetError(
            f"The dataset {path} has no delivered order, so there is nothing to evaluate",
            hint="`caspers dataset check` says what is in it",
        )
    return tuple(
        _labelled(case, labels[case.key]) if case.key in labels else case for case in cases
    )


def _labelled(case: GoldenCase, label: Verdict) -> GoldenCase:
    total, usd = case.facts.order_total, label.usd
    if case.complaint is None and usd is not None:
        if total is not None and usd > total:
            raise DatasetError(
                f"The label of order {excerpt(case.order_id, 60)} gives back {usd} USD; its total"
                f" is {total} USD",
                hint="a refund is never above the order's total",
            )
        decision = "none" if usd == 0 else "full" if usd == total else "partial"
        label = replace(label, decision=decision)
    return replace(case, expected=label, is_labelled=True)


def golden_refunds(
    path: Path, *, orders: int | None = None, also: Collection[str] = ()
) -> tuple[GoldenCase, ...]:
    """Delivered orders with the refunds that are right, by delivery and id.

    Args:
        path: the dataset's events file.
        orders: number of orders at most: those with the lowest md5 of `42:golden:order_id`, so
            that a larger sample holds the smaller one; None takes all.
        also: ids of orders that are taken besides, if they were delivered.

    Raises:
        DatasetError: the file is missing or can't be read.
    """
    import duckdb  # loaded only where a dataset is read

    figures = ("min_orders", "late_share", "very_late_share", "full_factor")
    values = {
        "dataset": str(plain_path(path)),
        "opening": GHOST_KITCHEN.types_by_name[GHOST_KITCHEN.opening].id,
        "closing": GHOST_KITCHEN.types_by_name[GHOST_KITCHEN.closing].id,
        "orders": orders,
        "also": list(also),
        **{name: str(getattr(_REFUND_POLICY, name)) for name in figures},
    }
    query = (_FILES / "golden_refunds.sql").read_text("utf-8")
    try:
        with tempfile.TemporaryDirectory(prefix="caspers-golden-") as spill:
            config: dict[str, Any] = {"memory_limit": "512MB", "temp_directory": spill}
            config["autoinstall_known_extensions"] = False
            with duckdb.connect(config=config) as connection:
                rows = connection.execute(query, values).fetchall()
    except (duckdb.Error, OSError) as error:
        raise DatasetError(
            f"The dataset {path} can't be read: {first_cause(error)}",
            hint="`caspers dataset check` names what is wrong with it",
        ) from error
    return tuple(
        GoldenCase(
            key=order_id,
            kind=kind,
            order_id=order_id,
            facts=OrderFacts(**facts),
            lines=tuple(OrderLine(**line) for line in lines),
            street=street,
            expected=Verdict(decision=decision, usd=usd),
        )
        for order_id, kind, facts, lines, street, decision, usd in rows
    )


_KINDS: dict[str, Any] = tomllib.loads((_FILES / "golden_complaints.toml").read_text("utf-8"))
COMPLAINT_KINDS = tuple(_KINDS)
"""The ways in which golden complaints are made."""


def golden_complaints(orders: Sequence[GoldenCase]) -> tuple[GoldenCase, ...]:
    """A complaint about each of the orders, in their order.

    Args:
        orders: as `golden_refunds` gives them; dishes of other orders are theirs.

    Returns:
        A case an order. An order on which no dish can be told from the others, or whose dishes
        are named like words of a text, gets one of a kind that names none.
    """
    dishes = sorted({line.item_name or "" for order in orders for line in order.lines} - {""})
    urgent = re.compile(whole_words(_TRIAGE_POLICY.urgent_words))
    harmless = [dish for dish in dishes if not urgent.search(plain_words(dish))]
    cases = []
    for order in orders:
        kind, complaint, line = _made_complaint(order, harmless)
        expected = _right_answer(kind, order.facts, line)
        key = f"{order.order_id}/{kind}"
        cases.append(replace(order, key=key, kind=kind, complaint=complaint, expected=expected))
    return tuple(cases)


def _made_complaint(
    order: GoldenCase, dishes: Sequence[str]
) -> tuple[str, Complaint, OrderLine | None]:
    """The kind, the complaint, and the order's line that it names."""

    def drawn(purpose: str, options: int) -> int:
        return draw(f"golden_{purpose}", order.order_id, 42) % max(options, 1)

    kind = COMPLAINT_KINDS[drawn("kind", len(COMPLAINT_KINDS))]
    names, texts, line, dish = _KINDS[kind].get("names"), _KINDS[kind]["texts"], None, ""
    if names == "own" and order.lines:
        line = order.lines[drawn("dish", len(order.lines))]
        dish = line.item_name or ""
    elif names == "others":
        # One that is no part of the name of a dish that the order has.
        own = [(line.item_name or "").lower() for line in order.lines]
        start = drawn("dish", len(dishes))
        others = (*dishes[start:], *dishes[:start])
        dish = next((one for one in others if not any(one.lower() in has for has in own)), "")
    category, words = texts[drawn("text", len(texts))]
    minutes = order.facts.total_minutes
    wait = UNKNOWN_WAIT if minutes is None else f"{math.floor(minutes)} minutes"
    text = words.replace("{wait}", wait).replace("{dish}", dish)
    # Where a dish is called `bag`, words may name it by chance, and nobody knows what is meant.
    named = [one for one in order.lines if (one.item_name or "").lower() in text.lower()]
    if named != ([line] if line else []) or ("{dish}" in words and not dish):
        # Every order can have this one: what it says of dishes and minutes doesn't matter.
        kind, line = "service", None
        category, text = _KINDS[kind]["texts"][0]
    return kind, Complaint(order_id=order.order_id, category=category, text=text), line


def _right_answer(kind: str, facts: OrderFacts, line: OrderLine | None) -> Verdict:
    policy, total, minutes = _TRIAGE_POLICY, facts.order_total, facts.total_minutes
    priority, is_known = _KINDS[kind].get("priority"), total is not None and minutes is not None
    if priority and (is_known or not _KINDS[kind].get("needs_facts")):
        return Verdict(decision="escalate", priority=priority)
    if total is None or minutes is None:
        return Verdict(decision="error")
    if line is not None:
        share = _KINDS[kind].get("share")
        usd = (line.price or Decimal(0)) * (getattr(policy, share) if share else 1)
    elif facts.p75 is None or facts.p99 is None or facts.history_orders < policy.min_orders:
        return Verdict(decision="escalate", priority="standard")
    else:
        late, very_late = minutes > facts.p75, minutes > facts.p99
        usd = total * (policy.very_late_share if very_late else policy.late_share if late else 0)
    # Credits are counted in halves of a USD, half up, as far as the order's total covers them.
    halves = min(math.floor(Fraction(usd) * 2 + Fraction(1, 2)), math.floor(Fraction(total) * 2))
    return Verdict(decision="suggest_credit", usd=Decimal(halves * 50).scaleb(-2))


def _written_complaints(path: Path, labels: Mapping[str, Verdict]) -> tuple[GoldenCase, ...]:
    """The complaints of the local business that labels name."""
    cases = []
    for order in golden_refunds(path) if labels else ():
        key = complaint_id(order.order_id, GHOST_KITCHEN.namespace)
        if key not in labels:
            continue
        text = complaint_text(
            order.order_id, COMPLAINT_SEED, street=order.street,
            dishes=[line.item_name for line in order.lines],
            total_minutes=order.facts.total_minutes,
        )  # fmt: skip
        category = complaint_category(order.order_id, COMPLAINT_SEED)
        complaint = Complaint(order_id=order.order_id, category=category, text=text)
        cases.append(replace(order, key=key, kind="written", complaint=complaint))
    return tuple(cases)


def rule_answers(cases: Iterable[GoldenCase]) -> Iterator[AnsweredQuestion]:
    """The rules' answers, one after the other, in the form of a model's."""
    for case in cases:
        began = time.perf_counter()
        answer: RefundAnswer | ComplaintAnswer = (
            refund_answer(case.facts, _REFUND_POLICY)
            if case.complaint is None
            else complaint_answer(case.complaint, case.facts, case.lines, _TRIAGE_POLICY)
        )
        yield AnsweredQuestion(
            key=case.key, response=answer.model_dump_json(), reason=None, kind="answered",
            calls=0, input_tokens=0, output_tokens=0, usd=Decimal(0), cached=False,
            seconds=time.perf_counter() - began,
        )  # fmt: skip


def model_questions(cases: Iterable[GoldenCase]) -> Iterator[Question]:
    """The cases as questions to a model: the instructions, facts and limits of the streams.

    Args:
        cases: the cases; those of whose order something is unknown are left out.
    """
    for case in cases:
        facts, complaint, at_most = case.facts, case.complaint, case.facts.order_total
        if facts.total_minutes is None or at_most is None:
            continue
        message: dict[str, object] = {"order_id": case.order_id}
        if complaint is None:
            system = instructions.refund_instructions(_REFUND_POLICY)
            is_late = facts.p75 is not None and facts.total_minutes > facts.p75
            if not is_late or facts.history_orders < _REFUND_POLICY.min_orders:
                at_most = Decimal(0)
        else:
            system = instructions.complaint_instructions(_TRIAGE_POLICY)
            text, limit = complaint.text or "", instructions.TEXT_CHARACTERS
            message |= {"complaint_category": complaint.category, "complaint_text": text[:limit]}
            message["complaint_text_is_cut"] = len(text) > limit
        for name in ("location_id", "total_minutes", "order_total", "history_orders", "p75", "p99"):
            message[name] = getattr(facts, name)
        if complaint is not None:
            message["lines"] = [asdict(line) for line in case.lines]
        messages = (Message("system", system), Message("user", _json(message)))
        yield Question(key=case.key, order_id=case.order_id, order_total=at_most, messages=messages)


def _json(value: object) -> str:
    """JSON without blanks; decimals are numbers with two places, as Spark writes them."""
    if isinstance(value, dict):
        return f"{{{','.join(f'{_json(name)}:{_json(of)}' for name, of in value.items())}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_json, value))}]"
    return f"{value:.2f}" if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False)


def evaluation_report(
    agent: Agent,
    cases: Sequence[GoldenCase],
    answers: Iterable[AnsweredQuestion],
    *,
    answered_by: str = "rules",
    worst: int = 5,
) -> dict[str, Any]:
    """How far answers agree with what is right, as a document; amounts in USD are decimals.

    Args:
        agent: whose answers.
        cases: the cases, each key once.
        answers: at most one for each; a case without one counts as not answered.
        answered_by: who gave them.
        worst: number of worst cases, at most.

    Returns:
        Numbers of `cases`, `answered` and `labelled` ones; `exact` (decision, amount and priority
        are right) and `same_decision` with their `share` of all; `mean_error_usd` over the `priced`
        cases, in which both answers name an amount; `confusion` by right and given label; `kinds`
        of cases; `cost`; P50 and P95 of a question's `seconds`, linearly interpolated; the `worst`
        cases, the largest difference first. What can't be told is None.
    """
    by_key = {answer.key: answer for answer in answers}
    exact, same, errors, wrong = Counter[str](), 0, list[Decimal](), list[dict[str, Any]]()
    confusion = {case.expected.label: Counter[str]() for case in cases}
    for case in cases:
        right, (given, reason) = case.expected, _given(by_key.get(case.key))
        confusion[right.label][given.label if given else LABELS[-1]] += 1
        same += given is not None and given.decision == right.decision
        if given and given.usd is not None and right.usd is not None:
            errors.append(abs(given.usd - right.usd))
        exact[case.kind] += right.allows(given)
        if not right.allows(given):
            difference = abs((right.usd or Decimal(0)) - ((given and given.usd) or Decimal(0)))
            wrong.append(
                {"key": case.key, "order_id": case.order_id, "kind": case.kind,
                 "expected": asdict(right), "given": given and asdict(given),
                 "difference_usd": difference, "reason": reason}
            )  # fmt: skip
    kinds = Counter(case.kind for case in cases)
    seconds = [a.seconds for a in by_key.values() if a.calls or a.response]
    p50, p95 = np.percentile(seconds, (50, 95)).tolist() if seconds else (None, None)
    costs = ("calls", "input_tokens", "output_tokens", "usd", "cached")
    return {
        "agent": agent, "answered_by": answered_by, "cases": len(cases),
        "answered": sum(answer.response is not None for answer in by_key.values()),
        "labelled": sum(case.is_labelled for case in cases),
        "exact": {"cases": exact.total(), "share": exact.total() / len(cases) if cases else None},
        "same_decision": {"cases": same, "share": same / len(cases) if cases else None},
        "mean_error_usd": round(sum(errors, Decimal(0)) / len(errors), 4) if errors else None,
        "priced": len(errors), "confusion": confusion,
        "kinds": {kind: {"cases": kinds[kind], "exact": exact[kind]} for kind in sorted(kinds)},
        "cost": {name: sum(getattr(a, name) for a in by_key.values()) for name in costs},
        "seconds": {"p50": p50, "p95": p95},
        "worst": sorted(wrong, key=lambda case: (-case["difference_usd"], case["key"]))[:worst],
    }  # fmt: skip


def _given(answer: AnsweredQuestion | None) -> tuple[Verdict | None, str]:
    """What was decided, and why; None and the reason where there is no answer."""
    if answer is None or answer.response is None:
        return None, "not asked" if answer is None else answer.reason or ""
    fields = json.loads(answer.response, parse_float=Decimal, parse_int=Decimal)
    usd, priority = fields.get("refund_usd", fields.get("credit_amount")), fields.get("priority")
    decision, reason = fields.get("refund_class") or fields["decision"], fields.get("reason")
    if fields["source"] == "error":
        decision, usd, priority = "error", None, None
    verdict = Verdict(decision=decision, usd=usd, priority=priority)
    return verdict, reason or fields["rationale"]
