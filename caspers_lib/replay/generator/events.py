"""Orders' lives as rows of the events table.

Contract: docs/contracts.md, Dataset; within an order, `sequence` counts events in time order.
"""

from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from caspers_lib.domain import Domain
from caspers_lib.replay.dataset import EVENTS_SCHEMA
from caspers_lib.replay.generator.baskets import Baskets
from caspers_lib.replay.generator.draws import Floats, Ints
from caspers_lib.replay.generator.orders import Lives
from caspers_lib.replay.generator.streets import Streets

__all__ = ["EVENT_NAMES", "NUMBER", "event_rows", "order_ids"]

NUMBER = "order_number"  # rides along for sorting and is dropped on writing

_PING_SECONDS = 60
_DIGITS = np.frombuffer(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", dtype=np.uint8)
_ID_DIGITS = 7
_PING = "driver_ping"
_SINGLE = (
    ("order_created", "created"),
    ("gk_started", "started"),
    ("gk_finished", "finished"),
    ("gk_ready", "ready"),
    ("driver_arrived", "arrived"),
    ("driver_picked_up", "picked_up"),
    ("delivered", "delivered"),
)
EVENT_NAMES = (*(name for name, _ in _SINGLE), _PING)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Events of some orders: position of the order, event type, second, minute of the drive."""

    order: Ints
    type_id: Ints
    second: Ints
    minute: Ints


def order_ids(numbers: Ints) -> pa.Array:
    """Text ids of order numbers: `O` and seven digits to the base 36, in the numbers' order."""
    powers = 36 ** np.arange(_ID_DIGITS - 1, -1, -1, dtype=np.int64)
    text = np.full((len(numbers), _ID_DIGITS + 1), ord("O"), dtype=np.uint8)
    text[:, 1:] = _DIGITS[(numbers[:, None] // powers) % 36]
    return pa.array(text.view(f"S{_ID_DIGITS + 1}").ravel()).cast(pa.string())


def event_rows(
    lives: Lives,
    baskets: Baskets,
    streets: Streets,
    location_id: int,
    numbers: Ints,
    domain: Domain,
) -> pa.Table:
    """All events of some orders of one kitchen, each order's in time order.

    Args:
        lives: the orders.
        baskets: what was ordered, one per order.
        streets: the city's streets.
        location_id: the kitchen's location.
        numbers: the orders' numbers, unique over the dataset.
        domain: gives the ids of the event types.

    Returns:
        A table of `EVENTS_SCHEMA` with one more column, `NUMBER`.
    """
    rows = _in_time_order(_single_events(lives, domain), _pings(lives, domain))
    type_of = {name: domain.types_by_name[name].id for name in EVENT_NAMES}
    customer = lives.customer[rows.order]
    created = rows.type_id == type_of["order_created"]
    picked_up = rows.type_id == type_of["driver_picked_up"]
    ping = rows.type_id == type_of[_PING]
    located = created | (rows.type_id == type_of["delivered"])
    drive = (lives.delivered - lives.picked_up)[rows.order]
    part = (rows.minute * _PING_SECONDS) / np.maximum(drive, 1)
    way = np.floor(streets.length_dm[customer] * part).astype(np.int64)
    lat, lon = streets.positions(customer, way)
    columns = {
        "event_type_id": rows.type_id,
        "ts_seconds": rows.second,
        "location_id": np.full(len(customer), location_id),
        "order_id": order_ids(numbers).take(pa.array(rows.order)),
        "sequence": _sequence(rows.order),
        "customer_lat": _floats(streets.lat[customer], located),
        "customer_lon": _floats(streets.lon[customer], located),
        "customer_addr": _texts(streets.address, customer, created),
        "items_json": _texts(baskets.items_json, rows.order, created),
        "route_json": _texts(streets.route_json, customer, picked_up),
        "ping_lat": _floats(lat, ping),
        "ping_lon": _floats(lon, ping),
        "ping_progress": _floats(part * 100.0, ping),
    }
    arrays = [
        values if isinstance(values, pa.Array) else pa.array(values).cast(field.type)
        for field, values in ((field, columns[field.name]) for field in EVENTS_SCHEMA)
    ]
    schema = EVENTS_SCHEMA.append(pa.field(NUMBER, pa.int64(), nullable=False))
    return pa.Table.from_arrays([*arrays, pa.array(numbers[rows.order])], schema=schema)


def _single_events(lives: Lives, domain: Domain) -> _Rows:
    count = len(lives.customer)
    types = [domain.types_by_name[name].id for name, _ in _SINGLE]
    seconds = np.concatenate([getattr(lives, attribute) for _, attribute in _SINGLE])
    return _Rows(
        order=np.tile(np.arange(count), len(_SINGLE)),
        type_id=np.repeat(np.asarray(types), count),
        second=seconds,
        minute=np.zeros(len(seconds), dtype=np.int64),
    )


def _pings(lives: Lives, domain: Domain) -> _Rows:
    """One ping a minute between pick-up and delivery."""
    pings = (lives.delivered - lives.picked_up - 1) // _PING_SECONDS
    order = np.repeat(np.arange(len(pings)), pings)
    before = np.cumsum(pings) - pings
    minute = 1 + np.arange(len(order)) - before[order]
    return _Rows(
        order=order,
        type_id=np.full(len(order), domain.types_by_name[_PING].id),
        second=lives.picked_up[order] + minute * _PING_SECONDS,
        minute=minute,
    )


def _in_time_order(*parts: _Rows) -> _Rows:
    whole = [np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(_Rows)]
    order, type_id, second, _ = whole
    place = np.lexsort((type_id, second, order))
    return _Rows(*(column[place] for column in whole))


def _sequence(order: Ints) -> Ints:
    """Position of each row within its order; rows of an order stand together."""
    place = np.arange(len(order))
    first = np.searchsorted(order, order, side="left")
    return place - first


def _floats(values: Floats, there: NDArray[np.bool_]) -> pa.Array:
    return pa.array(values.astype(np.float32), mask=~there)


def _texts(values: tuple[str, ...], index: Ints, there: NDArray[np.bool_]) -> pa.Array:
    """`values[index]` where `there`, null elsewhere; only the values in use are converted."""
    used, place = np.unique(index[there], return_inverse=True)
    dictionary = pa.array([values[i] for i in used.tolist()], type=pa.string())
    whole = np.zeros(len(index), dtype=np.int64)
    whole[there] = place
    return pc.take(dictionary, pa.array(whole, mask=~there))
