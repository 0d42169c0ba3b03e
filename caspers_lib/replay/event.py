"""One dataset row to one event, in plain Python: what the mappings of DuckDB and Spark amount to.

Contract: docs/contracts.md, Replay. It is meant for reading, small tests and single events; a
replay maps whole windows, see `caspers_lib.replay.mapping`.
"""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from uuid import uuid5

from caspers_lib.domain import GHOST_KITCHEN, BodyField, Domain
from caspers_lib.errors import DatasetError

__all__ = [
    "event_id_name",
    "event_json",
    "event_of_row",
    "json_of_event",
    "json_text",
    "order_suffix",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHORT_ESCAPES = {"\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", '"': '"', "\\": "\\"}


def order_suffix(loop: int) -> str:
    """What an entity's id gets in loop `loop`: nothing in loop 0, then -L1, -L2, ..."""
    return f"-L{loop}" if loop else ""


def event_id_name(order_id: str, sequence: int) -> str:
    """The text whose UUIDv5, in the domain's namespace, is the event's id.

    Args:
        order_id: with its loop's suffix.
        sequence: the event's number in the order.
    """
    return f"{order_id}|{sequence}"


def event_json(
    row: Mapping[str, Any],
    domain: Domain = GHOST_KITCHEN,
    *,
    loop: int = 0,
    shift: int = 0,
    cycle_seconds: int | None = None,
) -> str:
    """One dataset row as one event: a JSON object in one line.

    The bytes are those that a replay writes, but for numbers below 0.0001 or from 1e16 on, which
    have another exponent's form and the same value.

    Args:
        row: the dataset's columns by name; absent optional ones may be missing or None.
        domain: the business.
        loop: the loop in which the row is played.
        shift: seconds from virtual to emitted time.
        cycle_seconds: length of a loop; None is the domain's.

    Raises:
        DatasetError: as for `event_of_row`.

    >>> row = {"event_type_id": 4, "ts_seconds": 1704067260, "location_id": 2,
    ...        "order_id": "a1", "sequence": 3}
    >>> event_json(row)[-57:]
    '"location_id":2,"order_id":"a1","sequence":3,"body":"{}"}'
    """
    return json_of_event(
        event_of_row(row, domain, loop=loop, shift=shift, cycle_seconds=cycle_seconds)
    )


def json_of_event(event: Mapping[str, object]) -> str:
    """An event's columns as a JSON object in one line, in their order."""
    values = ((k, json_text(v) if isinstance(v, str) else str(v)) for k, v in event.items())
    return "{" + ",".join(f"{json_text(name)}:{value}" for name, value in values) + "}"


def event_of_row(
    row: Mapping[str, Any],
    domain: Domain = GHOST_KITCHEN,
    *,
    loop: int = 0,
    shift: int = 0,
    cycle_seconds: int | None = None,
) -> dict[str, Any]:
    """One dataset row as the event's columns, in their order; `body` is a JSON text.

    Args:
        row: the dataset's columns by name; absent optional ones may be missing or None.
        domain: the business.
        loop: the loop in which the row is played.
        shift: seconds from virtual to emitted time.
        cycle_seconds: length of a loop; None is the domain's.

    Raises:
        DatasetError: no order, location, sequence or time, an unknown event type, a number that is
            not finite, or a text that should be JSON and isn't.
    """
    for column in (domain.entity_key, domain.site_key, "sequence", "ts_seconds"):
        if row.get(column) is None:
            _refuse(row, domain, f"no {column}")
    types = {event_type.id: event_type for event_type in domain.event_types}
    type_id: Any = row.get("event_type_id")
    event_type = types.get(type_id)
    if event_type is None:
        _refuse(row, domain, f"the unknown event_type_id {type_id}")
    entity_id = f"{row[domain.entity_key]}{order_suffix(loop)}"
    cycle = domain.cycle_seconds if cycle_seconds is None else cycle_seconds
    seconds = row["ts_seconds"] + loop * cycle + shift
    ts = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M:%S.000")
    fields = (_body_field(field, row, domain) for field in event_type.body)
    values = {
        "event_id": str(uuid5(domain.namespace, event_id_name(entity_id, row["sequence"]))),
        "event_type": event_type.name,
        "ts": ts,
        domain.site_key: row[domain.site_key],
        domain.entity_key: entity_id,
        "sequence": row["sequence"],
        "body": "{" + ",".join(filter(None, fields)) + "}",
    }
    return {column.name: values[column.name] for column in domain.event_columns}


def _body_field(field: BodyField, row: Mapping[str, Any], domain: Domain) -> str:
    """`"name":value`; nothing where the value is absent."""
    value = row.get(field.column)
    if value is None:
        return ""
    if field.kind == "number":
        if not math.isfinite(value):
            _refuse(row, domain, f"a {field.column} that is not a finite number: {value}")
        text = repr(float(value))
    elif field.kind == "text":
        text = json_text(value)
    else:
        try:
            json.loads(value, parse_constant=int)  # int refuses NaN and the infinities
        except ValueError:
            _refuse(row, domain, f"a text in {field.column} that is not JSON")
        text = value
    return f"{json_text(field.name)}:{text}"


def json_text(value: str) -> str:
    """A JSON string: quotes, backslashes and control characters escaped, all else as it is."""
    escaped = (
        f"\\{_SHORT_ESCAPES[char]}"
        if char in _SHORT_ESCAPES
        else char
        if char >= " "
        else f"\\u{ord(char):04X}"
        for char in value
    )
    return f'"{"".join(escaped)}"'


def _refuse(row: Mapping[str, Any], domain: Domain, what: str) -> NoReturn:
    raise DatasetError(f"order '{row.get(domain.entity_key)}' has {what}")
