"""Each way in which the bundle can be wrong is found in a copy of the one that is shipped."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from caspers_lib.cli.bundle import bundle_app
from caspers_lib.errors import SettingsError
from caspers_lib.runtime.bundle_check import check_bundle
from caspers_lib.runtime.bundle_file import read_bundle
from caspers_lib.runtime.settings import Settings

ROOT = Path(__file__).parents[2]
FIELDS = [name.upper() for name in Settings.model_fields]
MAIN, WORK, STORAGE = "databricks.yml", "resources/work.yml", "resources/storage.yml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped bundle with what it points to."""
    for part in ("bundle", "notebooks", "lakeflow", "app"):
        shutil.copytree(ROOT / "examples" / part, tmp_path / "examples" / part)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path / "examples" / "bundle"


def change(folder: Path, file: str, old: str, new: str) -> None:
    text = (folder / file).read_text(encoding="utf-8")
    assert old in text, f"{file} has no {old!r}"
    (folder / file).write_text(text.replace(old, new, 1), encoding="utf-8")


def problems(folder: Path, *, built: bool = False) -> list[str]:
    found = check_bundle(folder, settings_fields=FIELDS, built=built)
    assert all(problem.hint for problem in found)
    return [f"{problem.where}: {problem.what}" for problem in found]


def test_the_shipped_bundle_has_no_problem() -> None:
    assert problems(ROOT / "examples" / "bundle") == []


