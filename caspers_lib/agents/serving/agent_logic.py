"""The agents' logic for one request: read it, look the order up, ask a model or the rules.

Contract: docs/contracts.md, Agents. Nothing here knows mlflow or HTTP: the same logic runs in
process, behind a local server and on Model Serving. What can't be judged gets an answer with source
`error` where an order is named, otherwise none; nothing is invented.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Literal, Protocol, TypeAlias

from caspers_lib.agents.contracts import AnswerKind, ComplaintAnswer, RefundAnswer, Source
from caspers_lib.agents.model.asking import AnsweredQuestion, Question
from caspers_lib.agents.model.excerpts import excerpt
from caspers_lib.agents.model.instructions import complaint_instructions, refund_instructions
from caspers_lib.agents.model.settings import Message
from caspers_lib.agents.refund_policy import OrderFacts, RefundPolicy, refund_answer
from caspers_lib.agents.serving.order_requests import (
    KnownOrder,
    Unreadable,
    facts_json,
    read_complaint_request,
    read_refund_request,
)
from caspers_lib.agents.triage_answer import Complaint, complaint_answer
from caspers_lib.agents.triage_policy import OUTCOMES, TriagePolicy
from caspers_lib.errors import CaspersError

__all__ = [
    "AgentKind",
    "AgentLogic",
    "AgentReply",
    "AskModel",
    "ComplaintAgent",
    "FactsOf",
    "RefundAgent",
    "agent_logic",
]

AgentKind: TypeAlias = Literal["refund", "complaint"]
"""Which of the two agents."""

FactsOf: TypeAlias = Callable[[str], KnownOrder | None]
"""Looks an order up by its id; None if there is no such order. Failing it raises a CaspersError."""

AskModel: TypeAlias = Callable[[Question, AnswerKind], AnsweredQuestion]
"""Asks a model and waits for what comes of it, as `model.thread.ModelThread` does. One that can not
be asked at all raises a CaspersError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentReply:
    """What an agent says to one request.

    Args:
        answer: the contract's answer as JSON; None if the request names no order.
        answered_by: who answered, as in the answer's `source`.
        note: what to know beside it, in one sentence: why there is no answer, or none of a model;
            None for nothing.
        input_tokens: tokens that a model was sent.
        output_tokens: tokens that it wrote.
        in_models_place: whether the rules answered because the model did not.
    """

    answer: str | None
    answered_by: Source
    note: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    in_models_place: bool = False


class AgentLogic(Protocol):
    """An agent: a request's last user message in, a reply out; from any thread."""

    @property
    def kind(self) -> AgentKind:
        """Which agent it is."""

    def reply(self, text: str) -> AgentReply:
        """The reply to a request.

        Args:
            text: what the user says, see `order_requests`.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundAgent:
    """Recommends a refund for one delivered order.

    Args:
        policy: the shares and limits to apply.
        facts_of: looks orders up; None if requests must bring their facts.
        ask: asks a model, which answers where it can; by the rules alone if None.
    """

    policy: RefundPolicy = field(default_factory=RefundPolicy)
    facts_of: FactsOf | None = None
    ask: AskModel | None = None

    @property
    def kind(self) -> AgentKind:
        """Which agent it is."""
        return "refund"

    def reply(self, text: str) -> AgentReply:
        """The reply to a request: facts as JSON, or an order's id."""
        request = read_refund_request(text)
        if isinstance(request, Unreadable):
            return _refusal(request) if request.order_id is None else _no_refund(request.reason)
        order = request.order or _looked_up(self.facts_of, request.order_id)
        if isinstance(order, str):
            return _no_refund(order)
        answer = refund_answer(order.facts, self.policy)
        rules = AgentReply(answer=answer.model_dump_json(), answered_by=answer.source)
        if self.ask is None or not _is_judgeable(order.facts):
            return rules
        most = _most_refundable(order.facts, self.policy)
        told = refund_instructions(self.policy)
        question = _question(order, most, told, facts_json(order))
        return _modelled(self.ask, question, RefundAnswer, rules)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComplaintAgent:
    """Answers one complaint.

    Args:
        policy: the shares, limits and words to apply.
        facts_of: looks orders up; None if requests must bring their facts.
        ask: asks a model, which answers where it can; by the rules alone if None.
    """

    policy: TriagePolicy = field(default_factory=TriagePolicy)
    facts_of: FactsOf | None = None
    ask: AskModel | None = None

    @property
    def kind(self) -> AgentKind:
        """Which agent it is."""
        return "complaint"

    def reply(self, text: str) -> AgentReply:
        """The reply to a request: a complaint as JSON, with its order's facts or without."""
        request = read_complaint_request(text)
        if isinstance(request, Unreadable):
            return _refusal(request) if request.order_id is None else _escalation(request)
        complaint = request.complaint
        order = request.order or _looked_up(self.facts_of, complaint.order_id)
        if isinstance(order, str):
            return self._without_order(complaint, order)
        answer = complaint_answer(complaint, order.facts, order.lines, self.policy)
        note = _CUT if request.text_is_cut else None
        rules = AgentReply(answer=answer.model_dump_json(), answered_by=answer.source, note=note)
        if self.ask is None or not _is_judgeable(order.facts):
            return rules
        told = complaint_instructions(self.policy)
        question = _question(order, _paid(order.facts), told, facts_json(order, request))
        return _modelled(self.ask, question, ComplaintAnswer, rules)

    def _without_order(self, complaint: Complaint, why: str) -> AgentReply:
        """What the rules say without knowing the order: words of danger can't wait for it."""
        answer = complaint_answer(complaint, None, (), self.policy)
        if answer.source == "error":
            answer = answer.model_copy(update={"rationale": f"{why}."})
        return AgentReply(answer=answer.model_dump_json(), answered_by=answer.source, note=why)


