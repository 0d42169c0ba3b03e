"""The whole business on one machine: Spark, PostgreSQL and the stages that use them."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote
from urllib.request import ProxyHandler, build_opener

from psycopg.conninfo import make_conninfo

from caspers_lib.agents.complaint_draws import COMPLAINT_SEED
from caspers_lib.agents.streams import (
    run_complaint_stream,
    run_refund_stream,
    run_response_stream,
)
from caspers_lib.agents.tables import AGENT_TABLES, ensure_tables
from caspers_lib.agents.tools import AI_SCHEMA, create_tools
from caspers_lib.domain import GHOST_KITCHEN, Domain
from caspers_lib.errors import EngineError, PostgresError, RootError
from caspers_lib.lakebase import (
    COMPLAINT_TEXTS,
    COMPLAINTS,
    REFUNDS,
    SyncSpec,
    agent_tables,
    order_tables,
)
from caspers_lib.lakebase.access import connection_parameters
from caspers_lib.lakebase.change_feed import SyncRun, sync_once
from caspers_lib.lakebase.connection import connect
from caspers_lib.lakebase.server import EmbeddedPostgres
from caspers_lib.medallion.incremental import DerivedUpdate
from caspers_lib.medallion.registration import PipelineSettings
from caspers_lib.replay.dataset_measures import check_scale
from caspers_lib.replay.engine import Replay, Tick
from caspers_lib.replay.generator import generate_dataset
from caspers_lib.replay.generator.dimensions import DIMENSION_SCHEMAS
from caspers_lib.runtime.agent_models import agent_model, check_models, complaint_writer
from caspers_lib.runtime.catalog import register_tables
from caspers_lib.runtime.event_folder import unreadable_files
from caspers_lib.runtime.java import find_java
from caspers_lib.runtime.local_replay import ReplayOptions, local_replay
from caspers_lib.runtime.local_root import LocalRoot
from caspers_lib.runtime.replay_status import clock_warning
from caspers_lib.runtime.spark import answers, plan_for_few_rows, start_session, stop_session
from caspers_lib.runtime.stages import Report, Stage
from caspers_lib.runtime.tables_update import update_tables
from caspers_lib.runtime.task_graph import target_tasks
from caspers_lib.spark_paths import plain_folder, rebase_file_log
from caspers_lib.spark_sql import quote_name

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["LocalBusiness", "StreamName"]

StreamName = Literal["refunds", "complaints", "responses"]

_PAGE_SECONDS = 120
_ORDERS = "Order_Lakebase"
# What a laptop has besides the tasks: servers, and what a page shows of an order.
_NEED_POSTGRES = frozenset(
    {"Lakebase_Reverse_ETL", "Complaint_Lakebase", "Databricks_App_Refund_Manager"}
)
# Their tools tell a location's name.
_MAKE_TOOLS = frozenset({"Refund_Recommender_Agent", "Complaint_Agent"})
# Each agent's schema, its stream, and what holds when that has ended.
_ANSWERS: Mapping[str, tuple[str, Callable[..., None], str]] = {
    "refunds": ("recommender", run_refund_stream, "every delivered order has a recommendation"),
    "responses": ("complaints", run_response_stream, "every complaint is answered"),
}
_HEARTBEAT_EVENTS = 100_000


@dataclass
class LocalBusiness:
    """Everything that runs in one process on one ROOT.

    Args:
        root: where all state lies; this process owns it.
        dataset: the events file to replay; None is the generated one.
        options: how the replay is asked to write.
        now: the wall clock, UTC epoch seconds.
        domain: the business.
        postgres_dsn: a server to sync to, as a connection string; None is ROOT's own.
        page_url: where the console is served; None where it isn't.
    """

    root: LocalRoot
    dataset: Path | None = None
    options: ReplayOptions = field(default_factory=ReplayOptions)
    now: Callable[[], float] = time.time
    domain: Domain = GHOST_KITCHEN
    postgres_dsn: str | None = None
    postgres: EmbeddedPostgres = field(init=False)
    _spark: "SparkSession | None" = None
    _dsns: dict[str, str] = field(default_factory=dict)
    _ticking: Lock = field(default_factory=Lock)
    _has_ticked: bool = False
    _making_tools: Lock = field(default_factory=Lock)
    _tools_made: bool = False
    # Stages, and tables of names, that this process needs only once.
    _finished: set[str] = field(default_factory=set)
    page_url: str | None = None

    def __post_init__(self) -> None:
        """Prepare the server's launcher; nothing starts yet."""
        self.postgres = EmbeddedPostgres(self.root.postgres)

    @property
    def dataset_file(self) -> Path:
        """The events file that is replayed."""
        return self.dataset or self.root.dataset_file

    def check(self, target: str = "all") -> None:
        """Refuse what can't run before anything is started or written.

        Args:
            target: one of `task_graph.TARGETS`.

        Raises:
            DatasetError, ReplayStateError, SettingsError, JavaError, PostgresError: what is wrong.
        """
        find_java(self.root.run)
        if self.postgres_dsn is None and self._needs_postgres(target):
            _ = self.postgres.origin
        check_models(self.root.settings)
        if self.dataset is not None or self.root.dataset_file.exists():
            self.replay().next_window(self.now())
            if "dataset_scale" in self.root.settings.model_fields_set:
                scale, is_own = self.root.settings.dataset_scale, self.dataset is not None
                check_scale(self.dataset_file, scale, is_own=is_own)

    def start_up(self, target: str = "all") -> tuple[Stage, ...]:
        """Stages of the first round: servers beside the data, then the target's tasks.

        Args:
            target: one of `task_graph.TARGETS`.

        Raises:
            SettingsError: there is no such target.
        """
        tasks = target_tasks(target)
        servers = [Stage("Local_Spark", self.start_spark)]
        if self._needs_postgres(target):
            servers.insert(0, Stage("Local_Postgres", self.start_postgres))
        stages = [self._stage(name, after) for name, after in tasks.items()]
        dimensions = Stage("Dimension_Tables", self._dimensions, ("Canonical_Data", "Local_Spark"))
        if "Lakebase_Reverse_ETL" in tasks:
            after = ("Spark_Declarative_Pipeline", "Dimension_Tables", "Local_Postgres")
            stages.append(Stage(_ORDERS, self._sync(*self._orders()), after))
        return (*servers, dimensions, *stages)

    def round(self) -> tuple[Stage, ...]:
        """Stages that take what is new through every table, once; the ticker writes the events."""
        left_out = {"Canonical_Data", *self._finished}
        stages = [stage for stage in self.start_up() if stage.name not in left_out]
        names = {stage.name for stage in stages}
        return tuple(
            replace(stage, after=tuple(name for name in stage.after if name in names))
            for stage in stages
        )

    def _needs_postgres(self, target: str) -> bool:
        return not _NEED_POSTGRES.isdisjoint(target_tasks(target))

    def _stage(self, name: str, after: tuple[str, ...]) -> Stage:
        """A task of the graph, after the servers that it needs here as well."""
        needs = ("Local_Spark",) if name == "Spark_Declarative_Pipeline" else ()
        if name in _NEED_POSTGRES:
            needs = ("Local_Postgres",)
        if name in _MAKE_TOOLS:
            needs = ("Dimension_Tables",)
        return Stage(name, self._works()[name], (*after, *needs))

    def _works(self) -> dict[str, Callable[[Report], str]]:
        return {
            "Canonical_Data": self.write_events,
            "Spark_Declarative_Pipeline": self._pipeline,
            "Refund_Recommender_Agent": self._agent("refunds"),
            "Refund_Recommender_Stream": self.stream("refunds"),
            "Lakebase_Reverse_ETL": self._sync(REFUNDS),
            "Databricks_App_Refund_Manager": self._page,
            "Complaint_Agent": self._agent("responses"),
            "Complaint_Generator_Stream": self.stream("complaints"),
            "Complaint_Agent_Stream": self.stream("responses"),
            "Complaint_Lakebase": self._sync(COMPLAINT_TEXTS, COMPLAINTS),
        }

    def stop(self) -> None:
        """Stop Spark and PostgreSQL, in this order."""
        try:
            self._stop_spark()
        finally:
            self._dsns.clear()
            self.postgres.stop()

    def _stop_spark(self) -> None:
        spark, self._spark, self._tools_made = self._spark, None, False
        if spark is not None:
            stop_session(spark)

    @property
    def synced_tables(self) -> tuple[SyncSpec, ...]:
        """Everything that is brought to PostgreSQL."""
        return (*agent_tables(), *self._orders())

    def _orders(self) -> tuple[SyncSpec, ...]:
        return order_tables(self.domain, dimensions=self.root.settings.simulator_schema)

    def dsn(self, spec: SyncSpec) -> str | None:
        """Connection string of the target's database; None until its server runs."""
        return self._dsns.get(spec.database)

    def replay(self) -> Replay:
        """The replay of the dataset into the volume, see `local_replay`."""
        # A speed that this process was started with counts once: somebody may steer meanwhile.
        options = replace(self.options, speed=None) if self._has_ticked else self.options
        return local_replay(self.root, self.dataset_file, options, self.domain)

    def tick(
        self,
        on_events: Callable[[int], None] = lambda _count: None,
        *,
        stopping: Callable[[], bool] = lambda: False,
    ) -> Tick:
        """Write the events between the watermark and now, see `Replay.tick`.

        Raises:
            RootError: ROOT is no longer where it was at the tick before: never a first run.
        """
        with self._ticking:
            if self._has_ticked and not self.root.replay_state.is_dir():
                raise RootError(
                    f"ROOT {self.root.path} was moved or removed while it is in use",
                    hint="move it back, or stop this and start again where it is now",
                )
            tick = self.replay().tick(self.now(), on_events, stopping=stopping)
            self._has_ticked = True
            return tick

    def start_postgres(self, report: Report, specs: Sequence[SyncSpec] | None = None) -> str:
        """Start the server, anew where it has died, and make its databases.

        Args:
            report: receives a line on the way.
            specs: the synced tables whose databases are needed; all if None.

        Raises:
            PostgresError: the server can't be started, or one of yours lacks a database.
        """
        databases = {spec.database for spec in specs or self.synced_tables}
        if self.postgres_dsn is not None:
            parameters = connection_parameters(self.postgres_dsn)
            for name in databases:
                dsn = make_conninfo(**{**parameters, "dbname": name})
                connect(dsn).close()
                self._dsns[name] = dsn
            return "a server of yours"
        report("starting the server")
        self.postgres.start()
        for database in databases:
            self.postgres.ensure_database(database)
            self._dsns[database] = self.postgres.dsn(database)
        return f"running ({self.postgres.origin})"

    def start_spark(self, report: Report) -> str:
        """Start the JVM, anew where it has died, and name the tables that are there."""
        if self._spark is not None:
            if answers(self._spark):
                plan_for_few_rows(self._spark)
                return "running"
            report("stopping what is left of the JVM")
            self._stop_spark()
        report("starting the JVM")
        for checkpoint in self.root.file_stream_checkpoints(self.domain.bronze):
            rebase_file_log(checkpoint, plain_folder(self.root.events))
        warehouse, work = plain_folder(self.root.warehouse), plain_folder(self.root.run)
        spark = start_session(warehouse, log=self.root.spark_log, work=work)
        report("naming the tables")
        try:
            register_tables(spark, warehouse, self.root.schemas)
            ensure_tables(spark)
        except BaseException:
            stop_session(spark)
            raise
        self._spark = spark
        return "running"

    @property
    def spark(self) -> "SparkSession":
        """The session; its stage comes before every stage that uses it."""
        if self._spark is None:
            raise EngineError("Spark has not been started", hint="run the start-up stages first")
        return self._spark

    def write_events(self, report: Report, *, stopping: Callable[[], bool] = lambda: False) -> str:
        """Write the events up to now; the dataset is made where there is none.

        Args:
            report: receives a line on the way.
            stopping: asked between two pieces whether to leave the rest to the next run.

        Raises:
            CaspersError: the dataset can't be read, or the events can't be written.
        """
        if self.dataset is None and not self.root.dataset_file.exists():
            generate_dataset(
                self.root.dataset,
                scale=self.root.settings.dataset_scale,
                progress=lambda done: report(f"making the dataset, {done:.0%}"),
            )
        written = 0

        def on_events(count: int) -> None:
            nonlocal written
            written += count
            if written % _HEARTBEAT_EVENTS < count:
                report(f"{written:,} events written")

        tick = self.tick(on_events, stopping=stopping)
        warning = clock_warning(tick.state.seconds_ahead(self.now()))
        return "; ".join(filter(None, [f"{tick.events:,} events written", warning]))

    def _dimensions(self, report: Report) -> str:
        folder = plain_folder(self.dataset_file.parent)
        made = 0
        for name in DIMENSION_SCHEMAS:
            file = folder / f"{name}.parquet"
            table = quote_name(self.root.settings.simulator_schema, name)
            if not file.is_file() or self.spark.catalog.tableExists(table):
                continue
            report(name)
            self.spark.read.parquet(str(file)).write.saveAsTable(table)
            made += 1
        if self.dataset_file.is_file():
            self._finished.add("Dimension_Tables")
        return f"{made} tables written"

    def _pipeline(self, report: Report) -> str:
        self.update_tables(report)
        done, bad = "bronze, silver and gold are up to date", unreadable_files(self.root.events)
        return f"{done}; {len(bad)} unreadable files, see `caspers status`" if bad else done

    def update_tables(
        self, report: Report, *, full_refresh: bool = False
    ) -> tuple[DerivedUpdate, ...]:
        """Bring bronze, silver and gold up to the event files, see `update_tables`."""
        events, storage = plain_folder(self.root.events), plain_folder(self.root.pipeline_storage)
        return update_tables(
            self.spark,
            PipelineSettings(
                events=str(events), shown_as=quote(str(self.root.events)), domain=self.domain
            ),
            storage=storage,
            full_refresh=full_refresh,
            on_event=report,
        )

    def stream(self, name: StreamName) -> Callable[[Report], str]:
        """The work of one agent's stage."""
        return self._complaints if name == "complaints" else self._answers(name)

    def _answers(self, agent: Literal["refunds", "responses"]) -> Callable[[Report], str]:
        schema, run, done = _ANSWERS[agent]

        def work(_report: Report) -> str:
            model = agent_model(self.root.settings, agent, cache=self.root.answer_cache(schema))
            checkpoint = plain_folder(self.root.checkpoint(schema, agent))
            run(self.spark, str(checkpoint), domain=self.domain, model=model)
            return done

        return work

    def _complaints(self, _report: Report) -> str:
        run_complaint_stream(
            self.spark,
            str(plain_folder(self.root.checkpoint("complaints", "complaints"))),
            self.root.settings.complaint_rate,
            COMPLAINT_SEED,
            domain=self.domain,
            writer=complaint_writer(self.root.settings, cache=self.root.answer_cache("complaints")),
        )
        return "complaints written"

    def _agent(self, agent: Literal["refunds", "responses"]) -> Callable[[Report], str]:
        def work(_report: Report) -> str:
            with self._making_tools:
                if not self._tools_made:
                    schema = self.root.settings.simulator_schema
                    named = self.spark.catalog.tableExists(quote_name(schema, "locations"))
                    tables = replace(AGENT_TABLES, dimensions=schema if named else None)
                    create_tools(self.spark, tables=tables, domain=self.domain)
                    self._tools_made = True
            settings = self.root.settings
            model = agent_model(settings, agent, cache=self.root.answer_cache("ai"))
            asker = model.asker if model else None
            who = f"with {asker.model}" if asker else "by the rules"
            return f"SQL tools in {AI_SCHEMA}; answers {who}"

        return work

    def _page(self, _report: Report) -> str:
        if self.page_url is None:
            return "no page is served by this command"
        # A proxy of the environment is not for our own page.
        direct = build_opener(ProxyHandler({}))
        with direct.open(f"{self.page_url}/live", timeout=_PAGE_SECONDS) as page:
            page.read()
        self._finished.add("Databricks_App_Refund_Manager")
        return f"the page answers at {self.page_url}"

    def sync(self, spec: SyncSpec, *, reload: bool = False) -> SyncRun:
        """Bring one table to PostgreSQL, see `sync_once`."""
        dsn = self.dsn(spec)
        if dsn is None:
            raise PostgresError("PostgreSQL has not been started", hint="start it first")
        return sync_once(self.spark, spec, dsn, reload=reload)

    def _sync(self, *specs: SyncSpec) -> Callable[[Report], str]:
        def work(report: Report) -> str:
            written = refused = 0
            for spec in specs:
                is_names = spec.mode == "snapshot"
                # A dataset needs no dimension tables, and they don't change while it runs.
                if is_names and (
                    spec.name in self._finished or not self.root.table(spec.source).is_dir()
                ):
                    continue
                report(spec.name)
                result = self.sync(spec).result
                if is_names:
                    self._finished.add(spec.name)
                written += result.written
                refused += result.refused
            aside = f", {refused:,} refused" if refused else ""
            return f"{written:,} rows written to Postgres{aside}"

        return work
