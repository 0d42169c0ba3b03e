"""The record of a workspace's resources: one contract, kept by Spark and by a warehouse."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import duckdb
import pytest
import sqlglot
from databricks.sdk.service.sql import StatementParameterListItem, StatementResponse

from caspers_lib.errors import CaspersError, ResourceStateError, SettingsError, WorkspaceError
from caspers_lib.workspace.persistence import Persistence
from caspers_lib.workspace.resource_state import Resource, ResourceStore, Status
from caspers_lib.workspace.state_stores import (
    DeltaResourceStore,
    WarehouseResourceStore,
)
from caspers_lib.workspace_calls import Patience

NOON = datetime(2026, 3, 29, 12, 0, 0, 123_456, tzinfo=UTC)
HOSTILE = [
    "plain", "'); DROP TABLE resources; --", "o'brien", 'say "no"', "back\\slash\\'", "a`b", "",
    "line\nbreak\r\n\t", "nul\0l", "pizza 🍕 日本 é", ":name ${x} {y} %s ?", " spaces ", "NULL",
    "\u202e\u2028", "x" * 3_000, "<script>",
]  # fmt: skip
Make = Callable[[str, str], ResourceStore]


def resource(name: str = "refunds", status: Status = "ready", hours: int = 0) -> Resource:
    moment = NOON + timedelta(hours=hours)
    return Resource(kind="app", name=name, status=status, created_at=moment, updated_at=moment)


def refused(call: Callable[[], object], error: type[CaspersError] = ResourceStateError) -> str:
    with pytest.raises(error) as caught:
        call()
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value.message


class FakeWarehouse:
    """Runs statements in DuckDB, after it has seen that no value stands in their text."""

    def __init__(self, catalog: str = "cat") -> None:
        self.database = duckdb.connect()
        quoted = '"' + catalog.replace('"', '""') + '"'
        self.database.execute("SET TimeZone = 'Asia/Kathmandu'")
        self.database.execute("CREATE MACRO timestamp_micros(x) AS make_timestamptz(x::BIGINT)")
        self.database.execute(f"ATTACH ':memory:' AS {quoted}")
        self.statements: list[str] = []
        self.canceled: list[str] = []
        self.answers: list[dict[str, Any]] = []
        self.client: Any = SimpleNamespace(statement_execution=self)

    def execute_statement(
        self,
        statement: str,
        warehouse_id: str,
        *,
        parameters: list[StatementParameterListItem],
        wait_timeout: str,
        on_wait_timeout: Any,
    ) -> StatementResponse:
        assert (warehouse_id, wait_timeout, on_wait_timeout.value) == ("w-1", "30s", "CONTINUE")
        self.statements.append(statement)
        if self.answers:
            return StatementResponse.from_dict(self.answers.pop(0))
        for parameter in parameters:
            assert parameter.value is not None
            assert len(parameter.value) < 8 or parameter.value not in statement
        named = {p.name: int(p.value or 0) if p.type == "BIGINT" else p.value for p in parameters}
        assert set(re.findall(r":(\w+)", statement)) == set(named)
        sql = sqlglot.transpile(
            statement, "databricks", "duckdb", unsupported_level=sqlglot.ErrorLevel.IGNORE
        )
        rows = self.database.execute(sql[0], named).fetchall()
        texts = [[None if value is None else str(value) for value in row] for row in rows]
        return self.answer("SUCCEEDED", result={"data_array": texts})

    def get_statement(self, statement_id: str) -> StatementResponse:
        assert statement_id == "s-1"
        return StatementResponse.from_dict(self.answers.pop(0))

    def cancel_execution(self, statement_id: str) -> None:
        self.canceled.append(statement_id)

    @staticmethod
    def answer(state: str, **more: Any) -> StatementResponse:
        return StatementResponse.from_dict(answer(state, **more))


def answer(state: str, message: str = "", code: str = "BAD_REQUEST", **more: Any) -> dict[str, Any]:
    error = {"error": {"error_code": code, "message": message}} if message else {}
    return {"statement_id": "s-1", "status": {"state": state, **error}, **more}


class FakeTime:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def clock(self) -> float:
        return sum(self.slept)

    @property
    def patience(self) -> Patience:
        return Patience(timeout_seconds=60, sleep=self.slept.append, clock=self.clock)

    @property
    def persistence(self) -> Persistence:
        return Persistence(attempts=3, sleep=self.slept.append, draw=lambda: 1.0)


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture(params=["warehouse", pytest.param("delta", marks=pytest.mark.spark)])
def make(request: pytest.FixtureRequest) -> Make:
    """Makes stores of other workspaces and targets in the same place."""
    if request.param == "warehouse":
        client = FakeWarehouse().client
        return lambda w, t: WarehouseResourceStore(client, "w-1", "cat", w, t)
    spark = request.getfixturevalue("spark")
    table = f"spark_catalog.state_{uuid4().hex[:8]}.resources"
    return lambda w, t: DeltaResourceStore(spark, w, t, table)


class TestContract:
    def test_what_is_prepared_twice_keeps_its_rows(self, make: Make) -> None:
        store = make("w", "default")
        store.prepare()
        assert store.read() == ()
        assert not store.others_live()
        store.write(resource())
        store.prepare()
        assert store.read() == (resource(),)

    def test_hostile_texts_read_back_exactly(self, make: Make) -> None:
        workspace, target = HOSTILE[1], HOSTILE[2]
        store = make(workspace, target)
        store.prepare()
        rows = []
        for number in range(0, len(HOSTILE), 4):
            kind, name, fingerprint, detail = HOSTILE[number : number + 4]
            base = resource(name, hours=number)
            told = replace(base, kind=kind, fingerprint=fingerprint, detail=detail)
            rows.append(replace(told, owner="bundle" if number % 8 else "task"))
        store.write(*reversed(rows))
        assert store.read() == tuple(rows)
        assert all(row.created_at.tzinfo is UTC for row in store.read())
        assert make(workspace, "default").read() == ()

    def test_a_key_has_one_row_and_targets_stand_beside_each_other(self, make: Make) -> None:
        here, there = make("w", "default"), make("w", "complaints")
        here.prepare()
        east = timezone(timedelta(hours=5, minutes=30))
        for store in (here, there):
            store.write(resource(status="creating"))
        later = replace(resource(), fingerprint="f", updated_at=NOON.astimezone(east))
        here.write(later)
        here.write(replace(later, kind="job", created_at=NOON - timedelta(days=20_600)))
        here.write(later)
        assert [(r.kind, r.status, r.fingerprint) for r in here.read()] == [
            ("job", "ready", "f"),
            ("app", "ready", "f"),
        ]
        assert here.read()[1] == later
        assert there.read() == (resource(status="creating"),)

    def test_others_live_while_somebody_has_to_delete_something(self, make: Make) -> None:
        mine, other = make("w", "default"), make("w2", "default")
        mine.prepare()
        mine.write(resource())
        assert not mine.others_live()
        other.write(resource("a", "found"))
        other.write(resource("b", "deleting"))
        assert mine.others_live()
        # The bundle's own resources need no account to be deleted.
        other.write(resource("b", "deleted"), replace(resource("c"), owner="bundle"))
        assert not mine.others_live()
        assert make("w", "complaints").others_live()


# A resource.


def test_what_would_not_read_back_is_no_resource() -> None:
    with pytest.raises(ResourceStateError, match="time zone"):
        replace(resource(), updated_at=NOON.replace(tzinfo=None))
    with pytest.raises(ResourceStateError, match="Unicode"):
        resource("\ud800")


# Other writers.


class ConcurrentAppendException(Exception):
    """As Delta's."""


