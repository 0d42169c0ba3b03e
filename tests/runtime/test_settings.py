import ast
import re
from pathlib import Path
from typing import get_args

import grimp
import pytest
from pydantic import ValidationError

from caspers_lib.errors import SettingsError
from caspers_lib.runtime.settings import Runtime, Settings, load_settings, parameters_of


def test_the_defaults_are_those_of_the_contract() -> None:
    assert load_settings(environment={}).model_dump() == {
        "catalog": "caspersdev",
        "simulator_schema": "simulator",
        "events_volume": "events",
        "start_day": 70,
        "speed_multiplier": 60.0,
        "events_layout": "batched",
        "llm_model": "databricks-meta-llama-3-3-70b-instruct",
        "refund_agent_endpoint_name": "caspers_refund_agent",
        "complaint_agent_endpoint_name": "caspers_complaint_agent",
        "complaint_rate": 0.15,
        "model_base_url": "",
        "model_api": "chat",
        "model_questions": 1_000,
        "model_calls_a_day": 10_000,
        "model_concurrency": 16,
        "model_fallback": "rules",
        "refund_agent_url": "",
        "complaint_agent_url": "",
        "target": "default",
        "dataset": "",
        "dataset_scale": 1.0,
        "pipeline_id": "",
        "warehouse_id": "",
        "declared": "",
        "declared_refunds": "",
        "declared_complaints": "",
        "schedule_minutes": 3,
        "pipeline_schedule_minutes": 0,
    }


@pytest.mark.parametrize("name", Settings.model_fields)
def test_the_first_source_that_names_a_parameter_wins(name: str) -> None:
    first, second, third = "11", "22", "33"
    choices = {
        "complaint_rate": ("0.1", "0.2", "0.3"),
        "events_layout": ("batched", "per_event", "batched"),
        "model_api": ("chat", "responses", "chat"),
        "model_fallback": ("rules", "pending", "rules"),
        "target": ("free", "all", "complaints"),
    }
    first, second, third = choices.get(name, (first, second, third))
    upper = name.upper()
    sources = {
        "explicit": {name: first},
        "parameters": {upper: second},
        "environment": {f"CASPERS_{upper}": third},
    }
    winners = []
    for source in ("explicit", "parameters", "environment"):
        winners.append(value(name, sources))
        del sources[source]
    kind = type(Settings.model_fields[name].default)
    assert winners == [kind(first), kind(second), kind(third)]
    assert load_settings(environment={}) == Settings()


def value(name: str, sources: dict[str, dict[str, str]]) -> object:
    settings = load_settings(
        sources.get("explicit"),
        parameters=sources.get("parameters"),
        environment=sources.get("environment", {}),
    )
    return getattr(settings, name)


def test_a_source_that_leaves_a_parameter_blank_does_not_name_it() -> None:
    settings = load_settings(
        {"start_day": None},
        parameters={"START_DAY": ""},
        environment={"CASPERS_START_DAY": "12", "CASPERS_CATALOG": ""},
    )
    assert (settings.start_day, settings.catalog) == (12, "caspersdev")


def test_the_process_environment_is_read_when_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASPERS_START_DAY", "5")
    assert load_settings().start_day == 5


def test_other_widgets_and_variables_are_no_concern_of_ours() -> None:
    others = {"CASPERS_ROOT": "x", "START_DAY": "7", "HOME": "/"}
    assert load_settings(parameters={"TASK": "x"}, environment=others) == Settings()


@pytest.mark.parametrize(
    ("name", "bad", "rule"),
    [
        ("complaint_rate", "1.01", "less than or equal to 1"),
        ("complaint_rate", "-0.01", "greater than or equal to 0"),
        ("complaint_rate", "nan", "less than or equal to 1"),
        ("complaint_rate", "most", "valid number"),
        ("speed_multiplier", "0", "greater than 0"),
        ("speed_multiplier", "-60", "greater than 0"),
        ("speed_multiplier", "nan", "finite number"),
        ("speed_multiplier", "inf", "finite number"),
        ("start_day", "-1", "greater than or equal to 0"),
        ("start_day", "70.5", "valid integer"),
        ("start_day", "tomorrow", "valid integer"),
        ("events_layout", "rows", "'batched' or 'per_event'"),
        ("catalog", "../elsewhere", "no slash, dot, space"),
        ("simulator_schema", "/etc", "no slash, dot, space"),
        ("events_volume", "a b", "no slash, dot, space"),
        ("catalog", "a.b", "no slash, dot, space"),
    ],
)
def test_a_bad_value_is_refused_with_its_name_the_value_and_what_is_allowed(
    name: str, bad: str, rule: str
) -> None:
    upper = name.upper()
    with pytest.raises(SettingsError) as refused:
        load_settings(environment={f"CASPERS_{upper}": bad})
    assert refused.value.message.startswith(f"{upper} is '{bad}': ")
    assert rule in refused.value.message
    assert f"CASPERS_{upper}" in refused.value.hint
    assert "\n" not in refused.value.message + refused.value.hint
    assert isinstance(refused.value.__cause__, ValidationError)


