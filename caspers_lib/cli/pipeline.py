"""`caspers pipeline ...`: bronze, silver and gold."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from caspers_lib.cli.options import DEFAULT_ROOT, AsJson, Root, absolute, local_root

__all__ = ["pipeline_app"]

pipeline_app = typer.Typer(help="The tables: bronze, silver and gold.", no_args_is_help=True)


@pipeline_app.command("run")
def pipeline_run(
    root: Root = DEFAULT_ROOT,
    full_refresh: Annotated[
        bool, typer.Option("--full-refresh", help="Compute every table anew from the event files.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take the event files that are new through every table, once."""
    from caspers_lib.cli.pipeline_view import run_pipeline

    run_pipeline(local_root(root), full_refresh=full_refresh, as_json=as_json)


@pipeline_app.command("graph")
def pipeline_graph(
    root: Root = DEFAULT_ROOT,
    form: Annotated[
        Literal["mermaid", "svg"], typer.Option("--format", help="Text for Mermaid, or a picture.")
    ] = "mermaid",
    out: Annotated[Path | None, typer.Option(help="File; printed if not given.")] = None,
) -> None:
    """Draw the tables and what flows into what, with their rows and last update."""
    from caspers_lib.cli.pipeline_view import read_graph

    picture = read_graph(local_root(root)).render(form)
    path = absolute(out)
    if path is None:
        print(picture, end="")
    else:
        path.write_text(picture, encoding="utf-8")
        print(path)
