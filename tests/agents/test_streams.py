import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pyspark import cloudpickle
from pyspark.sql import functions as F

from caspers_lib.agents.complaint_draws import complains
from caspers_lib.agents.contracts import ComplaintAnswer, RefundAnswer
from caspers_lib.agents.refund_policy import OrderFacts, RefundPolicy, refund_answer
from caspers_lib.agents.streams import (
    complaint_batch_handler,
    refund_batch_handler,
    response_batch_handler,
    run_complaint_stream,
    run_refund_stream,
    run_response_stream,
)
from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.errors import PipelineError

START = datetime(2024, 3, 1, 0, 0, tzinfo=UTC)
HOSTILE_ORDER = "o'\"\\\n\x00<script>alert(1)</script>'); DROP TABLE x; --"
HOSTILE_ITEM = "Pho'\"\\\n\x00<b>{item}%s"
CENT = Decimal("0.01")


@dataclass(frozen=True)
class Order:
    """An order of the small business; minutes count from `START`, None leaves the event out."""

    order_id: str
    location_id: int
    created: float | None
    delivered: float | None
    lines: tuple[tuple[str, str, int], ...] = (("Noodle Bowl", "12.00", 1),)

    def events(self) -> list[tuple[Any, ...]]:
        ends = (("order_created", self.created, 1), ("delivered", self.delivered, 8))
        return [
            (f"{self.order_id}/{n}", kind, stamp(at), self.location_id, self.order_id, n, "{}")
            for kind, at, n in ends
            if at is not None
        ]

    def line_rows(self) -> list[tuple[Any, ...]]:
        created = START + timedelta(minutes=self.created or 0)
        return [
            (self.order_id, n, self.location_id, created, name, Decimal(price), qty,
             Decimal(price) * qty)
            for n, (name, price, qty) in enumerate(self.lines)
        ]  # fmt: skip

    def total(self) -> Decimal:
        return sum((Decimal(price) * qty for _, price, qty in self.lines), Decimal("0.00"))


def stamp(minutes: float) -> str:
    """An event's time text, `minutes` after `START`."""
    return f"{START + timedelta(minutes=minutes):%Y-%m-%d %H:%M:%S.%f}"[:-3]


EXTREME = Order("extreme", 2, 1500.0, 2400.0)


def small_business() -> list[Order]:
    """400 orders of two locations in 50 hours, and one that is really late."""
    rng = random.Random(11)
    orders = []
    for n in range(400):
        created = round(rng.uniform(0, 50 * 60), 3)
        took = round(rng.lognormvariate(3.6, 0.35), 3)
        lines = tuple(
            (rng.choice(["Soup", "Rice", HOSTILE_ITEM]), f"{rng.randint(100, 2500) / 100:.2f}", q)
            for q in range(1, rng.randint(2, 4))
        )
        orders.append(Order(f"o-{n}", rng.choice([1, 2]), created, created + took, lines))
    return [*orders, Order(HOSTILE_ORDER, 1, 2000.0, 2999.0), EXTREME, *odd_orders()]


def odd_orders() -> list[Order]:
    return [
        Order("no creation", 1, None, 2000.0),
        Order("backwards", 1, 2100.0, 2050.0),
        Order("two days", 2, 10.0, 2900.0),
        Order("no lines", 2, 2500.0, 2900.0, ()),
        Order("under way", 2, 2950.0, None),
    ]


def odd_events() -> list[tuple[Any, ...]]:
    """Repeated events, and rows that no rule can place."""
    return [
        *[e for o in small_business()[:40] for e in o.events()],
        ("x", "delivered", "half past nine", 1, "unreadable", 8, "{}"),
        ("y", "delivered", stamp(2000), 1, None, 8, "{}"),
        ("z", "driver_ping", stamp(100), 1, "o-1", 7, "{}"),
    ]


ORDERS = small_business()
DELIVERED = {o.order_id for o in ORDERS if o.delivered is not None} | {"unreadable"}
# A stream reads what the pipeline accepts: an event without a readable time is set aside.
ACCEPTED = DELIVERED - {"unreadable"}


def percentile(values: list[Decimal], p: str) -> Decimal:
    position = (len(values) - 1) * Decimal(p)
    low, high = values[int(position)], values[min(int(position) + 1, len(values) - 1)]
    return (low + (high - low) * (position % 1)).quantize(CENT, ROUND_HALF_UP)


def minutes_of(order: Order) -> Decimal | None:
    if order.created is None or order.delivered is None:
        return None
    ends = [round(m * 60_000) for m in (order.created, order.delivered)]
    millis = ends[1] - ends[0]
    if not 0 <= millis <= 24 * 3_600_000:
        return None
    return (Decimal(millis) / 60_000).quantize(CENT, ROUND_HALF_UP)


def expected_answers() -> dict[str, RefundAnswer]:
    """Every delivered order's answer, computed one by one without Spark."""
    history: dict[int, list[tuple[float, Decimal]]] = defaultdict(list)
    for order in ORDERS:
        took = minutes_of(order)
        if took is not None and order.delivered is not None:
            history[order.location_id].append((order.delivered, took))
    answers = {}
    for order in ORDERS:
        if order.delivered is None:
            continue
        hour = order.delivered // 60 * 60
        past = sorted(m for at, m in history[order.location_id] if hour - 24 * 60 <= at < hour)
        took = minutes_of(order)
        facts = OrderFacts(
            location_id=order.location_id,
            delivered=True,
            total_minutes=took,
            order_total=order.total() if order.lines else None,
            history_orders=len(past),
            p75=percentile(past, "0.75") if past else None,
            p99=percentile(past, "0.99") if past else None,
        )
        answers[order.order_id] = refund_answer(facts, RefundPolicy())
    unreadable = OrderFacts(
        location_id=None, delivered=False, total_minutes=None, order_total=None,
        history_orders=0, p75=None, p99=None,
    )  # fmt: skip
    answers["unreadable"] = refund_answer(unreadable, RefundPolicy())
    return answers


