"""Source and target of a sync compared, key by key and value by value.

The source at the target's position is copied beside the target, so both sides are values of the
same PostgreSQL types, and PostgreSQL compares them. A sync of the same table waits meanwhile.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import psycopg
from pyspark.errors import PySparkException

from caspers_lib.errors import SyncError, first_cause
from caspers_lib.lakebase.change_feed import SourceState, read_source, snapshot_rows
from caspers_lib.lakebase.connection import Database, connect, execute
from caspers_lib.lakebase.identifiers import quote_identifier
from caspers_lib.lakebase.partition_writer import copy_partitions
from caspers_lib.lakebase.staging import staging_table
from caspers_lib.lakebase.sync_plan import SyncPlan, plan_sync
from caspers_lib.lakebase.sync_spec import SyncSpec
from caspers_lib.lakebase.target import Position, at_position, read_position
from caspers_lib.lakebase.upsert import mark_refused
from caspers_lib.lakebase.upsert_sql import newest_sql, typed

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["Difference", "SyncCheck", "check_sync"]

_SIDES = """
CREATE TEMPORARY TABLE pg_temp.source_rows ON COMMIT DROP AS
SELECT {typed_values} FROM ({newest}) AS s WHERE NOT deleted
"""

_SUMS = """
SELECT count(*), coalesce(sum(hashtextextended(ROW(r.*)::text, 0)), 0)::text
FROM (SELECT {names} FROM {table}) AS r
"""

_DIFFERENCES = """
SELECT {keys}, CASE WHEN t.{key} IS NULL THEN 'missing' WHEN s.{key} IS NULL THEN 'surplus'
       ELSE 'different' END, ARRAY[{differing}]
