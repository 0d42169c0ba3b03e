"""What the check says that the tables would set aside, and that the tables do set it aside."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from caspers_lib.domain import GHOST_KITCHEN, Rule
from caspers_lib.errors import DatasetError
from caspers_lib.medallion import bronze_events, quarantined_events
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.dataset_check import check_dataset
from caspers_lib.replay.dataset_quarantine import create_judged_view
from caspers_lib.replay.dataset_query import dataset_connection
from caspers_lib.replay.dataset_validation import create_events_view
from caspers_lib.replay.engine import Replay

Row = dict[str, Any]
GOOD = '[{"id": 1, "brand_id": 2, "name": "Soup", "price": 9.5, "qty": 2}]'
WIDE = {"location_id": pa.int64(), "sequence": pa.int64()}


def order(**changes: Any) -> Row:
    return {"event_type_id": 1, "items_json": GOOD, **changes}


def items(*fields: Row) -> Row:
    return order(items_json=json.dumps(fields))


def route(text: str) -> Row:
    return {"event_type_id": 6, "route_json": text}


HOSTILE: list[tuple[Row, str]] = [
    (order(), ""),
    ({"event_type_id": 2}, ""),
    (order(order_id=""), "order_id_present"),
    (order(location_id=5_000_000_000), "field_types"),
    (order(location_id=-(2**31) - 1, order_id="5"), "field_types"),
    (order(sequence=2**31), "field_types"),
    (order(location_id=2**31 - 1), ""),
    (order(sequence=-1), "sequence_not_negative"),
    (order(sequence=-1, items_json="[5]"), "sequence_not_negative"),
    (order(items_json=None), "items_not_empty"),
    (order(items_json="[]"), "items_not_empty"),
    *((order(items_json=text), "body_valid") for text in ("[5]", '["x"]', "[[]]", "[true]")),
    *((order(items_json=text), "qty_at_least_1") for text in ("[null]", "[{}]", '[{"price":1}]')),
    (items({"qty": "2", "price": 1}), "body_valid"),
    (items({"qty": 2.0, "price": 1}), "body_valid"),
    (items({"qty": True, "price": 1}), "body_valid"),
    (items({"qty": 2**31, "price": 1}), "body_valid"),
    (items({"qty": 1, "price": 1, "id": 3_000_000_000}), "body_valid"),
    (items({"qty": 1, "price": 1, "brand_id": {"a": 1}}), "body_valid"),
    (items({"qty": 0, "price": 1}), "qty_at_least_1"),
    (items({"qty": 1, "price": 1}, {"qty": -1, "price": 1}), "qty_at_least_1"),
    (items({"qty": 1, "price": -0.01}), "price_not_negative"),
    (items({"qty": 1, "price": -0.004}), ""),
    (items({"qty": 1}), "price_not_negative"),
    (items({"qty": 1, "price": None}), "price_not_negative"),
    (items({"qty": 1, "price": "9.50"}), ""),
    (items({"qty": 1, "price": "1,000.5"}), ""),
    (items({"qty": 1, "price": " 9"}), "body_valid"),
    (items({"qty": 1, "price": ""}), "body_valid"),
    (items({"qty": 1, "price": "free"}), "body_valid"),
    (items({"qty": 1, "price": [1]}), "body_valid"),
    (items({"qty": 1, "price": 99_999_999_999}), "body_valid"),
    (order(items_json='[{"qty": 1, "price": 1e3}]'), ""),
    (order(items_json='[{"qty": 1e0, "price": 1}]'), "body_valid"),
    (order(items_json='[{"qty": 1, "price": 1, "qty": 0}]'), "qty_at_least_1"),
    (order(items_json='[{"qty": 0, "price": 1, "qty": 1}]'), ""),
    (order(items_json='[{"qty": "x", "price": 1, "qty": 1}]'), "body_valid"),
    (order(items_json='[{"qty": 1, "price": {}, "price": 1, "price": 2}]'), "body_valid"),
    (order(items_json='[{"qty": 1, "price": 1, "price": [], "price": 2}]'), "body_valid"),
    (items({"qty": 1, "price": 1, "name": {"a": [1]}}), ""),
    (items({"qty": 1, "price": 1, "name": 'So\x00up "\\ é🍔'}), ""),
    (items({"qty": 1, "price": 1, "Qty": "x", "more": [[]]}), ""),
    (route("[[37.5, -122.0], [37.6, -122]]"), ""),
    (route("[[], [null], null]"), ""),
    (route('[["37.5"]]'), "body_valid"),
    (route("[37.5]"), "body_valid"),
    (route("[[[37.5]]]"), "body_valid"),
    (route("[" * 150 + "]" * 150), "body_valid"),
]


def random_text(draw: random.Random) -> str:
    """A basket of a few items whose fields are this and that."""
    values = ("0", "1", "-1", "7", "2.0", "1.5", "-0.01", "1e1", '"3"', '"x"', "null", "true", "{}")
    keys = ("qty", "price", "id", "name", "other")
    lines = []
    for _ in range(draw.randrange(3)):
        more = [f'"{draw.choice(keys)}": {draw.choice(values)}' for _ in range(draw.randrange(5))]
        fields = ", ".join(('"qty": 1', '"price": 1', *more))
        lines.append(f"{{{fields}}}")
    return f"[{', '.join(lines)}]"


@pytest.fixture
def hostile(
    tmp_path: Path, event_row: Callable[..., Row], write_rows: Callable[..., EventsFile]
) -> EventsFile:
    draw = random.Random(7)
    rows = [row for row, _ in HOSTILE] + [order(items_json=random_text(draw)) for _ in range(300)]
    return write_rows(
        tmp_path / "hostile" / "events.parquet",
        [event_row(**{"order_id": f"O{n:03}", **row}) for n, row in enumerate(rows)],
        types=WIDE,
    )


def first_reasons(dataset: EventsFile) -> dict[str, str]:
    """The first rule that an order's event violates; of others there is nothing."""
    with dataset_connection(dataset.path, None) as connection:
        create_events_view(connection, dataset.path, GHOST_KITCHEN)
        rules, unjudged = create_judged_view(connection, GHOST_KITCHEN)
        assert not unjudged
        rows = connection.execute("SELECT order_id, rule FROM judged").fetchall()
    return {order_id: rules[rule].name for order_id, rule in rows if rule is not None}


