"""`caspers agent evaluate`: by the rules, by a model on the loopback, and what it refuses."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from caspers_lib.agents.complaint_draws import complaint_id
from caspers_lib.agents.evaluation.golden_set import Verdict, golden_orders
from caspers_lib.agents.evaluation.report import EvaluationReport, WorstCase, evaluate_refunds
from caspers_lib.agents.refund_policy import RefundPolicy
from caspers_lib.cli.agent_evaluate import evaluate
from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.errors import (
    DatasetError,
    ModelUnavailableError,
    RootLockedError,
    SettingsError,
)
from caspers_lib.replay.sample import sample_dataset
from caspers_lib.runtime.agent_evaluation import (
    MODEL_KEY_VARIABLE,
    WRITTEN_COMPLAINTS_SEED,
    model_settings,
)
from caspers_lib.runtime.agent_evaluation_view import evaluation_view
from caspers_lib.runtime.local_root import LocalRoot, Owner, owned
from caspers_lib.runtime.settings import load_settings
from tests.agents.model_server import KEY, ModelServer, said

SAMPLE = str(sample_dataset())
NOTHING = json.dumps({"refund_usd": 0, "refund_class": "none", "reason": "[red]Nothing[/red]"})

app = typer.Typer()
app.command()(evaluate)


def run(*words: str, key: str | None = None) -> Result:
    environment = {MODEL_KEY_VARIABLE: key, "COLUMNS": "120"}
    return CliRunner().invoke(app, words, env=environment)


def document(*words: str, key: str | None = None) -> dict[str, object]:
    answer = run(*words, "--json", key=key)
    assert answer.exit_code == 0, answer.output
    found = json.loads(answer.stdout)
    assert isinstance(found, dict)
    return found


def written(path: Path, rows: Sequence[object]) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def test_the_rules_are_exactly_right_about_refunds() -> None:
    found = document("refund", "--dataset", SAMPLE, "--orders", "100")
    assert (found["cases"], found["exact"]) == (100, {"cases": 100, "share": 1.0})
    assert (found["agent"], found["answered_by"]) == ("refund", "rules")
    assert (found["dataset"], found["worst"]) == (SAMPLE, [])


def test_the_rules_are_exactly_right_about_complaints() -> None:
    found = document("complaint", "--dataset", SAMPLE, "--orders", "100")
    assert (found["cases"], found["exact"]) == (100, {"cases": 100, "share": 1.0})


def test_people_see_agreement_confusion_cost_and_latency() -> None:
    answer = run("refund", "--dataset", SAMPLE, "--orders", "100")
    assert answer.exit_code == 0
    for words in (
        "refund, answered by rules",
        "100.00 % (100 of 100)",
        "no calls to a model",
        "right answer (rows)",
        "partial",
        "P95",
    ):
        assert words in answer.stdout
    assert "worst cases" not in answer.stdout


def test_nothing_is_made_under_root_where_a_dataset_is_given(tmp_path: Path) -> None:
    root = tmp_path / "root"
    document("refund", "--dataset", SAMPLE, "--orders", "5", "--root", str(root))
    assert not root.exists()


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_model_is_asked_with_the_key_of_the_environment(api: str) -> None:
    with ModelServer(then=said(NOTHING)).running() as server:
        words = ["refund", "--dataset", SAMPLE, "--orders", "20", "--model", "m", "--model-api"]
        words += [api, "--model-url", server.url, "--usd-per-million-input", "2.5"]
        found = document(*words, key=KEY)
        shown = run(*words, "--worst", "2", key=KEY).stdout
        paths = {request.path for request in server.requests}
    assert (found["answered_by"], found["answered"]) == ("m", 20)
    assert found["cost"] == {
        "calls": 20, "input_tokens": 2400, "output_tokens": 600, "usd": 0.006, "cached": 0,
    }  # fmt: skip
    assert paths == {"/v1/chat/completions" if api == "chat" else "/v1/responses"}
    assert "20 calls, 2,400 tokens in, 600 out, 0.0060 USD" in shown
    assert shown.count("[red]Nothing[/red]") == 2
    assert KEY not in shown


def test_a_model_that_nobody_reaches_is_one_error_with_the_cure() -> None:
    words = ["refund", "--dataset", SAMPLE, "--orders", "3", "--model", "m"]
    answer = run(*words, "--model-url", "http://127.0.0.1:9/v1")
    assert isinstance(answer.exception, ModelUnavailableError)
    assert MODEL_KEY_VARIABLE in answer.exception.hint


def test_a_label_takes_the_place_of_what_is_computed_though_its_order_is_not_drawn(
    tmp_path: Path,
) -> None:
    drawn = {o.order_id for o in golden_orders(sample_dataset(), RefundPolicy(), orders=10)}
    late = next(
        order
        for order in golden_orders(sample_dataset(), RefundPolicy())
        if order.expected.decision == "partial" and order.order_id not in drawn
    )
    rows = [{"order_id": late.order_id, "refund_usd": 0}, {"order_id": "x", "refund_usd": 0}]
    labels = written(tmp_path / "labels", rows)
    words = ["refund", "--dataset", SAMPLE, "--orders", "10", "--labels", labels]
    found = document(*words)
    assert (found["cases"], found["labelled"], found["unused_labels"]) == (11, 1, 1)
    assert [w["order_id"] for w in found["worst"]] == [late.order_id]  # type: ignore[attr-defined]
    assert "1 cases are judged by people's; 1 labels name nothing here" in run(*words).stdout


def test_a_label_of_a_complaint_judges_what_the_live_business_wrote(tmp_path: Path) -> None:
    order = golden_orders(sample_dataset(), RefundPolicy(), orders=1)[0]
    wanted = complaint_id(order.order_id, GHOST_KITCHEN.namespace)
    rows = [{"complaint_id": wanted, "decision": "suggest_credit", "credit_amount": 999}]
    labels = written(tmp_path / "labels", rows)
    words = ["complaint", "--dataset", SAMPLE, "--orders", "5", "--labels", labels]
    found = document(*words)
    assert (found["cases"], found["labelled"], found["unused_labels"]) == (6, 1, 0)
    assert found["kinds"]["written"] == {"cases": 1, "exact": 0}  # type: ignore[index]


def test_labels_that_cannot_be_used_are_named_before_anything_is_made(tmp_path: Path) -> None:
    labels = written(tmp_path / "labels", [{"order_id": "a"}])
    answer = run("refund", "--root", str(tmp_path / "root"), "--labels", labels)
    assert isinstance(answer.exception, DatasetError)
    assert "line 1, refund_usd" in answer.exception.message
    assert not (tmp_path / "root").exists()


def test_a_dataset_that_has_to_be_made_needs_root_for_itself(tmp_path: Path) -> None:
    with owned(LocalRoot(tmp_path, load_settings(environment={})), Owner.this_process("a demo")):
        answer = run("refund", "--root", str(tmp_path))
    assert isinstance(answer.exception, RootLockedError)
    assert not (tmp_path / "dataset").exists()


def test_a_dataset_that_is_there_is_read_while_another_process_owns_root(tmp_path: Path) -> None:
    root = LocalRoot(tmp_path, load_settings(environment={}))
    root.dataset.mkdir()
    root.dataset_file.write_bytes(sample_dataset().read_bytes())
    with owned(root, Owner.this_process("a demo")):
        found = document("refund", "--root", str(tmp_path), "--orders", "5")
    assert (found["cases"], found["dataset"]) == (5, str(root.dataset_file))


@pytest.mark.parametrize(
    "words",
    [
        ["refunds"],
        ["refund", "--model", "m"],
        ["refund", "--model-url", "http://127.0.0.1/v1"],
        ["refund", "--model-api", "grpc"],
        ["refund", "--orders", "0"],
        ["refund", "--worst", "-1"],
        ["refund", "--model", "m", "--model-url", "http://h/v1", "--usd-per-million-input", "x"],
    ],
)
def test_bad_usage_is_code_2(words: list[str]) -> None:
    assert run(*words).exit_code == 2


def test_a_missing_dataset_and_a_bad_address_are_errors_with_a_hint(tmp_path: Path) -> None:
    missing = run("refund", "--dataset", str(tmp_path / "none.parquet"))
    assert isinstance(missing.exception, DatasetError)
    url = run("refund", "--model", "m", "--model-url", "ftp://host", "--dataset", SAMPLE)
    assert isinstance(url.exception, SettingsError)


def test_the_key_is_a_secret_and_an_empty_one_is_none() -> None:
    settings = model_settings("https://h/v1", "m", environment={MODEL_KEY_VARIABLE: KEY})
    assert settings.secret == KEY
    assert KEY not in repr(settings)
    assert model_settings("https://h/v1", "m", environment={MODEL_KEY_VARIABLE: ""}).secret is None


def test_the_complaints_that_labels_name_are_those_of_the_local_business() -> None:
    from caspers_lib.runtime.local_business import _COMPLAINT_SEED

    assert WRITTEN_COMPLAINTS_SEED == _COMPLAINT_SEED


def test_hostile_words_are_shown_as_text() -> None:
    hostile = WorstCase(
        key="k",
        order_id="o\x00\x1b[31m[bold]",
        kind="with a history",
        expected=Verdict(decision="none"),
        given=None,
        difference=evaluate_refunds([], []).usd,
        reason="line one\n[link=x]line two[/link]\x07",
    )
    shown = rendered(evaluate_refunds([], []), hostile)
    assert r"o\x00\x1b[31m[bold]" in shown
    assert r"line one\n[link=x]line two[/link]\x07" in shown


def rendered(report: EvaluationReport, worst: WorstCase) -> str:
    from dataclasses import replace

    from rich.console import Console

    console = Console(width=160)
    with console.capture() as capture:
        console.print(evaluation_view(replace(report, worst=(worst,))))
    return capture.get()


@pytest.mark.full
def test_a_missing_dataset_is_made_under_root(tmp_path: Path) -> None:
    found = document("refund", "--root", str(tmp_path), "--orders", "100000")
    assert found["cases"] == found["exact"]["cases"] > 70_000  # type: ignore[index,operator]
    assert (tmp_path / "dataset" / "events.parquet").is_file()
