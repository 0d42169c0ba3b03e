"""The bundle that is shipped, target by target, and the notebooks that its jobs run."""

import ast
import runpy
import sys
import tomllib
import zipfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from databricks.bundles.apps import App
from databricks.bundles.dashboards import Dashboard
from databricks.bundles.genie_spaces import GenieSpace
from databricks.bundles.jobs import Job
from databricks.bundles.pipelines import Pipeline
from databricks.bundles.schemas import Schema
from databricks.bundles.sql_warehouses import SqlWarehouse
from databricks.bundles.volumes import Volume
from databricks.sdk.service import postgres

from caspers_lib.lakebase import COMPLAINTS, REFUNDS
from caspers_lib.runtime.settings import Settings, parameters_of
from caspers_lib.runtime.task_graph import AFTER, TARGETS
from tests.bundle.configuration import ConfigurationError, read_target
from tests.bundle.shipped import shipped

EXAMPLES = Path(__file__).parents[1] / "examples"
BUNDLE = {name: shipped(name, catalog="mine", suffix="-x") for name in TARGETS}
CLASSES: dict[str, Any] = {
    "jobs": Job,
    "pipelines": Pipeline,
    "apps": App,
    "schemas": Schema,
    "volumes": Volume,
    "sql_warehouses": SqlWarehouse,
    "dashboards": Dashboard,
    "genie_spaces": GenieSpace,
}
# The platform's package for bundles has no classes for these: the SDK's specifications, and what
# stands beside a specification in its requests.
SPECIFICATIONS: dict[str, tuple[Any, set[str]]] = {
    "postgres_projects": (postgres.ProjectSpec, {"project_id", "purge_on_delete"}),
    "postgres_roles": (postgres.RoleRoleSpec, {"parent", "role_id"}),
    "postgres_databases": (postgres.DatabaseDatabaseSpec, {"parent", "database_id"}),
    "postgres_catalogs": (postgres.CatalogCatalogSpec, {"catalog_id"}),
}
WITHOUT_A_JOB = {"run_agent_streams.py", "score_one_order.py"}
NOTEBOOKS = sorted(
    path.name for path in EXAMPLES.glob("notebooks/*.py") if path.name not in WITHOUT_A_JOB
)
STREAMS = {"refund_recommender_stream", "complaint_generator_stream", "complaint_agent_stream"}

every_target = pytest.mark.parametrize("name", list(TARGETS))


def resources(target: str, kind: str) -> dict[str, Any]:
    return BUNDLE[target].resources.get(kind, {})


def as_deployed(resource: dict[str, Any]) -> dict[str, Any]:
    """A parameter's default is text: the deployment writes a number so."""
    written = [p | {"default": str(p["default"])} for p in resource.get("parameters", [])]
    return resource | ({"parameters": written} if written else {})


@every_target
def test_the_platforms_own_classes_take_every_resource(name: str) -> None:
    assert BUNDLE[name].resources.keys() <= CLASSES.keys() | SPECIFICATIONS.keys()
    for kind, (specification, beside) in SPECIFICATIONS.items():
        for key, resource in resources(name, kind).items():
            allowed = {field.name for field in fields(specification)} | beside
            assert resource.keys() <= allowed, key
            assert beside - {"purge_on_delete"} <= resource.keys(), key
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
    jobs = resources(name, "jobs")
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


@every_target
def test_nothing_starts_before_the_initializer_says_so(name: str) -> None:
    for key, job in resources(name, "jobs").items():
        assert not {"trigger", "schedule", "continuous"} & job.keys(), key
        assert job["performance_target"] == "PERFORMANCE_OPTIMIZED"
        assert job["queue"] == {"enabled": True}
    [pipeline] = resources(name, "pipelines").values()
    assert not pipeline.get("continuous")


