"""Defects that a replay of this kind is known for, one by one, none of them here."""

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pyarrow.parquet as pq
import pytest

from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.errors import DatasetError, ReplayStateError
from caspers_lib.replay.dataset import SORT_KEY, EventsFile
from caspers_lib.replay.engine import Replay
from caspers_lib.replay.event_batches import event_batches
from caspers_lib.replay.window import Window

DAY = 86_400
MIDNIGHT = 1_750_000_000 // DAY * DAY
EPOCH = GHOST_KITCHEN.epoch

Row = dict[str, Any]
Lines = Callable[[Path], list[str]]
Tree = Callable[[Path], dict[str, bytes]]
MakeReplay = Callable[..., Replay]


def events(lines: list[str]) -> list[Row]:
    return [json.loads(line) for line in lines]


def emitted_times(lines: list[str]) -> dict[tuple[str, int], str]:
    return {(e["order_id"], e["sequence"]): e["ts"] for e in events(lines)}


@pytest.mark.parametrize("speed", [1.0, 60.0])
def test_r1_the_shift_is_fixed_whenever_an_event_is_emitted(
    speed: float,
    small: EventsFile,
    tmp_path: Path,
    make_replay: MakeReplay,
    written_lines: Lines,
) -> None:
    often, late = tmp_path / "often", tmp_path / "late"
    start = MIDNIGHT + DAY - 1_800.0  # half an hour before a UTC midnight
    end = start + 6 * 3_600
    shift = make_replay(small, often, speed=speed).tick(start).state.shift_seconds
    for part in range(1, 7):
        tick = make_replay(small, often, speed=speed).tick(start + part * 3_600)
        assert tick.state.shift_seconds == shift
    make_replay(small, late, speed=speed).tick(start)
    make_replay(small, late, speed=speed).tick(end)
    assert written_lines(often) == written_lines(late)
    times = emitted_times(written_lines(often))
    for row in pq.read_table(small.path).to_pylist():
        ts = times.get((row["order_id"], row["sequence"]))
        shown = datetime.fromtimestamp(row["ts_seconds"] + shift, UTC)
        assert ts in (None, f"{shown:%Y-%m-%d %H:%M:%S}.000")


def test_r1_an_order_that_crosses_midnight_is_not_a_day_late(
    tmp_path: Path,
    event_row: Callable[..., Row],
    write_rows: Callable[..., EventsFile],
    make_replay: MakeReplay,
    written_lines: Lines,
) -> None:
    created = EPOCH + 2 * DAY - 600  # ten minutes before day 2
    rows = [
        event_row(ts_seconds=created, event_type_id=1),
        event_row(ts_seconds=created + 1_500, event_type_id=8, sequence=1),
    ]
    dataset = write_rows(tmp_path / "events.parquet", rows, cycle_seconds=3 * DAY)
    replay = make_replay(dataset, tmp_path, speed=1.0)
    for seconds in (-700, -300, 300, 1_200):  # ticks on both sides of the wall clock's midnight
        replay.tick(MIDNIGHT + DAY + seconds)
    first, last = sorted(emitted_times(written_lines(tmp_path)).values())
    gap = datetime.fromisoformat(last) - datetime.fromisoformat(first)
    assert gap.total_seconds() == 1_500
    assert first == f"{datetime.fromtimestamp(MIDNIGHT + DAY - 600, UTC):%Y-%m-%d %H:%M:%S}.000"


def test_r2_a_window_that_is_written_again_has_the_same_names_ids_and_bytes(
    small: EventsFile,
    tmp_path: Path,
    make_replay: MakeReplay,
    written_lines: Lines,
    file_tree: Tree,
) -> None:
    replay = make_replay(small, tmp_path)
    replay.tick(MIDNIGHT + 0.5)
    replay.tick(MIDNIGHT + 600.5)
    before = file_tree(tmp_path)
    state = replay.store.load()
    assert state is not None
    # The state as it was when the second window had been recorded and not yet written.
    document = json.loads(before["misc/_replay_state.json"])
    first, second = state.clock.virtual_time(MIDNIGHT + 0.5), state.watermark
    document |= {"watermark": first, "pending": {"after": first, "until": second}}
    (tmp_path / "misc" / "_replay_state.json").write_text(json.dumps(document))
    assert replay.tick(MIDNIGHT + 600.5).events > 0
    assert file_tree(tmp_path) == before
    for event in events(written_lines(tmp_path)):
        name = f"{event['order_id']}|{event['sequence']}"
        assert UUID(event["event_id"]) == uuid5(GHOST_KITCHEN.namespace, name)


