"""Jobs and their runs."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass

from tests.workspace_fake.requests import (
    Document,
    Refused,
    Request,
    Route,
    invalid,
    not_found,
    paged,
)
from tests.workspace_fake.shapes import check_arguments
from tests.workspace_fake.state import ME, NOW_MS, Common, Course, Store

__all__ = ["Jobs", "RunJob"]

RunJob = Callable[[Document, dict[str, str]], None]
"""Does what a job does, with its parameters; an exception makes the run fail."""

_API = "/api/2.2/jobs"


@dataclass
class _Run:
    document: Document
    course: Course
    result: str
    message: str


class Jobs:
    """The service.

    Args:
        common: of the workspace.
        run_job: runs jobs; None to let all of them succeed at once.
        has_pipeline: whether there is a pipeline by an id.
    """

    def __init__(
        self, common: Common, run_job: RunJob | None, has_pipeline: Callable[[str], bool]
    ) -> None:
        self.common = common
        self.run_job = run_job
        self.jobs = Store(common)
        self.fails = ""  # what runs fail with; empty to run them
        self._has_pipeline = has_pipeline
        self._runs: dict[int, _Run] = {}

    def routes(self) -> Iterator[Route]:
        """Methods, paths, and what answers them."""
        yield "POST", f"{_API}/create", self.create
        yield "POST", f"{_API}/reset", self.reset
        yield "POST", f"{_API}/update", self.update
        yield "GET", f"{_API}/get", self.get
        yield "GET", f"{_API}/list", self.listed
        yield "POST", f"{_API}/delete", self.delete
        yield "POST", f"{_API}/run-now", self.run_now
        yield "GET", f"{_API}/runs/get", self.get_run
        yield "GET", f"{_API}/runs/list", self.list_runs
        yield "POST", f"{_API}/runs/cancel", self.cancel_run

    def create(self, request: Request) -> Document:
        """A new job; several may have one name."""
        request.only(bodiless=False)
        check_arguments(request.body, "jobs.JobsAPI", "create")
        self._check(request.body)
        number = self.common.number("job")
        document = {
            "job_id": number,
            "creator_user_name": ME,
            "run_as_user_name": ME,
            "created_time": NOW_MS,
            "settings": {"name": "Untitled", **request.body},
        }
        self.jobs.add(str(number), document)
        return {"job_id": number}

    def reset(self, request: Request) -> Document:
        """Other settings altogether."""
        return self._change(request, "reset", lambda _old, new: new)

    def update(self, request: Request) -> Document:
        """Some other settings; what has a key of its own is merged by it."""
        removed = request.body.get("fields_to_remove", ())

        def change(old: Document, new: Document) -> Document:
            return {**{key: old[key] for key in old if key not in removed}, **new}

        return self._change(request, "update", change)

    def _change(
        self, request: Request, method: str, change: Callable[[Document, Document], Document]
    ) -> Document:
        request.only(bodiless=False)
        check_arguments(request.body, "jobs.JobsAPI", method)
        job = self._need(request.body["job_id"])
        settings = change(job["settings"], request.body.get("new_settings", {}))
        self._check(settings)
        job["settings"] = {"name": "Untitled", **settings}
        return {}

    def get(self, request: Request) -> Document:
        """One job."""
        request.only("include_trigger_state", "page_token", needs=("job_id",))
        job = self.jobs.look(request.query["job_id"])
        if job is None:
            raise self._missing(request.query["job_id"])
        return job

    def listed(self, request: Request) -> Document:
        """Jobs, all or those of one name in any case; tasks only if they are asked for."""
        request.only("expand_tasks", "limit", "name", "offset", "page_token")
        name, tasks = request.query.get("name"), request.flag("expand_tasks")
        seen = []
        for _, job in sorted(self.jobs.looks(), key=lambda pair: int(pair[0])):
            if name is None or job["settings"]["name"].lower() == name.lower():
                seen.append(deepcopy(job))
                if not tasks:
                    seen[-1]["settings"].pop("tasks", None)
        return paged(request, "jobs", seen, "limit")

    def delete(self, request: Request) -> Document:
        """A job that goes."""
        request.only(bodiless=False)
        check_arguments(request.body, "jobs.JobsAPI", "delete")
        self._need(request.body["job_id"])
        self.jobs.remove(str(request.body["job_id"]))
        return {}

    def run_now(self, request: Request) -> Document:
        """A new run, which is over when this is answered, but doesn't look so at once."""
        request.only(bodiless=False)
        check_arguments(request.body, "jobs.JobsAPI", "run_now")
        job = self._need(request.body["job_id"])
        given = request.body.get("job_parameters", {})
        defaults = {
            item["name"]: item.get("default", "") for item in job["settings"].get("parameters", ())
        }
        number = self.common.number("run")
        document = {
            "run_id": number,
            "job_id": job["job_id"],
            "number_in_job": number,
            "run_name": job["settings"]["name"],
            "creator_user_name": ME,
            "start_time": NOW_MS,
            "job_parameters": [
                {"name": name, "default": defaults.get(name, ""), "value": value}
                for name, value in {**defaults, **given}.items()
            ],
        }
        result, message = self._outcome(job, {**defaults, **given})
        course = self.common.course("PENDING", "RUNNING", "TERMINATED")
        tasks = deepcopy(job["settings"].get("tasks", []))
        self._runs[number] = _Run({**document, "tasks": tasks}, course, result, message)
        return {"run_id": number, "number_in_job": number}

    def get_run(self, request: Request) -> Document:
        """How far a run is."""
        queries = ("include_history", "include_resolved_values", "page_token")
        request.only(*queries, needs=("run_id",))
        run = self._need_run(request.query["run_id"])
        return _seen(run, run.course.look())

    def list_runs(self, request: Request) -> Document:
        """Runs, the newest first."""
        request.only("active_only", "completed_only", "expand_tasks", "job_id", "limit", "offset",
                     "page_token", "run_type", "start_time_from", "start_time_to")  # fmt: skip
        job, seen = request.query.get("job_id"), []
        for run in reversed(self._runs.values()):
            is_other = job is not None and str(run.document["job_id"]) != job
            is_over = request.flag("active_only") and run.course.has_ended
            is_going = request.flag("completed_only") and not run.course.has_ended
            if not (is_other or is_over or is_going):
                said = _seen(run, run.course.state)
                if not request.flag("expand_tasks"):
                    said.pop("tasks")
                seen.append(said)
        return paged(request, "runs", seen, "limit")

    def cancel_run(self, request: Request) -> Document:
        """A run that ends, unless it has ended."""
        request.only(bodiless=False)
        check_arguments(request.body, "jobs.JobsAPI", "cancel_run")
        run = self._need_run(str(request.body["run_id"]))
        if not run.course.has_ended:
            run.course = self.common.course("TERMINATING", "TERMINATED")
            run.result, run.message = "CANCELED", "Run cancelled."
        return {}

    def _outcome(self, job: Document, parameters: dict[str, str]) -> tuple[str, str]:
        if self.fails:
            return "FAILED", self.fails
        if self.run_job is None:
            return "SUCCESS", ""
        try:
            with self.common.outside():
                self.run_job(deepcopy(job), parameters)
        except Exception as error:  # noqa: BLE001 - whatever it is, the run has failed
            return "FAILED", str(error)
        return "SUCCESS", ""

    def _check(self, settings: Document) -> None:
        tasks = settings.get("tasks", [])
        keys = [task["task_key"] for task in tasks]
        if twice := sorted({key for key in keys if keys.count(key) > 1}):
            raise invalid(f"the task keys {twice} are not unique")
        environments = {each["environment_key"] for each in settings.get("environments", [])}
        clusters = {each["job_cluster_key"] for each in settings.get("job_clusters", [])}
        for task in tasks:
            self._check_task(task, {"depends_on": set(keys) - {task["task_key"]},
                                    "environment_key": environments,
                                    "job_cluster_key": clusters})  # fmt: skip
        _check_order({task["task_key"]: _before(task) for task in tasks})

    def _check_task(self, task: Document, known: dict[str, set[str]]) -> None:
        wanted = {"depends_on": set(_before(task))}
        for field in ("environment_key", "job_cluster_key"):
            wanted[field] = {task[field]} if task.get(field) else set()
        for field, names in wanted.items():
            if missing := sorted(names - known[field]):
                raise invalid(f"the task {task['task_key']} has {field} {missing}: not there")
        pipeline = task.get("pipeline_task", {}).get("pipeline_id")
        if pipeline is not None and not self._has_pipeline(pipeline):
            raise not_found(f"The pipeline {pipeline} of the task {task['task_key']}")
        if job := task.get("run_job_task", {}).get("job_id"):
            self._need(job)

    def _need(self, number: int) -> Document:
        if str(number) not in self.jobs:
            raise self._missing(number)
        return self.jobs[str(number)]

    def _missing(self, number: int | str) -> Refused:
        # The service says 400; the SDK makes it a ResourceDoesNotExist, but only for `jobs.get`.
        return Refused(400, "INVALID_PARAMETER_VALUE", f"Job {number} does not exist.")

    def _need_run(self, number: str) -> _Run:
        run = self._runs.get(int(number)) if number.isdigit() else None
        if run is None:
            raise Refused(400, "INVALID_PARAMETER_VALUE", f"Run {number} does not exist.")
        return run

    def snapshot(self) -> Document:
        """The jobs."""
        return {"jobs": self.jobs.snapshot()}


def _before(task: Document) -> list[str]:
    return [each["task_key"] for each in task.get("depends_on", [])]


def _check_order(before: dict[str, list[str]]) -> None:
    done: set[str] = set()
    while ready := [key for key in before if key not in done and done.issuperset(before[key])]:
        done.update(ready)
    if stuck := sorted(set(before) - done):
        raise invalid(f"the tasks {stuck} depend on each other in a circle")


def _seen(run: _Run, life: str) -> Document:
    state: Document = {"life_cycle_state": life}
    if life == "TERMINATED":
        state |= {"result_state": run.result, "state_message": run.message}
    tasks = [{**task, "state": dict(state)} for task in run.document["tasks"]]
    return {**run.document, "state": state, "tasks": tasks}
