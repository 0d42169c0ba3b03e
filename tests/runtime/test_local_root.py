import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.errors import RootError, RootLockedError, SettingsError
from caspers_lib.runtime.destroy import destroy_root
from caspers_lib.runtime.local_root import LocalRoot, Owner, owned, read_owner
from caspers_lib.runtime.root_record import check_root
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
        root.warehouse, root.dataset_file, root.postgres, root.run, root.spark_log, root.record,
        root.in_use,
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


def test_the_generated_dataset_moves_with_root_and_one_of_the_users_stays(root: LocalRoot) -> None:
    for dataset, recorded in ((root.dataset_file, None), (Path("/d.parquet"), "/d.parquet")):
        with owned(root, Owner.this_process("caspers me", dataset)):
            owner, _ = read_owner(root)
        assert owner is not None
        assert owner.dataset == recorded


def use(root: LocalRoot) -> None:
    """As a command does that writes a table."""
    with owned(root, ME):
        (root.warehouse / "lakeflow").mkdir(parents=True, exist_ok=True)


def kill(root: LocalRoot) -> None:
    """What a process leaves that was killed while it owned ROOT."""
    use(root)
    root.in_use.touch()


def at(path: Path, **settings: str) -> LocalRoot:
    return LocalRoot(path, load_settings(settings, environment={}))


def assert_refused(root: LocalRoot, *words: str) -> None:
    """By one sentence and a cure, and nothing is written."""
    before = {p: p.stat().st_mtime_ns for p in root.path.rglob("*")}
    with pytest.raises(RootError) as refused, owned(root, ME):
        pytest.fail("it is owned")
    assert {p: p.stat().st_mtime_ns for p in root.path.rglob("*")} == before
    assert refused.value.hint
    assert len(refused.value.message.splitlines()) == 1
    text = f"{refused.value.message} {refused.value.hint}"
    for word in words:
        assert word in text


class TestRecord:
    def test_it_says_what_root_holds_and_stays_as_it_is(self, root: LocalRoot) -> None:
        assert check_root(root) is None
        use(root)
        record = json.loads(root.record.read_text())
        assert record["layout"] == 1
        assert record["domain"] == "ghost_kitchen"
        assert record["folder"]["inode"] == root.path.stat().st_ino
        written = root.record.stat()
        use(root)
        assert root.record.stat() == written

    def test_only_a_dataset_is_no_root_yet(self, root: LocalRoot) -> None:
        root.dataset.mkdir(parents=True)
        use(root)

    @pytest.mark.parametrize("part", ["warehouse", "Volumes", "postgres"])
    def test_a_root_without_one_is_another_versions(self, root: LocalRoot, part: str) -> None:
        (root.path / part).mkdir(parents=True)
        assert_refused(root, "without records", f"caspers destroy --root {root.path}")
        destroy_root(root)
        use(root)

    def test_another_layout_is_another_versions(self, root: LocalRoot) -> None:
        use(root)
        root.record.write_text(json.dumps({"layout": 2, "version": "9.1", "shape": "new"}))
        assert_refused(root, "version 9.1", f"caspers destroy --root {root.path}")
        destroy_root(root)
        assert not root.path.exists()

    def test_another_domain_is_refused(self, root: LocalRoot) -> None:
        use(root)
        healthcare = replace(GHOST_KITCHEN, name="healthcare")
        with (
            pytest.raises(RootError, match="'ghost_kitchen', not 'healthcare'") as refused,
            owned(root, ME, healthcare),
        ):
            pytest.fail("it is owned")
        assert f"caspers destroy --root {root.path}" in refused.value.hint

    @pytest.mark.parametrize("name", ["catalog", "simulator_schema", "events_volume"])
    def test_another_name_is_refused_with_the_one_it_has(self, root: LocalRoot, name: str) -> None:
        use(root)
        recorded = getattr(root.settings, name)
        setting = f"CASPERS_{name.upper()}={recorded}"
        assert_refused(at(root.path, **{name: "other"}), name.upper(), "'other'", setting)
        use(root)

    @pytest.mark.parametrize(
        "text", ["", "{", "[1]", "7", "{}", '{"layout": "1"}', "\x00", '{"layout": 1, "domain": 2}']
    )
    def test_a_damaged_one_is_an_error_and_never_a_first_run(
        self, root: LocalRoot, text: str
    ) -> None:
        use(root)
        root.record.write_text(text)
        assert_refused(root, "root.json is not the record", "caspers destroy --root")

    def test_destroy_names_a_folder_that_a_shell_would_cut(self, tmp_path: Path) -> None:
        root = at(tmp_path / "it's a root")
        root.warehouse.mkdir(parents=True)
        assert_refused(root, "--root '/", "'\"'\"'s a root'")


