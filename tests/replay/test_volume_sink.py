"""Event files: whole, the same bytes for the same lines, hidden while they are written."""

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caspers_lib.replay.volume_sink import VolumeSink, count_events

LINES = [f'{{"n":{n},"é":"{"x" * (n % 7)}"}}\n' for n in range(40)]

Tree = dict[str, bytes]


def batches(lines: list[str], sizes: list[int], kind: Any = None) -> list[pa.RecordBatch]:
    """The lines in batches of these sizes, the rest in one more."""
    cuts = [0, *itertools.accumulate(sizes), len(lines)]
    parts = [lines[a:b] for a, b in itertools.pairwise(cuts)]
    return [pa.record_batch([pa.array(p, kind or pa.string())], ["line"]) for p in parts]


@given(
    st.integers(0, len(LINES)),
    st.lists(st.integers(0, 15), max_size=12),
    st.integers(1, 50),
    st.sampled_from([pa.string(), pa.large_string(), pa.string_view()]),
)
def test_files_are_the_same_whatever_the_batches(
    tmp_path_factory: pytest.TempPathFactory,
    file_tree: Callable[[Path], Tree],
    count: int,
    sizes: list[int],
    per_file: int,
    kind: Any,
) -> None:
    lines, folder = LINES[:count], tmp_path_factory.mktemp("volume")
    total = VolumeSink(folder, per_file).write(batches(lines, sizes, kind), name="n")
    expected = {
        f"part-{number:05d}-n-c000.json": "".join(lines[start : start + per_file]).encode()
        for number, start in enumerate(range(0, count, per_file))
    }
    assert total == count
    assert file_tree(folder) == expected
    assert count_events(folder) == count


def test_slices_of_larger_arrays_are_written_as_they_are(
    tmp_path: Path, file_tree: Callable[[Path], Tree]
) -> None:
    (whole,) = batches(LINES, [])
    parts = [whole.slice(3, 5), whole.slice(39, 1), whole.slice(0, 2)]
    VolumeSink(tmp_path).write(parts, name="n")
    expected = "".join([*LINES[3:8], LINES[39], *LINES[:2]])
    assert file_tree(tmp_path) == {"part-00000-n-c000.json": expected.encode()}


def test_no_events_make_no_file(tmp_path: Path) -> None:
    assert VolumeSink(tmp_path / "v").write([], name="n") == 0
    assert VolumeSink(tmp_path / "v").write(batches([], [0, 0]), name="n") == 0
    assert list((tmp_path / "v").iterdir()) == []


def test_progress_adds_up_to_the_total(tmp_path: Path) -> None:
    told: list[int] = []
    found = batches(LINES, [7, 7, 7])
    total = VolumeSink(tmp_path, 10).write(found, name="n", on_events=told.append)
    assert sum(told) == total == len(LINES)
    assert len(told) > 4


def visible(folder: Path) -> set[str]:
    """What a file source lists: names that begin with a dot or an underscore are not."""
    return {path.name for path in folder.iterdir() if path.name[0] not in "._"}


def test_a_file_is_invisible_until_it_is_complete(tmp_path: Path) -> None:
    seen: list[Tree] = []

    def watched() -> Iterator[pa.RecordBatch]:
        for batch in batches(LINES, [10, 10, 10]):
            seen.append({name: (tmp_path / name).read_bytes() for name in visible(tmp_path)})
            yield batch

    VolumeSink(tmp_path, 20).write(watched(), name="n")
    first, second = (f"part-0000{n}-n-c000.json" for n in (0, 1))
    whole = (tmp_path / first).read_bytes()
    assert [set(names) for names in seen] == [set(), set(), set(), {first}]
    assert seen[-1] == {first: whole}
    assert visible(tmp_path) == {first, second}


def test_a_failure_on_the_way_leaves_whole_files_alone(
    tmp_path: Path, file_tree: Callable[[Path], Tree]
) -> None:
    def failing() -> Iterator[pa.RecordBatch]:
        yield from batches(LINES[:25], [5] * 5)
        raise ValueError("the source broke")

    with pytest.raises(ValueError, match="the source broke"):
        VolumeSink(tmp_path, 10).write(failing(), name="n")
    assert file_tree(tmp_path) == {
        f"part-0000{n}-n-c000.json": "".join(LINES[n * 10 : n * 10 + 10]).encode() for n in (0, 1)
    }


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_disk_that_fails_leaves_no_part_of_a_file(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(*((os, "fsync") if failing == "fsync" else (Path, "replace")), fail)
    with pytest.raises(OSError, match="no space left"):
        VolumeSink(tmp_path).write(batches(LINES, []), name="n")
    assert list(tmp_path.iterdir()) == []


def test_r2_writing_again_under_the_same_name_changes_nothing(
    tmp_path: Path, file_tree: Callable[[Path], Tree]
) -> None:
    VolumeSink(tmp_path, 15).write(batches(LINES, [3]), name="n")
    (tmp_path / ".part-00001-n-c000.json.tmp").write_text("left by a process that was killed")
    before = {name: data for name, data in file_tree(tmp_path).items() if name[0] != "."}
    VolumeSink(tmp_path, 15).write(batches(LINES, [20, 1]), name="n")
    assert file_tree(tmp_path) == before


def test_events_are_counted_in_the_files_that_readers_see(tmp_path: Path) -> None:
    assert count_events(tmp_path / "not" / "there") == 0
    VolumeSink(tmp_path, 15).write(batches(LINES, []), name="a")
    VolumeSink(tmp_path).write(batches(LINES[:3], []), name="b")
    (tmp_path / ".part-00000-c-c000.json.tmp").write_text("x\n")
    (tmp_path / ".hidden.json").write_text("x\n")
    (tmp_path / "_watermark.json").write_text("x\n")
    (tmp_path / "notes.txt").write_text("x\n")
    assert count_events(tmp_path) == len(LINES) + 3