@pytest.mark.parametrize(
    "error",
    [
        ConcurrentAppendException("files were added"),
        RuntimeError("[DELTA_CONCURRENT_DELETE_READ] a file is gone"),
        RuntimeError("io.delta.exceptions.MetadataChangedException: changed"),
    ],
)
def test_another_writer_is_waited_out(time: FakeTime, error: Exception) -> None:
    outcomes: list[Exception | None] = [error, error, None]

    def attempt() -> str:
        if outcome := outcomes.pop(0):
            raise outcome
        return "done"

    assert time.persistence.until_done("x", attempt, (type(error),)) == "done"
    assert time.slept == [0.2, 0.4]


def test_other_writers_without_an_end_are_an_error(time: FakeTime) -> None:
    def attempt() -> None:
        raise ConcurrentAppendException

    def write() -> None:
        time.persistence.until_done("x was not written", attempt, (ConcurrentAppendException,))

    assert "x was not written" in refused(write)
    assert len(time.slept) == 2


def test_any_other_error_is_raised_at_once(time: FakeTime) -> None:
    def attempt() -> None:
        raise RuntimeError("no such table")

    with pytest.raises(RuntimeError, match="no such table"):
        time.persistence.until_done("x", attempt, (RuntimeError,))
    assert time.slept == []
    refused(lambda: Persistence(attempts=0), SettingsError)


