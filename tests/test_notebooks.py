"""The example notebooks as their jobs run them: real Spark and Delta, services on the loopback."""

import itertools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config
from databricks.sdk.service.jobs import Task

from caspers_lib.agents.tables import AGENT_TABLES
from caspers_lib.medallion.registration import LAYERS
from caspers_lib.replay.volume_sink import count_events
from caspers_lib.runtime.pipeline import run_update
from caspers_lib.runtime.settings import Settings
from caspers_lib.runtime.task_graph import AFTER, checked_graph
from caspers_lib.workspace import Workspace
from caspers_lib.workspace.resource_kinds import KINDS
from caspers_lib.workspace.resource_state import Resource
from caspers_lib.workspace_calls import Patience
from tests.bundle.deployment import Deployment
from tests.bundle.shipped import shipped
from tests.standins.agent_endpoints import AI_QUERY, MODEL, AgentEndpoints
from tests.standins.analytics import read_dashboard, read_genie_space, widget_queries
from tests.standins.databricks_notebook import CATALOG, run_notebook, share_catalog
from tests.standins.mlflow_registry import MlflowRegistry
from tests.workspace.conftest import (
    AccountOnPaper,
    lakebase_dsns,  # noqa: F401 - a fixture
)
from tests.workspace_fake import LoopbackWorkspace
from tests.workspace_fake.requests import Document

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted((EXAMPLES / "notebooks").glob("*.py"))
FOR_PEOPLE = {"run_agent_streams.py", "score_one_order.py"}
"""No job's; `tests/agents/test_notebooks.py` runs them."""

# As by `--var`: small enough for a test, and every fourth customer complains.
TARGET = shipped(catalog=CATALOG, dataset_scale=0.004, complaint_rate=0.25)
STEERING = {"COMMAND", "VALUE"}
"""Parameters that are a notebook's own."""
SCHEMAS = {"simulator", "lakeflow", "ai", "recommender", "complaints", "_internal_state"}
RECOMMENDED = AGENT_TABLES.recommendations.name
COMPLAINTS = AGENT_TABLES.complaints.name
RESPONSES = AGENT_TABLES.responses.name
Shown = list[tuple[Any, ...]]