LAKEBASE = "              task_key: Lakebase_Reverse_ETL\n"
WHEEL_TASK = """          python_wheel_task:
            package_name: caspers_lib
            entry_point: {}
"""
REPLAY_NOTEBOOK = """          notebook_task:
            notebook_path: ../../notebooks/replay.py
"""


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        pytest.param(
            WORK,
            "- task_key: Canonical_Data\n          environment_key",
            "- task_key: Canonical_Data\n          depends_on: [{task_key: Nobody}]\n"
            "          environment_key",
            "all: jobs.initializer.tasks.Canonical_Data: it depends on Nobody, which is no task",
            id="dangling depends_on",
        ),
        pytest.param(
            WORK,
            "- task_key: Canonical_Data\n          environment_key",
            "- task_key: Canonical_Data\n          depends_on: "
            "[{task_key: Spark_Declarative_Pipeline}]\n          environment_key",
            "all: jobs.initializer: The tasks Canonical_Data, Spark_Declarative_Pipeline",
            id="cycle",
        ),
        pytest.param(
            WORK,
            "- task_key: Spark_Declarative_Pipeline\n          depends_on",
            "- task_key: Canonical_Data\n          depends_on",
            "free: jobs.initializer: the task key Canonical_Data is there 2 times",
            id="duplicate task key",
        ),
        pytest.param(
            WORK,
            "interval: ${var.schedule_minutes}",
            "interval: ${var.minutes}",
            "all: jobs.replay.trigger.periodic.interval: ${var.minutes} refers to nothing",
            id="unknown variable",
        ),
        pytest.param(
            WORK,
            "job_id: ${resources.jobs.refund_recommender_stream.id}",
            "job_id: ${resources.jobs.refund_stream.id}",
            "default: jobs.initializer.tasks.Refund_Recommender_Stream.run_job_task.job_id: "
            "${resources.jobs.refund_stream.id} refers to nothing",
            id="unknown resource",
        ),
        pytest.param(
            WORK,
            "${resources.pipelines.medallion.id}",
            "${resources.pipelines.medallion.key}",
            "free: jobs.initializer.parameters.PIPELINE_ID.default: "
            "${resources.pipelines.medallion.key} refers to nothing",
            id="unknown field of a resource",
        ),
        pytest.param(
            WORK,
            "refund_recommender_stream: *refund_recommender_stream",
            "refund_stream: *refund_recommender_stream",
            "all: jobs.initializer.tasks.Refund_Recommender_Stream.run_job_task.job_id: "
            "${resources.jobs.refund_recommender_stream.id} refers to nothing",
            id="resource of another target",
        ),
        pytest.param(
            WORK,
            '"${bundle.target}"',
            '"${bundle.targt}"',
            "all: jobs.replay.parameters.TARGET.default: ${bundle.targt} refers to nothing",
            id="unknown field of the bundle",
        ),
        pytest.param(
            WORK,
            "${workspace.file_path}",
            "${workspace.files}",
            "all: jobs.initializer.parameters.APP_SOURCE.default: ${workspace.files} refers to",
            id="unknown field of the workspace",
        ),
        pytest.param(
            WORK,
            "${workspace.file_path}",
            "${workspace.file_path",
            "has an unfinished reference",
            id="unfinished reference",
        ),
        pytest.param(
            MAIN,
            "    default: simulator\n",
            "",
            "free: variables.simulator_schema: the variable has no value",
            id="variable without a value",
        ),
        pytest.param(
            MAIN,
            "      catalog: caspersdev_free\n",
            "      catalogue: caspersdev_free\n",
            "free: variables.catalogue: the variable is not declared",
            id="variable that is not declared",
        ),
        pytest.param(
            WORK,
            REPLAY_NOTEBOOK,
            "",
            "all: jobs.replay.tasks.Replay: it has nothing to execute",
            id="nothing to execute",
        ),
        pytest.param(
            WORK,
            REPLAY_NOTEBOOK,
            WHEEL_TASK.format("replays"),
            "all: jobs.replay.tasks.Replay: the wheel has no entry point replays",
            id="unknown entry point",
        ),
        pytest.param(
            WORK,
            "- environment_key: caspers\n          spec",
            "- environment_key: casper\n          spec",
            "complaints: jobs.destroyer.tasks.Destroy: the job has no environment caspers",
            id="unknown environment",
        ),
        pytest.param(
            WORK,
            "{ name: CATALOG,",
            "{ name: CATALOGUE,",
            "default: jobs.initializer: the parameter CATALOGUE is no setting",
            id="unknown parameter",
        ),
        pytest.param(
            WORK,
            "../../notebooks/replay.py",
            "../notebooks/replay.py",
            "all: jobs.replay.tasks.Replay.notebook_task.notebook_path: there is no notebooks",
            id="path that is relative to another file",
        ),
        pytest.param(
            WORK,
            "../../lakeflow/order_items.py",
            "../../lakeflow/orders.py",
            "free: pipelines.medallion.libraries.0.file.path: there is no ../lakeflow/orders.py",
            id="pipeline source that isn't there",
        ),
        pytest.param(
            WORK,
            "../../app",
            "../../application",
            "all: apps.refund_manager.source_code_path: there is no ../application",
            id="app source that isn't there",
        ),
        pytest.param(
            MAIN,
            "    - ../lakeflow\n",
            "",
            "../lakeflow/order_items.py is not uploaded",
            id="file outside what is uploaded",
        ),
        pytest.param(
            WORK,
            "          - ../../../dist/*.whl",
            "          - ../../dist/*.whl",
            "all: pipelines.medallion.environment.dependencies.0: no artifact builds ../dist/*.whl",
            id="wheel that nothing builds",
        ),
        pytest.param(
            MAIN,
            "\n  free:\n",
            "\n  gratis:\n",
            "gratis: the graph has no such target",
            id="unknown target",
        ),
        pytest.param(
            MAIN,
            "include:\n  - resources/*.yml\n",
            "include:\n  - resources/storage.yml\n",
            "all: jobs.initializer: the task Canonical_Data is missing",
            id="missing task",
        ),
        pytest.param(
            WORK,
            "  free:\n    resources:\n      jobs:\n",
            "  free:\n    resources:\n      jobs:\n        initializer:\n          tasks:\n"
            "            - *refund_agent_task\n",
            "free: jobs.initializer: the task Refund_Recommender_Agent is not the target's",
            id="another target's task",
        ),
        pytest.param(
            WORK,
            LAKEBASE
            + "              depends_on:\n                - task_key: Refund_Recommender_St",
            LAKEBASE
            + "              depends_on:\n                - task_key: Refund_Recommender_Ag",
            "default: jobs.initializer.tasks.Lakebase_Reverse_ETL: it depends on",
            id="order that isn't the graph's",
        ),
        pytest.param(
            WORK,
            "                - task_key: Complaint_Generator_Stream\n",
            "",
            "all: jobs.initializer.tasks.Complaint_Agent_Stream: it must come right after "
            "Complaint_Agent and Complaint_Generator_Stream",
            id="dependency that is missing",
        ),
        pytest.param(
            MAIN,
            "${bundle.name}/free",
            "${bundle.name}/default",
            "free: root_path ~/.bundle/caspers/default is also the target default's",
            id="two targets in one folder",
        ),
        pytest.param(
            MAIN,
            "catalog: caspersdev_all",
            "catalog: caspersdev",
            "all: schemas caspersdev.simulator is also the target default's",
            id="two targets in one catalog",
        ),
        pytest.param(
            WORK,
            "Casper's Initializer (${bundle.target})",
            "Casper's Initializer",
            "complaints: jobs Casper's Initializer is also the target default's",
            id="two jobs of one name",
        ),
        pytest.param(
            MAIN,
            "caspers_refund_agent_all",
            "caspers_refund_agent",
            "all: refund_agent_endpoint_name caspers_refund_agent is also the target default's",
            id="two endpoints of one name",
        ),
        pytest.param(
            WORK,
            "      name: Canonical Data Replay (${bundle.target})\n      max_concurrent_runs: 1\n",
            "      name: Canonical Data Replay (${bundle.target})\n      max_concurrent_runs: 2\n",
            "all: jobs.replay: its scheduled runs may overlap",
            id="runs that overlap",
        ),
        pytest.param(
            MAIN,
            "pipeline_schedule_minutes: 3",
            "pipeline_schedule_minutes: 0",
            "free: jobs.pipeline_update_scheduler: it runs every 0",
            id="runs every zero minutes",
        ),
        pytest.param(
            WORK,
            "        enabled: true\n",
            "        enabled: false\n",
            "complaints: jobs.complaint_agent_stream: a run that finds another is dropped",
            id="no queue",
        ),
    ],
)
def test_a_defect_is_found(folder: Path, file: str, old: str, new: str, expected: str) -> None:
    change(folder, file, old, new)
    found = problems(folder)
    assert [line for line in found if expected in line], found


