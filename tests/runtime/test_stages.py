"""Stages that fail: which are tried again, what they stop, and what is said."""

import errno
import os
import threading
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caspers_lib.errors import (
    DatasetError,
    EngineError,
    PipelineError,
    PostgresError,
    ReplayLockedError,
    ReplayStateError,
    SettingsError,
)
from caspers_lib.runtime.stages import Progress, Report, RetryPolicy, Stage, StageReport, run_stages


class Faults:
    """Work that fails a number of times."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error, self.left, self.calls = error, times, 0

    def __call__(self, report: Report) -> str:
        self.calls += 1
        report(f"try {self.calls}")
        if self.left:
            self.left -= 1
            raise self.error
        return "did it"


def quick(attempts: int = 3) -> tuple[RetryPolicy, list[float]]:
    """A policy that doesn't sleep, and the pauses that it would have made."""
    pauses: list[float] = []
    return RetryPolicy(attempts, pause=2.0, sleep=pauses.append), pauses


def test_a_transient_fault_is_tried_again_and_said_with_its_cause() -> None:
    announced: list[StageReport] = []
    progress = Progress(announced.append)
    during: list[str] = []
    faults = Faults(PipelineError("Python worker failed to connect back.\n\tat org.apache"), 2)

    def work(report: Report) -> str:
        answer = faults(report)
        during.extend(r.detail for r in progress.snapshot())
        return answer

    retry, pauses = quick()
    assert run_stages([Stage("Stream", work)], progress, retry=retry) == ()
    assert pauses == [2.0, 4.0]
    cause = "Python worker failed to connect back."
    assert [(r.state, r.detail, r.retry) for r in announced] == [
        ("running", "", 0),
        ("running", f"retry 1 of 2 after: {cause}", 1),
        ("running", f"retry 2 of 2 after: {cause}", 2),
        ("done", "did it", 0),
    ]
    assert during == [f"try 3; retry 2 of 2 after: {cause}"]


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (PipelineError("a worker was lost"), 3),
        (EngineError("Spark doesn't start"), 3),
        (PostgresError("the server is gone"), 3),
        (ReplayLockedError("another run"), 3),
        (ConnectionResetError("reset"), 3),
        (RuntimeError("[DELTA_CONCURRENT_APPEND]"), 3),
        (SettingsError("no such model"), 1),
        (DatasetError("no dataset"), 1),
        (ReplayStateError("no state document"), 1),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 1),
    ],
)
def test_what_a_person_must_see_to_is_not_tried_again(error: Exception, calls: int) -> None:
    faults, (retry, _) = Faults(error, 9), quick()
    (failure,) = run_stages([Stage("Stage", faults)], Progress(), retry=retry)
    assert failure.stage == "Stage"
    assert failure.error is error
    assert faults.calls == calls


def test_a_full_disk_is_known_also_from_the_error_that_led_to_another() -> None:
    def work(_report: Report) -> str:
        calls.append(1)
        raise PipelineError("can't write") from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    calls: list[int] = []
    assert run_stages([Stage("Stage", work)], Progress(), retry=quick()[0])
    assert len(calls) == 1


def test_nobody_is_kept_waiting_by_retries_once_it_is_stopping() -> None:
    faults, stopping = Faults(PipelineError("lost"), 9), threading.Event()

    def work(report: Report) -> str:
        stopping.set()
        return faults(report)

    graph = [Stage("First", work), Stage("Second", faults, ("First",))]
    (failure,) = run_stages(graph, Progress(), retry=quick()[0], stopping=stopping.is_set)
    assert failure.stage == "First"
    assert faults.calls == 1


@st.composite
def graphs(draw: Callable[..., object]) -> dict[str, tuple[tuple[str, ...], int]]:
    """Stages in order: what each comes after, and how often it fails."""
    names = [f"s{number}" for number in range(draw(st.integers(1, 6)))]  # type: ignore[call-overload]
    return {
        name: (
            tuple(draw(st.sets(st.sampled_from(names[:at])))) if at else (),  # type: ignore[arg-type]
            draw(st.integers(0, 4)),  # type: ignore[dict-item]
        )
        for at, name in enumerate(names)
    }


@given(graphs())
def test_a_stage_that_fails_for_good_stops_what_depends_on_it_and_nothing_else(
    graph: dict[str, tuple[tuple[str, ...], int]],
) -> None:
    retry, progress = quick()[0], Progress()
    works = {name: Faults(PipelineError(name), times) for name, (_, times) in graph.items()}
    stages = [Stage(name, works[name], after) for name, (after, _) in graph.items()]
    failures = run_stages(stages, progress, retry=retry)
    expected: dict[str, str] = {}
    for name, (after, times) in graph.items():
        runs = all(expected[other] == "done" for other in after)
        state = "failed" if times >= retry.attempts else "done"
        expected[name] = state if runs else "waiting"
    reports = {report.name: report for report in progress.snapshot()}
    assert {name: report.state for name, report in reports.items()} == expected
    failed = [name for name, state in expected.items() if state == "failed"]
    assert Counter(failure.stage for failure in failures) == Counter(failed)
    for name, state in expected.items():
        assert (works[name].calls == 0) == (state == "waiting")
        if state == "waiting":
            assert reports[name].detail.startswith("not run, as ")
