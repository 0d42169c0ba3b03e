"""A plain Python account of the mapping, and rows to try it on."""

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from hypothesis import strategies as st

from caspers_lib.domain import GHOST_KITCHEN

EPOCH = GHOST_KITCHEN.epoch
DAY = 86_400
NAMESPACE = UUID("5d0c8a52-6d4b-5c0e-9f0e-0a6f3c1b7e21")

# Event type id: its name, and its body's keys with their column and whether it is JSON already.
EVENTS: dict[int, tuple[str, list[tuple[str, str, bool]]]] = {
    1: (
        "order_created",
        [
            ("customer_lat", "customer_lat", False),
            ("customer_lon", "customer_lon", False),
            ("customer_addr", "customer_addr", False),
            ("items", "items_json", True),
        ],
    ),
    2: ("gk_started", []),
    3: ("gk_finished", []),
    4: ("gk_ready", []),
    5: ("driver_arrived", []),
    6: ("driver_picked_up", [("route_points", "route_json", True)]),
    7: (
        "driver_ping",
        [
            ("progress_pct", "ping_progress", False),
            ("loc_lat", "ping_lat", False),
            ("loc_lon", "ping_lon", False),
        ],
    ),
    8: (
        "delivered",
        [
            ("delivered_lat", "customer_lat", False),
            ("delivered_lon", "customer_lon", False),
        ],
    ),
}
SHORT_ESCAPES = {"\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", '"': '"', "\\": "\\"}

Row = dict[str, Any]


def json_text(value: str) -> str:
    """A JSON string: quotes, backslashes and control characters escaped, all else as it is."""

    def escaped(char: str) -> str:
        if char in SHORT_ESCAPES:
            return "\\" + SHORT_ESCAPES[char]
        return char if char >= " " else f"\\u{ord(char):04X}"

    return '"' + "".join(map(escaped, value)) + '"'


def body_text(row: Row) -> str:
    fields = []
    for key, column, is_json in EVENTS[row["event_type_id"]][1]:
        value = row[column]
        if value is None:
            continue
        text = value if is_json else json_text(value) if isinstance(value, str) else repr(value)
        fields.append(f'"{key}":{text}')
    return "{" + ",".join(fields) + "}"


def reference_event(row: Row, loop: int, shift: int) -> Row:
    """The seven event columns of a row in a loop of a dataset that lasts a day."""
    order = row["order_id"] + ("" if loop == 0 else f"-L{loop}")
    seconds = row["ts_seconds"] + loop * DAY + shift
    ts = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return {
        "event_id": str(uuid5(NAMESPACE, f"{order}|{row['sequence']}")),
        "event_type": EVENTS[row["event_type_id"]][0],
        "ts": ts.strftime("%Y-%m-%d %H:%M:%S") + ".000",
        "location_id": row["location_id"],
        "order_id": order,
        "sequence": row["sequence"],
        "body": body_text(row),
    }


def line_of(event: Row) -> str:
    """An event as one JSON object and a newline."""
    fields = ((k, json_text(v) if isinstance(v, str) else str(v)) for k, v in event.items())
    return "{" + ",".join(f'"{key}":{value}' for key, value in fields) + "}\n"


def reference_line(row: Row, loop: int, shift: int) -> str:
    return line_of(reference_event(row, loop, shift))


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
            "event_type_id": st.sampled_from(sorted(EVENTS)),
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
