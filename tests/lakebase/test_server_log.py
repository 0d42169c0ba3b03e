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


def test_without_a_telling_line_the_last_one_is_told(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text("first\nlast\n\n")
    assert failure_reason(log) == "last"
    log.write_text("")
    assert failure_reason(log) == "its log is empty"
