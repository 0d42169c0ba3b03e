"""The commands that need no Spark, on a ROOT under names that some program reads otherwise."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from typer.testing import CliRunner

from caspers_lib.cli import app
from caspers_lib.errors import RootError, RootLockedError
from caspers_lib.replay.generator import generate_dataset
from caspers_lib.runtime.local_business import LocalBusiness
from caspers_lib.runtime.local_root import LocalRoot, Owner, owned
from caspers_lib.runtime.settings import load_settings

NAMES = [
    "x[1]{y}*?", "[", "back\\slash", "%20", "%", "a#b?c", "a:b", "s3:", "a=b", " ", "~", "$HOME",
    "it's \"a\" `q`", "é", "e\u0301", "ключ 🍜", "a,b;c&d|e", "-r", "--help", ".r", "_r", "...",
    "x" * 255, "/".join(["y" * 200] * 10),
]  # fmt: skip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In a folder with such a name of its own."""
    return generate_dataset(tmp_path_factory.mktemp("data") / "d[1]*%20'\\n", days=2, scale=0.02)


def caspers(root: Path, *words: object) -> str:
    result = CliRunner().invoke(app, [*map(str, words), f"--root={root}"])
    if isinstance(result.exception, RootError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def status(root: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(caspers(root, "status", "--json"))
    return document


@pytest.mark.parametrize("name", NAMES)
def test_the_replay_writes_and_status_counts_before_and_after_a_move(
    name: str, dataset: Path, tmp_path: Path
) -> None:
    root = tmp_path / "parent" / name
    caspers(root, "replay", "tick", "--dataset", dataset, "--start-day", 1)
    table = LocalRoot(root, load_settings(environment={})).table("lakeflow.all_events")
    write_deltalake(str(tmp_path / "plain"), pa.table({"n": [1, 2, 3]}))
    shutil.copytree(tmp_path / "plain", table)
    first = status(root)
    assert first["events"]["rows"] > 100
    assert first["tables"]["lakeflow.all_events"]["rows"] == 3
    assert "3 rows" in caspers(root, "pipeline", "graph")

    moved = root.rename(tmp_path / "moved")
    caspers(moved, "replay", "step", "6h")
    caspers(moved, "replay", "tick", "--dataset", dataset)
    second = status(moved)
    assert second["events"]["rows"] > first["events"]["rows"]
    assert second["tables"] != first["tables"]
    moved.rename(root)
    assert status(root)["events"]["rows"] == second["events"]["rows"]
    caspers(root, "destroy")
    assert not root.exists()


@pytest.mark.parametrize("name", ["line\nbreak", "bytes\udcff", "z/" * 1600])
def test_a_name_that_cannot_be_is_refused_and_nothing_is_written(
    name: str, dataset: Path, tmp_path: Path
) -> None:
    with pytest.raises(RootError, match="can't be used"):
        caspers(tmp_path / name, "replay", "tick", "--dataset", dataset)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", ["link", "link/../real", "real/./../link", "../work/real"])
def test_every_name_of_a_folder_leads_to_its_owner(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    (work / "link").symlink_to("real")
    root = LocalRoot(work / "real", load_settings(environment={}))
    with owned(root, Owner.this_process("caspers demo")):
        root.events.mkdir(parents=True)
        with pytest.raises(RootLockedError, match="in use by process"):
            caspers(Path(form), "pipeline", "run")
        assert status(Path(form))["root"] == str(root.path)


@pytest.mark.parametrize(
    "words",
    [
        ("demo", "--once"), ("up",), ("status",), ("replay", "tick"), ("replay", "status"),
        ("replay", "pause"), ("pipeline", "run"), ("pipeline", "graph"), ("stream", "refunds"),
        ("sync",), ("dataset", "generate"), ("agent", "evaluate", "refund"),
    ],
)  # fmt: skip
def test_every_command_refuses_a_copy_that_was_made_in_use(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    root = LocalRoot(tmp_path / "root", load_settings(environment={}))
    copy = tmp_path / "copy"
    with owned(root, Owner.this_process("caspers demo")):
        shutil.copytree(root.path, copy)
    before = sorted(copy.rglob("*"))
    with pytest.raises(RootError, match="while that was in use"):
        caspers(copy, *words)
    assert sorted(copy.rglob("*")) == before
    caspers(copy, "destroy")
    assert not copy.exists()


def test_a_root_that_is_moved_while_it_is_in_use_is_no_first_run(
    dataset: Path, tmp_path: Path
) -> None:
    clock = [1_795_000_000.0]
    settings = load_settings({"start_day": 1}, environment={})
    root = LocalRoot(tmp_path / "root", settings)
    business = LocalBusiness(root, dataset=dataset, now=lambda: clock[0])
    with owned(root, Owner.this_process("caspers demo")):
        first = business.tick().events
        assert first > 0
        root.path.rename(tmp_path / "moved")
        clock[0] += 60.0
        with pytest.raises(RootError, match="was moved or removed while it is in use"):
            business.tick()
        assert not root.path.exists()
        (tmp_path / "moved").rename(root.path)
        assert business.tick().events < first
