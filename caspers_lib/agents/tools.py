"""The agents' SQL tools: five table functions and a view, in one DDL for Databricks and Spark.

The figures are those of `facts.order_facts`: an order is compared with
the orders that its location delivered in the 24 hours before the hour of its own delivery.

Tried on Spark 4.2 with Delta, over Spark Connect. On Databricks nothing was tried; for Unity
Catalog only what its documentation names is used: names of three levels, a type and a comment for
every argument and column, no defaults, no markers inside a body, a replacement by the same
signature. An argument stands in its body under its function's name, so no column can hide it.
"""

from typing import TYPE_CHECKING

from caspers_lib.agents.model.excerpts import excerpt
from caspers_lib.agents.tables import AGENT_TABLES, AgentTables
from caspers_lib.agents.tool_definitions import (
    LOCATION_VIEW,
    TOOL_ARGUMENTS,
    TOOL_NAMES,
    Tool,
    location_view_sql,
    tools_over,
)
from caspers_lib.agents.tool_queries import ToolQueries
from caspers_lib.domain import GHOST_KITCHEN, Domain
from caspers_lib.spark_sql import quote_name

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = [
    "AI_SCHEMA",
    "LOCATION_VIEW",
    "TOOL_NAMES",
    "Tool",
    "agent_tools",
    "call_tool",
    "create_tools",
    "tool_answer",
    "tools_ddl",
]

AI_SCHEMA = "ai"
"""Schema of the functions and the view."""


def agent_tools(
    *,
    catalog: str | None = None,
    schema: str = AI_SCHEMA,
    tables: AgentTables = AGENT_TABLES,
    domain: Domain = GHOST_KITCHEN,
) -> tuple[Tool, ...]:
    """The tools over a business's tables, in the order in which an agent reads of them.

    Args:
        catalog: catalog of the schema, and of the tables that name none; None is the current one.
        schema: schema of the view.
        tables: the bronze table and that of the line items.
        domain: names the events, keys and fields.
    """
    view = quote_name(*_inside(catalog, schema), LOCATION_VIEW)
    return tools_over(_queries(catalog, tables, domain), view)


def tools_ddl(
    *,
    catalog: str | None = None,
    schema: str = AI_SCHEMA,
    tables: AgentTables = AGENT_TABLES,
    domain: Domain = GHOST_KITCHEN,
) -> tuple[str, ...]:
    """The statements that create or replace the view and the functions, each a text of its own.

    Args:
        catalog: catalog of the schema, and of the tables that name none; None is the current one.
        schema: schema of the view and the functions.
        tables: the bronze table and that of the line items.
        domain: names the events, keys and fields.
    """
    place = _inside(catalog, schema)
    queries, view = _queries(catalog, tables, domain), quote_name(*place, LOCATION_VIEW)
    tools = (tool.create_sql(*place) for tool in tools_over(queries, view))
    return (location_view_sql(queries, view), *tools)


def create_tools(
    spark: "SparkSession",
    *,
    catalog: str | None = None,
    schema: str = AI_SCHEMA,
    tables: AgentTables = AGENT_TABLES,
    domain: Domain = GHOST_KITCHEN,
) -> None:
    """Create or replace the view and the functions; the schema and the tables exist.

    Args:
        spark: the session.
        catalog: catalog of the schema, and of the tables that name none; None is the current one.
        schema: schema of the view and the functions.
        tables: the bronze table and that of the line items.
        domain: names the events, keys and fields.
    """
    for statement in tools_ddl(catalog=catalog, schema=schema, tables=tables, domain=domain):
        spark.sql(statement)


def call_tool(
    spark: "SparkSession",
    name: str,
    argument: str | int,
    *,
    catalog: str | None = None,
    schema: str = AI_SCHEMA,
) -> "DataFrame":
    """What a tool answers; no rows for what nobody knows.

    The argument travels as a typed value, never as text of the query. It is handed over as a table
    of one row, because Delta's parser drops parameter markers since Spark 4.1.

    Args:
        spark: the session in which `create_tools` ran.
        name: one of `TOOL_NAMES`.
        argument: an order's id, or a location's.
        catalog: catalog of the schema; None is the current one.
        schema: schema of the functions.

    Raises:
        ValueError: there is no such tool, or the argument is not of its type.
    """
    from pyspark.sql import functions as F

    kind = _checked_type(name, argument)
    given = spark.range(1).select(F.lit(argument).cast(kind).alias("argument"))
    # `sql` formats its text: braces in a name are doubled to stay braces.
    function = quote_name(*_inside(catalog, schema), name).replace("{", "{{").replace("}", "}}")
    return spark.sql(
        f"SELECT answer.* FROM {{given}} AS given, LATERAL {function}(given.argument) AS answer",  # noqa: S608
        given=given,
    )


def tool_answer(
    spark: "SparkSession",
    name: str,
    argument: str | int,
    *,
    catalog: str | None = None,
    schema: str = AI_SCHEMA,
) -> str:
    """What a tool answers as a JSON array of objects, times in UTC, for a model to read.

    Args:
        spark: the session in which `create_tools` ran.
        name: one of `TOOL_NAMES`.
        argument: an order's id, or a location's.
        catalog: catalog of the schema; None is the current one.
        schema: schema of the functions.

    Raises:
        ValueError: there is no such tool, or the argument is not of its type.
    """
    from pyspark.sql import functions as F

    answer = call_tool(spark, name, argument, catalog=catalog, schema=schema)
    options = {"ignoreNullFields": "false", "timeZone": "UTC"}
    rows = answer.select(F.to_json(F.struct("*"), options).alias("row")).collect()
    return f"[{','.join(row['row'] for row in rows)}]"


def _queries(catalog: str | None, tables: AgentTables, domain: Domain) -> ToolQueries:
    events, lines = (
        quote_name(*_inside(catalog if name.count(".") < 2 else None, *name.split(".")))
        for name in (tables.events, tables.lines)
    )
    named = next((r for r in domain.references if r.column == domain.site_key), None)
    sites = ""
    if tables.dimensions is not None and named is not None:
        place = (*tables.dimensions.split("."), named.dimension)
        table = quote_name(*_inside(catalog if len(place) < 3 else None, *place))
        key, name = quote_name(named.key), quote_name(named.label)
        sites = f"SELECT {key} AS site, {name} AS site_name FROM {table}"  # noqa: S608 - quoted
    return ToolQueries(events=events, lines=lines, domain=domain, sites=sites)


def _inside(catalog: str | None, *names: str) -> tuple[str, ...]:
    return names if catalog is None else (catalog, *names)


def _checked_type(name: str, argument: str | int) -> str:
    """The type of a tool's argument, if the tool is there and the argument fits.

    Raises:
        ValueError: one of them doesn't.
    """
    if name not in TOOL_ARGUMENTS:
        raise ValueError(f"there is no tool {excerpt(name)}; the tools are {', '.join(TOOL_NAMES)}")
    kind = TOOL_ARGUMENTS[name].type
    if kind == "STRING":
        # Half of a surrogate pair is no text that could be sent.
        fits = isinstance(argument, str) and argument == argument.encode(errors="ignore").decode()
        wanted = "a text"
    else:
        fits = type(argument) is int and -(2**31) <= argument < 2**31
        wanted = "a whole number of 32 bits"
    if not fits:
        raise ValueError(f"{name} was given {excerpt(str(argument))}; it takes {wanted}")
    return kind
