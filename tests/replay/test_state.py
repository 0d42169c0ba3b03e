"""The state document: read back as it was written, or refused; never a first run by mistake."""

import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caspers_lib.errors import ReplayStateError
from caspers_lib.replay.clock import Clock, Segment
from caspers_lib.replay.state import STATE_FILE, ReplayState, StateStore
from caspers_lib.replay.window import Window

STATE = ReplayState(
    simulation_start=1_750_000_000.25,
    epoch=1_704_067_200,
    cycle_seconds=7_776_000,
    shift_seconds=39_830_400,
    clock=Clock(
        (Segment(1_750_000_000.25, 1e9, 60.0), Segment(1_750_000_100.5, 1e9 + 6_015.0, 0.0))
    ),
    watermark=1e9 + 10.125,
    pending=Window(1e9 + 10.125, 1e9 + 99.5),
    first_ts=1_704_067_264,
    last_ts=1_711_848_558,
    ticked_at=1_750_000_101.5,
    takes=2,
    chaos="late=0.1,seed=7",
    domain="ghost_kitchen",
    checked="0123456789abcdef0123456789abcdef",
    form="lines",
    events_per_file=100_000,
    speed_setting=60.0,
)

seconds = st.floats(0, 4e9) | st.integers(0, 4 * 10**9)
segment_lists = st.lists(
    st.builds(Segment, seconds, seconds, st.floats(0, 1e6) | st.integers(0, 10**6)),
    min_size=1,
    max_size=4,
).map(lambda found: tuple(sorted(found, key=lambda s: s.wall)))


@st.composite
def states(draw: st.DrawFn) -> ReplayState:
    watermark, later = draw(st.none() | seconds), draw(st.floats(0.001, 1e9))
    pending = Window(watermark, (watermark or 0) + later)
    return ReplayState(
        simulation_start=draw(seconds),
        epoch=draw(st.integers(0, 4 * 10**9)),
        cycle_seconds=draw(st.integers(1, 10**9)),
        shift_seconds=draw(st.integers(-2 * 10**9, 2 * 10**9)),
        clock=Clock(draw(segment_lists)),
        watermark=watermark,
        pending=pending if watermark is None or draw(st.booleans()) else None,
        first_ts=draw(st.none() | st.integers(0, 10**10)),
        last_ts=draw(st.none() | st.integers(0, 10**10)),
        ticked_at=draw(st.none() | seconds),
        takes=draw(st.integers(0, 99)),
        chaos=draw(st.none() | st.text(max_size=9)),
        domain=draw(st.none() | st.text(max_size=9)),
        checked=draw(st.none() | st.text(max_size=9)),
        form=draw(st.sampled_from([None, "lines", "named_lines", "columns"])),
        events_per_file=draw(st.none() | st.integers(1, 10**6)),
        speed_setting=draw(st.none() | st.floats(0.01, 1e6)),
    )


@given(states())
def test_a_state_comes_back_from_its_document_exactly(state: ReplayState) -> None:
    again = ReplayState.from_json(state.to_json())
    assert again == state
    assert repr(again) == repr(state)  # 1 stays 1 and 1.0 stays 1.0: files are named after them


def test_a_state_comes_back_from_its_folder(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "simulator" / "misc")
    assert store.load() is None
    store.save(STATE)
    assert store.load() == STATE
    store.save(replace(STATE, watermark=1e9 + 99.5, pending=None))
    assert store.load() == replace(STATE, watermark=1e9 + 99.5, pending=None)


def test_a_person_can_read_the_document(tmp_path: Path) -> None:
    StateStore(tmp_path).save(STATE)
    text = (tmp_path / STATE_FILE).read_text()
    assert json.loads(text) == {
        "version": 4,
        "simulation_start": 1_750_000_000.25,
        "epoch": 1_704_067_200,
        "cycle_seconds": 7_776_000,
        "shift_seconds": 39_830_400,
        "segments": [
            {"wall": 1_750_000_000.25, "virtual": 1e9, "speed": 60.0},
            {"wall": 1_750_000_100.5, "virtual": 1e9 + 6_015, "speed": 0.0},
        ],
        "watermark": 1e9 + 10.125,
        "pending": {"after": 1e9 + 10.125, "until": 1e9 + 99.5},
        "first_ts": 1_704_067_264,
        "last_ts": 1_711_848_558,
        "ticked_at": 1_750_000_101.5,
        "takes": 2,
        "chaos": "late=0.1,seed=7",
        "domain": "ghost_kitchen",
        "checked": "0123456789abcdef0123456789abcdef",
        "form": "lines",
        "events_per_file": 100_000,
        "speed_setting": 60.0,
    }
    assert '\n  "watermark": 1000000010.125,\n' in text
    assert text.endswith("}\n")


