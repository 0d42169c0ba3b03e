from pathlib import Path

import pytest

from caspers_lib.lakebase.server_log import failure_reason, telling_line

STAMP = "2024-03-11 12:00:00.123 UTC [17] "


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["LOG:  starting", "FATAL:  no", "LOG:  shut down"], "FATAL:  no"),
        (["FATAL:  no", "DETAIL:  It is old.", "HINT:  x"], "FATAL:  no (It is old.)"),
        (["FATAL:  no", "HINT:  x", "FATAL:  the database system is starting up"], "FATAL:  no"),
        (["PANIC:  no space", "LOG:  aborted", "FATAL:  terminated"], "PANIC:  no space"),
        (["initdb: error: no user", "initdb: hint: x"], "initdb: error: no user"),
        (["LOG:  ready"], ""),
        ([], ""),
    ],
)
def test_the_line_that_says_why_is_found(lines: list[str], told: str) -> None:
    assert telling_line("\n".join(lines)) == told
    assert telling_line("\n".join(STAMP + line for line in lines)) == told


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        ("first\nlast\n\n", 1, "last"),
        ("sh: postgres: Permission denied\npg_ctl: could not start server\nExamine the log output.",
         1, "sh: postgres: Permission denied"),
        ("creating ...\npostgres: error while loading shared libraries: libx.so\nHINT:  y\n",
         1, "postgres: error while loading shared libraries: libx.so"),
        ('child process was terminated by signal 9: Killed\ninitdb: removing data directory "x"\n',
         1, "child process was terminated by signal 9: Killed"),
        ("creating files\n", -9, "creating files (ended by SIGKILL)"),
        ("", -11, "its log says nothing (ended by SIGSEGV)"),
        ("", 1, "its log says nothing"),
    ],
)  # fmt: skip
def test_without_a_telling_line_the_last_that_means_something_is_told(
    tmp_path: Path, text: str, status: int, reason: str
) -> None:
    log = tmp_path / "server.log"
    log.write_text(text)
    assert failure_reason(log, status) == reason
