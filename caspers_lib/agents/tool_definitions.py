"""What each of the agents' SQL tools is called, takes and answers with.

The comments are for a model: an agent's framework shows them to it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from caspers_lib.agents.tool_queries import PERCENTS, ToolQueries
from caspers_lib.domain import Column, Domain
from caspers_lib.spark_sql import quote_name, quote_text

__all__ = [
    "LOCATION_VIEW",
    "TOOL_ARGUMENTS",
    "TOOL_NAMES",
    "Tool",
    "location_view_sql",
    "tools_over",
]

LOCATION_VIEW = "order_delivery_times_per_location_view"
"""Name of the view."""

_ORDER = Column("oid", "STRING", comment="the order's id, exactly as it is written")
_LOCATION = Column("loc", "INT", comment="the location's id, a whole number such as 3")

TOOL_ARGUMENTS: Mapping[str, Column] = MappingProxyType(
    {
        "get_order_details": _ORDER,
        "get_order_delivery_time": _ORDER,
        "get_order_overview": _ORDER,
        "get_order_timing": _ORDER,
        "get_location_timings": _LOCATION,
    }
)
"""Each function's one argument."""

TOOL_NAMES = tuple(TOOL_ARGUMENTS)
"""The functions' names."""

_MINUTES = "DECIMAL(12,2)"
_DAY = "in the 24 hours before the hour"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A table function that an agent may call.

    Args:
        name: its name in its schema.
        comment: what it answers, for the model that chooses a tool.
        argument: its one argument.
        columns: what it answers with; `sql` is the expression over `source`.
        source: the query that the columns are taken from.
    """

    name: str
    comment: str
    argument: Column
    columns: tuple[Column, ...]
    source: str

    def create_sql(self, *schema: str) -> str:
        """The statement that creates or replaces the function.

        Args:
            schema: the schema's name, after its catalog's where there is one.
        """
        returned = ", ".join(map(_declared, self.columns))
        return (
            f"CREATE OR REPLACE FUNCTION {quote_name(*schema, self.name)}"
            f"({_declared(self.argument)}) RETURNS TABLE ({returned}) "
            f"COMMENT {quote_text(self.comment)}\nRETURN {_select(self.columns, self.source)}"
        )


def tools_over(queries: ToolQueries, view: str) -> tuple[Tool, ...]:
    """The tools over a business's tables.

    Args:
        queries: the tables' queries.
        view: name of the view of the locations, quoted.
    """
    return (
        _details(queries),
        _delivery_time(queries),
        _overview(queries),
        _timing(queries),
        _location_timings(queries, view),
    )


def location_view_sql(queries: ToolQueries, view: str) -> str:
    """The statement that creates or replaces the view of the locations.

    Args:
        queries: the tables' queries.
        view: the view's name, quoted.
    """
    columns = _location_columns(queries)
    named = ", ".join(f"{quote_name(c.name)} COMMENT {quote_text(c.comment)}" for c in columns)
    about = f"How long deliveries took at each location {_DAY} of the newest delivery"
    return (
        f"CREATE OR REPLACE VIEW {view} ({named}) COMMENT {quote_text(about)} "
        f"AS {_select(columns, queries.locations())}"
    )


def _details(queries: ToolQueries) -> Tool:
    domain = queries.domain
    contents = queries.order_with_events(_argument("get_order_details"))
    return Tool(
        name="get_order_details",
        comment="What happened to the order: one row per event, each event once, in their order.",
        argument=_ORDER,
        columns=(
            _order_id(domain),
            Column("event_ts", "TIMESTAMP", "event.event_ts", "when it happened; null if unknown"),
            Column("sequence", "INT", "event.sequence", "number of the event in its order"),
            Column("event_type", "STRING", "event.event_type", "what happened"),
            Column(domain.site_key, "INT", "event.site", "the location"),
            Column("location_name", "STRING", "event.site_name", "its name; null if unknown"),
            Column("body", "STRING", "event.body", "JSON object of what the event says"),
        ),
        source=f"SELECT *, explode(events) AS event FROM ({contents})",  # noqa: S608 - quoted
    )


def _delivery_time(queries: ToolQueries) -> Tool:
    return Tool(
        name="get_order_delivery_time",
        comment="When the order was made and delivered, and how many minutes lie between.",
        argument=_ORDER,
        columns=(_order_id(queries.domain), *_TIMES),
        source=queries.order(_argument("get_order_delivery_time")),
    )


def _overview(queries: ToolQueries) -> Tool:
    domain = queries.domain
    fields = (
        Column(f.name, f.type, queries.body_value(f), f"as {domain.opening} says")
        for f in queries.body_fields
    )
    total = Column(
        "order_total", "DECIMAL(22,2)", queries.total(), "USD, all lines; null if one has no amount"
    )
    count = "CASE WHEN contents IS NOT NULL THEN size(contents) END"
    return Tool(
        name="get_order_overview",
        comment="The order in one row: where, for whom, when, what was in it and for how much.",
        argument=_ORDER,
        columns=(
            _order_id(domain),
            _location_id(domain),
            *fields,
            *_TIMES,
            *((total,) if queries.has_amounts else ()),
            Column("line_count", "INT", count, "lines of the order"),
            Column(
                "lines",
                "STRING",
                "to_json(contents, map('ignoreNullFields', 'false'))",
                "JSON array of the lines, each line once",
            ),
        ),
        source=queries.order_with_contents(_argument("get_order_overview")),
    )


def _timing(queries: ToolQueries) -> Tool:
    domain = queries.domain
    whole = (domain.opening, domain.closing)
    steps = tuple(
        Column(d.name, _MINUTES, queries.duration(d.start, d.end), f"minutes {d.comment}")
        for d in domain.lifecycle.durations
        if (d.start, d.end) != whole
    )
    own = (_order_id(domain), _location_id(domain), *_TIMES)
    history = f"delivered by its location {_DAY} of its delivery"
    return Tool(
        name="get_order_timing",
        comment="How long the order took, step by step, and what was usual at its location then:"
        " above p75 it was late, above p99 very late.",
        argument=_ORDER,
        columns=(
            *own,
            *steps,
            Column("history_orders", "INT", "size(minutes)", f"orders {history}"),
            *_percentiles(queries, "of those orders; null without one"),
        ),
        source=queries.order_with_history(_argument("get_order_timing")),
    )


def _location_timings(queries: ToolQueries, view: str) -> Tool:
    columns = _location_columns(queries)
    site = quote_name(queries.domain.site_key)
    names = ", ".join(quote_name(c.name) for c in columns)
    return Tool(
        name="get_location_timings",
        comment=f"How long deliveries took at a location {_DAY} of the newest delivery anywhere.",
        argument=_LOCATION,
        columns=tuple(Column(c.name, c.type, quote_name(c.name), c.comment) for c in columns),
        source=(
            f"SELECT {names} FROM {view} WHERE {site} = {_argument('get_location_timings', 'loc')}"  # noqa: S608
        ),
    )


_TIMES = (
    Column("order_ts", "TIMESTAMP", "order_ts", "when it was ordered, event time; null if unknown"),
    Column("delivered_ts", "TIMESTAMP", "delivered_ts", "when it was delivered; null until then"),
    Column("total_minutes", _MINUTES, "total_minutes", "minutes from the order to delivery"),
)


def _location_columns(queries: ToolQueries) -> tuple[Column, ...]:
    return (
        _location_id(queries.domain),
        Column("hour_ts", "TIMESTAMP", "hour_ts", "hour of the newest delivery anywhere"),
        Column("orders", "INT", "size(minutes)", f"orders delivered {_DAY}"),
        *_percentiles(queries, "of these orders"),
    )


def _percentiles(queries: ToolQueries, whose: str) -> tuple[Column, ...]:
    return tuple(
        Column(
            f"p{percent}",
            _MINUTES,
            queries.percentile(percent),
            f"minutes: percentile {percent} {whose}",
        )
        for percent in PERCENTS
    )


def _order_id(domain: Domain) -> Column:
    key = domain.entity_key
    return Column(key, "STRING", quote_name(key), "the order")


def _location_id(domain: Domain) -> Column:
    key = domain.site_key
    return Column(key, "INT", quote_name(key), "the location")


def _argument(function: str, name: str = "oid") -> str:
    return quote_name(function, name)


def _declared(column: Column) -> str:
    return f"{quote_name(column.name)} {column.fixed_type} COMMENT {quote_text(column.comment)}"


def _select(columns: tuple[Column, ...], source: str) -> str:
    chosen = ",\n  ".join(f"{c.expression} AS {quote_name(c.name)}" for c in columns)
    return f"SELECT {chosen}\nFROM ({source})"
