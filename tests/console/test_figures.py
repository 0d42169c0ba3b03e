"""The cards of a desk, and what a list makes of answers that are none, on a real Postgres."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caspers_lib.console.decisions.cases import Case, CaseFilter, case_page
from caspers_lib.console.decisions.figures import CaseFigures, CaseFiguresReader
from caspers_lib.console.decisions.intake import CaseIntake
from caspers_lib.console.decisions.values import COMPLAINT_CASES, REFUND_CASES, CaseKind
from caspers_lib.console.queries import TEXT_LIMIT


def taken_in(connection: Any, kind: CaseKind) -> None:
    CaseIntake(kind, lambda _: {}).take_in(connection)


def figures(business: Any, kind: CaseKind = REFUND_CASES) -> CaseFigures:
    with business.connect(kind.spec) as connection:
        taken_in(connection, kind)
        return CaseFiguresReader(kind).read(connection)


def cases(business: Any, kind: CaseKind = REFUND_CASES) -> tuple[Case, ...]:
    with business.connect(kind.spec) as connection:
        taken_in(connection, kind)
        return case_page(connection, kind, CaseFilter(status="all", limit=200)).rows


def test_empty_tables_sum_to_nothing(business: Any) -> None:
    for kind in (REFUND_CASES, COMPLAINT_CASES):
        found = figures(business, kind)
        assert (found.cases, found.suggested_usd, found.given_usd, found.decided) == (0, 0, 0, 0)
        assert (found.median_minutes, found.late_share) == (None, None)
        assert {str(found.suggested_usd), str(found.given_usd), str(found.pending_usd)} == {"0.00"}


def test_refunds_are_summed_over_all_answers(business: Any) -> None:
    business.refund("a", refund_class="none", refund_usd=0, took=30)
    business.refund("b", refund_usd=4.1, took=50)
    business.refund("c", refund_class="full", refund_usd=20.2, took=80)
    business.refund("yesterday", minute=-24 * 60, refund_usd=1, took=500)
    found = figures(business)
    assert (found.cases, found.suggested, found.suggested_usd) == (4, 3, Decimal("25.30"))
    assert (found.median_minutes, found.late_share) == (50, pytest.approx(1 / 3))


def test_what_people_gave_is_no_longer_pending(business: Any, client: Any) -> None:
    for order, usd in (("a", 4), ("b", 5), ("c", 6)):
        business.refund(order, refund_usd=usd)
        business.worth(order, "40")
    asked = {"version": 0, "reason": "r"}
    for decision in (
        {"case_id": "a", "action": "change", "amount_usd": 9, "key": "1"},
        {"case_id": "b", "action": "reject", "key": "2"},
    ):
        body = {"decisions": [asked | decision]}
        assert client.post("/api/refunds/decisions", json=body).status_code == 200
    found = figures(business)
    assert (found.decided, found.given_usd, found.pending_usd) == (2, 9, 6)


def test_sums_over_many_answers_are_remembered_for_a_while(business: Any) -> None:
    now = [0.0]
    reader = CaseFiguresReader(REFUND_CASES, clock=lambda: now[0])
    many = "SELECT 'o-' || i, now(), now(), '{}'::jsonb FROM generate_series(1, 30000) AS i"
    with business.connect(REFUND_CASES.spec) as connection:
        connection.execute(f"INSERT INTO {REFUND_CASES.spec.target} {many}".encode())
        for passed, expected in ((0.0, 30_000), (0.1, 30_000), (0.2, 30_001)):
            now[0] = passed
            taken_in(connection, REFUND_CASES)
            assert reader.read(connection).cases == expected
            if not passed:
                business.refund("one more")


def test_complaints_tell_credits_from_escalations(business: Any) -> None:
    business.complaint("a", credit_amount=3.3)
    business.complaint("b", credit_amount=4)
    business.complaint("c", decision="escalate", credit_amount=None)
    found = figures(business, COMPLAINT_CASES)
    assert (found.cases, found.suggested, found.suggested_usd) == (3, 2, Decimal("7.30"))
    assert found.escalated == 1


# What jsonb holds: any Unicode text but NUL, numbers of any size.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, width=64) | TEXTS
JSON = st.recursive(
    SCALARS.filter(lambda value: value not in {float("inf"), float("-inf")}),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
REFUND_FIELDS = st.sampled_from(["refund_class", "refund_usd", "reason", "source"])
COMPLAINT_FIELDS = st.sampled_from(["decision", "credit_amount", "complaint_category", "priority"])


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    refund=JSON | st.dictionaries(REFUND_FIELDS, JSON),
    complaint=JSON | st.dictionaries(COMPLAINT_FIELDS, JSON),
)
def test_no_json_value_breaks_a_query(business: Any, refund: Any, complaint: Any) -> None:
    for kind in (REFUND_CASES, COMPLAINT_CASES):
        with business.connect(kind.spec) as connection:
            connection.execute(f"TRUNCATE {kind.spec.target}".encode())
    business.refund_json("o", refund)
    business.complaint_json("c", complaint)
    for kind in (REFUND_CASES, COMPLAINT_CASES):
        assert figures(business, kind).cases == len(cases(business, kind)) == 1


# Any JSON that a model could have written in place of an answer.
NOT_ANSWERS = [None, [], {}, "text", 5, True, [{"refund_class": "full"}]]


def test_an_answer_that_is_no_object_is_listed_and_suggests_nothing(business: Any) -> None:
    for number, answer in enumerate(NOT_ANSWERS):
        business.refund_json(f"o-{number}", answer)
        business.complaint_json(f"c-{number}", answer)
    for kind in (REFUND_CASES, COMPLAINT_CASES):
        found = figures(business, kind)
        assert found.cases == found.unreadable == len(cases(business, kind)) == len(NOT_ANSWERS)
        assert found.suggested == 0
        assert {(case.suggested_usd, case.label) for case in cases(business, kind)} == {
            (None, None)
        }


@pytest.mark.parametrize(
    "amount", ["7.50", "abc", "NaN", "", None, True, [], [7], {}, {"usd": 7}, 1e300, -1e300, 10**10]
)
def test_what_is_no_amount_of_money_is_none_and_adds_nothing(business: Any, amount: Any) -> None:
    business.refund("odd", refund_usd=amount)
    business.refund("even", refund_usd=2)
    assert figures(business).suggested_usd == Decimal("2.00")
    assert {c.case_id: c.suggested_usd for c in cases(business)} == {"odd": None, "even": 2}


@pytest.mark.parametrize("value", [5, True, [], {"a": 1}, "", "banana"])
def test_fields_of_another_type_are_read_as_their_text(business: Any, value: Any) -> None:
    business.refund("odd", **dict.fromkeys(["refund_class", "reason", "source"], value))
    [case] = cases(business)
    assert isinstance(case.label, str)
    assert case.label == case.words == case.source


def test_a_text_without_end_stays_in_the_database(business: Any) -> None:
    business.refund("long", reason="x" * 1_000_000)
    [case] = cases(business)
    assert len(case.words or "") == TEXT_LIMIT
