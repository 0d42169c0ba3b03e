"""`caspers dataset ...`: the canonical dataset."""

import json
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from caspers_lib.cli.options import DEFAULT_ROOT, AsJson, CycleDays, Root, absolute, local_root

__all__ = ["dataset_app"]

dataset_app = typer.Typer(help="The canonical dataset.", no_args_is_help=True)


@dataset_app.command("generate")
def dataset_generate(
    root: Root = DEFAULT_ROOT,
    out: Annotated[Path | None, typer.Option(help="Folder; ROOT/dataset if not given.")] = None,
    seed: Annotated[int, typer.Option(help="Another seed makes another dataset.")] = 42,
    days: Annotated[int, typer.Option(help="Length, and length of a loop.")] = 90,
    scale: Annotated[float, typer.Option(help="Orders, as a multiple of about 75,000.")] = 1.0,
    start: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="First day, UTC.")] = (
        datetime(2024, 1, 1)
    ),
) -> None:
    """Make the canonical dataset; the same options give the same bytes."""
    from rich.console import Console
    from rich.progress import Progress

    from caspers_lib.replay.generator import generate_dataset
    from caspers_lib.runtime.local_root import Owner, owned

    local = local_root(root)
    folder = absolute(out) or local.dataset
    # A running demo must not find another dataset under its replay.
    lock = nullcontext() if out else owned(local, Owner.this_process("caspers dataset generate"))
    with lock, Progress(transient=True, console=Console(stderr=True)) as bar:
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
    root: Root = DEFAULT_ROOT,
    cycle_days: CycleDays = None,
    as_json: AsJson = False,
) -> None:
    """Validate a dataset and say what is in it."""
    from caspers_lib.replay.dataset_check import check_dataset

    file = absolute(path) or local_root(root).dataset_file
    report = check_dataset(file, cycle_days=cycle_days)
    print(json.dumps(report.as_document(), indent=2) if as_json else "\n".join(report.lines()))
