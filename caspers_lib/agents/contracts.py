"""What an agent may answer: strict pydantic models of `agent_response`, and their JSON schemas.

Contract: docs/contracts.md, Agents. Keys in the JSON text stand in the order of the fields. A
broken answer raises `pydantic.ValidationError`, whoever wrote it. What a model writes is read by
`model.answer_text`, which is tolerant in form and rounds amounts; the models here are what is
stored.
"""

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Annotated, Literal, Self, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, model_validator

__all__ = [
    "CATEGORY_WEIGHTS",
    "MAX_COMPLAINT_CHARACTERS",
    "AnswerKind",
    "AskedKind",
    "ComplaintAnswer",
    "ComplaintCategory",
    "ComplaintText",
    "Decision",
    "Priority",
    "RefundAnswer",
    "RefundClass",
    "Source",
    "answer_schema",
    "response_format",
]

RefundClass = Literal["none", "partial", "full"]
Decision = Literal["suggest_credit", "escalate"]
Priority = Literal["standard", "high", "urgent"]
Source = Literal["model", "rules", "error"]
ComplaintCategory = Literal[
    "delivery_delay", "missing_items", "food_quality", "service_issue", "billing", "other"
]

CATEGORY_WEIGHTS: Mapping[str, Decimal] = MappingProxyType(
    {
        "delivery_delay": Decimal("0.40"),
        "missing_items": Decimal("0.25"),
        "food_quality": Decimal("0.20"),
        "service_issue": Decimal("0.10"),
        "other": Decimal("0.05"),
    }
)
"""Share of each category among generated complaints; the shares add up to one."""

MAX_COMPLAINT_CHARACTERS = 1_000
"""A customer's text by a model is not longer."""

_as_number = PlainSerializer(float, return_type=float, when_used="json")
_Usd = Annotated[Decimal, Field(ge=0, decimal_places=2), _as_number]
_Share = Annotated[Decimal, Field(ge=0, le=1, decimal_places=2), _as_number]
_Text = Annotated[str, Field(min_length=1)]


class _Answer(BaseModel):
    """An immutable answer that refuses unknown keys and converts no types."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class RefundAnswer(_Answer):
    """What to give back for one delivered order.

    Args:
        refund_usd: USD, two decimals at most, never negative.
        refund_class: `none` exactly when nothing is given back.
        reason: why, with the numbers that were used.
        source: who answered.
    """

    refund_usd: _Usd
    refund_class: RefundClass
    reason: _Text
    source: Source

    @model_validator(mode="after")
    def _class_fits_amount(self) -> Self:
        if (self.refund_class == "none") != (self.refund_usd == 0):
            raise ValueError("refund_class is none exactly when refund_usd is 0")
        return self


class ComplaintAnswer(_Answer):
    """What to do about one complaint.

    Args:
        order_id: the order complained about.
        complaint_category: the category that the complaint was handled as.
        decision: `suggest_credit` carries `credit_amount` and `confidence`, `escalate` carries
            `priority`; each carries only its own.
        credit_amount: USD, two decimals at most.
        confidence: 0 to 1, two decimals at most.
        priority: how soon a person should look.
        rationale: why, for the person who decides, with the numbers that were used.
        customer_response: a draft of what the customer is told.
        source: who answered.
    """

    order_id: _Text
    complaint_category: ComplaintCategory
    decision: Decision
    credit_amount: _Usd | None
    confidence: _Share | None
    priority: Priority | None
    rationale: _Text
    customer_response: _Text
    source: Source

    @model_validator(mode="after")
    def _decision_has_its_fields(self) -> Self:
        credit = self.credit_amount is not None, self.confidence is not None
        if self.decision == "suggest_credit" and not (all(credit) and self.priority is None):
            raise ValueError("suggest_credit needs credit_amount and confidence, and no priority")
        if self.decision == "escalate" and (any(credit) or self.priority is None):
            raise ValueError("escalate needs priority, and no credit_amount or confidence")
        return self


class ComplaintText(BaseModel):
    """What a customer writes, where a model writes it.

    Args:
        complaint_text: plain text, 1 to `MAX_COMPLAINT_CHARACTERS` characters.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    complaint_text: Annotated[str, Field(min_length=1, max_length=MAX_COMPLAINT_CHARACTERS)]


AnswerKind: TypeAlias = type[RefundAnswer] | type[ComplaintAnswer]
"""Which of the two answers is asked for."""

AskedKind: TypeAlias = AnswerKind | type[ComplaintText]
"""What a model is asked for: an answer, or a text."""


def answer_schema(kind: AnswerKind) -> dict[str, object]:
    """The JSON schema of what a model is asked to write, for strict structured output.

    It says types, keys and choices only: further rules are not allowed there by every server.
    `source` is not in it, since a model does not say who it is.

    Args:
        kind: the answer asked for.

    Returns:
        A new dict: every key required, no other allowed, optional values null.
    """
    properties = _refund_properties() if kind is RefundAnswer else _complaint_properties()
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
    }


def response_format(kind: AnswerKind) -> dict[str, object]:
    """The request's `response_format` for strict structured output.

    Args:
        kind: the answer asked for.

    Returns:
        A new dict, as chat completions take it.
    """
    name = "refund_answer" if kind is RefundAnswer else "complaint_answer"
    schema = {"name": name, "strict": True, "schema": answer_schema(kind)}
    return {"type": "json_schema", "json_schema": schema}


def _refund_properties() -> dict[str, object]:
    return {
        "refund_usd": _typed("number", "USD, two decimals, from 0 to the order's total"),
        "refund_class": _typed(
            "string",
            "none for 0, full for the order's total, otherwise partial",
            get_args(RefundClass),
        ),
        "reason": _typed("string", "why, with the numbers that were used"),
    }


def _complaint_properties() -> dict[str, object]:
    categories = get_args(ComplaintCategory)
    return {
        "order_id": _typed("string", "the order complained about"),
        "complaint_category": _typed("string", "what is complained about", categories),
        "decision": _typed("string", "credit it, or let a person look", get_args(Decision)),
        "credit_amount": _optional(
            "number", "with suggest_credit: USD, a multiple of 0.50, at most the order's total"
        ),
        "confidence": _optional("number", "with suggest_credit: from 0 to 1"),
        "priority": _optional(
            "string", "with escalate: how soon a person should look", get_args(Priority)
        ),
        "rationale": _typed("string", "why, with the numbers that were used"),
        "customer_response": _typed("string", "a draft of what the customer is told"),
    }


def _typed(kind: str, description: str, choices: tuple[str, ...] = ()) -> dict[str, object]:
    schema: dict[str, object] = {"type": kind, "description": description}
    return schema | ({"enum": [*choices]} if choices else {})


def _optional(kind: str, description: str, choices: tuple[str, ...] = ()) -> dict[str, object]:
    schema: dict[str, object] = {"type": [kind, "null"], "description": description}
    return schema | ({"enum": [*choices, None]} if choices else {})
