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


@pipeline_app.command("export")
def pipeline_export(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Folder to write: new, empty, or of an earlier export."),
    ],
    form: Annotated[  # noqa: ARG001 - there is one so far
        Literal["dlt-meta"], typer.Option("--format", help="dlt-meta, since 0.1.0 called sdp-meta.")
    ] = "dlt-meta",
    catalog: Annotated[
        str | None, typer.Option(help="Catalog of the tables and volumes (default caspersdev).")
    ] = None,
    events: Annotated[
        str | None,
        typer.Option(help="Workspace folder of the event files; the catalog's volume events."),
    ] = None,
    files: Annotated[
        str | None,
        typer.Option(help="Workspace folder for these files; misc/dlt_meta in the volumes."),
    ] = None,
) -> None:
    """Write the pipeline as files for another tool."""
    from caspers_lib.medallion.dlt_meta import DltMetaSettings, write_dlt_meta
    from caspers_lib.runtime.settings import load_settings

    settings = load_settings({"catalog": catalog})
    volumes = f"/Volumes/{settings.catalog}/{settings.simulator_schema}"
    places = DltMetaSettings(
        events=events or f"{volumes}/{settings.events_volume}",
        folder=files or f"{volumes}/misc/dlt_meta",
        catalog=settings.catalog,
    )
    for path in write_dlt_meta(places, folder.absolute()):
        print(path)
