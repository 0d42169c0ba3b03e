"""Keeps the table of cases after the synced table of answers, which can only be read.

What changed there is known by the transaction that wrote each row (`xmin`): event times come late
and out of order, and a synced table has no index but its key. What is gone, or came with an old
number, is known by the count of rows. A reading begins where the oldest transaction ran when the
one before began, so it misses nothing; what it sees twice it writes once.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from psycopg import Connection, Error

from caspers_lib.console.decisions.case_table import prepare_cases, prepare_indexes
from caspers_lib.console.decisions.values import CaseKind
from caspers_lib.console.json_columns import json_sql
from caspers_lib.console.queries import amount_sql, table_sql, text_sql
from caspers_lib.errors import PostgresError
from caspers_lib.lakebase.identifiers import quote_identifier

__all__ = ["CaseIntake", "OrderCities"]

logger = logging.getLogger(__name__)

OrderCities = Callable[[Sequence[str]], Mapping[str, str]]
"""Tells the city of each order that is known, empty where it has no name."""

_BATCH = 10_000
# Orders whose city was not known are asked for again, so many at a time.
_ASKED_AGAIN = 2_000
# Numbers of transactions go round after 2^31: long before that everything is read anew.
_FORGETS_AFTER = 10**9
# Characters that an index can hold with a time and a number, whatever they are.
_WORD = 500
_MANY = 50_000

_POSITION = """
    SELECT (SELECT CASE WHEN pg_snapshot_xmax(now)::text::numeric - seen::text::numeric
                   BETWEEN 0 AND {forgets} THEN seen::xid::text END
            FROM console.positions WHERE name = %(name)s),
           pg_snapshot_xmin(now)::text
    FROM pg_current_snapshot() AS now
"""
_KEEP_POSITION = """
    INSERT INTO console.positions (name, seen) VALUES (%(name)s, %(seen)s::text::xid8)
    ON CONFLICT (name) DO UPDATE SET seen = excluded.seen
"""
_CHANGED = """
    SELECT {key}, order_id FROM {table} WHERE {key} IS NOT NULL
    AND (%(since)s::text IS NULL OR age(xmin) <= age(%(since)s::text::xid))
"""
_MISSING = """
    SELECT {key}, a.order_id FROM {table} AS a WHERE {key} IS NOT NULL AND NOT EXISTS
    (SELECT FROM {cases} AS c WHERE c.case_id = a.{key} AND c.is_there)
"""
_CITYLESS = """
    SELECT case_id, order_id, number FROM {cases}
    WHERE city IS NULL AND is_there AND number > %(number)s ORDER BY number LIMIT %(limit)s
"""
_COUNTS = """
    SELECT (SELECT count(*) FROM {table} WHERE {key} IS NOT NULL),
           (SELECT count(*) FROM {cases} WHERE is_there)
"""
# A decision outlives its answer.
_HIDE = """
    UPDATE {cases} AS c SET is_there = false WHERE version > 0 AND is_there
    AND NOT EXISTS (SELECT FROM {table} AS a WHERE a.{key} = c.case_id)
"""
_DROP = """
    DELETE FROM {cases} AS c WHERE version = 0
    AND NOT EXISTS (SELECT FROM {table} AS a WHERE a.{key} = c.case_id)
"""
_TAKE = """
    INSERT INTO {cases} AS c (case_id, {columns})
    SELECT case_id, order_id, {at}, {minutes}, left({label}, {word}), left({category}, {word}),
           left({priority}, {word}), {usd}, {words}, left({source}, {word}), left(city, {word}),
           true
    FROM (
        SELECT a.{key} AS case_id, a.order_id, a.ts, {order_ts} AS order_ts, wanted.city,
               {answer} AS agent_response
        FROM {table} AS a
        JOIN unnest(%(ids)s::text[], %(cities)s::text[]) AS wanted (id, city) ON wanted.id = a.{key}
        OFFSET 0
    ) AS answer
    ON CONFLICT (case_id) DO UPDATE SET ({columns}) = ({new})
    WHERE ({old}) IS DISTINCT FROM ({new})
"""
_ANSWERS = (
    "order_id", "at", "minutes", "label", "category", "priority", "usd", "words", "source",
)  # fmt: skip
_COLUMNS = (*_ANSWERS, "city", "is_there")
# What was known of the same order stays known while it can't be asked for.
_CITY = """
    coalesce(excluded.city, CASE WHEN c.order_id = excluded.order_id THEN c.city END)
