"""Files that can't be read: what is set aside, what is said, and that everything else is read."""

import bz2
import gzip
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from caspers_lib.errors import PipelineError
from caspers_lib.medallion.registration import PipelineSettings
from caspers_lib.runtime.event_folder import read_despite_bad_files, unreadable_files
from caspers_lib.runtime.tables_update import update_streaming_tables
from caspers_lib.testing import ITEM
from caspers_lib.testing import order_created as created


@pytest.fixture
def events(tmp_path: Path) -> Path:
    folder = tmp_path / "events"
    (folder / "deep").mkdir(parents=True)
    for name in ("good.json", "bad.json", "bad.json.gz", "deep/bad.json", "b%2 d #1?.json"):
        (folder / name).write_text(name)
    return folder


@pytest.fixture
def lines() -> list[str]:
    return []


def reader(events: Path, bad: set[str], read: list[str]) -> Callable[[], None]:
    """Fails on the first bad file that is there, as an update does; else reads all."""

    def run() -> None:
        here = [str(p.relative_to(events)) for p in sorted(events.rglob("*.json*"))]
        here = [name for name in here if not name.startswith("_")]
        for name in here:
            if name in bad:
                uri = (events / name).as_uri()
                raise PipelineError(f"Encountered error while reading file {uri}.")
        read.extend(here)

    return run


def test_each_bad_file_is_set_aside_with_its_reason_and_the_others_are_read(
    events: Path, lines: list[str]
) -> None:
    bad, read = {"bad.json.gz", "deep/bad.json", "b%2 d #1?.json"}, list[str]()
    read_despite_bad_files(events, reader(events, bad, read), lambda _p: "cut off", lines.append)
    assert read == ["bad.json", "good.json"]
    assert {(f.path, f.reason) for f in unreadable_files(events)} == {
        (f"_unreadable/{name}", "cut off") for name in bad
    }
    assert all((events / f.path).is_file() for f in unreadable_files(events))
    assert len(lines) == 3
    # Nothing is said of them again.
    read_despite_bad_files(events, reader(events, bad, read), lambda _p: None, lines.append)
    assert len(lines) == 3


def test_a_name_that_comes_again_replaces_nothing(events: Path, lines: list[str]) -> None:
    for text in ("first", "second"):
        (events / "bad.json").write_text(text)
        run = reader(events, {"bad.json"}, [])
        read_despite_bad_files(events, run, lambda _p: "cut off", lines.append)
    texts = {(events / file.path).read_text() for file in unreadable_files(events)}
    assert texts == {"first", "second"}


def test_a_failure_that_no_file_is_to_blame_for_is_raised(events: Path, lines: list[str]) -> None:
    # The file that the error names can be read: the disk was full, or the worker slow.
    with pytest.raises(PipelineError, match=r"good\.json"):
        read_despite_bad_files(
            events, reader(events, {"good.json"}, []), lambda _p: None, lines.append
        )

    def other() -> None:
        raise PipelineError("the disk is full")

    with pytest.raises(PipelineError, match="disk"):
        read_despite_bad_files(events, other, lambda _p: "cut off", lines.append)
    assert not unreadable_files(events)
    assert not lines


