"""The bundle that is shipped, target by target, and the notebooks that its jobs run."""

import ast
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from databricks.bundles.apps import App
from databricks.bundles.jobs import Job
from databricks.bundles.pipelines import Pipeline
from databricks.bundles.schemas import Schema
from databricks.bundles.volumes import Volume

from caspers_lib.runtime.bundle_file import read_bundle
from caspers_lib.runtime.settings import Settings, parameters_of
from caspers_lib.runtime.task_graph import AFTER, TARGETS

EXAMPLES = Path(__file__).parents[1] / "examples"
BUNDLE = read_bundle(EXAMPLES / "bundle")
CLASSES: dict[str, Any] = {
    "jobs": Job,
    "pipelines": Pipeline,
    "apps": App,
    "schemas": Schema,
    "volumes": Volume,
}
WITHOUT_A_JOB = {"run_agent_streams.py", "score_one_order.py"}
NOTEBOOKS = sorted(
    path.name for path in EXAMPLES.glob("notebooks/*.py") if path.name not in WITHOUT_A_JOB
)
STREAMS = {"refund_recommender_stream", "complaint_generator_stream", "complaint_agent_stream"}

every_target = pytest.mark.parametrize("name", list(TARGETS))


def resources(target: str, kind: str) -> dict[str, Any]:
    config = BUNDLE.targets[target]
    return {key: config.resolved(value) for key, value in config.resources(kind).items()}


def as_deployed(resource: dict[str, Any]) -> dict[str, Any]:
    """A parameter's default is text: the deployment writes a number so."""
    written = [p | {"default": str(p["default"])} for p in resource.get("parameters", [])]
    return resource | ({"parameters": written} if written else {})


@every_target
def test_the_platforms_own_classes_take_every_resource(name: str) -> None:
    kinds = BUNDLE.targets[name].config["resources"]
    assert kinds.keys() <= CLASSES.keys()
    for kind, resource_class in CLASSES.items():
        for key, resource in resources(name, kind).items():
            made = resource_class.from_dict(as_deployed(resource)).as_dict()
            assert made.keys() == resource.keys(), key


def test_the_platforms_own_classes_refuse_an_unknown_field() -> None:
    with pytest.raises(ValueError, match="queues"):
        Job.from_dict({"name": "a", "queues": {}})  # type: ignore[typeddict-unknown-key]


@every_target
def test_the_initializer_is_the_targets_graph(name: str) -> None:
    tasks = {t["task_key"]: t for t in resources(name, "jobs")["initializer"]["tasks"]}
    assert tuple(tasks) == TARGETS[name]
    for key, task in tasks.items():
        assert [other["task_key"] for other in task.get("depends_on", [])] == list(AFTER[key])


@every_target
def test_each_stream_has_a_job_of_its_own_that_the_initializer_runs(name: str) -> None:
    jobs = BUNDLE.targets[name].resources("jobs")
    streams = {task.lower() for task in TARGETS[name] if task.endswith("_Stream")}
    assert jobs.keys() & STREAMS == streams
    run = {
        task["task_key"]: task["run_job_task"]["job_id"]
        for task in jobs["initializer"]["tasks"]
        if "run_job_task" in task
    }
    assert run == {
        task: f"${{resources.jobs.{task.lower()}.id}}"
        for task in TARGETS[name]
        if task.lower() in streams
    }
    for stream in streams:
        assert jobs[stream]["trigger"]["periodic"] == {"interval": 10, "unit": "MINUTES"}


@every_target
def test_parameters_are_settings_and_their_defaults_are_allowed(name: str) -> None:
    for key, job in resources(name, "jobs").items():
        values = {p["name"].lower(): str(p["default"]) for p in job.get("parameters", [])}
        if key == "pipeline_update_scheduler":
            assert values == {}
            continue
        steering = {"command", "value"} if key == "replay_control" else set()
        assert values.keys() - steering <= set(parameters_of("workspace"))
        settings = Settings.model_validate({k: v for k, v in values.items() if k not in steering})
        assert settings.target == name


