import json
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from caspers_lib.agents.complaint_draws import complains, complaint_category, complaint_id
from caspers_lib.agents.complaint_texts import (
    UNKNOWN_STREET,
    UNKNOWN_WAIT,
    complaint_shapes,
    complaint_text,
)
from caspers_lib.agents.complaints import complaining_orders, raw_complaints
from caspers_lib.agents.contracts import CATEGORY_WEIGHTS
from caspers_lib.agents.facts import delivered_orders
from caspers_lib.domain import GHOST_KITCHEN

pytestmark = pytest.mark.spark

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
SCHEMA = (
    "order_id STRING, delivered_ts TIMESTAMP, total_minutes DECIMAL(12,2),"
    " lines ARRAY<STRUCT<line: INT, item_name: STRING, price: DECIMAL(12,2)>>, street STRING"
)
HOSTILE = "Pho'\"\\\n\x00{wait}%s$1<script>alert(1)</script>"
HOSTILE_IDS = ["", "é漢\U0001f35c", "a'\"\\\n\x00;--", "x" * 300]
NAMES = ("Rice", "Fizz", HOSTILE, "{item}", "}{", "a{b}c[{}]", " ", "", "é漢\U0001f35c", None)
STREETS = ("5 Elm Row", HOSTILE, "{street}", "  ", "", None, "1 O'Hara\u2028Road")


def orders(count: int) -> list[tuple[Any, ...]]:
    """Orders with any number of lines, hostile names, and facts that aren't known."""
    rng = random.Random(3)
    ids = [*HOSTILE_IDS, *(f"o-{n}" for n in range(count))]
    return [
        (
            order,
            NOON,
            rng.choice([None, Decimal(rng.randint(0, 400)), Decimal(rng.randint(0, 9000)) / 100]),
            rng.choice([None, [(n, rng.choice(NAMES), None) for n in range(rng.randint(0, 4))]]),
            rng.choice(STREETS),
        )
        for order in ids
    ]


def expected(row: tuple[Any, ...], seed: int) -> str:
    order, _, minutes, lines, street = row
    dishes = [name for _, name, _ in lines or ()]
    return complaint_text(order, seed, dishes=dishes, total_minutes=minutes, street=street)


def test_a_complaint_tells_what_was_true_of_its_order_and_hostile_names_stay_text(
    spark: Any,
) -> None:
    rows = orders(900)
    found = raw_complaints(spark.createDataFrame(rows, SCHEMA), 7, GHOST_KITCHEN.namespace)
    texts = {r.order_id: r.complaint_text for r in found.collect()}
    assert texts == {row[0]: expected(row, 7) for row in rows}
    assert any(HOSTILE in text for text in texts.values())
    assert any("48 minutes" in text for text in texts.values())


def test_the_sample_ids_and_categories_equal_the_python_twin_j6(spark: Any) -> None:
    names = [f"o-{n}" for n in range(1500)] + HOSTILE_IDS
    rows = [(i, NOON, Decimal("48.90"), [(0, "Rice", Decimal("5.00"))], "5 Elm") for i in names]
    frame = spark.createDataFrame(rows, SCHEMA)

    for rate in (0, 0.15, 1):
        sampled = complaining_orders(frame.select("order_id"), rate, 7).collect()
        assert sorted(r.order_id for r in sampled) == sorted(
            i for i in names if complains(i, rate, 7)
        )
    complaints = raw_complaints(frame, 7, GHOST_KITCHEN.namespace).collect()
    assert {r.order_id: (r.complaint_id, r.complaint_category) for r in complaints} == {
        i: (complaint_id(i, GHOST_KITCHEN.namespace), complaint_category(i, 7)) for i in names
    }
    assert {r.generated_by for r in complaints} == {"rules"}
    assert {r.ts for r in complaints} == {r.delivered_ts for r in frame.collect()}


def test_J6_the_same_orders_complain_at_every_cutting_and_on_every_run(spark: Any) -> None:
    frame = spark.createDataFrame(orders(600), SCHEMA)

    def written(part: Any) -> list[tuple[Any, ...]]:
        complaining = complaining_orders(part, 0.3, 7)
        found = raw_complaints(complaining, 7, GHOST_KITCHEN.namespace)
        return [tuple(row) for row in found.collect()]

    whole = sorted(written(frame))
    cut = sorted(
        row for n in range(3) for row in written(frame.where(f"pmod(hash(order_id), 3) = {n}"))
    )
    assert whole == cut == sorted(written(frame.repartition(5)))
    assert len(whole) == sum(complains(row[0], 0.3, 7) for row in orders(600))


