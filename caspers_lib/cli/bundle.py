"""`caspers bundle ...`: the bundle that deploys the business to a workspace."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from caspers_lib.cli.options import AsJson

__all__ = ["bundle_app"]

bundle_app = typer.Typer(help="The bundle of a workspace.", no_args_is_help=True)


@bundle_app.callback()
def bundle() -> None:
    """The bundle of a workspace."""


@bundle_app.command("check")
def bundle_check(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Folder of databricks.yml.")
    ] = Path("examples/bundle"),
    built: Annotated[
        bool, typer.Option("--built", help="The wheel must be built already.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Find what a deployment would stumble over, without a workspace.

    Ends with exit code 1 if there is anything.
    """
    from caspers_lib.runtime.bundle_check import check_bundle
    from caspers_lib.runtime.bundle_file import read_bundle
    from caspers_lib.runtime.settings import Settings

    fields = [name.upper() for name in Settings.model_fields]
    problems = check_bundle(folder, settings_fields=fields, built=built)
    bundle = read_bundle(folder)
    counts = {"targets": len(bundle.targets), **bundle.counts}
    if as_json:
        print(json.dumps({**counts, "problems": [asdict(problem) for problem in problems]}))
    else:
        for problem in problems:
            print(f"{problem.where}: {problem.what} ({problem.hint})")
        if not problems:
            said = (
                f"{n} {what.removesuffix('s') if n == 1 else what}" for what, n in counts.items()
            )
            print("the bundle is fine: " + ", ".join(said))
    if problems:
        raise typer.Exit(1)
