"""A synced table on the PostgreSQL side: made ready, its position, its rows counted."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from datetime import datetime

import psycopg

from caspers_lib.errors import PostgresError, SyncError, first_cause
from caspers_lib.lakebase.connection import (
    Database,
    MissingDatabaseError,
    connect,
    execute,
)
from caspers_lib.lakebase.sync_plan import SyncPlan, TargetColumn, TargetTable
from caspers_lib.lakebase.sync_spec import SyncSpec

__all__ = [
    "Position",
    "SyncResult",
    "at_position",
    "count_rows",
    "prepare_target",
    "read_position",
    "read_target",
]

_POSITION = (
    "SELECT source_id, generation::text, commit_version, batch_id, committed_at, applied_at, "
    "columns, rows_in, written, unchanged, deleted, refused, doubled "
    "FROM {positions} WHERE spec = %s"
)

_COLUMNS = """
SELECT attname, format_type(atttypid, atttypmod),
       attnotnull AND NOT atthasdef AND attidentity = ''
FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped
ORDER BY attnum
"""

_UNIQUE = """
SELECT array_agg(a.attname::text) FROM pg_index AS i
JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
WHERE i.indrelid = %s::regclass AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL
GROUP BY i.indexrelid
"""


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What a sync did, in rows of the change feed.

    An update is one row in; one that changes the key is two, a deletion and an insertion. `rows_in`
    also counts changes that a newer change of the same key in the same batch replaced; the others
    count each outcome once.

    Args:
        rows_in: changes that were new, refused ones included.
        written: keys inserted or changed.
        unchanged: keys that had the same values already, and deletions of keys that weren't there.
        deleted: keys deleted.
        refused: changes that went to the dead-letter table.
        doubled: rows that share their key with another one of the same commit, which counts.
    """

    rows_in: int = 0
    written: int = 0
    unchanged: int = 0
    deleted: int = 0
    refused: int = 0
    doubled: int = 0

    def __sub__(self, earlier: "SyncResult") -> "SyncResult":
        """What happened since `earlier` totals."""
        pairs = zip(astuple(self), astuple(earlier), strict=True)
        return SyncResult(*(now - then for now, then in pairs))


@dataclass(frozen=True, slots=True)
class Position:
    """How far a synced table is.

    Args:
        source_id: id of the Delta table that the rows came from; empty before the first load.
        generation: changes whenever the target starts anew; names the stream's checkpoint.
        commit_version: newest Delta commit that is in the target; -1 before the first load.
        batch_id: the stream's last batch in this generation; -1 before the first.
        committed_at: when the newest commit with rows was made.
        applied_at: when it was applied.
        columns: the columns that are synced.
        totals: everything that was ever applied.
    """

    source_id: str
    generation: str
    commit_version: int
    batch_id: int
    committed_at: datetime | None
    applied_at: datetime | None
    columns: tuple[str, ...]
    totals: SyncResult

    @property
    def lag_seconds(self) -> float | None:
        """Wall-clock seconds from the newest commit to its rows in PostgreSQL."""
        if self.committed_at is None or self.applied_at is None:
            return None
        return max(0.0, (self.applied_at - self.committed_at).total_seconds())


def prepare_target(database: Database, plan: SyncPlan) -> Position:
    """Bring the target to the plan: create what is missing, add new columns, widen types.

    Args:
        database: the target's database.
        plan: the plan.

    Returns:
        The position to go on from.

    Raises:
        PostgresError: the server can't be reached.
        SyncError: the target can't be created, or doesn't fit the plan.
    """
    spec = plan.spec
    try:
        with connect(database) as connection:
            # Concurrent CREATE ... IF NOT EXISTS can still collide, so they queue here.
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('caspers sync'))")
            target = read_target(connection, spec)
            for statement in plan.changes(target):
                connection.execute(statement.encode())
            if target is None:
                # Whatever was synced before went with the table: it is loaded anew.
                _forget(connection, spec)
            execute(
                connection,
                "INSERT INTO {positions} AS p (spec, source_id, columns) VALUES (%s, '', %s) "
                "ON CONFLICT (spec) DO UPDATE SET columns = EXCLUDED.columns "
                "WHERE p.columns IS DISTINCT FROM EXCLUDED.columns",
                (spec.name, list(plan.names)),
                positions=spec.positions,
            )
            position = read_position(connection, spec)
    except psycopg.Error as error:
        raise SyncError(
            f"The target {spec.schema}.{spec.table} can't be prepared: {first_cause(error)}",
            hint="Does the user own the schema, and was the table altered by hand?",
        ) from error
    assert position is not None  # noqa: S101 - inserted by the statement above
    return position


