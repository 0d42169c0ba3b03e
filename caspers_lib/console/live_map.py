"""The cities, the streets that their drivers took, and where each driver is at a moment.

Bodies of events are data of anyone's making: a number counts where it is a JSON number that a
coordinate can be, and no expression here raises on any JSON value.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from psycopg import Connection

from caspers_lib.console.json_columns import json_sql
from caspers_lib.console.live_drawing import Place
from caspers_lib.console.live_orders import moments, recent_orders
from caspers_lib.console.queries import table_sql
from caspers_lib.lakebase import SyncSpec

__all__ = ["City", "Driver", "cities", "drivers", "event_text", "street_routes"]

DRIVERS_PER_CITY = 60
ROUTES_PER_CITY = 150
# More points than a route has; what has more is no route.
_ROUTE_POINTS = 500
_TEXT_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class City:
    """A kitchen's location.

    Args:
        location_id: its id.
        name: the city's name.
        centre: where the kitchen is; None where its table holds no such place.
    """

    location_id: int
    name: str
    centre: Place | None


@dataclass(frozen=True, slots=True)
class Driver:
    """A driver with an order on the way.

    Args:
        order_id: the order.
        location_id: where it comes from.
        place: where the driver was last seen; None before the first ping.
        route: the way to the customer; empty where it is not known.
        minutes: since the order was created.
    """

    order_id: str
    location_id: int | None
    place: Place | None
    route: tuple[Place, ...]
    minutes: float


_CITIES = """
    SELECT location_id, left(name, %(characters)s), lat::float8, lon::float8
    FROM {locations} WHERE location_id IS NOT NULL ORDER BY location_id LIMIT 100
"""

# A tie in time is broken by the event's id, so that a page that asks again sees the same.
_DRIVERS = """
    WITH way AS (
      SELECT order_id, location_id, order_created_ts,
             row_number() OVER (PARTITION BY location_id
                                ORDER BY driver_picked_up_ts DESC, order_id) AS place
      FROM ({recent}) AS recent
      WHERE driver_picked_up_ts <= %(at)s
        AND (delivered_ts IS NULL OR delivered_ts > %(at)s)
    )
    SELECT left(way.order_id, %(characters)s), way.location_id, ping.lat, ping.lon,
           route.points,
           (extract(epoch FROM %(at)s - way.order_created_ts) / 60)::float8
    FROM way
    LEFT JOIN LATERAL (
      SELECT {lat} AS lat, {lon} AS lon FROM {events} AS event
      WHERE event.order_id = way.order_id AND event_type = 'driver_ping' AND ts <= %(ts)s
      ORDER BY ts DESC, event_id LIMIT 1
    ) AS ping ON true
    LEFT JOIN LATERAL (
      SELECT {route} AS points FROM {events} AS event
      WHERE event.order_id = way.order_id AND event_type = 'driver_picked_up'
      ORDER BY ts, event_id LIMIT 1
    ) AS route ON true
    WHERE way.place <= %(limit)s
    ORDER BY way.location_id, way.order_id
"""

_ROUTES = """
    WITH way AS (
      SELECT order_id, location_id,
             row_number() OVER (PARTITION BY location_id
                                ORDER BY driver_picked_up_ts DESC, order_id) AS place
      FROM ({recent}) AS recent WHERE driver_picked_up_ts <= %(at)s
    )
    SELECT way.location_id, {route}
    FROM way JOIN {events} AS event USING (order_id)
    WHERE way.place <= %(limit)s AND event_type = 'driver_picked_up'
    ORDER BY way.location_id, way.place, event_id
