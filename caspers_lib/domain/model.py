"""What a business is, as frozen data: event types, body fields, line items, tables.

Nothing here reads a file or knows an engine. SQL texts are expressions that Spark and Databricks
both understand; they name columns of the table they stand in.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Literal
from uuid import UUID

__all__ = [
    "Action",
    "AggregateTable",
    "BodyField",
    "Column",
    "Domain",
    "Duration",
    "EventType",
    "Lifecycle",
    "LineItems",
    "Reference",
    "Rule",
]

Action = Literal["warn", "drop", "quarantine", "fail"]
"""What happens to a row that violates a rule: nothing but a count, left out, set aside, or stop."""

MONEY = "DECIMAL(12,2)"


@dataclass(frozen=True, slots=True)
class Column:
    """A typed column of a table.

    Args:
        name: the column's name in the table.
        type: its Spark SQL type.
        sql: the expression that computes it from the source's columns; the name itself if empty.
        comment: what it means, with its unit.
        approximate: an expression that is cheaper on a lot of data and nearly right; empty where
            there is none.
    """

    name: str
    type: str
    sql: str = ""
    comment: str = ""
    approximate: str = ""

    @property
    def expression(self) -> str:
        """The SQL expression that computes the column."""
        return self.sql or self.name

    @property
    def fixed_type(self) -> str:
        """The type under a name that no setting of a session gives another meaning."""
        return "TIMESTAMP_LTZ" if self.type == "TIMESTAMP" else self.type


@dataclass(frozen=True, slots=True)
class BodyField:
    """One field of an event's JSON body.

    Args:
        name: the key in the body.
        column: the dataset's column that holds the value.
        kind: `number` (written as a double), `text` (a JSON string) or `json` (already JSON,
            taken over as it is).
        type: the Spark SQL type of the parsed field.
    """

    name: str
    column: str
    kind: Literal["number", "text", "json"]
    type: str


@dataclass(frozen=True, slots=True)
class EventType:
    """A kind of event: its id in the dataset, its name in the stream, its body's fields."""

    id: int
    name: str
    body: tuple[BodyField, ...] = ()

    @property
    def time_column(self) -> str:
        """The lifecycle's column with the time of the first such event."""
        return f"{self.name}_ts"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of data quality (an expectation).

    Args:
        name: the rule's name, the reason in the quarantine.
        condition: SQL over the columns of bronze and `parsed`, the body as a struct; a row for
            which it is false or null violates the rule.
        action: what happens to such a row.
        comment: the rule in words.
    """

    name: str
    condition: str
    action: Action
    comment: str


@dataclass(frozen=True, slots=True)
class Duration:
    """Minutes between the first events of two types.

    Args:
        name: the column's name.
        start: the earlier event type.
        end: the later event type.
        comment: what is measured.
    """

    name: str
    start: str
    end: str
    comment: str


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """The silver table with one row per entity: when what happened, and how long it took.

    Args:
        table: the table's name.
        durations: columns in minutes.
    """

    table: str
    durations: tuple[Duration, ...]


@dataclass(frozen=True, slots=True)
class LineItems:
    """The array in one event's body that becomes one silver row per element.

    Args:
        table: name of the silver table.
        event: name of the event type that carries the array.
        field: the body's key.
        columns: element fields; `sql` is the element's key, `name` the silver column.
        derived: columns computed from the ones above.
    """

    table: str
    event: str
    field: str
    columns: tuple[Column, ...]
    derived: tuple[Column, ...] = ()

    @property
    def element_type(self) -> str:
        """The array's Spark SQL type, for `from_json`."""
        fields = ", ".join(f"{c.expression}: {c.type}" for c in self.columns)
        return f"ARRAY<STRUCT<{fields}>>"


@dataclass(frozen=True, slots=True)
class AggregateTable:
    """A gold table: rows of one silver table grouped by keys, with measures.

    Every group lies within one UTC day of its source (`order_day`), so that a day's rows follow
    from that day alone.

    Args:
        name: the table's name.
        comment: what one row is.
        keys: grouping columns, the table's primary key.
        measures: aggregates over the group.
        source: the silver table that is grouped.
        day: the table's own column of type DATE that holds the source's day; the table is
            partitioned by it. Empty where there is none: then `hour` is set.
        hour: the table's own column of type TIMESTAMP, the start of an hour of that day.
        change_feed: whether Delta's change data feed is on, so that others can follow the table.
    """

    name: str
    comment: str
    keys: tuple[Column, ...]
    measures: tuple[Column, ...]
    source: Literal["line_items", "lifecycle"] = "line_items"
    day: str = ""
    hour: str = ""
    change_feed: bool = False


@dataclass(frozen=True, slots=True)
class Reference:
    """A column whose values are ids of a dimension.

    Args:
        column: the column in silver and gold.
        dimension: the dimension's table.
        key: its id column.
        label: its column that people read.
    """

    column: str
    dimension: str
    key: str
    label: str


@dataclass(frozen=True)
class Domain:
    """A business that exists as events.

    Args:
        name: short name.
        namespace: UUID namespace of `event_id`.
        epoch: virtual second 0 of the canonical dataset (UTC epoch seconds).
        cycle_seconds: length of one loop of the canonical dataset.
        entity_key: column that names the thing an event belongs to (the order).
        site_key: column that names where it happens (the kitchen's location).
        event_types: every event type, in the order of their ids.
        opening: event type that opens an entity's life.
        closing: event type that completes it.
        line_items: the array that silver explodes.
        gold: the aggregate tables.
        lifecycle: the silver table with a row per entity.
        rules: rules of data quality beside those that follow from the event types, see `rules.py`.
        references: columns whose ids the dimensions explain.
    """

    name: str
    namespace: UUID
    epoch: int
    cycle_seconds: int
    entity_key: str
    site_key: str
    event_types: tuple[EventType, ...]
    opening: str
    closing: str
    line_items: LineItems
    gold: tuple[AggregateTable, ...]
    lifecycle: Lifecycle = Lifecycle("silver_lifecycle", ())
    rules: tuple[Rule, ...] = ()
    references: tuple[Reference, ...] = ()

    @property
    def quarantine(self) -> str:
        """Name of the table of rejected rows."""
        return "quarantined_events"

    @property
    def day_column(self) -> str:
        """Column of the silver tables: the UTC day of the opening event."""
        return "order_day"

    @property
    def bronze(self) -> str:
        """Name of the bronze table of every event."""
        return "all_events"

    @property
    def event_columns(self) -> tuple[Column, ...]:
        """The event's envelope: the seven fields of one JSON object."""
        return (
            Column("event_id", "STRING", comment="UUIDv5 of the entity and its sequence"),
            Column("event_type", "STRING", comment="name of the event type"),
            Column("ts", "STRING", comment="event time, yyyy-MM-dd HH:mm:ss.SSS, UTC"),
            Column(self.site_key, "INT", comment="where it happened"),
            Column(self.entity_key, "STRING", comment="what it belongs to, with -L<n> in loop n"),
            Column("sequence", "INT", comment="position in the entity's life"),
            Column("body", "STRING", comment="the event's own fields, a JSON object as text"),
        )

    @cached_property
    def types_by_name(self) -> Mapping[str, EventType]:
        """Event types by their name in the stream."""
        return MappingProxyType({t.name: t for t in self.event_types})
