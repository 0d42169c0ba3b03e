"""A Delta table brought to PostgreSQL: loaded once as it is, then by its change data feed.

The position is in PostgreSQL: it is written in the transaction of the
rows, and a run goes on from there. `continuous` does the same as a stream that stays.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pyspark.errors import PySparkException

from caspers_lib.errors import SyncError, first_cause
from caspers_lib.lakebase.connection import Database, execute
from caspers_lib.lakebase.partition_writer import copy_partitions
from caspers_lib.lakebase.staged_rows import CHANGE_TYPE, COMMIT_TIME, COMMIT_VERSION
from caspers_lib.lakebase.staging import staging_table
from caspers_lib.lakebase.sync_plan import SyncPlan, plan_sync
from caspers_lib.lakebase.sync_spec import SyncSpec
from caspers_lib.lakebase.target import (
    Position,
    SyncResult,
    at_position,
    prepare_target,
    read_position,
)
from caspers_lib.lakebase.upsert import Snapshot, apply_changes, apply_staged

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = [
    "SMALL_ROWS",
    "SourceState",
    "SyncRun",
    "apply_rows",
    "read_source",
    "sent_rows",
    "snapshot_rows",
    "source_plan",
    "stream_error",
    "sync_once",
]

SMALL_ROWS = 10_000
"""Batches of up to this many rows go through the driver; larger ones from the partitions."""

_COMMITS_MEANWHILE = 100
_FEED_PROPERTY = "delta.enableChangeDataFeed"
_OWN_ERROR = re.compile(r"^caspers_lib\.[\w.]+Error: (.+)$", re.MULTILINE)
# What Delta says when commits, or the files they name, are no longer there.
_GAP = re.compile(
    r"\[(DELTA_VERSION_NOT_FOUND|DELTA_LOG_FILE_NOT_FOUND\w*|DELTA_MISSING_CHANGE_DATA|"
    r"DELTA_MISSING_FILES_UNEXPECTED_VERSION|DELTA_TRUNCATED_TRANSACTION_LOG|"
    r"DELTA_VERSIONS_NOT_CONTIGUOUS|DELTA_CHANGE_DATA_FILE_NOT_FOUND|"
    r"FAILED_READ_FILE\.(DBR_)?FILE_NOT_EXIST)\]"
)
# And when the commits are from before a change of the columns that it can't read across.
_OTHER_COLUMNS = re.compile(
    r"\[(DELTA_SCHEMA_CHANGED_WITH_\w+|DELTA_STREAMING_INCOMPATIBLE_SCHEMA_CHANGE\w*|"
    r"DELTA_CHANGE_DATA_FEED_INCOMPATIBLE_\w+|DELTA_READ_SOURCE_SCHEMA_CONFLICT|"
    r"DELTA_STREAMING_CANNOT_CONTINUE_PROCESSING_POST_SCHEMA\w*)\]"
)


@dataclass(frozen=True, slots=True)
class SourceState:
    """A Delta table as it is now.

    Args:
        id: Delta's id, which a table of the same name made later does not share.
        version: its newest version.
        committed_at: when that was committed.
        columns: its columns, name to Spark type.
        has_feed: whether its change data feed is on.
    """

    id: str
    version: int
    committed_at: datetime
    columns: dict[str, str]
    has_feed: bool


@dataclass(frozen=True, slots=True)
class SyncRun:
    """What a run did.

    Args:
        result: rows, by outcome.
        position: how far the target is.
        loaded: why the table was loaded whole; None where changes were enough.
    """

    result: SyncResult
    position: Position
    loaded: str | None = None


def read_source(spark: "SparkSession", spec: SyncSpec) -> SourceState:
    """The source as it is now.

    Args:
        spark: a session that knows the table.
        spec: the synced table.

    Raises:
        SyncError: it does not exist, or has no change feed where the mode needs one.
    """
    name = spec.source_name
    try:
        detail: Any = spark.sql(f"DESCRIBE DETAIL {name}").select("id", "properties").collect()[0]
        newest: Any = spark.sql(f"DESCRIBE HISTORY {name} LIMIT 1").collect()[0]
        schema = spark.table(name).schema
    except PySparkException as error:
        raise SyncError(
            f"The source {spec.source} of {spec.name} can't be read: {first_cause(error)}",
            hint="Does the table exist already? The stage that fills it must run first.",
        ) from error
    has_feed = detail.properties.get(_FEED_PROPERTY) == "true"
    if not has_feed and spec.mode != "snapshot":
        raise SyncError(
            f"The source {spec.source} of {spec.name} has no change feed.",
            hint=f"ALTER TABLE {name} SET TBLPROPERTIES ({_FEED_PROPERTY} = true), or sync it in "
            "the mode snapshot.",
        )
    columns = {field.name: field.dataType.simpleString() for field in schema.fields}
    return SourceState(str(detail.id), int(newest.version), newest.timestamp, columns, has_feed)


def source_plan(spark: "SparkSession", spec: SyncSpec) -> SyncPlan:
    """The plan of a synced table, from its source as it is now.

    Args:
        spark: a session that knows the table.
        spec: the synced table.

    Raises:
        SyncError: as `read_source` and `plan_sync`.
    """
    return plan_sync(spec, read_source(spark, spec).columns)


def sync_once(
    spark: "SparkSession",
    spec: SyncSpec,
    database: Database,
    *,
    reload: bool = False,
) -> SyncRun:
    """Bring the target up to the source's present state, then return.

    The first time, and where changes won't do (another source of the same name, a target that was
    dropped, commits whose changes have been vacuumed or have other columns), the table is loaded
    whole, in one transaction that writes only what differs.

    Args:
        spark: a session that knows the source table.
        spec: the synced table.
        database: the target's database.
        reload: load it whole in any case.

    Returns:
        What was done.

    Raises:
        PostgresError: the server can't be reached.
        SyncError: source or target can't be used, or a batch can't be applied.
    """
    source = read_source(spark, spec)
    plan = plan_sync(spec, source.columns)
    before = prepare_target(database, plan)
    loaded = "as asked" if reload else _reason_to_load(spec, source, before)
    if loaded is not None:
        _load(spark, plan, source, database)
    elif spec.mode != "snapshot" and before.commit_version < source.version:
        loaded = _follow(spark, plan, source, database, before)
    with at_position(database, spec) as connection:
        after = read_position(connection, spec)
    assert after is not None  # noqa: S101 - `prepare_target` made it
    return SyncRun(after.totals - before.totals, after, loaded)


def _reason_to_load(spec: SyncSpec, source: SourceState, position: Position) -> str | None:
    if position.source_id == "":
        return "first load"
    if position.source_id != source.id or position.commit_version > source.version:
        return "the source is another table than before"
    if spec.mode == "snapshot" and position.commit_version < source.version:
        return "snapshot"
    return None


def _follow(
    spark: "SparkSession",
    plan: SyncPlan,
    source: SourceState,
    database: Database,
    position: Position,
) -> str | None:
    """Apply what the change feed has; why the table was loaded whole instead, if it was."""
    if not _has_every_commit(spark, plan.spec, source, position):
        _load(spark, plan, source, database)
        return _no_longer_reaches(position)
    feed = spark.read.option("readChangeFeed", "true")
    span = feed.option("startingVersion", position.commit_version + 1)
    changes = span.option("endingVersion", source.version).table(plan.spec.source_name)
    try:
        apply_rows(sent_rows(changes, plan), plan, database, since=position.commit_version)
    except PySparkException as error:
        reason = _gap(error, position)
        if reason is None:
            raise stream_error(plan.spec, error) from error
        _load(spark, plan, source, database)
        return reason
    # Commits without rows (properties, OPTIMIZE) leave no trace in the feed.
    with at_position(database, plan.spec) as connection:
        execute(
            connection,
            "UPDATE {positions} SET commit_version = greatest(commit_version, %s) WHERE spec = %s",
            (source.version, plan.spec.name),
            positions=plan.spec.positions,
        )
    return None


def _has_every_commit(
    spark: "SparkSession", spec: SyncSpec, source: SourceState, position: Position
) -> bool:
    """Whether the log has all commits since the position; a batch read passes over a gap."""
    wanted = source.version - position.commit_version
    if wanted == 1:
        return True  # the newest is there
    name = spec.source_name
    # Others may be committed meanwhile.
    commits = spark.sql(f"DESCRIBE HISTORY {name} LIMIT {wanted + _COMMITS_MEANWHILE}")
    span = f"version > {position.commit_version} AND version <= {source.version}"
    return commits.where(span).count() == wanted


def _no_longer_reaches(position: Position) -> str:
    return f"the change feed no longer reaches version {position.commit_version + 1}"


def _gap(error: PySparkException, position: Position) -> str | None:
    """Why the change feed can't be followed any more, if that is what an error says."""
    text = str(error)
    if _OWN_ERROR.search(text):
        return None
    if _OTHER_COLUMNS.search(text):
        return f"the change feed has other columns at version {position.commit_version + 1}"
    if _GAP.search(text):
        return _no_longer_reaches(position)
    return None


