"""Event files: whole, the same bytes for the same lines, hidden while they are written."""

import errno
import itertools
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caspers_lib.errors import CaspersError, SettingsError, SinkError
from caspers_lib.replay.volume_sink import Layout, VolumeSink, count_events

LAYOUTS: list[Layout] = ["batched", "per_event"]
LINES = [f'{{"n":{n},"é":"{"x" * (n % 7)}"}}\n' for n in range(40)]

Tree = dict[str, bytes]


def batches(lines: list[str], sizes: list[int], kind: Any = None) -> list[pa.RecordBatch]:
    """The lines in batches of these sizes, the rest in one more."""
    cuts = [0, *itertools.accumulate(sizes), len(lines)]
    parts = [range(len(lines))[a:b] for a, b in itertools.pairwise(cuts)]
    return [
        pa.record_batch(
            [pa.array([lines[n] for n in part], kind or pa.string()), [event_id(n) for n in part]],
            ["line", "name"],
        )
        for part in parts
    ]


def event_id(number: int) -> str:
    return str(UUID(int=number))


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


@given(st.integers(0, len(LINES)), st.lists(st.integers(0, 15), max_size=12))
def test_a_file_per_event_holds_its_line_under_its_name(
    tmp_path_factory: pytest.TempPathFactory,
    file_tree: Callable[[Path], Tree],
    count: int,
    sizes: list[int],
) -> None:
    lines, folder = LINES[:count], tmp_path_factory.mktemp("volume")
    total = VolumeSink(folder, layout="per_event").write(batches(lines, sizes), name="n")
    assert total == count
    assert file_tree(folder) == {f"{event_id(n)}.json": t.encode() for n, t in enumerate(lines)}
    assert count_events(folder) == count


def test_each_layout_asks_for_what_its_files_hold() -> None:
    assert VolumeSink(Path(), layout="batched").form == "lines"
    assert VolumeSink(Path(), layout="per_event").form == "named_lines"


def test_another_layout_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="'per-event'; allowed are batched and per_event"):
        VolumeSink(Path(), layout="per-event")  # type: ignore[arg-type]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_a_disk_that_refuses_is_one_error_and_leaves_no_part_of_a_file(
    layout: Layout, number: int, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    class Refusing:
        def __init__(self, file: Any) -> None:
            self.file, self.write = file, fail

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    opened = Path.open
    owner, name, instead = {
        "open": (Path, "open", fail),
        "write": (Path, "open", lambda *a, **o: Refusing(opened(*a, **o))),
        "fsync": (os, "fsync", fail),
        "replace": (Path, "replace", fail),
    }[call]
    sink = VolumeSink(tmp_path, layout=layout)
    with monkeypatch.context() as broken, pytest.raises(SinkError) as caught:
        broken.setattr(owner, name, instead)
        sink.write(batches(LINES, []), name="n")
    assert caught.value.message == f"Events can't be written into {tmp_path}: {os.strerror(number)}"
    assert caught.value.hint.endswith("then run again: the window is written whole")
    assert isinstance(caught.value.__cause__, OSError)
    assert list(tmp_path.iterdir()) == []
    sink.write(batches(LINES, []), name="n")
    assert count_events(tmp_path) == len(LINES)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_in_the_folders_place_is_refused(layout: Layout, below: str, tmp_path: Path) -> None:
    (tmp_path / "events").write_text("not a folder")
    with pytest.raises(CaspersError, match="can't be written into") as caught:
        VolumeSink(tmp_path / "events" / below, layout=layout).write([], name="n")
    assert caught.value.hint.startswith("choose a folder, not a file")
    assert (tmp_path / "events").read_text() == "not a folder"


TOO_LARGE = """
import resource, sys
from pathlib import Path
import pyarrow as pa
from caspers_lib.errors import SinkError
from caspers_lib.replay.volume_sink import VolumeSink

folder, layout = sys.argv[1:]
lines = ["x" * 10 + "\\n", "y" * 100_000 + "\\n"]
batches = [pa.record_batch([[line], [name]], ["line", "name"]) for line, name in zip(lines, "ab")]
sink = VolumeSink(Path(folder), 1, layout)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
try:
    sink.write(batches, name="n")
except SinkError as error:
    print(error.message, error.hint, [p.name for p in Path(folder).iterdir()], sep="\\n")
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
sink.write(batches, name="n")
print(sorted((p.stat().st_size) for p in Path(folder).iterdir()))
"""


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_limit_of_the_system_in_the_middle_of_a_file_leaves_the_whole_ones(
    layout: Layout, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TOO_LARGE, str(tmp_path), layout],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    first = "part-00000-n-c000.json" if layout == "batched" else "a.json"
    message, hint, files, sizes = done.stdout.splitlines()
    assert message == f"Events can't be written into {tmp_path}: File too large"
    assert hint.startswith("raise the largest size")
    assert files == str([first])
    assert sizes == "[11, 100001]"


@pytest.mark.parametrize("unknown", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_a_folder_that_cannot_be_flushed_is_only_refused_for_a_real_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unknown: int
) -> None:
    real, number = os.fsync, unknown

    def no_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", no_folders)
    assert VolumeSink(tmp_path).write(batches(LINES, []), name="n") == len(LINES)
    number = errno.EIO
    with pytest.raises(SinkError, match="Input/output error"):
        VolumeSink(tmp_path).write(batches(LINES, []), name="n")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_a_killed_run_left_aside_is_gone_when_its_events_are_written(
    layout: Layout, tmp_path: Path
) -> None:
    name = "part-00000-n-c000" if layout == "batched" else event_id(3)
    (tmp_path / f".{name}.json.tmp").write_text("half a li")
    VolumeSink(tmp_path, layout=layout).write(batches(LINES, []), name="n")
    assert list(tmp_path.glob(".*")) == []
    assert count_events(tmp_path) == len(LINES)


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


def test_events_of_both_layouts_and_of_other_writers_are_counted_together(tmp_path: Path) -> None:
    VolumeSink(tmp_path, 15).write(batches(LINES, []), name="a")
    VolumeSink(tmp_path, layout="per_event").write(batches(LINES[:3], []), name="b")
    (tmp_path / "by hand.json").write_text("x\nx\n")
    assert count_events(tmp_path) == len(LINES) + 3 + 2


def test_files_named_for_events_are_counted_unopened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    VolumeSink(tmp_path, layout="per_event").write(batches(LINES, []), name="b")
    (tmp_path / f"{event_id(1)}-1.json").write_text(LINES[1])  # delivered a second time
    monkeypatch.setattr(Path, "open", None)
    assert count_events(tmp_path) == len(LINES) + 1
