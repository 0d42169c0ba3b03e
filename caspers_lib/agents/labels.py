"""What people decided, as labels that take the place of what is computed as right.

A file has a JSON object a line. Of refunds: `{"order_id": "O1", "refund_usd": 7.88}`. Of
complaints: `{"complaint_id": "…", "decision": "suggest_credit", "credit_amount": 3.50}`, or
`"decision": "escalate"` without an amount and, if known, with a `priority`. Further keys, such as
who decided, don't matter. Of several lines with one id the last counts, as in a log of decisions.
"""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from caspers_lib.agents.contracts import Decision, Priority
from caspers_lib.agents.evaluation import Agent, Verdict
from caspers_lib.errors import DatasetError

__all__ = ["read_labels"]

_Usd = Annotated[Decimal, Field(ge=0, decimal_places=2)]


class _RefundLabel(BaseModel):
    key: str = Field(alias="order_id", min_length=1)
    usd: _Usd = Field(alias="refund_usd")
    decision: ClassVar = "partial"  # the order's total may say another one
    priority: ClassVar = None


class _ComplaintLabel(BaseModel):
    key: str = Field(alias="complaint_id", min_length=1)
    decision: Decision
    usd: _Usd | None = Field(None, alias="credit_amount")
    priority: Priority | None = None

    @model_validator(mode="after")
    def _decision_has_its_fields(self) -> Self:
        credits = self.decision == "suggest_credit"
        if credits != (self.usd is not None) or (credits and self.priority):
            raise ValueError("credit_amount belongs to suggest_credit, priority to escalate")
        return self


def read_labels(path: Path, agent: Agent) -> dict[str, Verdict]:
    """What people decided, by the order's id for refunds, by the complaint's for complaints.

    Args:
        path: JSON lines.
        agent: whose answers are judged.

    Raises:
        DatasetError: the file is missing, or a line is no label.
    """
    kinds: dict[Agent, type[_RefundLabel | _ComplaintLabel]]
    kinds = {"refund": _RefundLabel, "complaint": _ComplaintLabel}
    kind, labels = kinds[agent], {}
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DatasetError(
            f"The labels {path} can't be read: {error.strerror}",
            hint="give a file with a JSON object a line",
        ) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            label = kind.model_validate_json(line)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = "".join(f", {part}" for part in first["loc"])
            names = ", ".join(field.alias or name for name, field in kind.model_fields.items())
            raise DatasetError(
                f"The labels {path} can't be used: line {number}{place}: {first['msg']}",
                hint=f"a line is a JSON object with {names}",
            ) from error
        labels[label.key] = Verdict(decision=label.decision, usd=label.usd, priority=label.priority)
    return labels
