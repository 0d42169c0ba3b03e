"""A live demo with real parts whose stages are made to fail: page up, numbers right."""

import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Thread

import pytest

from caspers_lib.errors import PipelineError
from caspers_lib.runtime.demo import Demo, RoundResult
from caspers_lib.runtime.local_business import LocalBusiness
from caspers_lib.runtime.local_replay import ReplayOptions
from caspers_lib.runtime.local_root import LocalRoot
from caspers_lib.runtime.settings import load_settings
from caspers_lib.runtime.stages import Report, RetryPolicy, Stage
from tests.e2e.conftest import RunCaspers, assert_consistent, status_of

pytestmark = [pytest.mark.spark, pytest.mark.full]
RETRY = RetryPolicy(attempts=2, pause=0.1, round_pause=0.1)


@dataclass
class Faulty(LocalBusiness):
    """The business, whose stages fail so many times more."""

    faults: dict[str, int] = field(default_factory=dict)

    def start_up(self, target: str = "all") -> tuple[Stage, ...]:
        return tuple(
            replace(stage, work=self.failing(stage.name, stage.work))
            for stage in super().start_up(target)
        )

    def write_events(self, report: Report, *, stopping: Callable[[], bool] = lambda: False) -> str:
        def write(report: Report) -> str:
            return super(Faulty, self).write_events(report, stopping=stopping)

        return self.failing("Canonical_Data", write)(report)

    def failing(self, name: str, work: Callable[[Report], str]) -> Callable[[Report], str]:
        """The work, which fails before or after it is done, in turn."""

        def run(report: Report) -> str:
            left = self.faults.get(name, 0)
            if left:
                self.faults[name] = left - 1
                if left % 2:
                    work(report)
                raise PipelineError("Python worker failed to connect back.")
            return work(report)

        return run


@contextmanager
def watched(url: str) -> Iterator[list[str]]:
    """Asks for the page all the time; what went wrong."""
    problems: list[str] = []
    stop = Event()

    def watch() -> None:
        while not stop.wait(0.5):
            try:
                with urllib.request.urlopen(f"{url}/live", timeout=60) as page:  # noqa: S310
                    page.read()
            except OSError as error:
                problems.append(repr(error))

    thread = Thread(target=watch)
    thread.start()
    try:
        yield problems
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("minutes", [0, 10])
def test_each_stage_of_a_live_demo_fails_and_in_the_end_the_numbers_agree(
    warm_caspers: RunCaspers, small_dataset: Path, tmp_path: Path, minutes: int
) -> None:
    settings = load_settings({"start_day": 1, "complaint_rate": 0.5}, environment={})
    business = Faulty(
        LocalRoot(tmp_path / "root", settings),
        dataset=small_dataset,
        options=ReplayOptions(speed=2000.0 if not minutes else 60.0),
    )
    demo = Demo(business, port=0, tick_seconds=1.0, retry=RETRY)
    once = {"Dimension_Tables", "Databricks_App_Refund_Manager"}
    names = [stage.name for stage in business.start_up() if stage.name not in once]
    failed: set[str] = set()
    stop, end = Event(), time.monotonic() + 60 * minutes

    def on_round(result: RoundResult) -> None:
        failed.update(failure.stage for failure in result.failures)
        if any(business.faults.values()):
            return
        if time.monotonic() < end:
            business.faults = dict.fromkeys(names, RETRY.attempts)
        elif not result.failures:
            stop.set()

    with demo.running():
        assert demo.url is not None
        with watched(demo.url) as problems:
            # Once is a transient fault, twice is for good.
            business.faults = dict.fromkeys((stage.name for stage in business.start_up()), 1)
            assert demo.first_round().failures == ()
            business.faults = dict.fromkeys(names, RETRY.attempts)
            demo.live(stop, on_round)
            assert demo.first_round().failures == ()
    assert problems == []
    assert failed == {name for name in names if name != "Canonical_Data"}
    assert_consistent(status_of(warm_caspers, business.root.path))
    checked = warm_caspers("sync", "check", "--json", "--root", business.root.path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