def test_pauses_grow_to_an_end_and_differ() -> None:
    slept: list[float] = []
    draws = iter([0.0, 1.0] * 5)
    many = Persistence(attempts=9, sleep=slept.append, draw=lambda: next(draws))

    def attempt() -> None:
        raise ConcurrentAppendException

    refused(lambda: many.until_done("x", attempt, (ConcurrentAppendException,)))
    assert slept == pytest.approx([0.1, 0.4, 0.4, 1.6, 1.6, 6.4, 5.0, 10.0])


def test_a_conflict_in_spark_is_tried_again(time: FakeTime) -> None:
    from delta.exceptions import ConcurrentAppendException as Conflict
    from pyspark.errors import AnalysisException

    outcomes: list[Exception | None] = [Conflict("x"), None, Conflict("x"), None]

    def sql(_: str) -> None:
        if outcome := outcomes.pop(0):
            raise outcome

    spark: Any = SimpleNamespace(sql=sql)
    store = DeltaResourceStore(spark, "w", "t", persistence=time.persistence)
    store.prepare()
    assert (outcomes, time.slept) == ([], [0.2, 0.2])
    outcomes[:] = [AnalysisException("no such catalog\nand where that was")]
    assert refused(store.prepare).endswith("resources was not created: no such catalog")
    assert time.slept == [0.2, 0.2]


@pytest.mark.spark
def test_what_spark_refuses_is_one_sentence(spark: Any) -> None:
    schema = f"nowhere_{uuid4().hex[:8]}"
    store = DeltaResourceStore(spark, "w", "t", f"{schema}.resources")
    for call in (store.read, store.others_live, lambda: store.write(resource())):
        message = refused(call)
        assert message.startswith(f"{schema}.resources was not ")
        assert "TABLE_OR_VIEW_NOT_FOUND" in message
        assert len(message) < 400
    other = replace(store, table="no_such_catalog.a.resources")
    assert refused(other.prepare).startswith("no_such_catalog.a.resources was not created: ")


@pytest.mark.spark
def test_two_who_write_to_one_table_lose_nothing(spark: Any) -> None:
    table = f"state_{uuid4().hex[:8]}.resources"
    at_once = Persistence(sleep=lambda _: None)
    stores = [DeltaResourceStore(spark, "w", target, table, at_once) for target in "ab"]
    stores[0].prepare()

    def fill(store: ResourceStore) -> None:
        for name in ("one", "two"):
            store.write(resource(name))

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(fill, stores))
    assert [len(store.read()) for store in stores] == [2, 2]


# A table.


@pytest.mark.parametrize("table", ["resources", "a.b.c.d", "a..c", "a.b/c", "", "a.b c"])
def test_a_name_that_is_no_tables_is_refused(table: str) -> None:
    nobody: Any = None
    refused(lambda: DeltaResourceStore(nobody, "w", "t", table), SettingsError)
    refused(lambda: WarehouseResourceStore(nobody, "w-1", "cat", "w", "t", table), SettingsError)


