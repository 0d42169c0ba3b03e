"""The demo on a terminal: a line a stage, a table at the end, a line a live round."""

import time
from datetime import UTC, datetime
from threading import Lock

from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from caspers_lib.console.formats import span
from caspers_lib.errors import CaspersError, first_cause
from caspers_lib.runtime.agreement import agreements
from caspers_lib.runtime.demo import Demo, RoundResult, stop_on_signals
from caspers_lib.runtime.stages import StageReport
from caspers_lib.runtime.status import DemoStatus, read_status

__all__ = ["run_demo", "status_table"]

_MARKS = {"done": ("done", "green"), "failed": ("failed", "red"), "retry": ("again", "yellow")}


def run_demo(demo: Demo, *, once: bool, console: Console) -> None:
    """Run the demo and show how it goes.

    Args:
        demo: what runs.
        once: one full round, then the summary; else live until a signal.
        console: the terminal.

    Raises:
        CaspersError: it can't run, no further round can cure what failed, or, where there is only
            one, a stage failed.
    """
    view = _StageLines(console)
    demo.progress.on_change = view.show

    def stopping() -> None:
        console.print("stopping after the running stages (Ctrl-C again: at once)")

    with stop_on_signals(stopping) as stop, demo.running():
        console.print(f"console: {demo.url}", style="bold", highlight=False)
        backlog = demo.backlog()
        if backlog is not None:
            console.print(f"catching up: {span(backlog)} of events to go", highlight=False)
        with view.spinner(demo):
            result = demo.first_round(stop.is_set)
        if stop.is_set():
            return
        if once:
            demo.raise_failures(result, "caspers demo --once")
        demo.raise_incurable(result.failures)
        _print_summary(demo, result, console)
        what = "first round" if backlog is None else f"caught up with {span(backlog)} of events"
        if not result.failures:
            console.print(f"{what}: {result.seconds:.0f} s", highlight=False)
        if once:
            return
        console.print(f"live at speed {_speed(demo):g}; Ctrl-C stops it", highlight=False)
        demo.progress.on_change = view.show_change
        demo.live(stop, _RoundLines(console, result).show)


def _print_summary(demo: Demo, result: RoundResult, console: Console) -> None:
    try:
        status = read_status(demo.business.root, time.time())
    except (CaspersError, OSError) as error:
        console.print(Text(f"no summary: {first_cause(error)}", "red"), soft_wrap=True)
        return
    console.print(status_table(status))
    if result.failures:
        return  # then counts may differ
    for agreement in agreements(status, demo.business.domain):
        mark, style = ("agree", "green") if agreement.holds else ("DIFFER", "red")
        line = Text.assemble((f"{mark:>7} ", style), agreement.line())
        console.print(line, soft_wrap=True)


def status_table(status: DemoStatus) -> Table:
    """What is where, as a table for people."""
    table = Table(title=f"Casper's Kitchens in {status.root}", title_justify="left")
    table.add_column("what", no_wrap=True)
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column("where", overflow="fold")
    rows = [("dataset", status.dataset.rows, status.dataset.path)]
    rows.append(("events in files", status.events.rows, status.events.path))
    rows += [("unreadable file", None, f"{f.path}: {f.reason}") for f in status.unreadable_files]
    rows += [(name, place.rows, place.path) for name, place in status.tables.items()]
    rows += [
        (f"Postgres {synced.table}", synced.rows, "running" if synced.dsn else "server is down")
        for synced in status.postgres.values()
    ]
    for what, count, where in rows:
        short = where.removeprefix(f"{status.root}/")
        table.add_row(Text(what), "-" if count is None else f"{count:,}", Text(short))
    replay = status.replay
    table.add_section()
    table.add_row("replay", "", Text(_replay_line(status)))
    if replay.watermark is not None:
        table.add_row("watermark", "", Text(_watermark_line(status)))
    table.add_row("console", "", Text(status.console.url or "(down)"))
    return table


def _replay_line(status: DemoStatus) -> str:
    replay = status.replay
    if replay.speed is None:
        return "not started"
    return f"{replay.status}, speed {replay.speed:g}, loop {replay.loop}"


def _watermark_line(status: DemoStatus) -> str:
    watermark, shift = status.replay.watermark or 0.0, status.replay.shift_seconds or 0
    dataset = datetime.fromtimestamp(watermark, UTC)
    event = datetime.fromtimestamp(watermark + shift, UTC)
    return f"{event:%Y-%m-%d %H:%M:%S} UTC (dataset time {dataset:%Y-%m-%d %H:%M:%S})"


def _speed(demo: Demo) -> float:
    return demo.live_status().speed or 0.0


class _StageLines:
    """A line for each stage that ends or is tried again, and what runs now beside a spinner."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = Lock()
        self._failed: dict[str, str] = {}

    def show_change(self, report: StageReport) -> None:
        """Show a stage that fails otherwise than before, is tried again, or works again."""
        before = self._failed.get(report.name)
        is_news = report.retry if before is None else report.state == "done"
        if is_news or (report.state == "failed" and report.detail != before):
            self.show(report)

    def show(self, report: StageReport) -> None:
        """Show a stage that has ended, or is tried again."""
        mark = "retry" if report.retry else report.state
        if mark not in _MARKS:
            return
        if report.state == "failed":
            self._failed[report.name] = report.detail
        elif report.state == "done":
            self._failed.pop(report.name, None)
        word, style = _MARKS[mark]
        line = Text.assemble(
            (f"{word:>7} ", style),
            f"{report.name:<28}{report.seconds:6.1f} s  ",
            (report.detail, "dim"),
        )
        with self._lock:
            self._console.print(line, soft_wrap=True)

    def spinner(self, demo: Demo) -> Status:
        return self._console.status(_Running(demo))


class _Running:
    """What runs at this moment, drawn anew at each refresh."""

    def __init__(self, demo: Demo) -> None:
        self._demo = demo

    def __rich__(self) -> Text:
        running = [r for r in self._demo.progress.snapshot() if r.state == "running"]
        parts = [f"{r.name}: {r.detail}" if r.detail else r.name for r in running]
        return Text(" · ".join(parts) or "starting")


class _RoundLines:
    """A line for each live round: what moved."""

    def __init__(self, console: Console, before: RoundResult) -> None:
        self._console = console
        self._before = before.tables

    def show(self, result: RoundResult) -> None:
        moved = {
            name: rows - self._before.get(name, 0)
            for name, rows in result.tables.items()
            if rows != self._before.get(name, 0)
        }
        self._before = result.tables
        for failure in result.failures:
            if failure.stage == "Table_Counts":
                cause = first_cause(failure.error)
                self._console.print(Text(f"rows can't be counted: {cause}", "red"), soft_wrap=True)
        news = ", ".join(f"{name.partition('.')[2]} {count:+,}" for name, count in moved.items())
        at = f"{result.event_time:%Y-%m-%d %H:%M:%S}" if result.event_time else "-"
        self._console.print(
            Text(f"{at} UTC  {result.seconds:4.1f} s  {news or 'nothing new'}"), soft_wrap=True
        )
