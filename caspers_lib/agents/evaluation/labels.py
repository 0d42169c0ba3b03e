"""What people decided, as labels: it takes the place of what is computed as right.

A file has a JSON object a line. Of refunds: `{"order_id": "O1", "refund_usd": 7.88}`. Of
complaints: `{"complaint_id": "…", "decision": "suggest_credit", "credit_amount": 3.50}`, or
`"decision": "escalate"` without an amount and, if known, with a `priority`. Further keys, such as
who decided, don't matter. Of several lines with one id the last counts, as in a log of decisions.
Ids are those of the dataset: what later loops of a replay add (`-L1`) is unknown to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from caspers_lib.agents.contracts import Decision, Priority
from caspers_lib.agents.evaluation.golden_complaints import GoldenComplaint
from caspers_lib.agents.evaluation.golden_set import GoldenOrder, Verdict
from caspers_lib.agents.model.excerpts import excerpt
from caspers_lib.errors import DatasetError

__all__ = [
    "read_complaint_labels",
    "read_refund_labels",
    "with_complaint_labels",
    "with_refund_labels",
]

_Id = Annotated[str, Field(min_length=1)]
_Usd = Annotated[Decimal, Field(ge=0, decimal_places=2)]


class _RefundLabel(BaseModel):
    """A person's decision about one order."""

    model_config = ConfigDict(frozen=True)

    order_id: _Id
    refund_usd: _Usd


class _ComplaintLabel(BaseModel):
    """A person's decision about one complaint."""

    model_config = ConfigDict(frozen=True)

    complaint_id: _Id
    decision: Decision
    credit_amount: _Usd | None = None
    priority: Priority | None = None

    @model_validator(mode="after")
    def _decision_has_its_fields(self) -> Self:
        credits = self.decision == "suggest_credit"
        if credits != (self.credit_amount is not None) or (credits and self.priority):
            raise ValueError(
                "suggest_credit needs credit_amount and no priority, escalate no credit_amount"
            )
        return self


_Label = TypeVar("_Label", _RefundLabel, _ComplaintLabel)


def read_refund_labels(path: Path) -> Mapping[str, Decimal]:
    """USD that people gave back, by order id.

    Args:
        path: JSON lines.

    Raises:
        DatasetError: the file is missing, or a line is no label.
    """
    return {label.order_id: label.refund_usd for label in _labels(path, _RefundLabel)}


def read_complaint_labels(path: Path) -> Mapping[str, Verdict]:
    """What people decided about complaints, by complaint id.

    Args:
        path: JSON lines.

    Raises:
        DatasetError: the file is missing, or a line is no label.
    """
    return {
        label.complaint_id: Verdict(
            decision=label.decision, usd=label.credit_amount, priority=label.priority
        )
        for label in _labels(path, _ComplaintLabel)
    }


def with_refund_labels(
    orders: Sequence[GoldenOrder], labels: Mapping[str, Decimal]
) -> tuple[GoldenOrder, ...]:
    """The orders, those that have a label with the person's amount as what is right.

    Args:
        orders: the orders.
        labels: USD by order id.

    Raises:
        DatasetError: a label gives back more than the order's total.
    """
    return tuple(
        replace(order, expected=_refund(order, labels[order.order_id]), is_labelled=True)
        if order.order_id in labels
        else order
        for order in orders
    )


def with_complaint_labels(
    cases: Sequence[GoldenComplaint], labels: Mapping[str, Verdict]
) -> tuple[GoldenComplaint, ...]:
    """The complaints, those that have a label with the person's decision as what is right.

    Args:
        cases: the complaints.
        labels: decisions by complaint id.
    """
    return tuple(
        replace(case, expected=labels[case.complaint_id], is_labelled=True)
        if case.complaint_id in labels
        else case
        for case in cases
    )


def _refund(order: GoldenOrder, usd: Decimal) -> Verdict:
    total = order.facts.order_total
    if total is not None and usd > total:
        raise DatasetError(
            f"The label of order {excerpt(order.order_id, 60)} gives back {usd} USD; its total is"
            f" {total} USD",
            hint="a refund is never above the order's total",
        )
    decision = "none" if usd == 0 else "full" if usd == total else "partial"
    return Verdict(decision=decision, usd=usd)


def _labels(path: Path, kind: type[_Label]) -> list[_Label]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DatasetError(
            f"The labels {path} can't be read: {error.strerror}",
            hint="give a file with a JSON object a line",
        ) from error
    labels = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            labels.append(kind.model_validate_json(line))
        except ValidationError as error:
            raise _unfit(path, number, kind, error) from error
    return labels


def _unfit(path: Path, number: int, kind: type[_Label], error: ValidationError) -> DatasetError:
    first = error.errors(include_url=False, include_input=False)[0]
    place = "".join(f", {part}" for part in first["loc"])
    names = ", ".join(kind.model_fields)
    return DatasetError(
        f"The labels {path} can't be used: line {number}{place}: {first['msg']}",
        hint=f"a line is a JSON object with {names}",
    )
