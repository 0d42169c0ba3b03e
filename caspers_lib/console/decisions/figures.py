"""The cards above a list: what agents suggest, what people gave, what still waits."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from psycopg import Connection
from psycopg.rows import dict_row

from caspers_lib.console.decisions.values import GIVEN, CaseKind
from caspers_lib.console.queries import amount_sql, table_sql
from caspers_lib.console.remembered import Remembered
from caspers_lib.domain.ghost_kitchen import LATE_MINUTES

__all__ = ["CaseFigures", "CaseFiguresReader"]


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


_ANSWERS = """
    WITH answers AS (
        SELECT count(*) AS cases, count(*) FILTER (WHERE usd > 0) AS suggested,
               coalesce(sum(usd) FILTER (WHERE usd > 0), 0) AS suggested_usd,
               count(*) FILTER (WHERE label = 'escalate') AS escalated,
               count(*) FILTER (WHERE label IS NULL) AS unreadable
        FROM (SELECT agent_response ->> '{label}' AS label, {usd} AS usd FROM {table}) AS answer
    ), deliveries AS (
        SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY minutes) AS median_minutes,
               avg((minutes > %(late)s)::int)::float8 AS late_share
        FROM ({minutes}) AS day
    )
    SELECT * FROM answers, deliveries
"""
_DECISIONS = """
    SELECT count(*) FILTER (WHERE status <> 'pending') AS decided,
           coalesce(sum(amount_usd) FILTER (WHERE status = ANY (%(given)s)), 0) AS given_usd,
           coalesce(sum(suggested_usd) FILTER (WHERE status <> 'pending'), 0) AS settled_usd
    FROM (SELECT DISTINCT ON (case_id) * FROM {trail} ORDER BY case_id, version DESC) AS latest
"""
_MINUTES = """
    SELECT (extract(epoch FROM ts - order_ts) / 60)::float8 AS minutes FROM {table}
    WHERE ts > (SELECT max(ts) FROM {table}) - interval '24 hours'
"""


class CaseFiguresReader:
    """Reads the figures of one kind; what is summed over all answers is as of some seconds ago.

    Args:
        kind: whose.
        remember_seconds: how long the answers' sums are good for.
        clock: seconds that pass.
    """

    def __init__(
        self,
        kind: CaseKind,
        *,
        remember_seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.kind = kind
        self._answers = Remembered[dict[str, Any]](remember_seconds, clock=clock)

    def read(self, connection: Connection) -> CaseFigures:
        """The figures now.

        Args:
            connection: to the kind's database, with its trail.

        Raises:
            psycopg.Error: a table is missing, or the server can't answer.
        """
        answers = self._answers.value(lambda: self._summed(connection))
        query = _DECISIONS.format(trail=self.kind.trail)
        decisions = _one(connection, query, {"given": list(GIVEN)})
        pending = max(answers["suggested_usd"] - decisions.pop("settled_usd"), Decimal(0))
        return CaseFigures(**answers, **decisions, pending_usd=pending)

    def _summed(self, connection: Connection) -> dict[str, Any]:
        kind, table = self.kind, table_sql(self.kind.spec)
        nothing = "SELECT NULL::float8 AS minutes WHERE false"
        query = _ANSWERS.format(
            label="decision" if kind.has_reply else "refund_class",
            usd=amount_sql(kind.amount),
            table=table,
            minutes=nothing if kind.has_reply else _MINUTES.format(table=table),
        )
        return _one(connection, query, {"late": LATE_MINUTES})


def _one(connection: Connection, query: str, values: dict[str, object]) -> dict[str, Any]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query.encode(), values).fetchall()[0]
