"""A workspace to deploy to: loopback services, a lakehouse on paper, a real PostgreSQL."""

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config

from caspers_lib.lakebase.server import EmbeddedPostgres
from caspers_lib.runtime.settings import Settings
from caspers_lib.runtime.task_graph import checked_graph, target_tasks
from caspers_lib.workspace import TASKS, TaskOutcome, Workspace
from caspers_lib.workspace.resource_state import Resource, age
from caspers_lib.workspace_calls import Patience
from tests.bundle.configuration import Target
from tests.bundle.deployment import Deployment
from tests.bundle.shipped import task_settings
from tests.standins.mlflow_registry import MlflowRegistry
from tests.standins.paper_lakehouse import PaperLakehouse
from tests.workspace_fake import LoopbackWorkspace

APP_ROLE = "app-client-1"


class Crash(BaseException):
    """The process is gone."""


@dataclass
class World:
    """One workspace with its bundle deployed, and what a process does in it.

    Args:
        loopback: the services.
        client: talks to them.
        account: the rows of the target, by kind and name.
        dsns: of the databases that Lakebase has, by their names.
        moments: how many changes have been about to be made.
        in_between: at which of them another process works, and what it does.
    """

    loopback: LoopbackWorkspace
    client: WorkspaceClient
    account: dict[tuple[str, str], Resource]
    dsns: dict[str, str]
    settings: Settings = field(default_factory=Settings)
    paper: PaperLakehouse = field(init=False)
    bundle: Deployment = field(init=False)
    crashes: bool = False
    crashed: list[str] = field(default_factory=list)
    moments: int = 0
    in_between: tuple[int, Callable[[], object]] | None = None

    def __post_init__(self) -> None:
        self.bundle = Deployment(self.client)
        self.paper = PaperLakehouse(self.loopback, "caspersdev_all", self.step)
        ask = self.client.api_client.do

        def watched(method: str, path: str, *words: Any, **more: Any) -> Any:
            if method == "GET":
                return ask(method, path, *words, **more)
            what = f"{method} {path} {more.get('query')} {str(more.get('body'))[:200]}"
            self.step(f"before {what}")
            answer = ask(method, path, *words, **more)
            self.step(f"after {what}")
            return answer

        # Each of the SDK's services holds this one object.
        self.client.api_client.do = watched  # type: ignore[method-assign]

    def step(self, moment: str) -> None:
        """The moment before or after a call that changes something; the process may end there.

        Between two such calls nothing is different, so that an end there is one of these. Before
        one of them another process may do its whole work.
        """
        self.moments += moment.startswith("before")
        if self.in_between is not None and self.in_between[0] == self.moments:
            (_, work), self.in_between = self.in_between, None
            work()
        if self.crashes and moment not in self.crashed:
            self.crashed.append(moment)
            raise Crash

    def through_crashes(self, work: Callable[[], object]) -> None:
        """Do some work again and again, until it gets through; it ends once at each moment."""
        self.crashes = True
        for _ in range(1000):
            with suppress(Crash):
                work()
                break
        else:
            raise AssertionError(f"no end in sight: {self.crashed[-3:]}")
        self.crashes = False

    def deploy_bundle(self, target: Target) -> None:
        """What comes before the tasks."""
        self.bundle.deploy(target)
        self.settings = task_settings(self.bundle)

    def workspace(self) -> Workspace:
        """What a new process is given."""
        moments = itertools.count(1_800_000_000)
        return Workspace.over(
            self.settings,
            self.client,
            self.paper,
            AccountOnPaper(self.account, self.step),
            patience=Patience(timeout_seconds=600, sleep=_no_sleep, clock=_ticking()),
            now=lambda: float(next(moments)),
            mlflow=cast("Any", MlflowRegistry(self.loopback, self.step)),
            reach=self._reached,
        )

    def _reached(self, _client: WorkspaceClient, branch: str, database: str) -> str:
        """A database as its owner reaches it; the app is a role there once it has it."""
        apps = self.loopback.snapshot()["apps"].values()
        had = [resource for app in apps for resource in app.get("resources", [])]
        assert branch in {each["postgres"]["branch"] for each in had if "postgres" in each}
        return self.dsns[database]

    def run(self, task: str) -> TaskOutcome:
        """One task, in a process of its own."""
        return TASKS[task](self.workspace())

    def deploy(self) -> list[TaskOutcome]:
        """Every task of the target, in the graph's order."""
        return [self.run(name) for name in checked_graph(target_tasks("all"))]


