"""`caspers replay ...` as a user types it, on a small dataset."""

import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from caspers_lib.cli import app
from caspers_lib.cli.replay_view import column_chart
from caspers_lib.errors import CaspersError, ReplayStateError, SettingsError
from caspers_lib.replay.engine import steer
from caspers_lib.replay.generator import generate_dataset
from caspers_lib.replay.state import StateStore
from caspers_lib.replay.steering import set_speed
from caspers_lib.runtime.local_business import LocalBusiness
from caspers_lib.runtime.local_replay import ReplayOptions
from caspers_lib.runtime.local_root import LocalRoot, Owner, owned
from caspers_lib.runtime.settings import load_settings

Caspers = Callable[..., str]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_dataset(tmp_path_factory.mktemp("dataset"), days=3, scale=0.05)


@pytest.fixture
def caspers(tmp_path: Path) -> Caspers:
    """Runs a command on this test's ROOT and gives what it prints."""

    def run(*arguments: object) -> str:
        result = CliRunner().invoke(app, [*map(str, arguments), "--root", str(tmp_path / "root")])
        if isinstance(result.exception, CaspersError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    return run


@pytest.fixture
def begun(caspers: Caspers, dataset: Path) -> Caspers:
    caspers("replay", "tick", "--dataset", dataset, "--start-day", 1, "--speed", 60)
    return caspers


def status(caspers: Caspers) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(caspers("replay", "status", "--json"))
    return found


def test_a_dry_run_says_what_would_be_written_and_writes_nothing(
    caspers: Caspers, dataset: Path, tmp_path: Path
) -> None:
    said = caspers("replay", "tick", "--dry-run", "--dataset", dataset, "--start-day", 1)
    assert not (tmp_path / "root").exists()
    assert said.startswith("a first run would write ")
    promised = int(said.split()[5].replace(",", ""))
    done = caspers("replay", "tick", "--dataset", dataset, "--start-day", 1, "--speed", 0.001)
    assert int(done.split()[0].replace(",", "")) == pytest.approx(promised, abs=20)
    assert "order_created" in said


def test_a_paused_replay_has_nothing_to_write(begun: Caspers, dataset: Path) -> None:
    assert begun("replay", "pause").startswith("paused at 2024-01-02 ")
    begun("replay", "tick", "--dataset", dataset)
    said = begun("replay", "tick", "--dry-run", "--dataset", dataset)
    assert said.startswith("nothing to write: paused at 2024-01-02 ")
    assert "goes on at speed 60" in said


def test_the_status_is_one_document_with_the_day_that_plays(begun: Caspers) -> None:
    found = status(begun)
    assert set(found) == {
        "status", "speed", "watermark", "shift_seconds", "loop", "virtual_time", "event_time",
        "dataset_day", "lag_seconds", "events_per_second", "next_tick", "chaos", "hours",
        "clock_ahead_seconds",
    }  # fmt: skip
    assert (found["status"], found["speed"], found["loop"]) == ("stopped", 60.0, 0)
    assert found["dataset_day"] == 1
    assert len(found["hours"]) == 24
    assert sum(found["hours"]) > 100
    assert found["next_tick"] is None
    assert 0 <= found["lag_seconds"] < 60 * 60
    event_time = datetime.fromisoformat(found["event_time"])
    assert abs((event_time - datetime.now(UTC)).total_seconds()) < 3_600


def test_the_status_for_people_shows_time_speed_lag_rate_and_a_chart(begun: Caspers) -> None:
    said = begun("replay", "status")
    for word in ("virtual time", "event time", "watermark", "lag", "events per second", "next tick",
                 "loop 0", "speed 60", "day 1", "▲ now", "█"):  # fmt: skip
        assert word in said
    assert "00 01 02 03" in said


def test_the_status_of_nothing_says_how_to_begin(caspers: Caspers) -> None:
    assert "has not begun" in caspers("replay", "status")
    assert status(caspers)["status"] == "not_started"


def test_pause_resume_speed_step_seek_and_reset_steer_the_clock(begun: Caspers) -> None:
    start = status(begun)["watermark"]
    begun("replay", "pause")
    stood = status(begun)
    assert (stood["status"], stood["speed"], stood["events_per_second"]) == ("paused", 0.0, 0.0)
    begun("replay", "step", "1h30m")
    moved = datetime.fromisoformat(status(begun)["virtual_time"])
    assert (moved - datetime.fromisoformat(stood["virtual_time"])).total_seconds() == 5_400
    assert "goes on at speed 120" in begun("replay", "speed", "120")
    assert begun("replay", "resume").startswith("plays at speed 120 from 2024-01-02 ")
    assert "(dataset day 2, loop 0)" in begun("replay", "seek", "2.5")
    assert "plays at speed 60" in begun("replay", "reset")
    assert status(begun)["watermark"] == start


def test_a_process_that_plays_it_is_told_of_and_its_next_tick_shown(
    begun: Caspers, dataset: Path, tmp_path: Path
) -> None:
    root = LocalRoot(tmp_path / "root", load_settings(environment={}))
    ticked = time.time()
    with owned(root, Owner(4321, "caspers demo", str(dataset), tick_seconds=3.0)):
        assert "process 4321 (caspers demo) obeys at its next tick" in begun("replay", "pause")
        found = status(begun)
        assert datetime.fromisoformat(found["next_tick"]).timestamp() < ticked + 3.0
    assert "no process plays it" in begun("replay", "resume")


def test_a_process_that_was_started_with_a_speed_can_be_steered(
    dataset: Path, tmp_path: Path
) -> None:
    clock = [1_795_000_000.0]
    settings = load_settings({"start_day": 1, "speed_multiplier": 600.0}, environment={})
    root = LocalRoot(tmp_path / "root", settings)
    business = LocalBusiness(
        root, dataset=dataset, options=ReplayOptions(speed=600.0), now=lambda: clock[0]
    )
    with owned(root, Owner.this_process("caspers demo")):
        assert business.tick().state.clock.speed == 600.0
        steer(StateStore(root.replay_state), set_speed(5), clock[0])
        clock[0] += 60.0
        assert business.tick().state.clock.speed == 5.0


def test_a_setting_that_is_changed_counts_from_the_next_run_on(
    begun: Caspers, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun("replay", "speed", "5")
    monkeypatch.setenv("CASPERS_DATASET", str(dataset))
    for asked, plays in (("60", 5.0), ("120", 120.0), ("", 120.0)):
        monkeypatch.setenv("CASPERS_SPEED_MULTIPLIER", asked)
        begun("replay", "tick")
        assert status(begun)["speed"] == plays


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("replay", "speed", "0"), "must be a number above 0"),
        (("replay", "speed", "nan"), "must be a number above 0"),
        (("replay", "seek", "3"), "outside the dataset"),
        (("replay", "seek", "soon"), "neither a dataset day nor"),
        (("replay", "step", "3"), "is not a duration"),
    ],
)
def test_what_makes_no_sense_is_one_line_with_a_hint(
    arguments: tuple[str, ...], told: str, begun: Caspers
) -> None:
    with pytest.raises(CaspersError, match=told) as caught:
        begun(*arguments)
    assert caught.value.hint
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("command", ["pause", "resume", "reset"])
def test_steering_before_the_first_run_says_how_to_begin(command: str, caspers: Caspers) -> None:
    with pytest.raises(CaspersError, match="No replay has begun") as caught:
        caspers("replay", command)
    assert "caspers replay tick" in caught.value.hint