@pytest.fixture(scope="module")
def filled(business: Any) -> Any:
    business.append(
        [e for o in ORDERS for e in o.events()] + odd_events(),
        [line for o in ORDERS + ORDERS[:40] for line in o.line_rows()],
    )
    return business


@pytest.fixture
def half_hour_zone(spark: Any) -> Iterator[None]:
    """A session whose time zone is not the tables'."""
    usual = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", "Asia/Kolkata")
    yield
    spark.conf.set("spark.sql.session.timeZone", usual)


def test_handlers_survive_pickling_even_after_the_domain_was_used() -> None:
    assert GHOST_KITCHEN.types_by_name
    for handler in (
        refund_batch_handler(),
        complaint_batch_handler(rate=0.15, seed=1),
        response_batch_handler(),
    ):
        assert cloudpickle.loads(cloudpickle.dumps(handler)) == handler


def test_a_complaint_rate_outside_zero_to_one_is_refused_before_anything_runs() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        complaint_batch_handler(rate=1.5, seed=1)


@pytest.mark.spark
@pytest.mark.usefixtures("half_hour_zone")
def test_every_delivered_order_gets_one_answer_whatever_the_batches_and_time_zone_j1_j4(
    filled: Any,
) -> None:
    spark, tables = filled.spark, filled.tables
    closing = spark.read.table(tables.events).where("event_type = 'delivered'")
    cut = filled.fresh_outputs("cut")
    handler = refund_batch_handler(tables=cut)
    early, late = F.col("ts") < stamp(2010), F.col("ts") < stamp(2011.5)
    handler(closing.where(early), 0)
    handler(closing.where(late), 1)
    handler(closing.where(~late | F.col("ts").isNull()), 2)
    handler(closing.where(F.lit(False)), 3)
    whole = filled.fresh_outputs("whole")
    refund_batch_handler(tables=whole)(closing, 0)

    rows = filled.rows(whole.recommendations.name)
    assert rows == filled.rows(cut.recommendations.name)
    assert [r[0] for r in rows] == sorted(DELIVERED)
    got = {r[0]: RefundAnswer.model_validate_json(r[3]) for r in rows}
    assert got == expected_answers()
    assert {a.refund_class for a in got.values()} == {"none", "partial", "full"}
    errors = {i for i, a in got.items() if a.source == "error"}
    assert errors == {"no creation", "backwards", "two days", "no lines", "unreadable"}
    times = {r[0]: (r[1], r[2]) for r in rows}
    assert times["unreadable"] == (None, None)
    assert times["no creation"][1] is None
    hostile = next(o for o in ORDERS if o.order_id == HOSTILE_ORDER)
    assert [t.strftime("%H:%M") for t in times[HOSTILE_ORDER]] == [
        f"{START + timedelta(minutes=m or 0):%H:%M}" for m in (hostile.delivered, hostile.created)
    ]


@pytest.mark.spark
def test_the_streams_answer_all_and_a_second_run_changes_nothing_j4(
    filled: Any, tmp_path: Path
) -> None:
    spark, tables = filled.spark, filled.fresh_outputs("streamed")
    written = (tables.recommendations.name, tables.complaints.name, tables.responses.name)

    def run() -> list[list[tuple[Any, ...]]]:
        run_refund_stream(spark, str(tmp_path / "r"), tables=tables)
        run_complaint_stream(spark, str(tmp_path / "c"), 0.5, 3, tables=tables)
        run_response_stream(spark, str(tmp_path / "a"), tables=tables)
        return [filled.rows(name) for name in written]

    first = run()
    assert run() == first
    # A full refresh empties bronze and fills it again: the same answers, once.
    landed = [tuple(row) for row in spark.read.table(tables.events).collect()]
    spark.sql(f"DELETE FROM {tables.events}")
    filled.append([row[:7] for row in landed], [])
    assert run() == first
    response_batch_handler(tables=tables)(spark.read.table(tables.complaints.name), 0)
    assert filled.rows(tables.responses.name) == first[2]

    refunds, complaints, responses = first
    assert [r[0] for r in refunds] == sorted(ACCEPTED)
    assert {c[1] for c in complaints} == {i for i in ACCEPTED if complains(i, 0.5, 3)}
    assert len({UUID(c[0]) for c in complaints}) == len(complaints)
    assert [r[:3] for r in responses] == [c[:3] for c in complaints]
    texts = {c[0]: c[4] for c in complaints}
    assert any(HOSTILE_ITEM in text for text in texts.values())
    totals = {o.order_id: o.total() for o in ORDERS}
    for _, order_id, _, response in responses:
        answer = ComplaintAnswer.model_validate_json(response)
        assert answer.order_id == order_id
        assert (answer.credit_amount or 0) <= totals.get(order_id, 0)


@pytest.mark.spark
def test_a_stream_that_fails_says_which_and_keeps_the_cause(filled: Any, tmp_path: Path) -> None:
    missing = replace(filled.tables.recommendations, name=f"{filled.schema}.nowhere")
    tables = replace(filled.tables, recommendations=missing)
    with pytest.raises(PipelineError, match="stream refunds failed") as failure:
        run_refund_stream(filled.spark, str(tmp_path / "c"), tables=tables)
    assert failure.value.__cause__ is not None
    assert "\n" not in failure.value.message
