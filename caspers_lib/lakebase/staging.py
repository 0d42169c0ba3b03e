"""Staging tables: made, filled by ADBC with what `staged_rows` makes of changes, and dropped."""

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import adbc_driver_manager
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from adbc_driver_postgresql import dbapi
from psycopg.conninfo import make_conninfo

from caspers_lib.errors import SyncError, first_cause
from caspers_lib.lakebase.access import without_passwords
from caspers_lib.lakebase.connection import (
    Database,
    connect,
    execute,
)
from caspers_lib.lakebase.identifiers import qualified
from caspers_lib.lakebase.session import log_in_parameters, session_settings
from caspers_lib.lakebase.staged_rows import (
    COMMIT_TIME,
    COMMIT_VERSION,
    new_changes,
    staged_rows,
    staging_schema,
)
from caspers_lib.lakebase.sync_plan import SyncPlan

__all__ = [
    "Staged",
    "StagingTable",
    "copy_rows",
    "staging_table",
]

_PREFIX = "sync_staging_"

_LEFTOVERS = (
    "SELECT tablename FROM pg_tables WHERE schemaname = %s AND starts_with(tablename, %s) "
    "AND pg_try_advisory_lock(hashtextextended(tablename, 0))"
)


@dataclass(frozen=True, slots=True)
class StagingTable:
    """Where the rows of a batch wait for the transaction that applies them.

    Args:
        schema: its schema, which is the target's.
        name: its name.
    """

    schema: str
    name: str

    @property
    def sql(self) -> str:
        """The table, quoted."""
        return qualified(self.schema, self.name)


@dataclass(frozen=True, slots=True)
class Staged:
    """Rows that were copied by one writer.

    Args:
        part: number of the writer, which its rows carry.
        rows: how many.
        deletions: how many of them are deletions, the old images of updates among them.
        old_images: how many of them are old images.
        refused: how many of them PostgreSQL can't hold.
        version: the newest commit among them; -1 without rows.
        committed_at: when that was committed, microseconds since 1970; None without rows.
    """

    part: int
    rows: int = 0
    deletions: int = 0
    old_images: int = 0
    refused: int = 0
    version: int = -1
    committed_at: int | None = None


@contextmanager
def staging_table(database: Database, plan: SyncPlan) -> Iterator[StagingTable]:
    """A staging table that is gone afterwards; those that dead processes left go before.

    Its columns `c0`, `c1`, ... are the plan's; `n` numbers the rows, `part` names the writer,
    `refusal` says why a row can't be applied. It is not logged: after a crash of the server it is
    empty, which the transaction that applies its rows notices.

    Args:
        database: the target's database.
        plan: the plan.

    Raises:
        PostgresError: the server can't be reached.
        SyncError: it can't be made.
    """
    table = StagingTable(plan.spec.schema, f"{_PREFIX}{secrets.token_hex(8)}")
    with connect(database, autocommit=True) as connection:
        try:
            _create(connection, plan, table)
        except psycopg.Error as error:
            raise SyncError(
                f"A staging table of {plan.spec.name} can't be made: {first_cause(error)}",
                hint="Nothing was applied. Is the disk full, and may the user create tables there?",
            ) from error
        try:
            yield table
        finally:
            # If this session was ended, the next staging table takes this one away.
            with suppress(psycopg.Error):
                _drop(connection, table)


def copy_rows(
    database: Database,
    staging: StagingTable,
    plan: SyncPlan,
    batches: Iterable[pa.RecordBatch],
    *,
    part: int,
    since: int = -1,
) -> Staged:
    """Copy changes into a staging table and commit, with a batch in memory at a time.

    Args:
        database: the target's database.
        staging: the staging table.
        plan: the plan.
        batches: the plan's columns, `_change_type`, `_commit_version` and `_commit_timestamp`.
        part: number of this writer.
        since: changes of commits up to this one are left out, they are in the target already.

    Returns:
        What was copied.

    Raises:
        PostgresError: the server can't be reached.
        SyncError: a column is missing or can't be sent, or the server refuses.
    """
    rows = _Rows(plan, batches, part, since)
    reader = pa.RecordBatchReader.from_batches(staging_schema(plan), rows.staged())
    # Waits for a server that restarts, and says in one sentence why it can't be reached.
    connect(database).close()
    parameters = log_in_parameters(database)
    try:
        with (
            dbapi.connect(make_conninfo("", **parameters)) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(session_settings(parameters))
            connection.commit()
            cursor.adbc_ingest(staging.name, reader, mode="append", db_schema_name=staging.schema)
            connection.commit()
    except adbc_driver_manager.Error as error:
        if rows.failure is not None:
            # The driver has only its text.
            raise rows.failure from None
        text = without_passwords(first_cause(error), parameters)
        raise SyncError(
            f"Rows of {plan.spec.name} can't be copied: {text}",
            hint="Nothing was applied; the next run copies them again.",
        ) from (error if text == first_cause(error) else None)
    return rows.counted


class _Rows:
    """Changes on their way into a staging table, counted as they pass."""

    def __init__(
        self, plan: SyncPlan, batches: Iterable[pa.RecordBatch], part: int, since: int
    ) -> None:
        self._plan, self._batches, self._since = plan, batches, since
        self.counted = Staged(part)
        self.failure: Exception | None = None

    def staged(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self._batches:
                new = new_changes(pa.Table.from_batches([batch]), self._plan, self._since)
                if new.num_rows:
                    rows = staged_rows(new, self._plan, part=self.counted.part)
                    self.counted = self._count(new, rows)
                    yield from rows.to_batches()
        except Exception as error:
            self.failure = error
            raise

    def _count(self, new: pa.Table, rows: pa.Table) -> Staged:
        before, newest = self.counted, pc.max(new[COMMIT_VERSION]).as_py()
        at = before.committed_at
        if newest > before.version:
            times = new.filter(pc.equal(new[COMMIT_VERSION], newest))[COMMIT_TIME]
            at = pc.max(times.cast(pa.timestamp("us", "UTC")).cast(pa.int64())).as_py()
        return Staged(
            before.part,
            before.rows + rows.num_rows,
            before.deletions + rows["deleted"].to_pylist().count(True),
            before.old_images + rows["old"].to_pylist().count(True),
            before.refused + rows.num_rows - rows["refusal"].null_count,
            max(newest, before.version),
            at,
        )


def _create(connection: psycopg.Connection, plan: SyncPlan, table: StagingTable) -> None:
    for (leftover,) in connection.execute(_LEFTOVERS, (table.schema, _PREFIX)).fetchall():
        _drop(connection, StagingTable(table.schema, leftover))
    # Held by this session, which ends with its process: while it is held, the table is in use.
    connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (table.name,))
    values = ", ".join(f"c{i} {c.staged_type}" for i, c in enumerate(plan.columns))
    columns = (
        "n bigint GENERATED ALWAYS AS IDENTITY (CACHE 1000), part integer, deleted boolean, "
        f"old boolean, version bigint, refusal text, raw text, {values}"
    )
    execute(connection, "CREATE UNLOGGED TABLE {t} ({columns})", t=table.sql, columns=columns)


def _drop(connection: psycopg.Connection, table: StagingTable) -> None:
    execute(connection, "DROP TABLE IF EXISTS {table}", table=table.sql)
