"""The console's SQL: counts, sums and the newest rows, all worked out by Postgres.

`agent_response` is written by models and rules, so nothing is assumed about it: an amount counts
when it is a JSON number that money can be, and no expression here raises on any JSON value.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from psycopg import Connection
from psycopg.rows import class_row

from caspers_lib.lakebase.sync_spec import SyncSpec

__all__ = [
    "ComplaintRow",
    "ComplaintTotals",
    "RefundRow",
    "RefundTotals",
    "amount_sql",
    "complaint_totals",
    "newest_complaints",
    "newest_refunds",
    "refund_totals",
    "table_sql",
    "text_sql",
]

# More than DECIMAL(12,2) holds is not an amount of money.
AMOUNT_LIMIT_USD = 10**10
# Characters of a free text that leave the database; the page shows fewer.
TEXT_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class RefundTotals:
    """Sums over all refund recommendations.

    Args:
        delivered: delivered orders; each has one recommendation.
        suggested: recommendations whose class is not `none`.
        suggested_usd: their sum, USD.
        unclassed: answers without a class; they suggest nothing.
    """

    delivered: int
    suggested: int
    suggested_usd: Decimal
    unclassed: int


@dataclass(frozen=True, slots=True)
class RefundRow:
    """One suggested refund; an answer's field is None where it is missing or no such value.

    Args:
        order_id: the order.
        delivered_at: when it was delivered, event time.
        minutes: from the order's creation to its delivery.
        refund_class: `partial` or `full`, or what the answer says instead.
        refund_usd: the suggested amount, USD.
        reason: why, in words.
        source: who answered: `model`, `rules` or `error`.
    """

    order_id: str
    delivered_at: datetime | None
    minutes: float | None
    refund_class: str | None
    refund_usd: Decimal | None
    reason: str | None
    source: str | None


@dataclass(frozen=True, slots=True)
class ComplaintTotals:
    """Sums over all answered complaints.

    Args:
        complaints: answered complaints.
        escalated: those handed to a person.
        credits: those answered with a suggested credit.
        credits_usd: the credits' sum, USD.
        undecided: answers without a decision.
    """

    complaints: int
    escalated: int
    credits: int
    credits_usd: Decimal
    undecided: int


@dataclass(frozen=True, slots=True)
class ComplaintRow:
    """One answered complaint; an answer's field is None where it is missing or no such value.

    Args:
        complaint_id: the complaint.
        order_id: the order it is about.
        answered_at: the response's time.
        category: what it is about, as the agent sees it.
        decision: `suggest_credit` or `escalate`, or what the answer says instead.
        credit_usd: the suggested credit, USD.
        priority: how urgent it is.
        rationale: why, in words.
        customer_response: the proposed reply to the customer.
        source: who answered: `model`, `rules` or `error`.
    """

    complaint_id: str
    order_id: str | None
    answered_at: datetime | None
    category: str | None
    decision: str | None
    credit_usd: Decimal | None
    priority: str | None
    rationale: str | None
    customer_response: str | None
    source: str | None


def amount_sql(key: str) -> str:
    """The SQL expression of an amount in the answer: USD to the cent, or NULL.

    Nested CASE, because only CASE keeps a cast from being tried on a value that it does not fit.
    """
    value = f"agent_response -> '{key}'"
    return (
        f"CASE WHEN jsonb_typeof({value}) = 'number' THEN"
        f" CASE WHEN abs(({value})::numeric) < {AMOUNT_LIMIT_USD}"
        f" THEN round(({value})::numeric, 2) END END"
    )


def table_sql(spec: SyncSpec) -> str:
    """The synced table, quoted; the driver's placeholder sign in its name stays a character."""
    return spec.target.replace("%", "%%")


def text_sql(key: str) -> str:
    """The SQL expression of a text in the answer, cut to what a page may carry."""
    return f"left(agent_response ->> '{key}', {TEXT_LIMIT})"


REFUND_TOTALS = """
    SELECT count(*) AS delivered,
           count(*) FILTER (WHERE class <> 'none') AS suggested,
           coalesce(sum(usd) FILTER (WHERE class <> 'none'), 0) AS suggested_usd,
           count(*) FILTER (WHERE class IS NULL) AS unclassed
    FROM (SELECT agent_response ->> 'refund_class' AS class, {usd} AS usd FROM {table}) AS answer
"""