@pytest.mark.parametrize("catalog", ["a.b", "", "a b"])
def test_a_name_that_is_no_catalogs_is_refused(catalog: str) -> None:
    client = FakeWarehouse().client
    refused(lambda: WarehouseResourceStore(client, "w-1", catalog, "w", "t"), SettingsError)


# A warehouse.


def warehouse_store(fake: FakeWarehouse, time: FakeTime, catalog: str = "cat") -> ResourceStore:
    return WarehouseResourceStore(
        fake.client,
        "w-1",
        catalog,
        "w",
        "t",
        patience=time.patience,
        persistence=time.persistence,
    )


def test_names_of_catalogs_are_quoted(time: FakeTime) -> None:
    catalog = "o'b`ri\"en-x"
    store = warehouse_store(FakeWarehouse(catalog), time, catalog)
    store.prepare()
    store.write(resource())
    assert store.read() == (resource(),)


def test_a_statement_is_waited_for(time: FakeTime) -> None:
    fake = FakeWarehouse()
    fake.answers = [answer("PENDING"), answer("RUNNING"), answer("RUNNING"), answer("SUCCEEDED")]
    assert warehouse_store(fake, time).read() == ()
    assert time.slept == [1, 2]


def test_a_statement_that_takes_too_long_is_stopped(time: FakeTime) -> None:
    fake = FakeWarehouse()
    fake.answers = [answer("RUNNING")] * 30
    message = refused(lambda: warehouse_store(fake, time).write(resource()), WorkspaceError)
    assert message == "_internal_state.resources was not written within 60 seconds."
    assert fake.canceled == ["s-1"]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (answer("FAILED", "[TABLE_OR_VIEW_NOT_FOUND]\nno table"), "[TABLE_OR_VIEW_NOT_FOUND] no"),
        (answer("CANCELED"), ": CANCELED"),
        (answer("CLOSED"), ": CLOSED"),
        ({"statement_id": "s-1"}, "unknown state"),
    ],
)
def test_a_statement_that_fails_is_an_error(
    time: FakeTime, said: dict[str, Any], message: str
) -> None:
    for first in ([], [answer("PENDING")]):
        fake = FakeWarehouse()
        fake.answers = [*first, said]
        assert message in refused(warehouse_store(fake, time).read, WorkspaceError)
        assert len(fake.statements) == 1


@pytest.mark.parametrize(
    "more",
    [
        {"manifest": {"truncated": True}, "result": {"data_array": []}},
        {"result": {"data_array": [], "next_chunk_index": 1}},
    ],
)
def test_an_answer_without_all_rows_is_an_error(time: FakeTime, more: dict[str, Any]) -> None:
    fake = FakeWarehouse()
    fake.answers = [answer("SUCCEEDED", **more)]
    assert "left rows out" in refused(warehouse_store(fake, time).read, WorkspaceError)


@pytest.mark.parametrize(
    "row",
    [
        ["app", "x", "newer", "", "", "1", "1"],
        ["app", None, "ready", "", "", "1", "1"],
        ["app", "x", "ready", "", "", "soon", "1"],
        ["app", "x", "ready", "", "", None, "1"],
        ["app", "x", "ready", "", "", "9" * 30, "1"],
        ["app"],
    ],
)
def test_a_row_that_is_none_of_ours_is_an_error(time: FakeTime, row: list[str | None]) -> None:
    fake = FakeWarehouse()
    fake.answers = [answer("SUCCEEDED", result={"data_array": [row]})]
    assert "none of ours" in refused(warehouse_store(fake, time).read)


def test_a_conflict_in_a_warehouse_is_tried_again(time: FakeTime) -> None:
    fake = FakeWarehouse()
    store = warehouse_store(fake, time)
    store.prepare()
    conflict = answer(
        "FAILED", "[DELTA_CONCURRENT_APPEND.WITH_PARTITION_HINT] Transaction conflict"
    )
    fake.answers = [conflict, conflict]
    store.write(resource())
    assert store.read() == (resource(),)
    assert time.slept == [0.2, 0.4]
