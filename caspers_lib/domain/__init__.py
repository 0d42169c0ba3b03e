"""What a business is, as data."""

from caspers_lib.domain.ghost_kitchen import GHOST_KITCHEN, LATE_MINUTES
from caspers_lib.domain.model import (
    Action,
    AggregateTable,
    BodyField,
    Column,
    Domain,
    Duration,
    EventType,
    Lifecycle,
    LineItems,
    Reference,
    Rule,
)
from caspers_lib.domain.rules import event_rules
from caspers_lib.domain.tables import Table, domain_tables

__all__ = [
    "GHOST_KITCHEN",
    "LATE_MINUTES",
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
    "Table",
    "domain_tables",
    "event_rules",
]
