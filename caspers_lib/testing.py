"""For tests of your own: a small Spark session in UTC, events as they land, a tiny bronze table.

In a `conftest.py`: `pytest_plugins = ["caspers_lib.testing"]`. The fixtures are `spark`, which a
`spark` of your own replaces, and `tiny_bronze`.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from caspers_lib.domain import GHOST_KITCHEN, Domain
from caspers_lib.medallion import events_of_lines

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["ITEM", "bronze", "event", "order_created", "order_events", "spark", "tiny_bronze"]

ITEM: Mapping[str, object] = {
    "id": 7, "category_id": 6, "menu_id": 5, "brand_id": 4, "name": "Soup", "price": 9.5, "qty": 1,
}  # fmt: skip
"""A line of an order."""

_START = datetime(2024, 3, 11)


def event(event_id: str = "e1", **fields: object) -> dict[str, object]:
    """An event as it lands, with the seven fields.

    Args:
        event_id: the event's id.
        fields: what differs from the kitchen's start of order O1 at location 1.

    >>> event("e2", event_type="delivered")["ts"]
    '2024-03-11 00:00:00.000'
    """
    whole: dict[str, object] = {
        "event_id": event_id,
        "event_type": "gk_started",
        "ts": f"{_START}.000",
        "location_id": 1,
        "order_id": "O1",
        "sequence": 1,
        "body": "{}",
    }
    return whole | fields


def order_created(event_id: str, *items: object, **fields: object) -> dict[str, object]:
    """The event that opens an order.

    Args:
        event_id: the event's id.
        items: its lines, such as `ITEM`.
        fields: what differs from `event`.
    """
    body = json.dumps({"customer_lat": 37.5, "items": list(items)})
    return event(event_id, event_type="order_created", body=body, **fields)


def order_events(
    order_id: str = "O1", *items: object, minutes: float = 30, domain: Domain = GHOST_KITCHEN
) -> list[dict[str, object]]:
    """An order from its first event to its last, one of each type at equal distances.

    Args:
        order_id: the order.
        items: its lines; one `ITEM` if none is given.
        minutes: from the first event to the last.
        domain: names the event types.

    >>> [e["event_type"] for e in order_events()][::7]
    ['order_created', 'delivered']
    """
    opening = order_created("", *(items or (ITEM,)))["body"]
    step = timedelta(minutes=minutes / (len(domain.event_types) - 1))
    return [
        event(
            f"{order_id}-{number}",
            event_type=event_type.name,
            ts=(_START + number * step).isoformat(sep=" ", timespec="milliseconds"),
            order_id=order_id,
            sequence=number,
            body=opening if event_type.name == domain.opening else "{}",
        )
        for number, event_type in enumerate(domain.event_types)
    ]


def bronze(session: "SparkSession", events: Iterable[Mapping[str, object] | str]) -> "DataFrame":
    """Events as rows of the bronze table, the columns of `all_events`.

    Args:
        session: any session, of Spark Connect as well.
        events: each a landed event, or the text of a line.
    """
    lines = [(e if isinstance(e, str) else json.dumps(e, ensure_ascii=False),) for e in events]
    return events_of_lines(session.createDataFrame(lines, "value STRING"), "'test.json'")


@pytest.fixture(scope="session")
def spark() -> "Iterator[SparkSession]":
    """A session in UTC for a few rows, without Delta: one core, no generated code, no page."""
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[1]").appName("tests")
    for name, value in {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "1",
        "spark.sql.codegen.wholeStage": "false",
        "spark.ui.enabled": "false",
    }.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    yield session
    session.stop()


@pytest.fixture
def tiny_bronze(spark: "SparkSession") -> "DataFrame":
    """The bronze table of two orders, one delivered in 30 minutes and one in 50."""
    return bronze(spark, [*order_events("O1"), *order_events("O2", minutes=50)])
