"""What the cases of an order give together, capped at its total whichever kind of case gives it.

A refund is decided in the database of the orders, a complaint in another one, and no transaction
spans both. So what each case gives is kept once more beside the orders: a row a case, and a row an
order whose check holds their sum to the order's total. The row of a refund is written by its trail,
in the decision's transaction. The row of a complaint is raised and committed before its decision is
recorded, and lowered only by what its trail says: what a crash leaves in between is too much, never
too little, and is settled before the order's next decision is refused.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal

import psycopg
from psycopg import Connection
from psycopg.rows import class_row

from caspers_lib.console.databases import AbsentDatabaseError, ConsoleDatabase
from caspers_lib.console.decisions.trail import lock_case, prepare_trail
from caspers_lib.console.decisions.values import (
    COMPLAINT_CASES,
    REFUND_CASES,
    CaseKind,
    OrderBalance,
    Payout,
)
from caspers_lib.console.queries import table_sql
from caspers_lib.errors import PostgresError
from caspers_lib.lakebase import SyncSpec
from caspers_lib.lakebase.connection import MissingDatabaseError

__all__ = ["CAP", "OrderLedger", "order_payouts"]

logger = logging.getLogger(__name__)

CAP = "not_above_the_orders_total"
"""The name of the check that refuses."""

# A decision of another case that is being recorded is waited for so long; else its claim counts.
_LOCK_MILLISECONDS = 2_000

_TABLES = f"""
CREATE TABLE console.order_balances (
    order_id text PRIMARY KEY,
    given_usd numeric(12, 2) NOT NULL,
    limit_usd numeric(12, 2) NOT NULL CHECK (limit_usd <> 'NaN'),
    CONSTRAINT {CAP} CHECK (given_usd BETWEEN 0 AND limit_usd)
);
CREATE TABLE console.order_payouts (
    kind text NOT NULL,
    case_id text NOT NULL,
    order_id text NOT NULL,
    usd numeric(12, 2) NOT NULL CHECK (usd >= 0 AND usd <> 'NaN'),
    order_total_usd numeric(12, 2),
    is_settled boolean NOT NULL,
    PRIMARY KEY (kind, case_id)
);
CREATE INDEX order_payouts_by_order ON console.order_payouts USING hash (order_id)
"""
# What was given before the ledger was kept may be above the total: no more is given then.
_FIRST_BALANCES = """
INSERT INTO console.order_balances (order_id, given_usd, limit_usd)
    SELECT order_id, sum(usd), greatest(sum(usd), max(order_total_usd))
    FROM console.order_payouts GROUP BY order_id
"""
_TRIGGERS = """
CREATE OR REPLACE FUNCTION console.keep_balance() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    change numeric := 0;
BEGIN
    IF TG_OP <> 'DELETE' THEN change := change + NEW.usd; END IF;
    IF TG_OP <> 'INSERT' THEN change := change - OLD.usd; END IF;
    IF TG_OP = 'UPDATE' AND OLD.order_id <> NEW.order_id THEN
        RAISE EXCEPTION 'A payout stays with its order.' USING ERRCODE = 'check_violation';
    END IF;
    IF change > 0 THEN
        INSERT INTO console.order_balances AS known (order_id, given_usd, limit_usd)
        VALUES (NEW.order_id, change, NEW.order_total_usd)
        ON CONFLICT (order_id) DO UPDATE
        SET given_usd = known.given_usd + change, limit_usd = excluded.limit_usd;
    ELSIF change < 0 THEN
        UPDATE console.order_balances SET given_usd = given_usd + change
        WHERE order_id = OLD.order_id;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER keeps_the_balance AFTER INSERT OR UPDATE OR DELETE ON console.order_payouts
    FOR EACH ROW EXECUTE FUNCTION console.keep_balance();
CREATE OR REPLACE FUNCTION console.pay_out_refund() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO console.order_payouts
        (kind, case_id, order_id, usd, order_total_usd, is_settled)
    VALUES ('{noun}', NEW.case_id, NEW.order_id, NEW.amount_usd, NEW.order_total_usd,
        true)
    ON CONFLICT (kind, case_id) DO UPDATE
    SET usd = excluded.usd, order_total_usd = excluded.order_total_usd;
    RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER pays_out AFTER INSERT ON {trail}
    FOR EACH ROW WHEN (NEW.amount_usd <> NEW.amount_before_usd)
    EXECUTE FUNCTION console.pay_out_refund()
