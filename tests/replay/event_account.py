"""Rows to try the mapping on, and what `event_json` makes of them."""

import json
import math
from typing import Any

from hypothesis import strategies as st

from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.replay.event import event_json, event_of_row, json_of_event

EPOCH = GHOST_KITCHEN.epoch
DAY = 86_400

Row = dict[str, Any]


def reference_event(row: Row, loop: int, shift: int) -> Row:
    """The seven event columns of a row in a loop of a dataset that lasts a day."""
    return event_of_row(row, loop=loop, shift=shift, cycle_seconds=DAY)


def line_of(event: Row) -> str:
    return json_of_event(event) + "\n"


def reference_line(row: Row, loop: int, shift: int) -> str:
    return event_json(row, loop=loop, shift=shift, cycle_seconds=DAY) + "\n"


def played(rows: list[Row], loops: int) -> list[tuple[Row, int]]:
    """Rows with their loop, in the order of time, order and sequence."""
    found = [(row, loop) for row in rows for loop in range(loops)]
    found.sort(key=lambda p: (p[0]["ts_seconds"] + p[1] * DAY, p[0]["order_id"], p[0]["sequence"]))
    return found


def reference_lines(rows: list[Row], *, loops: int, shift: int) -> list[str]:
    return [reference_line(row, loop, shift) for row, loop in played(rows, loops)]


def parsed(line: str) -> Row:
    event: Row = json.loads(line)
    return {**event, "body": json.loads(event["body"])}


texts = st.text(max_size=20) | st.text(
    "\"\\/\x00\x01\x1f\x7f\n\r\t\u2028é🍔<>'|-L1,]}nai", max_size=12
)
float32s = st.floats(width=32, allow_nan=False, allow_infinity=False)  # subnormal numbers too
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
json_texts = st.builds(
    json.dumps,
    st.lists(json_values, max_size=3),
    ensure_ascii=st.booleans(),
    indent=st.none() | st.just(1),
)


def row_sets_with(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[list[Row]]:
    """Datasets of a few rows, two days long."""
    optional = {
        **dict.fromkeys(("customer_lat", "customer_lon"), numbers),
        "customer_addr": texts,
        **dict.fromkeys(("items_json", "route_json"), json_texts),
        **dict.fromkeys(("ping_lat", "ping_lon", "ping_progress"), numbers),
    }
    rows = st.fixed_dictionaries(
        {
            "event_type_id": st.sampled_from([e.id for e in GHOST_KITCHEN.event_types]),
            "ts_seconds": st.integers(EPOCH, EPOCH + 2 * DAY),
            "location_id": st.integers(-128, 127),
            "order_id": texts,
            "sequence": st.integers(-128, 127),
            **{name: st.none() | values for name, values in optional.items()},
        }
    )
    return st.lists(
        rows, min_size=1, max_size=12, unique_by=lambda row: (row["order_id"], row["sequence"])
    )


row_sets = row_sets_with(float32s)
plain_row_sets = row_sets_with(st.integers(-(2**20), 2**20).map(lambda number: number / 64))


def writes_numbers_as_python_does(row: Row) -> bool:
    """Exponents are written 1e16 here and 1e+16 there: the same numbers, other bytes."""
    numbers = [v for v in row.values() if isinstance(v, float) and math.isfinite(v)]
    return all(v == 0 or 1e-4 <= abs(v) < 1e16 for v in numbers)
