"""A synced table on the PostgreSQL side: made ready, its position, its rows counted."""

from dataclasses import astuple, dataclass

import psycopg

from caspers_lib.errors import PostgresError, SyncError
from caspers_lib.lakebase.connection import MissingDatabaseError, connect, execute, first_line
from caspers_lib.lakebase.sync_spec import SyncSpec

__all__ = ["Position", "SyncResult", "count_rows", "prepare_target", "read_position"]

_POSITION = (
    "SELECT source_id, generation::text, commit_version, batch_id, "
    "rows_in, written, unchanged, deleted, refused FROM {positions} WHERE spec = %s"
)


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What a sync did, in rows of the change feed.

    `rows_in` also counts changes that a newer change of the same key in the same batch replaced;
    the others count each outcome once.

    Args:
        rows_in: changes that were new, refused ones included.
        written: keys inserted or changed.
        unchanged: keys that had the same values already, and deletions of keys that weren't there.
        deleted: keys deleted.
        refused: changes that went to the dead-letter table.
    """

    rows_in: int = 0
    written: int = 0
    unchanged: int = 0
    deleted: int = 0
    refused: int = 0

    def __sub__(self, earlier: "SyncResult") -> "SyncResult":
        """What happened since `earlier` totals."""
        pairs = zip(astuple(self), astuple(earlier), strict=True)
        return SyncResult(*(now - then for now, then in pairs))


@dataclass(frozen=True, slots=True)
class Position:
    """How far a synced table is.

    Args:
        source_id: id of the Delta table that the rows came from.
        generation: changes whenever the target starts anew; names the stream's checkpoint.
        commit_version: highest Delta commit applied; -1 before the first.
        batch_id: the stream's last batch; -1 before the first.
        totals: everything applied in this generation.
    """

    source_id: str
    generation: str
    commit_version: int
    batch_id: int
    totals: SyncResult


def prepare_target(dsn: str, spec: SyncSpec, source_id: str) -> Position:
    """Create what is missing in the target, and start anew when the source is another table.

    A source that was dropped and made again has another id and counts its commits from 0: its
    target is emptied in the same transaction that resets the position.

    Args:
        dsn: the target's database.
        spec: the plan.
        source_id: id of the Delta table.

    Returns:
        The position to go on from.

    Raises:
        PostgresError: the server can't be reached.
        SyncError: the target can't be created.
    """
    try:
        with connect(dsn) as connection:
            # Concurrent CREATE ... IF NOT EXISTS can still collide, so they queue here.
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('caspers sync'))")
            for statement in spec.ddl:
                connection.execute(statement.encode())
            return _position_for(connection, spec, source_id)
    except psycopg.Error as error:
        raise SyncError(
            f"The target {spec.schema}.{spec.table} can't be prepared: {first_line(error)}",
            hint="Does the user own the schema, and was the table altered by hand?",
        ) from error


def read_position(
    connection: psycopg.Connection, spec: SyncSpec, *, lock: bool = False
) -> Position | None:
    """The position of a synced table, None before `prepare_target`.

    Args:
        connection: a connection to the target's database.
        spec: the plan.
        lock: keep others from applying batches until the transaction ends.
    """
    template = _POSITION + (" FOR UPDATE" if lock else "")
    row = execute(connection, template, (spec.name,), positions=spec.positions).fetchone()
    if row is None:
        return None
    source_id, generation, commit_version, batch_id, *totals = row
    return Position(source_id, generation, commit_version, batch_id, SyncResult(*totals))


def count_rows(dsn: str, spec: SyncSpec) -> int | None:
    """Rows in the target now.

    Args:
        dsn: the target's database.
        spec: the plan.

    Returns:
        The number of rows, None where database, schema or table don't exist yet.

    Raises:
        PostgresError: the server can't be reached or refuses to answer.
    """
    try:
        with connect(dsn) as connection:
            row = execute(
                connection, "SELECT count(*) FROM {target}", target=spec.target
            ).fetchone()
            return int(row[0]) if row else None
    except (MissingDatabaseError, psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return None
    except psycopg.Error as error:
        raise PostgresError(
            f"The rows of {spec.schema}.{spec.table} can't be counted: {first_line(error)}",
            hint="Look into the server's log.",
        ) from error


def _position_for(connection: psycopg.Connection, spec: SyncSpec, source_id: str) -> Position:
    position = read_position(connection, spec, lock=True)
    if position is not None and position.source_id == source_id:
        return position
    for table in (spec.target, spec.dead_letters):
        execute(connection, "DELETE FROM {table}", table=table)
    execute(
        connection,
        "DELETE FROM {positions} WHERE spec = %s",
        (spec.name,),
        positions=spec.positions,
    )
    execute(
        connection,
        "INSERT INTO {positions} (spec, source_id) VALUES (%s, %s)",
        (spec.name, source_id),
        positions=spec.positions,
    )
    fresh = read_position(connection, spec)
    assert fresh is not None  # noqa: S101 - inserted by the statement above
    return fresh
