"""The words of decisions: actions, statuses, what leads where, and what is refused.

They serve refunds and complaints alike. What is written here once is checked by the database too:
`trail.trail_sql` makes constraints of it.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, WithJsonSchema

from caspers_lib.errors import ConsoleError
from caspers_lib.lakebase import COMPLAINTS, REFUNDS, SyncSpec

__all__ = [
    "CENT",
    "COMPLAINT_CASES",
    "GIVEN",
    "LARGEST_USD",
    "REFUND_CASES",
    "TRANSITIONS",
    "UNDO_SECONDS",
    "Action",
    "CaseKind",
    "Decided",
    "DecisionRequest",
    "OrderBalance",
    "Payout",
    "RecordedAction",
    "Refusal",
    "RefusalCode",
    "Situation",
    "Status",
    "Step",
    "Usd",
]

CENT = Decimal("0.01")
LARGEST_USD = Decimal("9999999999.99")
"""More than DECIMAL(12,2) holds is not an amount of money."""

Usd: TypeAlias = Annotated[
    Decimal,
    Field(ge=0, le=LARGEST_USD, decimal_places=2, allow_inf_nan=False),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": float(LARGEST_USD), "multipleOf": 0.01},
                {"type": "string", "pattern": r"^[0-9]{1,10}(\.[0-9]{1,2})?$"},
            ]
        }
    ),
]
"""An amount of money in a request: a number, or the same as a text."""

Action: TypeAlias = Literal["approve", "change", "reject", "escalate", "reverse", "undo"]
"""What a person asks for. Of a complaint, to approve is to accept, and to reject is to close.

A manager reverses any decision, with a reason; whoever decided undoes their own within seconds."""

RecordedAction: TypeAlias = Literal[
    "approve", "change", "reject", "escalate", "reverse", "undo", "second_approval"
]
"""What the audit trail says: the approval of what waits for a second person is its own action."""

Status: TypeAlias = Literal["pending", "waiting", "approved", "changed", "rejected", "escalated"]
"""Where a case is; `waiting` is for a second person."""

UNDO_SECONDS = 10
"""For so long, by the database's clock, the person who decided may undo it."""

GIVEN: tuple[Status, ...] = ("approved", "changed")
"""The statuses in which a customer gets money."""

TRANSITIONS: frozenset[tuple[Status, RecordedAction, Status]] = frozenset(
    {
        ("pending", "approve", "approved"),
        ("pending", "approve", "waiting"),
        ("pending", "change", "changed"),
        ("pending", "change", "waiting"),
        ("pending", "reject", "rejected"),
        ("pending", "escalate", "escalated"),
        ("escalated", "approve", "approved"),
        ("escalated", "approve", "waiting"),
        ("escalated", "change", "changed"),
        ("escalated", "change", "waiting"),
        ("escalated", "reject", "rejected"),
        ("escalated", "reverse", "pending"),
        ("waiting", "second_approval", "approved"),
        ("waiting", "second_approval", "changed"),
        ("waiting", "reject", "rejected"),
        ("waiting", "reverse", "pending"),
        ("approved", "reverse", "pending"),
        ("changed", "reverse", "pending"),
        ("rejected", "reverse", "pending"),
        ("escalated", "undo", "pending"),
        ("waiting", "undo", "pending"),
        ("approved", "undo", "pending"),
        ("changed", "undo", "pending"),
        ("rejected", "undo", "pending"),
        ("waiting", "undo", "escalated"),
        ("approved", "undo", "escalated"),
        ("changed", "undo", "escalated"),
        ("rejected", "undo", "escalated"),
    }
)
"""What leads where: status before, action, status after. Nothing leads from a refund to a second
one but its reversal or its undoing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseKind:
    """What is decided about: answers of an agent, each with an amount of money.

    Args:
        name: as addresses and messages say it, such as `refunds`.
        noun: one of them, such as `refund`.
        spec: the synced table of the answers.
        amount: the answer's key of the amount.
        case: what the amount is for, such as `order`.
        has_reply: the customer gets an answer in words, and a case may be escalated.
    """

    name: str
    noun: str
    spec: SyncSpec
    amount: str
    case: str
    has_reply: bool

    @property
    def key(self) -> str:
        """The column that identifies a case."""
        return self.spec.keys[0]

    @property
    def trail(self) -> str:
        """The table of decisions, `schema.table`."""
        return f"console.{self.noun}_decisions"

    @property
    def cases(self) -> str:
        """The table of cases that lists read, `schema.table`."""
        return f"console.{self.noun}_cases"

    def is_grave(self, label: str | None, priority: str | None) -> bool:
        """Whether the agent hands a case to a person: nobody ends it without a reason.

        Args:
            label: the answer's class or decision.
            priority: how urgent it is.
        """
        words = [(text or "").strip().casefold() for text in (label, priority)]
        return self.has_reply and (words[0] == "escalate" or words[1] == "urgent")

    def spoken(self, status: Status) -> str:
        """A status in the words of this kind.

        Args:
            status: where a case is.
        """
        words: dict[Status, str] = {"waiting": "approved and waits for a second person"}
        if self.has_reply:
            words = {
                "waiting": "accepted and waits for a second person",
                "approved": "accepted",
                "rejected": "closed",
            }
        return words.get(status, status)


REFUND_CASES = CaseKind(
    name="refunds",
    noun="refund",
    spec=REFUNDS,
    amount="refund_usd",
    case="order",
    has_reply=False,
)
COMPLAINT_CASES = CaseKind(
    name="complaints",
    noun="complaint",
    spec=COMPLAINTS,
    amount="credit_amount",
    case="complaint",
    has_reply=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRequest:
    """What a person wants for one case.

    Args:
        case_id: the order of a refund, or the complaint.
        version: the case's version that the person saw; 0 before the first decision.
        action: what they want.
        amount_usd: with approve, the amount that they saw; with change, the new one; else None.
        reason: why; change, escalate and reverse need one, and whatever ends a grave case.
        reply: what the customer is told, of a complaint.
        key: of this request alone; the same request may be sent again under it.
    """

    case_id: str
    version: int
    action: Action
    amount_usd: Decimal | None = None
    reason: str = ""
    reply: str | None = None
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A decision on record.

    Args:
        case_id: the case.
        order_id: its order.
        version: of the case, after it.
        action: what was done.
        status_before: where the case was.
        status: where it is then.
        amount_before_usd: what the customer got before.
        amount_usd: what the customer gets.
        suggested_usd: what the agent suggested then.
        reason: why.
        reply: what the customer is told.
        person: who.
        decided_at: when, by the database's clock.
    """

    case_id: str
    order_id: str
    version: int
    action: RecordedAction
    status_before: Status
    status: Status
    amount_before_usd: Decimal
    amount_usd: Decimal
    suggested_usd: Decimal | None
    reason: str
    reply: str | None
    person: str
    decided_at: datetime


