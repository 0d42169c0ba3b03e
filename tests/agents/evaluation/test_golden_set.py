"""Golden orders against a plain computation, order by order."""

import math
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from hashlib import md5
from pathlib import Path

import pytest

from caspers_lib.agents.evaluation.golden_set import (
    GoldenOrder,
    Verdict,
    delivered_order_ids,
    golden_orders,
)
from caspers_lib.agents.refund_policy import RefundPolicy, refund_answer
from caspers_lib.errors import DatasetError
from caspers_lib.replay.generator import generate_dataset
from caspers_lib.replay.sample import sample_dataset
from tests.agents.evaluation.golden_events import (
    HOSTILE_DISH,
    HOSTILE_ORDER,
    HOUR,
    DataOrder,
    some_orders,
    write_events,
)

POLICY = RefundPolicy()
ORDERS = some_orders()
DELIVERED = {order.order_id for order in ORDERS if order.delivered is not None}


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    # A file beside it that a pattern would find.
    write_events(folder / "e1.parquet", [DataOrder("of another dataset", 1, 0, 60)])
    return write_events(folder / "e[1]*.parquet", ORDERS, twice=50)


@pytest.fixture(scope="module")
def golden(events: Path) -> dict[str, GoldenOrder]:
    return {order.order_id: order for order in golden_orders(events, POLICY)}


def half_up(exact: Fraction) -> Decimal:
    return Decimal(math.floor(exact * 100 + Fraction(1, 2))).scaleb(-2)


def minutes(order: DataOrder) -> Decimal | None:
    if order.created is None or order.delivered is None:
        return None
    took = order.delivered - order.created
    return half_up(Fraction(took, 60)) if 0 <= took <= 24 * HOUR else None


def total(order: DataOrder) -> Decimal | None:
    sound = order.lines and all(qty >= 1 for _, _, qty in order.lines)
    if not sound or minutes(order) is None:
        return None
    return sum((Decimal(price) * qty for _, price, qty in order.lines), Decimal("0.00"))


def history(order: DataOrder) -> list[Decimal]:
    hour = order.delivered // HOUR * HOUR if order.delivered is not None else 0
    return sorted(
        took
        for other in ORDERS
        if other.location_id == order.location_id
        and other.delivered is not None
        and hour - 24 * HOUR <= other.delivered < hour
        and (took := minutes(other)) is not None
    )


def percentile(values: list[Decimal], percent: int) -> Decimal | None:
    if not values:
        return None
    position = Fraction((len(values) - 1) * percent, 100)
    low, high = (Fraction(values[at]) for at in (math.floor(position), math.ceil(position)))
    return half_up(low + (high - low) * (position - math.floor(position)))


def refund(order: DataOrder) -> Verdict:
    took, paid, before = minutes(order), total(order), history(order)
    if took is None or paid is None:
        return Verdict(decision="error")
    p75, p99 = percentile(before, 75), percentile(before, 99)
    if len(before) < 5 or p75 is None or p99 is None or took <= p75:
        return Verdict(decision="none", usd=Decimal("0.00"))
    share = Fraction(1) if took >= 2 * p99 else Fraction(1, 2 if took > p99 else 4)
    usd = half_up(Fraction(paid) * share)
    return Verdict(decision="full" if usd == paid else "partial", usd=usd)


def test_every_delivered_order_is_there_once_by_its_delivery(
    events: Path, golden: dict[str, GoldenOrder]
) -> None:
    assert golden.keys() == DELIVERED == set(delivered_order_ids(events))
    delivered = {order.order_id: order.delivered or 0 for order in ORDERS}
    listed = [(delivered[order_id], order_id) for order_id in golden]
    assert listed == sorted(listed)


def test_facts_are_those_of_a_plain_computation(golden: dict[str, GoldenOrder]) -> None:
    for order in (o for o in ORDERS if o.delivered is not None):
        before, facts = history(order), golden[order.order_id].facts
        found = (facts.location_id, facts.total_minutes, facts.order_total, facts.history_orders)
        assert found == (order.location_id, minutes(order), total(order), len(before))
        percentiles = (golden[order.order_id].p50, facts.p75, facts.p99)
        assert percentiles == tuple(percentile(before, p) for p in (50, 75, 99))


def test_refunds_are_those_of_a_plain_computation(golden: dict[str, GoldenOrder]) -> None:
    right = {order.order_id: refund(order) for order in ORDERS if order.delivered is not None}
    assert {order_id: order.expected for order_id, order in golden.items()} == right
    counts = Counter(verdict.decision for verdict in right.values())
    assert counts.keys() == {"none", "partial", "full", "error"}
    assert counts["partial"] > 50


def test_lines_and_street_are_told_as_they_are(golden: dict[str, GoldenOrder]) -> None:
    for order in (o for o in ORDERS if total(o) is not None):
        found = golden[order.order_id]
        assert [(line.item_name, line.price) for line in found.lines] == [
            (name, Decimal(price)) for name, price, _ in order.lines
        ]
        assert found.street == "5 Elm Street"
    assert golden["no quantity"].lines == golden["no creation"].lines == ()


def test_the_rules_agree_exactly_with_every_golden_order(golden: dict[str, GoldenOrder]) -> None:
    for order in golden.values():
        answer = refund_answer(order.facts, POLICY)
        if order.expected.decision == "error":
            assert answer.source == "error"
        else:
            given = Verdict(decision=answer.refund_class, usd=answer.refund_usd)
            assert order.expected.allows(given), order


