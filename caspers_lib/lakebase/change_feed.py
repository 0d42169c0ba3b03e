"""The Delta change feed of a source, read as a stream and applied to its target, exactly once."""

import functools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pyspark.errors import PySparkException

from caspers_lib.errors import SyncError
from caspers_lib.lakebase.connection import connect, first_line
from caspers_lib.lakebase.staging import CHANGE_TYPE, COMMIT_VERSION
from caspers_lib.lakebase.sync_spec import SyncSpec
from caspers_lib.lakebase.target import SyncResult, prepare_target, read_position
from caspers_lib.lakebase.upsert import apply_changes
from caspers_lib.spark_sql import quote_name

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["make_change_feed_handler", "sync_once"]

_FEED_PROPERTY = "delta.enableChangeDataFeed"
_OWN_ERROR = re.compile(r"^caspers_lib\.errors\.\w+: (.+)$", re.MULTILINE)


def make_change_feed_handler(spec: SyncSpec, dsn: str) -> Callable[["DataFrame", int], None]:
    """A `foreachBatch` function that applies a batch of the change feed to the target.

    It can be pickled and opens its own connection, since it runs in another process.

    Args:
        spec: the plan.
        dsn: the target's database, prepared by `prepare_target`.

    Returns:
        A function of the batch (the source's columns and the change feed's) and its number.
    """
    return functools.partial(_apply_batch, spec=spec, dsn=dsn)


def sync_once(spark: "SparkSession", spec: SyncSpec, dsn: str, checkpoint: str) -> SyncResult:
    """Bring the target up to the source's present state, then return.

    The position in PostgreSQL rules, not the checkpoint: it is written in the transaction of the
    rows. A checkpoint that was deleted costs time only; one that belongs to another target or to
    an earlier table of the same name is not used, as its folder carries the target's generation.

    Args:
        spark: a session that knows the source table.
        spec: the plan.
        dsn: the target's database.
        checkpoint: folder for the stream's checkpoints.

    Returns:
        What was done.

    Raises:
        PostgresError: the server can't be reached.
        SyncError: the source does not exist or has no change feed, or a batch can't be applied.
    """
    before = prepare_target(dsn, spec, _source_id(spark, spec))
    _run_stream(spark, spec, dsn, f"{checkpoint}/{before.generation}")
    with connect(dsn) as connection:
        after = read_position(connection, spec)
    return SyncResult() if after is None else after.totals - before.totals


def _apply_batch(batch: "DataFrame", batch_id: int, *, spec: SyncSpec, dsn: str) -> None:
    columns = [quote_name(name) for name in spec.column_names]
    changes = batch.where(f"{CHANGE_TYPE} <> 'update_preimage'").select(
        *columns, CHANGE_TYPE, COMMIT_VERSION
    )
    apply_changes(dsn, spec, changes.toArrow(), batch_id=batch_id)


def _source_id(spark: "SparkSession", spec: SyncSpec) -> str:
    """The Delta table's id, which a table of the same name made later does not share."""
    name = quote_name(*spec.source.split("."))
    try:
        detail: Any = spark.sql(f"DESCRIBE DETAIL {name}").select("id", "properties").collect()[0]
    except PySparkException as error:
        raise SyncError(
            f"The source {spec.source} of {spec.name} can't be read: {first_line(error)}",
            hint="Does the table exist already? The stage that fills it must run first.",
        ) from error
    if detail.properties.get(_FEED_PROPERTY) != "true":
        raise SyncError(
            f"The source {spec.source} of {spec.name} has no change feed.",
            hint=f"Create it with TBLPROPERTIES ({_FEED_PROPERTY} = true).",
        )
    return str(detail.id)


def _run_stream(spark: "SparkSession", spec: SyncSpec, dsn: str, checkpoint: str) -> None:
    try:
        query = (
            spark.readStream.option("readChangeFeed", "true")
            .option("startingVersion", 0)
            .table(spec.source)
            .writeStream.foreachBatch(make_change_feed_handler(spec, dsn))
            .option("checkpointLocation", checkpoint)
            .trigger(availableNow=True)
            .start()
        )
        try:
            query.awaitTermination()
        finally:
            query.stop()
    except PySparkException as error:
        # Of an error in the handler's process only the text comes back.
        own = _OWN_ERROR.search(str(error))
        raise SyncError(
            own.group(1) if own else f"The sync of {spec.name} failed: {first_line(error)}",
            hint="Nothing of the failed batch was written; it is applied on the next run.",
        ) from error
