"""The command line: `caspers ...`.

An error is one line and a hint on stderr, exit code 1; bad usage is exit code 2.
"""

import json
import sys
import time
from typing import Annotated

import typer
from rich.console import Console

from caspers_lib import __version__
from caspers_lib.cli.agent import agent_app
from caspers_lib.cli.console import console
from caspers_lib.cli.dataset import dataset_app
from caspers_lib.cli.options import (
    DEFAULT_ROOT,
    AsJson,
    ChaosText,
    ComplaintRate,
    DatasetFile,
    EventLayout,
    MaxRate,
    Root,
    Speed,
    StartDay,
    TargetOption,
    absolute,
    local_root,
    replay_options,
)
from caspers_lib.cli.pipeline import pipeline_app
from caspers_lib.cli.replay import replay_app
from caspers_lib.cli.stream import stream
from caspers_lib.cli.sync import sync
from caspers_lib.errors import CaspersError, first_cause

__all__ = ["app", "main"]

app = typer.Typer(
    name="caspers",
    help="Casper's Kitchens: a living ghost-kitchen business on a lakehouse.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(dataset_app, name="dataset")
app.add_typer(replay_app, name="replay")
app.add_typer(pipeline_app, name="pipeline")
app.add_typer(agent_app, name="agent")
app.command()(stream)
app.command()(sync)
app.command()(console)

# Whatever else is missing comes with `local`.
_EXTRAS = {"databricks": "databricks"}
_LIBRARIES = frozenset(
    {"deltalake", "duckdb", "_duckdb", "grpc", "psycopg", "py4j", "pyarrow", "pyspark"}
)


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
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("caspers_lib"):
            raise
        _print_error(
            CaspersError(
                f"This command needs the package {error.name}, which is not installed",
                hint=f"pip install 'caspers_lib[{_EXTRAS.get(error.name or '', 'local')}]'",
            )
        )
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        # What a library says of the outside world; an error of ours keeps its trace.
        if type(error).__module__.partition(".")[0] not in _LIBRARIES:
            raise
        _print_error(
            CaspersError(
                first_cause(error),
                hint="nothing is half-written: run the command again once that is cured",
            )
        )
        sys.exit(1)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def demo(
    root: Root = DEFAULT_ROOT,
    once: Annotated[bool, typer.Option("--once", help="One full round, then exit.")] = False,
    dataset: DatasetFile = None,
    start_day: StartDay = None,
    speed: Speed = None,
    max_rate: MaxRate = None,
    chaos: ChaosText = None,
    layout: EventLayout = None,
    complaint_rate: ComplaintRate = None,
    host: Annotated[str, typer.Option(help="The console's address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The console's port; 0 picks a free one.")] = 8000,
) -> None:
    """Run the whole business here, live, with its console; Ctrl-C stops it."""
    from caspers_lib.cli.demo_view import run_demo
    from caspers_lib.runtime.demo import Demo
    from caspers_lib.runtime.local_business import LocalBusiness

    local = local_root(
        root,
        start_day=start_day,
        speed_multiplier=speed,
        complaint_rate=complaint_rate,
        events_layout=layout,
    )
    options = replay_options(speed, max_rate, chaos)
    business = LocalBusiness(local, dataset=absolute(dataset), options=options)
    run_demo(Demo(business, host=host, port=port), once=once, console=Console())


@app.command()
def up(
    root: Root = DEFAULT_ROOT,
    target: TargetOption = "default",
    dataset: DatasetFile = None,
    start_day: StartDay = None,
    speed: Speed = None,
    complaint_rate: ComplaintRate = None,
    host: Annotated[str, typer.Option(help="The console's address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The console's port; 0 picks a free one.")] = 0,
) -> None:
    """Run a target's tasks here once, as the workspace would, and show the tree."""
    from caspers_lib.cli.up_view import run_up
    from caspers_lib.runtime.demo import Demo
    from caspers_lib.runtime.local_business import LocalBusiness

    local = local_root(
        root,
        start_day=start_day,
        speed_multiplier=speed,
        complaint_rate=complaint_rate,
        target=target,
    )
    options = replay_options(speed, None, None)
    business = LocalBusiness(local, dataset=absolute(dataset), options=options)
    run_up(Demo(business, host=host, port=port, command="caspers up", target=target), Console())


@app.command()
def status(root: Root = DEFAULT_ROOT, as_json: AsJson = False) -> None:
    """Say what is where: events, tables, replay, Postgres and console."""
    from caspers_lib.cli.demo_view import status_table
    from caspers_lib.runtime.status import read_status

    found = read_status(local_root(root), time.time())
    if as_json:
        print(json.dumps(found.as_document(), indent=2))
    else:
        Console().print(status_table(found))


@app.command()
def destroy(
    root: Root = DEFAULT_ROOT,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    workspace: Annotated[
        bool,
        typer.Option("--workspace", help="What the tasks made in a Databricks workspace instead."),
    ] = False,
    target: TargetOption = "default",
    catalog: Annotated[
        str | None, typer.Option("--catalog", help="The catalog it was deployed to.")
    ] = None,
    warehouse_id: Annotated[
        str | None, typer.Option("--warehouse-id", help="SQL warehouse to read the account with.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", help="Profile of the Databricks configuration.")
    ] = None,
) -> None:
    """Remove everything the demo made under ROOT, or the tasks in a workspace."""
    if workspace:
        _destroy_workspace(target, catalog, warehouse_id, profile, dry_run=dry_run)
        return
    from caspers_lib.runtime.destroy import destroy_root, removable

    local = local_root(root, checked=False)
    parts = removable(local) if dry_run else destroy_root(local)
    verb = "would remove" if dry_run else "removed"
    for part in parts:
        print(f"{verb} {part}")
    if not parts:
        print(f"nothing to remove under {local.path}")


def _destroy_workspace(
    target: str,
    catalog: str | None,
    warehouse_id: str | None,
    profile: str | None,
    *,
    dry_run: bool,
) -> None:
    from caspers_lib.runtime.settings import load_settings
    from caspers_lib.workspace import workspace_client
    from caspers_lib.workspace.destroy_view import destroy_from_here

    settings = load_settings({"target": target, "catalog": catalog, "warehouse_id": warehouse_id})
    destroy_from_here(workspace_client(profile), settings, print, dry_run=dry_run)


def _print_error(error: CaspersError) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"error: {error.message}", style="red", markup=False)
    if error.hint:
        console.print(f"hint: {error.hint}", markup=False)
