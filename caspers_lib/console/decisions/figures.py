"""The cards above a list: what agents suggest, what people gave, what still waits."""

from dataclasses import dataclass
from decimal import Decimal

from psycopg import Connection
from psycopg.rows import class_row

from caspers_lib.console.decisions.values import GIVEN, CaseKind
from caspers_lib.console.queries import amount_sql, table_sql
from caspers_lib.domain.ghost_kitchen import LATE_MINUTES

__all__ = ["CaseFigures", "case_figures"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFigures:
    """Sums over all cases of a kind.

    Args:
        cases: answers of the agent.
        suggested: those that suggest an amount.
        suggested_usd: the amounts together, USD.
        escalated: complaints that the agent hands to a person.
        unreadable: answers without a class or a decision.
        decided: cases that people have decided.
        given_usd: what customers get, USD.
        pending_usd: what is suggested and not yet decided, USD.
        median_minutes: from order to delivery, in the last day of the data; None of complaints.
        late_share: of the deliveries of that day, those that took more than `LATE_MINUTES`.
    """

    cases: int
    suggested: int
    suggested_usd: Decimal
    escalated: int
    unreadable: int
    decided: int
    given_usd: Decimal
    pending_usd: Decimal
    median_minutes: float | None
    late_share: float | None


_FIGURES = """
    WITH answers AS (
        SELECT count(*) AS cases, count(*) FILTER (WHERE usd > 0) AS suggested,
               coalesce(sum(usd) FILTER (WHERE usd > 0), 0) AS suggested_usd,
               count(*) FILTER (WHERE label = 'escalate') AS escalated,
               count(*) FILTER (WHERE label IS NULL) AS unreadable
        FROM (SELECT agent_response ->> '{label}' AS label, {usd} AS usd FROM {table}) AS answer
    ), decisions AS (
        SELECT count(*) FILTER (WHERE status <> 'pending') AS decided,
               coalesce(sum(amount_usd) FILTER (WHERE status = ANY (%(given)s)), 0) AS given_usd,
               coalesce(sum(suggested_usd) FILTER (WHERE status <> 'pending'), 0) AS settled_usd
        FROM (
            SELECT DISTINCT ON (case_id) * FROM {trail} ORDER BY case_id, version DESC
        ) AS latest
    ), deliveries AS (
        SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY minutes) AS median_minutes,
               avg((minutes > %(late)s)::int)::float8 AS late_share
        FROM ({minutes}) AS day
    )
    SELECT cases, suggested, suggested_usd, escalated, unreadable, decided, given_usd,
           greatest(suggested_usd - settled_usd, 0) AS pending_usd, median_minutes, late_share
    FROM answers, decisions, deliveries
"""
_MINUTES = """
    SELECT (extract(epoch FROM ts - order_ts) / 60)::float8 AS minutes FROM {table}
    WHERE ts > (SELECT max(ts) FROM {table}) - interval '24 hours'
"""


def case_figures(connection: Connection, kind: CaseKind) -> CaseFigures:
    """The sums now.

    Args:
        connection: to the kind's database, with its trail.
        kind: whose.

    Raises:
        psycopg.Error: a table is missing, or the server can't answer.
    """
    table = table_sql(kind.spec)
    nothing = "SELECT NULL::float8 AS minutes WHERE false"
    query = _FIGURES.format(
        label="decision" if kind.has_reply else "refund_class",
        usd=amount_sql(kind.amount),
        table=table,
        trail=kind.trail,
        minutes=nothing if kind.has_reply else _MINUTES.format(table=table),
    )
    values = {"given": list(GIVEN), "late": LATE_MINUTES}
    with connection.cursor(row_factory=class_row(CaseFigures)) as cursor:
        return cursor.execute(query.encode(), values).fetchall()[0]
