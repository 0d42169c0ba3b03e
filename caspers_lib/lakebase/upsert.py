"""A batch of changes applied to the target, together with its position, in one transaction."""

import hashlib
from dataclasses import astuple

import psycopg
import pyarrow as pa

from caspers_lib.errors import SyncError
from caspers_lib.lakebase.connection import connect, execute, first_line
from caspers_lib.lakebase.identifiers import quote_identifier
from caspers_lib.lakebase.staging import Refusal, StagedBatch, csv_chunks, stage
from caspers_lib.lakebase.sync_spec import SyncSpec
from caspers_lib.lakebase.target import SyncResult, read_position

__all__ = ["apply_changes"]

# A value that its type can't hold, or that is too large or too deep for the server.
_VALUE_ERRORS = (
    psycopg.DataError,
    psycopg.errors.ProgramLimitExceeded,
    psycopg.errors.StatementTooComplex,
)

_CREATE_STAGED = (
    "CREATE TEMPORARY TABLE staged (n bigint, deleted boolean, version bigint, {columns}) "
    "ON COMMIT DROP"
)

# One row: keys to write, keys written, keys to delete, keys deleted. Writing in key order is the
# biggest lever on the index.
_UPSERT = """
WITH newest AS MATERIALIZED (
  SELECT DISTINCT ON ({staged_keys}) * FROM pg_temp.staged ORDER BY {newest_first}
), upserted AS (
  INSERT INTO {target} AS t ({names})
  SELECT {typed_values} FROM newest WHERE NOT deleted ORDER BY {staged_keys}
  ON CONFLICT ({keys}) DO {update} RETURNING 1
), gone AS (
  DELETE FROM {target} AS t USING newest AS n WHERE n.deleted AND {same_key} RETURNING 1
)
SELECT (SELECT count(*) FROM newest WHERE NOT deleted), (SELECT count(*) FROM upserted),
       (SELECT count(*) FROM newest WHERE deleted), (SELECT count(*) FROM gone)
"""

_CHECK = "SELECT {checks} FROM pg_temp.staged WHERE n >= %s AND n < %s"

_DEAD_LETTERS = (
    "INSERT INTO {dead_letters} (commit_version, digest, raw, reason, batch_id) "
    "SELECT version, digest, raw, reason, %s "
    "FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[]) "
    "AS r(version, digest, raw, reason) "
    "ON CONFLICT DO NOTHING"
)

_ADVANCE = (
    "UPDATE {positions} SET commit_version = greatest(commit_version, %s), batch_id = %s, "
    "rows_in = rows_in + %s, written = written + %s, unchanged = unchanged + %s, "
    "deleted = deleted + %s, refused = refused + %s, applied_at = now() WHERE spec = %s"
)


def apply_changes(dsn: str, spec: SyncSpec, changes: pa.Table, *, batch_id: int) -> SyncResult:
    """Apply a batch of a Delta change feed, all of it or nothing.

    The newest change of each key counts, by commit and, in one commit, insertions after deletions.
    Changes of commits before the position are skipped, those at the position are applied again:
    a batch may come twice, or from a stream that starts anew, and changes nothing.

    Args:
        dsn: the target's database, prepared by `prepare_target`.
        spec: the plan.
        changes: the spec's columns, `_change_type` and `_commit_version`; rows in any order.
        batch_id: the stream's number of the batch.

    Returns:
        What was done.

    Raises:
        PostgresError: the server can't be reached.
        SyncError: the batch can't be applied, or the target was not prepared.
    """
    try:
        with connect(dsn) as connection:
            # The stream forgets a batch once it is applied, so the server must have it on disk.
            connection.execute("SET LOCAL synchronous_commit = on")
            # Timestamps without a zone are UTC.
            connection.execute("SET LOCAL TimeZone = 'UTC'")
            return _apply(connection, spec, changes, batch_id)
    except psycopg.Error as error:
        raise SyncError(
            f"Batch {batch_id} of {spec.name} can't be applied to {spec.schema}.{spec.table}: "
            f"{first_line(error)}",
            hint="Nothing of the batch was written; it is applied on the next run.",
        ) from error


def _upsert_fragments(spec: SyncSpec) -> dict[str, str]:
    """The parts of `_UPSERT` that depend on the plan."""
    staged = {name: f"c{i}" for i, name in enumerate(spec.column_names)}
    casts = {c.name: f"{staged[c.name]}::{c.type}" for c in spec.columns}
    values = [name for name in spec.column_names if name not in spec.keys]
    staged_keys = ", ".join(staged[key] for key in spec.keys)
    # Same key, same commit: an insertion follows a deletion; the values only break ties.
    order = (staged_keys, "version DESC", "deleted", *(f"{staged[value]} DESC" for value in values))
    return {
        "target": spec.target,
        "names": ", ".join(map(quote_identifier, spec.column_names)),
        "keys": ", ".join(map(quote_identifier, spec.keys)),
        "staged_keys": staged_keys,
        "typed_values": ", ".join(casts.values()),
        "newest_first": ", ".join(order),
        "same_key": " AND ".join(f"t.{quote_identifier(k)} = n.{casts[k]}" for k in spec.keys),
        "update": _update(values),
    }