"""
_GIVEN_IN_TRAIL = """
    SELECT last.case_id, (
        SELECT order_id FROM {trail} AS first WHERE first.case_id = last.case_id AND version = 1
    ), amount_usd, order_total_usd
    FROM (
        SELECT DISTINCT ON (case_id) case_id, amount_usd, order_total_usd
        FROM {trail} ORDER BY case_id, version DESC
    ) AS last
    WHERE amount_usd > 0
"""
_TAKE_IN = """
    INSERT INTO console.order_payouts (kind, case_id, order_id, usd, order_total_usd, is_settled)
    VALUES (%s, %s, %s, %s, %s, true)
"""
_CLAIM = """
    INSERT INTO console.order_payouts AS known
        (kind, case_id, order_id, usd, order_total_usd, is_settled)
    VALUES (%s, %s, %s, %s, %s, false)
    ON CONFLICT (kind, case_id) DO UPDATE
    SET usd = greatest(known.usd, excluded.usd), order_total_usd = excluded.order_total_usd,
        is_settled = false
"""
_LOCK = """
    SELECT FROM console.order_payouts
    WHERE kind = %s AND case_id = %s AND NOT is_settled FOR UPDATE
"""
_SETTLE = """
    UPDATE console.order_payouts SET usd = %s, is_settled = true WHERE kind = %s AND case_id = %s
"""
_DROP = "DELETE FROM console.order_payouts WHERE kind = %s AND case_id = %s"
_RECORDED = "SELECT amount_usd FROM {trail} WHERE case_id = %s ORDER BY version DESC LIMIT 1"
_PAYOUTS = """
    SELECT kind, case_id, usd, is_settled FROM console.order_payouts
    WHERE order_id = %s AND usd > 0 ORDER BY kind DESC, case_id