@dataclass(frozen=True)
class AccountOnPaper:
    """An account of one target that outlives its processes, and whose every write is a step."""

    rows: dict[tuple[str, str], Resource]
    step: Callable[[str], None] = lambda _what: None

    def prepare(self) -> None:
        return

    def read(self) -> tuple[Resource, ...]:
        return tuple(sorted(self.rows.values(), key=age))

    def others_live(self) -> bool:
        return False

    def write(self, *resources: Resource) -> None:
        new = {(row.kind, row.name): row for row in resources}
        assert 0 < len(new) == len(resources)
        what = f"write {[(row.kind, row.name, row.status) for row in resources]}"
        self.step(f"before {what}")
        self.rows.update(new)
        self.step(f"after {what}")


def _no_sleep(_seconds: float) -> None:
    return


def _ticking() -> Callable[[], float]:
    """A clock that gets on by a second with each look."""
    moments = itertools.count()
    return lambda: float(next(moments))


@pytest.fixture(scope="session")
def lakebase_dsns() -> Iterator[dict[str, str]]:
    """Databases as Lakebase has them once the app has them: with its role, and synced tables."""
    schemas = {"caspers": ("recommender", "lakeflow"), "caspers_complaints": ("complaints",)}
    folder = Path(tempfile.mkdtemp(prefix="workspace-"))
    folder.chmod(0o755)
    try:
        with EmbeddedPostgres(folder / "pg") as server:
            for database, synced in schemas.items():
                server.ensure_database(database)
                with psycopg.connect(server.dsn(database)) as connection:
                    for schema in (*synced, "secret"):
                        connection.execute(f"CREATE SCHEMA {schema}".encode())
                        connection.execute(f"CREATE TABLE {schema}.pg_t (n int)".encode())
            with psycopg.connect(server.dsn("caspers")) as connection:
                connection.execute(f'CREATE ROLE "{APP_ROLE}"')
            yield {database: server.dsn(database) for database in schemas}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def refunds_dsn(lakebase_dsns: dict[str, str]) -> str:
    """The refunds' database, as its owner reaches it."""
    return lakebase_dsns["caspers"]


@pytest.fixture
def sdk_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's own waits take no time."""
    moments = itertools.count()
    for name in ("apps", "jobs", "pipelines", "serving", "sql"):
        module = import_module(f"databricks.sdk.service.{name}")
        quick = SimpleNamespace(time=lambda: float(next(moments)), sleep=_no_sleep)
        monkeypatch.setattr(module, "time", quick)


@pytest.fixture
def make_world(
    sdk_clock: None,  # noqa: ARG001 - it only has to be there
    monkeypatch: pytest.MonkeyPatch,
    lakebase_dsns: dict[str, str],
) -> Iterator[Callable[..., World]]:
    """Makes workspaces with a target's bundle deployed."""
    for name in [n for n in os.environ if n.startswith("DATABRICKS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running: list[Any] = []

    def make(target: Target | None = None, **how: Any) -> World:
        loopback = LoopbackWorkspace(**how)
        block = loopback.running()
        block.__enter__()
        running.append(block)
        client = WorkspaceClient(config=Config(host=loopback.url, token=loopback.token))
        loopback.unity.add("catalogs", "caspersdev_all", catalog_type="MANAGED_CATALOG")
        world = World(loopback, client, {}, lakebase_dsns)
        loopback.pipelines.run_update = lambda _pipeline: add_lakeflow_tables(loopback)
        if target is not None:
            world.deploy_bundle(target)
        return world

    yield make
    for block in running:
        block.__exit__(None, None, None)


def add_lakeflow_tables(loopback: LoopbackWorkspace) -> None:
    """What an update of the pipeline makes, on paper."""
    from caspers_lib.medallion.registration import table_names

    for table in table_names():
        name = f"caspersdev_all.lakeflow.{table}"
        if name not in loopback.unity.stores["tables"]:
            loopback.add_table(name, change_feed=True)
