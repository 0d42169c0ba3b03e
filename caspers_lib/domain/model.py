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

__all__ = ["AggregateTable", "BodyField", "Column", "Domain", "EventType", "LineItems"]

MONEY = "DECIMAL(12,2)"


@dataclass(frozen=True, slots=True)
class Column:
    """A typed column of a table.

    Args:
        name: the column's name in the table.
        type: its Spark SQL type.
        sql: the expression that computes it from the source's columns; the name itself if empty.
        comment: what it means, with its unit.
    """

    name: str
    type: str
    sql: str = ""
    comment: str = ""

    @property
    def expression(self) -> str:
        """The SQL expression that computes the column."""
        return self.sql or self.name


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
    """A gold table: the line items grouped by keys, with measures.

    Args:
        name: the table's name.
        comment: what one row is.
        keys: grouping columns, the table's primary key.
        measures: aggregates over the group.
    """

    name: str
    comment: str
    keys: tuple[Column, ...]
    measures: tuple[Column, ...]


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
