"""Decisions about cases, each in one transaction with the proof that it may be made.

The same request under the same key is made once, however often it is sent: who lost the connection
in the middle sends it again.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.rows import class_row

from caspers_lib.console.access import ConsoleAccess, Person
from caspers_lib.console.databases import ConsoleDatabase
from caspers_lib.console.decisions.case_table import prepare_cases
from caspers_lib.console.decisions.intake import CaseIntake, OrderCities
from caspers_lib.console.decisions.ledger import CAP, OrderLedger
from caspers_lib.console.decisions.steps import next_step, refuse_viewers, refuse_wrong_requests
from caspers_lib.console.decisions.trail import lock_case
from caspers_lib.console.decisions.values import (
    REFUND_CASES,
    CaseKind,
    Decided,
    DecisionRequest,
    OrderBalance,
    Refusal,
    Situation,
    Step,
)
from caspers_lib.console.json_columns import json_sql
from caspers_lib.console.queries import amount_sql, table_sql, text_sql
from caspers_lib.console.remembered import Remembered, rest_seconds
from caspers_lib.errors import PostgresError
from caspers_lib.lakebase.identifiers import quote_identifier

__all__ = ["DecisionStore"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What is known of a case beside its decisions."""

    order_id: str | None
    suggested_usd: Decimal | None
    order: OrderBalance
    is_grave: bool
    is_there: bool


_INSERT = """
    INSERT INTO {trail} (case_id, order_id, version, action, status_before, status,
        amount_before_usd, amount_usd, suggested_usd, order_total_usd, reason, reply, person,
        person_before, key, asked)
    VALUES (%(case_id)s, %(order_id)s, %(version)s, %(action)s, %(status_before)s, %(status)s,
        %(amount_before_usd)s, %(amount_usd)s, %(suggested_usd)s, %(order_total_usd)s, %(reason)s,
        %(reply)s, %(person)s, %(person_before)s, %(key)s, %(asked)s)
    RETURNING {columns}
"""
_OF_CASE = "SELECT {columns} FROM {trail} WHERE case_id = %s ORDER BY version"
_LAST_OF_CASE = "SELECT {columns} FROM {trail} WHERE case_id = %s ORDER BY version DESC LIMIT 1"
_ONE = "SELECT {columns} FROM {trail} WHERE case_id = %s AND version = %s"
_NEWEST = """
    SELECT {columns} FROM {trail} ORDER BY decided_at DESC, case_id, version DESC LIMIT %s
"""
# The server counts the rows that were written; what counts is that the number changes.
_EDITION = """
    SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del + relid::bigint), 0)
    FROM pg_stat_all_tables
    WHERE relid = ANY (SELECT to_regclass(name)::oid FROM unnest(%s::text[]) AS wanted (name))
"""
_UNDER_KEY = "SELECT asked, case_id, version FROM {trail} WHERE key = %s"
_ANSWER = """
    SELECT order_id, {amount}, {label}, {priority}
    FROM (SELECT order_id, {answer} AS agent_response FROM {table} WHERE {key} = %s) AS found
"""


