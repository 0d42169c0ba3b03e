"""Spark's in-memory catalog over the Delta folders under ROOT.

The catalog forgets with its process; the folders stay. So each session begins by naming them.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from caspers_lib.errors import RootError, first_cause
from caspers_lib.spark_paths import plain_folder
from caspers_lib.spark_sql import quote_name, quote_text

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyspark.sql import SparkSession

__all__ = [
    "SCHEMAS",
    "delta_files",
    "delta_rows",
    "delta_tables",
    "last_commit",
    "register_tables",
]

SCHEMAS = ("simulator", "lakeflow", "recommender", "complaints", "ai")


def register_tables(
    spark: "SparkSession", warehouse: Path, schemas: Sequence[str] = SCHEMAS
) -> None:
    """Make every Delta folder of the warehouse a table of the session's catalog.

    A folder without a commit is what a killed process left of a table it had not yet created:
    it holds nothing that was ever visible, and is removed, since it would bar the table's name.

    Args:
        spark: the session.
        warehouse: folder with one folder a schema.
        schemas: the schemas, made where they are missing.

    Raises:
        RootError: a Delta folder can't be a table.
    """
    for schema in schemas:
        folder = warehouse / schema
        folder.mkdir(parents=True, exist_ok=True)
        spark.sql(
            f"CREATE SCHEMA IF NOT EXISTS {quote_name(schema)} LOCATION {quote_text(str(folder))}"
        )
        for table in sorted(p for p in folder.iterdir() if p.is_dir()):
            if not _has_commit(table):
                shutil.rmtree(table)
                continue
            _register(spark, quote_name(schema, table.name), table)


def _register(spark: "SparkSession", name: str, folder: Path) -> None:
    from pyspark.errors import PySparkException

    place = quote_text(str(folder))
    try:
        spark.sql(f"CREATE TABLE IF NOT EXISTS {name} USING delta LOCATION {place}")
    except PySparkException as error:
        raise RootError(
            f"The Delta folder {folder} can't be a table: {first_cause(error)}",
            hint="move it out of the warehouse",
        ) from error


def delta_tables(warehouse: Path, schemas: Sequence[str] = SCHEMAS) -> dict[str, Path]:
    """`schema.table` to folder, for every table with a commit, in the order of the schemas."""
    return {
        f"{schema}.{table.name}": table
        for schema in schemas
        if (warehouse / schema).is_dir()
        for table in sorted((warehouse / schema).iterdir())
        if table.is_dir() and _has_commit(table)
    }


def delta_rows(table: Path) -> int:
    """Rows of a Delta table, from its log, without Spark.

    Raises:
        RootError: the table's log can't be read.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    with _readable(table) as delta:
        actions = pa.table(delta.get_add_actions(flatten=True))
    return int(pc.sum(actions.column("num_records")).as_py() or 0)


def last_commit(table: Path) -> datetime:
    """When a Delta table was last written, UTC, from its log, without Spark.

    Raises:
        RootError: the table's log can't be read.
    """
    with _readable(table) as delta:
        (commit,) = delta.history(1)
    return datetime.fromtimestamp(commit["timestamp"] / 1000, UTC)


def delta_files(table: Path) -> list[str]:
    """The data files of a Delta table's newest version, under names that DuckDB takes as they are.

    Raises:
        RootError: the table's log can't be read.
    """
    import pyarrow as pa

    with _readable(table) as delta:
        names = pa.table(delta.get_add_actions()).column("path").to_pylist()
    folder = plain_folder(table)
    return [f"{folder}/{unquote(name)}" for name in names]


@contextmanager
def _readable(table: Path) -> Iterator["DeltaTable"]:
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    try:
        # Through a folder of its own with nothing but the log: the package resolves a link to the
        # table itself, and then decodes the path that the link hid.
        yield DeltaTable(str(plain_folder(table / "_delta_log").parent))
    except (DeltaError, OSError) as error:
        raise RootError(
            f"The Delta table {table} can't be read: {first_cause(error)}",
            hint="`caspers destroy` begins anew",
        ) from error


def _has_commit(table: Path) -> bool:
    return any((table / "_delta_log").glob("*.json"))
