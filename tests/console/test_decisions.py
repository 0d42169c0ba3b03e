"""Decisions on a real Postgres: made once, within limits, and on record for ever."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from typing import Any, get_args

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caspers_lib.console.access import ConsoleAccess, Person
from caspers_lib.console.databases import ConsoleDatabase
from caspers_lib.console.decisions.deciding import DecisionStore
from caspers_lib.console.decisions.ledger import OrderLedger
from caspers_lib.console.decisions.steps import next_step
from caspers_lib.console.decisions.trail import trail_sql
from caspers_lib.console.decisions.values import (
    COMPLAINT_CASES,
    REFUND_CASES,
    TRANSITIONS,
    Action,
    CaseKind,
    Decided,
    DecisionRequest,
    OrderBalance,
    Refusal,
    Situation,
    Status,
)
from tests.console.conftest import ORDERS

ANN, BEN = Person("ann@example.com", "manager"), Person("ben@example.com", "manager")
AIDA, VIC = Person("aida@example.com", "agent"), Person("vic@example.com", "viewer")
ACCESS = ConsoleAccess(agent_limit_usd=Decimal("25.00"), four_eyes_usd=Decimal("100.00"))
USD = Decimal


def asks(case_id: str = "o-1", **words: Any) -> DecisionRequest:
    """The request to approve 7.50 USD, which is what the agent suggests, but for some words."""
    standard: dict[str, Any] = {"action": "approve", "amount_usd": USD("7.50"), "version": 0}
    said = standard | {"key": f"{case_id}-{sorted(words.items())}"} | words
    if said["action"] not in ("approve", "change"):
        said["amount_usd"] = words.get("amount_usd")
    return DecisionRequest(case_id=case_id, **said)


@pytest.fixture
def refunds(business: Any) -> Any:
    """The decisions about refunds, with one order of 40 USD for which 7.50 USD are suggested."""
    business.refund("o-1")
    yield from stores(business, REFUND_CASES)


@pytest.fixture
def complaints(business: Any) -> Any:
    """The decisions about complaints, with one for which 5.25 USD are suggested."""
    business.complaint("c-1", order="o-1")
    yield from stores(business, COMPLAINT_CASES)


def stores(business: Any, kind: CaseKind) -> Iterator[DecisionStore]:
    """The decisions about a kind, with an order of 40 and one of 900 USD."""
    business.worth("o-1", "40.00")
    business.worth("o-2", "900.00")
    refunds, complaints = (database(business, each) for each in (REFUND_CASES, COMPLAINT_CASES))
    with closing(refunds), closing(complaints):
        own = refunds if kind == REFUND_CASES else complaints
        ledger = OrderLedger(refunds, ORDERS["orders"], complaints)
        yield DecisionStore(kind, own, ledger, no_cities, ACCESS)


def database(business: Any, kind: CaseKind) -> ConsoleDatabase:
    name = kind.spec.database
    return ConsoleDatabase(name, lambda: business.addresses[name], connections=16)


def no_cities(_: Any) -> dict[str, str]:
    return {}


def code(store: DecisionStore, request: DecisionRequest, person: Person = ANN) -> str:
    with pytest.raises(Refusal) as refused:
        store.decide(request, person)
    return refused.value.code


def test_an_approval_is_on_record_with_what_was_before(refunds: DecisionStore) -> None:
    made = refunds.decide(asks(reason=" good customer "), ANN)
    assert (made.version, made.action, made.status) == (1, "approve", "approved")
    assert (made.status_before, made.amount_before_usd) == ("pending", 0)
    assert (made.amount_usd, made.suggested_usd) == (USD("7.50"), USD("7.50"))
    assert (made.person, made.reason) == (ANN.name, "good customer")
    assert refunds.trail("o-1") == (made,)
    assert refunds.latest(10) == (made,)


def test_a_hundred_approvals_at_once_give_one_refund(refunds: DecisionStore) -> None:
    def approve(number: int) -> Decided | str:
        try:
            return refunds.decide(asks(key=f"click {number}"), Person(f"p{number}", "manager"))
        except Refusal as refusal:
            return refusal.code

    with ThreadPoolExecutor(50) as pool:
        ended = list(pool.map(approve, range(100)))
    assert sum(isinstance(each, Decided) for each in ended) == 1
    assert ended.count("stale") == 99
    [row] = refunds.trail("o-1")
    assert row.amount_usd == USD("7.50")


def test_the_same_request_sent_a_hundred_times_is_made_once_and_answered_the_same(
    refunds: DecisionStore,
) -> None:
    with ThreadPoolExecutor(50) as pool:
        ended = set(pool.map(lambda _: refunds.decide(asks(), ANN), range(100)))
    assert len(ended) == 1
    assert len(refunds.trail("o-1")) == 1


def test_a_key_is_good_for_one_request(refunds: DecisionStore, business: Any) -> None:
    business.refund("o-2")
    refunds.decide(asks(key="k"), ANN)
    assert code(refunds, asks(key="k", reason="more"), ANN) == "key_reused"
    assert code(refunds, asks(key="k"), BEN) == "key_reused"
    assert code(refunds, asks("o-2", key="k"), ANN) == "key_reused"


def test_two_who_decide_at_once_one_is_told_what_the_other_did(refunds: DecisionStore) -> None:
    refunds.decide(asks(action="reject", reason="on time"), ANN)
    with pytest.raises(Refusal, match=r"ann@example\.com rejected at 2.* UTC") as refused:
        refunds.decide(asks(), BEN)
    assert refused.value.code == "stale"


def test_no_amount_is_above_the_orders_total_or_a_persons_limit(refunds: DecisionStore) -> None:
    change = asks(action="change", amount_usd=USD("40.01"), reason="all")
    assert code(refunds, change) == "above_total"
    assert code(refunds, replace(change, amount_usd=USD("26")), AIDA) == "above_limit"
    assert code(refunds, asks(), VIC) == "forbidden"
    assert refunds.decide(replace(change, amount_usd=USD("40")), ANN).status == "changed"


def test_above_a_limit_two_managers_have_to_agree(refunds: DecisionStore, business: Any) -> None:
    business.refund("o-2", refund_usd=101)
    first = refunds.decide(asks("o-2", amount_usd=USD("101.00")), ANN)
    assert (first.status, first.amount_usd) == ("waiting", 101)
    second = asks("o-2", amount_usd=USD("101.00"), version=1, key="second")
    assert code(refunds, second, ANN) == "forbidden"
    assert code(refunds, second, AIDA) == "forbidden"
    assert code(refunds, replace(second, amount_usd=USD("900"))) == "forbidden"
    assert code(refunds, replace(second, amount_usd=USD("900")), BEN) == "suggestion_changed"
    done = refunds.decide(second, BEN)
    assert (done.action, done.status, done.amount_usd) == ("second_approval", "approved", 101)


def test_a_reversal_needs_a_manager_and_a_reason_and_then_it_can_be_given_again(
    refunds: DecisionStore,
) -> None:
    refunds.decide(asks(), AIDA)
    back = asks(action="reverse", version=1, reason="wrong order")
    assert code(refunds, back, AIDA) == "forbidden"
    assert code(refunds, replace(back, reason=" "), ANN) == "wrong_request"
    assert refunds.decide(back, ANN).status == "pending"
    assert refunds.decide(asks(version=2, key="again"), AIDA).version == 3
    assert [each.status for each in refunds.trail("o-1")] == ["approved", "pending", "approved"]


def test_who_decided_undoes_it_within_ten_seconds_and_nobody_else(
    refunds: DecisionStore, business: Any
) -> None:
    refunds.decide(asks(), AIDA)
    undo = asks(action="undo", version=1)
    assert code(refunds, undo, ANN) == "forbidden"
    assert code(refunds, undo, VIC) == "forbidden"
    undone = refunds.decide(undo, AIDA)
    assert (undone.action, undone.status, undone.amount_usd) == ("undo", "pending", 0)
    assert undone.amount_before_usd == USD("7.50")
    assert code(refunds, asks(action="undo", version=2), AIDA) == "wrong_status"
    refunds.decide(asks(version=2, key="again"), AIDA)
    refunds.decide(asks(action="reverse", version=3, reason="no"), ANN)
    assert code(refunds, asks(action="undo", version=3, key="late"), AIDA) == "stale"
    assert code(refunds, asks(action="undo", version=4), ANN) == "wrong_status"
    refunds.decide(asks(version=4, key="third"), AIDA)
    age_decisions(business, seconds=11)
    with pytest.raises(Refusal, match="The 10 seconds to undo are over") as refused:
        refunds.decide(asks(action="undo", version=5), AIDA)
    assert refused.value.code == "wrong_status"
    assert refunds.trail("o-1")[-1].status == "approved"


def age_decisions(business: Any, *, seconds: int) -> None:
    """Let the decisions about refunds be made that long ago."""
    trail = REFUND_CASES.trail
    with business.connect(REFUND_CASES.spec) as connection:
        connection.execute(
            f"ALTER TABLE {trail} DISABLE TRIGGER append_only;"
            f"UPDATE {trail} SET decided_at = decided_at - interval '{seconds} seconds';"
            f"ALTER TABLE {trail} ENABLE TRIGGER append_only".encode()
        )


def test_undoing_a_second_approval_takes_two_people_again(
    refunds: DecisionStore, business: Any
) -> None:
    business.refund("o-2", refund_usd=101)
    usd = USD("101.00")
    refunds.decide(asks("o-2", amount_usd=usd), ANN)
    refunds.decide(asks("o-2", amount_usd=usd, version=1), BEN)
    assert refunds.decide(asks("o-2", action="undo", version=2), BEN).status == "pending"
    again = refunds.decide(asks("o-2", amount_usd=usd, version=3), ANN)
    assert again.status == "waiting"


def test_undoing_what_ended_an_escalated_case_leaves_it_escalated(
    complaints: DecisionStore,
) -> None:
    complaints.decide(asks("c-1", action="escalate", reason="a lawyer writes"), AIDA)
    complaints.decide(asks("c-1", action="reject", version=1, reason="settled"), ANN)
    undone = complaints.decide(asks("c-1", action="undo", version=2), ANN)
    assert (undone.status_before, undone.status) == ("rejected", "escalated")
    closing = asks("c-1", action="reject", version=3, reason="mine")
    assert code(complaints, closing, AIDA) == "forbidden"


@pytest.mark.parametrize(
    "answer",
    [{"decision": "escalate", "credit_amount": None, "priority": "high"},
     {"decision": "escalate", "credit_amount": None, "priority": "urgent"},
     {"decision": " Escalate", "credit_amount": None, "priority": None},
     {"decision": "suggest_credit", "credit_amount": 5.25, "priority": "URGENT"}],
)  # fmt: skip
def test_a_grave_complaint_is_not_ended_without_a_reason(
    business: Any, complaints: DecisionStore, answer: dict[str, object]
) -> None:
    business.complaint("grave", order="o-1", **answer)
    for reason in ("", "  \n"):
        assert code(complaints, asks("grave", action="reject", reason=reason)) == "wrong_request"
        accept = asks("grave", amount_usd=USD("5.25"), reason=reason)
        assert code(complaints, accept) == "wrong_request"
    refused, made = complaints.decide_each(
        [asks("grave", action="reject", key="in bulk"), asks("c-1", action="reject")], ANN
    )
    assert isinstance(refused, Refusal)
    assert isinstance(made, Decided)
    closed = complaints.decide(asks("grave", action="reject", reason="called them"), ANN)
    assert closed.status == "rejected"


def test_a_trail_of_an_older_console_learns_to_undo(refunds: DecisionStore, business: Any) -> None:
    refunds.decide(asks(), ANN)
    older = ", ".join(f"('{a}', '{b}', '{c}')" for a, b, c in TRANSITIONS if b != "undo")
    with business.connect(REFUND_CASES.spec) as connection:
        connection.execute(
            f"ALTER TABLE {REFUND_CASES.trail} DROP CONSTRAINT undone_by_who_decided,"
            " DROP CONSTRAINT is_a_transition, ADD CONSTRAINT is_a_transition"
            f" CHECK ((status_before, action, status) IN ({older}))".encode()
        )
    assert refunds.decide(asks(action="undo", version=1), ANN).status == "pending"


def test_an_order_that_vanished_or_changed_while_the_page_was_open(
    refunds: DecisionStore, business: Any
) -> None:
    assert code(refunds, asks("o-9")) == "not_found"
    business.refund("o-3")
    assert code(refunds, asks("o-3")) == "no_total"
    with business.connect(REFUND_CASES.spec) as connection:
        connection.execute(
            "UPDATE recommender.pg_recommendations SET agent_response = "
            """'{"refund_usd": 3.25, "refund_class": "partial"}' WHERE order_id = 'o-1'"""
        )
    assert code(refunds, asks()) == "suggestion_changed"
    assert refunds.trail("o-1") == ()


def test_in_bulk_one_that_is_refused_leaves_the_others_be(
    refunds: DecisionStore, business: Any
) -> None:
    business.refund("o-2", refund_usd=7.5)
    first, second, third = refunds.decide_each([asks(), asks("gone"), asks("o-2")], ANN)
    assert isinstance(first, Decided)
    assert isinstance(second, Refusal)
    assert isinstance(third, Decided)


def test_a_complaint_is_accepted_with_a_reply_escalated_or_closed(
    complaints: DecisionStore,
) -> None:
    up = complaints.decide(asks("c-1", action="escalate", reason="a lawyer writes"), AIDA)
    assert (up.status, up.order_id) == ("escalated", "o-1")
    accept = asks("c-1", amount_usd=USD("5.25"), version=1, reply="We are sorry. <3")
    assert code(complaints, accept, ANN) == "wrong_request"
    accept = replace(accept, reason="the lawyer agrees")
    assert code(complaints, accept, AIDA) == "forbidden"
    done = complaints.decide(accept, ANN)
    assert (done.status, done.amount_usd, done.reply) == ("approved", USD("5.25"), accept.reply)


def test_refunds_know_no_reply_and_no_escalation(refunds: DecisionStore) -> None:
    assert code(refunds, asks(action="escalate", reason="x")) == "wrong_request"
    assert code(refunds, asks(reply="Hello")) == "wrong_request"


def test_the_trail_is_append_only_and_holds_every_row_to_its_chain(
    refunds: DecisionStore, business: Any
) -> None:
    refunds.decide(asks(), ANN)

    def refused(statement: str, by: type[psycopg.Error]) -> None:
        with business.connect(REFUND_CASES.spec) as connection, pytest.raises(by):
            connection.execute(statement.encode())

    trail = REFUND_CASES.trail
    for change in (f"UPDATE {trail} SET reason = ''", f"DELETE FROM {trail}", f"TRUNCATE {trail}"):
        refused(change, psycopg.errors.InsufficientPrivilege)
    row = (
        f"INSERT INTO {trail} (case_id, version, order_id, action, status_before, status,"
        " amount_before_usd, amount_usd, order_total_usd, reason, person, person_before, key,"
        " asked)"
        " VALUES ('o-1', {version}, 'o-1', '{action}', '{before}', '{status}', {had}, {gets},"
        " {total}, '', '{person}', '{earlier}', '{key}', '')"
    )
    good: dict[str, Any] = {
        "version": 2, "action": "reverse", "before": "approved", "status": "pending", "had": 7.5,
        "gets": 0, "total": 40, "person": "x", "earlier": ANN.name, "key": "k",
    }  # fmt: skip
    wrong: list[tuple[dict[str, Any], type[psycopg.Error]]] = [
        ({"version": 1}, psycopg.errors.CheckViolation),
        (
            {
                "version": 1,
                "before": "pending",
                "action": "approve",
                "status": "approved",
                "had": 0,
                "gets": 7.5,
                "earlier": "",
            },
            psycopg.errors.UniqueViolation,
        ),
        ({"version": 3}, psycopg.errors.ForeignKeyViolation),
        ({"had": 8}, psycopg.errors.ForeignKeyViolation),
        ({"earlier": "somebody"}, psycopg.errors.ForeignKeyViolation),
        ({"before": "rejected"}, psycopg.errors.ForeignKeyViolation),
        ({"action": "approve", "status": "approved", "gets": 7.5}, psycopg.errors.CheckViolation),
        ({"action": "undo"}, psycopg.errors.CheckViolation),
        ({"gets": 1}, psycopg.errors.CheckViolation),
        ({"gets": "'NaN'"}, psycopg.errors.CheckViolation),
        ({"key": ""}, psycopg.errors.CheckViolation),
        ({"person": ""}, psycopg.errors.CheckViolation),
    ]
    for words, error in wrong:
        refused(row.format(**good | words), error)
    with business.connect(REFUND_CASES.spec) as connection:
        connection.execute(row.format(**good).encode())
    first = {"version": 3, "action": "change", "before": "pending", "status": "changed", "had": 0,
             "earlier": "x", "key": "l"}  # fmt: skip
    for total in ("40", "'NaN'", "NULL"):
        over = row.format(**good | first | {"gets": "40.01", "total": total})
        refused(over, psycopg.errors.CheckViolation)


def test_the_trail_can_be_made_again_and_by_many_at_once(
    refunds: DecisionStore, business: Any
) -> None:
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda _: refunds.latest(1), range(16))) == [()] * 16
    with business.connect(REFUND_CASES.spec) as connection:
        connection.execute(trail_sql(REFUND_CASES).encode())


def test_hostile_text_is_on_record_as_it_is(
    refunds: DecisionStore, business: Any, hostile_texts: tuple[str, ...]
) -> None:
    for number, text in enumerate(each for each in hostile_texts if len(each) < 2000):
        business.refund(text)
        business.worth(text, "40")
        made = refunds.decide(asks(text, reason=text, key=f"{number}"), Person(text, "manager"))
        assert (made.case_id, made.reason, made.person) == (text, text.strip(), text)


def test_a_connection_lost_in_the_middle_is_tried_once_more_under_the_same_key(
    refunds: DecisionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = DecisionStore._recorded
    calls: list[bool] = []

    def cut_after_commit(store: DecisionStore, connection: Any, *words: Any) -> Decided:
        made = recorded(store, connection, *words)
        calls.append(True)
        if len(calls) == 1:
            connection.commit()
            raise psycopg.OperationalError("the connection was lost")
        return made

    monkeypatch.setattr(DecisionStore, "_recorded", cut_after_commit)
    assert refunds.decide(asks(), ANN).version == 1
    assert len(calls) == 2
    assert len(refunds.trail("o-1")) == 1


def test_a_server_that_stays_away_is_said_so_and_nothing_is_half_made(
    refunds: DecisionStore,
) -> None:
    away = ConsoleDatabase("caspers", lambda: "host=/nowhere dbname=caspers")
    store = DecisionStore(REFUND_CASES, away, refunds.ledger, no_cities, ACCESS)
    with pytest.raises(Refusal, match="the decision may be made or not") as refused:
        store.decide(asks(), ANN)
    assert refused.value.code == "lost_connection"
    assert "nowhere" not in str(refused.value)
    assert refunds.trail("o-1") == ()


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """A complaint of 150 USD, undecided or last decided by Ann."""
    status = draw(st.sampled_from(get_args(Status)))
    is_decided = status != "pending"
    return Situation(
        case_id="o-1",
        version=int(is_decided),
        status=status,
        amount_usd=USD("120.00") if status == "waiting" else USD("5.00"),
        suggested_usd=draw(st.none() | st.decimals(min_value=0, max_value=200, places=2)),
        order=OrderBalance(USD("150.00")),
        decided_by=ANN.name if is_decided else None,
        decided_action="approve" if is_decided else None,
        decided_seconds_ago=draw(st.floats(min_value=0, max_value=20)),
        status_before=draw(st.sampled_from(["pending", "waiting", "escalated"])),
        is_grave=draw(st.booleans()),
    )


@given(
    now=situations(),
    action=st.sampled_from(get_args(Action)),
    amount=st.decimals(min_value=0, max_value=200, places=2),
    reason=st.sampled_from(["", " ", "why"]),
    person=st.sampled_from([ANN, BEN, AIDA, VIC]),
)
def test_whatever_is_asked_a_step_is_a_transition_within_the_limits(
    now: Situation, action: Any, amount: Decimal, reason: str, person: Person
) -> None:
    wanted = asks(
        action=action,
        amount_usd=amount if action in ("approve", "change") else None,
        version=now.version,
        reason=reason,
    )
    try:
        step = next_step(COMPLAINT_CASES, now, wanted, person, ACCESS)
    except Refusal:
        return
    assert (now.status, step.action, step.status) in TRANSITIONS
    assert person is not VIC
    if action in ("approve", "reject") and (now.is_grave or now.status == "escalated"):
        assert reason.strip()
    if action == "undo":
        assert person is ANN
        assert now.decided_seconds_ago <= 10
        assert step.status == ("escalated" if now.status_before == "escalated" else "pending")
    assert step.amount_usd <= USD("150.00")
    assert (step.amount_usd > 0) == (step.status in ("approved", "changed", "waiting"))
    if step.status in ("approved", "changed"):
        assert step.amount_usd <= 100 or step.action == "second_approval"
        assert person.role == "manager" or step.amount_usd <= 25
