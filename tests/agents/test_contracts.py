import json
from decimal import Decimal

import pytest
from pydantic import ValidationError

from caspers_lib.agents.contracts import CATEGORY_WEIGHTS, ComplaintAnswer, RefundAnswer

REFUND = {"refund_usd": 12.5, "refund_class": "partial", "reason": "late", "source": "rules"}
CREDIT = {
    "order_id": "o-1",
    "complaint_category": "delivery_delay",
    "decision": "suggest_credit",
    "credit_amount": 3.5,
    "confidence": 0.9,
    "priority": None,
    "rationale": "late",
    "customer_response": "Sorry!",
    "source": "rules",
}
ESCALATION = CREDIT | {
    "decision": "escalate",
    "credit_amount": None,
    "confidence": None,
    "priority": "high",
}


def test_a_refund_answer_survives_its_json_with_keys_in_contract_order() -> None:
    text = RefundAnswer.model_validate_json(json.dumps(REFUND)).model_dump_json()
    assert json.loads(text) == REFUND
    assert list(json.loads(text)) == ["refund_usd", "refund_class", "reason", "source"]


@pytest.mark.parametrize("answer", [CREDIT, ESCALATION])
def test_a_complaint_answer_survives_its_json_with_keys_in_contract_order(
    answer: dict[str, object],
) -> None:
    text = ComplaintAnswer.model_validate_json(json.dumps(answer)).model_dump_json()
    assert json.loads(text) == answer
    assert list(json.loads(text)) == list(CREDIT)


@pytest.mark.parametrize("text", ["null", "[]", "3", '"none"', "{}", "", "not json", "NaN"])
def test_json_that_is_no_answer_is_refused_j3(text: str) -> None:
    with pytest.raises(ValidationError):
        RefundAnswer.model_validate_json(text)


@pytest.mark.parametrize(
    "change",
    [
        {"refund_usd": -1},
        {"refund_usd": 0.005},
        {"refund_usd": True},
        {"refund_usd": None},
        {"refund_class": "half"},
        {"refund_usd": 0},
        {"refund_class": "none"},
        {"reason": ""},
        {"reason": None},
        {"source": "oracle"},
        {"extra": 1},
    ],
)
def test_a_refund_answer_outside_the_contract_is_refused_j3(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RefundAnswer.model_validate_json(json.dumps(REFUND | change))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_a_refund_that_is_no_finite_number_is_refused_j3(number: str) -> None:
    text = json.dumps(REFUND).replace("12.5", number)
    with pytest.raises(ValidationError):
        RefundAnswer.model_validate_json(text)


@pytest.mark.parametrize(
    "change",
    [
        {"credit_amount": None},
        {"confidence": None},
        {"confidence": 1.5},
        {"priority": "high"},
        {"decision": "escalate"},
        {"decision": "ignore"},
        {"complaint_category": "weather"},
        {"customer_response": ""},
    ],
)
def test_a_complaint_answer_outside_the_contract_is_refused_j3(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ComplaintAnswer.model_validate_json(json.dumps(CREDIT | change))


@pytest.mark.parametrize("change", [{"priority": None}, {"credit_amount": 1}, {"confidence": 0.5}])
def test_an_escalation_carries_a_priority_and_no_credit(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ComplaintAnswer.model_validate_json(json.dumps(ESCALATION | change))


def test_a_broken_cross_field_rule_is_an_ordinary_validation_error_j9() -> None:
    with pytest.raises(ValidationError, match="refund_class is none exactly when refund_usd is 0"):
        RefundAnswer(refund_usd=Decimal(1), refund_class="none", reason="why", source="model")


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ValidationError, match="reason"):
        RefundAnswer.model_validate({k: v for k, v in REFUND.items() if k != "reason"})


def test_the_weights_of_the_categories_add_up_to_one() -> None:
    assert sum(CATEGORY_WEIGHTS.values()) == 1