@pytest.mark.parametrize(
    ("took", "decision", "usd"),
    [
        (3600, "none", "0.00"),
        (3601, "partial", "16.67"),
        (7199, "partial", "16.67"),
        (7200, "full", "33.33"),
    ],
)
def test_the_share_changes_at_the_published_bounds(
    took: int, decision: str, usd: str, tmp_path: Path
) -> None:
    usual = [DataOrder(f"u-{n}", 1, 0, HOUR) for n in range(5)]
    judged = DataOrder("judged", 1, 8 * HOUR, 8 * HOUR + took, (("Soup", "11.11", 3),))
    path = write_events(tmp_path / "events.parquet", [*usual, judged])
    assert golden_orders(path, POLICY)[-1].expected == Verdict(decision=decision, usd=Decimal(usd))


@pytest.mark.parametrize(("took", "usd"), [(1801, "8.33"), (3528, "8.33"), (3529, "16.67")])
def test_an_order_that_takes_just_p99_is_late_and_not_very_late(
    took: int, usd: str, tmp_path: Path
) -> None:
    usual = [DataOrder(f"u-{n}", 1, 0, HOUR // 2) for n in range(4)]
    slow = DataOrder("slow", 1, 0, HOUR)  # makes the P99 58.80 minutes
    judged = DataOrder("judged", 1, 8 * HOUR, 8 * HOUR + took, (("Soup", "11.11", 3),))
    path = write_events(tmp_path / "events.parquet", [*usual, slow, judged])
    expected = golden_orders(path, POLICY)[-1].expected
    assert expected == Verdict(decision="partial", usd=Decimal(usd))


def test_the_policy_s_figures_are_those_that_are_given(events: Path) -> None:
    strange = RefundPolicy(
        late_share=Decimal("0.1234"),
        very_late_share=Decimal("0.999"),
        full_factor=Decimal("1.5"),
        min_orders=100,
    )
    golden = golden_orders(events, strange)
    for order in (o for o in golden if o.expected.decision != "error"):
        answer = refund_answer(order.facts, strange)
        assert (order.expected.decision, order.expected.usd) == (
            answer.refund_class,
            answer.refund_usd,
        )
    usual = golden_orders(events, POLICY)
    assert [o.facts for o in usual] == [o.facts for o in golden]
    assert [o.expected for o in usual] != [o.expected for o in golden]


def test_a_sample_has_the_lowest_draws_and_a_larger_one_holds_it(events: Path) -> None:
    def drawn(order_id: str) -> str:
        return md5(f"7:golden:{order_id}".encode(), usedforsecurity=False).hexdigest()

    lowest = sorted(DELIVERED, key=drawn)
    for count in (1, 30, 10_000):
        found = golden_orders(events, POLICY, orders=count, seed=7)
        assert {order.order_id for order in found} == set(lowest[:count])
    other = golden_orders(events, POLICY, orders=30, seed=8)
    assert {order.order_id for order in other} != set(lowest[:30])


def test_a_sampled_order_is_the_same_as_among_all(
    events: Path, golden: dict[str, GoldenOrder]
) -> None:
    for order in golden_orders(events, POLICY, orders=30):
        assert order == golden[order.order_id]


def test_orders_that_are_named_are_taken_besides(events: Path) -> None:
    named = [HOSTILE_ORDER, "under way", "nowhere"]
    found = golden_orders(events, POLICY, orders=0, also=named)
    assert [order.order_id for order in found] == [HOSTILE_ORDER]
    assert len(golden_orders(events, POLICY, orders=30, also=named)) in (30, 31)


def test_hostile_ids_and_dishes_stay_text(golden: dict[str, GoldenOrder]) -> None:
    assert HOSTILE_ORDER in golden
    assert HOSTILE_DISH in {line.item_name for o in golden.values() for line in o.lines}


def test_a_file_that_is_no_dataset_is_one_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no-such-file") as refused:
        golden_orders(tmp_path / "no-such-file", POLICY)
    assert "\n" not in refused.value.message
    broken = tmp_path / "broken.parquet"
    broken.write_text("not parquet")
    with pytest.raises(DatasetError, match=r"broken\.parquet can't be read"):
        delivered_order_ids(broken)


def test_items_that_are_no_json_are_an_error(tmp_path: Path) -> None:
    class Broken(DataOrder):
        def rows(self) -> list[dict[str, object]]:
            return [row | {"items_json": "[{"} for row in super().rows()]

    path = write_events(tmp_path / "events.parquet", [Broken("o", 1, 0, 60)])
    with pytest.raises(DatasetError, match="can't be read"):
        golden_orders(path, POLICY)


def test_the_sample_dataset_agrees_with_the_rules() -> None:
    golden = golden_orders(sample_dataset(), POLICY)
    assert len(golden) == 1655
    for order in golden:
        answer = refund_answer(order.facts, POLICY)
        assert order.expected == Verdict(decision=answer.refund_class, usd=answer.refund_usd)


@pytest.mark.full
def test_the_full_dataset_agrees_with_the_rules(tmp_path: Path) -> None:
    golden = golden_orders(generate_dataset(tmp_path), POLICY)
    assert len(golden) > 70_000
    for order in golden:
        answer = refund_answer(order.facts, POLICY)
        assert order.expected == Verdict(decision=answer.refund_class, usd=answer.refund_usd)
