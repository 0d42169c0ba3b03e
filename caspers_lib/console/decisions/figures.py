"""The cards above a list: what agents suggest, what people gave, what still waits."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from psycopg import Connection
from psycopg.rows import dict_row

from caspers_lib.console.decisions.values import GIVEN, CaseKind
from caspers_lib.console.queries import newest_sql
from caspers_lib.console.remembered import Remembered, rest_seconds
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
    WITH newest (at) AS ({newest}), answers AS (
        SELECT count(*) AS cases, count(*) FILTER (WHERE usd > 0) AS suggested,
               coalesce(sum(usd) FILTER (WHERE usd > 0), 0.00) AS suggested_usd,
               count(*) FILTER (WHERE label = 'escalate') AS escalated,
               count(*) FILTER (WHERE label IS NULL) AS unreadable
        FROM {cases} WHERE is_there
    ), deliveries AS (
        SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY minutes) AS median_minutes,
               avg((minutes > %(late)s)::int)::float8 AS late_share
        FROM {cases}
        WHERE is_listed AND at <= (SELECT at FROM newest)
            AND at > (SELECT at FROM newest) - interval '24 hours'
    )
    SELECT * FROM answers, deliveries
"""
_DECISIONS = """
    SELECT count(*) AS decided,
           coalesce(sum(amount_usd) FILTER (WHERE status = ANY (%(given)s)), 0.00) AS given_usd,
           coalesce(sum(usd) FILTER (WHERE usd > 0), 0.00) AS settled_usd
    FROM {cases} WHERE status <> 'pending'
"""


class CaseFiguresReader:
    """Reads the figures of one kind; the sums over many answers are as of some seconds ago.

    Args:
        kind: whose.
        clock: seconds that pass.
    """

    def __init__(self, kind: CaseKind, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.kind = kind
        self._answers = Remembered[dict[str, Any]](
            lambda answers: rest_seconds(answers["cases"]), clock=clock
        )

    def read(self, connection: Connection) -> CaseFigures:
        """The figures now.

        Args:
            connection: to the kind's database, with its table of cases.

        Raises:
            psycopg.Error: the table is missing, or the server can't answer.
        """

        def read(query: str, **values: object) -> dict[str, Any]:
            with connection.cursor(row_factory=dict_row) as cursor:
                newest = newest_sql("at", self.kind.cases, where="is_listed")
                sql = query.format(cases=self.kind.cases, newest=newest)
                return cursor.execute(sql.encode(), values).fetchall()[0]

        answers = self._answers.value(lambda: read(_ANSWERS, late=LATE_MINUTES))
        decisions = read(_DECISIONS, given=list(GIVEN))
        pending = max(answers["suggested_usd"] - decisions.pop("settled_usd"), Decimal("0.00"))
        return CaseFigures(**answers, **decisions, pending_usd=pending)