FROM (SELECT {names} FROM pg_temp.source_rows) AS s FULL JOIN (SELECT {names} FROM {target}) AS t
USING ({key_names})
WHERE s.{key} IS NULL OR t.{key} IS NULL OR ROW(s.*) IS DISTINCT FROM ROW(t.*)
ORDER BY {order}
"""


@dataclass(frozen=True, slots=True)
class Difference:
    """A key that differs.

    Args:
        key: its values as text, in the spec's order.
        what: `missing` in the target, `surplus` there, or `different`.
        columns: the columns whose values differ; empty unless `different`.
    """

    key: tuple[str, ...]
    what: Literal["missing", "surplus", "different"]
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SyncCheck:
    """What a comparison found.

    Args:
        spec: the synced table.
        position: the target's position; the source is looked at as it was then.
        source_rows: keys in the source.
        target_rows: rows in the target.
        source_sum: checksum over the source's rows, which doesn't depend on their order.
        target_sum: the same over the target's.
        refused: rows of the source that PostgreSQL can't hold.
        doubled: rows of the source beyond the first of their key.
        differing: keys that differ.
        first: the first of them.
    """

    spec: SyncSpec
    position: Position
    source_rows: int
    target_rows: int
    source_sum: str
    target_sum: str
    refused: int
    doubled: int
    differing: int
    first: tuple[Difference, ...]

    @property
    def is_equal(self) -> bool:
        """Whether the target holds exactly what the source does."""
        return self.differing == 0 and self.refused == 0


def check_sync(
    spark: "SparkSession", spec: SyncSpec, database: Database, *, first: int = 10
) -> SyncCheck:
    """Compare a target with its source as it was at the target's position.

    Args:
        spark: a session that knows the source table.
        spec: the synced table.
        database: the target's database.
        first: how many differences are named.

    Raises:
        PostgresError: the server can't be reached.
        SyncError: it was never synced, the source is another table, or its version is gone.
    """
    source = read_source(spark, spec)
    plan = plan_sync(spec, source.columns)
    with at_position(database, spec) as connection:
        _known(read_position(connection, spec), source, spec)
    try:
        # The transaction ends first: the staging table can't go while it is being read.
        with staging_table(database, plan) as staging, connect(database) as connection:
            position = _known(read_position(connection, spec, lock=True), source, spec)
            rows = snapshot_rows(spark, plan, position.commit_version, source.committed_at)
            copy_partitions(rows, database, plan, staging, since=-1)
            return _compare(connection, plan, staging.sql, position, first)
    except PySparkException as error:
        raise SyncError(
            f"The source {spec.source} can't be read as it was at the target's position: "
            f"{first_cause(error)}",
            hint=f"Run `caspers sync {spec.name}`, then compare again.",
        ) from error
    except psycopg.Error as error:
        raise SyncError(
            f"{spec.schema}.{spec.table} can't be compared: {first_cause(error)}",
            hint="Does the target have every column of the plan? `caspers sync plan` tells.",
        ) from error


def _known(position: Position | None, source: SourceState, spec: SyncSpec) -> Position:
    """The position, if the target came from this source."""
    if position is None or position.source_id != source.id:
        raise SyncError(
            f"{spec.schema}.{spec.table} was never synced from this {spec.source}.",
            hint=f"Run `caspers sync {spec.name}` first.",
        )
    return position


def _compare(
    connection: psycopg.Connection, plan: SyncPlan, staging: str, position: Position, first: int
) -> SyncCheck:
    spec = plan.spec
    mark_refused(connection, plan, staging)
    execute(
        connection,
        _SIDES,
        typed_values=typed(plan, named=True),
        newest=newest_sql(plan, staging),
    )
    names = ", ".join(map(quote_identifier, plan.names))
    counts = "SELECT count(*), count(refusal) FROM {staging}"
    staged, refused = execute(connection, counts, staging=staging).fetchone() or (0, 0)
    source_rows, source_sum = _sum(connection, "pg_temp.source_rows", names)
    target_rows, target_sum = _sum(connection, spec.target, names)
    differing, named = 0, tuple[Difference, ...]()
    if (source_rows, source_sum) != (target_rows, target_sum):
        differing, named = _differences(connection, plan, names, first)
    return SyncCheck(
        spec,
        position,
        source_rows,
        target_rows,
        source_sum,
        target_sum,
        refused,
        staged - refused - source_rows,
        differing,
        named,
    )


def _sum(connection: psycopg.Connection, table: str, names: str) -> tuple[int, str]:
    row = execute(connection, _SUMS, names=names, table=table).fetchone()
    assert row is not None  # noqa: S101 - an aggregate has one row
    return row[0], row[1]


def _differences(
    connection: psycopg.Connection, plan: SyncPlan, names: str, first: int
) -> tuple[int, tuple[Difference, ...]]:
    """How many keys differ, and the first of them; a few rows are held at a time."""
    count = 0
    named: list[Difference] = []
    with connection.cursor("differences") as cursor:
        cursor.execute(_differences_sql(plan, names).encode())
        for *key, what, columns in cursor:
            count += 1
            if len(named) < first:
                there = tuple(filter(None, columns)) if what == "different" else ()
                named.append(Difference(tuple(map(str, key)), what, there))
    return count, tuple(named)


def _differences_sql(plan: SyncPlan, names: str) -> str:
    keys = [quote_identifier(key) for key in plan.spec.keys]
    values = [quote_identifier(name) for name in plan.names if name not in plan.spec.keys]
    differing = ", ".join(
        f"CASE WHEN s.{v} IS DISTINCT FROM t.{v} THEN {_literal(v)} END" for v in values
    )
    return _DIFFERENCES.format(
        keys=", ".join(f"coalesce(s.{k}, t.{k})::text" for k in keys),
        key=keys[0],
        key_names=", ".join(keys),
        differing=differing or "NULL::text",
        names=names,
        target=plan.spec.target,
        order=", ".join(str(n + 1) for n in range(len(keys))),
    )


def _literal(identifier: str) -> str:
    """The name inside a quoted identifier, as a text literal."""
    name = identifier[1:-1].replace('""', '"')
    return "'" + name.replace("'", "''") + "'"
