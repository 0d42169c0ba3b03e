"""Everything that the Live page shows of Postgres, read at once and shared by all who ask."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from threading import Lock
from typing import TypeVar

from psycopg import Connection

from caspers_lib.console.databases import ConsoleDatabase
from caspers_lib.console.live_drawing import Drawing, Place, drawing_of, streets_path
from caspers_lib.console.live_glance import (
    ComplaintGlance,
    RefundGlance,
    complaint_glance,
    refund_glance,
)
from caspers_lib.console.live_map import City, Driver, cities, drivers, street_routes
from caspers_lib.console.live_orders import (
    HourFigures,
    LiveEvent,
    MinuteSeries,
    StageCount,
    hour_figures,
    hour_revenue,
    latest_events,
    newest_moment,
    open_orders,
    orders_per_minute,
)
from caspers_lib.console.live_tables import SyncedTable, synced_tables
from caspers_lib.console.live_time import Playhead, advanced
from caspers_lib.console.panels import Panel, Snapshot, snapshot
from caspers_lib.lakebase import SyncSpec

__all__ = ["CityMap", "LiveReader", "LiveReading", "OrderFigures"]

ValueT = TypeVar("ValueT")

TAIL_EVENTS = 12
# Who asks within a second is given the same reading, however many they are.
READING_SECONDS = 1.0
STREETS_SECONDS = 300.0
# Few routes make no city: the streets are asked for again sooner.
STREETS_AT_FIRST_SECONDS = 10.0
_ENOUGH_ROUTES = 100


@dataclass(frozen=True, slots=True)
class OrderFigures:
    """What the lifecycle tells.

    Args:
        series: orders created in each minute.
        stages: open orders by stage.
        hour: how the last hour went.
        events: what happened last.
    """

    series: MinuteSeries
    stages: tuple[StageCount, ...]
    hour: HourFigures
    events: tuple[LiveEvent, ...]

    @property
    def open(self) -> int:
        """Orders that are not delivered."""
        return sum(entry.orders for entry in self.stages if entry.stage.key != "delivered")

    @property
    def most(self) -> int:
        """Orders in the fullest stage."""
        return max(entry.orders for entry in self.stages)


@dataclass(frozen=True, slots=True)
class CityMap:
    """A city as it is drawn.

    Args:
        city: the kitchen's location.
        drawing: where places lie on it.
        streets: the streets that drivers took, as an SVG path; may be empty.
        drivers: the drivers on the way.
    """

    city: City
    drawing: Drawing
    streets: str = ""
    drivers: tuple[Driver, ...] = ()

    @property
    def edition(self) -> str:
        """Another text whenever the streets are drawn otherwise."""
        return sha256(self.streets.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class LiveReading:
    """The business at a moment, as Postgres knows it.

    Args:
        at: the moment; None where there are no orders yet.
        orders: what the lifecycle tells.
        revenue: worth of the last hour's orders, USD.
        maps: the cities with their drivers.
        refunds: the refunds of the last day.
        complaints: the complaints of the last day.
        tables: the synced tables of both databases.
    """

    at: Panel[datetime | None]
    orders: Panel[OrderFigures]
    revenue: Panel[Decimal]
    maps: Panel[tuple[CityMap, ...]]
    refunds: Panel[RefundGlance]
    complaints: Panel[ComplaintGlance]
    tables: tuple[SyncedTable, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong, each sentence once."""
        panels = self.at, self.orders, self.revenue, self.maps, self.refunds, self.complaints
        return tuple(dict.fromkeys(panel.problem for panel in panels if panel.problem))

    @property
    def city_names(self) -> Mapping[int, str]:
        """The cities' names by location."""
        return {one.city.location_id: one.city.name for one in self.maps.value or ()}


