"""A small dataset by hand: orders as rows of an events file, with the columns that matter here."""

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

EPOCH = 1_704_067_200
HOUR = 3_600
HOSTILE_ORDER = "o\x00'\"\\\n<script>alert(1)</script>'); DROP TABLE events; --"
HOSTILE_DISH = "Pho\x00'\"\\\n<b>{dish}{wait}%s$1"

_SCHEMA = pa.schema(
    [
        ("event_type_id", pa.int8()),
        ("ts_seconds", pa.int64()),
        ("location_id", pa.int8()),
        ("order_id", pa.string()),
        ("customer_addr", pa.string()),
        ("items_json", pa.string()),
    ]
)


@dataclass(frozen=True)
class DataOrder:
    """An order of a dataset; seconds count from `EPOCH`, None leaves the event out."""

    order_id: str
    location_id: int
    created: int | None
    delivered: int | None
    lines: tuple[tuple[str, str, int], ...] = (("Noodle Bowl", "12.00", 1),)

    def rows(self) -> list[dict[str, Any]]:
        items = [{"name": n, "price": float(p), "qty": q} for n, p, q in self.lines]
        opened = {"items_json": json.dumps(items), "customer_addr": " 5 Elm Street, Springfield"}
        ends = ((1, self.created, opened), (8, self.delivered, {}))
        return [
            {"event_type_id": kind, "ts_seconds": EPOCH + at, "location_id": self.location_id,
             "order_id": self.order_id, "customer_addr": None, "items_json": None} | body
            for kind, at, body in ends
            if at is not None
        ]  # fmt: skip


def write_events(path: Path, orders: Iterable[DataOrder], *, twice: int = 0) -> Path:
    """Write the orders' events, those of the first `twice` orders two times."""
    listed = list(orders)
    rows = [row for order in (*listed, *listed[:twice]) for row in order.rows()]
    pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), path)
    return path


def some_orders() -> list[DataOrder]:
    """About 400 orders of two locations in 50 hours, and some that are odd."""
    rng = random.Random(5)
    orders = []
    for n in range(400):
        created = rng.randrange(50 * HOUR)
        took = round(rng.lognormvariate(7.7, 0.4))
        lines = tuple(
            (rng.choice(["Soup", "Rice", HOSTILE_DISH]), f"{rng.randint(100, 2500) / 100:.2f}", q)
            for q in range(1, rng.randint(2, 4))
        )
        orders.append(DataOrder(f"o-{n}", rng.choice([1, 2]), created, created + took, lines))
    return [
        *orders,
        DataOrder(HOSTILE_ORDER, 1, 30 * HOUR, 33 * HOUR),
        DataOrder("extreme", 2, 25 * HOUR, 45 * HOUR),
        DataOrder("at once", 2, 40 * HOUR, 40 * HOUR),
        DataOrder("a day", 1, 24 * HOUR, 48 * HOUR),
        DataOrder("no creation", 1, None, 30 * HOUR),
        DataOrder("backwards", 1, 31 * HOUR, 30 * HOUR),
        DataOrder("more than a day", 2, 1, 24 * HOUR + 2),
        DataOrder("no lines", 2, 41 * HOUR, 43 * HOUR, ()),
        DataOrder("no quantity", 2, 41 * HOUR, 43 * HOUR, (("Soup", "5.00", 1), ("Rice", "3", 0))),
        DataOrder("nameless", 2, 41 * HOUR, 43 * HOUR, (("", "5.00", 2),)),
        DataOrder("under way", 2, 49 * HOUR, None),
        DataOrder("elsewhere", 3, 47 * HOUR, 49 * HOUR),
    ]
