"""Why PostgreSQL failed, as far as its log and the disk tell."""

import re
import shutil
import signal
from pathlib import Path

__all__ = ["failure_reason", "telling_line"]

_TELLING = re.compile(r"\b(PANIC|FATAL|error):|\berror while loading")
# What the programs say after any failure, whatever its cause.
_EPILOGUE = re.compile(
    r"initdb: (removing|data directory)|pg_ctl: could not start server|Examine the log output"
    r"|.*\b(HINT|hint|DETAIL|detail): "
)
# What a server that starts says to those who come too early.
_EARLY = re.compile(r"FATAL: +the database system is ")
_PREFIX = re.compile(r"^\d{4}-\d\d-\d\d .*?\[\d+\] ")
_DETAIL = re.compile(r"\bDETAIL: +(.*)")
_FULL_BYTES = 4 * 2**20


def telling_line(log: str) -> str:
    """The line of a log that says why the server failed, with its detail.

    Args:
        log: text of the log.

    Returns:
        One line without time and process; empty if none tells.
    """
    lines = [_PREFIX.sub("", line).strip() for line in log.splitlines()]
    found = ""
    for number, line in enumerate(lines):
        panicked = found.startswith("PANIC") and "PANIC:" not in line  # what follows is its effect
        if panicked or not _TELLING.search(line) or _EARLY.search(line):
            continue
        detail = _DETAIL.search(lines[number + 1]) if number + 1 < len(lines) else None
        found = f"{line} ({detail[1]})" if detail else line
    return found


def failure_reason(log: Path, status: int = 1) -> str:
    """Why a program failed, in one line.

    Args:
        log: its log; on a full disk it may be empty.
        status: its exit status; minus the signal that ended it.
    """
    text = log.read_text(errors="replace")
    if reason := telling_line(text):
        return reason
    if shutil.disk_usage(log.parent).free < _FULL_BYTES:
        return "no space left on the disk"
    lines = [line for line in text.strip().splitlines() if not _EPILOGUE.match(line.strip())]
    reason = lines[-1].strip() if lines else "its log says nothing"
    return f"{reason} (ended by {signal.Signals(-status).name})" if status < 0 else reason
