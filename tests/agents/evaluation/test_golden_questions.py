"""The facts of one case in Python, against the column expressions that the streams use."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from caspers_lib.agents.evaluation.golden_complaints import GoldenComplaint
from caspers_lib.agents.evaluation.golden_questions import (
    complaint_case_questions,
    refund_case_questions,
)
from caspers_lib.agents.evaluation.golden_set import GoldenOrder, Verdict
from caspers_lib.agents.model.instructions import (
    TEXT_CHARACTERS,
    complaint_instructions,
    refund_instructions,
)
from caspers_lib.agents.model.prompts import complaint_questions, refund_questions
from caspers_lib.agents.refund_policy import OrderFacts, RefundPolicy
from caspers_lib.agents.triage_answer import Complaint, OrderLine
from caspers_lib.agents.triage_policy import TriagePolicy

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
HOSTILE = "o'\"\\/\n\t<script>&alert(1)</script> é漢\U0001f35c\x7f"
FACTS_SCHEMA = (
    "order_id STRING, delivered_ts TIMESTAMP, location_id INT, total_minutes DECIMAL(12,2),"
    " order_total DECIMAL(22,2), history_orders INT, p75 DECIMAL(12,2), p99 DECIMAL(12,2),"
    " lines ARRAY<STRUCT<line: INT, item_name: STRING, price: DECIMAL(12,2)>>"
)
COMPLAINT_SCHEMA = (
    "complaint_id STRING, order_id STRING, ts TIMESTAMP, complaint_category STRING,"
    " complaint_text STRING"
)


def golden_order(
    order_id: str,
    took: str | None,
    *,
    total: str | None = "33.00",
    orders: int = 80,
    p75: str | None = "40.00",
) -> GoldenOrder:
    def decimal(text: str | None) -> Decimal | None:
        return None if text is None else Decimal(text)

    facts = OrderFacts(
        location_id=3,
        delivered=True,
        total_minutes=decimal(took),
        order_total=decimal(total),
        history_orders=orders,
        p75=decimal(p75),
        p99=None if p75 is None else Decimal("60.50"),
    )
    lines = (
        OrderLine(item_name=HOSTILE, price=Decimal("12.00")),
        OrderLine(item_name="Rice", price=Decimal("3.50")),
    )
    return GoldenOrder(
        order_id=order_id,
        facts=facts,
        p50=None,
        lines=lines,
        street=None,
        expected=Verdict(decision="none"),
    )


ORDERS = [
    golden_order(HOSTILE, "61.20"),
    golden_order("on time", "40", p75="40.00"),
    golden_order("just late", "40.01", total="0.00"),
    golden_order("short history", "90.00", orders=4),
    golden_order("no history", "90.00", orders=0, p75=None),
    golden_order("unknown time", None),
    golden_order("unknown total", "61.20", total=None),
]


def complaint(order: GoldenOrder, number: int, text: str) -> GoldenComplaint:
    return GoldenComplaint(
        complaint_id=f"c-{number}",
        kind="delay",
        complaint=Complaint(order_id=order.order_id, category="delivery_delay", text=text),
        order=order,
        expected=Verdict(decision="escalate", priority="high"),
    )


COMPLAINTS = [complaint(order, n, HOSTILE) for n, order in enumerate(ORDERS)]
COMPLAINTS += [
    complaint(ORDERS[1], 20, "x" * TEXT_CHARACTERS),
    complaint(ORDERS[1], 21, "漢" * (TEXT_CHARACTERS + 1)),
    complaint(ORDERS[1], 22, ""),
]


def facts_rows(spark: Any) -> Any:
    rows = [
        (o.order_id, NOON, o.facts.location_id, o.facts.total_minutes, o.facts.order_total,
         o.facts.history_orders, o.facts.p75, o.facts.p99,
         [(n, line.item_name, line.price) for n, line in enumerate(o.lines)])
        for o in ORDERS
    ]  # fmt: skip
    return spark.createDataFrame(rows, FACTS_SCHEMA)


@pytest.mark.spark
def test_facts_keys_and_limits_of_refunds_are_those_of_the_streams(spark: Any) -> None:
    policy = RefundPolicy()
    streamed = {r.key: r for r in refund_questions(facts_rows(spark), policy).collect()}
    asked = refund_case_questions(ORDERS, policy)
    assert [(q.key, q.order_id, q.order_total, q.messages[1].content) for q in asked] == [
        (r.key, r.order_id, r.at_most, r.facts) for r in (streamed[o.order_id] for o in ORDERS[:5])
    ]
    assert len(streamed) == 5


@pytest.mark.spark
def test_facts_keys_and_limits_of_complaints_are_those_of_the_streams(spark: Any) -> None:
    rows = [
        (c.complaint_id, c.order_id, NOON, c.complaint.category, c.complaint.text)
        for c in COMPLAINTS
    ]
    raw = spark.createDataFrame(rows, COMPLAINT_SCHEMA)
    streamed = {r.key: r for r in complaint_questions(raw, facts_rows(spark)).collect()}
    asked = complaint_case_questions(COMPLAINTS, TriagePolicy())
    assert {q.key: (q.order_id, q.order_total, q.messages[1].content) for q in asked} == {
        key: (r.order_id, r.at_most, r.facts) for key, r in streamed.items()
    }
    assert len(asked) == 8


def test_the_system_message_is_the_policy_in_words() -> None:
    (refund,) = refund_case_questions(ORDERS[:1], RefundPolicy())
    (answer,) = complaint_case_questions(COMPLAINTS[:1], TriagePolicy())
    assert [m.role for m in refund.messages] == [m.role for m in answer.messages]
    assert [m.role for m in refund.messages] == ["system", "user"]
    assert refund.messages[0].content == refund_instructions(RefundPolicy())
    assert answer.messages[0].content == complaint_instructions(TriagePolicy())