NEWEST_REFUNDS = """
    SELECT order_id, ts AS delivered_at,
           (extract(epoch FROM ts - order_ts) / 60)::float8 AS minutes,
           {refund_class} AS refund_class, {usd} AS refund_usd, {reason} AS reason,
           {source} AS source
    FROM {table}
    WHERE agent_response ->> 'refund_class' <> 'none'
    ORDER BY ts DESC NULLS LAST, order_id DESC
    LIMIT %s
"""

COMPLAINT_TOTALS = """
    SELECT count(*) AS complaints,
           count(*) FILTER (WHERE decision = 'escalate') AS escalated,
           count(*) FILTER (WHERE decision = 'suggest_credit') AS credits,
           coalesce(sum(usd) FILTER (WHERE decision = 'suggest_credit'), 0) AS credits_usd,
           count(*) FILTER (WHERE decision IS NULL) AS undecided
    FROM (SELECT agent_response ->> 'decision' AS decision, {usd} AS usd FROM {table}) AS answer
"""

NEWEST_COMPLAINTS = """
    SELECT complaint_id, order_id, ts AS answered_at, {category} AS category,
           {decision} AS decision, {usd} AS credit_usd, {priority} AS priority,
           {rationale} AS rationale, {customer_response} AS customer_response, {source} AS source
    FROM {table}
    ORDER BY ts DESC NULLS LAST, complaint_id DESC
    LIMIT %s
"""


def refund_totals(connection: Connection, spec: SyncSpec) -> RefundTotals:
    """The sums over all refund recommendations.

    Args:
        connection: to the database that `spec` names.
        spec: the synced table; columns order_id text, ts and order_ts timestamptz,
            agent_response jsonb.

    Raises:
        psycopg.Error: the table is missing or Postgres can't answer.
    """
    query = REFUND_TOTALS.format(usd=amount_sql("refund_usd"), table=table_sql(spec))
    with connection.cursor(row_factory=class_row(RefundTotals)) as cursor:
        return cursor.execute(query.encode()).fetchall()[0]


def newest_refunds(connection: Connection, spec: SyncSpec, limit: int) -> tuple[RefundRow, ...]:
    """The suggested refunds delivered last, newest first.

    Args:
        connection: to the database that `spec` names.
        spec: the synced table, as for `refund_totals`.
        limit: rows at most.

    Raises:
        psycopg.Error: the table is missing or Postgres can't answer.
    """
    query = NEWEST_REFUNDS.format(
        refund_class=text_sql("refund_class"),
        usd=amount_sql("refund_usd"),
        reason=text_sql("reason"),
        source=text_sql("source"),
        table=table_sql(spec),
    )
    with connection.cursor(row_factory=class_row(RefundRow)) as cursor:
        return tuple(cursor.execute(query.encode(), (limit,)).fetchall())


def complaint_totals(connection: Connection, spec: SyncSpec) -> ComplaintTotals:
    """The sums over all answered complaints.

    Args:
        connection: to the database that `spec` names.
        spec: the synced table; columns complaint_id and order_id text, ts timestamptz,
            agent_response jsonb.

    Raises:
        psycopg.Error: the table is missing or Postgres can't answer.
    """
    query = COMPLAINT_TOTALS.format(usd=amount_sql("credit_amount"), table=table_sql(spec))
    with connection.cursor(row_factory=class_row(ComplaintTotals)) as cursor:
        return cursor.execute(query.encode()).fetchall()[0]


def newest_complaints(
    connection: Connection, spec: SyncSpec, limit: int
) -> tuple[ComplaintRow, ...]:
    """The complaints answered last, newest first.

    Args:
        connection: to the database that `spec` names.
        spec: the synced table, as for `complaint_totals`.
        limit: rows at most.

    Raises:
        psycopg.Error: the table is missing or Postgres can't answer.
    """
    query = NEWEST_COMPLAINTS.format(
        category=text_sql("complaint_category"),
        decision=text_sql("decision"),
        usd=amount_sql("credit_amount"),
        priority=text_sql("priority"),
        rationale=text_sql("rationale"),
        customer_response=text_sql("customer_response"),
        source=text_sql("source"),
        table=table_sql(spec),
    )
    with connection.cursor(row_factory=class_row(ComplaintRow)) as cursor:
        return tuple(cursor.execute(query.encode(), (limit,)).fetchall())
