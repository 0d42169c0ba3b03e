"""The replay on a terminal: where it stands, the day that it plays, what a run would write."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Group
from rich.table import Table
from rich.text import Text

from caspers_lib.replay.clock import utc_text
from caspers_lib.replay.engine import Preview
from caspers_lib.replay.steering import course_line, dataset_place
from caspers_lib.replay.text_chart import bars
from caspers_lib.runtime.replay_status import ReplayReport, clock_warning

__all__ = ["column_chart", "preview_lines", "replay_report_table"]

_CHART_ROWS = 6


def preview_lines(preview: Preview, folder: Path, now: float) -> list[str]:
    """What a run at `now` (UTC epoch seconds) would write, for people."""
    state, window = preview.state, preview.window
    if window.is_empty:
        warning = clock_warning(state.seconds_ahead(now))
        return [f"nothing to write: {course_line(state, now)}", *filter(None, [warning])]
    after = "the beginning" if window.after is None else utc_text(window.after)
    run = "a first run" if preview.is_first else "a run"
    if state.pending is not None:
        run = "a run, which first finishes the window of the one that was cut off,"
    lines = [
        f"{run} would write {preview.events:,} events to {folder}",
        f"virtual time from {after} to {utc_text(window.until)} UTC "
        f"({dataset_place(state, window.until)})",
        f"events bear a ts of up to {utc_text(window.until + state.shift_seconds)} UTC",
    ]
    lines += [f"  {name:<18}{count:>12,}" for name, count in preview.counts.items()]
    if state.chaos:
        lines.append(f"before chaos ({state.chaos})")
    return lines


def replay_report_table(report: ReplayReport) -> Group:
    """Where the replay stands, with a chart of the day that it plays."""
    replay = report.replay
    if replay.watermark is None or replay.virtual_time is None or report.event_time is None:
        return Group(Text("the replay has not begun; `caspers replay tick` begins it"))
    table = Table(show_header=False, box=None, pad_edge=False)
    moment = datetime.fromisoformat(replay.virtual_time)
    speed = f", speed {replay.speed:g}" if replay.speed else ""
    rows = [
        ("replay", f"{replay.status}{speed}"),
        ("virtual time", f"{moment:%Y-%m-%d %H:%M:%S} UTC, day {report.dataset_day}"),
        ("event time", f"{datetime.fromisoformat(report.event_time):%Y-%m-%d %H:%M:%S} UTC"),
        ("watermark", f"{utc_text(replay.watermark)} UTC, loop {replay.loop}"),
        ("lag", f"{_duration(report.lag_seconds or 0.0)} of virtual time"),
        ("rate", f"{report.events_per_second or 0.0:.1f} events per second"),
        ("next tick", _next_tick(report)),
    ]
    if report.chaos:
        rows.append(("chaos", report.chaos))
    if warning := clock_warning(replay.clock_ahead_seconds):
        rows.insert(1, ("clock", warning))
    for name, value in rows:
        table.add_row(Text(name, style="dim"), Text(value))
    return Group(table, Text(), *_day_chart(report, moment))


def column_chart(values: Sequence[int], rows: int = _CHART_ROWS) -> list[str]:
    """Values as columns of text, two characters and a blank each, top row first."""
    return [" ".join(block * 2 for block in line) for line in bars(values, rows=rows)]


def _day_chart(report: ReplayReport, moment: datetime) -> list[Text]:
    if not report.hours:
        return []
    top, total = max(report.hours), sum(report.hours)
    head = f"events by hour (UTC) of dataset day {report.dataset_day}: {total:,}, at most {top:,}"
    labels = " ".join(f"{hour:02d}" for hour in range(24))
    mark = " " * (3 * moment.hour) + "▲ now"
    lines = [Text(head, style="dim")]
    lines += [Text(line, style="cyan", no_wrap=True) for line in column_chart(report.hours)]
    return [*lines, Text(labels, no_wrap=True), Text(mark, style="bold", no_wrap=True)]


def _next_tick(report: ReplayReport) -> str:
    if report.next_tick is None:
        return "no process plays it; `caspers replay tick` writes what is due"
    return f"{datetime.fromisoformat(report.next_tick):%H:%M:%S} UTC"


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3_600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