class TestCopies:
    """A folder is known by its inode, which a move keeps and a copy does not."""

    def copied(self, root: LocalRoot) -> LocalRoot:
        copy = at(root.path.with_name("copy"))
        shutil.copytree(root.path, copy.path, symlinks=True)
        return copy

    def test_a_copy_goes_on_and_is_a_root_of_its_own(self, root: LocalRoot) -> None:
        use(root)
        copy = self.copied(root)
        with owned(copy, ME), owned(root, ME):
            pass
        kill(copy)
        use(copy)

    def test_a_copy_that_was_made_in_use_is_refused(self, root: LocalRoot) -> None:
        with owned(root, ME):
            copy = self.copied(root)
            assert read_owner(copy) == (ME, False)
            assert_refused(copy, str(root.path), "copy it again", f"rm {copy.in_use}")
        copy.in_use.unlink()
        use(copy)

    def test_so_is_one_with_the_pid_file_of_a_server(self, root: LocalRoot) -> None:
        use(root)
        root.postgres.mkdir(parents=True)
        pid_file = root.postgres / "postmaster.pid"
        pid_file.touch()
        use(root)
        copy = self.copied(root)
        assert_refused(copy, f"rm {copy.postgres / 'postmaster.pid'}")

    def test_a_copy_in_the_originals_place_is_a_copy(self, root: LocalRoot) -> None:
        with owned(root, ME):
            copy = self.copied(root)
        shutil.move(root.path, root.path.with_name("away"))
        copy.path.rename(root.path)
        assert_refused(root, "copy it again")

    def test_a_kill_in_its_own_place_is_none(self, root: LocalRoot) -> None:
        kill(root)
        use(root)
        assert not root.in_use.exists()

    def test_a_kill_and_a_move_are_none_however_often(self, root: LocalRoot) -> None:
        kill(root)
        for name in ("second", "third"):
            moved = at(root.path.with_name(name))
            root.path.rename(moved.path)
            kill(moved)
            root = moved
        use(root)

    def test_a_device_with_another_number_after_a_start_of_the_machine_is_none(
        self, root: LocalRoot
    ) -> None:
        kill(root)
        record = json.loads(root.record.read_text())
        record["folder"]["device"] += 1
        root.record.write_text(json.dumps(record))
        use(root)
        assert json.loads(root.record.read_text())["folder"]["device"] == root.path.stat().st_dev

    def test_a_crash_while_a_copy_is_taken_up_leaves_no_mark(
        self, root: LocalRoot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        use(root)
        copy = self.copied(root)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "touch", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                use(copy)
        use(copy)


class TestNames:
    @pytest.mark.parametrize(
        "name",
        ["line\nbreak", "tab\t", "\x7f", "next\u2028line", "bytes\udcff", "long/" * 700],
    )
    def test_what_no_program_can_work_with_is_refused_by_name(
        self, tmp_path: Path, name: str
    ) -> None:
        with pytest.raises(RootError, match=r"^ROOT '.*' can't be used: ") as refused:
            at(tmp_path / name)
        assert refused.value.message.isprintable()
        assert "--root" in refused.value.hint
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", ["a-b", "é", "a[b]"])
    def test_a_schema_that_spark_refuses_is_refused_first(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(SettingsError, match="SIMULATOR_SCHEMA is"):
            at(tmp_path, simulator_schema=name)

    def test_two_names_of_a_folder_have_one_owner(self, root: LocalRoot) -> None:
        root.path.mkdir()
        link = root.path.with_name("link")
        link.symlink_to(root.path)
        with owned(root, ME), pytest.raises(RootLockedError), owned(at(link), ME):
            pytest.fail("both own it")
        with owned(at(link), ME):
            pass
