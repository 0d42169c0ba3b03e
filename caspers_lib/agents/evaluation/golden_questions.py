"""Golden cases as questions to a model: the words and facts that the streams would send.

Contract: DESIGN section 7. The facts of one case, in Python: the same keys, order and values as
the column expressions of `prompts`, and the same limit on what may be given back.
"""

import json
from collections.abc import Iterable
from decimal import Decimal

from caspers_lib.agents.evaluation.golden_complaints import GoldenComplaint
from caspers_lib.agents.evaluation.golden_set import GoldenOrder
from caspers_lib.agents.model.asking import Question
from caspers_lib.agents.model.instructions import (
    TEXT_CHARACTERS,
    complaint_instructions,
    refund_instructions,
)
from caspers_lib.agents.model.settings import Message
from caspers_lib.agents.refund_policy import OrderFacts, RefundPolicy
from caspers_lib.agents.triage_policy import TriagePolicy

__all__ = ["complaint_case_questions", "complaint_facts", "refund_case_questions", "refund_facts"]


def refund_case_questions(orders: Iterable[GoldenOrder], policy: RefundPolicy) -> list[Question]:
    """What a refund agent's model is asked, without the orders of which something is unknown.

    Args:
        orders: the cases.
        policy: the policy that the model is told, and that limits what may be given back.
    """
    instructions = refund_instructions(policy)
    return [
        _question(
            order.key, order, _at_most(order.facts, policy), instructions, refund_facts(order)
        )
        for order in orders
        if _is_known(order.facts)
    ]


def complaint_case_questions(
    cases: Iterable[GoldenComplaint], policy: TriagePolicy
) -> list[Question]:
    """What a complaint agent's model is asked, without those whose order is not known well enough.

    Args:
        cases: the cases.
        policy: the policy that the model is told.
    """
    instructions = complaint_instructions(policy)
    return [
        _question(
            case.key, case.order, case.order.facts.order_total, instructions, complaint_facts(case)
        )
        for case in cases
        if _is_known(case.order.facts)
    ]


def refund_facts(order: GoldenOrder) -> str:
    """The user message about an order: JSON."""
    return _json({"order_id": order.order_id, **_order_facts(order.facts)})


def complaint_facts(case: GoldenComplaint) -> str:
    """The user message about a complaint: JSON."""
    text = case.complaint.text or ""
    lines = [{"item_name": line.item_name, "price": line.price} for line in case.order.lines]
    return _json(
        {
            "order_id": case.order_id,
            "complaint_category": case.complaint.category,
            "complaint_text": text[:TEXT_CHARACTERS],
            "complaint_text_is_cut": len(text) > TEXT_CHARACTERS,
            **_order_facts(case.order.facts),
            "lines": lines,
        }
    )


def _question(
    key: str, order: GoldenOrder, at_most: Decimal | None, instructions: str, facts: str
) -> Question:
    messages = (Message("system", instructions), Message("user", facts))
    return Question(key=key, order_id=order.order_id, order_total=at_most, messages=messages)


def _is_known(facts: OrderFacts) -> bool:
    return facts.total_minutes is not None and facts.order_total is not None


def _at_most(facts: OrderFacts, policy: RefundPolicy) -> Decimal:
    """USD that may be given back: nothing where nobody is late by the policy."""
    minutes, total, p75 = facts.total_minutes, facts.order_total, facts.p75
    if minutes is None or total is None or p75 is None:
        return Decimal(0)
    is_late = facts.history_orders >= policy.min_orders and minutes > p75
    return max(total, Decimal(0)) if is_late else Decimal(0)


def _order_facts(facts: OrderFacts) -> dict[str, object]:
    return {
        "location_id": facts.location_id,
        "total_minutes": facts.total_minutes,
        "order_total": facts.order_total,
        "history_orders": facts.history_orders,
        "p75": facts.p75,
        "p99": facts.p99,
    }


def _json(value: object) -> str:
    """JSON without blanks; decimals are numbers with two places, as Spark writes them."""
    if isinstance(value, dict):
        return f"{{{','.join(f'{_json(name)}:{_json(of)}' for name, of in value.items())}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_json, value))}]"
    return f"{value:.2f}" if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False)
