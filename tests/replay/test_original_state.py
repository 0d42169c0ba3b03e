"""A replay goes on where the original system stood, from its two plain texts."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caspers_lib.errors import ReplayStateError
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.engine import Replay
from caspers_lib.replay.original_state import read_original_state
from caspers_lib.replay.state import STATE_FILE

DAY = 86_400
START = 1_750_000_000 // DAY * DAY + 50_000.0

MakeReplay = Callable[..., Replay]
Lines = Callable[[Path], list[str]]


def write(
    folder: Path, *, start: object, watermark: object, started: float, written: float
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text, at in (("_sim_start", start, started), ("_watermark", watermark, written)):
        (folder / name).write_text(f"{text}\n")
        os.utime(folder / name, (at, at))


def test_it_goes_on_exactly_where_the_original_stood(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay, written_lines: Lines
) -> None:
    whole, taken_over = tmp_path / "whole", tmp_path / "taken over"
    first = make_replay(small, whole).tick(START).state
    make_replay(small, whole).tick(START + 300)
    before = set(written_lines(whole))
    make_replay(small, whole).tick(START + 900)
    write(
        taken_over / "misc",
        start=first.clock.start,
        watermark=first.clock.start + 300 * 60,
        started=START + 2.7,  # the file is written a moment after the clock was read
        written=START + 300,
    )
    tick = make_replay(small, taken_over).tick(START + 900)
    assert set(written_lines(taken_over)) == set(written_lines(whole)) - before
    assert tick.state.shift_seconds == first.shift_seconds
    assert tick.state.simulation_start == START
    assert json.loads((taken_over / "misc" / STATE_FILE).read_text())["version"] == 4


def test_the_speed_before_it_does_not_matter(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay
) -> None:
    p0 = small.epoch + DAY + 50_000.0
    write(tmp_path / "misc", start=p0, watermark=p0 + 7, started=START, written=START + DAY)
    state = make_replay(small, tmp_path, speed=60.0).tick(START + DAY + 10).state
    assert state.watermark == p0 + 7 + 600


@pytest.mark.parametrize(("time_of_day", "late"), [(DAY - 1.0, 3.0), (1.0, -0.5)])
def test_a_start_beside_midnight_belongs_to_its_own_day(
    time_of_day: float, late: float, small: EventsFile, tmp_path: Path, make_replay: MakeReplay
) -> None:
    start = START // DAY * DAY + time_of_day
    p0 = small.epoch + DAY + time_of_day
    write(tmp_path / "misc", start=p0, watermark=p0, started=start + late, written=start + late)
    assert make_replay(small, tmp_path).tick(start + 60).state.simulation_start == start


def test_whole_seconds_are_read_too(tmp_path: Path) -> None:
    write(tmp_path, start=1_710_000_000, watermark=1_710_000_060, started=1.0, written=2.0)
    found = read_original_state(tmp_path)
    assert found is not None
    assert (found.start, found.watermark) == (1_710_000_000.0, 1_710_000_060.0)
    assert (found.started_at, found.written_at) == (1.0, 2.0)


def test_no_texts_are_no_state(tmp_path: Path) -> None:
    assert read_original_state(tmp_path) is None
    assert read_original_state(tmp_path / "not" / "there") is None


@pytest.mark.parametrize("name", ["_watermark", "_sim_start"])
def test_r4_one_text_without_the_other_is_an_error_and_no_first_run(
    name: str, small: EventsFile, tmp_path: Path, make_replay: MakeReplay
) -> None:
    (tmp_path / "misc").mkdir()
    (tmp_path / "misc" / name).write_text("1704200000\n")
    with pytest.raises(ReplayStateError, match=f"holds {name} but neither {STATE_FILE} nor"):
        make_replay(small, tmp_path).tick(START)
    assert not (tmp_path / "events").exists()


HOSTILE: dict[str, tuple[Any, Any]] = {
    "words": ("noon", 1_704_200_000),
    "empty": ("", 1_704_200_000),
    "not a number": ("nan", 1_704_200_000),
    "infinite": (1_704_200_000, "inf"),
    "milliseconds": (1_704_200_000, 1_704_200_000_000),
    "negative": (1_704_200_000, -1),
    "before the start": (1_704_200_000, 1_704_199_999),
    "before the dataset": (1_704_000_000, 1_704_200_000),
    "after the loop": (1_705_000_000, 1_705_000_001),
}


@pytest.mark.parametrize("texts", HOSTILE.values(), ids=HOSTILE)
def test_r3_texts_that_make_no_sense_are_an_error_and_no_first_run(
    texts: tuple[Any, Any], small: EventsFile, tmp_path: Path, make_replay: MakeReplay
) -> None:
    start, watermark = texts
    write(tmp_path / "misc", start=start, watermark=watermark, started=START, written=START)
    with pytest.raises(ReplayStateError) as caught:
        make_replay(small, tmp_path).tick(START)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    assert not (tmp_path / "events").exists()
    assert not (tmp_path / "misc" / STATE_FILE).exists()
