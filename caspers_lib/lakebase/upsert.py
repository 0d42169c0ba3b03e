"""Staged changes applied to the target, together with the position, in one transaction."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime, timedelta

import psycopg
import pyarrow as pa

from caspers_lib.errors import SyncError, first_cause
from caspers_lib.lakebase.connection import Database, connect, execute
from caspers_lib.lakebase.staging import Staged, StagingTable, copy_rows, staging_table
from caspers_lib.lakebase.sync_plan import SyncPlan
from caspers_lib.lakebase.target import Position, SyncResult, read_position
from caspers_lib.lakebase.upsert_sql import (
    delete_sql,
    doubled_sql,
    kept_keys_sql,
    keys_sql,
    refusal_checks,
    upsert_sql,
)

__all__ = ["CheckpointAheadError", "Snapshot", "apply_changes", "apply_staged", "mark_refused"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# A value that its type can't hold, or that is too large or too deep for the server.
_VALUE_ERRORS = (
    psycopg.DataError,
    psycopg.errors.ProgramLimitExceeded,
    psycopg.errors.StatementTooComplex,
)

_CHECK = "SELECT {checks} FROM {staging} WHERE refusal IS NULL AND n >= %s AND n < %s"

_DEAD_LETTERS = """
WITH refused AS (
  SELECT version, coalesce(raw, json_object(%s::text[], ARRAY[{values}])::text) AS raw, refusal
  FROM {staging} WHERE refusal IS NOT NULL
)
INSERT INTO {dead_letters} (commit_version, digest, raw, reason, batch_id)
SELECT version, encode(sha256(convert_to(raw, 'UTF8')), 'hex'), raw, refusal, %s FROM refused
ON CONFLICT DO NOTHING
"""

_ADVANCE = (
    "UPDATE {positions} SET commit_version = greatest(commit_version, %s), batch_id = %s, "
    "committed_at = coalesce(%s, committed_at), applied_at = now(), "
    "rows_in = rows_in + %s, written = written + %s, unchanged = unchanged + %s, "
    "deleted = deleted + %s, refused = refused + %s, doubled = doubled + %s WHERE spec = %s"
)

_START_ANEW = (
    "UPDATE {positions} SET source_id = %s, generation = gen_random_uuid(), "
    "commit_version = -1, batch_id = -1 WHERE spec = %s"
)


class CheckpointAheadError(SyncError):
    """The stream has gone on from batches that the target doesn't have."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole source at one of its versions: what is not in it is deleted from the target.

    Args:
        source_id: id of the Delta table.
        version: the version.
        committed_at: when it was committed.
    """

    source_id: str
    version: int
    committed_at: datetime


def apply_changes(
    database: Database,
    plan: SyncPlan,
    changes: Iterable[pa.RecordBatch],
    *,
    batch_id: int = -1,
    snapshot: Snapshot | None = None,
) -> SyncResult:
    """Apply changes that are in memory, all of them or nothing.

    The newest change of each key counts, by commit and, in one commit, insertions after deletions.
    An update is a deletion of its old image and an insertion of its new one. Where the new image is
    refused, the target keeps what it has under the new key; an old key that differs goes.
    Changes up to the position are skipped: a batch may come twice, or from a stream that starts
    anew, and changes nothing.

    Args:
        database: the target's database, prepared by `prepare_target`.
        plan: the plan.
        changes: the plan's columns, `_change_type`, `_commit_version` and `_commit_timestamp`;
            rows in any order, a commit whole.
        batch_id: the stream's number of the batch.
        snapshot: what the rows are the whole of; None for changes.

    Returns:
        What was done.

    Raises:
        CheckpointAheadError: batches before this one are missing in the target.
        PostgresError: the server can't be reached.
        SyncError: the changes can't be applied, or the target was not prepared.
    """
    with staging_table(database, plan) as staging:
        staged = copy_rows(database, staging, plan, changes, part=0)
        return apply_staged(database, plan, staging, [staged], batch_id=batch_id, snapshot=snapshot)


def apply_staged(
    database: Database,
    plan: SyncPlan,
    staging: StagingTable,
    staged: Sequence[Staged],
    *,
    batch_id: int = -1,
    snapshot: Snapshot | None = None,
) -> SyncResult:
    """Apply changes that writers have copied into a staging table; see `apply_changes`.

    Args:
        database: the target's database, prepared by `prepare_target`.
        plan: the plan.
        staging: the staging table.
        staged: what each writer has copied; rows of any other are left out.
        batch_id: the stream's number of the batch.
        snapshot: what the rows are the whole of; None for changes.

    Raises:
        SyncError: also when rows that were copied are no longer there.
    """
    what = "The changes" if batch_id < 0 else f"Batch {batch_id}"
    if snapshot is not None:
        what = "The snapshot"
    with _applying(database, plan, what) as connection:
        position = _begin(connection, plan, batch_id, snapshot)
        # Without statistics the planner takes the table for tiny and joins it in a loop.
        keys = ", ".join(f"c{plan.names.index(key)}" for key in plan.spec.keys)
        execute(connection, "ANALYZE {staging} ({keys})", staging=staging.sql, keys=keys)
        left = _keep_parts(connection, plan, staging.sql, staged, position.commit_version)
        return _apply(connection, plan, staging.sql, left, batch_id, snapshot)


@contextmanager
def _applying(database: Database, plan: SyncPlan, what: str) -> Iterator[psycopg.Connection]:
    """One transaction; what the server refuses in it is one sentence."""
    try:
        with connect(database) as connection:
            yield connection
    except psycopg.Error as error:
        spec = plan.spec
        raise SyncError(
            f"{what} of {spec.name} can't be applied to {spec.schema}.{spec.table}: "
            f"{first_cause(error)}",
            hint="Nothing of it was written; it is applied on the next run.",
        ) from error


def _begin(
    connection: psycopg.Connection, plan: SyncPlan, batch_id: int, snapshot: Snapshot | None
) -> Position:
    """Lock the position, and start anew from it where a snapshot comes."""
    spec = plan.spec
    position = read_position(connection, spec, lock=True)
    if position is None:
        raise SyncError(
            f"The target {spec.schema}.{spec.table} has no position for {spec.name}.",
            hint="Prepare the target before the first batch.",
        )
    if snapshot is None:
        if batch_id > position.batch_id + 1:
            raise CheckpointAheadError(
                f"The stream of {spec.name} is at batch {batch_id}, the target at "
                f"{position.batch_id}.",
                hint="Was the database restored from a backup? The stream starts anew.",
            )
        return position
    start_anew = (snapshot.source_id, spec.name)
    execute(connection, _START_ANEW, start_anew, positions=spec.positions)
    if position.source_id not in ("", snapshot.source_id):
        # They belong to another table.
        execute(connection, "DELETE FROM {table}", table=spec.dead_letters)
    anew = read_position(connection, spec)
    assert anew is not None  # noqa: S101 - it is locked
    return anew


def _keep_parts(
    connection: psycopg.Connection,
    plan: SyncPlan,
    staging: str,
    staged: Sequence[Staged],
    since: int,
) -> Sequence[Staged]:
    """Leave no rows of failed writers, of commits applied meanwhile, nor old images of kept keys.

    Miss no other.
    """
    counts = "SELECT part, count(*), min(version) FROM {staging} GROUP BY part"
    found = {part: rest for part, *rest in execute(connection, counts, staging=staging)}
    for part in staged:
        if found.get(part.part, [0])[0] != part.rows:
            raise SyncError(
                "Rows that were copied into the staging table are no longer there.",
                hint="Did the server restart? Nothing was applied; the next run copies them again.",
            )
    surplus = set(found) - {part.part for part in staged}
    has_old_images = any(part.old_images for part in staged)
    if not (surplus or has_old_images) and all(oldest > since for _, oldest in found.values()):
        return staged
    delete = "DELETE FROM {staging} WHERE part = ANY(%s) OR version <= %s"
    execute(connection, delete, (list(surplus), since), staging=staging)
    if has_old_images:
        connection.execute(kept_keys_sql(plan, staging).encode())
    left = (
        "SELECT part, count(*), count(*) FILTER (WHERE deleted), count(*) FILTER (WHERE old), "
        "count(refusal), max(version) FROM {staging} GROUP BY part"
    )
    times = {part.part: part.committed_at for part in staged}
    return [
        Staged(part, rows, deletions, old, refused, version, times[part])
        for part, rows, deletions, old, refused, version in execute(
            connection, left, staging=staging
        )
    ]


def _apply(
    connection: psycopg.Connection,
    plan: SyncPlan,
    staging: str,
    staged: Sequence[Staged],
    batch_id: int,
    snapshot: Snapshot | None,
) -> SyncResult:
    spec = plan.spec
    execute(connection, "SET LOCAL work_mem = '128MB'")
    statements = [upsert_sql(plan, staging)]
    if snapshot is not None or any(part.deletions for part in staged):
        statements.insert(0, delete_sql(plan, staging, replace=snapshot is not None))
    refused = sum(part.refused for part in staged)
    try:
        with connection.transaction():
            counts = [connection.execute(text.encode()).rowcount for text in statements]
    except _VALUE_ERRORS:
        found = mark_refused(connection, plan, staging)
        if not found:
            raise
        refused += found
        counts = [connection.execute(text.encode()).rowcount for text in statements]
    *deletions, written = counts
    if refused:
        _write_dead_letters(connection, plan, staging, batch_id)
    rows_in = sum(part.rows for part in staged)
    applied = SyncResult(rows_in, written, deleted=sum(deletions), refused=refused)
    result = _result(connection, plan, staging, applied, is_snapshot=snapshot is not None)
    newest = max(staged, key=lambda part: part.version, default=Staged(0))
    version, at = newest.version, _time(newest.committed_at)
    if snapshot is not None:
        version, at = snapshot.version, snapshot.committed_at
    advance = (version, batch_id, at, *astuple(result), spec.name)
    execute(connection, _ADVANCE, advance, positions=spec.positions)
    return result


def _result(
    connection: psycopg.Connection,
    plan: SyncPlan,
    staging: str,
    applied: SyncResult,
    *,
    is_snapshot: bool,
) -> SyncResult:
    """What was done; `applied` lacks what can be told from the staged rows alone."""
    rows = applied.rows_in - applied.refused
    if applied.written == rows:
        return applied
    to_write, to_delete = _counts(connection, keys_sql(plan, staging))
    doubled = 0
    if to_write + to_delete < rows:
        (doubled,) = _counts(connection, doubled_sql(plan, staging))
    not_there = 0 if is_snapshot else to_delete - applied.deleted
    unchanged = to_write - applied.written + not_there
    return replace(applied, unchanged=unchanged, doubled=doubled)


def _counts(connection: psycopg.Connection, statement: str) -> tuple[int, ...]:
    row = connection.execute(statement.encode()).fetchone()
    assert row is not None  # noqa: S101 - a SELECT of scalars has one row
    return row


def _time(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else _EPOCH + timedelta(microseconds=microseconds)


def mark_refused(connection: psycopg.Connection, plan: SyncPlan, staging: str) -> int:
    """Mark the rows whose values PostgreSQL refuses, with its reasons, found by halving the batch.

    Works for every type and every kind of refusal (syntax, range, depth) on every version.

    Args:
        connection: an open connection, within a transaction.
        plan: the plan.
        staging: the staging table, quoted.

    Returns:
        How many were found.
    """
    checks = refusal_checks(plan)
    execute(connection, "CREATE INDEX ON {staging} (n)", staging=staging)
    bounds = "SELECT coalesce(min(n), 0), coalesce(max(n), -1) + 1 FROM {staging}"
    ranges = [execute(connection, bounds, staging=staging).fetchone() or (0, 0)]
    refused: dict[int, str] = {}
    while ranges:
        low, high = ranges.pop()
        try:
            with connection.transaction():
                execute(connection, _CHECK, (low, high), checks=checks, staging=staging)
        except _VALUE_ERRORS as error:
            if high - low == 1:
                refused[low] = _reason(error)
            else:
                middle = (low + high) // 2
                ranges += [(middle, high), (low, middle)]
    mark = (
        "UPDATE {staging} AS s SET refusal = r.reason "
        "FROM unnest(%s::bigint[], %s::text[]) AS r(n, reason) WHERE s.n = r.n"
    )
    execute(connection, mark, (list(refused), list(refused.values())), staging=staging)
    return len(refused)


def _reason(error: psycopg.Error) -> str:
    detail = error.diag.message_detail
    return f"{first_cause(error)} ({detail})" if detail else first_cause(error)


def _write_dead_letters(
    connection: psycopg.Connection, plan: SyncPlan, staging: str, batch_id: int
) -> None:
    execute(
        connection,
        _DEAD_LETTERS,
        (list(plan.names), batch_id),
        dead_letters=plan.spec.dead_letters,
        staging=staging,
        values=", ".join(f"c{i}::text" for i in range(len(plan.columns))),
    )
