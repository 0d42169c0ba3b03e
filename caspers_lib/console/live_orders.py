"""Orders at a moment: how many a minute, where they stand, how the last hour went.

Everything comes from the lifecycle of the orders of two days, found by its index on the day, so
that a page costs the same after a week as after a year. A moment is always a parameter: what
happened later does not count, so that a replay that was sought back is shown as it plays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from psycopg import Connection
from psycopg.rows import class_row

from caspers_lib.console.queries import newest_sql, table_sql
from caspers_lib.domain.ghost_kitchen import LATE_MINUTES
from caspers_lib.lakebase import SyncSpec

__all__ = [
    "STAGES",
    "HourFigures",
    "LiveEvent",
    "MinuteSeries",
    "OrderStage",
    "StageCount",
    "hour_figures",
    "hour_revenue",
    "latest_events",
    "moments",
    "newest_moment",
    "open_orders",
    "orders_per_minute",
    "recent_orders",
]

SERIES_HOURS = 6
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class OrderStage:
    """Where an order can stand.

    Args:
        key: short name.
        label: its name on the page.
        columns: columns of the lifecycle whose times bring an order here.
    """

    key: str
    label: str
    columns: tuple[str, ...]


STAGES = (
    OrderStage("created", "Created", ("order_created_ts",)),
    OrderStage("kitchen", "In the kitchen", ("gk_started_ts", "gk_finished_ts")),
    OrderStage("ready", "Ready", ("gk_ready_ts",)),
    OrderStage("arrived", "Driver arrived", ("driver_arrived_ts",)),
    OrderStage("way", "On the way", ("driver_picked_up_ts", "driver_ping_ts")),
    OrderStage("delivered", "Delivered", ("delivered_ts",)),
)
"""The stages in the order in which an order passes them."""
_STAGE = {stage.key: stage for stage in STAGES}

# The tail leaves pings out: there is one a minute for each order on the way.
_TAIL = {
    "order_created_ts": "Order created",
    "gk_started_ts": "Kitchen started",
    "gk_finished_ts": "Kitchen finished",
    "gk_ready_ts": "Ready for pick-up",
    "driver_arrived_ts": "Driver arrived",
    "driver_picked_up_ts": "Picked up",
    "delivered_ts": "Delivered",
}


@dataclass(frozen=True, slots=True)
class MinuteSeries:
    """Orders created in each minute up to a moment.

    Args:
        first: the start of the first minute, UTC epoch seconds.
        counts: orders, a value for each minute.
    """

    first: int
    counts: tuple[int, ...]

    @property
    def peak(self) -> int:
        """The most orders in a minute."""
        return max(self.counts, default=0)

    def smooth(self, minutes: int = 15) -> tuple[float, ...]:
        """The mean over the minutes before and including each."""
        sums = [0]
        for number in self.counts:
            sums.append(sums[-1] + number)
        ends = range(1, len(sums))
        return tuple((sums[e] - sums[max(0, e - minutes)]) / min(e, minutes) for e in ends)


@dataclass(frozen=True, slots=True)
class StageCount:
    """Orders in a stage.

    Args:
        stage: the stage.
        orders: how many; of the delivered ones those of the last hour.
        longest_minutes: how long the one that came first has been there; None where none is.
    """

    stage: OrderStage
    orders: int
    longest_minutes: float | None = None


@dataclass(frozen=True, slots=True)
class HourFigures:
    """How the last hour went.

    Args:
        orders: orders created.
        orders_before: those of the hour before.
        delivered: orders delivered.
        late: those of them that took longer than `LATE_MINUTES`.
        median_minutes: from order to delivery; None where nothing was delivered.
    """

    orders: int
    orders_before: int
    delivered: int
    late: int
    median_minutes: float | None


@dataclass(frozen=True, slots=True)
class LiveEvent:
    """Something that happened to an order.

    Args:
        at: when.
        what: in words.
        order_id: the order.
        location_id: the kitchen's location.
    """

    at: datetime
    what: str
    order_id: str
    location_id: int | None


_NEWEST = """
    WITH newest (day) AS ({newest})
    SELECT max(happened.at)
    FROM {lifecycle}, LATERAL unnest(ARRAY[{times}]) AS happened (at)
    WHERE order_day BETWEEN (SELECT day FROM newest) - 1 AND (SELECT day FROM newest)
      AND happened.at < ((SELECT day FROM newest) + 2)::timestamp AT TIME ZONE 'UTC'
