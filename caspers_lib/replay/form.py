"""The forms in which a window's events are handed to a sink."""

from typing import Literal

import pyarrow as pa

from caspers_lib.domain import GHOST_KITCHEN, Domain

__all__ = ["Form", "event_arrow_schema"]

Form = Literal["lines", "named_lines", "columns"]

_TYPES = {"STRING": pa.string(), "INT": pa.int32()}


def event_arrow_schema(domain: Domain = GHOST_KITCHEN) -> pa.Schema:
    """The schema of the form `columns`: the domain's event columns, in their order."""
    return pa.schema([pa.field(c.name, _TYPES[c.type]) for c in domain.event_columns])