def agent_logic(
    kind: AgentKind, *, facts_of: FactsOf | None = None, ask: AskModel | None = None
) -> AgentLogic:
    """The agent of that kind, by the published policy.

    Args:
        kind: which agent.
        facts_of: looks orders up; None if requests must bring their facts.
        ask: asks a model, which answers where it can; by the rules alone if None.
    """
    if kind == "refund":
        return RefundAgent(facts_of=facts_of, ask=ask)
    return ComplaintAgent(facts_of=facts_of, ask=ask)


_CUT = "The complaint is longer than the request holds; its rest was not judged"


def _looked_up(facts_of: FactsOf | None, order_id: str) -> KnownOrder | str:
    """The order, or why it isn't known."""
    shown = excerpt(order_id)
    if facts_of is None:
        return f"Order {shown} can't be looked up here; the request must bring its facts as JSON"
    try:
        order = facts_of(order_id)
    except CaspersError as error:
        return f"Order {shown} could not be looked up: {error.message}"
    return f"There is no order {shown}" if order is None else order


def _is_judgeable(facts: OrderFacts) -> bool:
    """Whether a model may judge the order, as `prompts` says."""
    return facts.total_minutes is not None and facts.order_total is not None


def _paid(facts: OrderFacts) -> Decimal:
    return max(facts.order_total or Decimal(0), Decimal(0))


def _most_refundable(facts: OrderFacts, policy: RefundPolicy) -> Decimal:
    """USD that a model may give back: nothing where the policy calls nobody late."""
    minutes, p75 = facts.total_minutes, facts.p75
    if minutes is None or p75 is None or facts.history_orders < policy.min_orders:
        return Decimal(0)
    return _paid(facts) if minutes > p75 else Decimal(0)


def _question(order: KnownOrder, most: Decimal, told: str, facts: str) -> Question:
    return Question(
        key=order.order_id,
        order_id=order.order_id,
        order_total=most,
        messages=(Message("system", told), Message("user", facts)),
    )


def _modelled(ask: AskModel, question: Question, kind: AnswerKind, rules: AgentReply) -> AgentReply:
    """The model's answer; the rules' one, with the reason, where it has none."""
    try:
        asked = ask(question, kind)
    except CaspersError as error:
        return _instead(rules, error.message)
    paid = replace(rules, input_tokens=asked.input_tokens, output_tokens=asked.output_tokens)
    if asked.response is None:
        return _instead(paid, asked.reason or "it gave no answer")
    return replace(paid, answer=asked.response, answered_by="model")


def _instead(rules: AgentReply, reason: str) -> AgentReply:
    why = f"The rules answered in the model's place: {reason}"
    note = f"{why}; {rules.note}" if rules.note else why
    return replace(rules, note=note, in_models_place=True)


def _refusal(request: Unreadable) -> AgentReply:
    return AgentReply(answer=None, answered_by="error", note=request.reason)


def _no_refund(why: str) -> AgentReply:
    answer = RefundAnswer(
        refund_usd=Decimal(0), refund_class="none", reason=f"{why}.", source="error"
    )
    return AgentReply(answer=answer.model_dump_json(), answered_by="error", note=why)


def _escalation(request: Unreadable) -> AgentReply:
    """A person has to read the complaint, since the agent can't."""
    complaint = Complaint(order_id=request.order_id or "", category=request.category, text=None)
    answer = ComplaintAnswer(
        order_id=complaint.order_id,
        complaint_category=complaint.known_category,
        decision="escalate",
        credit_amount=None,
        confidence=None,
        priority="standard",
        rationale=f"{request.reason}.",
        customer_response=OUTCOMES["unknown_order"].response,
        source="error",
    )
    return AgentReply(answer=answer.model_dump_json(), answered_by="error", note=request.reason)
