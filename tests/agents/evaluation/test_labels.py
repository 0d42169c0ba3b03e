"""What people decided, read from a file and put in the place of what is computed."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from caspers_lib.agents.evaluation.golden_complaints import golden_complaints
from caspers_lib.agents.evaluation.golden_set import GoldenOrder, Verdict, golden_orders
from caspers_lib.agents.evaluation.labels import (
    read_complaint_labels,
    read_refund_labels,
    with_complaint_labels,
    with_refund_labels,
)
from caspers_lib.agents.refund_policy import RefundPolicy
from caspers_lib.agents.triage_policy import TriagePolicy
from caspers_lib.errors import DatasetError
from caspers_lib.replay.sample import sample_dataset

HOSTILE = "o\x00'\"\\<script>é漢"


def written(path: Path, *rows: object) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def orders() -> tuple[GoldenOrder, ...]:
    return golden_orders(sample_dataset(), RefundPolicy(), orders=5)


def test_refunds_are_read_by_order_and_the_last_line_counts(tmp_path: Path) -> None:
    path = written(
        tmp_path / "labels",
        {"order_id": HOSTILE, "refund_usd": 1.1, "decided_by": "ann"},
        "",
        {"order_id": "b", "refund_usd": 0},
        {"order_id": HOSTILE, "refund_usd": 7.88},
    )
    assert read_refund_labels(path) == {HOSTILE: Decimal("7.88"), "b": Decimal(0)}


def test_decisions_are_read_by_complaint(tmp_path: Path) -> None:
    path = written(
        tmp_path / "labels",
        {"complaint_id": "c", "decision": "suggest_credit", "credit_amount": 3.5},
        {"complaint_id": "d", "decision": "escalate", "credit_amount": None},
        {"complaint_id": "e", "decision": "escalate", "priority": "urgent"},
    )
    assert read_complaint_labels(path) == {
        "c": Verdict(decision="suggest_credit", usd=Decimal("3.50")),
        "d": Verdict(decision="escalate"),
        "e": Verdict(decision="escalate", priority="urgent"),
    }


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{", "Invalid JSON"),
        ("[]", "line 2"),
        ({"refund_usd": 1}, "line 2, order_id"),
        ({"order_id": "", "refund_usd": 1}, "line 2, order_id"),
        ({"order_id": "b"}, "line 2, refund_usd"),
        ({"order_id": "b", "refund_usd": -1}, "line 2, refund_usd"),
        ({"order_id": "b", "refund_usd": 1.234}, "line 2, refund_usd"),
        ('{"order_id": "b", "refund_usd": NaN}', "line 2"),
    ],
)
def test_a_line_that_is_no_refund_is_one_error_that_names_it(
    row: object, said: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "labels", {"order_id": "a", "refund_usd": 1}, row)
    with pytest.raises(DatasetError, match=said) as refused:
        read_refund_labels(path)
    assert str(path) in refused.value.message
    assert "\n" not in refused.value.message
    assert "refund_usd" in refused.value.hint


@pytest.mark.parametrize(
    "row",
    [
        {"complaint_id": "c", "decision": "suggest_credit"},
        {"complaint_id": "c", "decision": "escalate", "credit_amount": 1},
        {"complaint_id": "c", "decision": "suggest_credit", "credit_amount": 1, "priority": "high"},
        {"complaint_id": "c", "decision": "approve"},
        {"complaint_id": "c", "decision": "escalate", "priority": "soon"},
    ],
)
def test_a_line_that_is_no_decision_is_refused(row: object, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="line 1"):
        read_complaint_labels(written(tmp_path / "labels", row))


def test_labels_that_are_not_there_or_no_text_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="No such file"):
        read_refund_labels(tmp_path / "labels")
    binary = tmp_path / "binary"
    binary.write_bytes(b'{"order_id": "\xff", "refund_usd": 1}')
    with pytest.raises(DatasetError, match="line 1"):
        read_refund_labels(binary)


def test_a_label_replaces_what_is_computed_for_its_order_alone(
    orders: tuple[GoldenOrder, ...],
) -> None:
    labelled = with_refund_labels(orders, {orders[1].order_id: Decimal("0.50"), "x": Decimal(1)})
    assert labelled[1].expected == Verdict(decision="partial", usd=Decimal("0.50"))
    assert labelled[1].is_labelled
    assert (labelled[0], *labelled[2:]) == (orders[0], *orders[2:])


def test_a_label_s_class_follows_from_its_amount(orders: tuple[GoldenOrder, ...]) -> None:
    order = orders[0]
    total = order.facts.order_total
    assert total is not None
    for usd, decision in ((Decimal(0), "none"), (total, "full"), (total / 2, "partial")):
        found = with_refund_labels(orders, {order.order_id: usd})
        assert found[0].expected.decision == decision


def test_a_label_above_the_order_s_total_is_refused(orders: tuple[GoldenOrder, ...]) -> None:
    with pytest.raises(DatasetError, match="its total is"):
        with_refund_labels(orders, {orders[0].order_id: Decimal(10_000)})


def test_a_complaint_s_label_replaces_what_is_right_and_may_leave_the_priority_open(
    orders: tuple[GoldenOrder, ...],
) -> None:
    cases = golden_complaints(orders, TriagePolicy())
    label = Verdict(decision="escalate")
    found = with_complaint_labels(cases, {cases[2].complaint_id: label})
    assert [case.is_labelled for case in found] == [False, False, True, False, False]
    assert found[2].expected == label
    assert label.allows(Verdict(decision="escalate", priority="urgent"))
    assert not label.allows(Verdict(decision="suggest_credit", usd=Decimal(1)))
