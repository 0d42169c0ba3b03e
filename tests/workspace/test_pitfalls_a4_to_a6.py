"""Defects A4 to A6 of the public demo: a second deployment, texts in the account, the removal."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial

import psycopg
import pytest
from databricks.sdk.service.apps import App
from psycopg import sql

from caspers_lib.errors import WorkspaceError
from caspers_lib.runtime.settings import Settings
from caspers_lib.workspace import destroy_workspace
from caspers_lib.workspace.destroy_view import destroy_from_here
from caspers_lib.workspace.ledger import Ledger
from caspers_lib.workspace.removal import remove_resources
from caspers_lib.workspace.state_stores import WarehouseResourceStore
from caspers_lib.workspace_calls import Patience
from tests.bundle.shipped import shipped
from tests.workspace.conftest import World
from tests.workspace_fake import DuckDBExecutor

MakeWorld = Callable[..., World]
APP = "caspers-refunds"
CATALOG = "caspersdev_all"
HOSTILE = ["o'brien", 'say "no"', "a`b", "'); DROP TABLE resources --", "back\\slash\\'", "<b>"]


def changes(world: World) -> list[str]:
    """The calls that changed something, without what they sent."""
    return [f"{call.method} {call.path}" for call in world.loopback.calls if call.method != "GET"]


# A4: the app is deployed a second time, and its role is its own and no more than it needs.


@pytest.fixture
def roles(refunds_dsn: str, lakebase_dsns: dict[str, str]) -> Iterator[list[str]]:
    """Roles of three apps, with no rights."""
    names = [f"app-client-{number}" for number in (2, 3, 4)]
    with psycopg.connect(refunds_dsn, autocommit=True) as connection:
        for name in names:
            connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
        yield names
        for dsn in lakebase_dsns.values():
            with psycopg.connect(dsn) as owned:
                for name in names:
                    owned.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
        for name in names:
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def test_a4_the_app_gets_rights_of_its_own_wherever_it_stands_in_the_list(
    make_world: MakeWorld, refunds_dsn: str, roles: list[str]
) -> None:
    world = make_world()
    for name in ("aa-first", "bb-second"):
        world.client.apps.create(App(name=name)).result()
    world.deploy_bundle(shipped())
    world.client.apps.create(App(name="zz-last")).result()
    world.deploy()
    assert world.client.apps.get(APP).service_principal_client_id == roles[1]
    rights = (
        "SELECT has_schema_privilege(rolname, 'recommender', 'USAGE'), rolsuper, rolcreaterole"
        " FROM pg_roles WHERE rolname = ANY(%s) ORDER BY rolname"
    )
    with psycopg.connect(refunds_dsn) as connection:
        assert connection.execute(rights, [roles]).fetchall() == [
            (False, False, False),
            (True, False, False),
            (False, False, False),
        ]


# A5: whatever a name holds, the account keeps it, lists it, and the removal finds it.


@pytest.fixture
def duck() -> Iterator[DuckDBExecutor]:
    executor = DuckDBExecutor()
    yield executor
    executor.close()


def test_a5_names_with_quotes_go_through_a_warehouse_and_back(
    make_world: MakeWorld, duck: DuckDBExecutor
) -> None:
    world, catalog = make_world(execute=duck), HOSTILE[0]
    warehouse, patience = world.loopback.add_warehouse("small"), Patience(timeout_seconds=60)
    world.loopback.add_schema(f"{catalog}.it's")
    store = WarehouseResourceStore(world.client, warehouse, catalog, HOSTILE[1], HOSTILE[2])
    store.prepare()

    def ledger() -> Ledger:
        return Ledger(world.client, store, lambda: datetime.now(UTC), patience)

    names = [f"{catalog}.it's.{name.replace(' ', '_')}" for name in HOSTILE]
    for name in names:
        ledger().ensure("table", name, partial(world.loopback.add_table, name), fingerprint=name)
    assert sorted((row.name, row.fingerprint) for row in ledger().rows()) == sorted(
        zip(names, names, strict=True)
    )
    texts = [call.body["statement"] for call in world.loopback.calls if "statement" in call.body]
    assert texts
    assert not [text for text in texts if any(name in text for name in names)]
    assert remove_resources(ledger(), patience).is_complete
    assert not world.loopback.snapshot().get("tables")


# A6: the account outlives what it tracks; gone is done; synced tables go, in order.


def test_a6_after_a_failure_the_account_stays(make_world: MakeWorld, duck: DuckDBExecutor) -> None:
    world = make_world(execute=duck)
    warehouse, patience = world.loopback.add_warehouse("small"), Patience(timeout_seconds=60)
    world.loopback.add_schema("mine.ai")
    before = world.loopback.snapshot()
    store = WarehouseResourceStore(world.client, warehouse, "mine", world.client.config.host, "all")
    store.prepare()
    world.loopback.add_schema("mine._internal_state")
    world.loopback.add_table("mine._internal_state.resources")
    ledger = Ledger(world.client, store, lambda: datetime.now(UTC), patience)
    for name in ("mine.ai.t", "mine.ai.u"):
        ledger.ensure("table", name, partial(world.loopback.add_table, name))
    ledger.record_declared([("app", "console", "apps.console")])

    def destroy() -> list[str]:
        said: list[str] = []
        settings = Settings(catalog="mine", target="all")
        destroy_from_here(world.client, settings, said.append, dry_run=False, patience=patience)
        return said

    refusal = "DELETE /api/2.1/unity-catalog/tables/mine.ai.t"
    world.loopback.deny(refusal)
    with pytest.raises(WorkspaceError, match=r"table mine\.ai\.t is left: .*permission"):
        destroy()
    assert {(row.name, row.status) for row in store.read()} == {
        ("mine.ai.t", "deleting"),
        ("mine.ai.u", "deleted"),
        ("console", "ready"),
    }
    world.loopback.allow(refusal)
    assert destroy() == [
        "removed  table mine.ai.t",
        "bundle   app console: databricks bundle destroy removes it",
        "removed  schema mine._internal_state",
    ]
    assert world.loopback.snapshot() == before


def test_a6_what_is_gone_already_is_done(make_world: MakeWorld) -> None:
    world = make_world(shipped())
    world.deploy()
    gone = ["caspers_refund_agent", "caspers_complaint_agent"]
    for endpoint in gone:
        world.client.serving_endpoints.delete(endpoint)
    table = f"{CATALOG}.complaints.pg_raw_complaints"
    world.client.postgres.delete_synced_table(f"synced_tables/{table}")
    removal = destroy_workspace(world.workspace()).removal
    assert removal.is_complete
    assert {*gone, table} <= {resource.name for resource in removal.removed}
    of_tasks = [row for row in world.workspace().ledger.rows() if row.owner == "task"]
    assert {row.status for row in of_tasks} == {"deleted"}


def test_a6_synced_tables_are_waited_for_one_by_one(
    make_world: MakeWorld,
) -> None:
    world = make_world(shipped())
    world.deploy()
    world.loopback.lag = 2
    world.loopback.calls.clear()
    assert destroy_workspace(world.workspace()).removal.is_complete
    deleted = [call for call in changes(world) if call.startswith("DELETE /api/2.0/postgres/")]
    kinds = [call.split("/")[4] for call in deleted]
    assert kinds == ["synced_tables"] * 12
    lines = [f"{call.method} {call.path} {call.status}" for call in world.loopback.calls]
    for call in deleted:
        after = lines[lines.index(f"{call} 200") + 1 :]
        seen_gone = after.index(f"GET {call.removeprefix('DELETE ')} 404")
        assert not [line for line in after[:seen_gone] if line.startswith("DELETE")]
    left = world.loopback.snapshot()["lakebase"]
    assert not [name for name in left if name.startswith("synced_tables/")]
