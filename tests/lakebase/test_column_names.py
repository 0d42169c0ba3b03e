"""Columns of every name that Delta and PostgreSQL both allow, on every path of the sync."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from caspers_lib.lakebase import SyncSpec
from caspers_lib.lakebase.change_feed import SMALL_ROWS, sync_once
from caspers_lib.lakebase.check import check_sync
from caspers_lib.lakebase.identifiers import quote_identifier
from caspers_lib.spark_sql import quote_name

KEY, NEWEST, JSON = 'k.e`y "%s {x}', "new.est", "js.on`"
NAMES = (
    *("dot.ted", ".", "tick`tick", 'q"uote', "%s per%cent", "{names} {}", "a b", "co:lon", "[0]"),
    *("semi;colon", "back\\slash", "ключ", "UPPER", "1st", "select", "user", "$1", "--", "'", "*"),
    *("new\nline", "ü" * 31 + "x", "r", "n", "s", "t", "c0", "row", "old", "version", "deleted"),
)
SPEC = SyncSpec(
    name="names",
    source="lakebase_names.things",
    keys=(KEY,),
    database="test",
    schema="names",
    table="pg_names",
    newest_by=NEWEST,
    jsonb=(JSON,),
    indexes=((NAMES[0], NAMES[2]),),
)


@pytest.fixture
def source(spark: Any) -> Iterator[str]:
    spark.sql("CREATE SCHEMA lakebase_names")
    others = ", ".join(f"{quote_name(name)} STRING" for name in NAMES)
    spark.sql(
        f"CREATE TABLE {SPEC.source_name} ({quote_name(KEY)} BIGINT, {quote_name(NEWEST)} "
        f"TIMESTAMP, {quote_name(JSON)} STRING, {others}) USING delta TBLPROPERTIES "
        "(delta.enableChangeDataFeed = true, delta.columnMapping.mode = 'name')"
    )
    yield SPEC.source_name
    spark.sql("DROP SCHEMA lakebase_names CASCADE")


def insert(spark: Any, first: int, count: int) -> None:
    values = ", ".join(f"concat(id, '-{n}')" for n in range(len(NAMES)))
    spark.sql(
        f"INSERT INTO {SPEC.source_name} SELECT id, timestamp_seconds(id), '[1]', {values} "
        f"FROM range({first}, {first + count})"
    )


@pytest.mark.spark
def test_a_column_of_any_name_is_synced_and_compared_on_every_path(
    spark: Any, source: str, database: str
) -> None:
    assert sync_once(spark, SPEC, database).loaded == "first load"
    insert(spark, 0, 3)
    spark.sql(f"UPDATE {source} SET {quote_name(KEY)} = 2 - {quote_name(KEY)}")
    spark.sql(f"DELETE FROM {source} WHERE {quote_name(NAMES[0])} = '1-0'")
    assert sync_once(spark, SPEC, database).result.written == 2  # through the driver
    insert(spark, 10, SMALL_ROWS + 1)
    assert sync_once(spark, SPEC, database).result.written == SMALL_ROWS + 1  # from the partitions
    with psycopg.connect(database) as connection:
        columns = ", ".join(map(quote_identifier, (KEY, JSON, *NAMES)))
        query = f"SELECT {columns} FROM {SPEC.target} ORDER BY 1 LIMIT 2"
        rows = connection.execute(query.encode()).fetchall()
    assert rows == [(2 - n, [1], *(f"{n}-{c}" for c in range(len(NAMES)))) for n in (2, 0)]
    snapshot = replace(SPEC, name="whole", table="pg_whole", mode="snapshot", columns=(KEY, *NAMES),
                       newest_by=None, jsonb=())  # fmt: skip
    assert sync_once(spark, snapshot, database).result.written == SMALL_ROWS + 3
    for spec in (SPEC, snapshot):
        assert check_sync(spark, spec, database).is_equal
    with psycopg.connect(database) as connection:
        connection.execute(f"UPDATE {SPEC.target} SET {quote_identifier(NAMES[0])} = 'x'".encode())
    check = check_sync(spark, SPEC, database, first=1)
    assert (check.differing, check.first[0].columns) == (SMALL_ROWS + 3, (NAMES[0],))
