"""The dataset and the replay of a workspace: parameters obeyed or refused, and steering."""

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any, cast

import pytest

from caspers_lib.errors import DatasetError, ReplayStateError, SettingsError
from caspers_lib.replay.generator import generate_dataset
from caspers_lib.runtime.settings import Settings
from caspers_lib.workspace import TaskOutcome, Workspace, replay_control, replay_tick
from caspers_lib.workspace.lakehouse import SparkLakehouse

NOW = 1_795_600_800.0
OWN = "/Volumes/caspersdev/mine/files/sales.parquet"
Here = Callable[..., Workspace]


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a dataset that `Canonical_Data` could have generated."""
    return generate_dataset(tmp_path_factory.mktemp("generated"), scale=0.01).parent


@pytest.fixture
def here(tmp_path: Path, generated: Path) -> Here:
    """A workspace in a folder with the dataset, with neither Spark nor services."""
    copytree(generated, tmp_path / "caspersdev" / "simulator" / "misc" / "dataset")

    def make(now: float = NOW, **given: Any) -> Workspace:
        settings = Settings.model_validate({"dataset_scale": 0.01, **given})
        lakehouse = SparkLakehouse(
            spark=cast("Any", None), settings=settings, volumes=tmp_path, catalog=None
        )
        nothing = cast("Any", None)
        return Workspace(
            settings=settings,
            client=nothing,
            lakehouse=lakehouse,
            ledger=nothing,
            now=lambda: now,
        )

    return make


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A dataset of one's own with its dimensions, in a volume."""
    folder = tmp_path / "caspersdev" / "mine" / "files"
    return generate_dataset(folder, seed=5, days=3, scale=0.02).rename(folder / "sales.parquet")


def speed_after(outcome: TaskOutcome) -> str:
    return outcome.done.partition(" from ")[0]


def test_a_changed_speed_counts_in_the_next_run_and_a_steered_one_stays(here: Here) -> None:
    replay_tick(here())
    replay_control(here(), "speed", "5")
    replay_tick(here(NOW + 60))
    assert speed_after(replay_control(here(NOW + 60), "status")) == "plays at speed 5"
    replay_tick(here(NOW + 60, speed_multiplier=120))
    assert speed_after(replay_control(here(NOW + 60), "status")) == "plays at speed 120"


def test_a_replay_is_steered(here: Here) -> None:
    replay_tick(here())
    assert replay_control(here(), "pause").done.startswith("paused at 2024-03-11 ")
    assert replay_tick(here(NOW + 600)).done == "0 events written"
    replay_control(here(NOW + 600), "resume")
    replay_control(here(NOW + 600), "seek", "75")
    status = replay_control(here(NOW + 600), "status").done
    assert status.startswith("plays at speed 60 from 2024-03-16 00:00:00 UTC (dataset day 75, ")
    assert status.endswith("; events up to 2026-11-25 10:00:00 UTC written")
    assert replay_tick(here(NOW + 600)).done != "0 events written"


@pytest.mark.parametrize(
    ("command", "value", "why"),
    [
        ("stop", "", "COMMAND is 'stop'; allowed are status, pause, resume, speed, seek"),
        ("", "", "COMMAND is ''"),
        ("pause", "5", "VALUE is '5': pause takes none"),
        ("speed", "", "VALUE is empty: speed needs one"),
        ("speed", "fast", "VALUE is 'fast': a speed is a number above 0"),
        ("speed", "0", "The replay's speed is 0.0"),
        ("seek", "", "VALUE is empty: seek needs one"),
        ("seek", "soon", "Seek to 'soon'"),
        ("seek", "90", "Seek to day 90 is outside the dataset"),
    ],
)
def test_a_bad_command_is_refused_and_changes_nothing(
    here: Here, command: str, value: str, why: str
) -> None:
    replay_tick(here())
    before = here().lakehouse.replay_state.load()
    with pytest.raises(SettingsError) as refused:
        replay_control(here(), command, value)
    assert refused.value.message.startswith(why)
    assert refused.value.hint
    assert here().lakehouse.replay_state.load() == before


def test_there_is_nothing_to_steer_before_the_first_run(here: Here) -> None:
    for command in ("status", "pause"):
        with pytest.raises(ReplayStateError, match=r"^No replay has begun in "):
            replay_control(here(), command)


def test_the_layout_is_the_one_that_is_asked_for(here: Here, tmp_path: Path) -> None:
    events = tmp_path / "caspersdev" / "simulator" / "events"
    replay_tick(here(start_day=0))
    lines = [len(file.read_text().splitlines()) for file in events.glob("*.json")]
    assert max(lines) > 1
    before = set(events.iterdir())
    replay_tick(here(NOW + 600, start_day=0, events_layout="per_event"))
    new = [json.loads(file.read_text()) for file in set(events.iterdir()) - before]
    assert len(new) > 1


@pytest.mark.usefixtures("own")
def test_a_dataset_of_ones_own_is_played(here: Here) -> None:
    settings = {"dataset": OWN, "dataset_scale": 1, "start_day": 1}
    here(**settings).lakehouse.write_dataset()
    assert replay_tick(here(**settings)).done != "0 events written"
    state = here().lakehouse.replay_state.load()
    assert state is not None
    assert state.cycle_seconds == 3 * 86_400


@pytest.mark.parametrize(
    "path", ["sales.parquet", "/tmp/sales.parquet", "/Volumes/a/b", "/Volumes/a/b/c/../d/e"]
)
def test_a_dataset_outside_the_volumes_is_refused(here: Here, path: str) -> None:
    with pytest.raises(SettingsError, match=f"^DATASET is '{path}': in a workspace it must be a "):
        here(dataset=path).lakehouse.write_dataset()


def test_a_dataset_of_ones_own_that_does_not_fit_is_refused(here: Here, own: Path) -> None:
    lakehouse = here(dataset=OWN, dataset_scale=1).lakehouse
    with pytest.raises(SettingsError, match=r"^DATASET_SCALE is 0\.01: it scales a generated"):
        here(dataset=OWN).lakehouse.write_dataset()
    own.with_name("brands.parquet").unlink()
    with pytest.raises(DatasetError, match=r"sales.parquet has no brands\.parquet beside it"):
        lakehouse.write_dataset()
    own.write_bytes(b"no parquet")
    with pytest.raises(DatasetError, match="can't be read as parquet"):
        lakehouse.write_dataset()
    own.unlink()
    for work in (lakehouse.write_dataset, lambda: replay_tick(here(dataset=OWN))):
        with pytest.raises(DatasetError, match=r"^There is no dataset at "):
            work()


def test_another_scale_than_the_datasets_is_refused(here: Here) -> None:
    here().lakehouse.write_dataset()
    with pytest.raises(SettingsError, match=r"was generated with 0\.01, which stays$"):
        here(dataset_scale=0.02).lakehouse.write_dataset()
