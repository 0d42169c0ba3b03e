"""`caspers agent evaluate`: how right an agent is, what it costs, how long it takes."""

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Literal

import typer

from caspers_lib.cli.options import DEFAULT_ROOT, AsJson, Root, absolute, local_root

__all__ = ["evaluate"]


def evaluate(
    agent: Annotated[Literal["refund", "complaint"], typer.Argument(help="Whose answers.")],
    root: Root = DEFAULT_ROOT,
    dataset: Annotated[
        Path | None,
        typer.Option("--dataset", help="Events file; the generated one if not given."),
    ] = None,
    orders: Annotated[
        int, typer.Option("--orders", min=1, help="So many of its delivered orders at most.")
    ] = 2000,
    model_url: Annotated[
        str | None,
        typer.Option("--model-url", help="Where an OpenAI-compatible API lies: https://host/v1."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="The model's name there; the rules if not given.")
    ] = None,
    model_api: Annotated[
        Literal["chat", "responses"], typer.Option("--model-api", help="Which API it speaks.")
    ] = "chat",
    usd_per_million_input: Annotated[
        str, typer.Option("--usd-per-million-input", help="Price of a million input tokens.")
    ] = "0",
    usd_per_million_output: Annotated[
        str, typer.Option("--usd-per-million-output", help="Price of a million output tokens.")
    ] = "0",
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="JSON lines of what people decided; see the guide."),
    ] = None,
    worst: Annotated[
        int, typer.Option("--worst", min=0, help="So many of the worst cases at most.")
    ] = 5,
    as_json: AsJson = False,
) -> None:
    """Compare an agent's answers with what is right for the dataset's orders.

    A model's key comes from CASPERS_MODEL_API_KEY alone.
    """
    from caspers_lib.runtime.agent_evaluation import (
        EvaluationRequest,
        model_settings,
        run_evaluation,
    )

    if (model_url is None) != (model is None):
        raise typer.BadParameter("--model-url and --model belong together")
    settings = None
    if model_url is not None and model is not None:
        settings = model_settings(
            model_url,
            model,
            api=model_api,
            usd_per_million_input=_usd(usd_per_million_input),
            usd_per_million_output=_usd(usd_per_million_output),
        )
    request = EvaluationRequest(
        agent=agent,
        orders=orders,
        dataset=absolute(dataset),
        model=settings,
        labels=absolute(labels),
        worst=worst,
    )
    run_evaluation(local_root(root), request, as_json=as_json)


def _usd(text: str) -> Decimal:
    """The amount.

    Raises:
        typer.BadParameter: it is none.
    """
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise typer.BadParameter(f"{text!r} is no amount of USD, such as 2.50") from error
