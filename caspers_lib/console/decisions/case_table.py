"""One narrow row a case, with what a list filters and sorts by and an index for each.

An agent's answer is JSON in a synced table that the console may only read. What is looked for in it
is kept beside it in columns: those of the answer are written by `intake`, the status by the trail
itself, in the transaction of each decision. The table can be dropped; it is made anew.
"""

import logging

from psycopg import Connection, Error

from caspers_lib.console.decisions.trail import prepare_trail
from caspers_lib.console.decisions.values import CaseKind
from caspers_lib.console.json_columns import READABLE_SQL

__all__ = ["prepare_cases", "prepare_indexes"]

logger = logging.getLogger(__name__)

_RANKS = {"standard": 1, "high": 2, "urgent": 3}

_TABLE = """
CREATE TABLE IF NOT EXISTS {cases} (
    case_id text PRIMARY KEY,
    number bigint GENERATED ALWAYS AS IDENTITY,
    order_id text,
    at timestamptz,
    minutes float8,
    label text,
    category text,
    priority text,
    usd numeric(12, 2),
    words text,
    source text,
    city text,
    is_there boolean NOT NULL DEFAULT false,
    status text NOT NULL DEFAULT 'pending',
    version integer NOT NULL DEFAULT 0,
    amount_usd numeric(12, 2) NOT NULL DEFAULT 0,
    worth numeric(12, 2) GENERATED ALWAYS AS (coalesce(usd, 0)) STORED,
    rank smallint GENERATED ALWAYS AS (CASE priority {ranks} ELSE 0 END) STORED,
    is_listed boolean GENERATED ALWAYS AS (is_there AND at IS NOT NULL) STORED,
    is_open boolean GENERATED ALWAYS AS (is_there AND at IS NOT NULL AND {open}) STORED
);
CREATE TABLE IF NOT EXISTS console.positions (name text PRIMARY KEY, seen xid8 NOT NULL)
"""

# The other columns are the answer's: two writers that never write the same one.
_MOVES = """
CREATE OR REPLACE FUNCTION console.move_{noun}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO {cases} AS known (case_id, status, version, amount_usd)
    VALUES (NEW.case_id, NEW.status, NEW.version, NEW.amount_usd)
    ON CONFLICT (case_id) DO UPDATE SET (status, version, amount_usd)
        = (excluded.status, excluded.version, excluded.amount_usd)
    WHERE known.version < excluded.version;
    RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER moves_the_case AFTER INSERT ON {trail}
    FOR EACH ROW EXECUTE FUNCTION console.move_{noun}();
INSERT INTO {cases} (case_id, status, version, amount_usd)
    SELECT DISTINCT ON (case_id) case_id, status, version, amount_usd
    FROM {trail} ORDER BY case_id, version DESC
    ON CONFLICT DO NOTHING
"""

_OPEN_REFUND = "status = 'pending' AND label IS DISTINCT FROM 'none'"
_OPEN_COMPLAINT = "status IN ('pending', 'escalated')"

# The number ends each sort: it is short, and a list needs an order of all its rows.
_INDEXES = {
    "by_time": "(at, number) WHERE is_listed",
    "by_amount": "(worth, number) WHERE is_listed",
    "by_label": "(label, at, number) WHERE is_listed",
    "by_source": "(source, at, number) WHERE is_listed",
    "by_city": "(city, at, number) WHERE is_listed",
    "open_by_time": "(at, number) WHERE is_open",
    "open_by_amount": "(worth, number) WHERE is_open",
    "open_by_label": "(label, at, number) WHERE is_open",
    "open_by_source": "(source, at, number) WHERE is_open",
    "open_by_city": "(city, at, number) WHERE is_open",
    "by_status": "(status, at, number) INCLUDE (usd, amount_usd) WHERE status <> 'pending'",
    "cityless": "(number) WHERE city IS NULL AND is_there",
}
_INDEXES_OF_COMPLAINTS = {
    "by_rank": "(rank, at, number) WHERE is_listed",
    "open_by_rank": "(rank, at, number) WHERE is_open",
    "by_order": "USING hash (order_id)",
}
_TRIGRAMS = "CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA console"
_TRIGRAM_SCHEMA = """
    SELECT quote_ident(nspname) FROM pg_extension
    JOIN pg_namespace ON pg_namespace.oid = extnamespace WHERE extname = 'pg_trgm'
"""


def prepare_cases(connection: Connection, kind: CaseKind) -> None:
    """Make a kind's trail and its table of cases, unless they are there.

    Args:
        connection: to the kind's database, whose role may create a schema.
        kind: what is decided about.

    Raises:
        psycopg.Error: the role may not create them, or the server can't be reached.
    """
    prepare_trail(connection, kind)
    with connection.transaction():
        if _is_there(connection, kind):
            return
        # Two consoles that start together would make the same things.
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('caspers console'))")
        if not _is_there(connection, kind):
            connection.execute(READABLE_SQL.encode())
            connection.execute(_cases_sql(kind).encode())


def prepare_indexes(connection: Connection, kind: CaseKind) -> None:
    """Make the indexes of a kind's table of cases, unless they are there.

    Args:
        connection: to the kind's database, with the table, best filled.
        kind: what is decided about.

    Raises:
        psycopg.Error: the server can't be reached.
    """
    indexes = _INDEXES | (_INDEXES_OF_COMPLAINTS if kind.has_reply else {})
    for name, columns in indexes.items():
        made = f"CREATE INDEX IF NOT EXISTS {kind.name}_{name} ON {kind.cases} {columns}"
        connection.execute(made.encode())
    trigrams = _trigrams(connection)
    if trigrams:
        made = (
            f"CREATE INDEX IF NOT EXISTS {kind.name}_by_words ON {kind.cases}"
            f" USING gin (words {trigrams}.gin_trgm_ops) WHERE is_listed"
        )
        connection.execute(made.encode())


def _cases_sql(kind: CaseKind) -> str:
    ranks = " ".join(f"WHEN '{name}' THEN {rank}" for name, rank in _RANKS.items())
    is_open = _OPEN_COMPLAINT if kind.has_reply else _OPEN_REFUND
    table = _TABLE.format(cases=kind.cases, ranks=ranks, open=is_open)
    return f"{table};\n{_MOVES.format(cases=kind.cases, noun=kind.noun, trail=kind.trail)}"


def _is_there(connection: Connection, kind: CaseKind) -> bool:
    found = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (kind.cases,)).fetchone()
    return found == (True,)


def _trigrams(connection: Connection) -> str | None:
    """The schema of the extension that finds parts of a text; None where it can't be had."""
    try:
        with connection.transaction():
            connection.execute(_TRIGRAMS)
    except Error as error:
        logger.info("words are searched without an index, as pg_trgm can't be made: %s", error)
    found = connection.execute(_TRIGRAM_SCHEMA.encode()).fetchone()
    return str(found[0]) if found else None
