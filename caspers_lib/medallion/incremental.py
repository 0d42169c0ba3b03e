"""Lifecycle and gold kept up to date in proportion to what is new, on any Spark with Delta.

The same functions that compute a table whole are applied to the keys
that new rows touch: days of a gold table, orders of the lifecycle. Which ones these are, Delta's
change data feed of the table's source says, from the version after the one that the table was last
brought up to. That version is written down after the table is, and applying the same changes twice
gives the same table: a crash in between costs time only.
"""

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from hashlib import sha256
from threading import Lock
from typing import TYPE_CHECKING, Any

from caspers_lib.domain import GHOST_KITCHEN, AggregateTable, Domain, event_rules
from caspers_lib.domain.tables import Table, aggregate_table, lifecycle_table
from caspers_lib.errors import PipelineError, first_cause
from caspers_lib.medallion.gold import aggregate
from caspers_lib.medallion.lifecycle import lifecycle_columns, silver_order_lifecycle
from caspers_lib.medallion.positions import Position, Positions
from caspers_lib.medallion.quality import accepted_events
from caspers_lib.spark_sql import quote_name

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["DerivedUpdate", "update_derived_tables"]


@dataclass(frozen=True, slots=True)
class DerivedUpdate:
    """What was done to a table.

    Args:
        table: its name.
        how: `nothing new`, the keys that were computed anew, or why the table was computed whole.
    """

    table: str
    how: str


@dataclass(frozen=True, slots=True)
class _Source:
    """A Delta table with its change data feed on, at its present version."""

    spark: "SparkSession"
    name: str
    id: str
    version: int
    days: dict[int, list[str]] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def rows(self) -> "DataFrame":
        return self.spark.read.table(self.name)

    def touched_days(self, day: str, after: int) -> list[str]:
        """Days of the rows that have changed; asked once for all tables of this source."""
        with self.lock:
            if after not in self.days:
                # Text: a table that an earlier version wrote may hold days beyond Python's dates.
                text = f"CAST({day} AS STRING)"
                rows = self.changes(after).where(f"{day} IS NOT NULL").selectExpr(text).distinct()
                self.days[after] = sorted(row[0] for row in rows.collect())
            return self.days[after]

    def changes(self, after: int) -> "DataFrame":
        reader = self.spark.read.option("readChangeFeed", "true")
        span = reader.option("startingVersion", after + 1).option("endingVersion", self.version)
        return span.table(self.name)


def update_derived_tables(
    spark: "SparkSession",
    database: str,
    positions: Positions,
    *,
    domain: Domain = GHOST_KITCHEN,
    full_refresh: bool = False,
    only: Collection[str] | None = None,
    workers: int = 4,
) -> tuple[DerivedUpdate, ...]:
    """Bring the lifecycle and every gold table up to bronze and silver.

    Args:
        spark: the session; bronze and the line items are in `database`.
        database: schema of the tables.
        positions: remembers how far each table is.
        domain: the business.
        full_refresh: compute every table whole.
        only: names of the tables; all of them if None.
        workers: tables that are written at once.

    Returns:
        What was done, a line a table, in the tables' order.

    Raises:
        PipelineError: a table could not be written; the others are, and the next update goes on.
    """
    run = _Update(spark, database, positions, domain, full_refresh)
    chosen = [t for t in domain.gold if only is None or t.name in only]

    def aggregates(source: str, table: str) -> list[Future[DerivedUpdate]]:
        mine = [t for t in chosen if t.source == source]
        rows = run.source(table) if mine else None
        return [pool.submit(run.aggregate, t, rows) for t in mine if rows is not None]

    with ThreadPoolExecutor(workers, thread_name_prefix="derived") as pool:
        orders = []
        if only is None or domain.lifecycle.table in only:
            orders.append(pool.submit(run.lifecycle))
        done = [*orders, *aggregates("line_items", domain.line_items.table)]
        if all(future.exception() is None for future in orders):
            done += aggregates("lifecycle", domain.lifecycle.table)
    # Raises what the first failed one raised, after all have ended.
    return tuple(future.result() for future in done)