def test_r3_a_state_that_cannot_be_read_emits_nothing(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay, file_tree: Tree
) -> None:
    replay = make_replay(small, tmp_path)
    replay.tick(MIDNIGHT)
    (tmp_path / "misc" / "_replay_state.json").write_text("")
    before = file_tree(tmp_path)
    with pytest.raises(ReplayStateError):
        replay.tick(MIDNIGHT + 60)
    for name in ("_replay_state.json", "_sim_start"):  # the watermark alone is left
        (tmp_path / "misc" / name).unlink()
        before.pop(f"misc/{name}")
    with pytest.raises(ReplayStateError):
        replay.tick(MIDNIGHT + 60)
    assert file_tree(tmp_path) == before


def test_r4_what_a_crash_between_the_state_files_leaves_out_the_next_run_adds(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay, file_tree: Tree
) -> None:
    for root in (tmp_path / "whole", tmp_path / "half"):
        make_replay(small, root).tick(MIDNIGHT)
        if root.name == "half":
            (root / "misc" / "_watermark").unlink()
            (root / "misc" / "_sim_start").write_text("1.0\n")
        make_replay(small, root).tick(MIDNIGHT + 60)
    assert file_tree(tmp_path / "half") == file_tree(tmp_path / "whole")


def test_r5_slowed_down_from_60x_to_1x_the_replay_goes_on_at_once(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay
) -> None:
    make_replay(small, tmp_path, speed=60.0).tick(MIDNIGHT)
    reached = make_replay(small, tmp_path, speed=60.0).tick(MIDNIGHT + 7_200).window.until
    slowed = make_replay(small, tmp_path, speed=1.0).tick(MIDNIGHT + 7_210)
    assert slowed.window == Window(reached, reached + 600)  # 60x until the new speed was heard of
    later = make_replay(small, tmp_path, speed=1.0).tick(MIDNIGHT + 7_210 + 3_600)
    assert later.window == Window(reached + 600, reached + 600 + 3_600)
    assert later.events > 0


TICKS = """
import sys
from pathlib import Path
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.engine import Replay
from caspers_lib.replay.state import StateStore
from caspers_lib.replay.volume_sink import VolumeSink

dataset, root, *times = sys.argv[1:]
replay = Replay(
    dataset=EventsFile.open(Path(dataset)),
    sink=VolumeSink(Path(root, "events")),
    store=StateStore(Path(root, "misc")),
    start_day=1,
    speed=9_000.0,
)
for now in times:
    replay.tick(float(now))
"""


@pytest.mark.parametrize(
    "settings",
    [
        {"TZ": "America/New_York", "LC_ALL": "C", "PYTHONHASHSEED": "1", "PYTHONUTF8": "0"},
        {"TZ": "Asia/Kathmandu", "LC_ALL": "tr_TR.UTF-8", "PYTHONHASHSEED": "2"},
    ],
    ids=["New York", "Kathmandu"],
)
def test_r6_the_hosts_time_zone_locale_hash_seed_and_folder_change_no_byte(
    settings: dict[str, str],
    small: EventsFile,
    tmp_path: Path,
    make_replay: MakeReplay,
    file_tree: Tree,
) -> None:
    times = [MIDNIGHT + 0.25, MIDNIGHT + 7.5, MIDNIGHT + 60]
    elsewhere, working = tmp_path / "elsewhere", tmp_path / "working"
    working.mkdir()
    subprocess.run(
        [sys.executable, "-c", TICKS, *map(str, [small.path, elsewhere, *times])],
        check=True,
        cwd=working,
        env={**os.environ, **settings},
        timeout=300,
    )
    for now in times:
        make_replay(small, tmp_path / "here", speed=9_000.0).tick(now)
    assert file_tree(elsewhere) == file_tree(tmp_path / "here")
    assert list(working.iterdir()) == []


