"""A small business that is replayed and piped into tables, and what its tables should hold."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caspers_lib.medallion.registration import PipelineSettings
from caspers_lib.replay.chaos import NO_CHAOS, Chaos
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.engine import Replay
from caspers_lib.replay.state import StateStore
from caspers_lib.replay.volume_sink import VolumeSink, count_events
from caspers_lib.runtime.tables_update import update_streaming_tables, update_tables
from tests.oracle import (
    COLUMNS,
    DAY,
    Expected,
    Played,
    differences,
    expected,
    played_at,
    rows_of,
)

EPOCH = 1_704_067_200
SPEED = 60.0
START = 20_775 * DAY + 18.5 * 3600  # 18:30 UTC
HOUR = 3600 / SPEED  # wall-clock seconds of a virtual hour


@contextmanager
def under(spark: Any, settings: dict[str, str]) -> Iterator[None]:
    """The session with other settings."""
    before = {name: spark.conf.get(name, None) for name in settings}
    try:
        for name, value in settings.items():
            spark.conf.set(name, value)
        yield
    finally:
        for name, value in before.items():
            spark.conf.unset(name) if value is None else spark.conf.set(name, value)


@dataclass(frozen=True)
class Business:
    """A dataset that is replayed and piped into the tables of `schema`."""

    spark: Any
    schema: str
    folder: Path
    dataset: Path
    days: int
    start_day: int
    chaos: Chaos = NO_CHAOS

    @property
    def events(self) -> Path:
        return self.folder / "events"

    def tick(self, now: float, *, clean: bool = False) -> int:
        """Plays up to `now`; a clean one the same without chaos, into a folder of its own."""
        folder = self.folder / "clean" if clean else self.folder
        replay = Replay(
            EventsFile.open(self.dataset),
            VolumeSink(folder / "events"),
            StateStore(folder / "misc"),
            start_day=self.start_day,
            speed=SPEED,
            chaos=NO_CHAOS if clean else self.chaos,
        )
        return replay.tick(now).events

    def update(
        self,
        *,
        full_refresh: bool = False,
        on_event: Callable[[str], None] = lambda _message: None,
    ) -> dict[str, str]:
        """One update of every table; what was done to each derived one."""
        done = update_tables(
            self.spark,
            PipelineSettings(events=str(self.events)),
            storage=self.folder / "checkpoints",
            database=self.schema,
            full_refresh=full_refresh,
            on_event=on_event,
        )
        return {update.table: update.how for update in done}

    def stream(self) -> None:
        """One update of the streaming tables alone."""
        update_streaming_tables(
            self.spark,
            PipelineSettings(events=str(self.events)),
            storage=self.folder / "checkpoints",
            database=self.schema,
        )

    def table(self, name: str) -> Any:
        return self.spark.table(f"{self.schema}.{name}")

    def rows(self, table: str, *columns: str) -> list[tuple[Any, ...]]:
        return rows_of(self.table(table).select(*(columns or "*")))

    def played(self, now: float) -> Played:
        return played_at(
            self.dataset,
            epoch=EPOCH,
            days=self.days,
            start_day=self.start_day,
            speed=SPEED,
            start=START,
            now=now,
            manifest=self.folder / "misc" / "chaos" if self.chaos.is_on else None,
        )

    def expected(self, now: float) -> Expected:
        return expected(self.played(now))

    def faults(self, now: float) -> dict[str, object]:
        """What differs from the oracle, by table; empty where nothing does."""
        wanted = self.expected(now)
        faults: dict[str, object] = {
            table: differences(rows, self.rows(table, *COLUMNS[table]))
            for table, rows in wanted.tables.items()
        }
        # Chaos loses and repeats lines: every line of a file is a row all the same.
        lines = count_events(self.events)
        if not self.chaos.is_on:
            faults["events in files"] = lines - wanted.events
        faults["all_events"] = self.table("all_events").count() - lines
        return {name: fault for name, fault in faults.items() if fault}