@pytest.mark.parametrize("rate", ["0", "1", "0.5"])
def test_both_ends_of_the_complaint_rate_are_allowed(rate: str) -> None:
    assert load_settings(environment={"CASPERS_COMPLAINT_RATE": rate}).complaint_rate == float(rate)


def test_an_explicit_blank_is_a_bad_value_and_not_a_default() -> None:
    with pytest.raises(SettingsError, match=r"^LLM_MODEL is ''"):
        load_settings({"llm_model": ""}, environment={})


def test_an_explicit_name_that_is_no_parameter_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"^STARTDAY is 3: .* not permitted"):
        load_settings({"startday": 3}, environment={})


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().start_day = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("runtime", "name", "why"),
    [
        ("local", "pipeline_id", "it has no effect on a laptop, only in a workspace"),
        ("workspace", "model_base_url", "it has no effect in a workspace, only on a laptop"),
    ],
)
def test_a_parameter_without_effect_is_refused_wherever_it_comes_from(
    runtime: Runtime, name: str, why: str
) -> None:
    upper = name.upper()
    for given in (
        {"explicit": {name: "x"}},
        {"parameters": {upper: "x"}},
        {"environment": {f"CASPERS_{upper}": "x"}},
    ):
        with pytest.raises(SettingsError, match=f"^{upper} is 'x': {why}$"):
            load_settings(**{"environment": {}, **given}, runtime=runtime)  # type: ignore[arg-type]
        assert getattr(load_settings(**{"environment": {}, **given}), name) == "x"  # type: ignore[arg-type]


ROOTS = {"local": "caspers_lib.cli", "workspace": "caspers_lib.workspace"}


@pytest.mark.parametrize("runtime", get_args(Runtime))
def test_every_setting_is_read_in_the_runtimes_that_take_it(runtime: Runtime) -> None:
    unread = set(parameters_of(runtime)) - settings_read_in(runtime)
    assert unread == set()


def settings_read_in(runtime: Runtime) -> set[str]:
    """Names that modules which a runtime imports, at any time, take from an object `settings`."""
    graph = grimp.build_graph("caspers_lib")
    others = [root for each, root in ROOTS.items() if each != runtime]
    for module in [m for m in graph.modules if any(m.startswith(other) for other in others)]:
        graph.remove_module(module)
    root = ROOTS[runtime]
    modules = {m for m in graph.modules if m.startswith(root)}
    for module in tuple(modules):
        modules |= graph.find_upstream_modules(module)
    package = Path(__file__).parents[2] / "caspers_lib"
    read: set[str] = set()
    for module in modules - {"caspers_lib.runtime.settings"}:
        file = package.joinpath(*module.split(".")[1:])
        file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            read |= {name for name in (_attribute(node), _needed(node), _option(node)) if name}
    return read


def _attribute(node: ast.AST) -> str | None:
    """`x` of `settings.x` and of `anything.settings.x`."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
        of = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
        return node.attr if of == "settings" else None
    return None


def _needed(node: ast.AST) -> str | None:
    """`x` of `workspace.needed("x", ...)`."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return None
    name = node.args[0] if node.func.attr == "needed" and node.args else None
    return str(name.value) if isinstance(name, ast.Constant) else None


def _option(node: ast.AST) -> str | None:
    """`x` of a command line option that takes the variable `CASPERS_X` as well."""
    if isinstance(node, ast.keyword) and node.arg == "envvar":
        assert isinstance(node.value, ast.Constant)
        return re.sub("^CASPERS_", "", str(node.value.value)).lower()
    return None
