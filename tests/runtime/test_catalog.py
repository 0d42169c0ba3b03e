import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from caspers_lib.errors import RootError
from caspers_lib.runtime.catalog import (
    SCHEMAS,
    delta_files,
    delta_rows,
    delta_tables,
    register_tables,
)


def test_a_table_without_a_log_is_an_error_with_its_folder(tmp_path: Path) -> None:
    with pytest.raises(RootError, match=f"The Delta table {tmp_path} can't be read") as refused:
        delta_rows(tmp_path)
    assert refused.value.hint


def test_a_tables_files_are_read_whatever_its_folder_is_named(tmp_path: Path) -> None:
    made = tmp_path / "made"
    write_deltalake(str(made), pa.table({"n": [1, 2, 3]}))
    named = tmp_path / "a é [1]{2}*?%20#:'\"\\" / "t"
    named.parent.mkdir()
    made.rename(named)
    assert delta_rows(named) == 3
    counted = duckdb.execute("SELECT sum(n) FROM read_parquet(?)", [delta_files(named)])
    assert counted.fetchall() == [(6,)]


@pytest.fixture
def warehouse(spark: Any, tmp_path: Path) -> Iterator[Path]:
    """A warehouse whose path needs quoting, and a catalog that knows none of its schemas."""
    forget(spark)
    yield tmp_path / "it's a wärehouse #1, 100 %"
    forget(spark)


def forget(spark: Any) -> None:
    for schema in SCHEMAS:
        spark.sql(f"DROP SCHEMA IF EXISTS {schema} CASCADE")


def moved(spark: Any, warehouse: Path, name: str) -> Path:
    """The same folders elsewhere, and a catalog that has forgotten them, as after a restart."""
    copy = warehouse.with_name(name)
    shutil.copytree(warehouse, copy)
    forget(spark)
    return copy


def tables(spark: Any, schema: str) -> set[str]:
    found = spark.catalog.listTables(schema)
    return {table.name for table in found if not table.isTemporary}


@pytest.mark.spark
def test_a_new_catalog_finds_every_table_that_has_a_commit_and_clears_away_the_rest(
    spark: Any, warehouse: Path
) -> None:
    register_tables(spark, warehouse)
    assert delta_tables(warehouse) == {}
    spark.range(3).write.saveAsTable("lakeflow.events")
    spark.sql("CREATE TABLE complaints.empty (id INT) USING delta")

    restarted = moved(spark, warehouse, "after 'restart'")
    debris = restarted / "lakeflow" / "half_made"
    (debris / "_delta_log").mkdir(parents=True)
    (debris / "_delta_log" / ".00000000000000000000.json.x.tmp").touch()
    (debris / "part-00000.parquet").touch()
    bare = restarted / "recommender" / "bare"
    bare.mkdir()
    register_tables(spark, restarted)

    assert tables(spark, "lakeflow") == {"events"}
    assert tables(spark, "complaints") == {"empty"}
    assert tables(spark, "recommender") == set()
    assert not debris.exists()
    assert not bare.exists()
    assert spark.table("lakeflow.events").count() == 3
    assert delta_tables(restarted) == {
        "lakeflow.events": restarted / "lakeflow" / "events",
        "complaints.empty": restarted / "complaints" / "empty",
    }

    # The name that the debris barred is free, and a second registration changes nothing.
    spark.range(1).write.saveAsTable("lakeflow.half_made")
    spark.range(2).write.mode("append").saveAsTable("lakeflow.events")
    register_tables(spark, restarted)
    assert spark.table("lakeflow.half_made").count() == 1
    assert spark.table("lakeflow.events").count() == 5


@pytest.mark.spark
def test_rows_counted_from_the_log_are_the_rows_of_the_table(spark: Any, warehouse: Path) -> None:
    register_tables(spark, warehouse)
    folder = warehouse / "lakeflow" / "t"
    spark.sql("CREATE TABLE lakeflow.t (id BIGINT) USING delta")
    assert delta_rows(folder) == 0

    spark.range(10).write.mode("append").saveAsTable("lakeflow.t")
    assert delta_rows(folder) == spark.table("lakeflow.t").count() == 10

    spark.range(8, 13).createOrReplaceTempView("arrivals")
    spark.sql(
        "MERGE INTO lakeflow.t USING arrivals a ON t.id = a.id "
        "WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT *"
    )
    spark.catalog.dropTempView("arrivals")
    assert delta_rows(folder) == spark.table("lakeflow.t").count() == 11

    spark.sql("DELETE FROM lakeflow.t WHERE id < 3")
    assert delta_rows(folder) == spark.table("lakeflow.t").count() == 8

    spark.sql("DELETE FROM lakeflow.t")
    assert delta_rows(folder) == spark.table("lakeflow.t").count() == 0


@pytest.mark.spark
def test_a_delta_folder_that_cannot_be_a_table_is_named(spark: Any, warehouse: Path) -> None:
    odd = warehouse / "lakeflow" / "odd-name"
    spark.range(1).write.format("delta").save(str(odd))
    with pytest.raises(RootError, match="odd-name can't be a table"):
        register_tables(spark, warehouse)
    assert odd.exists()
