"""JSON that a synced table holds: `jsonb` where our own sync wrote it, text where Databricks did.

A managed synced table keeps a string a string. Text that is no JSON reads as NULL, as an answer
that can't be read; no value raises.
"""

import logging

from psycopg import Connection, Error, OperationalError

from caspers_lib.lakebase import SyncSpec
from caspers_lib.lakebase.identifiers import quote_identifier

__all__ = ["READABLE_SQL", "json_sql", "prepare_readable"]

logger = logging.getLogger(__name__)

READABLE_SQL = """
CREATE SCHEMA IF NOT EXISTS console;
CREATE OR REPLACE FUNCTION console.readable(value text) RETURNS jsonb
    IMMUTABLE PARALLEL SAFE LANGUAGE plpgsql AS $$
BEGIN
    RETURN value::jsonb;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
    RETURN NULL;
END
$$
"""
"""The statements that make `console.readable`, which takes text."""

_IS_THERE = "SELECT to_regprocedure('console.readable(text)') IS NOT NULL"
_TYPE = """
    SELECT format_type(atttypid, NULL) FROM pg_attribute
    WHERE attrelid = to_regclass(%s) AND attname = %s
"""


def prepare_readable(connection: Connection) -> None:
    """Make `console.readable`, unless it is there; a role that may not can't read text as JSON.

    Args:
        connection: to a database of the console.

    Raises:
        psycopg.OperationalError: the server can't be reached.
    """
    try:
        with connection.transaction():
            [(there,)] = connection.execute(_IS_THERE.encode()).fetchall()
            if not there:
                connection.execute("SELECT pg_advisory_xact_lock(hashtext('caspers console'))")
                connection.execute(READABLE_SQL.encode())
    except OperationalError:
        raise
    except Error as error:
        logger.info("schema console was not made, JSON in text columns can't be read: %s", error)


def json_sql(connection: Connection, spec: SyncSpec, column: str) -> str:
    """The SQL expression of a synced table's column as jsonb.

    Args:
        connection: to the table's database.
        spec: the table.
        column: holds JSON, as jsonb or as text.

    Raises:
        psycopg.Error: the server can't answer.
    """
    found = connection.execute(_TYPE.encode(), (spec.target, column)).fetchone()
    name = quote_identifier(column)
    return name if found in (None, ("jsonb",)) else f"console.readable({name}::text)"