@dataclass
class Place:
    """A workspace with the example bundle, in which a local Spark does what serverless would.

    Args:
        loopback: the services; the tables of its catalog are Spark's.
        client: talks to them.
        spark: the session.
        folder: has the volumes and the pipeline's checkpoints.
        now: the wall clock, UTC epoch seconds.
        parameters: what each job handed to its notebooks, by its id.
        read: names of the settings that notebooks took, by the id of their job.
        running: ids of the jobs that run, the innermost last.
        ran: files of the notebooks that ran.
        logged: what each model was logged with, by its name.
    """

    loopback: LoopbackWorkspace
    client: WorkspaceClient
    spark: Any
    folder: Path
    now: float = 1_795_600_800.0
    shown: dict[str, Shown] = field(default_factory=dict)
    parameters: dict[int, dict[str, str]] = field(default_factory=dict)
    read: dict[int, set[str]] = field(default_factory=dict)
    running: list[int] = field(default_factory=list)
    ran: set[str] = field(default_factory=set)
    logged: dict[str, dict[str, Any]] = field(default_factory=dict)
    before: Document = field(default_factory=dict)
    bundle: Deployment = field(init=False)
    rows: dict[tuple[str, str], Resource] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.bundle = Deployment(self.client)

    @property
    def events(self) -> Path:
        return self.folder / CATALOG / "simulator" / "events"

    def run_job(self, key: str, **given: str) -> dict[str, Shown]:
        """Each notebook of a deployed job with what it showed, in the order of the job's graph."""
        name = TARGET.resources["jobs"][key]["name"]
        [job] = self.client.jobs.list(name=name)
        return self._run(job.job_id or 0, given)

    def _run(self, job_id: int, given: Mapping[str, str]) -> dict[str, Shown]:
        job = self.client.jobs.get(job_id).settings
        assert job
        assert job.tasks
        declared = {p.name: p.default for p in job.parameters or []}
        assert given.keys() <= declared.keys()
        parameters = {**declared, **given}
        self.running.append(job_id)
        self.read.setdefault(job_id, set())
        self.parameters[job_id] = parameters
        tasks = {task.task_key: task for task in job.tasks}
        shown: dict[str, Shown] = {}
        for name in checked_graph({key: _after(task) for key, task in tasks.items()}):
            task = tasks[name]
            if task.run_job_task:
                handed = {
                    key: text.replace(f"{{{{job.parameters.{key}}}}}", parameters[key])
                    for key, text in (task.run_job_task.job_parameters or {}).items()
                }
                shown |= self._run(task.run_job_task.job_id, handed)
                self.read[job_id] |= handed.keys()
            else:
                assert task.notebook_task
                notebook = TARGET.uploads[f"{task.notebook_task.notebook_path}.py"]
                shown[name] = run_notebook(notebook, self.spark, parameters)
                self.ran.add(notebook.name)
        self.running.pop()
        return shown

    def update_pipeline(self, pipeline: Document, layers: Sequence[str] = LAYERS) -> None:
        """An update by the pipeline's own source, with bronze as a graph of its own.

        Args:
            pipeline: as the service has it.
            layers: bronze, and what else is brought up to date.
        """
        spec = pipeline["spec"]
        if spec.get("pipeline_type") == "DATABASE_TABLE_SYNC":
            return
        [library] = spec["libraries"]
        source = TARGET.uploads[library["file"]["path"]].read_text(encoding="utf-8")
        events = Path(spec["configuration"]["caspers.events"])
        configured = {"caspers.events": str(self.folder / events.relative_to("/Volumes"))}
        bronze, *derived = layers
        try:
            for graph in (bronze, ",".join(derived)):
                for key, value in {**configured, "caspers.layers": graph}.items():
                    self.spark.conf.set(key, value)
                run_update(
                    self.spark,
                    lambda _spark: exec(compile(source, "order_items.py", "exec"), {}),  # noqa: S102
                    storage=self.folder / "pipeline",
                    database=spec["schema"],
                )
        finally:
            self.spark.conf.unset("caspers.events")
            self.spark.conf.unset("caspers.layers")
        # The service asks which tables are new.
        self.loopback.unity.stores["tables"].looks()

    def pipeline_goes_on(self) -> None:
        """What a continuous pipeline does by itself; no stream needs gold."""
        [pipeline] = self.client.pipelines.list_pipelines(filter="name LIKE 'Order Items%'")
        spec = self.loopback.pipelines.pipelines[pipeline.pipeline_id or ""]
        self.update_pipeline(spec, ("bronze", "silver"))

    def table(self, name: str) -> Any:
        return self.spark.read.table(f"{CATALOG}.{name}")

    def commits(self) -> dict[str, int]:
        """How often each Delta table of the deployment has been written to."""
        warehouse = Path(self.spark.conf.get("spark.sql.warehouse.dir").removeprefix("file:"))
        logs = [warehouse.glob(f"{schema}.db/*/_delta_log/*.json") for schema in SCHEMAS]
        return Counter(str(file.parent.parent) for log in logs for file in log)

    def delivered(self) -> set[str]:
        """Orders that the files say were delivered; Spark plays no part."""
        lines = [
            json.loads(line)
            for file in self.events.glob("*.json")
            for line in file.read_text(encoding="utf-8").splitlines()
        ]
        return {line["order_id"] for line in lines if line["event_type"] == "delivered"}

    def column(self, name: str, table: str) -> list[str]:
        """A column's values, sorted."""
        return sorted(row[0] for row in self.table(table).select(name).collect())

    def check_answers(self) -> None:
        """Each delivered order has one recommendation, some complain, each complaint an answer."""
        delivered = self.delivered()
        assert len(delivered) > 100
        assert self.column("order_id", RECOMMENDED) == sorted(delivered)
        complaining = self.column("order_id", COMPLAINTS)
        assert set(complaining) < delivered
        assert 0.1 < len(set(complaining)) / len(delivered) < 0.4
        assert len(set(complaining)) == len(complaining)
        assert self.column("complaint_id", RESPONSES) == self.column("complaint_id", COMPLAINTS)
        assert set(self.column("generated_by", COMPLAINTS)) == {MODEL}
        for table in (RECOMMENDED, RESPONSES):
            answers = map(json.loads, self.column("agent_response", table))
            assert {answer["source"] for answer in answers} == {"model"}