"""

_RECENT = """
    SELECT * FROM {lifecycle}
    WHERE order_day BETWEEN %(yesterday)s AND %(today)s AND order_created_ts <= %(at)s
"""

_PER_MINUTE = """
    SELECT floor(extract(epoch FROM order_created_ts) / 60)::bigint AS minute, count(*)
    FROM ({recent}) AS recent
    WHERE order_created_ts >= %(since)s
    GROUP BY minute
"""

_OPEN = """
    SELECT stage, count(*), (extract(epoch FROM %(at)s - min(since)) / 60)::float8
    FROM (SELECT {stage} AS stage, {since} AS since FROM ({recent}) AS recent) AS standing
    WHERE stage <> 'delivered' OR since > %(hour)s
    GROUP BY stage
"""

_FIGURES = """
    SELECT count(*) FILTER (WHERE order_created_ts > %(hour)s) AS orders,
           count(*) FILTER (WHERE order_created_ts > %(before)s AND order_created_ts <= %(hour)s)
             AS orders_before,
           count(*) FILTER (WHERE fresh) AS delivered,
           count(*) FILTER (WHERE fresh AND total_minutes > %(late)s) AS late,
           (percentile_cont(0.5) WITHIN GROUP (ORDER BY total_minutes::float8)
             FILTER (WHERE fresh)) AS median_minutes
    FROM (SELECT *, delivered_ts > %(hour)s AND delivered_ts <= %(at)s AS fresh
          FROM ({recent}) AS recent) AS judged
"""

_REVENUE = """
    SELECT coalesce(sum(header.order_revenue), 0)
    FROM ({recent}) AS recent JOIN {orders} AS header USING (order_id)
    WHERE recent.order_created_ts > %(hour)s
"""

_TAIL_SQL = """
    SELECT happened.at, happened.what, left(recent.order_id, 200) AS order_id, recent.location_id
    FROM ({recent}) AS recent, LATERAL (VALUES {happenings}) AS happened (at, what)
    WHERE happened.at <= %(at)s
    ORDER BY happened.at DESC, recent.order_id, happened.what
    LIMIT %(limit)s