"""
_TOTAL = "SELECT order_revenue FROM {headers} WHERE order_id = %s"
_IS_THERE = "SELECT to_regclass('console.order_balances') IS NOT NULL"


class OrderLedger:
    """What the cases of each order give together.

    Args:
        orders: the database of the orders and of the refunds.
        headers: the synced table of the orders, with order_id and order_revenue.
        complaints: the database of the complaints.
    """

    def __init__(
        self, orders: ConsoleDatabase, headers: SyncSpec, complaints: ConsoleDatabase
    ) -> None:
        self._orders, self._headers, self._complaints = orders, headers, complaints

    def others(
        self, kind: CaseKind, case_id: str, order_id: str, wanted_usd: Decimal
    ) -> OrderBalance:
        """What an order is worth, and what its cases give beside one of them.

        Claims whose decision may never have been recorded are settled first, if the amount would
        be refused for them.

        Args:
            kind: the case's.
            case_id: the case.
            order_id: its order.
            wanted_usd: the amount that it is to give.

        Raises:
            PostgresError: the orders' database can't be reached.
            psycopg.Error: the ledger can't be made or read.
        """
        others = self._balance(order_id).without(kind, case_id)
        if others.left_usd is not None and wanted_usd > others.left_usd:
            self._settle_each(others.payouts)
            others = self._balance(order_id).without(kind, case_id)
        return others

    def refresh(self, order_id: str) -> None:
        """Settle what an order's cases claim, for a page that shows it; a failure is logged.

        Args:
            order_id: the order.
        """
        try:
            self._settle_each(self._balance(order_id).payouts)
        except (PostgresError, psycopg.Error) as error:
            logger.info("what order %r gives is not settled now: %s", order_id, error)

    def claim(
        self, case_id: str, order_id: str, usd: Decimal, order_total_usd: Decimal | None
    ) -> None:
        """Count the most that a complaint gives before and after a decision, until it is settled.

        What is counted is committed when this returns, before the decision is recorded.

        Args:
            case_id: the complaint.
            order_id: its order.
            usd: the amount.
            order_total_usd: the order's total now.

        Raises:
            PostgresError: the orders' database can't be reached.
            psycopg.Error: the ledger can't be made or written; a `CheckViolation` of `CAP`: with
                this amount the order's cases would give more than its total.
        """
        row = (COMPLAINT_CASES.noun, case_id, order_id, usd, order_total_usd)
        with self._ledger() as connection:
            connection.execute(_CLAIM, row)

    def settle(self, case_id: str) -> None:
        """Count what a complaint's trail says that it gives; a failure is logged, and counts more.

        Args:
            case_id: the complaint.
        """
        which = (COMPLAINT_CASES.noun, case_id)
        try:
            with self._complaints.pool().connection() as trail:
                # A snapshot from before the lock would not show what is recorded meanwhile.
                trail.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
                trail.execute(f"SET LOCAL lock_timeout = {_LOCK_MILLISECONDS}")
                lock_case(trail, COMPLAINT_CASES, case_id)
                with self._orders.pool().connection() as ledger:
                    # Whoever claims more while this lock is held is counted after it.
                    if ledger.execute(_LOCK, which).fetchone() is None:
                        return
                    query = _RECORDED.format(trail=COMPLAINT_CASES.trail).encode()
                    recorded = trail.execute(query, (case_id,)).fetchone()
                    if recorded is None or not recorded[0]:
                        ledger.execute(_DROP, which)
                    else:
                        ledger.execute(_SETTLE, (recorded[0], *which))
        except (PostgresError, psycopg.Error) as error:
            logger.info("what complaint %r gives is not settled now: %s", case_id, error)

    def _settle_each(self, payouts: Sequence[Payout]) -> None:
        for payout in payouts:
            if not payout.is_settled:
                self.settle(payout.case_id)

    def _balance(self, order_id: str) -> OrderBalance:
        with self._ledger() as connection:
            payouts = order_payouts(connection, order_id)
            query = _TOTAL.format(headers=table_sql(self._headers)).encode()
            try:
                with connection.transaction():
                    header = connection.execute(query, (order_id,)).fetchone()
            except psycopg.errors.UndefinedTable:
                header = None
        return OrderBalance(header[0] if header else None, payouts)

    @contextmanager
    def _ledger(self) -> Iterator[Connection]:
        """A connection to the orders' database, in which the ledger is."""
        with self._orders.pool().connection() as connection:
            [(is_there,)] = connection.execute(_IS_THERE).fetchall()
            if is_there:
                yield connection
                return
        # No connection is held meanwhile: who holds one of both databases waits for none of these.
        complaints = self._given_by_complaints()
        with self._orders.pool().connection() as connection:
            self._make(connection, complaints)
            connection.commit()
            yield connection

    def _make(self, connection: Connection, complaints: Sequence[tuple[object, ...]]) -> None:
        prepare_trail(connection, REFUND_CASES)
        # Two consoles that start together would make the same things.
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('caspers console'))")
        connection.execute(f"LOCK TABLE {REFUND_CASES.trail} IN SHARE ROW EXCLUSIVE MODE")
        [(is_there,)] = connection.execute(_IS_THERE).fetchall()
        if is_there:
            return
        query = _GIVEN_IN_TRAIL.format(trail=REFUND_CASES.trail).encode()
        refunds = connection.execute(query).fetchall()
        connection.execute(_TABLES.encode())
        with connection.cursor() as cursor:
            for kind, rows in ((REFUND_CASES, refunds), (COMPLAINT_CASES, complaints)):
                cursor.executemany(_TAKE_IN, [(kind.noun, *row) for row in rows])
        connection.execute(_FIRST_BALANCES)
        triggers = _TRIGGERS.format(noun=REFUND_CASES.noun, trail=REFUND_CASES.trail)
        connection.execute(triggers.encode())

    def _given_by_complaints(self) -> list[tuple[object, ...]]:
        """What complaints gave before there was a ledger; nothing where there is no such trail."""
        query = _GIVEN_IN_TRAIL.format(trail=COMPLAINT_CASES.trail).encode()
        try:
            with self._complaints.reading() as connection:
                return connection.execute(query).fetchall()
        except (AbsentDatabaseError, MissingDatabaseError, psycopg.errors.UndefinedTable):
            return []


def order_payouts(connection: Connection, order_id: str) -> tuple[Payout, ...]:
    """What the cases of an order give; nothing before the first of all decisions.

    Args:
        connection: to the orders' database.
        order_id: the order.

    Raises:
        psycopg.Error: the server can't answer.
    """
    [(is_there,)] = connection.execute(_IS_THERE).fetchall()
    if not is_there:
        return ()
    with connection.cursor(row_factory=class_row(Payout)) as cursor:
        return tuple(cursor.execute(_PAYOUTS, (order_id,)).fetchall())
