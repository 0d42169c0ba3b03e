from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caspers_lib.console import queries
from caspers_lib.console.queries import (
    ComplaintRow,
    ComplaintTotals,
    RefundRow,
    RefundTotals,
)
from caspers_lib.lakebase import COMPLAINTS, REFUNDS


def refund_totals(business: Any) -> RefundTotals:
    with business.connect(REFUNDS) as connection:
        return queries.refund_totals(connection, REFUNDS)


def newest_refunds(business: Any, limit: int = 25) -> tuple[RefundRow, ...]:
    with business.connect(REFUNDS) as connection:
        return queries.newest_refunds(connection, REFUNDS, limit)


def complaint_totals(business: Any) -> ComplaintTotals:
    with business.connect(COMPLAINTS) as connection:
        return queries.complaint_totals(connection, COMPLAINTS)


def newest_complaints(business: Any, limit: int = 25) -> tuple[ComplaintRow, ...]:
    with business.connect(COMPLAINTS) as connection:
        return queries.newest_complaints(connection, COMPLAINTS, limit)


def test_empty_tables_sum_to_zero(business: Any) -> None:
    assert refund_totals(business) == RefundTotals(0, 0, Decimal(0), 0)
    assert complaint_totals(business) == ComplaintTotals(0, 0, 0, Decimal(0), 0)
    assert newest_refunds(business) == ()
    assert newest_complaints(business) == ()


def test_refund_totals_count_orders_and_sum_what_is_suggested(business: Any) -> None:
    business.refund("a", refund_class="none", refund_usd=0)
    business.refund("b", refund_class="partial", refund_usd=4.1)
    business.refund("c", refund_class="full", refund_usd=20.2)
    assert refund_totals(business) == RefundTotals(
        delivered=3, suggested=2, suggested_usd=Decimal("24.30"), unclassed=0
    )


def test_totals_are_those_of_all_rows_not_of_the_page(business: Any) -> None:
    with business.connect(REFUNDS) as connection:
        connection.execute(
            "INSERT INTO recommender.pg_recommendations SELECT 'o-' || i, now(), now(),"
            ' \'{"refund_class": "full", "refund_usd": 0.01}\' FROM generate_series(1, 3000) i'
        )
    assert refund_totals(business).suggested == 3000
    assert refund_totals(business).suggested_usd == Decimal("30.00")
    assert len(newest_refunds(business, limit=25)) == 25


def test_complaint_totals_tell_credits_from_escalations(business: Any) -> None:
    business.complaint("a", decision="suggest_credit", credit_amount=3.3)
    business.complaint("b", decision="suggest_credit", credit_amount=4)
    business.complaint("c", decision="escalate", credit_amount=99)
    assert complaint_totals(business) == ComplaintTotals(
        complaints=3, escalated=1, credits=2, credits_usd=Decimal("7.30"), undecided=0
    )


def test_refunds_come_newest_first_without_those_that_suggest_none(business: Any) -> None:
    business.refund("early", minute=1, took=30.5)
    business.refund("late", minute=9)
    business.refund("none", minute=5, refund_class="none")
    business.refund("middle", minute=5)
    rows = newest_refunds(business)
    assert [row.order_id for row in rows] == ["late", "middle", "early"]
    assert rows[-1] == RefundRow(
        order_id="early",
        delivered_at=datetime(2024, 3, 11, 12, 1, tzinfo=UTC),
        minutes=30.5,
        refund_class="partial",
        refund_usd=Decimal("7.50"),
        reason="Slower than three in four orders of this kitchen.",
        source="rules",
    )
    assert [row.order_id for row in newest_refunds(business, limit=1)] == ["late"]


def test_complaints_come_newest_first(business: Any) -> None:
    business.complaint("early", order="o-7", minute=1)
    business.complaint("late", minute=9)
    rows = newest_complaints(business)
    assert [row.complaint_id for row in rows] == ["late", "early"]
    assert rows[1].order_id == "o-7"
    assert rows[1].category == "delivery_delay"
    assert rows[1].credit_usd == Decimal("5.25")


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
    for spec in (REFUNDS, COMPLAINTS):
        with business.connect(spec) as connection:
            connection.execute(f"TRUNCATE {spec.target}".encode())
    business.refund_json("o", refund)
    business.complaint_json("c", complaint)
    totals = refund_totals(business)
    assert totals.delivered == 1
    assert len(newest_refunds(business)) == totals.suggested
    assert complaint_totals(business).complaints == 1
    assert len(newest_complaints(business)) == 1


# Any JSON that a model could have written in place of an answer.
NOT_ANSWERS = [None, [], {}, "text", 5, True, [{"refund_class": "full"}]]


def test_an_answer_that_is_no_object_counts_as_an_order_and_suggests_nothing(
    business: Any,
) -> None:
    for number, answer in enumerate(NOT_ANSWERS):
        business.refund_json(f"o-{number}", answer)
        business.complaint_json(f"c-{number}", answer)
    number = len(NOT_ANSWERS)
    assert refund_totals(business) == RefundTotals(number, 0, Decimal(0), number)
    assert complaint_totals(business) == ComplaintTotals(number, 0, 0, Decimal(0), number)
    assert newest_refunds(business) == ()
    assert {row.credit_usd for row in newest_complaints(business)} == {None}
    assert {row.decision for row in newest_complaints(business)} == {None}


@pytest.mark.parametrize(
    "amount", ["7.50", "abc", "NaN", "", None, True, [], [7], {}, {"usd": 7}, 1e300, -1e300, 10**10]
)
def test_what_is_no_amount_of_money_is_none_and_adds_nothing(business: Any, amount: Any) -> None:
    business.refund("odd", refund_usd=amount)
    business.refund("even", refund_usd=2)
    business.complaint("odd", credit_amount=amount)
    business.complaint("even", credit_amount=2)
    assert refund_totals(business).suggested_usd == Decimal("2.00")
    assert complaint_totals(business).credits_usd == Decimal("2.00")
    assert [row.refund_usd for row in newest_refunds(business)] == [None, Decimal("2.00")]
    assert [row.credit_usd for row in newest_complaints(business)] == [None, Decimal("2.00")]


@pytest.mark.parametrize("value", [None, 5, True, [], {"a": 1}, "", "banana"])
def test_fields_of_another_type_are_read_as_their_text(business: Any, value: Any) -> None:
    texts = dict.fromkeys(["refund_class", "reason", "source"], value)
    business.refund("odd", **texts)
    business.complaint("odd", **dict.fromkeys(["decision", "priority", "rationale"], value))
    (complaint,) = newest_complaints(business)
    if value is None:
        assert newest_refunds(business) == ()
        assert complaint.decision is None
    else:
        (refund,) = newest_refunds(business)
        assert refund.refund_class == refund.reason == complaint.decision
        assert isinstance(complaint.decision, str)


def test_a_text_without_end_stays_in_the_database(business: Any) -> None:
    business.refund("long", reason="x" * 1_000_000)
    (row,) = newest_refunds(business)
    assert row.reason is not None
    assert len(row.reason) == queries.TEXT_LIMIT


def test_rows_without_times_come_last(business: Any) -> None:
    with business.connect(REFUNDS) as connection:
        connection.execute(
            "INSERT INTO recommender.pg_recommendations VALUES"
            " ('timeless', NULL, NULL, '{\"refund_class\": \"full\"}')"
        )
    business.refund("timed")
    rows = newest_refunds(business)
    assert [row.order_id for row in rows] == ["timed", "timeless"]
    assert rows[1].delivered_at is None
    assert rows[1].minutes is None
