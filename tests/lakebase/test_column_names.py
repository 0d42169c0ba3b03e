"""A column of any name that both Delta and PostgreSQL allow, on every path of the sync."""

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from caspers_lib.lakebase import SyncSpec, change_feed
from caspers_lib.lakebase.change_feed import sync_once
from caspers_lib.lakebase.check import Difference, check_sync
from caspers_lib.lakebase.continuous import Follower
from caspers_lib.lakebase.identifiers import quote_identifier
from tests.lakebase.test_follower import Running

KEYS = ("dot.ted", "tick`tick")
VALUES = (
    *("a b", " ", 'q"uote', "it's", "{brace}", "{0}", "semi;colon", "comma,", "back\\slash"),
    *("per%cent", "%s", "%(x)s", "$1", ":x", "?", "*", "(x)", "[0]", ".x", "a=b", "--", "/*x*/"),
    *("new\nline", "tab\t", "ü", "ключ 🍜", "select", "SQL.`q`", "123", "true", "x" * 63),
    # Those of the staging table.
    *("c0", "n", "part", "version", "deleted", "old", "refusal", "raw", "row", "k0"),
)
SOURCE = "lakebase_names.things"
SPEC = SyncSpec(
    name="names", source=SOURCE, keys=KEYS, database="test", schema="names", table="pg_things"
)


def spark_name(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


@pytest.fixture
def things(spark: Any) -> Any:
    spark.sql("CREATE SCHEMA lakebase_names")
    columns = ", ".join(f"{spark_name(name)} STRING" for name in VALUES)
    spark.sql(
        f"CREATE TABLE {SOURCE} (`dot.ted` STRING, `tick``tick` INT, {columns}) USING delta "
        "TBLPROPERTIES (delta.enableChangeDataFeed = true, delta.columnMapping.mode = 'name')"
    )
    yield
    spark.sql("DROP SCHEMA lakebase_names CASCADE")


def insert(spark: Any, key: str, numbers: str, value: str = "'v'") -> None:
    """Rows with one key each and a value of its own in every column."""
    values = ", ".join(f"concat({value}, '{n}')" for n in range(len(VALUES)))
    spark.sql(f"INSERT INTO {SOURCE} SELECT '{key}', CAST(id AS INT), {values} FROM {numbers}")


def target(database: str, key: str) -> list[tuple[Any, ...]]:
    names = ", ".join(quote_identifier(name) for name in (*KEYS, *VALUES))
    with psycopg.connect(database) as connection:
        rows = connection.execute(f"SELECT {names} FROM {SPEC.target}".encode()).fetchall()
    return [row for row in rows if row[0] == key]


@pytest.mark.spark
@pytest.mark.usefixtures("things")
def test_a_column_may_have_any_name_on_every_path(
    spark: Any, database: str, tmp_path: Path
) -> None:
    in_order = tuple(f"v{n}" for n in range(len(VALUES)))

    insert(spark, "load", "range(2)")
    assert sync_once(spark, SPEC, database).result.written == 2
    assert target(database, "load")[0] == ("load", 0, *in_order)

    insert(spark, "feed", "range(2)")
    spark.sql(f"DELETE FROM {SOURCE} WHERE `dot.ted` = 'load' AND `tick``tick` = 1")
    result = sync_once(spark, SPEC, database).result
    assert (result.written, result.deleted) == (2, 1)
    assert target(database, "feed")[0] == ("feed", 0, *in_order)

    # A value that PostgreSQL can't hold names its column.
    insert(spark, "refused", "range(1)", "char(0)")
    assert sync_once(spark, SPEC, database).result.refused == 1
    with psycopg.connect(database) as connection:
        query = f"SELECT raw, reason FROM {SPEC.dead_letters}"
        ((raw, reason),) = connection.execute(query.encode()).fetchall()
    assert tuple(json.loads(raw)) == (*KEYS, *VALUES)
    assert reason == f"{VALUES[0]} holds a NUL character"

    insert(spark, "many", f"range({change_feed.SMALL_ROWS + 1})")
    assert sync_once(spark, SPEC, database).result.written == change_feed.SMALL_ROWS + 1
    assert target(database, "many")[0][2:] == in_order

    with Running(Follower(spark, SPEC, database, str(tmp_path), trigger_seconds=0.1)) as running:
        insert(spark, "followed", "range(1)")
        running.until(lambda: bool(target(database, "followed")))
    assert running.failure is None
    assert target(database, "followed")[0] == ("followed", 0, *in_order)

    spark.sql(f"DELETE FROM {SOURCE} WHERE `dot.ted` = 'refused'")
    assert sync_once(spark, SPEC, database).loaded is None
    assert check_sync(spark, SPEC, database).is_equal
    key, number = (quote_identifier(name) for name in KEYS)
    value = quote_identifier(VALUES[0])
    with psycopg.connect(database) as connection:
        for change in (
            f"{value} = 'other' WHERE {key} = 'feed' AND {number} = 1",
            f"{number} = 7 WHERE {key} = 'followed'",
        ):
            connection.execute(f"UPDATE {SPEC.target} SET {change}".encode())
    assert check_sync(spark, SPEC, database).first == (
        Difference(("feed", "1"), "different", (VALUES[0],)),
        Difference(("followed", "0"), "missing"),
        Difference(("followed", "7"), "surplus"),
    )