@every_target
def test_parameters_are_settings_and_their_defaults_are_allowed(name: str) -> None:
    for key, job in resources(name, "jobs").items():
        values = {p["name"].lower(): str(p["default"]) for p in job.get("parameters", [])}
        assert values["catalog"] == "mine"
        steering = {"command", "value"} if key == "replay_control" else set()
        assert values.keys() - steering <= set(parameters_of("workspace"))
        settings = Settings.model_validate({k: v for k, v in values.items() if k not in steering})
        assert settings.target == name


@every_target
def test_a_stream_that_the_initializer_runs_is_given_its_parameters(name: str) -> None:
    """A run of the initializer hands nothing on by itself."""
    initializer = resources(name, "jobs")["initializer"]
    has = {p["name"] for p in initializer["parameters"]}
    assert ("COMPLAINT_RATE" in has) is (name in {"complaints", "all"})
    for task in initializer["tasks"]:
        given = task.get("run_job_task", {}).get("job_parameters", {})
        expected = {
            "Refund_Recommender_Stream": {"REFUND_AGENT_ENDPOINT_NAME"},
            "Complaint_Generator_Stream": {"COMPLAINT_RATE", "LLM_MODEL"},
            "Complaint_Agent_Stream": {"COMPLAINT_AGENT_ENDPOINT_NAME"},
        }.get(task["task_key"], set())
        assert given == {each: f"{{{{job.parameters.{each}}}}}" for each in expected}


@every_target
def test_the_initializer_is_told_of_all_that_the_bundle_makes(name: str) -> None:
    """Of itself the platform tells it, at each run."""
    told: dict[str, str] = {}
    for parameter in resources(name, "jobs")["initializer"]["parameters"]:
        if parameter["name"].startswith("DECLARED"):
            told |= dict(pair.split("=") for pair in parameter["default"].split())
    made = {f"{kind}.{key}": kind for kind, each in BUNDLE[name].resources.items() for key in each}
    assert told.keys() == made.keys()
    assert told.pop("jobs.initializer") == "{{job.id}}"
    for place, reference in told.items():
        field = "name" if made[place] == "apps" else "id"
        assert reference == f"${{resources.{place}.{field}}}"


def test_the_names_are_known_and_what_a_workspace_has_once_has_a_suffix() -> None:
    jobs = resources("all", "jobs")
    assert {job["name"] for job in jobs.values()} == {
        "Casper's Initializer",
        "Casper's Destroyer",
        "Canonical Data Replay (Simple)",
        "Replay Control",
        "Refund Recommender Stream",
        "Complaint Generator Stream",
        "Complaint Agent Stream",
    }
    once = {
        "pipelines": ("name", "Order Items Medallion Declarative Pipeline"),
        "sql_warehouses": ("name", "Casper's look-ups"),
        "apps": ("name", "caspers-refunds"),
        "postgres_projects": ("project_id", "caspers-"),
    }
    for kind, (field, begin) in once.items():
        for resource in resources("all", kind).values():
            assert resource[field].startswith(begin)
            assert resource[field].endswith("-x")
    for variable in ("refund_agent_endpoint_name", "complaint_agent_endpoint_name"):
        assert BUNDLE["all"].variables[variable].endswith("-x")
    catalogs = {c["catalog_id"] for c in resources("all", "postgres_catalogs").values()}
    assert catalogs == {"minerefundmanager", "minecomplaintmanager"}


def test_the_targets_differ_where_they_have_to() -> None:
    for name, target in BUNDLE.items():
        # Nobody moves a deployment to another catalog by leaving a variable out.
        with pytest.raises(ConfigurationError, match=r"no value for \['catalog'\]"):
            read_target(EXAMPLES / "bundle", name, {})
        assert target.settled("pipelines", "medallion")["configuration"] == {
            "caspers.events": "/Volumes/mine/simulator/events"
        }
        assert bool(resources(name, "apps")) is (name in {"default", "all"})
        assert target.variables["pipeline_schedule_minutes"] == (3 if name == "free" else 0)