# A write to Delta takes a second, and there are a hundred: a table for the account is for `full`.
@pytest.fixture(scope="module", params=["paper", pytest.param("Delta", marks=pytest.mark.full)])
def place(
    request: pytest.FixtureRequest,
    spark: Any,
    lakebase_dsns: dict[str, str],  # noqa: F811 - the fixture
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("notebooks")
    # Nothing takes more than one look, so that the SDK has nothing to wait for.
    loopback = LoopbackWorkspace(looks=0)
    share_catalog(loopback, spark)
    with loopback.running(), pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith(("DATABRICKS_", "CASPERS_"))]:
            patch.delenv(name)
        patch.setenv("DATABRICKS_HOST", loopback.url)
        patch.setenv("DATABRICKS_TOKEN", loopback.token)
        # An update runs within its request; the SDK would send the request again after a minute.
        patch.setattr(Config, "http_timeout_seconds", 3600.0)
        patch.setenv("NO_PROXY", "127.0.0.1")
        made = Place(loopback, WorkspaceClient(), spark, folder)
        loopback.serving.invoke = AgentEndpoints(made.client, made.logged)
        spark.sql(AI_QUERY)
        made.before = loopback.snapshot()
        loopback.pipelines.run_update = made.update_pipeline
        patch.setattr(Workspace, "here", _here(made, lakebase_dsns, request.param))
        made.bundle.deploy(TARGET)
        yield made
    spark.sql("DROP TEMPORARY FUNCTION ai_query")
    for schema in SCHEMAS:
        spark.sql(f"DROP SCHEMA IF EXISTS {schema} CASCADE")


@pytest.fixture(scope="module")
def deployed(place: Place) -> Place:
    place.shown = place.run_job("initializer")
    return place


def _here(place: Place, dsns: dict[str, str], account: str) -> Callable[[Settings, Any], Workspace]:
    """`Workspace.here` but for what only Databricks has: /Volumes, mlflow, Lakebase, and time."""
    original = Workspace.here
    patience = Patience(
        timeout_seconds=60, sleep=lambda _seconds: None, clock=itertools.count(0.0).__next__
    )

    def here(settings: Settings, spark: Any) -> Workspace:
        noted = _noting(settings, place.read[place.running[-1]])
        made = original(noted, spark, volumes=place.folder)
        store = made.ledger.store
        if account == "paper":
            store = AccountOnPaper(place.rows)
        return replace(
            made,
            ledger=replace(made.ledger, store=store, patience=patience),
            patience=patience,
            now=lambda: place.now,
            mlflow=cast("Any", MlflowRegistry(place.loopback, configs=place.logged)),
            reach=lambda _client, _branch, database: dsns[database],
        )

    return here


def _noting(settings: Settings, read: set[str]) -> Settings:
    """The settings, which note the name of each that is taken."""

    class Noting(Settings):
        def __getattribute__(self, name: str) -> Any:
            if name in Settings.model_fields:
                read.add(name.upper())
            return super().__getattribute__(name)

    return Noting.model_validate(settings.model_dump())


def _after(task: Task) -> list[str]:
    return [each.task_key for each in task.depends_on or []]


@pytest.mark.spark
def test_the_initializer_runs_each_task_in_the_order_of_the_graph(deployed: Place) -> None:
    assert tuple(deployed.shown) == checked_graph(AFTER)
    for task, rows in deployed.shown.items():
        assert rows[0][:2] == ("task", task)
        for kind, name, became in rows[1:]:
            assert KINDS[kind].is_there(deployed.client, name), (task, kind, name)
            assert became.split()[0] in {"created", "unchanged"}
    done = {task: rows[0][2] for task, rows in deployed.shown.items()}
    assert done["Canonical_Data"] == f"{count_events(deployed.events):,} events written"
    assert done["Spark_Declarative_Pipeline"] == "up to date, update update-1 started"
    for kind in ("refund", "complaint"):
        agent = "Refund_Recommender_Agent" if kind == "refund" else "Complaint_Agent"
        endpoint, model = f"caspers_{kind}_agent", f"{CATALOG}.ai.{kind}_agent"
        assert done[agent] == f"{endpoint} serves {model} version 1"
    assert done["Databricks_App_Refund_Manager"].endswith(" runs; it may read caspers")


@pytest.mark.spark
def test_every_delivered_order_is_recommended_once(deployed: Place) -> None:
    deployed.check_answers()


@pytest.mark.spark
def test_the_dashboard_and_the_questions_are_answered_with_rows(deployed: Place) -> None:
    spark, (dashboard, resource) = deployed.spark, read_dashboard(TARGET)
    queries = {dataset.name: dataset.sql for dataset in dashboard.datasets}
    asked = list(widget_queries(dashboard))
    spark.sql(f"USE {resource['dataset_catalog']}.{resource['dataset_schema']}")
    try:
        for name, sql in [*queries.items(), *asked]:
            rows = spark.sql(sql).limit(100).collect()
            assert rows, name
            assert all(value is not None for row in rows for value in row), name
    finally:
        spark.sql(f"USE {CATALOG}.default")
    for example in read_genie_space(TARGET).instructions.example_question_sqls:
        assert spark.sql("".join(example.sql)).collect(), example.question


