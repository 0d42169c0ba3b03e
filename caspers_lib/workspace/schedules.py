"""What runs by itself: for each schedule a job that starts the bundle's, made once it can work.

The bundle's own jobs have no schedule. So nothing runs before its inputs are there, and a later
deployment, which puts every setting of its jobs back, neither stops nor starts anything.
Why: docs/decisions/deployment.md.
"""

import json
from typing import TYPE_CHECKING

from caspers_lib.workspace.context import Workspace
from caspers_lib.workspace.declared import declared_resources
from caspers_lib.workspace.ledger import Wanted
from caspers_lib.workspace.resource_kinds import job_named
from caspers_lib.workspace_calls import asked

if TYPE_CHECKING:
    from databricks.sdk.service.jobs import JobSettings, Task

__all__ = ["STREAM_MINUTES", "pipeline_schedule", "schedule"]

STREAM_MINUTES = 10
"""Minutes between two runs of a stream."""


def schedule(workspace: Workspace, key: str, title: str, minutes: int) -> list[Wanted]:
    """A schedule for a job of the bundle; none where the bundle has no such job.

    Args:
        workspace: where.
        key: the job's key in the bundle.
        title: what people read.
        minutes: between two runs.
    """
    from databricks.sdk.service.jobs import RunJobTask, Task

    job = declared_resources(workspace.settings).get(f"jobs.{key}")
    if job is None:
        return []
    task = Task(task_key="Run", run_job_task=RunJobTask(job_id=int(job)))
    return [_wanted(workspace, title, task, minutes)]


def pipeline_schedule(workspace: Workspace) -> Wanted:
    """The schedule of the pipeline's updates: one right after the other where the minutes are 0.

    Args:
        workspace: where; its settings name the pipeline.
    """
    from databricks.sdk.service.jobs import PipelineTask, Task

    task = Task(task_key="Update", pipeline_task=PipelineTask(workspace.settings.pipeline_id))
    minutes = workspace.settings.pipeline_schedule_minutes
    return _wanted(workspace, "Pipeline Update Scheduler", task, minutes)


def _wanted(workspace: Workspace, title: str, task: "Task", minutes: int) -> Wanted:
    jobs = workspace.client.jobs
    # Names of jobs needn't be one of a kind: the catalog makes this one so.
    name = f"{title} ({workspace.settings.catalog})"
    settings = _settings(name, task, minutes)
    what = f"{name} was not scheduled"

    def create() -> str:
        made = asked(what, lambda: jobs.create(**vars(settings)))
        return str(made.job_id)

    def update() -> str:
        job = job_named(workspace.client, name)
        job_id = (job and job.job_id) or 0
        asked(what, lambda: jobs.reset(job_id, settings))
        return str(job_id)

    return Wanted(
        kind="schedule",
        name=name,
        create=create,
        update=update,
        fingerprint=json.dumps(settings.as_dict(), sort_keys=True),
    )


def _settings(name: str, task: "Task", minutes: int) -> "JobSettings":
    from databricks.sdk.service.jobs import (
        Continuous,
        JobSettings,
        PauseStatus,
        PerformanceTarget,
        PeriodicTriggerConfiguration,
        PeriodicTriggerConfigurationTimeUnit,
        QueueSettings,
        TriggerSettings,
    )

    settings = JobSettings(name=name, tasks=[task], max_concurrent_runs=1)
    # STANDARD may take longer to start than the minutes between two runs.
    settings.performance_target = PerformanceTarget.PERFORMANCE_OPTIMIZED
    if minutes == 0:
        settings.continuous = Continuous(pause_status=PauseStatus.UNPAUSED)
        return settings
    # Not a cron expression: `0 0/N` drifts where N doesn't divide 60.
    every = PeriodicTriggerConfiguration(minutes, PeriodicTriggerConfigurationTimeUnit.MINUTES)
    settings.trigger = TriggerSettings(periodic=every, pause_status=PauseStatus.UNPAUSED)
    settings.queue = QueueSettings(enabled=True)
    return settings