@dataclass(frozen=True, slots=True)
class Payout:
    """What one case of an order gives.

    Args:
        kind: `refund` or `complaint`.
        case_id: the case.
        usd: the amount, also while it waits for a second person.
        is_settled: False while a decision is being recorded: the amount is what it gives at most.
    """

    kind: str
    case_id: str
    usd: Decimal
    is_settled: bool


@dataclass(frozen=True, slots=True)
class OrderBalance:
    """What an order is worth and what its cases give.

    Args:
        total_usd: the order's total; None while it is not known.
        payouts: of the cases that give something.
    """

    total_usd: Decimal | None = None
    payouts: tuple[Payout, ...] = ()

    @property
    def given_usd(self) -> Decimal:
        """The payouts together."""
        return sum((payout.usd for payout in self.payouts), Decimal("0.00"))

    @property
    def left_usd(self) -> Decimal | None:
        """What may still be given; None while the total is not known, or is no number."""
        if self.total_usd is None or not self.total_usd.is_finite():
            return None
        return max(self.total_usd - self.given_usd, Decimal("0.00"))

    def without(self, kind: CaseKind, case_id: str) -> "OrderBalance":
        """The same for the order's other cases.

        Args:
            kind: the kind of the case to leave out.
            case_id: that case.
        """
        mine = (kind.noun, case_id)
        others = tuple(each for each in self.payouts if (each.kind, each.case_id) != mine)
        return OrderBalance(self.total_usd, others)


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """A case as it is when a decision is made.

    Args:
        case_id: the case.
        version: decisions made about it.
        status: where it is.
        amount_usd: what the customer gets, or will get after the second approval.
        suggested_usd: the agent's amount; None where its answer has none, or is not there.
        order: its order's worth, and what the order's other cases give.
        decided_by: who made the latest decision; None before the first.
        decided_at: when.
        decided_action: what it was.
        decided_seconds_ago: how long ago, by the database's clock.
        status_before: where the case was before it.
        is_grave: the agent says that a person has to read it.
        is_there: whether the agent's answer is still there.
    """

    case_id: str
    version: int = 0
    status: Status = "pending"
    amount_usd: Decimal = Decimal("0.00")
    suggested_usd: Decimal | None = None
    order: OrderBalance = OrderBalance()
    decided_by: str | None = None
    decided_at: datetime | None = None
    decided_action: RecordedAction | None = None
    decided_seconds_ago: float = 0.0
    status_before: Status = "pending"
    is_grave: bool = False
    is_there: bool = True


@dataclass(frozen=True, slots=True)
class Step:
    """What a decision makes of a case.

    Args:
        action: as the audit trail says it.
        status: afterwards.
        amount_usd: afterwards.
    """

    action: RecordedAction
    status: Status
    amount_usd: Decimal


RefusalCode: TypeAlias = Literal[
    "forbidden",
    "above_limit",
    "above_total",
    "not_found",
    "stale",
    "wrong_status",
    "wrong_request",
    "key_reused",
    "no_total",
    "suggestion_changed",
    "lost_connection",
]


class Refusal(ConsoleError):
    """A decision that is not made, and why.

    Args:
        code: which of the reasons.
        message: the reason as a sentence.
        hint: what to do about it; may be empty.
    """

    def __init__(self, code: RefusalCode, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code
