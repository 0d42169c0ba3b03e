"""`caspers sync ...`: tables brought to Postgres, their plans, and both sides compared."""

from typing import Annotated

import typer

from caspers_lib.cli.options import DEFAULT_ROOT, AsJson, Root, local_root

__all__ = ["sync"]


def sync(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[check|plan] [NAME]...",
            help="Which tables: refunds, complaints, orders, ...; all if none is named.",
        ),
    ] = None,
    root: Root = DEFAULT_ROOT,
    dsn: Annotated[
        str | None,
        typer.Option("--dsn", help="Postgres to write to; the embedded one if not given."),
    ] = None,
    reload: Annotated[
        bool, typer.Option("--reload", help="Load the tables whole, writing what differs.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring tables to Postgres; `check` compares both sides, `plan` tells what would be done.

    `check` ends with exit code 1 where a table differs.
    """
    from caspers_lib.cli import sync_view

    names = list(words or ())
    action = names.pop(0) if names and names[0] in ("check", "plan") else "run"
    if action != "run" and reload:
        raise typer.BadParameter(f"`caspers sync {action}` loads nothing.", param_hint="--reload")
    local = local_root(root)
    if action == "check":
        if not sync_view.show_sync_check(local, names, dsn=dsn, as_json=as_json):
            raise typer.Exit(1)
    elif action == "plan":
        sync_view.show_sync_plan(local, names, dsn=dsn, as_json=as_json)
    else:
        sync_view.run_sync(local, names, dsn=dsn, reload=reload, as_json=as_json)
