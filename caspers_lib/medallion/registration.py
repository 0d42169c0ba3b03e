"""The tables as a declarative pipeline: the engine gets the library's functions.

What is declared follows from what the engine offers, never from a guess
at the platform: where it knows expectations, the rules are native and files come through Auto
Loader; elsewhere the same conditions filter, and files come through Spark's own source.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from caspers_lib.domain import GHOST_KITCHEN, AggregateTable, Domain, event_rules
from caspers_lib.domain.tables import (
    Table,
    aggregate_table,
    bronze_table,
    domain_tables,
    lifecycle_table,
    line_items_table,
    quarantine_table,
)
from caspers_lib.errors import PipelineError
from caspers_lib.medallion.bronze import auto_loader_events, bronze_events, direct_events
from caspers_lib.medallion.gold import aggregate
from caspers_lib.medallion.lifecycle import silver_order_lifecycle
from caspers_lib.medallion.quality import accepted_events, parsed_events, quarantined_events
from caspers_lib.medallion.silver import silver_order_items, unique_events

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["LAYERS", "PipelineSettings", "register_pipeline", "table_names"]

LAYERS = ("bronze", "silver", "gold")

# What is set aside is dropped on the way to silver: the quarantine has a flow of its own.
_EXPECTATIONS = {
    "expect_all": ("warn",),
    "expect_all_or_drop": ("drop", "quarantine"),
    "expect_all_or_fail": ("fail",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSettings:
    """Where a pipeline's events come from, and which of its layers to declare.

    Args:
        events: folder of landed event files.
        shown_as: what `source_file` says in place of that folder, percent-encoded, where it is read
            through a link; itself if None.
        direct_events: Delta table of events that are ingested without files, which flows into the
            same bronze table; None where there is none. It can be added later.
        layers: some of `LAYERS`.
        domain: the business.

    Raises:
        PipelineError: a layer has another name.
    """

    events: str
    direct_events: str | None = None
    shown_as: str | None = None
    layers: tuple[str, ...] = LAYERS
    domain: Domain = GHOST_KITCHEN

    def __post_init__(self) -> None:
        """Refuse layers that don't exist."""
        unknown = [layer for layer in self.layers if layer not in LAYERS]
        if unknown or not self.layers:
            raise PipelineError(
                f"The pipeline's layers are {list(self.layers)}; allowed are {list(LAYERS)}",
                hint="set `caspers.layers` to one or more of them, with commas between",
            )

    @classmethod
    def from_conf(cls, spark: "SparkSession") -> "PipelineSettings":
        """Settings from the pipeline's `configuration`.

        `caspers.events` must be there; `caspers.direct_events` and `caspers.layers` (with commas)
        may be.

        Raises:
            PipelineError: a value is missing or not allowed.
        """
        events = spark.conf.get("caspers.events", None)
        if not events:
            raise PipelineError(
                "The pipeline's configuration lacks caspers.events, the folder of the event files",
                hint="add `caspers.events: /Volumes/...` under `configuration`",
            )
        if spark.conf.get("caspers.deduplication_hours", None):
            raise PipelineError(
                "caspers.deduplication_hours is set; an event's id is remembered for good",
                hint="leave it out",
            )
        layers = spark.conf.get("caspers.layers", None) or ",".join(LAYERS)
        return cls(
            events=events,
            direct_events=spark.conf.get("caspers.direct_events", None) or None,
            layers=tuple(layer.strip() for layer in layers.split(",")),
        )


def table_names(domain: Domain = GHOST_KITCHEN) -> tuple[str, ...]:
    """Names of the pipeline's tables, upstream first."""
    return tuple(table.name for table in domain_tables(domain))


def register_pipeline(
    settings: PipelineSettings, spark: "SparkSession", *, engine: object | None = None
) -> None:
    """Declare bronze, silver and gold in the pipeline that is being defined.

    Call it where the engine's decorators are allowed: a pipeline's source file, or an in-process
    graph. Names are bare: the pipeline's own catalog and schema hold the tables.

    Args:
        settings: where events come from, and what to declare.
        spark: the pipeline's session.
        engine: the module of decorators: `pyspark.pipelines` if None, or Databricks' `dlt`.

    Raises:
        PipelineError: the engine can't hold these layers in one graph.
    """
    declared = _Declarations(settings, spark, engine or _spark_pipelines())
    if not declared.has_expectations and {"bronze", "silver"} <= set(settings.layers):
        # Its streams' state would need a look at a table that the graph only now defines: the
        # silver table would silently lag an update behind (docs/decisions/medallion-layers.md).
        raise PipelineError(
            "Open-source Spark can't hold bronze and silver in one graph",
            hint="run the pipeline with `caspers.layers: bronze`, then with `silver,gold`",
        )
    if "bronze" in settings.layers:
        declared.bronze()
    if "silver" in settings.layers:
        declared.silver()
    if "gold" in settings.layers:
        declared.gold()


