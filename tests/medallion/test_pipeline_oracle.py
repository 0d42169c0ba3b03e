"""The whole pipeline against an independent recomputation from the dataset's parquet."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from caspers_lib.medallion.registration import register_pipeline, table_names
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.engine import Replay
from caspers_lib.replay.generator import generate_dataset
from caspers_lib.replay.state import StateStore
from caspers_lib.replay.volume_sink import VolumeSink, count_events
from caspers_lib.runtime.pipeline import run_update
from tests.oracle import COLUMNS, DAY, Expected, differences, expected, played_at, rows_of

pytestmark = pytest.mark.spark

EPOCH = 1_704_067_200
SPEED = 60.0
START = 20_775 * DAY + 18.5 * 3600  # 18:30 UTC
HOUR = 3600 / SPEED  # wall-clock seconds of a virtual hour


@dataclass(frozen=True)
class Business:
    """A dataset that is replayed and piped into the tables of `schema`."""

    spark: Any
    schema: str
    folder: Path
    dataset: Path
    days: int
    start_day: int

    @property
    def events(self) -> Path:
        return self.folder / "events"

    def tick(self, now: float) -> int:
        replay = Replay(
            EventsFile.open(self.dataset),
            VolumeSink(self.events),
            StateStore(self.folder / "misc"),
            start_day=self.start_day,
            speed=SPEED,
        )
        return replay.tick(now).events

    def update(self) -> None:
        run_update(
            self.spark,
            lambda spark: register_pipeline(spark, events=str(self.events)),
            storage=self.folder / "checkpoints",
            database=self.schema,
        )

    def rows(self, table: str, *columns: str) -> list[tuple[Any, ...]]:
        return rows_of(self.spark.table(f"{self.schema}.{table}").select(*(columns or "*")))

    def expected(self, now: float) -> Expected:
        played = played_at(
            self.dataset,
            epoch=EPOCH,
            days=self.days,
            start_day=self.start_day,
            speed=SPEED,
            start=START,
            now=now,
        )
        return expected(played)

    def bronze_counts(self) -> tuple[int, ...]:
        """Rows, distinct ids, and rows with rescued text."""
        return tuple(
            self.spark.table(f"{self.schema}.all_events")
            .selectExpr("count(1)", "count(DISTINCT event_id)", "count(_rescued_data)")
            .first()
        )

    def faults(self, now: float) -> dict[str, object]:
        """What differs from the oracle, by table; empty where nothing does."""
        wanted = self.expected(now)
        faults: dict[str, object] = {
            table: differences(rows, self.rows(table, *COLUMNS[table]))
            for table, rows in wanted.tables.items()
        }
        faults["events in files"] = count_events(self.events) - wanted.events
        faults["all_events"] = [
            count
            for count, right in zip(
                self.bronze_counts(), (wanted.events, wanted.events, 0), strict=True
            )
            if count != right
        ]
        return {name: fault for name, fault in faults.items() if fault}


@pytest.fixture
def make_business(spark: Any, schema: str, tmp_path: Path) -> Iterator[Callable[..., Business]]:
    def make(*, days: int, scale: float, start_day: int) -> Business:
        dataset = generate_dataset(tmp_path / "dataset", days=days, scale=scale)
        return Business(spark, schema, tmp_path, dataset, days, start_day)

    yield make


def test_after_every_update_each_layer_is_up_to_date_and_equals_the_oracle(
    make_business: Callable[..., Business],
) -> None:
    business = make_business(days=3, scale=0.05, start_day=2)
    # The last tick crosses the dataset's end and plays most of its second loop.
    for hours in (0, 2, 4, 60):
        now = START + hours * HOUR
        assert business.tick(now) > 0, f"no events after {hours} hours"
        business.update()
        assert business.faults(now) == {}, f"after {hours} hours"
    in_loop_1 = [key for (key,) in business.rows("gold_order_header", "order_id") if "-L1" in key]
    assert in_loop_1

    for table, columns in COLUMNS.items():
        assert dict(business.spark.table(f"{business.schema}.{table}").dtypes) == columns

    before = {table: business.rows(table) for table in table_names()}
    assert business.tick(now) == 0
    business.update()
    after = {table: business.rows(table) for table in table_names()}
    changed = {table: differences(before[table], after[table]) for table in table_names()}
    assert not any(changed.values()), changed


@pytest.mark.full
def test_the_full_dataset_equals_the_oracle_over_a_loops_end(
    make_business: Callable[..., Business],
) -> None:
    business = make_business(days=90, scale=1.0, start_day=70)
    for virtual_days in (0, 25):
        now = START + virtual_days * 24 * HOUR
        assert business.tick(now) > 0
        business.update()
        assert business.faults(now) == {}, f"after {virtual_days} virtual days"
