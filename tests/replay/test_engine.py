"""The replay from its first run through any number of loops."""

import json
import math
import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.errors import DatasetError, ReplayStateError, SettingsError
from caspers_lib.replay.callable_sink import CallableSink
from caspers_lib.replay.chaos import Chaos
from caspers_lib.replay.dataset import SORT_KEY, EventsFile
from caspers_lib.replay.dataset_check import check_dataset
from caspers_lib.replay.engine import Replay
from caspers_lib.replay.event_batches import event_batches
from caspers_lib.replay.generator import generate_dataset
from caspers_lib.replay.state import StateStore
from caspers_lib.replay.volume_sink import VolumeSink
from caspers_lib.replay.window import Window

DAY = 86_400
START = 1_750_000_000 // DAY * DAY + 50_000.25  # 13:53 UTC on some day

Row = dict[str, Any]
Lines = Callable[[Path], list[str]]
Tree = Callable[[Path], dict[str, bytes]]
Expected = Callable[[EventsFile, float, int], list[Row]]
MakeReplay = Callable[..., Replay]


def envelopes(lines: list[str]) -> list[Row]:
    """Events without their id and body, as `expected_events` gives them."""
    events = [json.loads(line) for line in lines]
    kept = [{k: v for k, v in e.items() if k not in ("event_id", "body")} for e in events]
    return sorted(kept, key=json.dumps)


def test_the_first_run_writes_everything_up_to_the_start_day_and_time_of_day(
    small: EventsFile,
    tmp_path: Path,
    make_replay: MakeReplay,
    written_lines: Lines,
    expected_events: Expected,
) -> None:
    tick = make_replay(small, tmp_path).tick(START)
    p0 = small.epoch + DAY + 50_000.25
    shift = 1_750_000_000 // DAY * DAY - DAY - small.epoch
    assert tick.window == Window(None, p0)
    assert tick.state == StateStore(tmp_path / "misc").load()
    assert (tick.state.watermark, tick.state.pending) == (p0, None)
    assert tick.state.shift_seconds == shift
    expected = expected_events(small, p0, shift)
    assert envelopes(written_lines(tmp_path)) == expected
    assert tick.events == len(expected) > 100


def test_later_runs_write_what_has_happened_since(
    small: EventsFile,
    tmp_path: Path,
    make_replay: MakeReplay,
    written_lines: Lines,
    expected_events: Expected,
) -> None:
    replay = make_replay(small, tmp_path)
    first = replay.tick(START)
    later = replay.tick(START + 180)
    assert first.window.until == later.window.after
    assert later.window.until == first.window.until + 180 * 60
    assert later.events > 0
    expected = expected_events(small, later.window.until, later.state.shift_seconds)
    assert envelopes(written_lines(tmp_path)) == expected
    assert first.events + later.events == len(expected)


runs = st.lists(
    st.tuples(st.floats(0, 10), st.sampled_from([None, 0.01, 1.0, 60.0, 5_000.5, 30_000.0])),
    min_size=1,
    max_size=5,
)


