"""What a business is, as data."""

from caspers_lib.domain.ghost_kitchen import GHOST_KITCHEN
from caspers_lib.domain.model import (
    AggregateTable,
    BodyField,
    Column,
    Domain,
    EventType,
    LineItems,
)

__all__ = [
    "GHOST_KITCHEN",
    "AggregateTable",
    "BodyField",
    "Column",
    "Domain",
    "EventType",
    "LineItems",
]
