"""`caspers agent ...`: the agents, served and evaluated."""

import signal
from contextlib import ExitStack, suppress
from threading import Event
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from caspers_lib.cli.agent_evaluate import evaluate
from caspers_lib.errors import SettingsError

if TYPE_CHECKING:
    from caspers_lib.agents.model.settings import ModelSettings
    from caspers_lib.agents.serving.agent_logic import AgentKind

__all__ = ["agent_app"]

agent_app = typer.Typer(help="The agents: served over HTTP, and evaluated.", no_args_is_help=True)
agent_app.command("evaluate")(evaluate)


@agent_app.command("serve")
def serve(
    agent: Annotated[Literal["refund", "complaint"], typer.Argument(help="Which one.")],
    host: Annotated[str, typer.Option(help="The server's address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The server's port; 0 picks a free one.")] = 8100,
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
) -> None:
    """Answer requests in OpenAI's Responses format until Ctrl-C.

    A model's key comes from CASPERS_MODEL_API_KEY alone. Where it gives no answer, the rules do.
    """
    if (model_url is None) != (model is None):
        raise typer.BadParameter("--model-url and --model belong together")
    settings = None
    if model_url is not None and model is not None:
        from caspers_lib.runtime.agent_evaluation import model_settings

        settings = model_settings(model_url, model, api=model_api)
    try:
        _serve(agent, host, port, settings)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("caspers_lib"):
            raise
        raise SettingsError(
            f"An agent's server needs the package {error.name}, which is not installed",
            hint="pip install 'caspers_lib[agents]'",
        ) from error


def _serve(agent: "AgentKind", host: str, port: int, settings: "ModelSettings | None") -> None:
    from caspers_lib.agents.model.thread import ModelThread
    from caspers_lib.agents.serving.agent_logic import agent_logic
    from caspers_lib.agents.serving.app import agent_app as agent_web_app
    from caspers_lib.console.serve import ConsoleServer

    # Who stops the process by a signal stops it in the same way as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as stack:
        ask = stack.enter_context(ModelThread(lambda: settings)) if settings else None
        web_app = agent_web_app(agent_logic(agent, ask=ask))
        server = stack.enter_context(ConsoleServer(web_app, host=host, port=port))
        print(f"{agent} agent: {server.url}", flush=True)
        with suppress(KeyboardInterrupt):
            Event().wait()
