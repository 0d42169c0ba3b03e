"""Large batches: Spark's partitions copy their rows into a staging table themselves.

The driver holds no rows. Each writer commits on its own; what it has copied counts only once the
driver's transaction applies it, which checks that every row it was told of is there.
"""

import functools
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import astuple, fields
from typing import TYPE_CHECKING

import pyarrow as pa

from caspers_lib.lakebase.connection import Database
from caspers_lib.lakebase.staged_rows import CHANGE_TYPE, COMMIT_TIME, COMMIT_VERSION
from caspers_lib.lakebase.staging import Staged, StagingTable, copy_rows
from caspers_lib.lakebase.sync_plan import SyncPlan

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["WRITERS", "copy_partitions"]

WRITERS = 4
"""Connections that copy at once."""

_RESULT = ", ".join(f"{field.name} BIGINT" for field in fields(Staged))


def copy_partitions(
    rows: "DataFrame", database: Database, plan: SyncPlan, staging: StagingTable, *, since: int
) -> list[Staged]:
    """Copy a frame's rows from its partitions; the driver's memory doesn't grow with them.

    Args:
        rows: the plan's columns, `_change_type`, `_commit_version` and `_commit_timestamp`, in
            this order.
        database: the target's database, which Spark's workers can reach.
        plan: the plan.
        staging: the staging table.
        since: changes of commits up to this one are left out.

    Returns:
        What each writer has copied.
    """
    copy = functools.partial(
        _copy_partition, database=database, plan=plan, staging=staging, since=since
    )
    # Spark takes a name with a dot or a backtick for a path here, so columns go by position.
    numbered = rows.toDF(*(f"c{number}" for number in range(len(_names(plan)))))
    written = numbered.coalesce(WRITERS).mapInArrow(copy, _RESULT).collect()
    return [Staged(*row) for row in written]


def _names(plan: SyncPlan) -> list[str]:
    return [*plan.names, CHANGE_TYPE, COMMIT_VERSION, COMMIT_TIME]


def _copy_partition(
    batches: Iterable[pa.RecordBatch],
    *,
    database: Database,
    plan: SyncPlan,
    staging: StagingTable,
    since: int,
) -> Iterator[pa.RecordBatch]:
    # An attempt that fails after its commit has another number than the one that counts.
    part = secrets.randbelow(2**31)
    named = (pa.RecordBatch.from_arrays(batch.columns, _names(plan)) for batch in batches)
    staged = copy_rows(database, staging, plan, named, part=part, since=since)
    numbers = [pa.array([value], pa.int64()) for value in astuple(staged)]
    yield pa.RecordBatch.from_arrays(numbers, names=[field.name for field in fields(Staged)])