"""


def cities(connection: Connection, locations: SyncSpec) -> tuple[City, ...]:
    """The kitchens' locations, by id.

    Args:
        connection: to the database of `locations`.
        locations: the synced table of the locations.

    Raises:
        psycopg.Error: the table is missing or Postgres can't answer.
    """
    query = _CITIES.format(locations=table_sql(locations))
    rows = connection.execute(query.encode(), {"characters": _TEXT_CHARACTERS}).fetchall()
    return tuple(
        City(number, name or f"Location {number}", _place(lat, lon))
        for number, name, lat, lon in rows
    )


def drivers(
    connection: Connection, lifecycle: SyncSpec, events: SyncSpec, at: datetime
) -> tuple[Driver, ...]:
    """The drivers on the way, of each location those who left last.

    Args:
        connection: to the database of both tables.
        lifecycle: the synced table of the orders' lifecycle.
        events: the synced table of the events.
        at: the moment, with a time zone.

    Raises:
        psycopg.Error: a table is missing or Postgres can't answer.
    """
    body = json_sql(connection, events, "body")
    query = _DRIVERS.format(
        recent=recent_orders(lifecycle),
        events=table_sql(events),
        lat=_degrees(f"{body} -> 'loc_lat'"),
        lon=_degrees(f"{body} -> 'loc_lon'"),
        route=_route_sql(body),
    )
    values = moments(at) | {
        "ts": event_text(at),
        "limit": DRIVERS_PER_CITY,
        "characters": _TEXT_CHARACTERS,
    }
    return tuple(
        Driver(order, location, _place(lat, lon), _route(points), minutes)
        for order, location, lat, lon, points, minutes in connection.execute(
            query.encode(), values
        ).fetchall()
    )


def street_routes(
    connection: Connection, lifecycle: SyncSpec, events: SyncSpec, at: datetime
) -> Mapping[int, tuple[tuple[Place, ...], ...]]:
    """The newest routes by location.

    Args:
        connection: to the database of both tables.
        lifecycle: the synced table of the orders' lifecycle.
        events: the synced table of the events.
        at: the moment, with a time zone.

    Raises:
        psycopg.Error: a table is missing or Postgres can't answer.
    """
    points_sql = _route_sql(json_sql(connection, events, "body"))
    query = _ROUTES.format(
        recent=recent_orders(lifecycle), events=table_sql(events), route=points_sql
    )
    found: dict[int, list[tuple[Place, ...]]] = {}
    values = moments(at) | {"limit": ROUTES_PER_CITY}
    for location, points in connection.execute(query.encode(), values).fetchall():
        if location is not None and (route := _route(points)):
            found.setdefault(location, []).append(route)
    return {location: tuple(routes) for location, routes in found.items()}


def event_text(at: datetime) -> str:
    """A moment as events write theirs: `yyyy-MM-dd HH:mm:ss.SSS`, UTC."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ", timespec="milliseconds")


def _degrees(value: str) -> str:
    """The SQL expression of a coordinate: degrees, or NULL.

    Nested CASE, because only CASE keeps a cast from being tried on a value that it does not fit.
    """
    return (
        f"CASE WHEN jsonb_typeof({value}) = 'number' THEN"
        f" CASE WHEN abs(({value})::numeric) <= 180 THEN ({value})::float8 END END"
    )


def _route_sql(body: str) -> str:
    """The SQL expression of a route in the body: its array, or NULL where it can be none."""
    value = f"{body} -> 'route_points'"
    return (
        f"CASE WHEN jsonb_typeof({value}) = 'array' THEN"
        f" CASE WHEN jsonb_array_length({value}) <= {_ROUTE_POINTS} THEN {value} END END"
    )


def _route(points: object) -> tuple[Place, ...]:
    """The route's places; none at all where one of them is no place."""
    if not isinstance(points, list):
        return ()
    places = [_place(*point) if _is_pair(point) else None for point in points]
    return tuple(place for place in places if place) if all(places) else ()


def _is_pair(point: object) -> bool:
    return isinstance(point, Sequence) and len(point) == 2


def _place(lat: object, lon: object) -> Place | None:
    numbers = [float(v) for v in (lat, lon) if type(v) in (int, float)]  # type: ignore[arg-type]
    if len(numbers) < 2 or not all(map(math.isfinite, numbers)):
        return None
    return (numbers[0], numbers[1]) if abs(numbers[0]) <= 90 and abs(numbers[1]) <= 180 else None
