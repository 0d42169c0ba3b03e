"""Pipelines and jobs of the workspace on the loopback."""

from collections.abc import Callable
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service import jobs, pipelines

from tests.workspace_fake import LoopbackWorkspace

Refuses = Callable[[Callable[[], Any]], str]
States = pipelines.UpdateInfoState


def task(key: str, *after: str, **more: Any) -> jobs.Task:
    return jobs.Task(
        task_key=key,
        notebook_task=jobs.NotebookTask(notebook_path=f"/{key}"),
        depends_on=[jobs.TaskDependency(task_key=each) for each in after] or None,
        **more,
    )


@pytest.fixture
def pipeline(client: WorkspaceClient, workspace: LoopbackWorkspace) -> str:
    workspace.add_schema("shop.sales")
    return str(client.pipelines.create(name="p", catalog="shop", schema="sales").pipeline_id)


# Pipelines.


def test_a_pipeline_is_created_changed_found_and_deleted(
    client: WorkspaceClient, workspace: LoopbackWorkspace, refuses: Refuses
) -> None:
    workspace.add_schema("shop.sales")
    before = workspace.snapshot()
    globs = [pipelines.PipelineLibrary(glob=pipelines.PathPattern(include="/x/**"))]
    made = client.pipelines.create(name="p_1", catalog="shop", schema="sales", libraries=globs)
    client.pipelines.create(name="px1", catalog="shop")
    identity = str(made.pipeline_id)
    client.pipelines.update(identity, name="p_1", catalog="shop", continuous=True)
    there = client.pipelines.get(identity)
    assert there.spec and there.state == pipelines.PipelineState.IDLE
    assert (there.spec.continuous, there.spec.libraries) == (True, [])
    found = client.pipelines.list_pipelines(filter="name LIKE 'p_1'")
    assert [p.name for p in found] == ["p_1", "px1"]
    found = client.pipelines.list_pipelines(filter="name LIKE 'px%'")
    assert [p.name for p in found] == ["px1"]
    assert "the filter" in refuses(lambda: list(client.pipelines.list_pipelines(filter="x")))
    for each in list(client.pipelines.list_pipelines()):
        client.pipelines.delete(str(each.pipeline_id))
    assert workspace.snapshot() == before
    assert "RESOURCE_DOES_NOT_EXIST" in refuses(lambda: client.pipelines.get(identity))


def test_pipelines_that_are_refused(
    client: WorkspaceClient, pipeline: str, refuses: Refuses
) -> None:
    create = client.pipelines.create
    assert "CATALOG_DOES_NOT_EXIST" in refuses(lambda: create(name="q", catalog="no"))
    assert "RESOURCE_CONFLICT" in refuses(lambda: create(name="p", catalog="shop"))
    assert create(name="p", catalog="shop", allow_duplicate_names=True).pipeline_id
    assert "missing fields" in refuses(lambda: create(catalog="shop"))
    assert "does not exist" in refuses(lambda: client.pipelines.start_update("no"))
    assert "does not exist" in refuses(lambda: client.pipelines.get_update(pipeline, "no"))


def test_an_update_passes_its_states(
    client: WorkspaceClient, workspace: LoopbackWorkspace, pipeline: str, refuses: Refuses
) -> None:
    workspace.common.looks = 2
    ran: list[str] = []
    workspace.pipelines.run_update = lambda document: ran.append(document["name"])
    started = client.pipelines.start_update(pipeline, full_refresh=True)
    conflict = refuses(lambda: client.pipelines.start_update(pipeline))
    assert conflict.startswith("RESOURCE_CONFLICT")

    def look() -> States | None:
        update = client.pipelines.get_update(pipeline, str(started.update_id)).update
        return update.state if update else None

    assert [look() for _ in range(4)] == [
        States.QUEUED, States.RUNNING, States.COMPLETED, States.COMPLETED,
    ]  # fmt: skip
    assert ran == ["p"]
    (latest,) = client.pipelines.get(pipeline).latest_updates or []
    assert latest.state == pipelines.UpdateStateInfoState.COMPLETED


