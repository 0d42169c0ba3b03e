"""A demo whose parts fail: what goes on, what is shown, and what alone ends it."""

import errno
import io
import os
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import pytest
from rich.console import Console

from caspers_lib.cli.demo_view import run_demo, status_table
from caspers_lib.errors import (
    CaspersError,
    PipelineError,
    PostgresError,
    ReplayLockedError,
    ReplayStateError,
)
from caspers_lib.replay.clock import DAY, start_clock
from caspers_lib.replay.state import STATE_FILE, ReplayState, StateStore
from caspers_lib.runtime.demo import Demo, RoundResult
from caspers_lib.runtime.local_business import LocalBusiness
from caspers_lib.runtime.local_root import LocalRoot, Owner, owned
from caspers_lib.runtime.replay_status import ReplayStatus
from caspers_lib.runtime.settings import load_settings
from caspers_lib.runtime.stages import Report, RetryPolicy, Stage
from caspers_lib.runtime.status import ConsoleStatus, DemoStatus, PathRows, SyncedStatus

WALL = 1_773_576_000.0
EPOCH = 1_704_067_200
QUICK = RetryPolicy(attempts=2, pause=0.0, round_pause=0.0)


@dataclass
class Parts(LocalBusiness):
    """A business without servers, of which parts fail when they are told to.

    Args:
        faults: errors to come by stage; the next one is raised by each try.
    """

    faults: dict[str, list[BaseException]] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)

    def work(self, name: str) -> Callable[[Report], str]:
        def run(_report: Report) -> str:
            self.ran.append(name)
            if self.faults.get(name):
                raise self.faults[name].pop(0)
            return f"{name} did it"

        return run

    def start_up(self, target: str = "all") -> tuple[Stage, ...]:  # noqa: ARG002 - any target
        return (
            Stage("Canonical_Data", self.work("Canonical_Data")),
            Stage("Local_Spark", self.work("Local_Spark")),
            Stage("Pipeline", self.work("Pipeline"), ("Canonical_Data", "Local_Spark")),
            Stage("Stream", self.work("Stream"), ("Pipeline",)),
            Stage("Other", self.work("Other"), ("Pipeline",)),
            Stage("Sync", self.work("Sync"), ("Stream",)),
        )

    def write_events(self, report: Report, *, stopping: Callable[[], bool] = lambda: False) -> str:  # noqa: ARG002
        return self.work("tick")(report)

    def check(self, target: str = "all") -> None:
        """Needs nothing."""


def state(wall: float = WALL) -> ReplayState:
    clock = start_clock(wall, epoch=EPOCH, start_day=70, speed=60)
    return ReplayState(
        simulation_start=wall,
        epoch=EPOCH,
        cycle_seconds=90 * DAY,
        shift_seconds=0,
        clock=clock,
        watermark=clock.virtual_time(wall),
    )


@pytest.fixture
def business(tmp_path: Path) -> Parts:
    root = LocalRoot(tmp_path, load_settings(environment={}))
    with owned(root, Owner.this_process("caspers replay tick")):
        pass  # it is a ROOT already, in which a test may put a state
    return Parts(root, now=lambda: WALL)


def demo_of(business: Parts) -> Demo:
    return Demo(business, port=0, tick_seconds=0.01, retry=QUICK)


def live(demo: Demo, enough: Callable[[RoundResult], bool]) -> Iterator[RoundResult]:
    """The rounds of a live demo until one is enough; the page answers after each."""
    stop, results = Event(), []

    def on_round(result: RoundResult) -> None:
        assert demo.url is not None
        with urllib.request.urlopen(f"{demo.url}/live") as page:  # noqa: S310 - our own
            assert page.status == 200
        results.append(result)
        if enough(result):
            stop.set()

    demo.live(stop, on_round)
    yield from results


def states(demo: Demo) -> dict[str, str]:
    return {report.name: report.state for report in demo.progress.snapshot()}


def test_each_stage_fails_for_good_once_and_the_next_round_does_it(business: Parts) -> None:
    names = [stage.name for stage in business.start_up()]
    business.faults = {name: [PipelineError(f"no {name}")] * QUICK.attempts for name in names}
    seen: set[str] = set()
    demo = demo_of(business)
    with demo.running():
        first = demo.first_round()
        seen |= {failure.stage for failure in first.failures}
        for result in live(demo, lambda result: not result.failures):
            seen |= {failure.stage for failure in result.failures}
    # In a live demo the ticker writes the events.
    assert seen == {*names}
    assert set(states(demo).values()) == {"done"}
    assert all(not errors for errors in business.faults.values())


def test_a_failed_stage_stops_what_depends_on_it_for_that_round_only(business: Parts) -> None:
    business.faults["Stream"] = [PipelineError("lost")] * QUICK.attempts
    demo = demo_of(business)
    with demo.running():
        result = demo.first_round()
        assert [failure.stage for failure in result.failures] == ["Stream"]
        assert states(demo) | {"Other": "done", "Stream": "failed", "Sync": "waiting"} == states(
            demo
        )
        assert demo.live_status().failed[0].detail == "lost"
        list(live(demo, lambda _result: True))
    assert set(states(demo).values()) == {"done"}


