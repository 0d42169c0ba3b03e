"""The tree of `caspers up`, and what a failed task leaves to do."""

from pathlib import Path

import pytest
from rich.console import Console

from caspers_lib.cli.up_view import run_up, stage_tree
from caspers_lib.errors import PipelineError
from caspers_lib.runtime.demo import Demo
from caspers_lib.runtime.local_business import LocalBusiness
from caspers_lib.runtime.local_root import LocalRoot
from caspers_lib.runtime.settings import load_settings
from caspers_lib.runtime.stages import Report, RetryPolicy, Stage, StageReport


def work(_report: Report) -> str:
    return "did it"


GRAPH = (
    Stage("Data", work),
    Stage("Server", work),
    Stage("Pipeline", work, ("Data",)),
    Stage("Agent", work, ("Pipeline",)),
    Stage("Stream", work, ("Pipeline", "Server")),
)


def drawn(*reports: StageReport) -> str:
    console = Console(width=100, force_terminal=False)
    with console.capture() as said:
        console.print(stage_tree("target x", GRAPH, reports, now=110.0))
    return said.get()


def test_each_stage_stands_under_the_last_that_it_comes_after() -> None:
    lines = drawn(
        StageReport("Data", "done", "7 events [bold]", 2.04),
        StageReport("Pipeline", "running", "bronze", started=100.0),
        StageReport("Server", "failed", "no port", 1.0),
    ).splitlines()
    assert [line.rstrip() for line in lines] == [
        "target x",
        "├── ✓ Data  2.0 s  7 events [bold]",
        "│   └── ▸ Pipeline  10.0 s  bronze",
        "│       ├── · Agent",
        "│       └── · Stream  after Pipeline, Server",
        "└── ✗ Server  1.0 s  no port",
    ]


def test_a_stage_is_drawn_once_also_where_it_is_named_before_what_it_waits_for() -> None:
    turned = stage_tree("x", GRAPH[::-1], (), now=0.0)
    console = Console(width=100)
    with console.capture() as said:
        console.print(turned)
    assert [said.get().count(f" {stage.name}") for stage in GRAPH[:1]] == [1]
    assert len(said.get().splitlines()) == len(GRAPH) + 1


class Broken(LocalBusiness):
    """A business of three stages, of which one fails while another runs beside it."""

    def start_up(self, target: str = "all") -> tuple[Stage, ...]:  # noqa: ARG002 - any target
        def fail(_report: Report) -> str:
            raise PipelineError("a table is gone", hint="look for it")

        return (
            Stage("Data", work),
            Stage("Pipeline", fail, ("Data",)),
            Stage("Agent", work, ("Data",)),
            Stage("Stream", work, ("Pipeline",)),
        )

    def check(self, target: str = "all") -> None:
        """Needs nothing."""


def test_a_failed_task_stops_only_what_depends_on_it_and_says_how_to_go_on(
    tmp_path: Path,
) -> None:
    business = Broken(LocalRoot(tmp_path, load_settings(environment={})))
    retry = RetryPolicy(attempts=2, pause=0.0)
    demo = Demo(business, port=0, command="caspers up", target="free", retry=retry)
    console = Console(width=100)
    with console.capture() as said, pytest.raises(PipelineError) as failed:
        run_up(demo, console)
    assert failed.value.message == "Pipeline: a table is gone"
    assert failed.value.hint == (
        "look for it; Stream did not run; `caspers up --target free` goes on from there"
    )
    assert {r.name: r.state for r in demo.progress.snapshot()} == {
        "Data": "done",
        "Pipeline": "failed",
        "Agent": "done",
        "Stream": "waiting",
    }
    assert "✗ Pipeline" in said.get()
