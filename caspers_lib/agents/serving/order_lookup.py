"""Looks orders up by the SQL tools: through a Spark session, or through a SQL warehouse.

Tried on Spark over Spark Connect. A warehouse was not at hand: there the statement's texts, its
bound argument and what it brings are held by tests against a stand-in.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from caspers_lib.agents.model.answer_objects import read_number
from caspers_lib.agents.serving.order_requests import KnownOrder, Unreadable, order_of_facts
from caspers_lib.agents.tools import AI_SCHEMA, tool_answer
from caspers_lib.agents.triage_answer import OrderLine
from caspers_lib.errors import CaspersError, PipelineError, first_cause
from caspers_lib.spark_sql import quote_name

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient
    from pyspark.sql import SparkSession

__all__ = ["LOOKUP_TOOLS", "SparkLookup", "WarehouseLookup"]

LOOKUP_TOOLS = ("get_order_timing", "get_order_overview")
"""The SQL tools that a lookup calls: how long the order took, and what was in it."""

_WAIT = "50s"  # as long as a statement may be waited for in one call


@dataclass(frozen=True, slots=True, kw_only=True)
class SparkLookup:
    """Looks orders up in a session.

    Args:
        spark: the session in which `tools.create_tools` ran.
        catalog: catalog of the tools' schema; None is the current one.
        schema: schema of the tools.
    """

    spark: "SparkSession"
    catalog: str | None = None
    schema: str = AI_SCHEMA

    def __call__(self, order_id: str) -> KnownOrder | None:
        """What is known about an order; None if there is none.

        Raises:
            PipelineError: the tools can't be called.
        """
        from pyspark.errors import PySparkException

        try:
            return _found(order_id, lambda tool: self._rows(tool, order_id))
        except PySparkException as error:
            raise PipelineError(
                f"The tools in {self.schema} can't be called: {first_cause(error)}",
                hint="create them with create_tools",
            ) from error

    def _rows(self, tool: str, order_id: str) -> str:
        return tool_answer(self.spark, tool, order_id, catalog=self.catalog, schema=self.schema)


@dataclass(frozen=True, slots=True, kw_only=True)
class WarehouseLookup:
    """Looks orders up through a SQL warehouse.

    Args:
        client: makes the workspace's client, anew for each order, since a token may change.
        warehouse_id: the warehouse.
        catalog: catalog of the tools' schema.
        schema: schema of the tools.
    """

    client: Callable[[], "WorkspaceClient"]
    warehouse_id: str
    catalog: str
    schema: str = AI_SCHEMA

    def __call__(self, order_id: str) -> KnownOrder | None:
        """What is known about an order; None if there is none.

        Raises:
            CaspersError: the warehouse gave no answer.
        """
        from databricks.sdk.errors.base import DatabricksError

        try:
            return _found(order_id, lambda tool: self._rows(tool, order_id))
        except DatabricksError as error:
            raise self._error(str(error)) from error

    def _rows(self, tool: str, order_id: str) -> str:
        from databricks.sdk.service.sql import StatementParameterListItem, StatementState

        row = "to_json(struct(*), map('ignoreNullFields', 'false', 'timeZone', 'UTC'))"
        function = quote_name(self.catalog, self.schema, tool)
        response = self.client().statement_execution.execute_statement(
            f"SELECT {row} FROM {function}(:oid)",  # noqa: S608 - names are quoted
            self.warehouse_id,
            parameters=[StatementParameterListItem(name="oid", value=order_id, type="STRING")],
            wait_timeout=_WAIT,
        )
        status = response.status
        if status is None or status.state is not StatementState.SUCCEEDED:
            said = status.error.message if status and status.error else None
            raise self._error(said or f"no result within {_WAIT}")
        rows = (response.result and response.result.data_array) or []
        return f"[{','.join(row[0] for row in rows)}]"

    def _error(self, why: str) -> CaspersError:
        return CaspersError(
            f"The warehouse {self.warehouse_id} gave no answer: {first_cause(why)}",
            hint="see that it runs and that the agent may use it",
        )


def _found(order_id: str, rows_of: Callable[[str], str]) -> KnownOrder | None:
    """The order as the tools describe it.

    Args:
        order_id: the order.
        rows_of: a tool's rows as a JSON array.
    """
    timing, overview = (_first(rows_of(tool)) for tool in LOOKUP_TOOLS)
    if timing is None or overview is None:
        return None
    names = ("location_id", "total_minutes", "history_orders", "p75", "p99")
    facts = {name: timing[name] for name in names}
    order = order_of_facts(facts | {"order_id": order_id, "order_total": overview["order_total"]})
    if isinstance(order, Unreadable):
        raise CaspersError(f"The tools' answer can't be read: {order.reason}")
    delivered = timing["delivered_ts"] is not None
    return replace(
        order, facts=replace(order.facts, delivered=delivered), lines=_lines(overview["lines"])
    )


def _first(rows: str) -> dict[str, object] | None:
    found: list[dict[str, object]] = json.loads(
        rows, parse_float=read_number, parse_constant=Decimal
    )
    return found[0] if found else None


def _lines(contents: object) -> tuple[OrderLine, ...]:
    if not isinstance(contents, str):
        return ()
    lines = json.loads(contents, parse_float=read_number, parse_int=Decimal)
    return tuple(
        OrderLine(item_name=line.get("item_name"), price=line.get("price")) for line in lines
    )