@pytest.mark.parametrize(
    "error",
    [
        ReplayLockedError("another run writes"),
        ReplayStateError("the replay was begun with another dataset"),
        PostgresError("gone"),
        KeyError("any"),
        ConnectionResetError("reset"),
    ],
)
def test_a_tick_that_fails_is_shown_and_followed_by_the_next(
    business: Parts, error: Exception
) -> None:
    StateStore(business.root.replay_state).save(state())
    business.faults["tick"] = [error] * 3
    reports = []
    demo = demo_of(business)
    demo.progress.on_change = reports.append
    with demo.running():
        list(live(demo, lambda _result: business.ran.count("tick") > 5))
    told = [r.detail for r in reports if r.state == "failed"]
    assert told == [str(error) or "KeyError"] * 3
    assert states(demo)["Canonical_Data"] == "done"


def test_a_broken_state_ends_a_live_demo_with_its_sentence(business: Parts) -> None:
    store = StateStore(business.root.replay_state)
    store.save(state())
    business.faults["tick"] = [ReplayStateError("a sentence")]
    (store.folder / STATE_FILE).write_text("{")
    demo = demo_of(business)
    with demo.running(), pytest.raises(ReplayStateError, match="is not a state document"):
        demo.live(Event(), lambda _result: None)


def test_a_full_disk_ends_a_live_demo_with_its_sentence(business: Parts) -> None:
    business.faults["Sync"] = [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/root/x")]
    demo = demo_of(business)
    with demo.running(), pytest.raises(CaspersError, match=r"Sync: .*No space left") as ended:
        demo.live(Event(), lambda _result: None)
    assert "make room" in ended.value.hint


def shown(business: Parts, *, once: bool) -> str:
    """What the terminal shows of a demo until its first live round has ended."""
    # Stages print in threads of their own, which a capture would not see.
    console = Console(file=io.StringIO(), width=80)
    demo = demo_of(business)
    if not once:
        stopper = Thread(target=_interrupt_after_rounds, args=(business,))
        stopper.start()
    try:
        run_demo(demo, once=once, console=console)
    finally:
        business.ran.append("end")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def _interrupt_after_rounds(business: Parts) -> None:
    while business.ran.count("Local_Spark") < 4 and "end" not in business.ran:
        time.sleep(0.01)
    os.kill(os.getpid(), 2)


def test_once_a_stage_that_failed_for_good_is_the_exit(business: Parts) -> None:
    business.faults["Stream"] = [
        PipelineError("Python worker failed to connect back", hint="h")
    ] * 2
    with pytest.raises(PipelineError) as failed:
        shown(business, once=True)
    assert failed.value.message == "Stream: Python worker failed to connect back"
    assert failed.value.hint == "h; Sync did not run; `caspers demo --once` goes on from there"
    assert business.ran.count("Other") == 1


def test_once_an_error_that_is_not_ours_is_one_sentence_too(business: Parts) -> None:
    cause = "Traceback (most recent call last):\n  File \"x\", line 1\nKeyError: 'k'\n"
    business.faults["Other"] = [RuntimeError(cause)] * 2
    with pytest.raises(CaspersError, match=r"^Other: KeyError: 'k'$"):
        shown(business, once=True)


def test_the_terminal_says_what_is_tried_again_and_first_round_only_for_the_first(
    business: Parts,
) -> None:
    business.faults["Stream"] = [PipelineError("lost a worker")]
    first = shown(business, once=True)
    assert "first round: " in first
    assert "catching up" not in first
    assert "again Stream " in first
    assert "retry 1 of 1 after: lost a worker" in first

    StateStore(business.root.replay_state).save(state(WALL - 750))
    second = shown(business, once=True)
    assert "catching up: 12 h 30 min of events to go" in second
    assert "caught up with 12 h 30 min of events: " in second
    assert "first round" not in second


def test_a_live_terminal_says_a_failure_once_and_when_it_is_over(business: Parts) -> None:
    StateStore(business.root.replay_state).save(state())
    business.faults["Sync"] = [PostgresError("the server is gone")] * 5
    text = shown(business, once=False)
    lines = [line.split() for line in text.splitlines()]
    of_sync = [words[0] for words in lines if words[1:2] == ["Sync"]]
    assert of_sync == ["again", "failed", "done"], text
    assert "stopping after the running stages" in text


def test_no_name_of_a_table_is_cut_on_a_terminal_of_80_columns() -> None:
    names = [
        f"{schema}.{table}"
        for schema, table in (
            ("lakeflow", "gold_late_share_day"), ("complaints", "complaint_responses"),
            ("recommender", "refund_recommendations"), ("lakeflow", "all_events_quarantine"),
        )
    ]  # fmt: skip
    root = "/home/somebody/with/a/longer/name/projects/caspers"
    status = DemoStatus(
        root=root,
        dataset=PathRows(f"{root}/dataset/events.parquet", 785_000),
        events=PathRows(f"{root}/Volumes/caspersdev/simulator/events", 12_785_000),
        unreadable_files=(),
        tables={
            name: PathRows(f"{root}/warehouse/{name.replace('.', '/')}", 12_785_000)
            for name in names
        },
        replay=ReplayStatus("not_started"),
        postgres={
            "refunds": SyncedStatus(None, "recommender.pg_recommendations", 1),
            "complaints": SyncedStatus(None, "complaints.pg_complaint_responses", 1),
        },
        console=ConsoleStatus(None),
    )
    console = Console(width=80)
    with console.capture() as capture:
        console.print(status_table(status))
    for name in (*names, "recommender.pg_recommendations", "complaints.pg_complaint_responses"):
        assert name in capture.get()
    assert "12,785,000" in capture.get()
