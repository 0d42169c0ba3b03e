"""Where the record of a workspace's resources is kept: a Delta table, by Spark or by a warehouse.

No value ever stands in the text of a statement.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial, reduce
from operator import and_
from typing import TYPE_CHECKING

from caspers_lib.errors import ResourceStateError, SettingsError, WorkspaceError, first_cause
from caspers_lib.service_names import UNITY_CATALOG_NAME
from caspers_lib.spark_sql import quote_name, quote_text
from caspers_lib.workspace.persistence import Persistence
from caspers_lib.workspace.resource_state import (
    GONE_OR_FOUND,
    RESOURCES,
    Resource,
    age,
    resources_table,
    restored,
    stored,
)
from caspers_lib.workspace_calls import Deadline, Patience, asked, refusal

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.service.sql import StatementResponse
    from pyspark.sql import Column, DataFrame, SparkSession

__all__ = [
    "DeltaResourceStore",
    "WarehouseResourceStore",
]

_COLUMNS = tuple(column.name for column in RESOURCES.columns)
_MOMENTS = ("created_at", "updated_at")
_KEY = RESOURCES.key
_READ = tuple(c for c in _COLUMNS if c not in ("workspace", "target"))

_UNDER_WAY = ("PENDING", "RUNNING")
_MINE = "`workspace` = :workspace AND `target` = :target"
_SAME = " AND ".join(f"old.`{key}` = new.`{key}`" for key in _KEY)
_SET = ", ".join(f"`{c}` = new.`{c}`" for c in _COLUMNS if c not in _KEY)
_NAMES = ", ".join(f"`{c}`" for c in _COLUMNS)
_NEW = ", ".join(f"new.`{c}`" for c in _COLUMNS)
_INSERT = f"INSERT ({_NAMES}) VALUES ({_NEW})"  # noqa: S608 - names of ours, here and below
_MERGE = f"{_SAME} WHEN MATCHED THEN UPDATE SET {_SET} WHEN NOT MATCHED THEN {_INSERT}"


@dataclass(frozen=True, slots=True)
class DeltaResourceStore:
    """The record as a Delta table that Spark reads and writes.

    Args:
        spark: the session.
        workspace: whose rows.
        target: whose rows.
        table: with schema, with or without catalog; a catalog exists already.
        persistence: how often a write is tried.

    Raises:
        SettingsError: the table has no such name.
    """

    spark: "SparkSession"
    workspace: str
    target: str
    table: str = RESOURCES.name
    persistence: Persistence = field(default_factory=Persistence)

    def __post_init__(self) -> None:
        """Refuse names that would be another table's."""
        _check_table(self.table, (2, 3))

    def prepare(self) -> None:
        """See that schema and table exist.

        Raises:
            ResourceStateError: Spark refuses, or others changed the table all the time.
        """
        for sql in _create_sql(self.table):
            self._written(f"{self.table} was not created", partial(self.spark.sql, sql))

    def read(self) -> tuple[Resource, ...]:
        """Rows of this workspace and target, oldest first.

        Raises:
            ResourceStateError: Spark refuses, or a row is none of ours.
        """
        from pyspark.sql import functions as F

        # As numbers: a collected timestamp has the time zone of this machine.
        columns = [F.unix_micros(c).alias(c) if c in _MOMENTS else F.col(c) for c in _READ]
        with _explained(f"{self.table} was not read"):
            rows = self._rows().where(self._is_mine()).select(*columns).collect()
        found = (restored(self.table, row.asDict()) for row in rows)
        return tuple(sorted(found, key=age))

    def write(self, *resources: Resource) -> None:
        """Insert or replace rows by one MERGE.

        Args:
            resources: whole rows, as they are to be; none of them twice.

        Raises:
            ResourceStateError: Spark refuses, or others wrote all the time.
        """
        from pyspark.sql import functions as F

        if not resources:
            return
        values = [stored(self.workspace, self.target, resource) for resource in resources]
        # Under names of their own: then no column needs the table's name before it.
        schema = ", ".join(f"new_{c} {'BIGINT' if c in _MOMENTS else 'STRING'}" for c in _COLUMNS)
        rows = self.spark.createDataFrame([tuple(v[c] for c in _COLUMNS) for v in values], schema)
        new = {
            c: F.timestamp_micros(f"new_{c}") if c in _MOMENTS else F.col(f"new_{c}")
            for c in _COLUMNS
        }
        same = reduce(and_, (F.col(key) == F.col(f"new_{key}") for key in _KEY))
        name = quote_name(*self.table.split("."))

        def merge() -> None:
            merging = rows.mergeInto(name, same).whenMatched().update(new)
            merging.whenNotMatched().insert(new).merge()

        self._written(f"{self.table} was not written", merge)

    def others_live(self) -> bool:
        """Whether tasks of another workspace or target have rows neither deleted nor found.

        Raises:
            ResourceStateError: Spark refuses.
        """
        from pyspark.sql import functions as F

        is_live = (F.col("owner") == "task") & ~F.col("status").isin(*GONE_OR_FOUND)
        with _explained(f"{self.table} was not read"):
            return not self._rows().where(~self._is_mine() & is_live).isEmpty()

    def _rows(self) -> "DataFrame":
        return self.spark.read.table(quote_name(*self.table.split(".")))

    def _is_mine(self) -> "Column":
        from pyspark.sql import functions as F

        return (F.col("workspace") == F.lit(self.workspace)) & (
            F.col("target") == F.lit(self.target)
        )

    def _written(self, what: str, attempt: Callable[[], object]) -> None:
        from pyspark.errors import PySparkException

        with _explained(what):
            self.persistence.until_done(what, attempt, (PySparkException,))