def test_a_chart_has_a_column_a_value_and_the_largest_reaches_the_top() -> None:
    assert column_chart([0, 1, 2], rows=1) == ["   ▄▄ ██"]
    assert column_chart([0, 0], rows=2) == ["     ", "     "]
    assert column_chart([1, 1000], rows=2) == ["   ██", "▁▁ ██"]


@pytest.mark.parametrize("command", [("resume",), ("seek", "2.5"), ("reset",), ("step", "1h")])
def test_a_clock_that_was_set_back_is_told_and_a_command_begins_a_segment_at_todays(
    command: tuple[str, ...],
    caspers: Caspers,
    dataset: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    today, year = time.time(), 365 * 86_400
    now = today + year
    monkeypatch.setattr(time, "time", lambda: now)
    caspers("replay", "tick", "--dataset", dataset, "--start-day", 1, "--speed", 60)
    now = today
    for words in (("tick",), ("tick", "--dry-run"), ("status",)):
        told = " ".join(caspers("replay", *words, "--dataset", dataset).split())
        assert "365.0 days ahead" in told
        assert "`caspers replay resume` goes on from here" in told
    assert status(caspers)["clock_ahead_seconds"] == year
    caspers("replay", *command)
    begun = status(caspers)
    assert begun["clock_ahead_seconds"] == 0
    now = today + 3_600
    assert not caspers("replay", "tick", "--dataset", dataset).startswith("0 events")
    assert status(caspers)["watermark"] == pytest.approx(
        datetime.fromisoformat(begun["virtual_time"]).timestamp() + 3_600 * 60
    )


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("speed", "1e16"), "speed is 1e+16; it must be a number above 0, at most 1,000,000"),
        (("step", "999999999999d"), "leads past 22"),
        (("step", "1" * 400 + "d"), "must be a number above 0"),
        (("seek", "9999-12-31T23:59-14:00"), "is outside the dataset"),
    ],
)
def test_a_command_that_leads_out_of_the_calendar_is_refused_and_changes_nothing(
    command: tuple[str, ...], told: str, begun: Caspers
) -> None:
    begun("replay", "pause")
    before = status(begun)
    with pytest.raises(SettingsError, match=re.escape(told)):
        begun("replay", *command)
    assert status(begun) == before


def test_a_first_tick_at_an_absurd_speed_leaves_no_state(caspers: Caspers, dataset: Path) -> None:
    with pytest.raises(SettingsError, match="speed is 1e"):
        caspers("replay", "tick", "--dataset", dataset, "--start-day", 1, "--speed", "1e17")
    assert status(caspers)["status"] == "not_started"


def test_another_start_day_than_the_replay_was_begun_with_is_refused(
    begun: Caspers, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun("replay", "tick", "--dataset", dataset)
    begun("replay", "tick", "--dataset", dataset, "--start-day", 1)
    told = "begun with START_DAY 1, which stays; asked for is 2"
    with pytest.raises(ReplayStateError, match=told):
        begun("replay", "tick", "--dataset", dataset, "--start-day", 2)
    monkeypatch.setenv("CASPERS_START_DAY", "2")
    with pytest.raises(ReplayStateError, match=told):
        begun("replay", "tick", "--dataset", dataset)
