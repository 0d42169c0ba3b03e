"""SQL warehouses and statements of the workspace on the loopback."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import OperationFailed
from databricks.sdk.service.sql import (
    CreateWarehouseRequestWarehouseType,
    Disposition,
    ExecuteStatementRequestOnWaitTimeout,
    State,
    StatementParameterListItem,
    StatementResponse,
    StatementState,
)

from caspers_lib.workspace.resource_state import resources_table
from tests.workspace_fake import DuckDBExecutor, LoopbackWorkspace
from tests.workspace_fake.duckdb_sql import translated

Refuses = Callable[[Callable[[], Any]], str]
PRO = CreateWarehouseRequestWarehouseType.PRO


@pytest.fixture
def duck() -> Iterator[DuckDBExecutor]:
    executor = DuckDBExecutor()
    yield executor
    executor.close()


@pytest.fixture
def workspace(duck: DuckDBExecutor) -> Iterator[LoopbackWorkspace]:
    with LoopbackWorkspace(execute=duck).running() as running:
        yield running


@pytest.fixture
def run(client: WorkspaceClient, workspace: LoopbackWorkspace) -> Callable[..., StatementResponse]:
    warehouse = workspace.add_warehouse("small")

    def execute(sql: str, **more: Any) -> StatementResponse:
        parameters = [
            StatementParameterListItem(name=name, value=value, type=kind)
            for name, (value, kind) in more.pop("parameters", {}).items()
        ]
        api = client.statement_execution
        return api.execute_statement(sql, warehouse, parameters=parameters, **more)

    return execute


def state(answer: StatementResponse) -> StatementState:
    assert answer.status and answer.status.state
    return answer.status.state


def rows(answer: StatementResponse) -> list[list[str]]:
    assert state(answer) == StatementState.SUCCEEDED, answer.status
    assert answer.result
    return answer.result.data_array or []


# Warehouses.


def test_a_warehouse_starts_stops_and_goes(
    client: WorkspaceClient, workspace: LoopbackWorkspace, refuses: Refuses
) -> None:
    made = client.warehouses.create(name="w", cluster_size="2X-Small", warehouse_type=PRO).result()
    assert (made.id, made.state) == ("warehouse1", State.RUNNING)
    identity = str(made.id)
    assert client.warehouses.stop(identity).result().state == State.STOPPED
    assert client.warehouses.start(identity).result().state == State.RUNNING
    again = refuses(lambda: client.warehouses.create(name="w", cluster_size="Small"))
    assert again.startswith("RESOURCE_ALREADY_EXISTS")
    assert [w.name for w in client.warehouses.list()] == ["w"]
    client.warehouses.delete(identity)
    assert "RESOURCE_DOES_NOT_EXIST" in refuses(lambda: client.warehouses.get(identity))
    assert workspace.snapshot() == {}


def test_a_warehouse_that_is_slow_is_waited_for(
    client: WorkspaceClient, workspace: LoopbackWorkspace, clock: Any
) -> None:
    workspace.common.looks = 3
    client.warehouses.create(name="w", cluster_size="Small").result()
    assert [int(pause) for pause in clock.slept] == [1, 2, 3]
    assert len(workspace.wire(collapse=True)) == 2


# Statements.


def test_a_statement_is_run_with_its_parameters(run: Callable[..., StatementResponse]) -> None:
    sql = "SELECT :n AS `n`, :t AS t, :b AS b, ':x' AS x, CAST(NULL AS INT) AS e, 2::bigint AS g"
    values = {"n": ("7", "BIGINT"), "t": ("it's", "STRING"), "b": ("true", "BOOLEAN")}
    answer = run(sql, parameters=values)
    assert rows(answer) == [["7", "it's", "true", ":x", None, "2"]]
    assert answer.manifest and answer.manifest.schema
    columns = [(c.name, c.type_text) for c in answer.manifest.schema.columns or []]
    assert columns[1:3] == [("t", "STRING"), ("b", "BOOLEAN")]


def test_tables_of_three_part_names_are_created_merged_and_read(
    run: Callable[..., StatementResponse],
) -> None:
    create = (
        "CREATE TABLE IF NOT EXISTS `shop`.`sales`.`orders` (`id` STRING COMMENT 'it\\'s',"
        " `at` TIMESTAMP) USING delta PARTITIONED BY (`id`) COMMENT 'x (y' TBLPROPERTIES (a = 'b')"
    )
    assert state(run("CREATE SCHEMA IF NOT EXISTS `shop`.`sales`")) == StatementState.SUCCEEDED
    for _ in range(2):
        assert state(run(create)) == StatementState.SUCCEEDED
    merge = (
        "MERGE INTO `shop`.`sales`.`orders` AS old USING (SELECT :id AS `id`,"
        " timestamp_micros(:at) AS `at`) AS new ON old.`id` = new.`id`"
        " WHEN MATCHED THEN UPDATE SET `at` = new.`at`"
        " WHEN NOT MATCHED THEN INSERT (`id`, `at`) VALUES (new.`id`, new.`at`)"
    )
    for micros in ("1", "2000000"):
        rows(run(merge, parameters={"id": ("a", "STRING"), "at": (micros, "BIGINT")}))
    select = "SELECT id, unix_micros(`at`), `at` FROM shop.sales.orders WHERE `id` = :id"
    found = rows(run(select, parameters={"id": ("a", "STRING")}))
    assert found == [["a", "2000000", "1970-01-01T00:00:02.000Z"]]


def test_the_librarys_own_statement_runs(run: Callable[..., StatementResponse]) -> None:
    sql = resources_table("shop.state.resources").create_sql()
    assert state(run(sql)) == StatementState.SUCCEEDED


def test_a_statement_that_fails_says_why(run: Callable[..., StatementResponse]) -> None:
    for sql, said in (("SELECT * FROM a.b.c", "does not exist"), ("SELECT :x", "UNBOUND_SQL")):
        answer = run(sql)
        assert state(answer) == StatementState.FAILED
        assert answer.status and answer.status.error
        assert said in str(answer.status.error.message)


def test_a_statement_may_take_its_time(
    client: WorkspaceClient, workspace: LoopbackWorkspace, run: Callable[..., StatementResponse]
) -> None:
    started = run("SELECT 1", wait_timeout="0s")
    assert state(started) == StatementState.PENDING
    api, identity = client.statement_execution, str(started.statement_id)
    assert rows(api.get_statement(identity)) == [["1"]]
    workspace.warehouses.slow_statements = 2
    slow = run("SELECT 1")
    assert state(slow) == StatementState.PENDING
    api.cancel_execution(str(slow.statement_id))
    assert state(api.get_statement(str(slow.statement_id))) == StatementState.CANCELED
    cancel = ExecuteStatementRequestOnWaitTimeout.CANCEL
    assert state(run("SELECT 1", on_wait_timeout=cancel)) == StatementState.CANCELED


def test_rows_beyond_the_limit_are_left_out(run: Callable[..., StatementResponse]) -> None:
    answer = run("SELECT * FROM range(3)", row_limit=2)
    assert rows(answer) == [["0"], ["1"]]
    assert answer.manifest and answer.manifest.truncated


def test_statements_that_are_refused(
    client: WorkspaceClient,
    workspace: LoopbackWorkspace,
    run: Callable[..., StatementResponse],
    refuses: Refuses,
) -> None:
    links = Disposition.EXTERNAL_LINKS
    api = client.statement_execution
    calls: list[tuple[str, Callable[[], Any]]] = [
        ("SQL warehouse no does not exist", lambda: api.execute_statement("SELECT 1", "no")),
        ("wait_timeout is '3s'", lambda: run("SELECT 1", wait_timeout="3s")),
        ("not modelled", lambda: run("SELECT 1", disposition=links)),
        ("not BIGINT", lambda: run("SELECT :n", parameters={"n": ("x", "BIGINT")})),
        ("not modelled", lambda: run("SELECT :n", parameters={"n": ("x", "MAP")})),
        ("does not exist", lambda: api.get_statement("no")),
    ]
    for said, call in calls:
        assert said in refuses(call)
    workspace.warehouses.execute = None
    assert "no executor" in refuses(lambda: run("SELECT 1"))


def test_a_statement_starts_its_warehouse(
    client: WorkspaceClient, workspace: LoopbackWorkspace
) -> None:
    identity = workspace.add_warehouse("cold", state="STOPPED")
    assert client.warehouses.get(identity).state == State.STOPPED
    with pytest.raises(OperationFailed, match="STOPPED"):
        client.warehouses.wait_get_warehouse_running(identity)
    client.statement_execution.execute_statement("SELECT 1", identity)
    assert client.warehouses.get(identity).state == State.RUNNING


@pytest.mark.parametrize(
    ("sql", "wanted"),
    [
        ("SELECT `a``b` FROM t", 'SELECT "a`b" FROM t'),
        ("SELECT a.b.c FROM `x`.y.`z` a", 'SELECT a.b.c FROM "x.y"."z" a'),
        ("SELECT \"it's\", 'a\\'b'", "SELECT 'it''s', 'a''b'"),
        ("DROP TABLE IF EXISTS a.b.c;", 'DROP TABLE IF EXISTS "a.b"."c"'),
        ("DROP SCHEMA IF EXISTS a.b CASCADE", 'DROP SCHEMA IF EXISTS "a.b" CASCADE'),
        (
            "CREATE OR REPLACE TABLE a.b.c AS SELECT 1",
            'CREATE OR REPLACE TABLE "a.b"."c" AS SELECT 1',
        ),
        ("DELETE FROM a.b.c WHERE x = :x", 'DELETE FROM "a.b"."c" WHERE x = $x'),
        ("SELECT 1 -- :no\n", "SELECT 1 -- :no"),
        ("SELECT x::int, m[1:2] FROM t", "SELECT x::int, m[1:2] FROM t"),
    ],
)
def test_statements_are_translated(sql: str, wanted: str) -> None:
    assert translated(sql)[0] == wanted
