"""`caspers stream ...`: the agents' streams, one at a time."""

from typing import Annotated, Literal

import typer

from caspers_lib.cli.options import DEFAULT_ROOT, AsJson, ComplaintRate, Root, local_root

__all__ = ["stream"]


def stream(
    name: Annotated[
        Literal["refunds", "complaints", "responses"], typer.Argument(help="Which stream.")
    ],
    root: Root = DEFAULT_ROOT,
    complaint_rate: ComplaintRate = None,
    model_base_url: Annotated[
        str | None,
        typer.Option("--model-url", help="OpenAI-compatible endpoint; by rules if not given."),
    ] = None,
    llm_model: Annotated[str | None, typer.Option("--model", help="The model's name.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run one agent's stream over what is new: refunds, complaints or responses.

    The endpoint's key is read from CASPERS_MODEL_API_KEY.
    """
    from caspers_lib.cli.stream_view import run_stream

    local = local_root(
        root, complaint_rate=complaint_rate, model_base_url=model_base_url, llm_model=llm_model
    )
    run_stream(local, name, as_json=as_json)
