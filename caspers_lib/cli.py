"""The command line: `caspers ...`.

Contract: DESIGN section 10. An error is one line and a hint on stderr, exit code 1; bad usage 2.
"""

import json
import sys
import time
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from caspers_lib import __version__
from caspers_lib.errors import CaspersError

if TYPE_CHECKING:
    from caspers_lib.runtime.local_root import LocalRoot

__all__ = ["app", "main"]

app = typer.Typer(
    name="caspers",
    help="Casper's Kitchens: a living ghost-kitchen business on a lakehouse.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
dataset_app = typer.Typer(help="The canonical dataset.", no_args_is_help=True)
replay_app = typer.Typer(help="The replay of the dataset as events.", no_args_is_help=True)
app.add_typer(dataset_app, name="dataset")
app.add_typer(replay_app, name="replay")

Root = Annotated[
    Path, typer.Option("--root", envvar="CASPERS_ROOT", help="Folder of all local state.")
]
DatasetFile = Annotated[
    Path | None,
    typer.Option("--dataset", help="Events file to replay; the generated one if not given."),
]
StartDay = Annotated[
    int | None, typer.Option("--start-day", help="Dataset day of the first run (default 70).")
]
Speed = Annotated[
    float | None,
    typer.Option("--speed", help="Virtual seconds a second, from now on (at first 60)."),
]
ComplaintRate = Annotated[
    float | None,
    typer.Option("--complaint-rate", help="Share of orders that complain (default 0.15)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
_DEFAULT_ROOT = Path(".caspers")


def main() -> None:
    """Run the command line; the console script `caspers`."""
    try:
        app()
    except CaspersError as error:
        _print_error(error)
        sys.exit(1)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _print_error(
            CaspersError(
                f"{place}{error.strerror or error}",
                hint="nothing is half-written: run the command again once that is cured",
            )
        )
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def demo(
    root: Root = _DEFAULT_ROOT,
    once: Annotated[bool, typer.Option("--once", help="One full round, then exit.")] = False,
    dataset: DatasetFile = None,
    start_day: StartDay = None,
    speed: Speed = None,
    complaint_rate: ComplaintRate = None,
    host: Annotated[str, typer.Option(help="The console's address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The console's port; 0 picks a free one.")] = 8000,
) -> None:
    """Run the whole business here, live, with its console; Ctrl-C stops it."""
    from caspers_lib.runtime.demo import Demo
    from caspers_lib.runtime.demo_view import run_demo
    from caspers_lib.runtime.local_business import LocalBusiness

    local = _local_root(
        root, start_day=start_day, speed_multiplier=speed, complaint_rate=complaint_rate
    )
    business = LocalBusiness(local, dataset=_absolute(dataset), speed=speed)
    run_demo(Demo(business, host=host, port=port), once=once, console=Console())


@app.command()
def status(root: Root = _DEFAULT_ROOT, as_json: AsJson = False) -> None:
    """Say what is where: events, tables, replay, Postgres and console."""
    from caspers_lib.runtime.demo_view import status_table
    from caspers_lib.runtime.status import read_status

    found = read_status(_local_root(root), time.time())
    if as_json:
        print(json.dumps(found.as_document(), indent=2))
    else:
        Console().print(status_table(found))


@app.command()
def destroy(
    root: Root = _DEFAULT_ROOT,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Remove everything the demo made under ROOT."""
    from caspers_lib.runtime.destroy import destroy_root, removable

    local = _local_root(root)
    parts = removable(local) if dry_run else destroy_root(local)
    verb = "would remove" if dry_run else "removed"
    for part in parts:
        print(f"{verb} {part}")
    if not parts:
        print(f"nothing to remove under {local.path}")


@dataset_app.command("generate")
def dataset_generate(
    root: Root = _DEFAULT_ROOT,
    out: Annotated[Path | None, typer.Option(help="Folder; ROOT/dataset if not given.")] = None,
    seed: Annotated[int, typer.Option(help="Another seed makes another dataset.")] = 42,
    days: Annotated[int, typer.Option(help="Length, and length of a loop.")] = 90,
    scale: Annotated[float, typer.Option(help="Orders, as a multiple of about 75,000.")] = 1.0,
    start: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="First day, UTC.")] = (
        datetime(2024, 1, 1)
    ),
) -> None:
    """Make the canonical dataset; the same options give the same bytes."""
    from rich.progress import Progress

    from caspers_lib.replay.generator import generate_dataset
    from caspers_lib.runtime.local_root import Owner, owned

    local = _local_root(root)
    folder = _absolute(out) or local.dataset
    # A running demo must not find another dataset under its replay.
    lock = nullcontext() if out else owned(local, Owner.this_process("caspers dataset generate"))
    with lock, Progress(transient=True) as bar:
        task = bar.add_task("making the dataset", total=1.0)
        path = generate_dataset(
            folder,
            seed=seed,
            days=days,
            scale=scale,
            start=start.date(),
            progress=lambda done: bar.update(task, completed=done),
        )
    print(path)


@dataset_app.command("check")
def dataset_check(
    path: Annotated[Path | None, typer.Argument(help="An events file; the generated one.")] = None,
    root: Root = _DEFAULT_ROOT,
) -> None:
    """Validate a dataset and say what is in it."""
    from caspers_lib.replay.dataset_check import check_dataset

    report = check_dataset(_absolute(path) or _local_root(root).dataset_file)
    print("\n".join(report.lines()))


@replay_app.command("tick")
def replay_tick(
    root: Root = _DEFAULT_ROOT,
    dataset: DatasetFile = None,
    start_day: StartDay = None,
    speed: Speed = None,
) -> None:
    """Write every event between the watermark and now."""
    from caspers_lib.runtime.local_business import LocalBusiness
    from caspers_lib.runtime.local_root import Owner, owned

    local = _local_root(root, start_day=start_day, speed_multiplier=speed)
    business = LocalBusiness(local, dataset=_absolute(dataset), speed=speed)
    with owned(local, Owner.this_process("caspers replay tick", business.dataset_file)):
        tick = business.tick()
    print(f"{tick.events:,} events written to {local.events}")


def _local_root(root: Path, **explicit: object) -> "LocalRoot":
    from caspers_lib.runtime.local_root import LocalRoot
    from caspers_lib.runtime.settings import load_settings

    return LocalRoot(root.absolute(), load_settings(explicit))


def _absolute(path: Path | None) -> Path | None:
    return path.absolute() if path else None


def _print_error(error: CaspersError) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"error: {error.message}", style="red", markup=False)
    if error.hint:
        console.print(f"hint: {error.hint}", markup=False)
