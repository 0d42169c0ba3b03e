"""`caspers replay ...`: the replay of the dataset as events, steered like a tape."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from caspers_lib.cli.options import (
    DEFAULT_ROOT,
    AsJson,
    ChaosText,
    CycleDays,
    DatasetFile,
    EventLayout,
    MaxRate,
    Root,
    Speed,
    StartDay,
    absolute,
    local_root,
    replay_options,
)

if TYPE_CHECKING:
    from caspers_lib.replay.steering import Steering

__all__ = ["replay_app"]

replay_app = typer.Typer(help="The replay of the dataset as events.", no_args_is_help=True)


@replay_app.command("tick")
def replay_tick(
    root: Root = DEFAULT_ROOT,
    dataset: DatasetFile = None,
    start_day: StartDay = None,
    speed: Speed = None,
    max_rate: MaxRate = None,
    chaos: ChaosText = None,
    layout: EventLayout = None,
    cycle_days: CycleDays = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be.")] = False,
) -> None:
    """Write every event between the watermark and now."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from caspers_lib.cli.replay_view import preview_lines
    from caspers_lib.runtime.local_replay import local_replay
    from caspers_lib.runtime.local_root import Owner, owned
    from caspers_lib.runtime.replay_status import clock_warning

    local = local_root(root, start_day=start_day, speed_multiplier=speed, events_layout=layout)
    options = replay_options(speed, max_rate, chaos, cycle_days)
    path = absolute(dataset) or local.dataset_file
    replay, now = local_replay(local, path, options), time.time()
    if dry_run:
        print("\n".join(preview_lines(replay.preview(now), local.events, now)))
        return
    columns = TextColumn("writing events"), BarColumn(), MofNCompleteColumn()
    with (
        owned(local, Owner.this_process("caspers replay tick", path)),
        Progress(*columns, transient=True, console=Console(stderr=True)) as bar,
    ):
        task = bar.add_task("", total=replay.preview(now).events)
        tick = replay.tick(now, lambda count: bar.advance(task, count))
    print(f"{tick.events:,} events written to {local.events}")
    if warning := clock_warning(tick.state.seconds_ahead(now)):
        print(warning)


@replay_app.command("status")
def replay_status(
    root: Root = DEFAULT_ROOT, dataset: DatasetFile = None, as_json: AsJson = False
) -> None:
    """Say where the replay stands, and show the day that it plays."""
    from caspers_lib.cli.replay_view import replay_report_table
    from caspers_lib.runtime.replay_status import read_replay_report

    report = read_replay_report(local_root(root), time.time(), dataset=absolute(dataset))
    if as_json:
        print(json.dumps(report.as_document(), indent=2))
    else:
        Console().print(replay_report_table(report))


@replay_app.command("pause")
def replay_pause(root: Root = DEFAULT_ROOT) -> None:
    """Virtual time stands still; a running demo obeys at its next tick."""
    from caspers_lib.replay.steering import pause

    _steer(root, pause)


@replay_app.command("resume")
def replay_resume(root: Root = DEFAULT_ROOT) -> None:
    """Virtual time goes on at the speed it had; also after this machine's clock went back."""
    from caspers_lib.replay.steering import resume

    _steer(root, resume)


@replay_app.command("speed")
def replay_speed(
    speed: Annotated[float, typer.Argument(help="Virtual seconds a second.")],
    root: Root = DEFAULT_ROOT,
) -> None:
    """Play faster or slower from now on."""
    from caspers_lib.replay.steering import set_speed

    _steer(root, set_speed(speed))


@replay_app.command("seek")
def replay_seek(
    target: Annotated[str, typer.Argument(help="Dataset day (75, 75.5) or 2024-03-16T12:30.")],
    root: Root = DEFAULT_ROOT,
) -> None:
    """Go to a dataset day or timestamp.

    Forward, all that lies between is written; back, the same events are written again.
    """
    from caspers_lib.replay.steering import seek

    _steer(root, seek(target))


@replay_app.command("step")
def replay_step(
    duration: Annotated[str, typer.Argument(help="90s, 15m, 1h30m, 2d of virtual time.")],
    root: Root = DEFAULT_ROOT,
) -> None:
    """Go forward by a duration, paused or not."""
    from caspers_lib.replay.steering import parse_duration, step

    _steer(root, step(parse_duration(duration)))


@replay_app.command("reset")
def replay_reset(root: Root = DEFAULT_ROOT) -> None:
    """Go back to where the first run stood, at the speed it had."""
    from caspers_lib.replay.steering import reset

    _steer(root, reset)


def _steer(root: Path, change: "Steering") -> None:
    from caspers_lib.replay.engine import steer
    from caspers_lib.replay.state import StateStore
    from caspers_lib.replay.steering import course_line
    from caspers_lib.runtime.local_root import read_owner

    local = local_root(root)
    now = time.time()
    state = steer(StateStore(local.replay_state), change, now)
    print(course_line(state, now))
    owner, alive = read_owner(local)
    if not alive:
        print("no process plays it; `caspers replay tick` writes what is due")
    elif owner is not None:
        print(f"process {owner.pid} ({owner.command}) obeys at its next tick")