class DecisionStore:
    """The decisions about one kind of case.

    Args:
        kind: what is decided about.
        database: where the answers are, and the trail.
        ledger: what the cases of each order give together.
        cities: the cities of orders.
        access: who may give how much.
        clock: seconds that pass.
    """

    def __init__(
        self,
        kind: CaseKind,
        database: ConsoleDatabase,
        ledger: OrderLedger,
        cities: OrderCities,
        access: ConsoleAccess,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.kind, self.database, self.access = kind, database, access
        self.ledger = ledger
        self._intake = CaseIntake(kind, cities)
        self._taken_in = Remembered(rest_seconds, clock=clock)
        self.answers = 0
        """How many answers there were at the last refresh."""

    def decide(self, wanted: DecisionRequest, person: Person) -> Decided:
        """Make a decision, once.

        Args:
            wanted: the request.
            person: who asks.

        Raises:
            Refusal: it is not allowed, the case changed, or the server can't be reached.
        """
        refuse_viewers(person)
        refuse_wrong_requests(self.kind, wanted)
        try:
            return self._decided(wanted, person)
        except (psycopg.OperationalError, PostgresError, psycopg.errors.CheckViolation) as error:
            # It may have been made before the connection broke, or another case of the order was
            # decided meanwhile: the same request finds that out.
            logger.info("database %s: %s; trying once more", self.database.name, error)
        try:
            return self._decided(wanted, person)
        except psycopg.errors.CheckViolation as error:
            if error.diag.constraint_name != CAP:
                raise
            raise Refusal(
                "above_total",
                f"Other cases of the order give what is left of its total, {wanted.case_id[:80]}.",
                hint="Load it again.",
            ) from error
        except (psycopg.OperationalError, PostgresError) as error:
            logger.warning("database %s: %s", self.database.name, error)
            raise Refusal(
                "lost_connection",
                f"Database {self.database.name} does not answer; the decision may be made or not.",
                hint="Send the same request again, under the same key: it is made once.",
            ) from error

    def decide_each(
        self, wanted: Sequence[DecisionRequest], person: Person
    ) -> tuple[Decided | Refusal, ...]:
        """Make many decisions, each for itself: one that is refused leaves the others be.

        Args:
            wanted: the requests, each with a key of its own.
            person: who asks.
        """
        made: list[Decided | Refusal] = []
        for request in wanted:
            try:
                made.append(self.decide(request, person))
            except Refusal as refusal:
                made.append(refusal)
        return tuple(made)

    def refresh(self) -> int:
        """Bring the table of cases after the answers; that of many rests some seconds in between.

        Returns:
            How many answers there were.

        Raises:
            PostgresError: the database can't be reached.
            psycopg.Error: the table can't be made or written.
        """
        return self._taken_in.value(self._take_in)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that reads one snapshot of the cases and of the trail, which are there.

        Raises:
            PostgresError: the database can't be reached.
            psycopg.Error: a table can't be made, or a statement fails.
        """
        self.refresh()
        with self.database.reading() as connection:
            yield connection

    def trail(self, case_id: str) -> tuple[Decided, ...]:
        """Every decision about a case, oldest first.

        Args:
            case_id: the case.

        Raises:
            PostgresError: the database can't be reached.
            psycopg.Error: the trail can't be read.
        """
        with self.reading() as connection:
            return self._read(connection, _OF_CASE, case_id)

    def latest(self, limit: int) -> tuple[Decided, ...]:
        """The newest decisions of all cases, newest first.

        Args:
            limit: how many at most.

        Raises:
            PostgresError: the database can't be reached.
            psycopg.Error: the trail can't be read.
        """
        with self.reading() as connection:
            return self._read(connection, _NEWEST, limit)

    def edition(self) -> int:
        """A number that is another one soon after an answer or a decision came or changed.

        Raises:
            PostgresError: the database can't be reached.
            psycopg.Error: it can't answer.
        """
        names = [self.kind.spec.target, self.kind.trail]
        with self.database.reading() as connection:
            found = connection.execute(_EDITION.encode(), (names,)).fetchone()
        return int(found[0]) if found else 0

    def _take_in(self) -> int:
        with self.database.pool().connection() as connection:
            self.answers = self._intake.take_in(connection)
            return self.answers

    def _decided(self, wanted: DecisionRequest, person: Person) -> Decided:
        with self.database.pool().connection() as connection:
            prepare_cases(connection, self.kind)
        answer = self._answer(wanted)
        with self.database.pool().connection() as connection:
            try:
                made = self._recorded(connection, answer, wanted, person)
            except psycopg.errors.UniqueViolation:
                # The same key at the same time, about another case.
                connection.rollback()
                again = self._under_key(connection, wanted, person)
                if again is None:
                    raise
                made = again
        if self.kind != REFUND_CASES and made.amount_usd != made.amount_before_usd:
            self.ledger.settle(made.case_id)
        return made

    def _recorded(
        self, connection: Connection, answer: _Answer, wanted: DecisionRequest, person: Person
    ) -> Decided:
        lock_case(connection, self.kind, wanted.case_id)
        if before := self._under_key(connection, wanted, person):
            return before
        now = self._situation(connection, answer, wanted.case_id)
        step = next_step(self.kind, now, wanted, person, self.access)
        if self.kind != REFUND_CASES and step.amount_usd != now.amount_usd:
            most, order_id = max(step.amount_usd, now.amount_usd), answer.order_id or wanted.case_id
            self.ledger.claim(wanted.case_id, order_id, most, answer.order.total_usd)
        return self._read(connection, _INSERT, row=_row(now, step, answer, wanted, person))[0]

    def _under_key(
        self, connection: Connection, wanted: DecisionRequest, person: Person
    ) -> Decided | None:
        """What was done for the same request before."""
        query = _UNDER_KEY.format(trail=self.kind.trail)
        found = connection.execute(query.encode(), (wanted.key,)).fetchone()
        if found is None:
            return None
        asked, case_id, version = found
        if asked != _asked(wanted, person):
            raise Refusal(
                "key_reused",
                "Another decision was made under this key.",
                hint="Give each request a key of its own.",
            )
        return self._read(connection, _ONE, case_id, version)[0]

    def _answer(self, wanted: DecisionRequest) -> _Answer:
        """The agent's answer, and the order's balance."""
        kind, case_id = self.kind, wanted.case_id
        first = None
        try:
            with self.database.reading() as connection:
                first = next(iter(self._read(connection, _ONE, case_id, 1)), None)
                query = _ANSWER.format(
                    amount=amount_sql(kind.amount),
                    label=text_sql("decision"),
                    priority=text_sql("priority"),
                    answer=json_sql(connection, kind.spec, "agent_response"),
                    table=table_sql(kind.spec),
                    key=quote_identifier(kind.key),
                )
                found = connection.execute(query.encode(), (case_id,)).fetchone()
        except psycopg.errors.UndefinedTable:
            found = None
        order_id, suggested, label, priority = found or (None, None, None, None)
        is_there = order_id is not None
        # What was once decided stays with its order, whatever becomes of the answer.
        order_id = order_id if first is None else first.order_id
        order = OrderBalance()
        if order_id is not None:
            usd = wanted.amount_usd or Decimal(0)
            order = self.ledger.others(kind, case_id, order_id, usd)
        return _Answer(order_id, suggested, order, kind.is_grave(label, priority), is_there)

    def _situation(self, connection: Connection, answer: _Answer, case_id: str) -> Situation:
        known: dict[str, Any] = {
            "case_id": case_id,
            "suggested_usd": answer.suggested_usd,
            "order": answer.order,
            "is_there": answer.is_there,
            "is_grave": answer.is_grave,
        }
        for last in self._read(connection, _LAST_OF_CASE, case_id):
            [(moment,)] = connection.execute("SELECT clock_timestamp()").fetchall()
            known |= {
                "version": last.version,
                "status": last.status,
                "amount_usd": last.amount_usd,
                "decided_by": last.person,
                "decided_at": last.decided_at,
                "decided_action": last.action,
                "decided_seconds_ago": (moment - last.decided_at).total_seconds(),
                "status_before": last.status_before,
            }
        return Situation(**known)

    def _read(
        self,
        connection: Connection,
        template: str,
        *values: object,
        row: Mapping[str, object] | None = None,
    ) -> tuple[Decided, ...]:
        columns = ", ".join(field.name for field in fields(Decided))
        query = template.format(trail=self.kind.trail, columns=columns).encode()
        with connection.cursor(row_factory=class_row(Decided)) as cursor:
            return tuple(cursor.execute(query, row or values).fetchall())


def _row(
    now: Situation, step: Step, answer: _Answer, wanted: DecisionRequest, person: Person
) -> dict[str, object]:
    return {
        "case_id": wanted.case_id,
        "order_id": answer.order_id or wanted.case_id,
        "version": now.version + 1,
        "action": step.action,
        "status_before": now.status,
        "status": step.status,
        "amount_before_usd": now.amount_usd,
        "amount_usd": step.amount_usd,
        "suggested_usd": answer.suggested_usd,
        "order_total_usd": answer.order.total_usd,
        "reason": wanted.reason.strip(),
        "reply": wanted.reply,
        "person": person.name,
        "person_before": now.decided_by or "",
        "key": wanted.key,
        "asked": _asked(wanted, person),
    }


def _asked(wanted: DecisionRequest, person: Person) -> str:
    """Digest of a request: the same for the same request of the same person."""
    said = [
        wanted.case_id,
        wanted.version,
        wanted.action,
        None if wanted.amount_usd is None else f"{wanted.amount_usd:.2f}",
        wanted.reason,
        wanted.reply,
        person.name,
    ]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()
