import json
import random
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, get_args

import pytest

from caspers_lib.agents.contracts import ComplaintAnswer, ComplaintCategory
from caspers_lib.agents.refund_policy import OrderFacts
from caspers_lib.agents.triage import complaint_responses
from caspers_lib.agents.triage_answer import Complaint, OrderLine, complaint_answer
from caspers_lib.agents.triage_policy import TriagePolicy

pytestmark = pytest.mark.spark

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
HOSTILE = "Pho'\"\\\n\x00{amount}%s$1<script>alert(1)</script>"
FACTS_SCHEMA = (
    "order_id STRING, location_id INT, delivered_ts TIMESTAMP, total_minutes DECIMAL(12,2),"
    " order_total DECIMAL(22,2),"
    " lines ARRAY<STRUCT<line: INT, item_name: STRING, price: DECIMAL(12,2)>>,"
    " history_orders BIGINT, p75 DECIMAL(12,2), p99 DECIMAL(12,2)"
)
COMPLAINT_SCHEMA = (
    "complaint_id STRING, order_id STRING, ts TIMESTAMP, complaint_category STRING,"
    " complaint_text STRING"
)


def facts(
    order_id: str, took: str = "50.00", total: str = "33.30", history: int = 100
) -> tuple[Any, ...]:
    lines = [(0, "Rice", "2.00"), (1, "Fried Rice", "11.30"), (2, HOSTILE, "9.80"), (3, "", "7.00")]
    priced = [(n, name, Decimal(price)) for n, name, price in lines]
    p75, p99 = Decimal("40.00"), Decimal("60.00")
    return (order_id, 2, NOON, Decimal(took), Decimal(total), priced, history, p75, p99)


FACTS = [
    facts("late"),
    facts("very late", took="60.01"),
    facts("on time", took="40.00"),
    facts("young", history=4),
    facts("cheap", total="3.30"),
]

# order, category, text -> decision, amount or priority, a piece of the rationale
CASES = [
    ("late", "delivery_delay", "too slow", "suggest_credit", 5.0, "P75 40.00"),
    ("very late", "delivery_delay", "too slow", "suggest_credit", 10.0, "above the P99"),
    ("on time", "delivery_delay", "too slow", "suggest_credit", 0.0, "not above the P75"),
    ("young", "delivery_delay", "too slow", "escalate", "standard", "only 4 orders"),
    ("late", "missing_items", "no FRIED RICE in there", "suggest_credit", 11.5, "Fried Rice"),
    ("late", "missing_items", "rice was missing", "suggest_credit", 2.0, "Rice"),
    ("late", "missing_items", f"where is {HOSTILE}?", "suggest_credit", 10.0, HOSTILE),
    ("late", "missing_items", "a drink is missing", "escalate", "standard", "none of the order's"),
    ("cheap", "missing_items", "no fried rice", "suggest_credit", 3.0, "3.30 USD"),
    ("late", "food_quality", "the fried rice was cold", "suggest_credit", 5.5, "50 %"),
    ("late", "food_quality", "fried rice: a bit cold", "suggest_credit", 3.0, "mild"),
    ("late", "food_quality", "the FRIED RICE was rotten", "suggest_credit", 11.5, "severe"),
    (
        "late",
        "missing_items",
        "no fried rice, and no Pho'\"\\\n\x00{amount}%s$1<script>alert(1)</script>",
        "suggest_credit",
        21.0,
        "21.10 USD",
    ),
    ("late", "food_quality", "I will sue you, the rice was cold", "escalate", "urgent", "`sue`"),
    ("late", "food_quality", "?! ...", "escalate", "standard", "no word"),
    ("late", "delivery_delay", "太慢了", "suggest_credit", 5.0, "P75"),
    ("late", "food_quality", "it was cold", "escalate", "standard", "names none"),
    ("late", "food_quality", "a hair in the rice", "escalate", "urgent", "`hair`"),
    ("late", "other", "my son is allergic to this", "escalate", "urgent", "`allergic`"),
    ("late", "service_issue", "rude driver", "escalate", "high", "33.30 USD"),
    ("late", "billing", "charged twice", "escalate", "high", "33.30 USD"),
    ("late", "other", "hello", "escalate", "standard", "No rule"),
    ("late", "weather'; --", "it rained", "escalate", "standard", "No rule"),
    ("late", None, None, "escalate", "standard", "no word"),
    ("nowhere", "delivery_delay", "too slow", "escalate", "standard", "nothing to judge"),
]


