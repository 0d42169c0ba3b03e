"""A small business as tables: what the agents read."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from caspers_lib.agents.tables import AGENT_TABLES, AgentTables, ensure_tables
from caspers_lib.domain import Table

EVENT_SCHEMA = (
    "event_id STRING, event_type STRING, ts STRING, location_id INT, order_id STRING,"
    " sequence INT, body STRING"
)
LINE_SCHEMA = (
    "order_id STRING, line INT, location_id INT, order_ts TIMESTAMP, item_name STRING,"
    " price DECIMAL(12,2), qty INT, extended_price DECIMAL(12,2)"
)


class Business:
    """The tables in a schema of their own, and the ways a test fills and reads them."""

    def __init__(self, spark: Any, schema: str) -> None:
        self.spark = spark
        self.schema = schema
        self.tables = self._tables("first")

    def _tables(self, prefix: str) -> AgentTables:
        def moved(spec: Table) -> Table:
            return replace(spec, name=f"{self.schema}.{prefix}_{spec.name.split('.')[-1]}")

        base = AGENT_TABLES
        return replace(
            base,
            events=f"{self.schema}.all_events",
            lines=f"{self.schema}.silver_order_items",
            recommendations=moved(base.recommendations),
            complaints=moved(base.complaints),
            responses=moved(base.responses),
            model_calls=moved(base.model_calls),
            open_questions=moved(base.open_questions),
        )

    def fresh_outputs(self, prefix: str) -> AgentTables:
        """Empty output tables beside the ones that are there."""
        tables = self._tables(prefix)
        ensure_tables(self.spark, tables)
        return tables

    def events(self, rows: list[tuple[Any, ...]]) -> Any:
        return self.spark.createDataFrame(rows, EVENT_SCHEMA)

    def lines(self, rows: list[tuple[Any, ...]]) -> Any:
        return self.spark.createDataFrame(rows, LINE_SCHEMA)

    def append(self, events: list[tuple[Any, ...]], lines: list[tuple[Any, ...]]) -> None:
        landed = self.events(events).selectExpr("*", "CAST(NULL AS STRING) AS _rescued_data")
        landed.write.mode("append").saveAsTable(self.tables.events)
        if lines:
            self.lines(lines).write.mode("append").saveAsTable(self.tables.lines)

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        """The table's rows, sorted."""
        return sorted(tuple(r) for r in self.spark.read.table(table).collect())


@pytest.fixture(scope="module")
def schema(spark: Any) -> Iterator[str]:
    name = f"agents_{uuid4().hex[:8]}"
    spark.sql(f"CREATE SCHEMA {name}")
    yield name
    spark.sql(f"DROP SCHEMA {name} CASCADE")


@pytest.fixture(scope="module")
def business(spark: Any, schema: str) -> Business:
    return Business(spark, schema)