@settings(max_examples=10)
@given(runs)
def test_any_cutting_into_runs_at_any_speeds_writes_what_one_run_writes(
    small: EventsFile,
    make_replay: MakeReplay,
    written_lines: Lines,
    expected_events: Expected,
    runs: list[tuple[float, float | None]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cut, one = Path(folder, "cut"), Path(folder, "one")
        now, state = START, make_replay(small, cut).tick(START).state
        for seconds, speed in runs:
            now += seconds
            state = make_replay(small, cut, speed=speed).tick(now).state
        found = written_lines(cut)
        assert state.watermark is not None
        assert envelopes(found) == expected_events(small, state.watermark, state.shift_seconds)
        # The same window in one run: what the pieces hold, byte for byte.
        make_replay(small, one).tick(START)
        whole = replace(state, watermark=None, pending=Window(None, state.watermark))
        StateStore(one / "misc").save(whole)
        for path in (one / "events").iterdir():
            path.unlink()
        make_replay(small, one, speed=None).tick(now)
        assert written_lines(one) == found


def test_events_of_several_loops_have_ids_of_their_own(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay, written_lines: Lines
) -> None:
    replay = make_replay(small, tmp_path, speed=100_000.0)
    for n in range(8):
        state = replay.tick(START + n).state
    assert state.watermark is not None
    assert state.watermark > small.epoch + 3 * small.cycle_seconds
    events = [json.loads(line) for line in written_lines(tmp_path)]
    assert len({e["event_id"] for e in events}) == len(events) > 3 * small.rows
    assert len({(e["order_id"], e["sequence"]) for e in events}) == len(events)


def test_an_event_has_the_same_id_in_every_replay_of_the_dataset(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay, written_lines: Lines
) -> None:
    def ids(root: Path, start: float, start_day: int) -> dict[tuple[str, int], str]:
        make_replay(small, root, start_day=start_day).tick(start)
        events = [json.loads(line) for line in written_lines(root)]
        return {(e["order_id"], e["sequence"]): e["event_id"] for e in events}

    one, other = ids(tmp_path / "a", START, 1), ids(tmp_path / "b", START + 9 * DAY + 77, 2)
    assert one.items() < other.items()


def test_a_run_with_nothing_new_changes_nothing(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay, file_tree: Tree
) -> None:
    replay = make_replay(small, tmp_path)
    state = replay.tick(START).state
    before = file_tree(tmp_path)
    for now in (START, START - 100, START):  # a wall clock that went back, too
        tick = replay.tick(now)
        assert (tick.events, tick.state) == (0, state)
        assert tick.window.is_empty
    assert file_tree(tmp_path) == before


def test_a_wall_clock_that_went_back_writes_no_event_again(
    small: EventsFile,
    tmp_path: Path,
    make_replay: MakeReplay,
    written_lines: Lines,
    expected_events: Expected,
) -> None:
    for seconds, speed in ((0, 60.0), (300, 60.0), (-5_000, 600.0), (100, 600.0), (400, 60.0)):
        state = make_replay(small, tmp_path, speed=speed).tick(START + seconds).state
    assert state.watermark is not None
    found = envelopes(written_lines(tmp_path))
    assert found == expected_events(small, state.watermark, state.shift_seconds)


def test_the_next_window_is_the_one_that_a_run_then_writes(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay, file_tree: Tree
) -> None:
    replay = make_replay(small, tmp_path)
    assert replay.next_window(START) == Window(None, small.epoch + DAY + 50_000.25)
    assert file_tree(tmp_path) == {}
    for now in (START, START + 60, START + 60):
        announced = replay.next_window(now)
        assert replay.tick(now).window == announced
    state = replay.store.load()
    assert state is not None
    assert state.watermark is not None
    pending = Window(state.watermark, state.watermark + 1)
    replay.store.save(replace(state, pending=pending))
    assert replay.next_window(START + 500) == pending  # what a crash left comes first


def test_the_speed_stays_where_none_is_given(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay
) -> None:
    make_replay(small, tmp_path, speed=7.0).tick(START)
    state = make_replay(small, tmp_path, speed=None).tick(START + 10).state
    assert state.clock.speed == 7.0
    assert len(state.clock.segments) == 1


@pytest.mark.parametrize("start_day", [-1, 3, 70])
def test_a_start_day_outside_the_dataset_is_refused(
    start_day: int, small: EventsFile, tmp_path: Path, make_replay: MakeReplay
) -> None:
    message = rf"START_DAY is {start_day}; the dataset .*events\.parquet has the days 0 to 2"
    with pytest.raises(SettingsError, match=message):
        make_replay(small, tmp_path, start_day=start_day).tick(START)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("speed", [None, -1.0, float("nan"), float("inf")])
def test_a_first_run_needs_a_speed(
    speed: float | None, small: EventsFile, tmp_path: Path, make_replay: MakeReplay
) -> None:
    with pytest.raises(SettingsError, match="speed"):
        make_replay(small, tmp_path, speed=speed).tick(START)
    assert list(tmp_path.iterdir()) == []


def test_every_day_of_the_dataset_may_be_the_start_day(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay
) -> None:
    counts = [
        make_replay(small, tmp_path / str(day), start_day=day).tick(START).events
        for day in range(3)
    ]
    assert 0 < counts[0] < counts[1] < counts[2] < small.rows


@pytest.mark.parametrize("change", [{"cycle_seconds": 2 * DAY}, {"epoch": 1_704_067_200 + DAY}])
def test_another_dataset_is_refused(
    change: dict[str, int],
    small: EventsFile,
    tmp_path: Path,
    make_replay: MakeReplay,
    file_tree: Tree,
) -> None:
    make_replay(small, tmp_path).tick(START)
    before = file_tree(tmp_path)
    with pytest.raises(ReplayStateError, match="The replay was begun with another dataset"):
        make_replay(replace(small, **change), tmp_path).tick(START + 100)
    assert file_tree(tmp_path) == before


def opened(order: str, sequence: int = 0, location: int = 1) -> Row:
    return {
        "event_type_id": 1,
        "order_id": order,
        "sequence": sequence,
        "location_id": location,
        "items_json": '[{"qty": 1, "price": 9.5}]',
    }


UNFIT: dict[str, tuple[list[Row], str]] = {
    "unknown type": ([{"event_type_id": 9}], "unknown event type ids 9"),
    "type null": ([{"event_type_id": None}], "null event_type_id in 1"),
    "order null": ([{"order_id": None}], "null order_id in 1"),
    "location null": ([{"location_id": None}], "null location_id in 1"),
    "sequence null": ([{"sequence": None}], "null sequence in 1"),
    "latitude": ([{"event_type_id": 7, "ping_lat": math.nan}], "infinite in ping_lat in 1 rows"),
    "items": ([{"event_type_id": 1, "items_json": "[1,]"}], "not a JSON array in items_json"),
    "route": ([{"event_type_id": 6, "route_json": "x"}], "not a JSON array in route_json"),
    "same key": ([opened("D"), opened("D")], "2 rows that share .*order 'D' with sequence 0"),
    "a number a site": ([opened("D"), opened("D", location=2)], "2 rows that share"),
    "two sites": (
        [opened("D"), opened("D", sequence=1, location=2)],
        "1 values of order_id with order_created at more than one location_id, the first 'D'",
    ),
    "an older loop": ([opened("D"), opened("D-L12")], "1 values .* later loop, .* is 'D-L12'"),
    "an older loop's loop": ([opened("D-L1"), opened("D-L1-L2")], "the first is 'D-L1-L2'"),
}


@pytest.mark.parametrize(("unfit", "message"), UNFIT.values(), ids=UNFIT)
def test_what_the_check_refuses_the_replay_refuses_in_the_same_words_before_it_writes(
    unfit: list[Row],
    message: str,
    tmp_path: Path,
    event_row: Callable[..., Row],
    write_rows: Callable[..., EventsFile],
    make_replay: MakeReplay,
    file_tree: Tree,
) -> None:
    good = [event_row(ts_seconds=1_704_067_200 + n, sequence=n % 100) for n in range(100)]
    late = [
        event_row(**{"ts_seconds": 1_704_067_200 + 2 * DAY, "order_id": "Z", **r}) for r in unfit
    ]
    path, root = tmp_path / "events.parquet", tmp_path / "root"
    replay = make_replay(write_rows(path, [*good, *late]), root, start_day=0)
    with pytest.raises(DatasetError, match=message) as caught:
        check_dataset(path)
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint
    for judge in (replay.preview, replay.tick):
        with pytest.raises(DatasetError) as refused:
            judge(START)
        assert (refused.value.message, refused.value.hint) == (
            caught.value.message,
            caught.value.hint,
        )
    assert not root.exists()
    mended = write_rows(path, good)
    assert make_replay(mended, root, start_day=0).tick(START).events == 100
    before = file_tree(root)
    broken_again = make_replay(write_rows(path, [*good, *late]), root, start_day=0)
    known_ends = replace(mended, fingerprint=broken_again.dataset.fingerprint)
    with pytest.raises(DatasetError, match=message):
        replace(broken_again, dataset=known_ends).tick(START + 60)
    assert file_tree(root) == before


@pytest.mark.parametrize(
    "rows",
    [
        [opened("D-L1"), opened("D-L12")],  # nothing is called D, and no loop is numbered 1 twice
        [opened("D"), opened("D-L01"), opened("D-L"), opened("D-L1x"), opened("DxL1")],
        [opened("D"), opened("D", sequence=1), opened("E", location=2)],
        [opened("D"), {**opened("D", sequence=1, location=2), "event_type_id": 8}],
    ],
)
def test_rows_whose_ids_stay_their_own_in_every_loop_are_played(
    rows: list[Row],
    tmp_path: Path,
    event_row: Callable[..., Row],
    write_rows: Callable[..., EventsFile],
    make_replay: MakeReplay,
    written_lines: Lines,
) -> None:
    dataset = write_rows(tmp_path / "d.parquet", [event_row(**row) for row in rows])
    check_dataset(dataset.path)
    make_replay(dataset, tmp_path, start_day=0).tick(START)
    make_replay(dataset, tmp_path, start_day=0).tick(START + 15 * DAY / 60)
    ids = [json.loads(line)["event_id"] for line in written_lines(tmp_path)]
    assert len(ids) == len(set(ids)) == 16 * len(rows)


def test_a_dataset_is_judged_once_and_again_when_it_is_another_file(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[str] = []
    monkeypatch.setattr(
        "caspers_lib.replay.engine.validate_dataset",
        lambda dataset, *_: judged.append(dataset.fingerprint),
    )
    for seconds in range(3):
        make_replay(small, tmp_path).tick(START + seconds)
    assert judged == [small.fingerprint]
    copy = shuffled(small, tmp_path / "unsorted.parquet")
    for seconds in range(3, 6):
        make_replay(copy, tmp_path).tick(START + seconds)
    assert judged == [small.fingerprint, copy.fingerprint]


@pytest.mark.parametrize("column", ["event_type_id", "order_id"])
def test_a_row_that_became_no_event_after_the_judgement_is_named_however_late_it_comes(
    column: str, tmp_path: Path, small: EventsFile
) -> None:
    table = pa.concat_tables([pq.read_table(small.path)] * 300).sort_by("ts_seconds")
    values = table[column].to_pylist()
    values[100_000] = None
    field = table.schema.field(column).with_nullable(True)
    index = table.schema.get_field_index(column)
    broken = table.set_column(index, field, pa.array(values, field.type))
    order = [(name, "ascending") for name in SORT_KEY]
    columns = pq.SortingColumn.from_ordering(table.schema, order)
    path = tmp_path / "events.parquet"
    pq.write_table(broken, path, row_group_size=5_000, sorting_columns=columns)
    batches = event_batches(EventsFile.open(path), Window(None, small.last_ts), 0)
    with pytest.raises(DatasetError, match="can't be replayed: order"):
        list(batches)


def shuffled(dataset: EventsFile, path: Path) -> EventsFile:
    table = pq.read_table(dataset.path)
    order = [n * 7_919 % table.num_rows for n in range(table.num_rows)]
    assert sorted(order) == list(range(table.num_rows))
    pq.write_table(table.take(order), path, row_group_size=100)
    return EventsFile.open(path)


def test_an_unsorted_copy_gives_the_same_files(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay, file_tree: Tree
) -> None:
    copy = shuffled(small, tmp_path / "unsorted.parquet")
    assert small.is_sorted
    assert not copy.is_sorted
    for dataset, root in ((small, tmp_path / "a"), (copy, tmp_path / "b")):
        for seconds in (0, 1, 30):
            make_replay(dataset, root, speed=20_000.0).tick(START + seconds)
    trees = [file_tree(tmp_path / name / "events") for name in "ab"]
    assert trees[0] == trees[1]


def test_events_come_in_the_order_of_time_through_every_seam(small: EventsFile) -> None:
    window = Window(None, small.epoch + 3.5 * small.cycle_seconds)
    lines = [line for b in event_batches(small, window, 0) for line in b.column(0).to_pylist()]
    events = [json.loads(line) for line in lines]
    keys = [(e["ts"], e["order_id"].partition("-L")[0], e["sequence"]) for e in events]
    assert keys == sorted(keys)
    assert len(keys) > 3 * small.rows


def test_progress_tells_every_event(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay
) -> None:
    told: list[int] = []
    tick = make_replay(small, tmp_path).tick(START, told.append)
    assert sum(told) == tick.events


def test_files_are_named_as_a_spark_append_names_them(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay
) -> None:
    replay = make_replay(small, tmp_path)
    replay.tick(START)
    replay.tick(START + 300)
    names = sorted(path.name for path in (tmp_path / "events").iterdir())
    uuid = "[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    assert len(names) == 2
    for name in names:
        assert re.fullmatch(rf"part-00000-{uuid}-c000\.json", name)


@pytest.mark.parametrize("named", [True, False], ids=["the replay's own", "the system's"])
def test_what_does_not_fit_in_memory_goes_to_the_scratch_folder(
    named: bool, small: EventsFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    working, system, own = (tmp_path / name for name in ("working", "system", "own"))
    for folder in (working, system, own):
        folder.mkdir()
    monkeypatch.chdir(working)
    monkeypatch.setattr(tempfile, "tempdir", str(system))
    scratch = own if named else system
    connect, spills = duckdb.connect, []

    def watched(**options: Any) -> duckdb.DuckDBPyConnection:
        connection = connect(**options)
        setting = connection.execute("SELECT current_setting('temp_directory')")
        ((spill,),) = setting.fetchall()
        spills.append(Path(spill))
        return connection

    monkeypatch.setattr(duckdb, "connect", watched)
    window = Window(None, small.last_ts)
    batches = event_batches(small, window, 0, scratch=own if named else None)
    assert sum(len(batch) for batch in batches)
    assert [spill.parent for spill in spills] == [scratch] * len(spills) != []
    assert not any(any(folder.iterdir()) for folder in (working, system, own))


def manifest(root: Path) -> list[dict[str, Any]]:
    files = sorted((root / "misc" / "chaos").glob("part-*.json"))
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]


def test_with_chaos_any_cutting_delivers_the_same_lines_and_tells_the_same_truth(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay, written_lines: Lines
) -> None:
    chaos = Chaos.parse("late=0.1,duplicate=0.1,dropped=0.1,corrupt_json=0.1,seed=3")

    def play(root: Path, times: list[float]) -> tuple[list[str], list[str]]:
        replay = replace(make_replay(small, root, speed=600.0), chaos=chaos)
        replay.tick(START)
        for now in times:
            replace(replay, chaos=None).tick(now)  # it stays as the replay was begun
        return written_lines(root), sorted(map(str, manifest(root)))

    times = [START + seconds for seconds in (7.5, 8.0, 100.0, 320.25, 600.0)]
    cut, one = play(tmp_path / "cut", times), play(tmp_path / "one", times[-1:])
    assert cut == one
    kinds = {record["kind"] for record in manifest(tmp_path / "cut")}
    assert kinds == {"late", "duplicate", "dropped", "corrupt_json"}
    assert make_replay(small, tmp_path / "clean", speed=600.0).tick(START).state.chaos is None
    assert not (tmp_path / "clean" / "misc" / "chaos").exists()


@pytest.mark.parametrize(("begun", "asked"), [("", "late=0.5"), ("late=0.5", "late=0.5,seed=1")])
def test_another_chaos_than_the_replay_was_begun_with_is_refused(
    begun: str, asked: str, small: EventsFile, tmp_path: Path, make_replay: MakeReplay
) -> None:
    replace(make_replay(small, tmp_path), chaos=Chaos.parse(begun)).tick(START)
    with pytest.raises(ReplayStateError, match="which stays"):
        replace(make_replay(small, tmp_path), chaos=Chaos.parse(asked)).tick(START + 60)


LAYOUTS = [("batched", "per_event"), ("per_event", "batched")]


def with_layout(replay: Replay, layout: str, events_per_file: int = 100) -> Replay:
    assert isinstance(replay.sink, VolumeSink)
    return replace(
        replay, sink=replace(replay.sink, layout=layout, events_per_file=events_per_file)
    )


def killed_before_the_state_was_saved(replay: Replay, now: float) -> None:
    """A run whose files have their names, and whose watermark stays where it was."""
    before = replay.store.load()
    after = replay.tick(now).state
    assert after.watermark is not None
    watermark = before.watermark if before else None
    pending = Window(watermark, after.watermark)
    replay.store.save(replace(after, watermark=watermark, pending=pending))


@pytest.mark.parametrize("begun_before", [False, True])
@pytest.mark.parametrize(("first", "second"), LAYOUTS)
def test_a_window_that_was_cut_off_is_finished_in_its_own_layout_and_the_next_in_another(
    first: str,
    second: str,
    begun_before: bool,
    small: EventsFile,
    tmp_path: Path,
    make_replay: MakeReplay,
) -> None:
    replay, at = make_replay(small, tmp_path), START
    if begun_before:
        with_layout(replay, first).tick(at)
        at += 300
    killed_before_the_state_was_saved(with_layout(replay, first), at)
    with_layout(replay, second).tick(at)
    done = with_layout(replay, second, 10).tick(at + 300)
    assert done.events > 0
    files = list((tmp_path / "events").glob("*.json"))
    assert {file.name.startswith("part-") for file in files} == {True, False}
    lines = [line for file in files for line in file.read_text().splitlines()]
    assert len(lines) == len({json.loads(line)["event_id"] for line in lines})
    whole = make_replay(small, tmp_path / "whole")
    whole.tick(START)
    whole.tick(at + 300)
    assert sorted(lines) == sorted(
        line for f in (tmp_path / "whole/events").iterdir() for line in f.read_text().splitlines()
    )


def test_a_window_that_was_cut_off_is_finished_in_files_of_its_own_size(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay, written_lines: Lines
) -> None:
    replay = make_replay(small, tmp_path)
    killed_before_the_state_was_saved(with_layout(replay, "batched", 50), START)
    replay.tick(START)
    lines = written_lines(tmp_path)
    assert len(lines) == len(set(lines)) > 50


def test_a_window_that_was_cut_off_is_refused_to_another_kind_of_sink(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay, file_tree: Tree
) -> None:
    replay = make_replay(small, tmp_path)
    killed_before_the_state_was_saved(replay, START)
    before = file_tree(tmp_path)
    with pytest.raises(ReplayStateError, match="cut off while it wrote lines") as caught:
        replace(replay, sink=CallableSink(lambda *_: None)).tick(START)
    assert "finishes its window" in caught.value.hint
    assert file_tree(tmp_path) == before


def test_another_start_day_or_domain_than_the_replay_was_begun_with_is_refused(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay, file_tree: Tree
) -> None:
    make_replay(small, tmp_path).tick(START)
    before = file_tree(tmp_path)
    with pytest.raises(ReplayStateError, match="begun with START_DAY 1, which stays"):
        make_replay(small, tmp_path, start_day=2).tick(START + 60)
    other = replace(GHOST_KITCHEN, name="bakery")
    with pytest.raises(ReplayStateError, match="begun with domain ghost_kitchen, which stays"):
        replace(make_replay(small, tmp_path), domain=other).tick(START + 60)
    assert file_tree(tmp_path) == before
    assert replace(make_replay(small, tmp_path), start_day=None).tick(START + 60).state.start_day


def test_another_dataset_of_the_same_epoch_and_loop_is_refused(
    small: EventsFile,
    tmp_path: Path,
    make_replay: MakeReplay,
    file_tree: Tree,
) -> None:
    make_replay(small, tmp_path / "r").tick(START)
    other = generate_dataset(tmp_path / "other", seed=3, days=3, scale=0.02)
    before = file_tree(tmp_path / "r")
    with pytest.raises(ReplayStateError, match="which has first event"):
        make_replay(EventsFile.open(other), tmp_path / "r").tick(START + 60)
    assert file_tree(tmp_path / "r") == before
    copy = tmp_path / "copy.parquet"
    copy.write_bytes(small.path.read_bytes())
    assert make_replay(EventsFile.open(copy), tmp_path / "r").tick(START + 600).events > 0


def test_a_preview_counts_what_a_run_then_writes(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay, file_tree: Tree
) -> None:
    replay = make_replay(small, tmp_path, speed=40_000.0)
    for now in (START, START + 10.0, START + 20.0):
        before = file_tree(tmp_path)
        preview = replay.preview(now)
        assert file_tree(tmp_path) == before
        assert preview.is_first == (now == START)
        tick = replay.tick(now)
        assert (preview.events, preview.window) == (tick.events, tick.window)
        assert preview.counts["order_created"] > 0
    assert replay.preview(START + 20.0).events == 0
