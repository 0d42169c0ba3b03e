"""Refunds and complaints of the last day at a glance.

What agents answered is judged as in `queries`: no expression raises on any JSON value.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from psycopg import Connection
from psycopg.rows import class_row

from caspers_lib.console.json_columns import json_sql
from caspers_lib.console.live_orders import moments
from caspers_lib.console.queries import (
    ComplaintRow,
    RefundRow,
    amount_sql,
    newest_sql,
    table_sql,
    text_sql,
)
from caspers_lib.lakebase import SyncSpec

__all__ = ["ComplaintGlance", "RefundGlance", "complaint_glance", "refund_glance"]

ROWS = 6
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class RefundGlance:
    """The refunds suggested for orders delivered in the last day.

    Args:
        judged: orders with a recommendation.
        suggested: those whose class is not `none`.
        suggested_usd: their sum, USD.
        rows: the newest of them.
    """

    judged: int
    suggested: int
    suggested_usd: Decimal
    rows: tuple[RefundRow, ...] = ()


@dataclass(frozen=True, slots=True)
class ComplaintGlance:
    """The complaints about orders delivered in the last day.

    Args:
        complaints: answered complaints.
        escalated: those handed to a person.
        credits_usd: the credits suggested, USD.
        rows: the newest complaints.
    """

    complaints: int
    escalated: int
    credits_usd: Decimal
    rows: tuple[ComplaintRow, ...] = ()


# The answers have no index but their key: the day's orders lead to them.
_DAY_REFUNDS = """
    SELECT refund.order_id, lifecycle.delivered_ts,
           (extract(epoch FROM refund.ts - refund.order_ts) / 60)::float8 AS minutes,
           {refund_class} AS class, {usd} AS usd, {reason} AS reason, {source} AS source
    FROM {lifecycle} AS lifecycle JOIN {refunds} AS refund USING (order_id)
    WHERE lifecycle.order_day BETWEEN %(day_before)s AND %(today)s
      AND lifecycle.delivered_ts > %(since)s AND lifecycle.delivered_ts <= %(at)s
"""

_REFUND_SUMS = """
    SELECT count(*), count(*) FILTER (WHERE class <> 'none'),
           coalesce(sum(usd) FILTER (WHERE class <> 'none'), 0)
    FROM ({day}) AS day
"""

_REFUND_ROWS = """
    SELECT left(order_id, 200) AS order_id, delivered_ts AS delivered_at, minutes,
           class AS refund_class, usd AS refund_usd, reason, source
    FROM ({day}) AS day WHERE class <> 'none'
    ORDER BY delivered_ts DESC, order_id LIMIT %(limit)s
"""

_COMPLAINT_SUMS = """
    SELECT count(*), count(*) FILTER (WHERE {decision} = 'escalate'),
           coalesce(sum({usd}) FILTER (WHERE {decision} = 'suggest_credit'), 0)
    FROM {complaints} WHERE ts > %(since)s AND ts <= %(at)s
"""

_COMPLAINT_ROWS = """
    SELECT left(complaint_id, 200) AS complaint_id, left(order_id, 200) AS order_id,
           ts AS answered_at, {category} AS category, {decision} AS decision, {usd} AS credit_usd,
           {priority} AS priority, {rationale} AS rationale,
           {customer_response} AS customer_response, {source} AS source
    FROM {complaints} WHERE ts > %(since)s AND ts <= %(at)s
    ORDER BY ts DESC, complaint_id LIMIT %(limit)s
"""


def refund_glance(
    connection: Connection, lifecycle: SyncSpec, refunds: SyncSpec, at: datetime
) -> RefundGlance:
    """The refunds of the day up to a moment.

    Args:
        connection: to the database of both tables.
        lifecycle: the synced table of the orders' lifecycle.
        refunds: the synced table of the recommendations.
        at: the moment, with a time zone.

    Raises:
        psycopg.Error: a table is missing or Postgres can't answer.
    """
    answer = json_sql(connection, refunds, "agent_response")
    day = _DAY_REFUNDS.format(
        lifecycle=table_sql(lifecycle),
        refunds=table_sql(refunds),
        usd=amount_sql("refund_usd", answer=answer),
        **{name: text_sql(name, answer=answer) for name in ("refund_class", "reason", "source")},
    )
    values = _values(at)
    query = _REFUND_SUMS.format(day=day)
    [(judged, suggested, usd)] = connection.execute(query.encode(), values).fetchall()
    with connection.cursor(row_factory=class_row(RefundRow)) as cursor:
        rows = cursor.execute(_REFUND_ROWS.format(day=day).encode(), values).fetchall()
    return RefundGlance(judged, suggested, usd, tuple(rows))


def complaint_glance(
    connection: Connection, complaints: SyncSpec, at: datetime | None
) -> ComplaintGlance:
    """The complaints of the day up to a moment.

    Args:
        connection: to the database of `complaints`.
        complaints: the synced table of the answered complaints.
        at: the moment, with a time zone; None is that of the newest complaint.

    Raises:
        psycopg.Error: the table is missing or Postgres can't answer.
    """
    if at is None:
        query = newest_sql("ts", table_sql(complaints))
        [(at,)] = connection.execute(query.encode()).fetchall()
        if at is None:
            return ComplaintGlance(0, 0, Decimal(0))
    texts = ("decision", "priority", "rationale", "customer_response", "source")
    answer = json_sql(connection, complaints, "agent_response")
    sql = {
        "complaints": table_sql(complaints),
        "usd": amount_sql("credit_amount", answer=answer),
        "category": text_sql("complaint_category", answer=answer),
        **{name: text_sql(name, answer=answer) for name in texts},
    }
    values = _values(at)
    query = _COMPLAINT_SUMS.format(**sql)
    [(complaint_count, escalated, usd)] = connection.execute(query.encode(), values).fetchall()
    with connection.cursor(row_factory=class_row(ComplaintRow)) as cursor:
        rows = cursor.execute(_COMPLAINT_ROWS.format(**sql).encode(), values).fetchall()
    return ComplaintGlance(complaint_count, escalated, usd, tuple(rows))


def _values(at: datetime) -> dict[str, object]:
    values = moments(at)
    day_before = (at - 2 * _DAY).date()
    return {**values, "day_before": day_before, "since": at - _DAY, "limit": ROWS}
