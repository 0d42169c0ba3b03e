"""The list of cases on a real Postgres: filters, sorts, pages and counts."""

import base64
import json
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from pydantic import ValidationError

from caspers_lib.console.decisions.cases import (
    Case,
    CaseFilter,
    CasePage,
    case_page,
    one_case,
)
from caspers_lib.console.decisions.intake import CaseIntake
from caspers_lib.console.decisions.values import COMPLAINT_CASES, REFUND_CASES
from caspers_lib.errors import ConsoleError
from tests.console.conftest import NOON

INTAKE = CaseIntake(REFUND_CASES, lambda _: {})
OF_COMPLAINTS = CaseIntake(COMPLAINT_CASES, lambda _: {})


@pytest.fixture
def connection(business: Any) -> Any:
    with business.connect(REFUND_CASES.spec) as connection:
        INTAKE.take_in(connection)
        yield connection


def listed(connection: Any, **wanted: Any) -> list[str]:
    INTAKE.take_in(connection)
    return [case.case_id for case in case_page(connection, REFUND_CASES, CaseFilter(**wanted)).rows]


def decided(
    connection: psycopg.Connection, case_id: str, status: str, *, version: int = 1, **row: Any
) -> None:
    standard = {
        "case_id": case_id, "version": version, "order_id": case_id, "status": status,
        "action": {"approved": "approve", "rejected": "reject", "pending": "reverse"}[status],
        "status_before": "pending", "amount_before_usd": 0,
        "amount_usd": 5 if status == "approved" else 0, "order_total_usd": 40, "reason": "why",
        "person": "ann", "person_before": "", "key": f"{case_id} {version}", "asked": "",
    } | row  # fmt: skip
    columns, marks = ", ".join(standard), ", ".join(["%s"] * len(standard))
    query = f"INSERT INTO {REFUND_CASES.trail} ({columns}) VALUES ({marks})"
    connection.execute(query.encode(), list(standard.values()))


def test_an_open_page_keeps_its_cases_in_their_places(business: Any, connection: Any) -> None:
    for number in range(6):
        business.refund(f"o-{number}", minute=number)
    first = case_page_of(connection, limit=3)
    shown = [case.case_id for case in first.rows]
    assert shown == ["o-5", "o-4", "o-3"]
    business.refund("newer", minute=9)
    business.refund("older", minute=-9)
    decided(connection, "o-4", "approved")
    again = case_page_of(connection, shown, limit=3)
    assert [(case.case_id, case.status) for case in again.rows] == [
        ("o-5", "pending"), ("o-4", "approved"), ("o-3", "pending")
    ]  # fmt: skip
    assert (again.unseen, again.count, again.next) == (1, 7, first.next)
    second = case_page_of(connection, limit=3, after=first.next)
    assert [case.case_id for case in second.rows] == ["o-2", "o-1", "o-0"]
    last = case_page_of(connection, ["o-0", "older"], limit=3, after=first.next)
    assert (last.unseen, last.next) == (2, None)
    assert case_page_of(connection, ["no such"]).rows[0].case_id == "newer"


def case_page_of(connection: Any, shown: Sequence[str] = (), **wanted: Any) -> CasePage:
    INTAKE.take_in(connection)
    return case_page(connection, REFUND_CASES, CaseFilter(**wanted), shown=shown)


def test_open_is_what_waits_for_a_person_newest_first(business: Any, connection: Any) -> None:
    business.refund("old", minute=1)
    business.refund("new", minute=2)
    business.refund("on time", minute=3, refund_class="none", refund_usd=0)
    business.refund("done", minute=4)
    business.refund("given and taken back", minute=5)
    decided(connection, "done", "approved")
    decided(connection, "given and taken back", "approved")
    decided(
        connection, "given and taken back", "pending", version=2, status_before="approved",
        amount_before_usd=5, person_before="ann",
    )  # fmt: skip
    assert listed(connection) == ["given and taken back", "new", "old"]
    assert listed(connection, sort="oldest") == ["old", "new", "given and taken back"]
    assert listed(connection, status="approved") == ["done"]
    assert listed(connection, status="rejected") == []
    assert len(listed(connection, status="all")) == 5


def test_a_case_carries_its_answer_and_its_latest_decision(business: Any, connection: Any) -> None:
    business.refund("o-1", minute=3, took=71)
    decided(connection, "o-1", "rejected")
    INTAKE.take_in(connection)
    assert one_case(connection, REFUND_CASES, "nobody") is None
    case = one_case(connection, REFUND_CASES, "o-1")
    assert isinstance(case, Case)
    assert (case.at, case.minutes) == (NOON + timedelta(minutes=3), 71)
    assert (case.label, case.suggested_usd, case.source) == ("partial", Decimal("7.50"), "rules")
    assert (case.version, case.status, case.person, case.reason) == (1, "rejected", "ann", "why")


