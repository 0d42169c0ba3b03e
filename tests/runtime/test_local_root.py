import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from caspers_lib.errors import RootError, RootLockedError
from caspers_lib.runtime.local_root import LocalRoot, Owner, owned, read_owner
from caspers_lib.runtime.settings import Settings, load_settings

OTHER = """
import sys
from pathlib import Path
from caspers_lib.runtime.local_root import LocalRoot, Owner, owned
from caspers_lib.runtime.settings import Settings
import os
with owned(LocalRoot(Path(sys.argv[1]), Settings()), Owner(os.getpid(), "caspers other")):
    print("owned", flush=True)
    sys.stdin.read()
"""
ME = Owner(os.getpid(), "caspers me", dataset="events.parquet", url="http://127.0.0.1:1")


@pytest.fixture
def root(tmp_path: Path) -> LocalRoot:
    return LocalRoot(tmp_path / "root", Settings())


@pytest.fixture
def other_process(root: LocalRoot) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts a process that owns ROOT until its input ends."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", OTHER, str(root.path)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "owned\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_paths_are_those_of_the_contract(tmp_path: Path) -> None:
    settings = load_settings({"catalog": "c", "simulator_schema": "s", "events_volume": "v"})
    root = LocalRoot(tmp_path, settings)
    volumes = tmp_path / "Volumes" / "c"
    assert root.events == volumes / "s" / "v"
    assert root.replay_state == volumes / "s" / "misc"
    assert root.checkpoint("complaints", "x") == volumes / "complaints" / "checkpoints" / "x"
    assert root.warehouse == tmp_path / "warehouse"
    assert root.table("lakeflow.all_events") == tmp_path / "warehouse" / "lakeflow" / "all_events"
    assert root.dataset_file == tmp_path / "dataset" / "events.parquet"
    assert root.postgres == tmp_path / "postgres" / "data"


def test_everything_lies_in_a_part_so_that_removing_the_parts_leaves_nothing(
    root: LocalRoot,
) -> None:
    paths = [
        root.events, root.replay_state, root.checkpoint("a", "b"), root.pipeline_storage,
        root.warehouse, root.dataset_file, root.postgres, root.run, root.spark_log,
    ]  # fmt: skip
    for path in paths:
        assert any(path.is_relative_to(part) for part in root.parts), path


def test_the_owner_is_named_while_it_lives_and_afterwards(root: LocalRoot) -> None:
    assert read_owner(root) == (None, False)
    with owned(root, ME):
        assert read_owner(root) == (ME, True)
    assert read_owner(root) == (ME, False)


def test_a_second_process_is_refused_and_told_who_owns_it(
    root: LocalRoot, other_process: Callable[[], subprocess.Popen[str]]
) -> None:
    other = other_process()
    with pytest.raises(RootLockedError) as refused, owned(root, ME):
        pytest.fail("both own it")
    assert str(root.path) in refused.value.message
    assert f"process {other.pid} (caspers other)" in refused.value.message
    assert "--root" in refused.value.hint
    assert read_owner(root) == (Owner(other.pid, "caspers other"), True)


def test_an_owner_that_ends_gives_it_back(
    root: LocalRoot, other_process: Callable[[], subprocess.Popen[str]]
) -> None:
    other = other_process()
    other.communicate()
    assert other.returncode == 0
    with owned(root, ME):
        assert read_owner(root) == (ME, True)


def test_an_owner_that_is_killed_gives_it_back(
    root: LocalRoot, other_process: Callable[[], subprocess.Popen[str]]
) -> None:
    other = other_process()
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert read_owner(root) == (Owner(other.pid, "caspers other"), False)
    with owned(root, ME):
        assert read_owner(root) == (ME, True)


def test_an_error_in_the_block_gives_it_back(root: LocalRoot) -> None:
    with pytest.raises(ZeroDivisionError), owned(root, ME):
        raise ZeroDivisionError
    assert read_owner(root) == (ME, False)


def test_looking_at_the_owner_makes_no_file_and_takes_no_lock(root: LocalRoot) -> None:
    read_owner(root)
    assert not root.path.exists()
    with owned(root, ME):
        read_owner(root)
        assert read_owner(root) == (ME, True)


@pytest.mark.parametrize(
    "in_its_place", ["root", "root/run", "root/run/lock", "root/run/owner.json"]
)
def test_a_root_that_cannot_be_written_is_refused_by_its_path(
    root: LocalRoot, in_its_place: str
) -> None:
    place = root.path.parent / in_its_place
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.parent == root.run:
        place.mkdir()
    else:
        place.touch()
    with pytest.raises(RootError) as refused, owned(root, ME):
        pytest.fail("it is owned")
    assert str(root.path) in refused.value.message
    assert "--root" in refused.value.hint
    assert isinstance(refused.value.__cause__, OSError)


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '{"pid": 1}', '{"pid": 1, "command": "x", "y": 2}']
)
def test_a_record_that_is_none_is_an_error_with_its_file(root: LocalRoot, text: str) -> None:
    root.run.mkdir(parents=True)
    (root.run / "owner.json").write_text(text)
    with pytest.raises(RootError, match=r"owner\.json is not an owner's record") as refused:
        read_owner(root)
    assert refused.value.hint == "delete that file"


def test_a_broken_record_does_not_hinder_the_next_owner(root: LocalRoot) -> None:
    root.run.mkdir(parents=True)
    (root.run / "owner.json").write_text("{")
    with owned(root, ME):
        assert json.loads((root.run / "owner.json").read_text())["command"] == "caspers me"
