"""What an agent may answer: strict pydantic models of `agent_response`.

Contract: DESIGN section 7. Keys in the JSON text stand in the order of the fields. A broken answer
raises `pydantic.ValidationError`, whoever wrote it.
"""

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, model_validator

__all__ = [
    "CATEGORY_WEIGHTS",
    "ComplaintAnswer",
    "ComplaintCategory",
    "Decision",
    "Priority",
    "RefundAnswer",
    "RefundClass",
    "Source",
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