"""


def recent_orders(lifecycle: SyncSpec) -> str:
    """SQL of the orders that can matter at a moment; takes the parameters of `moments`."""
    return _RECENT.format(lifecycle=table_sql(lifecycle))


def newest_moment(connection: Connection, lifecycle: SyncSpec) -> datetime | None:
    """The greatest event time that is not far ahead of all others; None where there are no orders.

    Args:
        connection: to the database of `lifecycle`.
        lifecycle: the synced table of the orders' lifecycle.

    Raises:
        psycopg.Error: the table is missing or Postgres can't answer.
    """
    times = ", ".join(column for stage in STAGES for column in stage.columns)
    table = table_sql(lifecycle)
    newest_day = newest_sql("order_day", table)
    query = _NEWEST.format(times=times, lifecycle=table, newest=newest_day)
    [(newest,)] = connection.execute(query.encode()).fetchall()
    return None if newest is None else newest.astimezone(UTC)


def moments(at: datetime) -> dict[str, object]:
    """What the queries bind for a moment."""
    day = at.astimezone(UTC).date()
    return {
        "at": at,
        "hour": at - _HOUR,
        "before": at - 2 * _HOUR,
        "today": day,
        "yesterday": day - timedelta(days=1),
    }


def orders_per_minute(
    connection: Connection, lifecycle: SyncSpec, at: datetime, *, hours: int = SERIES_HOURS
) -> MinuteSeries:
    """Orders created in each minute of the last hours, minutes without any included.

    Args:
        connection: to the database of `lifecycle`.
        lifecycle: the synced table of the orders' lifecycle.
        at: the moment, with a time zone.
        hours: how far back.

    Raises:
        psycopg.Error: the table is missing or Postgres can't answer.
    """
    last = int(at.timestamp()) // 60
    first = last - hours * 60 + 1
    values = moments(at) | {"since": datetime.fromtimestamp(first * 60, UTC)}
    query = _PER_MINUTE.format(recent=recent_orders(lifecycle))
    found: dict[int, int] = dict(connection.execute(query.encode(), values).fetchall())
    return MinuteSeries(first * 60, tuple(found.get(m, 0) for m in range(first, last + 1)))


def open_orders(
    connection: Connection, lifecycle: SyncSpec, at: datetime
) -> tuple[StageCount, ...]:
    """How many orders of the last two days stand in each stage.

    Args:
        connection: to the database of `lifecycle`.
        lifecycle: the synced table of the orders' lifecycle.
        at: the moment, with a time zone.

    Raises:
        psycopg.Error: the table is missing or Postgres can't answer.
    """
    query = _OPEN.format(
        recent=recent_orders(lifecycle),
        stage=_last_stage([f"'{stage.key}'" for stage in STAGES]),
        since=_last_stage([_entered(stage) for stage in STAGES]),
    )
    rows = connection.execute(query.encode(), moments(at)).fetchall()
    found = {key: StageCount(_STAGE[key], orders, longest) for key, orders, longest in rows}
    return tuple(found.get(stage.key, StageCount(stage, 0)) for stage in STAGES)


def hour_figures(connection: Connection, lifecycle: SyncSpec, at: datetime) -> HourFigures:
    """How the last hour went.

    Args:
        connection: to the database of `lifecycle`.
        lifecycle: the synced table of the orders' lifecycle.
        at: the moment, with a time zone.

    Raises:
        psycopg.Error: the table is missing or Postgres can't answer.
    """
    query = _FIGURES.format(recent=recent_orders(lifecycle))
    with connection.cursor(row_factory=class_row(HourFigures)) as cursor:
        values = moments(at) | {"late": LATE_MINUTES}
        return cursor.execute(query.encode(), values).fetchall()[0]


def hour_revenue(
    connection: Connection, lifecycle: SyncSpec, orders: SyncSpec, at: datetime
) -> Decimal:
    """What the orders of the last hour are worth, USD.

    Args:
        connection: to the database of both tables.
        lifecycle: the synced table of the orders' lifecycle.
        orders: the synced table of the orders' headers.
        at: the moment, with a time zone.

    Raises:
        psycopg.Error: a table is missing or Postgres can't answer.
    """
    query = _REVENUE.format(recent=recent_orders(lifecycle), orders=table_sql(orders))
    [(revenue,)] = connection.execute(query.encode(), moments(at)).fetchall()
    return Decimal(revenue)


def latest_events(
    connection: Connection, lifecycle: SyncSpec, at: datetime, limit: int
) -> tuple[LiveEvent, ...]:
    """What happened last, newest first; pings are left out.

    Args:
        connection: to the database of `lifecycle`.
        lifecycle: the synced table of the orders' lifecycle.
        at: the moment, with a time zone.
        limit: events at most.

    Raises:
        psycopg.Error: the table is missing or Postgres can't answer.
    """
    happenings = ", ".join(f"({column}, '{words}')" for column, words in _TAIL.items())
    query = _TAIL_SQL.format(recent=recent_orders(lifecycle), happenings=happenings)
    with connection.cursor(row_factory=class_row(LiveEvent)) as cursor:
        return tuple(cursor.execute(query.encode(), moments(at) | {"limit": limit}).fetchall())


def _entered(stage: OrderStage) -> str:
    return f"least({', '.join(stage.columns)})"


def _last_stage(values: Sequence[str]) -> str:
    """A CASE over the stages from the last to the first that an order has reached."""
    reached = zip(reversed(STAGES), reversed(values), strict=True)
    cases = " ".join(f"WHEN {_entered(s)} <= %(at)s THEN {value}" for s, value in reached)
    return f"CASE {cases} END"