def _spark_pipelines() -> object:
    from pyspark import pipelines

    return pipelines


@dataclass(frozen=True, slots=True)
class _Declarations:
    settings: PipelineSettings
    spark: "SparkSession"
    engine: Any

    @property
    def domain(self) -> Domain:
        return self.settings.domain

    @property
    def has_expectations(self) -> bool:
        return hasattr(self.engine, "expect_all")

    def bronze(self) -> None:
        """The streaming table, and a flow into it from each source.

        Each flow has its own name and checkpoint: one that is added later leaves the others alone.
        """
        domain, table = self.domain, bronze_table(self.domain)
        self.engine.create_streaming_table(table.name, **_layout(table))

        def from_files() -> "DataFrame":
            events = self.settings.events
            if self.has_expectations:
                return auto_loader_events(self.spark, events, domain)
            return bronze_events(self.spark, events, domain, shown_as=self.settings.shown_as)

        self.engine.append_flow(target=table.name, name=table.name)(from_files)
        direct = self.settings.direct_events
        if direct is None:
            return

        def from_table() -> "DataFrame":
            return direct_events(self.spark.readStream.table(direct), direct, domain)

        self.engine.append_flow(target=table.name, name=f"{table.name}_direct")(from_table)

    def silver(self) -> None:
        """Line items and the quarantine, streaming, each from bronze."""
        domain, opening = self.domain, self.domain.line_items.event
        items, quarantine = line_items_table(domain), quarantine_table(domain)
        view = self._judged_view() if self.has_expectations else None

        def lines() -> "DataFrame":
            if view is None:
                events = self.spark.readStream.table(domain.bronze)
                orders = accepted_events(events, domain, events_of=opening)
            else:
                orders = self.spark.readStream.table(view).where(f"event_type = '{opening}'")
            return silver_order_items(unique_events(orders), domain)

        def rejected() -> "DataFrame":
            return quarantined_events(self.spark.readStream.table(domain.bronze), domain)

        self.engine.table(name=items.name, **_layout(items))(lines)
        self.engine.table(name=quarantine.name, **_layout(quarantine))(rejected)

    def gold(self) -> None:
        """Lifecycle and aggregates, as materialized views."""
        domain = self.domain

        def lifecycle() -> "DataFrame":
            events = self.spark.read.table(domain.bronze)
            return silver_order_lifecycle(accepted_events(events, domain), domain)

        self._materialized_view(lifecycle_table(domain), lifecycle)
        for table in domain.gold:
            self._aggregate(table)

    def _aggregate(self, table: AggregateTable) -> None:
        domain = self.domain
        source = {
            "line_items": domain.line_items.table, "lifecycle": domain.lifecycle.table
        }[table.source]  # fmt: skip

        def rows() -> "DataFrame":
            return aggregate(self.spark.read.table(source), table)

        self._materialized_view(aggregate_table(table), rows)

    def _judged_view(self) -> str:
        """Declares a view of the accepted events, whose rules the engine counts and enforces."""
        domain, name = self.domain, "accepted_events"

        def judged() -> "DataFrame":
            return parsed_events(self.spark.readStream.table(domain.bronze), domain)

        rules = event_rules(domain)
        for expect, actions in _EXPECTATIONS.items():
            conditions = {
                r.name: f"coalesce({r.condition}, false)" for r in rules if r.action in actions
            }
            if conditions:
                judged = getattr(self.engine, expect)(conditions)(judged)
        view = getattr(self.engine, "temporary_view", None) or self.engine.view
        view(name=name, comment="Events that violate no rule")(judged)
        return name

    def _materialized_view(self, table: Table, rows: "Callable[[], DataFrame]") -> None:
        declare = getattr(self.engine, "materialized_view", self.engine.table)
        declare(name=table.name, **_layout(table))(rows)


def _layout(table: Table) -> dict[str, Any]:
    """What the engine is told of a table beside its name and rows."""
    layout: dict[str, Any] = {"comment": table.comment, "schema": table.ddl}
    if table.partition_by:
        layout["partition_cols"] = list(table.partition_by)
    if table.properties:
        layout["table_properties"] = table.properties
    return layout
