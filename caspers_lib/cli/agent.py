"""`caspers agent ...`: the agents, served and evaluated."""

import json
import math
import signal
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import Progress

from caspers_lib.cli.options import (
    DEFAULT_ROOT,
    AsJson,
    ModelApi,
    ModelName,
    ModelUrl,
    Root,
    absolute,
    local_root,
    model_settings,
)
from caspers_lib.errors import ModelUnavailableError, SettingsError

if TYPE_CHECKING:
    from caspers_lib.agents.evaluation import GoldenCase
    from caspers_lib.agents.model.asking import AnsweredQuestion
    from caspers_lib.agents.model.settings import ModelSettings

__all__ = ["agent_app"]

agent_app = typer.Typer(help="The agents: served over HTTP, and evaluated.", no_args_is_help=True)

_Agent = Literal["refund", "complaint"]


@agent_app.command("serve")
def serve(
    agent: Annotated[_Agent, typer.Argument(help="Which one.")],
    host: Annotated[str, typer.Option(help="The server's address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The server's port; 0 picks a free one.")] = 8100,
    model_url: ModelUrl = None,
    model: ModelName = None,
    model_api: ModelApi = "chat",
) -> None:
    """Answer requests in OpenAI's Responses format until Ctrl-C.

    A model's key comes from CASPERS_MODEL_API_KEY alone. Where it gives no answer, the rules do.
    """
    settings = model_settings(model_url, model, model_api)
    try:
        _serve(agent, host, port, settings)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("caspers_lib"):
            raise
        raise SettingsError(
            f"An agent's server needs the package {error.name}, which is not installed",
            hint="pip install 'caspers_lib[agents]'",
        ) from error


def _serve(agent: _Agent, host: str, port: int, settings: "ModelSettings | None") -> None:
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