def test_an_update_fails_or_is_stopped(
    client: WorkspaceClient, workspace: LoopbackWorkspace, pipeline: str
) -> None:
    workspace.common.looks = 0
    workspace.pipelines.fails = "no such column"
    client.pipelines.start_update(pipeline)
    there = client.pipelines.get(pipeline)
    assert (there.state, there.cause) == (pipelines.PipelineState.FAILED, "no such column")
    workspace.pipelines.fails = ""
    workspace.common.looks = 9
    client.pipelines.start_update(pipeline)
    client.pipelines.stop(pipeline).result()
    updates = client.pipelines.list_updates(pipeline).updates or []
    assert [update.state for update in updates] == [States.CANCELED, States.FAILED]


# Jobs.


def test_a_job_is_created_changed_found_and_deleted(
    client: WorkspaceClient, workspace: LoopbackWorkspace, refuses: Refuses
) -> None:
    made = client.jobs.create(name="j", tasks=[task("a"), task("b", "a")])
    number = made.job_id or 0
    client.jobs.update(number, new_settings=jobs.JobSettings(description="d"))
    there = client.jobs.get(number).settings
    assert there and [t.task_key for t in there.tasks or []] == ["a", "b"]
    assert there.description == "d"
    client.jobs.reset(number, jobs.JobSettings(name="k", tasks=[task("c")]))
    assert [j.job_id for j in client.jobs.list(name="K")] == [number]
    assert list(client.jobs.list(name="j")) == []
    client.jobs.delete(number)
    assert workspace.snapshot() == {}
    assert "does not exist" in refuses(lambda: client.jobs.get(number))


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ([task("a", "b")], "the task a has depends_on ['b']: not there"),
        ([task("a", "a")], "the task a has depends_on ['a']: not there"),
        ([task("a", "b"), task("b", "a")], "in a circle"),
        ([task("a"), task("a")], "not unique"),
        ([task("a", environment_key="e")], "environment_key ['e']: not there"),
        (
            [jobs.Task("a", pipeline_task=jobs.PipelineTask(pipeline_id="no"))],
            "The pipeline no of the task a does not exist",
        ),
        ([jobs.Task("a", run_job_task=jobs.RunJobTask(job_id=9))], "Job 9 does not exist"),
    ],
)
def test_jobs_whose_tasks_refer_to_nothing(
    client: WorkspaceClient, refuses: Refuses, tasks: list[jobs.Task], said: str
) -> None:
    assert said in refuses(lambda: client.jobs.create(name="j", tasks=tasks))


def test_a_run_does_what_the_job_does_and_may_ask_the_workspace(
    client: WorkspaceClient, workspace: LoopbackWorkspace
) -> None:
    seen: list[Any] = []

    def run_job(job: dict[str, Any], parameters: dict[str, str]) -> None:
        seen.append((job["settings"]["name"], parameters))
        client.catalogs.create(parameters["catalog"])

    workspace.jobs.run_job = run_job
    parameters = [jobs.JobParameterDefinition(name="catalog", default="x")]
    made = client.jobs.create(name="j", tasks=[task("a")], parameters=parameters)
    done = client.jobs.run_now(made.job_id or 0, job_parameters={"catalog": "shop"}).result()
    assert done.state and done.state.result_state == jobs.RunResultState.SUCCESS
    assert seen == [("j", {"catalog": "shop"})]
    assert client.catalogs.get("shop").name == "shop"
    again = client.jobs.run_now(made.job_id or 0, job_parameters={"catalog": "shop"}).result()
    assert again.state and again.state.result_state == jobs.RunResultState.FAILED
    assert "already exists" in str(again.state.state_message)
    runs = list(client.jobs.list_runs(job_id=made.job_id))
    assert [run.run_id for run in runs] == [again.run_id, done.run_id]


def test_a_run_is_canceled_or_fails(
    client: WorkspaceClient, workspace: LoopbackWorkspace, refuses: Refuses
) -> None:
    workspace.common.looks = 3
    number = client.jobs.create(name="j", tasks=[task("a")]).job_id or 0
    run = client.jobs.run_now(number)
    assert [r.run_id for r in client.jobs.list_runs(active_only=True)] == [run.run_id]
    canceled = client.jobs.cancel_run(run.run_id).result()
    assert canceled.state and canceled.state.result_state == jobs.RunResultState.CANCELED
    workspace.jobs.fails = "out of memory"
    failed = client.jobs.run_now(number).result()
    assert failed.state and failed.state.state_message == "out of memory"
    assert "does not exist" in refuses(lambda: client.jobs.run_now(77))
    assert "does not exist" in refuses(lambda: client.jobs.get_run(77))
