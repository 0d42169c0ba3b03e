"""`caspers agent evaluate`: an agent's answers against what is right for a dataset's orders.

Contract: DESIGN section 10. Needs neither Spark nor Postgres; only a model's instructions lie in a
module that imports pyspark.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Literal

from pydantic import SecretStr
from rich.console import Console
from rich.progress import Progress

from caspers_lib.agents.complaint_draws import complaint_id
from caspers_lib.agents.contracts import AnswerKind, ComplaintAnswer, RefundAnswer
from caspers_lib.agents.evaluation.case_answers import (
    CaseAnswer,
    model_case_answers,
    rule_complaint_answers,
    rule_refund_answers,
)
from caspers_lib.agents.evaluation.golden_complaints import (
    GoldenComplaint,
    golden_complaints,
    written_complaint,
)
from caspers_lib.agents.evaluation.golden_questions import (
    complaint_case_questions,
    refund_case_questions,
)
from caspers_lib.agents.evaluation.golden_set import Verdict, delivered_order_ids, golden_orders
from caspers_lib.agents.evaluation.labels import (
    read_complaint_labels,
    read_refund_labels,
    with_complaint_labels,
    with_refund_labels,
)
from caspers_lib.agents.evaluation.report import (
    Agent,
    EvaluationReport,
    evaluate_complaints,
    evaluate_refunds,
)
from caspers_lib.agents.model.asking import ClientMaker, Question, answer_questions
from caspers_lib.agents.model.client import ModelClient, ModelReply
from caspers_lib.agents.model.settings import Message, ModelSettings
from caspers_lib.agents.refund_policy import RefundPolicy
from caspers_lib.agents.triage_policy import TriagePolicy
from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.errors import DatasetError, ModelUnavailableError
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.generator import generate_dataset
from caspers_lib.runtime.agent_evaluation_view import evaluation_view
from caspers_lib.runtime.local_root import LocalRoot, Owner, owned

__all__ = [
    "MODEL_KEY_VARIABLE",
    "WRITTEN_COMPLAINTS_SEED",
    "Evaluation",
    "EvaluationRequest",
    "evaluate_agent",
    "model_settings",
    "run_evaluation",
]

MODEL_KEY_VARIABLE = "CASPERS_MODEL_API_KEY"
"""The environment variable that alone brings a model's key."""

WRITTEN_COMPLAINTS_SEED = 42
"""Draws the complaints of the local business, whose ids labels name."""

