"""`caspers console`: the console alone, over any Postgres that the tables are synced to."""

from typing import Annotated

import typer

__all__ = ["console"]


def console(
    dsn: Annotated[
        str,
        typer.Option("--dsn", envvar="CASPERS_DSN", help="Postgres with the refunds and orders."),
    ],
    complaints_dsn: Annotated[
        str | None,
        typer.Option(
            "--complaints-dsn",
            envvar="CASPERS_COMPLAINTS_DSN",
            help="Postgres with the complaints; database caspers_complaints beside the other.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="The console's address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The console's port; 0 picks a free one.")] = 8000,
) -> None:
    """Serve the console over a Postgres that is there already; Ctrl-C stops it."""
    from caspers_lib.cli.console_view import run_console

    run_console(dsn, complaints_dsn, host=host, port=port)