def test_an_entry_point_that_exists_is_none(folder: Path) -> None:
    change(folder, WORK, REPLAY_NOTEBOOK, WHEEL_TASK.format("caspers"))
    assert problems(folder) == []


def test_after_a_build_the_wheel_must_be_there(folder: Path) -> None:
    [line, *_] = problems(folder, built=True)
    assert line.endswith("no file matches ../../dist/*.whl")
    dist = folder.parents[1] / "dist"
    dist.mkdir()
    (dist / "caspers_lib-0.1.0-py3-none-any.whl").touch()
    assert problems(folder, built=True) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            MAIN,
            "  name: caspers\n",
            "\tname: caspers\n",
            r"databricks.yml line 10, column 1 is not",
        ),
        (WORK, "*queue", "*line", r"work.yml line \d+, column \d+ is not YAML: found undefined"),
        (MAIN, "\ntargets:", "\nsync: {}\ntargets:", r"line \d+ has 'sync' a second time"),
        (MAIN, "resources/*.yml", "parts/*.yml", "includes parts/.*, which matches no file"),
        (
            WORK,
            "      tasks:\n        - task_key: Replay",
            "      tasks:\n        - Replay\n        - task_key: Replay",
            "has 'Replay' where names",
        ),
        (STORAGE, "&ai_schema", "&ai_schema [*ai_schema]\n        own:", "the YAML holds itself"),
        (STORAGE, "# Schemas", "- Schemas", "storage.yml"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence_and_a_hint(
    folder: Path, file: str, old: str, new: str, message: str
) -> None:
    change(folder, file, old, new)
    with pytest.raises(SettingsError, match=message) as caught:
        problems(folder)
    assert caught.value.hint
    assert "\n" not in caught.value.message


def test_a_folder_without_a_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"databricks.yml can't be read: No such file"
    ) as caught:
        read_bundle(tmp_path)
    assert caught.value.hint


def test_a_hostile_catalog_stays_data(folder: Path) -> None:
    hostile = 'it\'s "${x}"; DROP SCHEMA a; -- {{job.id}} ../../etc'
    change(folder, MAIN, "catalog: caspersdev_all", f"catalog: {json.dumps(hostile)}")
    # Only what looks like a reference is refused; the rest goes where the name goes.
    assert {line.split(": ")[-1] for line in problems(folder)} == {"${x} refers to nothing"}
    target = read_bundle(folder).targets["all"]
    schema = target.resolved(target.resources("schemas")["ai"])
    assert schema["catalog_name"] == hostile
    assert schema.keys() == {"catalog_name", "name", "comment"}


def test_variables_that_name_each_other_come_to_an_end(folder: Path) -> None:
    change(folder, MAIN, "default: simulator", "default: ${var.events_volume}")
    change(folder, MAIN, "default: events\n", "default: ${var.simulator_schema}\n")
    target = read_bundle(folder).targets["all"]
    assert target.resolved("${var.events_volume}") == "${var.events_volume}"


def test_the_command_says_that_all_is_fine_or_each_problem(folder: Path) -> None:
    runner = CliRunner()
    fine = runner.invoke(bundle_app, ["check", str(folder)])
    assert fine.exit_code == 0
    assert fine.output.startswith("the bundle is fine: 4 targets, 8 jobs, ")
    change(folder, WORK, "../../app", "../../application")
    wrong = runner.invoke(bundle_app, ["check", str(folder)])
    assert wrong.exit_code == 1
    assert [line.split(": ")[0] for line in wrong.output.splitlines()] == ["default", "all"]
    document = runner.invoke(bundle_app, ["check", str(folder), "--json"])
    assert document.exit_code == 1
    assert [p["what"] for p in json.loads(document.output)["problems"]] == [
        "there is no ../application"
    ] * 2
