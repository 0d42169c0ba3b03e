"""A change data feed followed as a stream, for as long as its owner wants.

Each micro-batch is applied in one transaction together with the
position. Restarts of the server end the stream, and it goes on from the position.
"""

import functools
import shutil
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark.errors import PySparkException

from caspers_lib.errors import CaspersError, SyncError
from caspers_lib.lakebase.change_feed import (
    SyncRun,
    apply_rows,
    read_source,
    sent_rows,
    stream_error,
    sync_once,
)
from caspers_lib.lakebase.connection import Database, execute
from caspers_lib.lakebase.staged_rows import COMMIT_VERSION
from caspers_lib.lakebase.sync_plan import SyncPlan, plan_sync
from caspers_lib.lakebase.sync_spec import SyncSpec
from caspers_lib.lakebase.target import Position, SyncResult, at_position, read_position

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

__all__ = ["Follower", "change_feed_handler", "change_stream"]

_POLL_SECONDS = 0.5
_FIRST_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 60.0
_STEADY_POLLS = 120
"""A stream that was looked at so often without failing works, also where nothing is new."""


@dataclass(frozen=True, slots=True)
class Follower:
    """Keeps a target up to date until told to stop.

    What a stream can't do while it runs (a column that is new in the source, changes that were
    vacuumed, a server that restarts) ends it; it is taken up again by `sync_once`.

    Args:
        spark: a session that knows the source table.
        spec: the synced table; in the mode `snapshot` it is looked at every `trigger_seconds`.
        database: the target's database.
        checkpoint: folder for the stream's checkpoints.
        trigger_seconds: wall-clock seconds between batches.
        attempts: how often in a row it may fail before it gives up.
        sleep: waits, in wall-clock seconds.
    """

    spark: "SparkSession"
    spec: SyncSpec
    database: Database
    checkpoint: str
    trigger_seconds: float = 1.0
    attempts: int = 10
    sleep: Callable[[float], object] = time.sleep

    def run(
        self,
        stopping: Callable[[], bool],
        on_run: Callable[[SyncRun], None] = lambda _run: None,
        on_error: Callable[[CaspersError], None] = lambda _error: None,
    ) -> None:
        """Follow the source.

        Args:
            stopping: whether to stop; asked twice a second.
            on_run: receives what was done, whenever something was.
            on_error: receives an error that is tried again.

        Raises:
            CaspersError: it failed `attempts` times without a success in between.
        """
        failed = 0
        while not stopping():
            try:
                run = sync_once(self.spark, self.spec, self.database)
                if run.loaded or run.result.rows_in:
                    failed = 0
                    on_run(run)
                if self.spec.mode == "snapshot":
                    failed = 0
                    self._wait(self.trigger_seconds, stopping)
                    continue
                with closing(self._stream(run.position, stopping)) as runs:
                    for polls, streamed in enumerate(runs):
                        if streamed.result != SyncResult():
                            failed = 0
                            on_run(streamed)
                        elif polls >= _STEADY_POLLS:
                            failed = 0
            except CaspersError as error:
                failed += 1
                if failed >= self.attempts:
                    raise
                on_error(error)
                self._wait(
                    min(_FIRST_WAIT_SECONDS * 2 ** (failed - 1), _LONGEST_WAIT_SECONDS), stopping
                )

    def _stream(self, position: Position, stopping: Callable[[], bool]) -> Generator[SyncRun]:
        """Stream until told to stop, or until the stream fails; what was done since each look."""
        source = read_source(self.spark, self.spec)
        try:
            with change_stream(
                self.spark,
                plan_sync(self.spec, source.columns),
                self.database,
                self.checkpoint,
                newest=source.version,
                trigger_seconds=self.trigger_seconds,
            ) as query:
                while query.isActive and not stopping():
                    self.sleep(_POLL_SECONDS)
                    now = self._position()
                    yield SyncRun(now.totals - position.totals, now)
                    position = now
                failure = query.exception()
        except PySparkException as error:
            raise stream_error(self.spec, error) from error
        if failure is not None:
            raise stream_error(self.spec, failure)

    def _position(self) -> Position:
        with at_position(self.database, self.spec) as connection:
            position = read_position(connection, self.spec)
        if position is None:
            raise SyncError(
                f"The position of {self.spec.name} is gone.",
                hint="Was it dropped by hand? The next run loads the table anew.",
            )
        return position

    def _wait(self, seconds: float, stopping: Callable[[], bool]) -> None:
        while seconds > 0 and not stopping():
            self.sleep(min(seconds, _POLL_SECONDS))
            seconds -= _POLL_SECONDS


def change_feed_handler(plan: SyncPlan, database: Database) -> "Callable[[DataFrame, int], None]":
    """A `foreachBatch` function that applies a batch of the change feed to the target.

    It can be pickled and opens its own connection, since it runs in another process.

    Args:
        plan: the plan.
        database: the target's database, prepared by `prepare_target`.

    Returns:
        A function of the batch (the source's columns and the change feed's) and its number.
    """
    return functools.partial(_apply_batch, plan=plan, database=database)


@contextmanager
def change_stream(
    spark: "SparkSession",
    plan: SyncPlan,
    database: Database,
    checkpoint: str,
    *,
    newest: int,
    trigger_seconds: float,
) -> "Iterator[StreamingQuery]":
    """A stream that follows the change feed from the position on, until the block is left.

    It takes up no other stream's checkpoint, which may be broken, or know of batches that a target
    that was restored from a backup no longer has.

    Args:
        spark: a session that knows the source table.
        plan: the plan.
        database: the target's database, prepared by `prepare_target`.
        checkpoint: folder for the streams' checkpoints.
        newest: the source's newest version.
        trigger_seconds: wall-clock seconds between batches.
    """
    position = _new_generation(database, plan.spec)
    folder = f"{checkpoint}/{position.generation}"
    # Delta refuses a version that isn't there yet; the handler skips one that is applied already.
    start = min(position.commit_version + 1, newest)
    changes = spark.readStream.option("readChangeFeed", "true").option("startingVersion", start)
    handler = functools.partial(
        _apply_batch, plan=plan, database=database, generation=position.generation
    )
    writer = changes.table(plan.spec.source_name).writeStream.foreachBatch(handler)
    writer = writer.trigger(processingTime=f"{trigger_seconds} seconds")
    try:
        query = writer.option("checkpointLocation", folder).start()
        try:
            yield query
        finally:
            query.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _new_generation(database: Database, spec: SyncSpec) -> Position:
    """Leave all checkpoints behind and start another at the position."""
    with at_position(database, spec) as connection:
        execute(
            connection,
            "UPDATE {positions} SET generation = gen_random_uuid(), batch_id = -1 WHERE spec = %s",
            (spec.name,),
            positions=spec.positions,
        )
        position = read_position(connection, spec)
    if position is None:
        raise SyncError(
            f"The position of {spec.name} is gone.", hint="The next run loads the table anew."
        )
    return position


def _apply_batch(
    batch: "DataFrame",
    batch_id: int,
    *,
    plan: SyncPlan,
    database: Database,
    generation: str | None = None,
) -> None:
    with at_position(database, plan.spec) as connection:
        position = read_position(connection, plan.spec)
    if position is not None and generation not in (None, position.generation):
        raise SyncError(
            f"The target of {plan.spec.name} was loaded, restored or followed by another run "
            "meanwhile.",
            hint="The next run goes on from the target's position.",
        )
    since = -1 if position is None else position.commit_version
    new = batch.where(f"{COMMIT_VERSION} > {since}")
    apply_rows(sent_rows(new, plan), plan, database, since=since, batch_id=batch_id)