@dataclass(frozen=True, slots=True)
class _Update:
    spark: "SparkSession"
    database: str
    positions: Positions
    domain: Domain
    full_refresh: bool

    def source(self, table: str) -> _Source:
        """The table as it is now."""
        from pyspark.errors import PySparkException

        name = self._name(table)
        try:
            detail: Any = self.spark.sql(f"DESCRIBE DETAIL {name}").select("id").collect()[0]
            newest: Any = self.spark.sql(f"DESCRIBE HISTORY {name} LIMIT 1").select("version")
            version = int(newest.collect()[0][0])
        except PySparkException as error:
            raise PipelineError(
                f"The table {self.database}.{table} can't be read: {first_cause(error)}",
                hint="bronze and silver come first",
            ) from error
        return _Source(self.spark, name, str(detail.id), version)

    def lifecycle(self) -> DerivedUpdate:
        """Merges the times of new events into their orders' rows."""
        table = lifecycle_table(self.domain)
        definition = repr((table, event_rules(self.domain), self.domain.event_types))
        source = self.source(self.domain.bronze)

        def changed(after: int) -> str | None:
            changes = source.changes(after)
            kinds = {row[0]: row[1] for row in changes.groupBy("_change_type").count().collect()}
            if set(kinds) - {"insert"}:
                return None
            if kinds:
                self._merge_lifecycle(table, self._lifecycle_of(changes))
            return f"{kinds.get('insert', 0):,} new events"

        def whole() -> "DataFrame":
            return self._lifecycle_of(source.rows())

        return self._bring_up(table, source, definition, changed, whole)

    def aggregate(self, table: AggregateTable, source: _Source) -> DerivedUpdate:
        """Computes the days anew that new rows of the source touch."""
        layout = aggregate_table(table)
        day = self.domain.day_column

        def changed(after: int) -> str | None:
            days = source.touched_days(day, after)
            if days:
                rows = aggregate(source.rows().where(_among(day, days)), table)
                self._write(layout, rows, _days_of(table, days))
            return f"{len(days)} day{'' if len(days) == 1 else 's'}"

        def whole() -> "DataFrame":
            return aggregate(source.rows(), table)

        return self._bring_up(layout, source, repr(table), changed, whole)

    def _bring_up(
        self,
        table: Table,
        source: _Source,
        definition: str,
        changed: Callable[[int], str | None],
        whole: "Callable[[], DataFrame]",
    ) -> DerivedUpdate:
        from pyspark.errors import PySparkException

        digest = sha256(definition.encode()).hexdigest()[:16]
        known = self.positions.get(table.name)
        try:
            how = self._reason_for_whole(table, source, digest, known)
            if how is None and known is not None:
                if known.version == source.version:
                    return DerivedUpdate(table.name, "nothing new")
                how = changed(known.version)
                if how is None:
                    how = "computed whole: rows of its source were changed or removed"
                    self._write_whole(table, whole())
            else:
                self._write_whole(table, whole())
        except PySparkException as error:
            raise PipelineError(
                f"The table {table.name} can't be brought up to date: {first_cause(error)}",
                hint="run it again: it goes on where it stopped; a full refresh computes it anew",
            ) from error
        self.positions.put(table.name, Position(source.id, source.version, digest))
        return DerivedUpdate(table.name, how or "")

    def _reason_for_whole(
        self, table: Table, source: _Source, digest: str, known: Position | None
    ) -> str | None:
        """Why the table has to be computed whole; None where changes will do."""
        if self.full_refresh:
            return "computed whole: full refresh"
        if known is None or not self.spark.catalog.tableExists(self._name(table.name)):
            return "computed whole: first update"
        if known.source_id != source.id or known.version > source.version:
            return "computed whole: its source is another table"
        if known.definition != digest:
            return "computed whole: its definition has changed"
        return None

    def _lifecycle_of(self, events: "DataFrame") -> "DataFrame":
        return silver_order_lifecycle(accepted_events(events, self.domain), self.domain)

    def _merge_lifecycle(self, table: Table, new: "DataFrame") -> None:
        from pyspark.sql import functions as F

        name, key = self._name(table.name), self.domain.entity_key
        merged = {
            column: F.expr(sql)
            for column, sql in lifecycle_columns(
                lambda column: f"least({name}.{column}, new.{column})", self.domain
            ).items()
        }
        same_order = F.expr(f"{name}.{key} = new.{key}")
        merge = new.alias("new").mergeInto(name, same_order)
        merge.whenMatched().update(merged).whenNotMatched().insertAll().merge()

    def _write(self, table: Table, rows: "DataFrame", where: str) -> None:
        writer = rows.coalesce(1).write.format("delta").mode("overwrite")
        writer.option("replaceWhere", where).saveAsTable(self._name(table.name))

    def _write_whole(self, table: Table, rows: "DataFrame") -> None:
        """Replaces all rows in one commit; a table of another shape is made anew before."""
        name = self._name(table.name)
        if self._shape(name) != _wanted_shape(table):
            there = replace(table, name=f"{self.database}.{table.name}")
            self.spark.sql(there.create_sql(replace=True))
        columns = [quote_name(c.name) for c in table.columns]
        rows.select(*columns).write.insertInto(name, overwrite=True)

    def _shape(self, name: str) -> object:
        """Names, types and partition columns of a table that exists; None of one that doesn't."""
        if not self.spark.catalog.tableExists(name):
            return None
        listed = self.spark.catalog.listColumns(name)
        columns = [(c.name, c.dataType.upper()) for c in listed]
        return columns, [c.name for c in listed if c.isPartition]

    def _name(self, table: str) -> str:
        return quote_name(self.database, table)


def _wanted_shape(table: Table) -> object:
    return [(c.name, c.type.upper()) for c in table.columns], list(table.partition_by)


def _among(column: str, days: Sequence[str]) -> str:
    return f"{column} IN ({', '.join(f'DATE{day!r}' for day in days)})"


def _days_of(table: AggregateTable, days: Sequence[str]) -> str:
    """The rows of a gold table that lie within days."""
    if table.day:
        return _among(table.day, days)
    return " OR ".join(
        # An interval of a day would be added in the session's zone.
        f"({table.hour} BETWEEN TIMESTAMP'{day} 00:00:00Z' AND TIMESTAMP'{day} 23:59:59.999999Z')"
        for day in days
    )