def test_filters_narrow_the_list_and_the_count(business: Any, connection: Any) -> None:
    day = 24 * 60
    business.refund("a", refund_usd=2, source="rules", reason="100% late_ish")
    business.refund("b", minute=day, refund_usd=30, refund_class="full", source="model")
    business.refund("xyz", minute=2 * day, refund_usd=9)
    assert listed(connection, label="full") == ["b"]
    assert listed(connection, source="rules") == ["xyz", "a"]
    assert listed(connection, min_usd="2.01", max_usd="29.99") == ["xyz"]
    assert listed(connection, since="2024-03-12", until="2024-03-12") == ["b"]
    assert listed(connection, text="xyz") == ["xyz"]
    assert listed(connection, text="0% LATE_") == ["a"]
    assert listed(connection, text="%") == ["a"]
    assert listed(connection, sort="amount") == ["b", "xyz", "a"]
    page = case_page(connection, REFUND_CASES, CaseFilter(source="rules", limit=1))
    assert (len(page.rows), page.count, page.is_exact) == (1, 2, True)
    page = case_page(connection, REFUND_CASES, CaseFilter(limit=1), most=2)
    assert (len(page.rows), page.count, page.is_exact) == (1, 2, False)


@pytest.mark.parametrize("sort", ["newest", "oldest", "amount"])
def test_pages_show_every_case_once_also_when_some_come_in_between(
    business: Any, connection: Any, sort: Any
) -> None:
    for number in range(10):
        business.refund(f"o-{number}", minute=number // 3, refund_usd=5 + number // 4)
    whole = listed(connection, sort=sort)
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        page = case_page(connection, REFUND_CASES, CaseFilter(sort=sort, limit=3, after=after))
        seen += [case.case_id for case in page.rows]
        if len(seen) == 3:
            first = {"newest": 99, "oldest": -99, "amount": 0}[sort]
            business.refund("late", minute=first, refund_usd=99)
            INTAKE.take_in(connection)
        after = page.next
    assert seen == whole


def test_a_place_of_another_list_or_of_nowhere_is_refused(business: Any, connection: Any) -> None:
    for number in range(3):
        business.refund(f"o-{number}")
    INTAKE.take_in(connection)
    page = case_page(connection, REFUND_CASES, CaseFilter(limit=1))
    assert page.next
    for after in (page.next, page.next[:-4], "yesterday", "é", "bnVsbA==", "W10=", "AAAA"):
        other = CaseFilter(limit=1, after=after, source="rules")
        with pytest.raises(ConsoleError, match="The place in the list is none of this list"):
            case_page(connection, REFUND_CASES, other)


@pytest.mark.parametrize(
    ("field", "value"),
    [("worth", "1E+999999"), ("worth", "NaN"), ("rank", 10**9), ("number", 2**63), ("at", "now")],
)
def test_a_forged_place_is_refused(
    business: Any, connection: Any, field: str, value: object
) -> None:
    for number in range(2):
        business.refund(f"o-{number}")
    INTAKE.take_in(connection)
    page = case_page(connection, REFUND_CASES, CaseFilter(limit=1, sort="amount"))
    place = json.loads(base64.urlsafe_b64decode(page.next or ""))
    forged = base64.urlsafe_b64encode(json.dumps(place | {field: value}).encode()).decode()
    wanted = CaseFilter(limit=1, sort="amount", after=forged)
    with pytest.raises(ConsoleError, match="The place in the list is none of this list"):
        case_page(connection, REFUND_CASES, wanted)


@pytest.mark.parametrize(
    "wanted",
    [{"colour": "red"}, {"min_usd": "-1"}, {"min_usd": "NaN"}, {"max_usd": "1e309"},
     {"status": "lost"}, {"since": "yesterday"}, {"limit": 0}, {"text": "a\0b"}],
)  # fmt: skip
def test_a_filter_nobody_knows_is_refused(wanted: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CaseFilter(**wanted)


def test_complaints_are_listed_with_what_was_escalated(business: Any) -> None:
    business.complaint("c-1", minute=1)
    business.complaint("c-2", minute=2, decision="escalate", credit_amount=None, priority="urgent")
    with business.connect(COMPLAINT_CASES.spec) as connection:
        OF_COMPLAINTS.take_in(connection)
        page = case_page(connection, COMPLAINT_CASES, CaseFilter())
        assert [(c.case_id, c.label, c.priority) for c in page.rows] == [
            ("c-2", "escalate", "urgent"),
            ("c-1", "suggest_credit", "standard"),
        ]
        assert page.rows[1].suggested_reply == "We are sorry that it took so long."


def test_the_most_urgent_complaints_come_first_page_by_page(business: Any) -> None:
    for number, priority in enumerate(["standard", "urgent", None, "high", "urgent", "odd"]):
        business.complaint(f"c-{number}", minute=number, priority=priority)
    seen: list[str] = []
    after: str | None = ""
    with business.connect(COMPLAINT_CASES.spec) as connection:
        OF_COMPLAINTS.take_in(connection)
        while after is not None:
            wanted = CaseFilter(sort="priority", limit=2, after=after)
            page = case_page(connection, COMPLAINT_CASES, wanted)
            seen, after = seen + [case.case_id for case in page.rows], page.next
    assert seen == ["c-4", "c-1", "c-3", "c-0", "c-5", "c-2"]


def test_hostile_text_is_listed_found_and_paged_as_it_is(
    business: Any, connection: Any, hostile_texts: tuple[str, ...]
) -> None:
    for text in hostile_texts:
        business.refund(text, reason=text)
    assert set(listed(connection, limit=200)) == set(hostile_texts)
    for text in hostile_texts:
        if len(text) <= 200:
            assert text in listed(connection, text=text)
    first = case_page(connection, REFUND_CASES, CaseFilter(limit=1))
    rest = case_page(connection, REFUND_CASES, CaseFilter(limit=200, after=first.next or ""))
    assert len(first.rows) + len(rest.rows) == len(hostile_texts)