@dataclass(frozen=True, slots=True)
class WarehouseResourceStore:
    """The record as a Delta table that a SQL warehouse reads and writes.

    Args:
        client: the workspace.
        warehouse_id: the SQL warehouse.
        catalog: an existing catalog, better not one that a deployment drops.
        workspace: whose rows.
        target: whose rows.
        table: schema and table in the catalog.
        patience: how long a statement may take, the warehouse's start included.
        persistence: how often a write is tried.

    Raises:
        SettingsError: catalog or table have no such name.
    """

    client: "WorkspaceClient"
    warehouse_id: str
    catalog: str
    workspace: str
    target: str
    table: str = RESOURCES.name
    patience: Patience = field(default_factory=Patience)
    persistence: Persistence = field(default_factory=Persistence)

    def __post_init__(self) -> None:
        """Refuse names that would be another table's."""
        _check_table(f"{self.catalog}.{self.table}", (3,))

    def prepare(self) -> None:
        """See that schema and table exist.

        Raises:
            WorkspaceError: the warehouse refuses, can't be reached, or takes too long.
            ResourceStateError: others changed the table all the time.
        """
        for sql in _create_sql(f"{self.catalog}.{self.table}"):
            self._written(f"{self.catalog}.{self.table} was not created", sql, {})

    def read(self) -> tuple[Resource, ...]:
        """Rows of this workspace and target, oldest first.

        Raises:
            WorkspaceError: the warehouse refuses, can't be reached, takes too long, or leaves
                rows out.
            ResourceStateError: a row is none of ours.
        """
        columns = ", ".join(
            f"unix_micros({quote_name(c)})" if c in _MOMENTS else quote_name(c) for c in _READ
        )
        rows = self._run(
            f"{self.table} was not read",
            f"SELECT {columns} FROM {self._name} WHERE {_MINE}",  # noqa: S608
            self._mine,
        )
        found = (restored(self.table, dict(zip(_READ, row, strict=False))) for row in rows)
        return tuple(sorted(found, key=age))

    def write(self, *resources: Resource) -> None:
        """Insert or replace rows by one MERGE.

        Args:
            resources: whole rows, as they are to be; none of them twice.

        Raises:
            WorkspaceError: the warehouse refuses, can't be reached, or takes too long.
            ResourceStateError: others wrote all the time.
        """
        if not resources:
            return
        rows = " UNION ALL ".join(_row_sql(number) for number in range(len(resources)))
        values = {
            f"{column}_{number}": value
            for number, resource in enumerate(resources)
            for column, value in stored(self.workspace, self.target, resource).items()
        }
        sql = f"MERGE INTO {self._name} AS old USING ({rows}) AS new ON {_MERGE}"
        self._written(f"{self.table} was not written", sql, values)

    def others_live(self) -> bool:
        """Whether tasks of another workspace or target have rows neither deleted nor found.

        Raises:
            WorkspaceError: the warehouse refuses, can't be reached, or takes too long.
        """
        gone = ", ".join(map(quote_text, GONE_OR_FOUND))
        live = f"NOT ({_MINE}) AND `owner` = 'task' AND `status` NOT IN ({gone})"
        sql = f"SELECT 1 FROM {self._name} WHERE {live} LIMIT 1"  # noqa: S608
        return bool(self._run(f"{self.table} was not read", sql, self._mine))

    @property
    def _name(self) -> str:
        return quote_name(self.catalog, *self.table.split("."))

    @property
    def _mine(self) -> dict[str, str | int]:
        return {"workspace": self.workspace, "target": self.target}

    def _written(self, what: str, sql: str, values: dict[str, str | int]) -> None:
        self.persistence.until_done(what, lambda: self._run(what, sql, values), (WorkspaceError,))

    def _run(
        self, what: str, sql: str, values: dict[str, str | int]
    ) -> Sequence[Sequence[str | None]]:
        """Rows of a statement, once it has succeeded."""
        from databricks.sdk.service import sql as service

        parameters = [
            service.StatementParameterListItem(
                name=name, value=str(value), type="BIGINT" if isinstance(value, int) else "STRING"
            )
            for name, value in values.items()
        ]
        deadline = self.patience.starts()
        started = asked(
            what,
            lambda: self.client.statement_execution.execute_statement(
                sql,
                self.warehouse_id,
                parameters=parameters,
                wait_timeout="30s",
                on_wait_timeout=service.ExecuteStatementRequestOnWaitTimeout.CONTINUE,
            ),
        )
        return _rows_of(what, self._finished(what, started, deadline))

    def _finished(
        self, what: str, started: "StatementResponse", deadline: Deadline
    ) -> "StatementResponse":
        api, identity = self.client.statement_execution, started.statement_id or ""

        def look() -> "StatementResponse | None":
            answer = asked(what, lambda: api.get_statement(identity))
            return None if _state(answer) in _UNDER_WAY else answer

        if _state(started) not in _UNDER_WAY:
            return started
        try:
            return deadline.until(what, look)
        except WorkspaceError:
            # Or an old status could be written after a newer one.
            with suppress(WorkspaceError):
                asked(what, lambda: api.cancel_execution(identity))
            raise


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Gives an error of Spark as one of ours."""
    from pyspark.errors import PySparkException

    try:
        yield
    except PySparkException as error:
        kind = f"{type(error).__name__} {error.getCondition() or ''}".strip()
        said = refusal(what, first_cause(error), kind)
        raise ResourceStateError(said.message, hint=said.hint) from error


def _state(answer: "StatementResponse") -> str:
    state = answer.status and answer.status.state
    return state.value if state else ""


def _rows_of(what: str, answer: "StatementResponse") -> Sequence[Sequence[str | None]]:
    """The rows of a statement that has ended, if it succeeded and all of them are there."""
    if _state(answer) != "SUCCEEDED":
        error = answer.status and answer.status.error
        code = error.error_code.value if error and error.error_code else ""
        kind = code or _state(answer) or "unknown state"
        raise refusal(what, (error and error.message) or "", kind)
    manifest, result = answer.manifest, answer.result
    if (manifest and manifest.truncated) or (result and result.next_chunk_index):
        raise WorkspaceError(
            f"{what}: the service left rows out of its answer.",
            hint="Delete rows whose status is deleted, which nobody needs.",
        )
    return (result and result.data_array) or ()


def _row_sql(number: int) -> str:
    """One row of the bound values, by the names of the table's columns."""
    return "SELECT " + ", ".join(
        f"timestamp_micros(:{c}_{number}) AS `{c}`" if c in _MOMENTS else f":{c}_{number} AS `{c}`"
        for c in _COLUMNS
    )


def _create_sql(table: str) -> tuple[str, str]:
    """The statements that create the schema and the table, unless they exist."""
    *schema, _ = table.split(".")
    return f"CREATE SCHEMA IF NOT EXISTS {quote_name(*schema)}", resources_table(table).create_sql()


def _check_table(table: str, allowed: Sequence[int]) -> None:
    parts = table.split(".")
    if len(parts) not in allowed or not all(map(UNITY_CATALOG_NAME.fullmatch, parts)):
        raise SettingsError(
            f"The table of resources is {table[:80]!a}.",
            hint="Write it as schema.table or catalog.schema.table.",
        )