_SYSTEM_AND_USER = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRequest:
    """What is evaluated.

    Args:
        agent: whose answers.
        orders: so many orders of the dataset at most, drawn by a seed.
        dataset: an events file; None is the generated one under ROOT.
        model: the model that answers; the rules if None.
        labels: a file of people's decisions, see `caspers_lib.agents.evaluation.labels`.
        worst: so many of the worst cases at most.
    """

    agent: Agent
    orders: int
    dataset: Path | None = None
    model: ModelSettings | None = None
    labels: Path | None = None
    worst: int = 5

    @property
    def answered_by(self) -> str:
        """Who answers, for the report."""
        return "rules" if self.model is None else self.model.model


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What came of it.

    Args:
        report: the report.
        dataset: the events file.
        unused_labels: labels that name nothing in the dataset.
    """

    report: EvaluationReport
    dataset: Path
    unused_labels: int

    def as_document(self) -> dict[str, object]:
        """Plain values for JSON."""
        own = {"dataset": str(self.dataset), "unused_labels": self.unused_labels}
        return {**self.report.as_document(), **own}


def model_settings(
    url: str,
    model: str,
    *,
    api: Literal["chat", "responses"] = "chat",
    usd_per_million_input: Decimal = Decimal(0),
    usd_per_million_output: Decimal = Decimal(0),
    environment: Mapping[str, str] = os.environ,
) -> ModelSettings:
    """How a model is asked, its key from the environment.

    Args:
        url: where the API lies, as `https://host/v1`.
        model: the model's name there.
        api: which API is spoken.
        usd_per_million_input: price of a million input tokens.
        usd_per_million_output: price of a million output tokens.
        environment: may hold `MODEL_KEY_VARIABLE`.

    Raises:
        SettingsError: a value is not allowed.
    """
    key = environment.get(MODEL_KEY_VARIABLE)
    return ModelSettings(
        base_url=url,
        model=model,
        api=api,
        api_key=SecretStr(key) if key else None,
        usd_per_million_input=usd_per_million_input,
        usd_per_million_output=usd_per_million_output,
    )


def run_evaluation(root: LocalRoot, request: EvaluationRequest, *, as_json: bool) -> None:
    """Evaluate and print what came of it; progress goes to stderr.

    Args:
        root: where the dataset lies, or is made.
        request: what is evaluated.
        as_json: print one JSON document.

    Raises:
        CaspersError: see `evaluate_agent`.
    """
    with Progress(transient=True, console=Console(stderr=True)) as bar:
        done = evaluate_agent(root, request, bar)
    if as_json:
        print(json.dumps(done.as_document(), indent=2))
    else:
        is_priced = request.model is not None and request.model.usd(1, 1) > 0
        view = evaluation_view(done.report, done.unused_labels, is_priced=is_priced)
        Console().print(view)


def evaluate_agent(root: LocalRoot, request: EvaluationRequest, bar: Progress) -> Evaluation:
    """Evaluate an agent by the rules or by a model.

    Args:
        root: where the generated dataset lies; it is made if it is wanted and not there.
        request: what is evaluated.
        bar: shows how far it is.

    Raises:
        DatasetError: the dataset or the labels can't be used, or no order was delivered.
        RootLockedError: the dataset has to be made, and another process owns ROOT.
        ModelUnavailableError: not one question reached the model.
        SettingsError: httpx is not installed.
    """
    evaluated = _refunds if request.agent == "refund" else _complaints
    return evaluated(root, request, bar)


def _refunds(root: LocalRoot, request: EvaluationRequest, bar: Progress) -> Evaluation:
    policy = RefundPolicy()
    labels = read_refund_labels(request.labels) if request.labels else {}
    path = _dataset(root, request, bar)
    with _working(bar, "computing what is right"):
        found = golden_orders(path, policy, orders=request.orders, also=labels)
        orders = with_refund_labels(found, labels)
    _refuse_nothing(path, orders)
    if request.model is None:
        rules = rule_refund_answers(orders, policy)
        answers = list(bar.track(rules, total=len(orders), description="asking the rules"))
    else:
        questions = refund_case_questions(orders, policy)
        answers = _asked(questions, request.model, RefundAnswer, bar)
    report = evaluate_refunds(orders, answers, answered_by=request.answered_by, worst=request.worst)
    return Evaluation(report=report, dataset=path, unused_labels=len(labels) - report.labelled)


def _complaints(root: LocalRoot, request: EvaluationRequest, bar: Progress) -> Evaluation:
    policy = TriagePolicy()
    labels = read_complaint_labels(request.labels) if request.labels else {}
    path = _dataset(root, request, bar)
    with _working(bar, "computing what is right"):
        orders = golden_orders(path, RefundPolicy(), orders=request.orders)
        made = with_complaint_labels(golden_complaints(orders, policy), labels)
        cases = (*made, *_written(path, labels))
    _refuse_nothing(path, cases)
    if request.model is None:
        rules = rule_complaint_answers(cases, policy)
        answers = list(bar.track(rules, total=len(cases), description="asking the rules"))
    else:
        questions = complaint_case_questions(cases, policy)
        answers = _asked(questions, request.model, ComplaintAnswer, bar)
    report = evaluate_complaints(
        cases, answers, answered_by=request.answered_by, worst=request.worst
    )
    return Evaluation(report=report, dataset=path, unused_labels=len(labels) - report.labelled)


def _written(path: Path, labels: Mapping[str, Verdict]) -> list[GoldenComplaint]:
    """The live business's complaints that have a label."""
    if not labels:
        return []
    namespace = GHOST_KITCHEN.namespace
    ids = {order: complaint_id(order, namespace) for order in delivered_order_ids(path)}
    wanted = [order for order, complaint in ids.items() if complaint in labels]
    orders = golden_orders(path, RefundPolicy(), orders=0, also=wanted)
    seed = WRITTEN_COMPLAINTS_SEED
    return [written_complaint(order, seed, labels[ids[order.order_id]]) for order in orders]


def _dataset(root: LocalRoot, request: EvaluationRequest, bar: Progress) -> Path:
    path = request.dataset or root.dataset_file
    if request.dataset is None and not path.exists():
        task = bar.add_task("making the dataset", total=1.0)
        with owned(root, Owner.this_process("caspers agent evaluate")):
            generate_dataset(root.dataset, progress=lambda done: bar.update(task, completed=done))
        bar.remove_task(task)
    return EventsFile.open(path).path


def _refuse_nothing(path: Path, cases: Sequence[object]) -> None:
    if not cases:
        raise DatasetError(
            f"The dataset {path} has no delivered order, so there is nothing to evaluate",
            hint="`caspers dataset check` says what is in it",
        )


def _asked(
    questions: Sequence[Question], settings: ModelSettings, kind: AnswerKind, bar: Progress
) -> list[CaseAnswer]:
    """What a model says to every question; nothing is taken from or kept in a cache."""
    task = bar.add_task(f"asking {settings.model}", total=len(questions))
    answered = answer_questions(
        questions, settings, kind, make_client=_reporting_client(lambda: bar.advance(task))
    )
    if answered and all(result.kind == "unavailable" for result in answered):
        raise ModelUnavailableError(
            answered[0].reason or "The model gave no answer",
            hint=f"check --model-url, --model, --model-api and {MODEL_KEY_VARIABLE}",
        )
    return list(model_case_answers(answered, kind))


def _reporting_client(on_question: Callable[[], None]) -> ClientMaker:
    """Makes clients that say when a question, repairs aside, is through."""

    class ReportingClient(ModelClient):
        async def ask(
            self,
            messages: Sequence[Message],
            response_format: Mapping[str, object] | None = None,
        ) -> ModelReply:
            try:
                return await super().ask(messages, response_format)
            finally:
                if len(messages) == _SYSTEM_AND_USER:
                    on_question()

    return ReportingClient


@contextmanager
def _working(bar: Progress, what: str) -> Iterator[None]:
    task = bar.add_task(what, total=None)
    try:
        yield
    finally:
        bar.remove_task(task)
