"""What the tasks do with Spark and files; everything else they ask the workspace's services for."""

import shutil
import tempfile
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, Protocol

from caspers_lib.agents.complaint_draws import COMPLAINT_SEED
from caspers_lib.agents.tables import AGENT_TABLES, AgentTables
from caspers_lib.domain import GHOST_KITCHEN, Domain, Table
from caspers_lib.errors import DatasetError, SettingsError, WorkspaceError
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.dataset_measures import check_scale
from caspers_lib.replay.engine import Replay
from caspers_lib.replay.generator import generate_dataset
from caspers_lib.replay.state import StateStore
from caspers_lib.replay.volume_sink import VolumeSink
from caspers_lib.runtime.settings import Settings
from caspers_lib.spark_sql import quote_name

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient
    from pyspark.sql import SparkSession

__all__ = ["Lakehouse", "SparkLakehouse", "StreamName", "agent_tables_in"]

StreamName = Literal["refunds", "complaints", "responses"]


class Lakehouse(Protocol):
    """Spark and the volumes, as the tasks use them."""

    @property
    def catalog(self) -> str | None:
        """The catalog in names of tables; None where the engine has none of that name."""

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Names of the dataset's dimension tables."""

    def has_dataset(self) -> bool:
        """Whether the dataset is in its volume; one that the settings name has to be there."""

    def write_dataset(self) -> None:
        """See that the dataset is there: one that the settings name, or the generated one.

        Raises:
            DatasetError: the named one is missing, does not fit, or lacks a dimension's file.
            SettingsError: DATASET or DATASET_SCALE would have no effect.
        """

    def write_dimension(self, name: str) -> None:
        """Write a dimension table, anew if it is there."""

    def tick(self, now: float) -> int:
        """Write the events between the watermark and now, UTC epoch seconds; how many."""

    @property
    def replay_state(self) -> StateStore:
        """The replay's state, in the volume `misc`."""

    def execute(self, statement: str) -> None:
        """Run a SQL statement of our own."""

    def run_stream(self, name: StreamName, client: "WorkspaceClient") -> str:
        """Take what is new through an agent's stream; who answers, in words.

        Args:
            name: which stream.
            client: has the agents' endpoints.
        """


