"""The tables of a business as data: names, typed and documented columns, keys.

Registration, the tables that are kept incrementally, the export and
the documentation all read these.
"""

from dataclasses import dataclass

from caspers_lib.domain.model import AggregateTable, Column, Domain
from caspers_lib.domain.rules import RESCUED
from caspers_lib.spark_sql import quote_name, quote_text

__all__ = [
    "Table",
    "aggregate_table",
    "bronze_table",
    "domain_tables",
    "lifecycle_table",
    "line_items_table",
    "quarantine_table",
]


@dataclass(frozen=True, slots=True)
class Table:
    """A table: what it is called, what is in it, and how it is laid out.

    Args:
        name: its name, with or without schema and catalog.
        comment: what one row is.
        columns: names, Spark SQL types and comments.
        key: names of the columns that identify a row; empty where nothing does.
        partition_by: names of the partition columns.
        change_feed: whether Delta's change data feed is on.
    """

    name: str
    comment: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    partition_by: tuple[str, ...] = ()
    change_feed: bool = False

    @property
    def ddl(self) -> str:
        """The columns as DDL text: name, type and comment."""
        return ", ".join(
            f"{quote_name(c.name)} {c.fixed_type} COMMENT {quote_text(c.comment)}"
            if c.comment
            else f"{quote_name(c.name)} {c.fixed_type}"
            for c in self.columns
        )

    @property
    def properties(self) -> dict[str, str]:
        """Delta's table properties."""
        return {"delta.enableChangeDataFeed": "true"} if self.change_feed else {}

    def create_sql(self, *, replace: bool = False) -> str:
        """The statement that creates the table, unless it exists; runs on Spark and Databricks.

        Args:
            replace: create it anew where it exists.
        """
        verb = "CREATE OR REPLACE TABLE" if replace else "CREATE TABLE IF NOT EXISTS"
        parts = ", ".join(map(quote_name, self.partition_by))
        properties = ", ".join(f"{name} = {value}" for name, value in self.properties.items())
        return " ".join(
            filter(
                None,
                (
                    f"{verb} {quote_name(*self.name.split('.'))} ({self.ddl}) USING delta",
                    parts and f"PARTITIONED BY ({parts})",
                    f"COMMENT {quote_text(self.comment)}",
                    properties and f"TBLPROPERTIES ({properties})",
                ),
            )
        )


def bronze_table(domain: Domain) -> Table:
    """Every event as it landed."""
    return Table(
        domain.bronze,
        "Every event as it landed, one row per line of a file",
        (
            *domain.event_columns,
            Column(
                RESCUED,
                "STRING",
                comment="what does not fit the schema: the fields as a JSON object, or the line",
            ),
            Column("source_file", "STRING", comment="where the row came from"),
            Column("ingest_ts", "TIMESTAMP", comment="when it came in"),
        ),
        change_feed=True,
    )


def quarantine_table(domain: Domain) -> Table:
    """Rows that violate a rule which sets them aside."""
    return Table(
        domain.quarantine,
        "Rows of bronze that violate a rule, with the rules' names",
        (
            Column("reasons", "ARRAY<STRING>", comment="names of the violated rules"),
            Column(
                "raw",
                "STRING",
                comment="the line as it landed if it could not be read, else the event as JSON",
            ),
            *bronze_table(domain).columns,
        ),
    )


def line_items_table(domain: Domain) -> Table:
    """One row per line of an entity's opening event."""
    items = domain.line_items
    return Table(
        items.table,
        "One row per line of an order",
        (
            Column(domain.entity_key, "STRING", comment="the order, with -L<n> in loop n"),
            Column("line", "INT", comment="number of the line in the order, from 1"),
            Column(domain.site_key, "INT", comment="where it was ordered"),
            Column("order_ts", "TIMESTAMP", comment="event time of the order"),
            Column(domain.day_column, "DATE", comment="UTC day of the order"),
            *(Column(c.name, c.type, comment=c.comment) for c in (*items.columns, *items.derived)),
        ),
        key=(domain.entity_key, "line"),
        partition_by=(domain.day_column,),
        change_feed=True,
    )


def lifecycle_table(domain: Domain) -> Table:
    """One row per entity: when what happened, and how long it took."""
    return Table(
        domain.lifecycle.table,
        "One row per order: when what happened first, and how long it took",
        (
            Column(domain.entity_key, "STRING", comment="the order, with -L<n> in loop n"),
            Column(domain.site_key, "INT", comment="where it was ordered"),
            Column(
                domain.day_column, "DATE", comment=f"UTC day of {domain.opening}; null until then"
            ),
            *(
                Column(t.time_column, "TIMESTAMP", comment=f"event time of the first {t.name}")
                for t in domain.event_types
            ),
            *(
                Column(d.name, "DECIMAL(12,2)", comment=f"minutes {d.comment}")
                for d in domain.lifecycle.durations
            ),
            Column("status", "STRING", comment="the furthest event type that has happened"),
        ),
        key=(domain.entity_key,),
        partition_by=(domain.day_column,),
        change_feed=True,
    )


def aggregate_table(table: AggregateTable) -> Table:
    """A gold table."""
    return Table(
        table.name,
        table.comment,
        tuple(Column(c.name, c.type, comment=c.comment) for c in (*table.keys, *table.measures)),
        key=tuple(c.name for c in table.keys),
        partition_by=(table.day,) if table.day else (),
        change_feed=table.change_feed,
    )


def domain_tables(domain: Domain) -> tuple[Table, ...]:
    """Every table of the pipeline, upstream first."""
    return (
        bronze_table(domain),
        quarantine_table(domain),
        line_items_table(domain),
        lifecycle_table(domain),
        *map(aggregate_table, domain.gold),
    )