def test_a_file_that_can_neither_be_read_nor_moved_is_named(
    events: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **_more: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    run = reader(events, {"bad.json"}, [])
    with pytest.raises(PipelineError, match=r"bad\.json .*cut off.*Permission denied") as failed:
        read_despite_bad_files(events, run, lambda _p: "cut off", lines.append)
    assert "move it" in failed.value.hint


def test_a_file_that_vanishes_while_it_is_read_is_said(events: Path, lines: list[str]) -> None:
    read_despite_bad_files(events, (events / "good.json").unlink, lambda _p: None, lines.append)
    assert lines == [
        f"{events / 'good.json'} vanished while files were read; its events may be missing"
    ]


def test_a_pipe_is_set_aside_before_it_is_opened_and_a_dead_link_is_named(
    events: Path, lines: list[str]
) -> None:
    os.mkfifo(events / "pipe.json")
    (events / "link.json").symlink_to(events / "nowhere")
    read_despite_bad_files(events, lambda: None, lambda _p: None, lines.append)
    assert {(f.path, f.reason) for f in unreadable_files(events)} == {
        ("_unreadable/pipe.json", "it is not a regular file"),
        ("link.json", "the link leads nowhere"),
    }


def test_what_spark_would_find_no_line_in_is_set_aside_before_it_is_read(
    events: Path, lines: list[str]
) -> None:
    # Hadoop's framing: the block's length, the chunk's, the chunk.
    framed = b"\x00\x00\x00\x05" + b"\x00\x00\x00\x07" + b"\x05\x10hello"
    frame = b"\x04\x22\x4d\x18\x64\x40\xa7\x02"
    contents = {
        "text.json.bz2": (b"{}\n" * 9, "it is not a bzip2 file"),
        "frame.json.lz4": (
            frame * 9,
            "it is not in Hadoop's framing of .lz4, the only one that Spark reads",
        ),
        "raw.json.snappy": (
            b"\x05\x10hello and more",
            "it is not in Hadoop's framing of .snappy, the only one that Spark reads",
        ),
        "whole.json.bz2": (bz2.compress(b"{}"), None),
        "framed.json.snappy": (framed, None),
        "framed.json.lz4": (framed, None),
        "empty.json.lz4": (b"", None),
        "empty.json.bz2": (b"", None),
    }
    for name, (content, _) in contents.items():
        (events / name).write_bytes(content)
    read_despite_bad_files(events, lambda: None, lambda _p: None, lines.append)
    assert {f.path: f.reason for f in unreadable_files(events)} == {
        f"_unreadable/{name}": reason for name, (_, reason) in contents.items() if reason
    }


def test_a_folder_that_is_not_there_has_no_bad_file(tmp_path: Path) -> None:
    assert unreadable_files(tmp_path / "none") == ()


def order(number: int) -> bytes:
    return json.dumps(created(f"e{number}", ITEM, order_id=f"O{number}")).encode() + b"\n"


@pytest.mark.spark
def test_spark_reads_every_file_that_can_be_read_whatever_is_beside_it(
    spark: Any, tmp_path: Path
) -> None:
    schema = f"folder_{uuid4().hex[:8]}"
    spark.sql(f"CREATE SCHEMA {schema} LOCATION '{tmp_path / schema}'")
    events, said = tmp_path / "events", list[str]()
    (events / "x.json").mkdir(parents=True)
    (events / "day=1").mkdir()
    # Large enough that rows come before the damage.
    many = b"".join(map(order, range(1000, 3000)))
    broken = bytearray(gzip.compress(many))
    broken[len(broken) // 2] ^= 0xFF
    bad = {
        "cut.json.gz": gzip.compress(many)[:-12],
        "broken.json.gz": bytes(broken),
        "plain text, 100%+[1].json.gz": order(9),
        "cut.json.bz2": bz2.compress(many)[:-200],
    }
    good = {
        "plain.json": order(0),
        "whole.json.gz": gzip.compress(order(1)) + gzip.compress(order(2)),
        "whole.json.bz2": bz2.compress(order(3)),
        "x.json/deep.json": order(4),
        "day=1/partition.json": order(5),
        "empty.json": b"",
    }
    for name, content in (good | bad).items():
        (events / name).write_bytes(content)
    (events / "link.json").symlink_to(events / "nowhere")
    # Older than Spark's week, and from the future.
    os.utime(events / "plain.json", (4e9, 4e9))
    os.utime(events / "whole.json.gz", (1, 1))
    update = partial(
        update_streaming_tables,
        spark,
        PipelineSettings(events=str(events)),
        storage=tmp_path / "checkpoints",
        database=schema,
        on_event=said.append,
    )
    update()
    orders = f"{schema}.silver_order_items"
    ids = [row[0] for row in spark.table(orders).select("order_id").collect()]
    assert sorted(ids) == [f"O{n}" for n in range(6)]
    reasons = {f.path.removeprefix("_unreadable/"): f.reason for f in unreadable_files(events)}
    assert set(reasons) == {*bad, "link.json"}
    assert reasons["cut.json.gz"] == "Unexpected end of input stream"
    assert reasons["plain text, 100%+[1].json.gz"] == "not a gzip file"
    assert sum("is set aside" in line for line in said) == len(bad)

    (events / "late.json").write_bytes(order(6))
    os.utime(events / "late.json", (1, 1))
    # Mended, and back under another name.
    (events / "mended.json.gz").write_bytes(gzip.compress(order(7)))
    update()
    assert spark.table(orders).count() == 8
    assert spark.table(f"{schema}.quarantined_events").count() == 0
    spark.sql(f"DROP SCHEMA {schema} CASCADE")
