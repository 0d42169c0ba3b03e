from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from caspers_lib.errors import SyncError
from caspers_lib.lakebase import SyncSpec
from caspers_lib.lakebase.change_feed import sync_once
from caspers_lib.lakebase.check import Difference, check_sync

SOURCE = "lakebase_check.things"
SPEC = SyncSpec(
    name="things",
    source=SOURCE,
    keys=("part", "no"),
    database="test",
    schema="things",
    table="pg_things",
)
NOT_A_NUMBER = "double('NaN')"
HOSTILE = "it''s \"q\"; DROP TABLE x; %s {names}"


@pytest.fixture
def things(spark: Any, database: str) -> Any:
    spark.sql("CREATE SCHEMA IF NOT EXISTS lakebase_check")
    spark.sql(
        f"CREATE TABLE {SOURCE} (part STRING, no INT, usd DECIMAL(12,2), at TIMESTAMP, "
        'tags ARRAY<STRING>, x DOUBLE, `we:ird"` STRING) USING delta '
        "TBLPROPERTIES (delta.enableChangeDataFeed = true)"
    )
    rows = ", ".join(
        f"('{HOSTILE}', {n}, {n}.50, timestamp'2024-03-01 12:00:00.123456', array('a', NULL), "
        f"{NOT_A_NUMBER if n == 2 else n}, '\\\\ü')"
        for n in range(20)
    )
    spark.sql(f"INSERT INTO {SOURCE} VALUES {rows}")
    yield lambda: sync_once(spark, SPEC, database)
    spark.sql("DROP SCHEMA lakebase_check CASCADE")


def execute(database: str, statement: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(statement.encode())


@pytest.mark.spark
def test_both_sides_are_compared_by_key_and_value(
    spark: Any, things: Callable[[], object], database: str
) -> None:
    with pytest.raises(SyncError, match="was never synced") as caught:
        check_sync(spark, SPEC, database)
    assert "caspers sync things" in caught.value.hint

    things()
    found = check_sync(spark, SPEC, database)
    assert found.is_equal
    assert found.source_rows == found.target_rows == 20
    assert found.source_sum == found.target_sum

    # What is new in the source after the position is no difference.
    spark.sql(f"INSERT INTO {SOURCE} (part, no) VALUES ('later', 1)")
    assert check_sync(spark, SPEC, database).is_equal

    execute(database, f"DELETE FROM {SPEC.target} WHERE no = 3")
    execute(database, f"INSERT INTO {SPEC.target} (part, no) VALUES ('mine', 1)")
    execute(database, f'UPDATE {SPEC.target} SET usd = 0, "we:ird""" = \'x\' WHERE no IN (4, 5, 6)')
    found = check_sync(spark, SPEC, database, first=3)
    part = HOSTILE.replace("''", "'")
    assert not found.is_equal
    assert (found.source_rows, found.target_rows, found.differing) == (20, 20, 5)
    assert found.source_sum != found.target_sum
    assert found.first == (
        Difference((part, "3"), "missing"),
        Difference((part, "4"), "different", ("usd", 'we:ird"')),
        Difference((part, "5"), "different", ("usd", 'we:ird"')),
    )


@pytest.mark.spark
def test_what_was_refused_and_what_is_there_twice_is_named(
    spark: Any, things: Callable[[], object], database: str
) -> None:
    spark.sql(f"INSERT INTO {SOURCE} (part, no) VALUES (NULL, 1), ('twice', 1), ('twice', 1)")
    things()
    found = check_sync(spark, SPEC, database)
    assert (found.differing, found.refused, found.doubled) == (0, 1, 1)
    assert not found.is_equal