def stream_error(spec: SyncSpec, error: PySparkException) -> SyncError:
    """The error of a stream's handler; of one in another process only the text comes back."""
    cause = first_cause(error)
    return SyncError(
        cause if _OWN_ERROR.search(str(error)) else f"The sync of {spec.name} failed: {cause}",
        hint="Nothing of the failed batch was written; it is applied on the next run.",
    )


def snapshot_rows(
    spark: "SparkSession", plan: SyncPlan, version: int, committed_at: datetime
) -> "DataFrame":
    """The source at one of its versions, as insertions of that version.

    Args:
        spark: a session that knows the source table.
        plan: the plan.
        version: the version.
        committed_at: when it was committed.
    """
    from pyspark.sql import functions as F

    name = plan.spec.source_name
    rows = spark.read.option("versionAsOf", version).table(name)
    return sent_rows(
        rows.select(
            "*",
            F.lit("insert").alias(CHANGE_TYPE),
            F.lit(version).cast("bigint").alias(COMMIT_VERSION),
            F.lit(committed_at).alias(COMMIT_TIME),
        ),
        plan,
    )


def _load(
    spark: "SparkSession", plan: SyncPlan, source: SourceState, database: Database
) -> SyncResult:
    """Make the target what the source is at its newest version, in one transaction."""
    rows = snapshot_rows(spark, plan, source.version, source.committed_at)
    snapshot = Snapshot(source.id, source.version, source.committed_at)
    try:
        return apply_rows(rows, plan, database, since=-1, snapshot=snapshot)
    except PySparkException as error:
        raise stream_error(plan.spec, error) from error