@pytest.mark.parametrize("name", ["default", "all"])
def test_the_app_has_its_databases_from_the_first_deployment_on(name: str) -> None:
    app = resources(name, "apps")["refund_manager"]
    has = {each["name"]: each["postgres"]["database"] for each in app["resources"]}
    wanted = {"postgres": "refunds", "complaints": "complaints"}
    wanted = wanted if name == "all" else {"postgres": "refunds"}
    assert has == {
        key: f"${{resources.postgres_databases.{database}.id}}" for key, database in wanted.items()
    }
    assert next(iter(has)) == "postgres"  # the platform's PG* variables speak of the first
    named = {each["value_from"] for each in app["config"]["env"] if "value_from" in each}
    assert named == has.keys()
    databases = resources(name, "postgres_databases")
    assert databases["refunds"]["postgres_database"] == REFUNDS.database
    if name == "all":
        assert databases["complaints"]["postgres_database"] == COMPLAINTS.database


def test_the_default_target_has_the_settings_own_defaults() -> None:
    variables = shipped("default").variables
    shared = Settings.model_fields.keys() & variables.keys() - {"catalog"}
    assert {"start_day", "speed_multiplier", "complaint_rate", "dataset_scale"} <= shared
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
            assert environment["spec"]["environment_version"] == "5"
            wheel, *others = environment["spec"]["dependencies"]
            assert wheel == "../../../dist/*.whl"
            # The platform's own; that the SDK takes it, `pip check` has shown.
            others.remove("protobuf>=5.29.5,<6")
            assert set(others) <= known


def test_the_wheels_version_follows_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place of uv stands the build backend that uv asks."""
    script = runpy.run_path(str(EXAMPLES / "bundle" / "build_wheel.py"))
    root = tmp_path / "repository"
    (root / "caspers_lib").mkdir(parents=True)
    (root / "examples" / "app").mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (root / name).write_bytes((EXAMPLES.parent / name).read_bytes())
    code = root / "caspers_lib" / "__init__.py"
    code.write_text('__version__ = "0.1.0"\n', encoding="utf-8")
    uv = tmp_path / "uv"
    uv.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m hatchling build -t wheel -d dist\n')
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    build = script["main"]
    build.__globals__.update(ROOT=root, APP=root / "examples" / "app")

    def built() -> tuple[str, bytes]:
        build()
        [wheel], [beside] = root.glob("dist/*"), root.glob("examples/app/*.whl")
        assert beside.read_bytes() == wheel.read_bytes()
        asked = (root / "examples" / "app" / "requirements.txt").read_text(encoding="utf-8")
        assert asked == f"./{wheel.name}[console,databricks]\n"
        return wheel.name, wheel.read_bytes()

    first = built()
    assert first[0].startswith("caspers_lib-0.1.0+")
    assert built() == first
    code.write_text('__version__ = "0.1.0"\n# changed\n', encoding="utf-8")
    changed = built()
    assert changed[0] != first[0]
    with zipfile.ZipFile(root / "dist" / changed[0]) as wheel:
        [metadata] = [name for name in wheel.namelist() if name.endswith("/METADATA")]
        assert f"Version: {changed[0].split('-')[1]}\n" in wheel.read(metadata).decode()


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_a_notebook_is_short_compiles_and_calls_the_library_once(notebook: str) -> None:
    text = (EXAMPLES / "notebooks" / notebook).read_text(encoding="utf-8")
    assert text.startswith("# Databricks notebook source\n# MAGIC %md\n# MAGIC # ")
    code = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(code) < 30
    tree = ast.parse(text)
    [imported] = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert imported.module == "caspers_lib.workspace"
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
                    assert path.name == task["task_key"].lower()
                    used.add(f"{path.name}.py")
    assert used == set(NOTEBOOKS)


def test_the_app_starts_a_file_that_is_there_and_short() -> None:
    for name in ("default", "all"):
        [app] = resources(name, "apps").values()
        assert app["config"]["command"] == ["python", "app.py"]
    code = (EXAMPLES / "app" / "app.py").read_text(encoding="utf-8")
    compile(code, "app.py", "exec")
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) < 25