def read_target(connection: psycopg.Connection, spec: SyncSpec) -> TargetTable | None:
    """The target table as it is, None where there is none.

    Args:
        connection: a connection to the target's database.
        spec: the synced table.
    """
    if not _exists(connection, spec.target):
        return None
    columns = {
        name: TargetColumn(kind, needs_value)
        for name, kind, needs_value in connection.execute(_COLUMNS, (spec.target,))
    }
    unique = tuple(frozenset(row[0]) for row in connection.execute(_UNIQUE, (spec.target,)))
    position = read_position(connection, spec)
    if position is not None:
        return TargetTable(columns, unique, position.columns)
    row = execute(connection, "SELECT EXISTS (SELECT FROM {target})", target=spec.target).fetchone()
    return TargetTable(columns, unique, is_ours=row == (False,))


def read_position(
    connection: psycopg.Connection, spec: SyncSpec, *, lock: bool = False
) -> Position | None:
    """The position of a synced table, None before `prepare_target`.

    Args:
        connection: a connection to the target's database.
        spec: the synced table.
        lock: keep others from applying batches until the transaction ends.
    """
    if not _exists(connection, spec.positions):
        return None
    template = _POSITION + (" FOR UPDATE" if lock else "")
    row = execute(connection, template, (spec.name,), positions=spec.positions).fetchone()
    if row is None:
        return None
    source_id, generation, version, batch_id, committed_at, applied_at, columns, *totals = row
    return Position(
        source_id,
        generation,
        version,
        batch_id,
        committed_at,
        applied_at,
        tuple(columns),
        SyncResult(*totals),
    )


@contextmanager
def at_position(database: Database, spec: SyncSpec) -> Iterator[psycopg.Connection]:
    """A transaction that reads or writes the position; what goes wrong in it is one sentence.

    Args:
        database: the target's database.
        spec: the synced table.
    """
    try:
        with connect(database) as connection:
            yield connection
    except psycopg.Error as error:
        raise SyncError(
            f"The position of {spec.name} can't be read or written: {first_cause(error)}",
            hint="Was the connection cut? The next run goes on from the position.",
        ) from error


def count_rows(database: Database, spec: SyncSpec) -> int | None:
    """Rows in the target now.

    Args:
        database: the target's database.
        spec: the synced table.

    Returns:
        The number of rows, None where database, schema or table don't exist yet.

    Raises:
        PostgresError: the server can't be reached or refuses to answer.
    """
    try:
        # Who asks for a number doesn't wait for a server that is down.
        with connect(database, patience=0) as connection:
            row = execute(
                connection, "SELECT count(*) FROM {target}", target=spec.target
            ).fetchone()
            return int(row[0]) if row else None
    except (MissingDatabaseError, psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return None
    except psycopg.Error as error:
        raise PostgresError(
            f"The rows of {spec.schema}.{spec.table} can't be counted: {first_cause(error)}",
            hint="Look into the server's log.",
        ) from error


def _forget(connection: psycopg.Connection, spec: SyncSpec) -> None:
    forget = "DELETE FROM {positions} WHERE spec = %s"
    execute(connection, forget, (spec.name,), positions=spec.positions)


def _exists(connection: psycopg.Connection, table: str) -> bool:
    found = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (table,)).fetchone()
    return found == (True,)
