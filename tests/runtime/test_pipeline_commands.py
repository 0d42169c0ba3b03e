"""`caspers pipeline` where there is little: what it draws and what it refuses."""

import json
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from caspers_lib.cli import app, stream_view
from caspers_lib.errors import CaspersError, PipelineError, RootLockedError
from caspers_lib.runtime.local_business import LocalBusiness
from caspers_lib.runtime.local_root import LocalRoot, Owner, owned
from caspers_lib.runtime.settings import load_settings
from caspers_lib.runtime.stages import RetryPolicy

SOURCES = ("lakeflow.all_events", "recommender.refund_recommendations")


def test_the_picture_of_nothing_has_every_table_and_creates_nothing(tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["pipeline", "graph", "--root", str(tmp_path / "root")])
    assert answer.exit_code == 0
    assert answer.output.startswith("flowchart LR\n")
    assert "gold_late_share_day<br/>not there yet" in answer.output
    assert not (tmp_path / "root").exists()


def test_a_picture_can_be_written_to_a_file(tmp_path: Path) -> None:
    out = tmp_path / "tables.svg"
    words = ["pipeline", "graph", "--format", "svg", "--out", str(out), "--root", str(tmp_path)]
    answer = CliRunner().invoke(app, words)
    assert (answer.exit_code, answer.output.strip()) == (0, str(out))
    assert out.read_text().startswith("<svg ")


def test_without_events_there_is_nothing_to_run(tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["pipeline", "run", "--root", str(tmp_path / "root")])
    assert isinstance(answer.exception, PipelineError)
    assert "There are no events in" in answer.exception.message
    assert answer.exception.hint
    assert not (tmp_path / "root").exists()


def test_a_root_that_another_process_owns_is_refused(tmp_path: Path) -> None:
    root = LocalRoot(tmp_path, load_settings(environment={}))
    with owned(root, Owner.this_process("caspers demo")):
        root.events.mkdir(parents=True)
        answer = CliRunner().invoke(app, ["pipeline", "run", "--root", str(tmp_path)])
    assert isinstance(answer.exception, RootLockedError)


def test_what_cannot_be_read_is_listed_by_the_update_and_by_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = LocalRoot(tmp_path, load_settings(environment={}))
    with owned(root, Owner.this_process("caspers demo")):
        aside = root.events / "_unreadable"
        aside.mkdir(parents=True)
    (aside / "cut.json.gz").write_bytes(b"")
    (aside / "cut.json.gz.reason").write_text("Unexpected end of input stream\n")
    for method in ("start_spark", "stop"):
        monkeypatch.setattr(LocalBusiness, method, lambda *_: None)
    monkeypatch.setattr(LocalBusiness, "update_tables", lambda *_, **_more: ())
    entry = {"path": "_unreadable/cut.json.gz", "reason": "Unexpected end of input stream"}
    for command in (["pipeline", "run"], ["status"]):
        place = ["--root", str(tmp_path)]
        answer = CliRunner().invoke(app, [*command, *place], env={"COLUMNS": "200"})
        assert f"{entry['path']}: {entry['reason']}" in answer.output
        document = json.loads(CliRunner().invoke(app, [*command, *place, "--json"]).stdout)
        assert document["unreadable_files"] == [entry]


@pytest.mark.parametrize(
    ("words", "work"),
    [
        (["pipeline", "run"], "update_tables"),
        (["stream", "refunds"], "stream"),
        (["sync", "refunds"], "sync"),
    ],
)
def test_what_fails_for_a_moment_is_tried_once_more_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], work: str
) -> None:
    root = LocalRoot(tmp_path, load_settings(environment={}))
    with owned(root, Owner.this_process("caspers demo")):
        for folder in (root.events, *(root.table(name) for name in SOURCES)):
            folder.mkdir(parents=True)
    for method in ("start_spark", "start_postgres", "stop"):
        monkeypatch.setattr(LocalBusiness, method, lambda *_: None)
    monkeypatch.setattr(stream_view, "delta_rows", lambda _table: 0)
    pauses: list[float] = []
    monkeypatch.setattr(stream_view, "RetryPolicy", partial(RetryPolicy, sleep=pauses.append))
    tries: list[object] = []

    def fails(*_: object, **_options: object) -> None:
        tries.append(work)
        raise PipelineError("A worker failed to connect back.", hint="try again")

    monkeypatch.setattr(LocalBusiness, work, fails)
    answer = CliRunner().invoke(app, [*words, "--root", str(tmp_path)])
    assert isinstance(answer.exception, CaspersError)
    assert answer.exception.message == "A worker failed to connect back."
    assert (len(tries), len(pauses)) == (2, 1)
    said = "failed, and is tried once more: A worker failed to connect back."
    assert answer.stderr.count(said) == 1


def test_bad_usage_is_code_2() -> None:
    assert CliRunner().invoke(app, ["pipeline", "graph", "--format", "png"]).exit_code == 2


@pytest.mark.parametrize("text", ["{", "[]", '{"tables": {"t": {"version": 1}}, "refreshing": 0}'])
def test_positions_that_cannot_be_read_are_one_error_with_the_cure(
    text: str, tmp_path: Path
) -> None:
    from caspers_lib.medallion.positions import PositionsFile

    path = tmp_path / "derived_tables.json"
    path.write_text(text)
    with pytest.raises(PipelineError, match="can't be read") as refused:
        PositionsFile(path).get("t")
    assert "delete the file" in refused.value.hint
    assert path.read_text() == text