def test_rate_categories_and_shapes_hold_within_sampling_error(spark: Any) -> None:
    count, rate = 20_000, 0.15
    ids = spark.range(count).selectExpr("concat('o-', id) AS order_id")
    frame = complaining_orders(ids, rate, 11).selectExpr(
        "order_id",
        "timestamp_seconds(0) AS delivered_ts",
        "CAST(33 AS DECIMAL(12,2)) AS total_minutes",
        "array(named_struct('line', 1, 'item_name', '{item}', 'price', 1.0)) AS lines",
        "'{street}' AS street",
    )
    found = raw_complaints(frame, 11, GHOST_KITCHEN.namespace).collect()
    assert len(found) == pytest.approx(count * rate, abs=4 * (count * rate * (1 - rate)) ** 0.5)
    assert len({r.complaint_id for r in found}) == len(found)
    categories = [r.complaint_category for r in found]
    for name, weight in CATEGORY_WEIGHTS.items():
        mean = len(found) * float(weight)
        spread = 4 * (mean * (1 - float(weight))) ** 0.5
        assert categories.count(name) == pytest.approx(mean, abs=spread)
    # As the places are filled with their own names, the texts are the shapes.
    shapes = {
        shape.replace("{Item}", "{item}")
        .replace("{items}", "{item}")
        .replace("{wait}", "33 minutes")
        for shape in complaint_shapes()
    }
    texts = {r.complaint_text for r in found}
    assert texts <= shapes
    assert len(texts) >= 800


def test_an_orders_street_and_dishes_come_from_its_events(spark: Any, business: Any) -> None:
    def event(kind: str, at: str, order: str, body: object) -> tuple[Any, ...]:
        text = body if isinstance(body, str) else json.dumps(body)
        return ("id", kind, f"2024-03-01 {at}:00.000", 3, order, 1, text)

    created, ended = "order_created", "delivered"
    rows = [
        event(created, "10:00", "usual", {"customer_addr": "5 Elm Row, Apt 2, Chicago, IL"}),
        event(created, "10:00", "usual", {"customer_addr": "5 Elm Row, Apt 2, Chicago, IL"}),
        event(created, "10:30", "usual", {"customer_addr": "9 Later Street"}),
        event(ended, "10:41", "usual", {}),
        event(created, "10:00", "hostile", {"customer_addr": f"{HOSTILE},x"}),
        event(ended, "10:41", "hostile", {}),
        event(created, "10:00", "unreadable", "not json"),
        event(ended, "10:41", "unreadable", {}),
        event(created, "10:00", "backwards", {"customer_addr": "1 Never Road"}),
        event(ended, "09:41", "backwards", {}),
        event(ended, "10:41", "no creation", {}),
    ]
    ids = ["usual", "hostile", "unreadable", "backwards", "no creation", "nowhere"]
    start = NOON - timedelta(hours=2)
    price = Decimal("5.00")
    lines = business.lines([(i, 1, 3, start, f"Rice {i}", price, 1, price) for i in ids])
    found = delivered_orders(
        spark.createDataFrame([(i,) for i in ids], "order_id STRING"),
        business.events(rows),
        lines,
        GHOST_KITCHEN,
    )
    streets = {row.order_id: row.street for row in found.collect()}
    assert streets == {
        "usual": "5 Elm Row",
        "hostile": HOSTILE,
        "unreadable": None,
        "backwards": None,
        "no creation": None,
        "nowhere": None,
    }
    texts = raw_complaints(found, 7, GHOST_KITCHEN.namespace).collect()
    assert not [r for r in texts if "Never" in r.complaint_text or "Later" in r.complaint_text]
    unknown = [r.complaint_text for r in texts if r.order_id == "backwards"]
    assert unknown == [complaint_text("backwards", 7)]


def test_what_is_not_known_is_not_told(spark: Any) -> None:
    rows = [(f"bare-{n}", None, None, None, None) for n in range(300)]
    found = raw_complaints(spark.createDataFrame(rows, SCHEMA), 7, GHOST_KITCHEN.namespace)
    texts = [r.complaint_text for r in found.collect()]
    assert any(UNKNOWN_WAIT in t for t in texts)
    assert any(UNKNOWN_STREET in t for t in texts)
    assert not [t for t in texts if "minutes" in t or "null" in t or "{" in t]
