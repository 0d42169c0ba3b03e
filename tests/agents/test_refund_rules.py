import json
from dataclasses import astuple, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caspers_lib.agents.contracts import RefundAnswer
from caspers_lib.agents.refund_policy import OrderFacts, RefundPolicy, refund_answer
from caspers_lib.agents.refund_rules import refund_answers

pytestmark = pytest.mark.spark

POLICY = RefundPolicy()
NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
SCHEMA = (
    "order_id STRING, order_ts TIMESTAMP, delivered_ts TIMESTAMP, location_id INT,"
    " total_minutes DECIMAL(12,2), order_total DECIMAL(22,2), history_orders BIGINT,"
    " p75 DECIMAL(12,2), p99 DECIMAL(12,2)"
)
minutes = st.decimals(0, 300, places=2)


@st.composite
def any_facts(draw: st.DrawFn) -> OrderFacts:
    p75, p99 = sorted([draw(minutes), draw(minutes)])
    no_history = draw(st.integers(0, 9)) == 0
    return OrderFacts(
        location_id=draw(st.none() | st.integers(-5, 500)),
        delivered=draw(st.integers(0, 9)) > 0,
        total_minutes=draw(minutes | st.none() | st.sampled_from([p75, p99, 2 * p99])),
        order_total=draw(st.decimals(-5, 10**6, places=2) | st.none()),
        history_orders=0 if no_history else draw(st.integers(1, 400)),
        p75=None if no_history else p75,
        p99=None if no_history else p99,
    )


def gathered_facts() -> list[OrderFacts]:
    rows: list[OrderFacts] = []

    @settings(max_examples=400, derandomize=True, database=None)
    @given(any_facts())
    def gather(facts: OrderFacts) -> None:
        rows.append(facts if facts.delivered else replace(facts, total_minutes=None))

    gather()
    return rows


def test_the_rules_over_a_dataframe_answer_as_the_policy_does_for_one_order(spark: Any) -> None:
    facts = gathered_facts()
    hostile = "o'\"\\\n\x00<script>'); DROP TABLE t --"
    rows = [
        (f"{hostile}{n}", NOON, NOON if f.delivered else None, f.location_id, *astuple(f)[2:])
        for n, f in enumerate(facts)
    ]
    answers = refund_answers(spark.createDataFrame(rows, SCHEMA), POLICY).collect()

    got = {r.order_id: RefundAnswer.model_validate_json(r.agent_response) for r in answers}
    assert got == {f"{hostile}{n}": refund_answer(f, POLICY) for n, f in enumerate(facts)}
    keys = {tuple(json.loads(r.agent_response)) for r in answers}
    assert keys == {("refund_usd", "refund_class", "reason", "source")}
    assert len({a.reason.split(" ")[0] for a in got.values()}) > 1
    assert {a.refund_class for a in got.values()} == {"none", "partial", "full"}
    assert any(a.refund_usd != a.refund_usd.to_integral() for a in got.values())
    assert all(a.refund_usd == a.refund_usd.quantize(Decimal("0.01")) for a in got.values())