def sent_rows(rows: "DataFrame", plan: SyncPlan) -> "DataFrame":
    """The columns that cross over, as the plan sends them.

    Args:
        rows: the source's columns and the change feed's.
        plan: the plan.
    """
    from pyspark.sql import functions as F

    columns = (F.expr(c.expression).alias(c.name) for c in plan.columns)
    return rows.select(*columns, CHANGE_TYPE, COMMIT_VERSION, COMMIT_TIME)


def apply_rows(
    rows: "DataFrame",
    plan: SyncPlan,
    database: Database,
    *,
    since: int,
    batch_id: int = -1,
    snapshot: Snapshot | None = None,
) -> SyncResult:
    """Apply a frame of changes: few rows through the driver, many from the partitions.

    Args:
        rows: what `sent_rows` gives.
        plan: the plan.
        database: the target's database, prepared by `prepare_target`.
        since: changes of commits up to this one are left out.
        batch_id: the stream's number of the batch.
        snapshot: what the rows are the whole of; None for changes.

    Raises:
        SyncError: they can't be applied.
    """
    few = rows.limit(SMALL_ROWS + 1).toArrow()
    if few.num_rows <= SMALL_ROWS:
        return apply_changes(database, plan, few.to_batches(), batch_id=batch_id, snapshot=snapshot)
    del few
    with staging_table(database, plan) as staging:
        staged = copy_partitions(rows, database, plan, staging, since=since)
        return apply_staged(database, plan, staging, staged, batch_id=batch_id, snapshot=snapshot)
