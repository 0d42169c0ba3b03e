"""The edge of the command line: what an error looks like."""

import errno
import os

import psycopg
import pytest

from caspers_lib import cli
from caspers_lib.errors import CaspersError


def run_main(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    def app() -> None:
        raise error

    monkeypatch.setattr(cli, "app", app)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def test_an_error_is_one_line_and_a_hint_and_its_text_is_data(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = CaspersError("[red]all[/red] wrong in /a/b", hint="do [bold]this[/bold]")
    assert run_main(monkeypatch, error) == 1
    said = capsys.readouterr()
    assert said.err == "error: [red]all[/red] wrong in /a/b\nhint: do [bold]this[/bold]\n"
    assert said.out == ""


def test_a_full_disk_is_one_line_that_names_the_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/root/events/part")
    assert run_main(monkeypatch, full) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "error: /root/events/part: No space left on device"
    assert lines[1].startswith("hint: ")
    assert len(lines) == 2


def test_a_package_of_an_extra_that_is_missing_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = ModuleNotFoundError("No module named 'pyspark'", name="pyspark")
    assert run_main(monkeypatch, missing) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "error: This command needs the package pyspark, which is not installed",
        "hint: pip install 'caspers_lib[local]'",
    ]
    with pytest.raises(ModuleNotFoundError):
        run_main(monkeypatch, ModuleNotFoundError("a defect of ours", name="caspers_lib.x"))


def test_an_error_of_a_library_is_its_cause_and_a_defect_of_ours_keeps_its_trace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "connection failed: refused\n\tIs the server running?"
    assert run_main(monkeypatch, psycopg.OperationalError(text)) == 1
    assert capsys.readouterr().err.splitlines()[0] == "error: connection failed: refused"
    with pytest.raises(ZeroDivisionError):
        run_main(monkeypatch, ZeroDivisionError())


def test_an_interrupt_is_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == ""