def test_watermark_and_start_lie_beside_it_as_plain_virtual_seconds(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    store.save(replace(STATE, watermark=None, pending=Window(None, 1e9)))
    assert (tmp_path / "_sim_start").read_text() == "1000000000.0\n"
    assert not (tmp_path / "_watermark").exists()
    store.save(STATE)
    assert float((tmp_path / "_watermark").read_text()) == STATE.watermark
    assert {path.name for path in tmp_path.iterdir()} == {STATE_FILE, "_sim_start", "_watermark"}


DOCUMENT: dict[str, Any] = json.loads(STATE.to_json())


def without(name: str) -> str:
    return json.dumps({key: value for key, value in DOCUMENT.items() if key != name})


def changed(**values: Any) -> str:
    return json.dumps({**DOCUMENT, **values})


def with_segment(**values: Any) -> str:
    return changed(segments=[{**DOCUMENT["segments"][0], **values}])


CORRUPT = {
    "empty": "",
    "blank": " \n",
    "half": STATE.to_json()[: len(STATE.to_json()) // 2],
    "doubled": STATE.to_json() * 2,
    "zeros": "\0" * 400,
    "not JSON": "1718000000.0\n",
    "words": "watermark",
    "null": "null",
    "number": "7",
    "list": "[]",
    "text": '"version"',
    "other object": '{"a": 1}',
    "deep": "[" * 100_000,
    "newer version": changed(version=5),
    "no version": without("version"),
    "version as text": changed(version="1"),
    **{f"lacks {name}": without(name) for name in DOCUMENT},
    "further field": changed(speed=60),
    "no segments": changed(segments=[]),
    "segments null": changed(segments=None),
    "segment of another shape": changed(segments=[{"wall": 1.0}]),
    "segment with a further field": with_segment(x=1),
    "wall as text": with_segment(wall="1750000000"),
    "virtual null": with_segment(virtual=None),
    "speed negative": with_segment(speed=-1.0),
    "speed true": with_segment(speed=True),
    "speed NaN": with_segment(speed=math.nan),
    "watermark as text": changed(watermark="1000000010.125"),
    "watermark NaN": changed(watermark=math.nan, pending=None),
    "watermark infinite": changed(watermark=-math.inf, pending=None),
    "watermark huge": changed(watermark=10**400, pending=None),
    "neither watermark nor pending": changed(watermark=None, pending=None),
    "pending empty": changed(pending={}),
    "pending false": changed(pending=False),
    "pending without its start": changed(pending={"until": 1.0}),
    "pending elsewhere": changed(pending={"after": 1e9, "until": 1e9 + 99.5}),
    "pending from the beginning": changed(pending={"after": None, "until": 1e9 + 99.5}),
    "pending backwards": changed(pending={"after": 1e9 + 10.125, "until": 1e9}),
    "pending until null": changed(pending={"after": 1e9 + 10.125, "until": None}),
    "simulation start null": changed(simulation_start=None),
    "epoch null": changed(epoch=None),
    "shift as text": changed(shift_seconds="0"),
    "watermark of the year 10000": changed(watermark=2.54e11, pending=None),
    "shift out of the calendar": changed(shift_seconds=10**12),
    "simulation start huge": changed(simulation_start=1e15),
    "form unknown": changed(form="poems"),
    "file of no events": changed(events_per_file=0),
    "takes fractional": changed(takes=0.5),
    "first event as text": changed(first_ts="0"),
    "last event infinite": changed(last_ts=math.inf),
    "chaos as number": changed(chaos=0.1),
    "ticked at as text": changed(ticked_at="now"),
    "version true": changed(version=True),
    "shift fractional": changed(shift_seconds=0.5),
    "cycle fractional": changed(cycle_seconds=86_400.5),
}


@pytest.mark.parametrize("text", CORRUPT.values(), ids=CORRUPT)
def test_r3_a_broken_state_is_an_error_and_no_first_run(text: str, tmp_path: Path) -> None:
    path = tmp_path / STATE_FILE
    path.write_text(text)
    with pytest.raises(ReplayStateError, match="is not a state document") as caught:
        StateStore(tmp_path).load()
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message
    assert "caspers destroy" in caught.value.hint
    assert caught.value.__cause__ is not None
    assert path.read_text() == text


@given(st.data())
def test_r3_no_cut_and_no_changed_byte_makes_it_a_first_run(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = STATE.to_json().encode()
    at = data.draw(st.integers(0, len(whole) - 3))
    byte = data.draw(st.none() | st.binary(min_size=1, max_size=1))
    broken = whole[:at] if byte is None else whole[:at] + byte + whole[at + 1 :]
    folder = tmp_path_factory.mktemp("state")
    (folder / STATE_FILE).write_bytes(broken)
    try:
        assert StateStore(folder).load() is not None
    except ReplayStateError:
        return
    assert byte is not None  # a cut document is always refused


def make_folder(path: Path) -> None:
    path.mkdir()


def make_binary(path: Path) -> None:
    path.write_bytes(b"\xff\xfe{}")


def make_link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def make_unreadable(path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads every file")
    path.write_text(STATE.to_json())
    path.chmod(0)


@pytest.mark.parametrize("make", [make_folder, make_binary, make_link_to_itself, make_unreadable])
def test_r3_a_state_that_cannot_be_read_is_an_error_and_no_first_run(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    make(tmp_path / STATE_FILE)
    with pytest.raises(ReplayStateError, match=r"_replay_state\.json can't be read") as caught:
        StateStore(tmp_path).load()
    assert isinstance(caught.value.__cause__, (OSError, UnicodeDecodeError))


def test_r3_a_file_in_the_folders_place_is_an_error_and_no_first_run(tmp_path: Path) -> None:
    (tmp_path / "misc").write_text("")
    with pytest.raises(ReplayStateError, match="can't be read"):
        StateStore(tmp_path / "misc").load()


SINCE = {
    2: {"first_ts": None, "last_ts": None, "ticked_at": None, "takes": 0, "chaos": None},
    3: {"domain": None, "checked": None, "form": None, "events_per_file": None},
    4: {"speed_setting": None},
}


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_state_of_an_older_version_is_read(version: int, tmp_path: Path) -> None:
    later = {k: v for since, fields in SINCE.items() if since > version for k, v in fields.items()}
    older = {name: value for name, value in DOCUMENT.items() if name not in later}
    (tmp_path / STATE_FILE).write_text(json.dumps({**older, "version": version}))
    assert StateStore(tmp_path).load() == replace(STATE, **later)  # type: ignore[arg-type]


def test_a_state_of_a_newer_version_says_so_and_stays_as_it_is(tmp_path: Path) -> None:
    text = changed(version=5, something_new=1)
    (tmp_path / STATE_FILE).write_text(text)
    with pytest.raises(ReplayStateError, match="version is 5, this library reads 1 to 4"):
        StateStore(tmp_path).load()
    assert (tmp_path / STATE_FILE).read_text() == text


numbers = st.floats() | st.integers() | st.sampled_from([None, "1", True, 1e16, -1e12, 253e9])


@given(st.data())
def test_r3_what_can_be_saved_can_be_loaded_and_the_rest_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    names = ("simulation_start", "epoch", "cycle_seconds", "takes", "ticked_at", "first_ts")
    name = data.draw(st.sampled_from([*names, "watermark", "events_per_file", "form", "clock"]))
    value = data.draw(numbers)
    if name == "clock":
        field = data.draw(st.sampled_from(["wall", "virtual", "speed"]))
        newest = replace(STATE.clock.segments[-1], **{field: value})
        state = replace(STATE, clock=Clock((*STATE.clock.segments, newest)))
    else:
        state = replace(STATE, pending=None, **{name: value})
    store = StateStore(tmp_path_factory.mktemp("state"))
    try:
        store.save(state)
    except ReplayStateError as error:
        assert "can't be saved" in error.message
        assert not list(store.folder.iterdir())
    else:
        assert store.load() == state


def test_r3_only_a_state_that_does_not_exist_means_a_first_run(tmp_path: Path) -> None:
    assert StateStore(tmp_path).load() is None
    assert StateStore(tmp_path / "not" / "there").load() is None
    (tmp_path / f".{STATE_FILE}.tmp").write_text("the first save never got its name")
    assert StateStore(tmp_path).load() is None


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_r4_a_save_that_fails_leaves_the_old_state_whole(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = StateStore(tmp_path)
    store.save(STATE)
    names = (STATE_FILE, "_sim_start", "_watermark")
    before = {name: (tmp_path / name).read_bytes() for name in names}

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if failing == "fsync" else (Path, "replace")), fail)
    with pytest.raises(ReplayStateError, match="can't be written: No space left on device"):
        store.save(replace(STATE, watermark=2e9, pending=None))
    monkeypatch.undo()
    assert {path.name for path in tmp_path.iterdir()} == set(names)
    assert {name: (tmp_path / name).read_bytes() for name in names} == before
    assert store.load() == STATE


def test_r4_the_document_rules_whatever_the_plain_texts_say(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    store.save(STATE)
    (tmp_path / "_watermark").write_text("nonsense")
    (tmp_path / "_sim_start").unlink()
    assert store.load() == STATE


def test_r4_bytes_are_on_disk_before_they_get_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, Path.replace

    def counted_fsync(descriptor: int) -> None:
        steps.append("fsync")
        fsync(descriptor)

    def counted_replace(self: Path, target: Path) -> Path:
        steps.append(target.name)
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", counted_fsync)
    monkeypatch.setattr(Path, "replace", counted_replace)
    StateStore(tmp_path).save(STATE)
    assert steps == ["fsync", STATE_FILE, "fsync", "_sim_start", "fsync", "_watermark"]
    StateStore(tmp_path).save(replace(STATE, watermark=1e9 + 20.0, pending=None))
    assert steps[6:] == ["fsync", STATE_FILE, "fsync", "_watermark"]
