"""What a decision leads to: pure functions of the case's situation, the request and the person.

The database refuses by constraints what these functions never ask for.
"""

from datetime import UTC
from decimal import Decimal

from caspers_lib.console.access import ConsoleAccess, Person
from caspers_lib.console.decisions.values import (
    CENT,
    TRANSITIONS,
    UNDO_SECONDS,
    CaseKind,
    DecisionRequest,
    RecordedAction,
    Refusal,
    Situation,
    Status,
    Step,
)

__all__ = ["next_step", "refuse_viewers", "refuse_wrong_requests"]

_SHOWN_ID = 80
_NO_MONEY = Decimal("0.00")


def refuse_viewers(person: Person) -> None:
    """Refuse who may only look.

    Raises:
        Refusal: the person is a viewer.
    """
    if person.role == "viewer":
        raise Refusal(
            "forbidden",
            f"{person.name} may look, not decide.",
            hint="A manager of the console can give you the role of an agent.",
        )


def refuse_wrong_requests(kind: CaseKind, wanted: DecisionRequest) -> None:
    """Refuse what can't be meant, whatever the case's situation.

    Raises:
        Refusal: a field is missing, or has no meaning with the action.
    """
    if (wanted.amount_usd is not None) != (wanted.action in ("approve", "change")):
        needs = "needs" if wanted.amount_usd is None else "has no"
        raise Refusal("wrong_request", f"The action {wanted.action} {needs} amount_usd.")
    if wanted.action in ("change", "escalate", "reverse") and not wanted.reason.strip():
        raise Refusal("wrong_request", f"The action {wanted.action} needs a reason.")
    if not kind.has_reply and wanted.action == "escalate":
        raise Refusal("wrong_request", f"A {kind.noun} can't be escalated; leave it pending.")
    if not kind.has_reply and wanted.reply is not None:
        raise Refusal("wrong_request", f"A {kind.noun} has no reply.")


def next_step(
    kind: CaseKind,
    now: Situation,
    wanted: DecisionRequest,
    person: Person,
    access: ConsoleAccess,
) -> Step:
    """What the request leads to.

    Args:
        kind: what is decided about.
        now: the case, locked.
        wanted: the request.
        person: who asks.
        access: the limits.

    Raises:
        Refusal: it is not allowed, or the case is no longer what the person saw.
    """
    refuse_viewers(person)
    refuse_wrong_requests(kind, wanted)
    if wanted.version != now.version:
        raise _stale(kind, now)
    if now.status == "pending" and not now.is_there:
        raise Refusal(
            "not_found",
            f"There is no answer of the agent for {_shown(kind, now)}.",
            hint="Load the list again.",
        )
    if wanted.action == "undo":
        return _undo(kind, now, person)
    if wanted.action == "reverse":
        return _reversal(kind, now, person)
    ends_it = wanted.action in ("approve", "reject")
    if ends_it and (now.is_grave or now.status == "escalated") and not wanted.reason.strip():
        raise Refusal(
            "wrong_request",
            "An urgent or escalated complaint is not decided without a reason, "
            f"{_shown(kind, now)}.",
            hint="Read it, then give the reason.",
        )
    if now.status == "escalated":
        _managers_only(person, f"decide what was escalated, {_shown(kind, now)}")
    if wanted.action == "reject":
        return _rejection(kind, now, person)
    if wanted.action == "escalate":
        return _step(kind, now, "escalate", "escalated", _NO_MONEY)
    if now.status == "waiting" and wanted.action == "approve":
        return _second_approval(kind, now, wanted, person)
    return _approval(kind, now, wanted, person, access)


def _approval(
    kind: CaseKind,
    now: Situation,
    wanted: DecisionRequest,
    person: Person,
    access: ConsoleAccess,
) -> Step:
    if now.status not in ("pending", "escalated"):
        raise _wrong_status(kind, now, wanted.action)
    amount = _amount(kind, now, wanted)
    _refuse_above_total(kind, now, amount)
    if person.role == "agent" and amount > access.agent_limit_usd:
        raise Refusal(
            "above_limit",
            f"{amount} USD is above your limit of {access.agent_limit_usd} USD.",
            hint="Ask a manager to decide it.",
        )
    alone = amount <= access.four_eyes_usd
    done: Status = "approved" if wanted.action == "approve" else "changed"
    return _step(kind, now, wanted.action, done if alone else "waiting", amount)


def _second_approval(
    kind: CaseKind, now: Situation, wanted: DecisionRequest, person: Person
) -> Step:
    _managers_only(person, f"approve what waits for a second person, {_shown(kind, now)}")
    if person.name == now.decided_by:
        raise Refusal(
            "forbidden",
            f"You approved {_shown(kind, now)} first; a second person has to approve it too.",
            hint="Ask another manager.",
        )
    if wanted.amount_usd != now.amount_usd:
        raise Refusal(
            "suggestion_changed",
            f"{wanted.amount_usd} USD is not what waits for {_shown(kind, now)}, "
            f"{now.amount_usd} USD.",
            hint="Load it again.",
        )
    done: Status = "approved" if now.decided_action == "approve" else "changed"
    return _step(kind, now, "second_approval", done, now.amount_usd)


