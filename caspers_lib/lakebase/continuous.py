"""A synced table that is followed for as long as its owner wants, across restarts of the server."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark.errors import PySparkException

from caspers_lib.errors import CaspersError
from caspers_lib.lakebase.change_feed import (
    SyncRun,
    read_source,
    start_stream,
    stream_error,
    sync_once,
)
from caspers_lib.lakebase.connection import Database, connect
from caspers_lib.lakebase.sync_plan import plan_sync
from caspers_lib.lakebase.sync_spec import SyncSpec
from caspers_lib.lakebase.target import Position, read_position

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["Follower"]

_POLL_SECONDS = 0.5
_FIRST_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 60.0


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
                run = sync_once(self.spark, self.spec, self.database, self.checkpoint)
                if run.loaded or run.result.rows_in:
                    on_run(run)
                failed = 0
                if self.spec.mode == "snapshot":
                    self._wait(self.trigger_seconds, stopping)
                else:
                    self._stream(run.position, stopping, on_run)
            except CaspersError as error:
                failed += 1
                if failed >= self.attempts:
                    raise
                on_error(error)
                self._wait(
                    min(_FIRST_WAIT_SECONDS * 2 ** (failed - 1), _LONGEST_WAIT_SECONDS), stopping
                )

    def _stream(
        self, position: Position, stopping: Callable[[], bool], on_run: Callable[[SyncRun], None]
    ) -> None:
        """Stream from a position until told to stop, or until the stream fails."""
        source = read_source(self.spark, self.spec)
        query = start_stream(
            self.spark,
            plan_sync(self.spec, source.columns),
            self.database,
            self.checkpoint,
            position,
            newest=source.version,
            trigger_seconds=self.trigger_seconds,
        )
        try:
            while query.isActive and not stopping():
                self.sleep(_POLL_SECONDS)
                now = self._position()
                if now.totals != position.totals:
                    on_run(SyncRun(now.totals - position.totals, now))
                position = now
            failure = query.exception()
        except PySparkException as error:
            raise stream_error(self.spec, error) from error
        finally:
            query.stop()
        if failure is not None:
            raise stream_error(self.spec, failure)

    def _position(self) -> Position:
        with connect(self.database) as connection:
            position = read_position(connection, self.spec)
        if position is None:
            # Dropped by hand: the next run loads the table anew.
            raise CaspersError(f"The position of {self.spec.name} is gone.")
        return position

    def _wait(self, seconds: float, stopping: Callable[[], bool]) -> None:
        while seconds > 0 and not stopping():
            self.sleep(min(seconds, _POLL_SECONDS))
            seconds -= _POLL_SECONDS
