"""Names that Spark takes for something else, and folders that moved under a stream's log."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from caspers_lib import spark_paths
from caspers_lib.errors import EngineError
from caspers_lib.spark_paths import plain_folder, plain_path, rebase_file_log

NAMES = [
    "x[1]{y}*?", "back\\slash", "%20", "a#b?c", "a:b", "a=b", "two words", "it's \"a\" `$HOME`",
    "é", "e\u0301", "ключ 🍜", "a,b;c&d|e", "+~!@()<>^",
]  # fmt: skip


@pytest.mark.parametrize("name", ["root", ".caspers", "_r", "-r", "x" * 255, "a~b"])
def test_a_plain_name_stays(tmp_path: Path, name: str) -> None:
    assert plain_folder(tmp_path / name) == tmp_path / name
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("name", NAMES)
def test_another_name_gets_a_link_that_is_plain(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name / "below"
    link = plain_folder(folder)
    assert link.samefile(folder)
    assert str(link).replace("/", "").replace("_", "").replace("-", "").isalnum()
    assert str(link).isascii()
    assert plain_folder(folder) == link


def test_a_file_gets_a_link_and_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    link = plain_path(Path("a [1].parquet"))
    assert not link.exists()
    (tmp_path / "a [1].parquet").write_text("late")
    assert link.read_text() == "late"
    assert plain_path(Path("b.parquet")) == tmp_path / "b.parquet"


def test_each_folder_has_a_link_of_its_own(tmp_path: Path) -> None:
    links = {plain_folder(tmp_path / name) for name in NAMES}
    assert len(links) == len(NAMES)


def test_the_links_go_with_the_process(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from caspers_lib.spark_paths import *;"
        "print(plain_folder(Path(sys.argv[1])))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a b")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not Path(ran.stdout.strip()).parent.exists()
    assert (tmp_path / "a b").is_dir()


def test_a_temporary_folder_without_a_plain_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "t m p"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    spark_paths._links.cache_clear()
    try:
        with pytest.raises(EngineError, match="t m p") as refused:
            plain_folder(tmp_path / "a b")
        assert "TMPDIR" in refused.value.hint
    finally:
        spark_paths._links.cache_clear()


def write_log(checkpoint: Path, name: str, *paths: str) -> Path:
    """Part of a file stream's log as Spark writes it, with the checksum of its bytes."""
    log = checkpoint / "sources" / "0" / name
    log.parent.mkdir(parents=True, exist_ok=True)
    entries = (f'{{"path":"{path}","timestamp":1796113039935,"batchId":0}}' for path in paths)
    log.write_text("\n".join(["v1", *entries]))
    log.with_name(f".{name}.crc").write_text("crc")
    return log


def paths_in(log: Path) -> list[str]:
    version, *entries = log.read_text().split("\n")
    assert version == "v1"
    return [json.loads(entry)["path"] for entry in entries]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of one name at three depths, and one with a name that a URI encodes."""
    folder = tmp_path / "now" / "events"
    for name in ("p.json", "day/p.json", "day/events/p.json", "a [1]%20é.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_every_entry_follows_its_folder_and_keeps_its_place_below_it(
    tmp_path: Path, folder: Path
) -> None:
    then = "file:///then/events/"
    encoded = "a%20%5B1%5D%2520é.json"
    names = ["p.json", "day/p.json", "day/events/p.json", encoded, "gone.json"]
    log = write_log(tmp_path, "9.compact", *(then + name for name in names))
    before = log.read_text()
    rebase_file_log(tmp_path, folder)
    assert paths_in(log) == [f"file://{folder}/{name}" for name in names]
    assert log.read_text() == before.replace(then, f"file://{folder}/")
    assert list(log.parent.iterdir()) == [log]


def test_what_is_where_it_was_is_not_written(tmp_path: Path, folder: Path) -> None:
    log = write_log(tmp_path, "0", f"file://{folder}/p.json")
    before = log.stat()
    rebase_file_log(tmp_path, folder)
    assert log.stat() == before
    assert log.with_name(".0.crc").exists()
    rebase_file_log(tmp_path / "no checkpoint", folder)


def test_one_that_was_cut_off_is_done_by_the_next_also_after_another_move(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = [write_log(tmp_path, str(n), "file:///then/events/p.json") for n in range(4)]
    moved = tmp_path / "later" / "events"
    for crash_at in (2, 1):
        done: list[Path] = []

        def replace(source: Path, target: Path, done: list[Path] = done) -> None:
            if len(done) == crash_at:  # noqa: B023 - called within this turn
                raise KeyboardInterrupt
            done.append(target)
            os.replace(source, target)  # noqa: PTH105 - the method is this one

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", replace)
            with pytest.raises(KeyboardInterrupt):
                rebase_file_log(tmp_path, folder)
        moved.parent.mkdir(exist_ok=True)
        folder.rename(moved)
        folder, moved = moved, folder
    rebase_file_log(tmp_path, folder)
    assert [paths_in(log) for log in logs] == [[f"file://{folder}/p.json"]] * 4


@pytest.mark.spark
def test_a_stream_goes_on_in_a_copy_with_what_is_new_alone(spark: Any, tmp_path: Path) -> None:
    """Its log is compacted, files lie at two depths, and the folder it was is there still."""
    spark.conf.set("spark.sql.streaming.fileSource.log.compactInterval", "2")

    def run(root: Path) -> list[str]:
        lines = (
            spark.readStream.format("text")
            .options(maxFilesPerTrigger="1", recursiveFileLookup="true")
            .load(str(plain_folder(root / "events")))
        )
        query = (
            lines.writeStream.format("delta")
            .option("checkpointLocation", str(plain_folder(root / "checkpoint")))
            .trigger(availableNow=True)
            .start(str(plain_folder(root / "table")))
        )
        query.awaitTermination()
        rows = spark.read.format("delta").load(str(plain_folder(root / "table"))).collect()
        return sorted(row.value for row in rows)

    original, copy = tmp_path / "original", tmp_path / "a copy [1]{2}*?%20#:é"
    (original / "events" / "day").mkdir(parents=True)
    for name in ("1.json", "2.json", "day/2.json"):
        (original / "events" / name).write_text(name)
    before = run(original)
    assert before == ["1.json", "2.json", "day/2.json"]
    assert (original / "checkpoint" / "sources" / "0" / "1.compact").exists()
    shutil.copytree(original, copy)
    (copy / "events" / "p[3] #%20.json").write_text("3.json")
    rebase_file_log(copy / "checkpoint", plain_folder(copy / "events"))
    after = sorted([*before, "3.json"])
    assert run(copy) == after
    assert run(copy) == after
    spark.conf.unset("spark.sql.streaming.fileSource.log.compactInterval")
