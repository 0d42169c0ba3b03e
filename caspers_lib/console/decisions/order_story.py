"""What happened to an order and what its customer wrote, for who decides.

Bodies of events are data of anyone's making: what can't be a coordinate is left out.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from psycopg import Connection

from caspers_lib.console.decisions.ledger import order_payouts
from caspers_lib.console.decisions.values import OrderBalance, Payout
from caspers_lib.console.json_columns import json_sql
from caspers_lib.console.live_drawing import Place, drawing_of
from caspers_lib.console.queries import table_sql
from caspers_lib.lakebase import SyncSpec

__all__ = ["OrderLine", "OrderStory", "RouteDrawing", "StoryEvent", "complaint_text", "order_story"]

_MOST_EVENTS = 500
_MOST_LINES = 200
_PING = "driver_ping"

_EVENTS = """
    SELECT left(ts, 40), left(event_type, 100), {body} FROM {events}
    WHERE order_id = %s ORDER BY ts, event_id LIMIT %s
"""
_LINES = """
    SELECT left(item_name, 200), qty, extended_price FROM {lines}
    WHERE order_id = %s ORDER BY line LIMIT %s
"""
_TEXT = "SELECT left(complaint_text, 10000) FROM {texts} WHERE complaint_id = %s"
_HEADER = """
    SELECT header.order_revenue, left(place.name, 200)
    FROM {orders} AS header
    LEFT JOIN {locations} AS place USING (location_id)
    WHERE header.order_id = %s
"""


@dataclass(frozen=True, slots=True)
class StoryEvent:
    """One event; pings are counted, not listed.

    Args:
        at: its time as it came in.
        what: its type.
    """

    at: str
    what: str


@dataclass(frozen=True, slots=True)
class OrderLine:
    """One line of the order.

    Args:
        name: what was ordered.
        qty: how many.
        usd: what they cost together.
    """

    name: str
    qty: int | None
    usd: Decimal | None


@dataclass(frozen=True, slots=True)
class RouteDrawing:
    """The way to the customer, drawn from -100 to 100 around its beginning.

    Args:
        route: the planned way, as an SVG path's `d`.
        pings: where the driver was, as points.
    """

    route: str
    pings: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class OrderStory:
    """An order as Postgres knows it.

    Args:
        events: oldest first, without pings.
        pings: how many there were.
        lines: what was ordered.
        total_usd: what it costs; None while it is not known.
        given: what its cases give, of both kinds.
        left_usd: what they may still give together; None while the total is not known.
        city: where.
        drawing: the way; None where it is not known.
    """

    events: tuple[StoryEvent, ...] = ()
    pings: int = 0
    lines: tuple[OrderLine, ...] = ()
    total_usd: Decimal | None = None
    given: tuple[Payout, ...] = ()
    left_usd: Decimal | None = None
    city: str | None = None
    drawing: RouteDrawing | None = field(default=None)


def order_story(
    connection: Connection, tables: Mapping[str, SyncSpec], order_id: str
) -> OrderStory:
    """What is known of an order; empty where nothing is.

    Args:
        connection: to the database of the order tables.
        tables: the synced tables by name: events, lines, orders, locations.
        order_id: the order.

    Raises:
        psycopg.Error: a table is missing, or the server can't answer.
    """
    names = {name: table_sql(spec) for name, spec in tables.items()}
    names["body"] = json_sql(connection, tables["events"], "body")

    def rows(template: str, *values: object) -> list[tuple[object, ...]]:
        return connection.execute(template.format(**names).encode(), values).fetchall()

    events = rows(_EVENTS, order_id, _MOST_EVENTS)
    header = rows(_HEADER, order_id)
    total, city = header[0] if header else (None, None)
    balance = OrderBalance(total, order_payouts(connection, order_id))  # type: ignore[arg-type]
    return OrderStory(
        events=tuple(StoryEvent(str(at), str(what)) for at, what, _ in events if what != _PING),
        pings=sum(what == _PING for _, what, _ in events),
        lines=tuple(OrderLine(*line) for line in rows(_LINES, order_id, _MOST_LINES)),  # type: ignore[arg-type]
        total_usd=balance.total_usd,
        given=balance.payouts,
        left_usd=balance.left_usd,
        city=city,  # type: ignore[arg-type]
        drawing=_drawing([body for _, _, body in events]),
    )


def complaint_text(connection: Connection, texts: SyncSpec, complaint_id: str) -> str:
    """What the customer wrote, at most 10,000 characters; empty where it is not there.

    Args:
        connection: to the database of the complaints.
        texts: the synced table of the texts.
        complaint_id: the complaint.

    Raises:
        psycopg.Error: the table is missing, or the server can't answer.
    """
    query = _TEXT.format(texts=table_sql(texts))
    found = connection.execute(query.encode(), (complaint_id,)).fetchone()
    return found[0] or "" if found else ""


def _drawing(bodies: Sequence[object]) -> RouteDrawing | None:
    known = [body for body in bodies if isinstance(body, dict)]
    route = next((way for body in known if (way := _places(body.get("route_points")))), [])
    pings = [p for body in known if (p := _place((body.get("loc_lat"), body.get("loc_lon"))))]
    if not route and not pings:
        return None
    drawing = drawing_of((route or pings)[0], [*route, *pings])
    return RouteDrawing(drawing.path(route), tuple(drawing.point(ping) for ping in pings))


def _places(points: object) -> list[Place]:
    found = [_place(point) for point in points] if isinstance(points, list) else []
    return [place for place in found if place is not None]


def _place(pair: object) -> Place | None:
    if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        return None
    lat, lon = pair
    if not all(type(value) in (int, float) and math.isfinite(value) for value in pair):
        return None
    return (float(lat), float(lon)) if abs(lat) <= 90 and abs(lon) <= 180 else None