def _update(values: list[str]) -> str:
    if not values:
        return "NOTHING"
    quoted = [quote_identifier(value) for value in values]
    sets = ", ".join(f"{value} = EXCLUDED.{value}" for value in quoted)
    old = ", ".join(f"t.{value}" for value in quoted)
    new = ", ".join(f"EXCLUDED.{value}" for value in quoted)
    return f"UPDATE SET {sets} WHERE ROW({old}) IS DISTINCT FROM ROW({new})"


def _apply(
    connection: psycopg.Connection, spec: SyncSpec, changes: pa.Table, batch_id: int
) -> SyncResult:
    position = read_position(connection, spec, lock=True)
    if position is None:
        raise SyncError(
            f"The target {spec.schema}.{spec.table} has no position for {spec.name}.",
            hint="Prepare the target before the first batch.",
        )
    batch = stage(changes, spec, since=position.commit_version)
    refused = batch.refused
    _copy(connection, batch)
    try:
        with connection.transaction():
            counts = _upsert(connection, spec)
    except _VALUE_ERRORS:
        found = _refused_rows(connection, spec, batch)
        if not found:
            raise
        refused += tuple(batch.refusal(n, reason) for n, reason in found.items())
        connection.execute("DELETE FROM pg_temp.staged WHERE n = ANY(%s)", (list(found),))
        counts = _upsert(connection, spec)
    _write_dead_letters(connection, spec, refused, batch_id)
    to_write, written, to_delete, deleted = counts
    result = SyncResult(
        rows_in=batch.rows.num_rows + len(batch.refused),
        written=written,
        unchanged=to_write - written + to_delete - deleted,
        deleted=deleted,
        refused=len(refused),
    )
    versions = [*batch.rows["version"].to_pylist(), *(r.version for r in batch.refused)]
    advance = (max(versions, default=-1), batch_id, *astuple(result), spec.name)
    execute(connection, _ADVANCE, advance, positions=spec.positions)
    return result


def _copy(connection: psycopg.Connection, batch: StagedBatch) -> None:
    """Create the staging table, which lives as long as the transaction, and fill it."""
    columns = ", ".join(f"c{i} text" for i in range(len(batch.names)))
    execute(connection, _CREATE_STAGED, columns=columns)
    copy_in = "COPY pg_temp.staged FROM STDIN (FORMAT csv)"
    with connection.cursor() as cursor, cursor.copy(copy_in) as copy:
        for chunk in csv_chunks(batch.rows):
            copy.write(chunk)
    # Without statistics the planner takes the table for tiny and joins it in a loop.
    connection.execute("ANALYZE pg_temp.staged")


def _upsert(connection: psycopg.Connection, spec: SyncSpec) -> tuple[int, ...]:
    row = execute(connection, _UPSERT, **_upsert_fragments(spec)).fetchone()
    assert row is not None  # noqa: S101 - a SELECT of scalars has one row
    return row


def _refused_rows(
    connection: psycopg.Connection, spec: SyncSpec, batch: StagedBatch
) -> dict[int, str]:
    """Find the rows whose values PostgreSQL refuses, with its reasons, by halving the batch.

    Works for every type and every kind of refusal (syntax, range, depth) on every version.
    """
    checks = ", ".join(
        f"count(c{i}::{c.type})"
        if c.name in spec.keys
        else f"count(CASE WHEN NOT deleted THEN c{i}::{c.type} END)"
        for i, c in enumerate(spec.columns)
    )
    connection.execute("CREATE INDEX ON pg_temp.staged (n)")
    numbers = batch.rows["n"].to_pylist()
    ranges = [(0, len(numbers))]
    refused: dict[int, str] = {}
    while ranges:
        low, high = ranges.pop()
        end = numbers[high - 1] + 1
        try:
            with connection.transaction():
                execute(connection, _CHECK, (numbers[low], end), checks=checks)
        except _VALUE_ERRORS as error:
            if high - low == 1:
                refused[numbers[low]] = _reason(error)
            else:
                middle = (low + high) // 2
                ranges += [(middle, high), (low, middle)]
    return refused


def _reason(error: psycopg.Error) -> str:
    detail = error.diag.message_detail
    return f"{first_line(error)} ({detail})" if detail else first_line(error)


def _write_dead_letters(
    connection: psycopg.Connection, spec: SyncSpec, refused: tuple[Refusal, ...], batch_id: int
) -> None:
    versions, raws, reasons = (
        [getattr(r, field) for r in refused] for field in ("version", "raw", "reason")
    )
    digests = [hashlib.sha256(raw.encode()).hexdigest() for raw in raws]
    execute(
        connection,
        _DEAD_LETTERS,
        (batch_id, versions, digests, raws, reasons),
        dead_letters=spec.dead_letters,
    )
