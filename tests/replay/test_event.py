"""One row to one event: the contract's examples, written by hand, and what is refused."""

import json
import math
from typing import Any

import pytest

from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.errors import DatasetError
from caspers_lib.replay.event import event_json, event_of_row

ROW = {
    "ts_seconds": 1_704_067_260, "location_id": 2, "order_id": "a1", "sequence": 3,
    "customer_lat": 37.5, "customer_lon": -122.25, "customer_addr": 'é "x"\n',
    "items_json": '[{"id": 1, "price": 9.5}]', "route_json": "[[37.5, -122.25]]",
    "ping_lat": 37.625, "ping_lon": -122.375, "ping_progress": 12.0,
}  # fmt: skip
ORDER_BODY = (
    r'{"customer_lat":37.5,"customer_lon":-122.25,"customer_addr":"é \"x\"\n",'
    r'"items":[{"id": 1, "price": 9.5}]}'
)
BODIES = {
    1: ORDER_BODY,
    2: "{}",
    6: '{"route_points":[[37.5, -122.25]]}',
    7: '{"progress_pct":12.0,"loc_lat":37.625,"loc_lon":-122.375}',
    8: '{"delivered_lat":37.5,"delivered_lon":-122.25}',
}


@pytest.mark.parametrize(("type_id", "body"), BODIES.items())
def test_a_body_has_the_fields_of_its_type(type_id: int, body: str) -> None:
    assert event_of_row({**ROW, "event_type_id": type_id})["body"] == body


def test_an_event_is_one_line_of_seven_fields_in_its_loop() -> None:
    line = event_json({**ROW, "event_type_id": 2}, loop=1, shift=86_400)
    assert line == (
        '{"event_id":"e7141745-ffc8-528a-a980-e1633e520798","event_type":"gk_started",'
        '"ts":"2024-04-01 00:01:00.000","location_id":2,"order_id":"a1-L1","sequence":3,'
        '"body":"{}"}'
    )
    assert json.loads(json.loads(event_json({**ROW, "event_type_id": 1}))["body"])["items"]


def test_a_row_without_a_type_is_refused() -> None:
    with pytest.raises(DatasetError, match="order 'a1' has the unknown event_type_id None"):
        event_json(ROW)


def test_absent_values_leave_the_body_empty() -> None:
    bare = {k: ROW[k] for k in ("ts_seconds", "location_id", "order_id", "sequence")}
    for event_type in GHOST_KITCHEN.event_types:
        assert event_of_row({**bare, "event_type_id": event_type.id})["body"] == "{}"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"order_id": None}, "order 'None' has no order_id"),
        ({"sequence": None}, "order 'a1' has no sequence"),
        ({"event_type_id": 9}, "order 'a1' has the unknown event_type_id 9"),
        ({"customer_lat": math.nan}, "order 'a1' has a customer_lat that is not a finite number"),
        ({"items_json": "[1,]"}, "order 'a1' has a text in items_json that is not JSON"),
        ({"items_json": "[NaN]"}, "order 'a1' has a text in items_json that is not JSON"),
    ],
)
def test_a_row_that_is_no_event_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        event_json({**ROW, "event_type_id": 1, **changed})