@pytest.mark.spark
def test_every_notebook_a_second_time_changes_nothing(deployed: Place) -> None:
    exists, commits = deployed.loopback.snapshot(), deployed.commits()
    assert len(commits) > 15
    again = deployed.run_job("initializer")
    assert deployed.loopback.snapshot() == exists
    # The pipeline's own update commits, whether or not anything is new.
    ours = {table: times for table, times in commits.items() if "/lakeflow.db/" not in table}
    assert len(ours) > 5
    after = deployed.commits()
    assert {table: times for table, times in after.items() if table in ours} == ours
    assert after.keys() == commits.keys()
    became = {word.split()[0] for rows in again.values() for _, _, word in rows[1:]}
    assert became == {"unchanged"}
    assert again["Canonical_Data"][0][2] == "0 events written"
    # What else the refund manager shows is synced by now.
    followed = "all up to now, by caspers_refund_agent; the orders' synced tables follow"
    assert again["Refund_Recommender_Stream"][0][2] == followed


@pytest.mark.spark
def test_the_scheduled_notebooks_take_what_is_new(deployed: Place) -> None:
    before, events = deployed.delivered(), count_events(deployed.events)
    deployed.now += 3_600
    [told] = deployed.run_job("replay")["Replay"]
    new = count_events(deployed.events) - events
    assert told == ("task", "Replay", f"{new:,} events written")
    assert before < deployed.delivered()
    deployed.pipeline_goes_on()
    deployed.run_job("refund_recommender_stream")
    deployed.check_answers()


@pytest.mark.spark
def test_a_job_steers_the_replay(deployed: Place) -> None:
    [[_, _, paused]] = deployed.run_job("replay_control", COMMAND="pause")["Replay_Control"]
    assert paused.startswith("paused at ")
    deployed.now += 3_600
    [[_, _, done]] = deployed.run_job("replay")["Replay"]
    assert done == "0 events written"
    deployed.run_job("replay_control", COMMAND="resume")
    [[_, _, status]] = deployed.run_job("replay_control")["Replay_Control"]
    assert status.startswith("plays at speed 60 ")


@pytest.mark.spark
def test_the_destroyer_removes_what_the_notebooks_made_and_says_so(deployed: Place) -> None:
    [rows] = deployed.run_job("destroyer").values()
    *resources, account = rows
    assert account == ("account", "_internal_state", "removed")
    ours = [row for row in resources if row[2] == "removed"]
    assert not [row for row in ours if KINDS[row[0]].is_there(deployed.client, row[1])]
    bundle = "the bundle's: bundle destroy"
    assert {became for _, _, became in resources} == {"removed", bundle}
    made = {
        (kind, name)
        for rows in deployed.shown.values()
        for kind, name, became in rows[1:]
        if became.startswith("created")
    }
    assert {(kind, name) for kind, name, became in resources if became == "removed"} == made
    schemas = {row[0] for row in deployed.spark.sql("SHOW SCHEMAS").collect()}
    assert schemas & SCHEMAS == SCHEMAS - {"_internal_state"}

    [rows] = deployed.run_job("destroyer").values()
    assert {became for _, _, became in rows[:-1]} <= {bundle}
    deployed.bundle.destroy()
    assert deployed.loopback.snapshot() == deployed.before
    assert not {row[0] for row in deployed.spark.sql("SHOW SCHEMAS").collect()} & SCHEMAS
    assert deployed.ran == {n.name for n in NOTEBOOKS} - FOR_PEOPLE
    handed = {job: given.keys() - STEERING for job, given in deployed.parameters.items()}
    assert handed == deployed.read


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_short_and_somebody_runs_it(notebook: Path) -> None:
    lines = notebook.read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line.strip() and not line.startswith("#")]) < 30
    if notebook.name in FOR_PEOPLE:
        guide = (EXAMPLES.parent / "docs" / "guide.md").read_text(encoding="utf-8")
        assert f"../examples/notebooks/{notebook.name}" in guide
        return
    jobs = TARGET.resources["jobs"].values()
    tasks = [task.get("notebook_task") for job in jobs for task in job["tasks"]]
    paths = [TARGET.uploads[f"{task['notebook_path']}.py"] for task in tasks if task]
    assert paths.count(notebook) == 1