@agent_app.command("evaluate")
def evaluate(
    agent: Annotated[_Agent, typer.Argument(help="Whose answers.")],
    root: Root = DEFAULT_ROOT,
    dataset: Annotated[
        Path | None, typer.Option(help="Events file; the generated one if not given.")
    ] = None,
    orders: Annotated[
        int, typer.Option(min=1, help="So many of its delivered orders at most.")
    ] = 2000,
    model_url: ModelUrl = None,
    model: ModelName = None,
    model_api: ModelApi = "chat",
    usd_per_million_input: Annotated[
        str, typer.Option(help="Price of a million input tokens.")
    ] = "0",
    usd_per_million_output: Annotated[
        str, typer.Option(help="Price of a million output tokens.")
    ] = "0",
    labels: Annotated[
        Path | None, typer.Option(help="JSON lines of what people decided; see the guide.")
    ] = None,
    worst: Annotated[int, typer.Option(min=0, help="So many of the worst cases at most.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Compare an agent's answers with what is right for the dataset's orders.

    A model's key comes from CASPERS_MODEL_API_KEY alone.
    """
    from caspers_lib.agents.evaluation import evaluation_report, golden_cases
    from caspers_lib.agents.labels import read_labels
    from caspers_lib.replay.dataset import EventsFile
    from caspers_lib.replay.generator import generate_dataset
    from caspers_lib.runtime.local_root import Owner, owned

    prices = usd_per_million_input, usd_per_million_output
    settings = model_settings(model_url, model, model_api, *prices)
    local = local_root(root)
    decisions = read_labels(labels.absolute(), agent) if labels else {}
    with Progress(transient=True, console=Console(stderr=True)) as bar:
        path = absolute(dataset) or local.dataset_file
        if dataset is None and not path.exists():
            task = bar.add_task("making the dataset", total=1.0)
            with owned(local, Owner.this_process("caspers agent evaluate")):
                generate_dataset(local.dataset, progress=lambda d: bar.update(task, completed=d))
            bar.remove_task(task)
        path = EventsFile.open(path).path
        task = bar.add_task("computing what is right", total=None)
        cases = golden_cases(path, agent, orders=orders, labels=decisions)
        bar.remove_task(task)
        answers = _answers(agent, cases, settings, bar)
    name = settings.model if settings else "rules"
    report = evaluation_report(agent, cases, answers, answered_by=name, worst=worst)
    report |= {"dataset": str(path), "unused_labels": len(decisions) - report["labelled"]}
    if as_json:
        print(json.dumps(report, indent=2, default=float))
    else:
        _print_report(report, is_priced=settings is not None and settings.usd(1, 1) > 0)


def _answers(
    agent: _Agent, cases: "Sequence[GoldenCase]", settings: "ModelSettings | None", bar: Progress
) -> "list[AnsweredQuestion]":
    """The rules' answers, or a model's; none is taken from or kept in a cache."""
    from caspers_lib.agents.contracts import ComplaintAnswer, RefundAnswer
    from caspers_lib.agents.evaluation import model_questions, rule_answers
    from caspers_lib.agents.model.asking import answer_questions
    from caspers_lib.agents.model.settings import MODEL_KEY

    if settings is None:
        return list(bar.track(rule_answers(cases), len(cases), description="asking the rules"))
    kind = RefundAnswer if agent == "refund" else ComplaintAnswer
    questions = list(model_questions(cases))
    task = bar.add_task(f"asking {settings.model}", total=len(questions))
    answers = answer_questions(questions, settings, kind, on_result=lambda: bar.advance(task))
    if answers and all(answer.kind == "unavailable" for answer in answers):
        raise ModelUnavailableError(
            answers[0].reason or "The model gave no answer",
            hint=f"check --model-url, --model, --model-api and {MODEL_KEY}",
        )
    return answers


def _print_report(report: dict[str, Any], *, is_priced: bool) -> None:
    """Print the report for people; what agents and customers wrote is text, never markup."""
    from rich.table import Column, Table
    from rich.text import Text

    from caspers_lib.agents.evaluation import LABELS
    from caspers_lib.agents.model.excerpts import excerpt

    def shown(verdict: dict[str, Any] | None) -> str:
        if verdict is None:
            return LABELS[-1]
        usd = "" if verdict["usd"] is None else f"{verdict['usd']:.2f} USD"
        return " ".join(filter(None, (verdict["decision"], verdict["priority"], usd)))

    summary = Table(show_header=False, box=None, pad_edge=False)
    for name, figure in _figures(report, is_priced=is_priced).items():
        summary.add_row(name, Text(figure))
    confusion = report["confusion"]
    labels = [label for label in LABELS if any(label in row for row in confusion.values())]
    given = [Column(label, justify="right") for label in labels]
    matrix = Table("right answer", *given, title="given answer")
    for right in (label for label in LABELS if label in confusion):
        matrix.add_row(right, *(f"{confusion[right][label] or '·'}" for label in labels))
    kinds = Table("kind of case", *(Column(n, justify="right") for n in ("cases", "exactly right")))
    for kind, counts in report["kinds"].items():
        kinds.add_row(kind, f"{counts['cases']:,}", f"{counts['exact']:,}")
    wrong = Table("order", "kind", "right", "given", "reason", title="worst cases")
    for case in report["worst"]:
        order, reason = excerpt(case["order_id"], 40)[1:-1], excerpt(case["reason"], 200)[1:-1]
        cells = order, case["kind"], shown(case["expected"]), shown(case["given"]), reason
        wrong.add_row(*(Text(cell, overflow="fold") for cell in cells))
    for table in (summary, matrix, kinds, *([wrong] if report["worst"] else [])):
        Console().print(table)


def _figures(report: dict[str, Any], *, is_priced: bool) -> dict[str, str]:
    def part(count: int, share: float) -> str:
        # Rounded down: 100 % is said where nothing is wrong, and only there.
        return f"{math.floor(share * 10_000) / 100:.2f} % ({count:,} of {report['cases']:,})"

    cost, error, unused = report["cost"], report["mean_error_usd"], report["unused_labels"]
    pairs = f"{report['priced']:,} pairs of amounts"
    tokens = f"{cost['input_tokens']:,} tokens in, {cost['output_tokens']:,} out"
    price = f"{cost['usd']:.4f} USD" if is_priced else "no prices given"
    durations = report["seconds"].items()
    latency = ", ".join(f"{name.upper()} {1000 * s:,.3f} ms" for name, s in durations if s)
    figures = {
        "agent": f"{report['agent']}, answered by {report['answered_by']}",
        "cases": f"{report['cases']:,} {report['agent']}s, {report['answered']:,} answered",
        "exactly right": part(*report["exact"].values()),
        "right decision": part(*report["same_decision"].values()),
        "mean error": "-" if error is None else f"{error} USD over {pairs}",
        "cost": f"{cost['calls']:,} calls, {tokens}, {price}" if cost["calls"] else "no calls",
        "latency": latency or "-",
    }
    if report["labelled"] or unused:
        judged = f"{report['labelled']:,} cases are judged by people's"
        figures["labels"] = f"{judged}; {unused:,} labels name nothing here"
    return figures
