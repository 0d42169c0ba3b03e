"""Why PostgreSQL failed, as far as its log and the disk tell."""

import re
import shutil
from pathlib import Path

__all__ = ["failure_reason", "telling_line"]

_TELLING = re.compile(r"\b(PANIC|FATAL|error):")
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


def failure_reason(log: Path) -> str:
    """Why a program failed, in one line.

    Args:
        log: its log; on a full disk it may be empty.
    """
    text = log.read_text(errors="replace")
    if found := telling_line(text):
        return found
    if shutil.disk_usage(log.parent).free < _FULL_BYTES:
        return "no space left on the disk"
    return next(iter(text.strip().splitlines()[-1:]), "its log is empty")
