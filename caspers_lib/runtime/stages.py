"""Stages as a graph: each runs in a thread once what it comes after is done.

A stage can be run again at any time: what it has done already, it leaves as it is. So an error is
met by another try, and a stage that fails for good stops only what depends on it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from threading import Lock
from typing import Literal, TypeVar

from caspers_lib.errors import (
    ConsoleError,
    DatasetError,
    JavaError,
    ReplayStateError,
    RootError,
    SettingsError,
    first_cause,
    is_disk_full,
)

__all__ = ["Progress", "RetryPolicy", "Stage", "StageFailure", "StageReport", "run_stages"]

T = TypeVar("T")
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
class RetryPolicy:
    """How often a stage is tried.

    A busy machine makes Spark's workers, sockets and servers miss their time-outs in too many ways
    to list, so that every error is taken as transient but those that a person must see to.

    Args:
        attempts: tries in all, at least 1.
        pause: seconds before the second try; each later pause is twice as long.
        round_pause: seconds before the round that follows one with a failure.
        sleep: waits for some seconds.
        permanent: errors that another try meets again.
    """

    attempts: int = 4
    pause: float = 2.0
    round_pause: float = 5.0
    sleep: Callable[[float], object] = time.sleep
    permanent: tuple[type[Exception], ...] = (
        SettingsError, DatasetError, ReplayStateError, RootError, JavaError, ConsoleError,
    )  # fmt: skip

    def retries(self, error: BaseException, attempt: int) -> bool:
        """Whether the stage is tried again.

        Args:
            error: what it raised.
            attempt: which try that was, from 1.
        """
        return (
            attempt < self.attempts
            and isinstance(error, Exception)
            and not isinstance(error, self.permanent)
            and not is_disk_full(error)
        )

    def run(
        self,
        work: Callable[[], T],
        on_retry: Callable[[int, str], None],
        stopping: Callable[[], bool] = lambda: False,
    ) -> T:
        """The result of the first try that succeeds.

        Args:
            work: may be called any number of times.
            on_retry: called before each pause with the retry's number, from 1, and the cause.
            stopping: once true, no further try begins.

        Raises:
            BaseException: what the last try raised.
        """
        attempt = 1
        while True:
            try:
                return work()
            except BaseException as error:
                if not self.retries(error, attempt) or stopping():
                    raise
                cause = first_cause(error)
            on_retry(attempt, cause)
            self.sleep(self.pause * 2 ** (attempt - 1))
            attempt += 1


@dataclass(frozen=True, slots=True)
class StageFailure:
    """A stage that failed for good.

    Args:
        stage: its name.
        error: what its last try raised.
    """

    stage: str
    error: BaseException


@dataclass(frozen=True, slots=True)
class StageReport:
    """How far a stage is.

    Args:
        name: the stage's name.
        state: waiting, running, done or failed.
        detail: what it does or did, why it failed, or why it is tried again.
        seconds: wall-clock time it took, 0 until it ends.
        started: wall clock of its start, UTC epoch seconds; 0 while it waits.
        retry: which retry runs, 0 for the first try.
    """

    name: str
    state: State = "waiting"
    detail: str = ""
    seconds: float = 0.0
    started: float = 0.0
    retry: int = 0


@dataclass
class Progress:
    """What every stage last reported; safe to read from any thread.

    Args:
        on_change: called, in the stage's thread, when a stage or another try of it starts or ends.
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
    retry: RetryPolicy | None = None,
    stopping: Callable[[], bool] = lambda: False,
    workers: int = 4,
) -> tuple[StageFailure, ...]:
    """Run the stages, side by side where their order allows, and wait for the end.

    Args:
        stages: the graph; every name in `after` is one of them, and comes earlier.
        progress: receives the reports.
        retry: how often each is tried; the default policy if None.
        stopping: once true, no further stage or try begins.
        workers: stages that run at once.

    Returns:
        The stages that failed for good, in the order in which they did.
    """
    progress.expect([stage.name for stage in stages])
    retry = retry or RetryPolicy()
    waiting = {stage.name: stage for stage in stages}
    done: set[str] = set()
    failures: list[StageFailure] = []
    with ThreadPoolExecutor(workers, thread_name_prefix="stage") as pool:
        running: dict[Future[None], str] = {}
        while True:
            for stage in [] if stopping() else _ready(waiting, done):
                del waiting[stage.name]
                future = pool.submit(_run, stage, progress, retry, stopping)
                running[future] = stage.name
            if not running:
                break
            # The short time-out lets the main thread see signals while it waits.
            for future in wait(running, _POLL_SECONDS, FIRST_COMPLETED).done:
                name = running.pop(future)
                error = future.exception()
                if error is None:
                    done.add(name)
                else:
                    failures.append(StageFailure(name, error))
    if failures and not stopping():
        failed = ", ".join(failure.stage for failure in failures)
        for name in waiting:
            progress.update(StageReport(name, detail=f"not run, as {failed} failed"))
    return tuple(failures)


def _ready(waiting: dict[str, Stage], done: set[str]) -> Iterator[Stage]:
    yield from [stage for stage in waiting.values() if done.issuperset(stage.after)]


def _run(
    stage: Stage, progress: Progress, retry: RetryPolicy, stopping: Callable[[], bool]
) -> None:
    started = time.time()
    retries, cause = 0, ""

    def running(detail: str = "") -> StageReport:
        if retries:
            again = f"retry {retries} of {retry.attempts - 1} after: {cause}"
            detail = f"{detail}; {again}" if detail else again
        return StageReport(stage.name, "running", detail, started=started, retry=retries)

    def report(detail: str) -> None:
        progress.update(running(detail), announce=False)

    def on_retry(number: int, reason: str) -> None:
        nonlocal retries, cause
        retries, cause = number, reason
        progress.update(running())

    progress.update(running())
    try:
        detail = retry.run(lambda: stage.work(report), on_retry, stopping)
    except BaseException as error:
        seconds = time.time() - started
        progress.update(StageReport(stage.name, "failed", first_cause(error), seconds, started))
        raise
    progress.update(StageReport(stage.name, "done", detail, time.time() - started, started))