@pytest.fixture(scope="module")
def answers(spark: Any) -> list[Any]:
    rows = [(str(n), order, NOON, kind, text) for n, (order, kind, text, *_) in enumerate(CASES)]
    responses = complaint_responses(
        spark.createDataFrame(rows, COMPLAINT_SCHEMA),
        spark.createDataFrame(FACTS, FACTS_SCHEMA),
        TriagePolicy(),
    )
    return sorted(responses.collect(), key=lambda r: int(r.complaint_id))


def test_every_complaint_is_answered_as_the_policy_says(answers: list[Any]) -> None:
    got = [ComplaintAnswer.model_validate_json(r.agent_response) for r in answers]
    assert [
        (a.order_id, a.decision, a.credit_amount if a.priority is None else a.priority) for a in got
    ] == [(order, decision, value) for order, _, _, decision, value, _ in CASES]
    for answer, (*_, piece) in zip(got, CASES, strict=True):
        assert piece in answer.rationale


def test_only_a_complaint_about_an_unknown_order_is_an_error(answers: list[Any]) -> None:
    sources = [json.loads(r.agent_response)["source"] for r in answers]
    assert sources == ["error" if case[0] == "nowhere" else "rules" for case in CASES]


def test_answers_have_every_key_in_contract_order(answers: list[Any]) -> None:
    for row in answers:
        assert list(json.loads(row.agent_response)) == list(ComplaintAnswer.model_fields)


def test_credits_are_multiples_of_half_a_dollar_within_the_total(answers: list[Any]) -> None:
    totals = {f[0]: f[4] for f in FACTS}
    for row in answers:
        amount = json.loads(row.agent_response)["credit_amount"]
        if amount is not None:
            assert amount * 2 == int(amount * 2)
            assert 0 <= amount <= totals[row.order_id]


def test_a_customer_is_told_the_amount_and_the_dish(answers: list[Any]) -> None:
    told = [json.loads(r.agent_response)["customer_response"] for r in answers]
    assert "Fried Rice" in told[4]
    assert "11.50 USD" in told[4]
    assert HOSTILE in told[6]


def random_complaints() -> list[tuple[Any, ...]]:
    rng = random.Random(5)
    pieces = [
        "the rice", "FRIED RICE", HOSTILE, "was cold", "a bit", "rotten", "hair", "sue", "!", "",
        "İSTANBUL ΣΑΣ ß", "太慢", "raw", "\x00", "fried", "allergic", "1", "\u2028\t", "{item}",
    ]  # fmt: skip
    categories = [*get_args(ComplaintCategory), None, "weather"]
    orders = [f[0] for f in FACTS] + ["nowhere"]
    return [
        (
            str(n), rng.choice(orders), NOON, rng.choice(categories),
            rng.choice([None, " ".join(rng.choices(pieces, k=rng.randint(0, 5)))]),
        )
        for n in range(600)
    ]  # fmt: skip


def test_one_complaint_is_answered_as_a_whole_frame_is(spark: Any) -> None:
    rows = random_complaints()
    responses = complaint_responses(
        spark.createDataFrame(rows, COMPLAINT_SCHEMA),
        spark.createDataFrame(FACTS, FACTS_SCHEMA),
        TriagePolicy(),
    )
    answers = {r.complaint_id: r.agent_response for r in responses.collect()}
    known = {f[0]: f for f in FACTS}
    for complaint_id, order_id, _, category, text in rows:
        found = known.get(order_id)
        alone = complaint_answer(
            Complaint(order_id=order_id, category=category, text=text),
            None if found is None else order_facts_of(found),
            [] if found is None else [OrderLine(item_name=n, price=p) for _, n, p in found[5]],
            TriagePolicy(),
        )
        assert ComplaintAnswer.model_validate_json(answers[complaint_id]) == alone


def order_facts_of(row: tuple[Any, ...]) -> OrderFacts:
    _, location, _, minutes, total, _, history, p75, p99 = row
    return OrderFacts(
        location_id=location, delivered=True, total_minutes=minutes, order_total=total,
        history_orders=history, p75=p75, p99=p99,
    )  # fmt: skip


def test_a_megabyte_of_text_is_judged_like_any_other(spark: Any) -> None:
    text = "the fried rice was cold " + "x " * 500_000
    row = [("1", "late", NOON, "food_quality", text)]
    responses = complaint_responses(
        spark.createDataFrame(row, COMPLAINT_SCHEMA),
        spark.createDataFrame(FACTS, FACTS_SCHEMA),
        TriagePolicy(),
    )
    answer = responses.collect()[0].agent_response
    assert len(answer) < 1000
    assert ComplaintAnswer.model_validate_json(answer).credit_amount == Decimal("5.5")