def test_r7_the_first_second_and_the_tail_play_in_every_loop(
    tmp_path: Path,
    event_row: Callable[..., Row],
    write_rows: Callable[..., EventsFile],
    make_replay: MakeReplay,
    written_lines: Lines,
) -> None:
    rows = [
        event_row(ts_seconds=EPOCH, order_id="first"),
        event_row(ts_seconds=EPOCH + 2 * DAY + 900, order_id="tail"),
    ]
    dataset = write_rows(tmp_path / "events.parquet", rows, cycle_seconds=2 * DAY)
    replay = make_replay(dataset, tmp_path, start_day=0, speed=float(DAY))
    # A tick ends exactly on each loop's first second, and one a second of wall clock later.
    for second in range(7):
        replay.tick(float(MIDNIGHT + second))
    names = sorted(e["order_id"] for e in events(written_lines(tmp_path)))
    loops = ["first", "first-L1", "first-L2", "first-L3", "tail", "tail-L1"]
    assert names == loops


def in_row_groups(dataset: EventsFile, path: Path, rows: int) -> EventsFile:
    """The dataset in smaller row groups."""
    table = pq.read_table(dataset.path)
    order = [(name, "ascending") for name in SORT_KEY]
    columns = pq.SortingColumn.from_ordering(table.schema, order)
    pq.write_table(table, path, row_group_size=rows, sorting_columns=columns)
    return EventsFile.open(path)


def wreck_row_groups(path: Path, keep: set[int]) -> None:
    """Overwrite the data of every row group but these."""
    metadata, data = pq.read_metadata(path), bytearray(path.read_bytes())
    for number in set(range(metadata.num_row_groups)) - keep:
        group = metadata.row_group(number)
        for index in range(group.num_columns):
            column = group.column(index)
            offsets = (column.dictionary_page_offset, column.data_page_offset)
            start = min(offset for offset in offsets if offset is not None)
            data[start : start + column.total_compressed_size] = (
                b"\xff" * column.total_compressed_size
            )
    path.write_bytes(data)


def test_r8_a_tick_reads_only_the_row_groups_that_it_needs(
    small: EventsFile, tmp_path: Path
) -> None:
    dataset = in_row_groups(small, tmp_path / "events.parquet", 50)
    times = pq.read_table(dataset.path)["ts_seconds"].to_pylist()
    window = Window(float(times[160]), float(times[230]))
    expected = [line for b in event_batches(small, window, 0) for line in b.column(0).to_pylist()]
    wreck_row_groups(dataset.path, keep={3, 4})
    assert EventsFile.open(dataset.path) == dataset
    found = [line for b in event_batches(dataset, window, 0) for line in b.column(0).to_pylist()]
    assert found == expected
    assert len(found) > 50
    with pytest.raises(DatasetError):
        list(event_batches(dataset, Window(float(times[160]), float(times[270])), 0))


def test_r9_events_are_written_in_the_order_of_time_then_order_then_sequence(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay
) -> None:
    replay = make_replay(small, tmp_path, speed=20_000.0)
    for seconds in (0, 3, 20):
        replay.tick(MIDNIGHT + seconds)
    files = sorted((tmp_path / "events").iterdir())
    assert len(files) == 3
    for path in files:
        written = events(path.read_text().splitlines())
        keys = [(e["ts"], e["order_id"].partition("-L")[0], e["sequence"]) for e in written]
        assert keys == sorted(keys)


def test_r9_an_orders_sequence_is_its_order_in_time(
    small: EventsFile, tmp_path: Path, make_replay: MakeReplay, written_lines: Lines
) -> None:
    replay = make_replay(small, tmp_path, speed=20_000.0)
    for seconds in (0, 3, 20):
        replay.tick(MIDNIGHT + seconds)
    orders: dict[str, list[Row]] = defaultdict(list)
    for event in events(written_lines(tmp_path)):
        orders[event["order_id"]].append(event)
    for order in orders.values():
        by_sequence = sorted(order, key=lambda e: e["sequence"])
        assert [e["ts"] for e in by_sequence] == sorted(e["ts"] for e in order)
        assert [e["sequence"] for e in by_sequence] == list(range(len(order)))