def agent_tables_in(catalog: str | None) -> AgentTables:
    """The agents' tables under names that hold in any process.

    Args:
        catalog: the catalog, quoted where the names are to stand in a query; None is the
            session's own.
    """
    if catalog is None:
        return AGENT_TABLES
    parts = {part.name: getattr(AGENT_TABLES, part.name) for part in fields(AGENT_TABLES)}
    written: dict[str, Any] = {
        part: replace(table, name=f"{catalog}.{table.name}")
        for part, table in parts.items()
        if isinstance(table, Table)
    }
    return replace(
        AGENT_TABLES,
        events=f"{catalog}.{AGENT_TABLES.events}",
        lines=f"{catalog}.{AGENT_TABLES.lines}",
        **written,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SparkLakehouse:
    """Spark and the volumes of a workspace, or of a laptop that stands for one.

    Args:
        spark: the session.
        settings: name catalog, schemas and volumes.
        volumes: folder of the volumes.
        catalog: the catalog in names of tables; None where the engine has none of that name.
        domain: the business.
    """

    spark: "SparkSession"
    settings: Settings
    volumes: Path = Path("/Volumes")
    catalog: str | None
    domain: Domain = GHOST_KITCHEN

    @classmethod
    def here(
        cls, spark: "SparkSession", settings: Settings, volumes: Path = Path("/Volumes")
    ) -> "SparkLakehouse":
        """The session's lakehouse, with the settings' catalog where the engine has catalogs.

        Args:
            spark: the session.
            settings: name the catalog.
            volumes: folder of the volumes.

        Raises:
            WorkspaceError: the engine has catalogs, but not this one.
        """
        # The services take a name in any case; Spark lists it as it was made, or in small letters.
        names = {row.name.casefold(): row.name for row in spark.catalog.listCatalogs()}
        catalog = names.get(settings.catalog.casefold())
        if catalog is not None or names.keys() <= {"spark_catalog"}:
            return cls(spark=spark, settings=settings, volumes=volumes, catalog=catalog)
        raise WorkspaceError(
            f"The catalog {settings.catalog} doesn't exist, or you may not use it.",
            hint="Set CATALOG to one that you may use, or create it first.",
        )

    @property
    def dimensions(self) -> tuple[str, ...]:
        """See `Lakehouse`."""
        from caspers_lib.replay.generator.dimensions import DIMENSION_SCHEMAS

        return tuple(DIMENSION_SCHEMAS)

    def has_dataset(self) -> bool:
        """See `Lakehouse`."""
        return bool(self.settings.dataset) or self._dataset.is_file()

    def write_dataset(self) -> None:
        """See `Lakehouse`."""
        if self.has_dataset():
            EventsFile.open(self._dataset, self.domain)
            is_own, scale = bool(self.settings.dataset), self.settings.dataset_scale
            check_scale(self._dataset, scale, is_own=is_own)
            self._refuse_missing_dimensions()
            return
        folder = self._dataset.parent
        # A volume takes whole files; the writer of parquet wants to move about in one.
        with tempfile.TemporaryDirectory() as scratch:
            events = generate_dataset(Path(scratch), scale=self.settings.dataset_scale)
            folder.mkdir(parents=True, exist_ok=True)
            for file in sorted(events.parent.glob("*.parquet"), key=lambda f: f == events):
                aside = folder / f".{file.name}.new"
                shutil.copyfile(file, aside)
                aside.replace(folder / file.name)

    def write_dimension(self, name: str) -> None:
        """See `Lakehouse`."""
        rows = self.spark.read.parquet(str(self._dataset.with_name(f"{name}.parquet")))
        table = quote_name(*self._inside(self.settings.simulator_schema, name))
        rows.write.mode("overwrite").option("overwriteSchema", "true").saveAsTable(table)

    def tick(self, now: float) -> int:
        """See `Lakehouse`."""
        replay = Replay(
            dataset=EventsFile.open(self._dataset, self.domain),
            sink=VolumeSink(
                self._volume(self.settings.simulator_schema, self.settings.events_volume),
                layout=self.settings.events_layout,
            ),
            store=self.replay_state,
            start_day=self.settings.start_day,
            speed=None,
            speed_setting=self.settings.speed_multiplier,
            domain=self.domain,
        )
        return replay.tick(now).events

    @property
    def replay_state(self) -> StateStore:
        """See `Lakehouse`."""
        return StateStore(self._volume(self.settings.simulator_schema, "misc"))

    def execute(self, statement: str) -> None:
        """See `Lakehouse`."""
        self.spark.sql(statement)

    def run_stream(self, name: StreamName, client: "WorkspaceClient") -> str:
        """See `Lakehouse`."""
        from caspers_lib.agents import streams
        from caspers_lib.runtime.agent_models import (
            workspace_agent_model,
            workspace_complaint_writer,
        )

        # A stream's queries take names as they stand, and a catalog's may need quotes.
        tables = agent_tables_in(self.catalog and quote_name(self.catalog))
        schema = "recommender" if name == "refunds" else "complaints"
        kept = self._volume(schema, "checkpoints")
        checkpoint, domain = str(kept / name), self.domain
        if name == "complaints":
            writer = workspace_complaint_writer(self.settings)
            rate = self.settings.complaint_rate
            streams.run_complaint_stream(
                self.spark,
                checkpoint,
                rate,
                COMPLAINT_SEED,
                tables=tables,
                domain=domain,
                writer=writer,
            )
            return f"{writer.asker.model}, or by the rules where it wrote no text"
        run = streams.run_refund_stream if name == "refunds" else streams.run_response_stream
        model, who = workspace_agent_model(self.settings, name, client, cache=kept / "answers")
        run(self.spark, checkpoint, tables=tables, domain=domain, model=model)
        return who

    @property
    def _dataset(self) -> Path:
        own = self.settings.dataset
        if not own:
            misc = self._volume(self.settings.simulator_schema, "misc")
            return misc / "dataset" / "events.parquet"
        root, *parts = PurePosixPath(own).parts
        if root != "/" or parts[:1] != ["Volumes"] or len(parts) < 5 or ".." in parts:
            raise SettingsError(
                f"DATASET is {own!r}: in a workspace it must be a file in a volume",
                hint="write /Volumes/<catalog>/<schema>/<volume>/events.parquet, or leave it empty",
            )
        return self.volumes.joinpath(*parts[1:])

    def _refuse_missing_dimensions(self) -> None:
        files = [self._dataset.with_name(f"{name}.parquet") for name in self.dimensions]
        if missing := [file.name for file in files if not file.is_file()]:
            raise DatasetError(
                f"The dataset {self._dataset} has no {', '.join(missing)} beside it",
                hint="put the dimensions' files into the events' folder",
            )

    def _volume(self, schema: str, volume: str) -> Path:
        return self.volumes / (self.catalog or self.settings.catalog) / schema / volume

    def _inside(self, *names: str) -> tuple[str, ...]:
        return names if self.catalog is None else (self.catalog, *names)