@every_target
def test_a_stream_that_the_initializer_runs_is_given_its_parameter(name: str) -> None:
    """A run of the initializer hands nothing on by itself."""
    initializer = resources(name, "jobs")["initializer"]
    has = {p["name"] for p in initializer["parameters"]}
    assert ("COMPLAINT_RATE" in has) is (name in {"complaints", "all"})
    for task in initializer["tasks"]:
        given = task.get("run_job_task", {}).get("job_parameters", {})
        expected = {"COMPLAINT_RATE"} if task["task_key"] == "Complaint_Generator_Stream" else set()
        assert given == {each: f"{{{{job.parameters.{each}}}}}" for each in expected}


def test_the_targets_differ_where_the_design_says_so() -> None:
    catalogs = {name: t.variables["catalog"] for name, t in BUNDLE.targets.items()}
    assert catalogs == {
        "default": "caspersdev",
        "complaints": "caspersdev_complaints",
        "free": "caspersdev_free",
        "all": "caspersdev_all",
    }
    for name, target in BUNDLE.targets.items():
        [pipeline] = resources(name, "pipelines").values()
        minutes = target.variables["pipeline_schedule_minutes"]
        assert pipeline["continuous"] is (minutes == 0)
        assert ("pipeline_update_scheduler" in target.resources("jobs")) is (minutes > 0)
        assert pipeline["configuration"] == {
            "caspers.events": f"/Volumes/{catalogs[name]}/simulator/events"
        }
        assert bool(target.resources("apps")) is (name in {"default", "all"})


def test_the_default_target_has_the_settings_own_defaults() -> None:
    variables = BUNDLE.targets["default"].variables
    shared = Settings.model_fields.keys() & variables.keys() - {"app_name"}
    assert {"catalog", "speed_multiplier", "complaint_rate", "dataset_scale"} <= shared
    assert {k: variables[k] for k in shared} == {k: getattr(Settings(), k) for k in shared}


def test_the_account_of_resources_is_not_the_bundles() -> None:
    for name in TARGETS:
        names = {schema["name"] for schema in resources(name, "schemas").values()}
        assert "_internal_state" not in names
        assert {"simulator", "lakeflow"} <= names


def test_the_jobs_bring_what_the_extras_need() -> None:
    extras = tomllib.loads((EXAMPLES.parent / "pyproject.toml").read_text(encoding="utf-8"))
    known = {
        requirement
        for group in extras["project"]["optional-dependencies"].values()
        for requirement in group
    }
    for job in resources("all", "jobs").values():
        for environment in job.get("environments", []):
            wheel, *others = environment["spec"]["dependencies"]
            assert wheel == "../../dist/*.whl"
            assert set(others) <= known


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_a_notebook_is_short_compiles_and_calls_the_library_once(notebook: str) -> None:
    text = (EXAMPLES / "notebooks" / notebook).read_text(encoding="utf-8")
    assert text.startswith("# Databricks notebook source\n# MAGIC %md\n# MAGIC # ")
    code = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(code) < 30
    tree = ast.parse(text)
    [imported] = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert imported.module == "caspers_lib.runtime.workspace"
    names = {alias.name for alias in imported.names}
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call)
              and isinstance(node.func, ast.Name)}  # fmt: skip
    [work] = (called & names) - {"settings_from_widgets"}
    stem = notebook.removesuffix(".py")
    assert work == {"replay": "replay_tick", "destroy": "destroy_workspace"}.get(stem, stem)
    assert names == {"Workspace", "settings_from_widgets", work}


def test_every_notebook_is_a_jobs_and_each_task_runs_its_own() -> None:
    used = set()
    for name in TARGETS:
        for job in resources(name, "jobs").values():
            for task in job["tasks"]:
                if "notebook_task" in task:
                    path = Path(task["notebook_task"]["notebook_path"])
                    assert path.stem == task["task_key"].lower()
                    used.add(path.name)
    assert used == set(NOTEBOOKS)


def test_the_app_starts_a_file_that_is_there_and_short() -> None:
    app = EXAMPLES / "app"
    command = yaml.safe_load((app / "app.yaml").read_text(encoding="utf-8"))["command"]
    assert command == ["python", "app.py"]
    code = (app / "app.py").read_text(encoding="utf-8")
    compile(code, "app.py", "exec")
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) < 25
    # What the code needs is written beside it by the task that deploys it: see app_package.
    assert sorted(each.name for each in app.iterdir() if each.is_file()) == ["app.py", "app.yaml"]
