"""The sample dataset in the package."""

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from caspers_lib.errors import DatasetError
from caspers_lib.replay import sample
from caspers_lib.replay.dataset import EVENTS_SCHEMA, EventsFile
from caspers_lib.replay.dataset_check import check_dataset
from caspers_lib.replay.engine import Replay
from caspers_lib.replay.generator import generate_dataset
from caspers_lib.replay.generator.dimensions import DIMENSION_SCHEMAS
from caspers_lib.replay.sample import FIRST_DAY, sample_dataset, write_sample

DAY = 86_400
FILES = sorted([*(f"{name}.parquet" for name in DIMENSION_SCHEMAS), "events.parquet"])


def test_it_is_small_and_whole() -> None:
    files = list(sample_dataset().parent.iterdir())
    assert sorted(file.name for file in files) == FILES
    assert sum(file.stat().st_size for file in files) < 500_000


def test_it_is_two_days_from_a_sunday_on_that_can_be_replayed(
    tmp_path: Path, make_replay: Callable[..., Replay]
) -> None:
    events = EventsFile.open(sample_dataset())
    assert events.is_sorted
    assert events.cycle_days == 2
    assert (events.epoch // DAY + 3) % 7 == 6
    replay = make_replay(events, tmp_path, start_day=1)
    assert replay.tick(1_795_000_000.0).events > 10_000


# Parquet's footer names the pyarrow that wrote it, so bytes are compared by what they say.
def test_the_generator_makes_it_again_row_by_row(tmp_path: Path) -> None:
    again = write_sample(tmp_path).parent
    assert sorted(path.name for path in again.iterdir()) == FILES
    for name in FILES:
        mine, made = (pq.ParquetFile(f / name) for f in (sample_dataset().parent, again))
        assert mine.read().equals(made.read(), check_metadata=True), f"write_sample changed {name}"
        assert mine.metadata.num_row_groups == made.metadata.num_row_groups
        assert mine.metadata.row_group(0).column(0).compression == "ZSTD"
    assert pq.read_schema(again / "events.parquet").equals(EVENTS_SCHEMA)


@pytest.mark.full
def test_it_is_a_part_of_the_canonical_dataset(tmp_path: Path) -> None:
    canonical = pq.read_table(generate_dataset(tmp_path, days=FIRST_DAY + 2)).to_pylist()
    opened = {r["order_id"]: r["ts_seconds"] for r in canonical if r["event_type_id"] == 1}
    epoch = EventsFile.open(sample_dataset()).epoch
    part = [r for r in canonical if opened[r["order_id"]] >= epoch]
    assert pq.read_table(sample_dataset()).to_pylist() == part


def test_it_shows_a_late_sunday_an_exit_and_a_launch() -> None:
    facts = check_dataset(sample_dataset()).facts
    assert [at.name for at in facts.locations] == [
        *("San Francisco", "Silicon Valley", "Bellevue", "Chicago")
    ]
    assert facts.lateness is not None
    assert facts.lateness.late_share > 0.1
    listings = pq.read_table(sample_dataset().with_name("brand_locations.parquet")).to_pylist()
    assert [x["location_id"] for x in listings if x["end_day"] == 0] == [1]
    assert [x["location_id"] for x in listings if x["start_day"] == 1] == [2]


def test_a_package_in_an_archive_has_no_sample_to_open(monkeypatch: pytest.MonkeyPatch) -> None:
    class Archive:
        def joinpath(self, *_names: str) -> "Archive":
            return self

    monkeypatch.setattr(sample, "files", lambda _package: Archive())
    with pytest.raises(DatasetError, match="lies in an archive") as refused:
        sample_dataset()
    assert refused.value.hint