class LiveReader:
    """Reads the business for any number of pages: one thread at a time, the others share.

    Args:
        refunds: the database of refunds and orders.
        complaints: the database of complaints.
        tables: the synced tables of both.
        clock: seconds that pass.
    """

    def __init__(
        self,
        refunds: ConsoleDatabase,
        complaints: ConsoleDatabase,
        tables: Sequence[SyncSpec],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._refunds, self._complaints, self._clock = refunds, complaints, clock
        self._specs = {spec.name: spec for spec in tables}
        self._lock = Lock()
        self._reading: tuple[float, LiveReading] | None = None
        self._playhead: Playhead | None = None
        self._streets: dict[int, CityMap] = {}
        self._streets_until = clock()

    def read(self, until: datetime | None = None) -> LiveReading:
        """The business now; never raises a database error.

        Args:
            until: what comes later is not shown; the replay's own virtual time.
        """
        known = self._reading
        if known is not None and self._clock() - known[0] < READING_SECONDS:
            return known[1]
        # A slow database must not hold every thread: what is known will do while another reads.
        if not self._lock.acquire(blocking=known is None) and known is not None:
            return known[1]
        try:
            return self._fresh(until)
        finally:
            self._lock.release()

    def forget(self) -> None:
        """Read anew when next asked, and show virtual time as it is then."""
        with self._lock:
            self._reading = self._playhead = None

    def streets(self, location_id: int) -> str:
        """The streets of a location as an SVG path; empty where none are known."""
        known = self._streets.get(location_id)
        return known.streets if known else ""

    def _fresh(self, until: datetime | None) -> LiveReading:
        """A reading of this second, also where another thread has just made it."""
        if self._reading is not None and self._clock() - self._reading[0] < READING_SECONDS:
            return self._reading[1]
        reading = self._read(until)
        self._reading = self._clock(), reading
        return reading

    def _read(self, until: datetime | None) -> LiveReading:
        lifecycle, orders, answers = self._named("lifecycle", "orders", "refunds")
        with snapshot(self._refunds) as found:
            at = found.panel(
                (lifecycle,), lambda c: self._shown(newest_moment(c, lifecycle), until)
            )
            moment = _Moment(found, at)
            figures = moment.panel((lifecycle,), self._orders)
            revenue = moment.panel(
                (lifecycle, orders), lambda c, t: hour_revenue(c, lifecycle, orders, t)
            )
            maps = moment.panel(self._named("locations", "lifecycle", "events"), self._maps)
            refunds = moment.panel(
                (lifecycle, answers), lambda c, t: refund_glance(c, lifecycle, answers, t)
            )
            tables = self._tables(found, answers.database)
        (answers,) = self._named("complaints")
        with snapshot(self._complaints) as found:
            complaints = found.panel(
                (answers,), lambda c: complaint_glance(c, answers, at.value or until)
            )
            tables += self._tables(found, answers.database)
        return LiveReading(at, figures, revenue, maps, refunds, complaints, tables)

    def _named(self, *names: str) -> tuple[SyncSpec, ...]:
        return tuple(self._specs[name] for name in names)

    def _shown(self, newest: datetime | None, until: datetime | None) -> datetime | None:
        """The moment to show: virtual time, evenly though events come in batches."""
        if newest is None:
            return None
        now = self._clock()
        self._playhead = advanced(self._playhead, min(newest, until or newest), now)
        return self._playhead.at(now)

    def _orders(self, connection: Connection, at: datetime) -> OrderFigures:
        (lifecycle,) = self._named("lifecycle")
        return OrderFigures(
            orders_per_minute(connection, lifecycle, at),
            open_orders(connection, lifecycle, at),
            hour_figures(connection, lifecycle, at),
            latest_events(connection, lifecycle, at, TAIL_EVENTS),
        )

    def _maps(self, connection: Connection, at: datetime) -> tuple[CityMap, ...]:
        locations, lifecycle, events = self._named("locations", "lifecycle", "events")
        on_way = drivers(connection, lifecycle, events, at)
        if self._clock() >= self._streets_until:
            there = cities(connection, locations)
            routes = street_routes(connection, lifecycle, events, at)
            self._streets = {
                city.location_id: _drawn(city, city.centre, routes.get(city.location_id, ()))
                for city in there
                if city.centre is not None
            }
            enough = sum(map(len, routes.values())) >= _ENOUGH_ROUTES
            wait = STREETS_SECONDS if enough else STREETS_AT_FIRST_SECONDS
            self._streets_until = self._clock() + wait
        return tuple(
            replace(drawn, drivers=tuple(d for d in on_way if d.location_id == location_id))
            for location_id, drawn in self._streets.items()
        )

    def _tables(self, found: Snapshot, database: str) -> tuple[SyncedTable, ...]:
        specs = tuple(spec for spec in self._specs.values() if spec.database == database)
        return found.panel(specs, lambda c: synced_tables(c, specs)).value or ()


@dataclass(frozen=True, slots=True)
class _Moment:
    """A snapshot asked about one moment; while there is none, every part says so."""

    found: Snapshot
    at: Panel[datetime | None]

    def panel(
        self, needs: Sequence[SyncSpec], read: Callable[[Connection, datetime], ValueT]
    ) -> Panel[ValueT]:
        at = self.at.value
        if at is None:
            waiting = "" if self.at.problem else self.at.waiting or "Waiting for the first order."
            return Panel(waiting=waiting, problem=self.at.problem)
        return self.found.panel(needs, lambda connection: read(connection, at))


def _drawn(city: City, centre: Place, routes: Sequence[Sequence[Place]]) -> CityMap:
    drawing = drawing_of(centre, [place for route in routes for place in route])
    return CityMap(city, drawing, streets_path(drawing, routes))