def _rejection(kind: CaseKind, now: Situation, person: Person) -> Step:
    if now.status not in ("pending", "waiting", "escalated"):
        raise _wrong_status(kind, now, "reject")
    if now.status == "waiting":
        _managers_only(person, f"reject what waits for a second person, {_shown(kind, now)}")
    return _step(kind, now, "reject", "rejected", _NO_MONEY)


def _reversal(kind: CaseKind, now: Situation, person: Person) -> Step:
    _managers_only(person, "reverse a decision")
    if now.status == "pending":
        raise Refusal("wrong_status", f"There is no decision to reverse about {_shown(kind, now)}.")
    return _step(kind, now, "reverse", "pending", _NO_MONEY)


def _undo(kind: CaseKind, now: Situation, person: Person) -> Step:
    if now.decided_action in (None, "reverse", "undo"):
        raise Refusal("wrong_status", f"There is no decision to undo about {_shown(kind, now)}.")
    if person.name != now.decided_by:
        raise Refusal(
            "forbidden",
            f"Only {now.decided_by} may undo what they decided about {_shown(kind, now)}.",
            hint="A manager can reverse a decision, with a reason.",
        )
    if now.decided_seconds_ago > UNDO_SECONDS:
        raise Refusal(
            "wrong_status",
            f"The {UNDO_SECONDS} seconds to undo are over: {_latest(kind, now)}.",
            hint="A manager can reverse a decision, with a reason.",
        )
    # Two people have to agree anew: who undoes must not become the first of them.
    back: Status = "escalated" if now.status_before == "escalated" else "pending"
    return _step(kind, now, "undo", back, _NO_MONEY)


def _step(
    kind: CaseKind, now: Situation, action: RecordedAction, status: Status, amount: Decimal
) -> Step:
    if (now.status, action, status) not in TRANSITIONS:
        raise _wrong_status(kind, now, action)
    return Step(action, status, amount)


def _amount(kind: CaseKind, now: Situation, wanted: DecisionRequest) -> Decimal:
    """The amount to give; an approval is of the very amount that the person saw."""
    amount = wanted.amount_usd or _NO_MONEY
    if wanted.action == "approve" and (now.suggested_usd is None or now.suggested_usd < CENT):
        raise Refusal(
            "wrong_status",
            f"The agent suggests no amount that could be approved for {_shown(kind, now)}.",
            hint="Change the amount, or reject.",
        )
    if wanted.action == "approve" and amount != now.suggested_usd:
        raise Refusal(
            "suggestion_changed",
            f"The agent suggests {now.suggested_usd} USD for {_shown(kind, now)}, "
            f"you approved {amount} USD.",
            hint="Load it again.",
        )
    if amount < CENT:
        raise Refusal(
            "wrong_request", f"{amount} USD gives the customer nothing.", hint="Reject it instead."
        )
    return amount


def _refuse_above_total(kind: CaseKind, now: Situation, amount: Decimal) -> None:
    total, left = now.order.total_usd, now.order.left_usd
    if total is None or left is None:
        raise Refusal(
            "no_total",
            f"The order's total is not known yet, {_shown(kind, now)}.",
            hint="It comes with the next sync of the orders; decide then.",
        )
    if amount <= left:
        return
    of_what, given = f"the order's total of {total} USD", now.order.given_usd
    if given:
        others = ", ".join(f"{each.kind} {_short(each.case_id)}" for each in now.order.payouts)
        of_what = f"the {left} USD that are left of {of_what}: {given} USD are given by {others}"
    raise Refusal(
        "above_total",
        f"{amount} USD is more than {of_what}, {_shown(kind, now)}.",
        hint=f"Give {left} USD at most." if left else "Reject it, or reverse the other one first.",
    )


def _managers_only(person: Person, what: str) -> None:
    if person.role != "manager":
        raise Refusal("forbidden", f"Only a manager may {what}.", hint="Ask a manager.")


def _stale(kind: CaseKind, now: Situation) -> Refusal:
    return Refusal(
        "stale",
        f"This is not what you saw any more, {_shown(kind, now)}: {_latest(kind, now)}.",
        hint="Load it again, then decide.",
    )


def _wrong_status(kind: CaseKind, now: Situation, action: str) -> Refusal:
    return Refusal(
        "wrong_status",
        f"Can't {action.replace('_', ' ')} {_shown(kind, now)}: {_latest(kind, now)}.",
        hint="A manager can reverse a decision, with a reason.",
    )


def _latest(kind: CaseKind, now: Situation) -> str:
    if now.decided_by is None or now.decided_at is None:
        return "nobody has decided it yet"
    when = now.decided_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    amount = f" with {now.amount_usd} USD" if now.amount_usd else ""
    what = "sent back to pending" if now.status == "pending" else kind.spoken(now.status)
    return f"{now.decided_by} {what}{amount} at {when}"


def _shown(kind: CaseKind, now: Situation) -> str:
    return f"{kind.case} {_short(now.case_id)}"


def _short(case_id: str) -> str:
    return case_id if len(case_id) <= _SHOWN_ID else f"{case_id[:_SHOWN_ID]}…"
