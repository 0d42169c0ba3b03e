"""Stages as a graph: each runs in a thread once what it comes after is done.

Contract: DESIGN section 9. A failed stage stops only what depends on it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from threading import Lock
from typing import Literal

__all__ = ["Progress", "Stage", "StageReport", "run_stages"]

State = Literal["waiting", "running", "done", "failed"]
_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Stage:
    """One piece of work.

    Args:
        name: its name.
        work: does it and returns one line on what was done; it may report on the way.
        after: names of the stages that come before it.
    """

    name: str
    work: Callable[["Report"], str]
    after: tuple[str, ...] = ()


Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class StageReport:
    """How far a stage is.

    Args:
        name: the stage's name.
        state: waiting, running, done or failed.
        detail: what it does or did, or why it failed.
        seconds: wall-clock time it took, 0 until it ends.
        started: wall clock of its start, UTC epoch seconds; 0 while it waits.
    """

    name: str
    state: State = "waiting"
    detail: str = ""
    seconds: float = 0.0
    started: float = 0.0


@dataclass
class Progress:
    """What every stage last reported; safe to read from any thread.

    Args:
        on_change: called, in the stage's thread, when a stage starts, ends or fails.
    """

    on_change: Callable[[StageReport], None] = lambda _report: None
    _reports: dict[str, StageReport] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def snapshot(self) -> tuple[StageReport, ...]:
        """The stages in the order in which they were first named."""
        with self._lock:
            return tuple(self._reports.values())

    def expect(self, names: Sequence[str]) -> None:
        """Name the stages that will run; those known already keep their last report."""
        with self._lock:
            for name in names:
                self._reports.setdefault(name, StageReport(name))

    def update(self, report: StageReport, *, announce: bool = True) -> None:
        """Take a stage's report."""
        with self._lock:
            self._reports[report.name] = report
        if announce:
            self.on_change(report)


def run_stages(
    stages: Sequence[Stage],
    progress: Progress,
    *,
    stopping: Callable[[], bool] = lambda: False,
    workers: int = 4,
) -> None:
    """Run the stages, side by side where their order allows, and wait for the end.

    Args:
        stages: the graph; every name in `after` is one of them, and comes earlier.
        progress: receives the reports.
        stopping: once true, no further stage begins.
        workers: stages that run at once.

    Raises:
        Exception: what the first failed stage raised, after all that could run has ended.
    """
    progress.expect([stage.name for stage in stages])
    waiting = {stage.name: stage for stage in stages}
    done: set[str] = set()
    errors: list[BaseException] = []
    with ThreadPoolExecutor(workers, thread_name_prefix="stage") as pool:
        running: dict[Future[None], str] = {}
        while True:
            for stage in [] if stopping() else _ready(waiting, done):
                del waiting[stage.name]
                running[pool.submit(_run, stage, progress)] = stage.name
            if not running:
                break
            # The short time-out lets the main thread see signals while it waits.
            for future in wait(running, _POLL_SECONDS, FIRST_COMPLETED).done:
                name = running.pop(future)
                error = future.exception()
                if error is None:
                    done.add(name)
                else:
                    errors.append(error)
    if errors:
        raise errors[0]


def _ready(waiting: dict[str, Stage], done: set[str]) -> Iterator[Stage]:
    yield from [stage for stage in waiting.values() if done.issuperset(stage.after)]


def _run(stage: Stage, progress: Progress) -> None:
    started = time.time()
    progress.update(StageReport(stage.name, "running", started=started))

    def report(detail: str) -> None:
        running = StageReport(stage.name, "running", detail, started=started)
        progress.update(running, announce=False)

    try:
        detail = stage.work(report)
    except BaseException as error:
        text = str(error).strip() or type(error).__name__
        first = text.splitlines()[0]
        seconds = time.time() - started
        progress.update(StageReport(stage.name, "failed", first, seconds, started))
        raise
    progress.update(StageReport(stage.name, "done", detail, time.time() - started, started))