def test_every_event_is_judged_as_the_rules_say(hostile: EventsFile) -> None:
    reasons = first_reasons(hostile)
    expected = {
        row.get("order_id", f"O{n:03}"): reason for n, (row, reason) in enumerate(HOSTILE) if reason
    }
    assert {key: reason for key, reason in reasons.items() if key in expected} == expected
    assert len({*reasons.values()}) == 7


@pytest.mark.spark
def test_the_tables_set_the_same_events_aside_for_the_same_reasons(
    spark: Any, hostile: EventsFile, tmp_path: Path, make_replay: Callable[..., Replay]
) -> None:
    tick = make_replay(hostile, tmp_path, start_day=0).tick(1_750_000_000.0)
    assert tick.events == hostile.rows
    landed = bronze_events(spark, str(tmp_path / "events"), stream=False)
    rows = quarantined_events(landed).selectExpr("order_id", "reasons[0] AS reason").collect()
    assert {row.order_id: row.reason for row in rows} == first_reasons(hostile)


def test_the_check_says_what_would_be_set_aside_and_why(
    tmp_path: Path, event_row: Callable[..., Row], write_rows: Callable[..., EventsFile]
) -> None:
    rows = [order()] * 6 + [items({"qty": 0, "price": 1})] * 2 + [route("[1]"), route("[]")]
    rows = [event_row(**row, order_id=f"O{n}") for n, row in enumerate(rows)]
    report = check_dataset(write_rows(tmp_path / "events.parquet", rows).path)
    text = " ".join(" ".join(report.lines()).split())
    assert "The tables would set 3 of 10 events aside, in quarantine" in text
    assert "qty_at_least_1: 2 order_created, the first in order O6, every line of an order" in text
    document = report.as_document()["quarantine"]
    assert [(g["rule"], g["events"]) for g in document["groups"]] == [
        ("body_valid", 1),
        ("qty_at_least_1", 2),
    ]
    rows[3]["items_json"] = rows[4]["items_json"] = rows[5]["items_json"] = "[]"
    with pytest.raises(DatasetError) as refused:
        check_dataset(write_rows(tmp_path / "events.parquet", rows).path)
    assert (
        "3 of 8 order_created by items_not_empty (order_created has at least one of items), the "
        "first in order 'O3'; 2 of 8 order_created by qty_at_least_1"
    ) in refused.value.message


def test_a_rule_that_only_spark_can_judge_is_named(
    tmp_path: Path, event_row: Callable[..., Row], write_rows: Callable[..., EventsFile]
) -> None:
    rules = (
        Rule("near", "h3_try_validate(parsed.customer_lat)", "quarantine", "it is near"),
        Rule("one_brand", "exists(parsed.items, i -> i.brand_id <=> 2)", "drop", "brand 2 sells"),
        Rule(
            "cheap", "aggregate(parsed.items, 0, (sum, i) -> sum + i.qty) < 3", "fail", "it's few"
        ),
    )
    domain = replace(GHOST_KITCHEN, rules=rules)
    rows = [order(), order(), items({"qty": 1, "brand_id": 3}), items({"qty": 3, "brand_id": 2})]
    rows = [event_row(**row, order_id=f"O{n}") for n, row in enumerate(rows)]
    report = check_dataset(write_rows(tmp_path / "events.parquet", rows).path, domain)
    assert report.quarantine.unjudged == ("near",)
    groups = [(g.rule, g.events, g.first_order) for g in report.quarantine.groups]
    assert groups == [("one_brand", 1, "O2"), ("cheap", 1, "O3")]
    assert "not judged here, Spark alone can: near" in "\n".join(report.lines())
