"""`caspers up`: a target's tasks once, as a live tree of what runs."""

import time
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.text import Text
from rich.tree import Tree

from caspers_lib.runtime.demo import Demo, stop_on_signals
from caspers_lib.runtime.stages import Stage, StageReport

__all__ = ["run_up", "stage_tree"]

_MARKS = {
    "waiting": ("·", "dim"),
    "running": ("▸", "cyan"),
    "done": ("✓", "green"),
    "failed": ("✗", "red"),
}


def run_up(demo: Demo, console: Console) -> None:
    """Run the target's tasks, independent ones side by side, and show the tree.

    Args:
        demo: what runs.
        console: the terminal; elsewhere the tree is printed once, at the end.

    Raises:
        CaspersError: a task failed; what doesn't depend on it is done.
        SettingsError: there is no such target.
    """
    target = demo.target
    stages = demo.business.start_up(target)

    def stopping() -> None:
        console.print("stopping after the running tasks (Ctrl-C again: at once)")

    with stop_on_signals(stopping) as stop, demo.running():
        tree = _LiveTree(demo, target, stages)
        with Live(tree, console=console, refresh_per_second=4):
            result = demo.first_round(stop.is_set)
    if not console.is_terminal:
        console.line()  # the last tree ends without one there
    demo.raise_failures(result, f"caspers up --target {target}")
    if stop.is_set():
        console.print(f"stopped; `caspers up --target {target}` goes on", highlight=False)
    else:
        console.print(f"{target} is up to date: {result.seconds:.0f} s", highlight=False)


def stage_tree(
    title: str, stages: Sequence[Stage], reports: Sequence[StageReport], now: float
) -> Tree:
    """The stages as a tree: each under the last of those that it comes after.

    Args:
        title: the root's text.
        stages: the graph; every name in `after` is one of them.
        reports: how far they are; one that is not in it waits.
        now: the wall clock, UTC epoch seconds.
    """
    told = {report.name: report for report in reports}
    nodes: dict[str, Tree] = {}
    tree = Tree(title, guide_style="dim")
    waiting = list(stages)
    while waiting:
        stage = next(s for s in waiting if all(name in nodes for name in s.after))
        waiting.remove(stage)
        parent = nodes[max(stage.after, key=list(nodes).index)] if stage.after else tree
        label = _label(told.get(stage.name, StageReport(stage.name)), stage.after, now)
        nodes[stage.name] = parent.add(label)
    return tree


def _label(report: StageReport, after: Sequence[str], now: float) -> Text:
    mark, style = _MARKS[report.state]
    seconds = now - report.started if report.state == "running" else report.seconds
    took = f"  {seconds:.1f} s" if report.state != "waiting" else ""
    label = Text.assemble((f"{mark} ", style), report.name, (took, "dim"))
    if report.state == "waiting" and len(after) > 1:
        label.append(f"  after {', '.join(after)}", "dim")
    if report.detail:
        label.append(f"  {report.detail}", "red" if report.state == "failed" else "dim")
    return label


class _LiveTree:
    """The tree as it is at this moment, drawn anew at each refresh."""

    def __init__(self, demo: Demo, target: str, stages: Sequence[Stage]) -> None:
        self._demo, self._target, self._stages = demo, target, stages

    def __rich__(self) -> Tree:
        reports = self._demo.progress.snapshot()
        return stage_tree(f"target {self._target}", self._stages, reports, time.time())