"""


class CaseIntake:
    """Brings a kind's table of cases after its answers.

    Args:
        kind: what is decided about.
        cities: tells where orders are from; what it can't tell is asked again later.
    """

    def __init__(self, kind: CaseKind, cities: OrderCities) -> None:
        self._kind, self._cities = kind, cities
        self._asked_again = 0

    def take_in(self, connection: Connection) -> int:
        """Bring the cases after the answers; nothing is done before the first sync.

        Args:
            connection: to the kind's database.

        Returns:
            How many answers there are.

        Raises:
            psycopg.Error: the server can't be reached, or the role may not write.
        """
        prepare_cases(connection, self._kind)
        with connection.transaction():
            lock = f"{self._kind.cases} intake"
            connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (lock,))
            found = connection.execute("SELECT to_regclass(%s)", (self._kind.spec.target,))
            return 0 if found.fetchone() == (None,) else self._taken_in(connection)

    def _taken_in(self, connection: Connection) -> int:
        name = {"name": self._kind.name}
        [(since, seen)] = self._rows(connection, _POSITION, name)
        written = self._take(connection, self._looked_up(connection, _CHANGED, {"since": since}))
        self._take(connection, self._cityless(connection))
        [(answers, cases)] = self._rows(connection, _COUNTS)
        if answers != cases:
            for gone in (_HIDE, _DROP):
                connection.execute(self._sql(gone), {})
            self._take(connection, self._looked_up(connection, _MISSING, {}))
        if since is None:
            prepare_indexes(connection, self._kind)
        if written > _MANY:
            connection.execute(f"ANALYZE {self._kind.cases}".encode())
        connection.execute(_KEEP_POSITION.encode(), name | {"seen": seen})
        return int(answers)

    def _take(self, connection: Connection, found: Iterator[list[tuple[str, str | None]]]) -> int:
        """Write the cases of these answers, each with its order; how many there were."""
        written = 0
        for rows in found:
            known = self._known_cities([order for _, order in rows if order is not None])
            values = {
                "ids": [case_id for case_id, _ in rows],
                "cities": [known.get(order or "") for _, order in rows],
            }
            answer = json_sql(connection, self._kind.spec, "agent_response")
            connection.execute(self._sql(_TAKE, answer=answer), values)
            written += len(rows)
        return written

    def _known_cities(self, orders: Sequence[str]) -> Mapping[str, str]:
        try:
            return self._cities(orders) if orders else {}
        except (PostgresError, Error) as error:
            logger.info("cities of orders are not known now: %s", error)
            return {}

    def _looked_up(
        self, connection: Connection, template: str, values: Mapping[str, object]
    ) -> Iterator[list[tuple[str, str | None]]]:
        with connection.cursor(name="intake") as cursor:
            cursor.execute(self._sql(template), values)
            while rows := cursor.fetchmany(_BATCH):
                yield rows

    def _cityless(self, connection: Connection) -> Iterator[list[tuple[str, str | None]]]:
        """Some of the cases without a city, the next ones the next time."""
        values = {"number": self._asked_again, "limit": _ASKED_AGAIN}
        rows = self._rows(connection, _CITYLESS, values)
        self._asked_again = rows[-1][2] if len(rows) == _ASKED_AGAIN else 0
        known = self._known_cities([order for _, order, _ in rows if order is not None])
        if found := [(case_id, order) for case_id, order, _ in rows if order in known]:
            yield found

    def _rows(
        self, connection: Connection, template: str, values: Mapping[str, object] | None = None
    ) -> list[tuple[Any, ...]]:
        return connection.execute(self._sql(template), values or {}).fetchall()

    def _sql(self, template: str, *, answer: str = "NULL::jsonb") -> bytes:
        """SQL made of this library's own words."""
        kind = self._kind
        refund = not kind.has_reply
        words = {
            "forgets": _FORGETS_AFTER,
            "word": _WORD,
            "cases": kind.cases,
            "table": table_sql(kind.spec),
            "key": quote_identifier(kind.key),
            "columns": ", ".join(_COLUMNS),
            "new": ", ".join((*(f"excluded.{name}" for name in _ANSWERS), _CITY, "true")),
            "old": ", ".join(f"c.{name}" for name in _COLUMNS),
            "answer": answer,
            # A time that no driver can read would keep the whole list from being read.
            "at": "CASE WHEN ts < '0001-01-02Z' THEN '0001-01-02Z'"
            " WHEN ts > '9999-12-30Z' THEN '9999-12-30Z' ELSE ts END",
            "order_ts": "a.order_ts" if refund else "NULL::timestamptz",
            "minutes": "CASE WHEN isfinite(ts) AND isfinite(order_ts)"
            " THEN (extract(epoch FROM ts - order_ts) / 60)::float8 END",
            "label": text_sql("refund_class" if refund else "decision"),
            "usd": amount_sql(kind.amount),
            "words": text_sql("reason" if refund else "rationale"),
            "source": text_sql("source"),
            "category": "NULL" if refund else text_sql("complaint_category"),
            "priority": "NULL" if refund else text_sql("priority"),
        }
        return template.format(**words).encode()
