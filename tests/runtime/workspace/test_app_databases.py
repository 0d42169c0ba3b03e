"""The databases of the console's app: both, whichever of two tasks makes or serves them first."""

import base64
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import psycopg
import pytest
from databricks.sdk.service.apps import (
    App,
    AppDeployment,
    AppResource,
    AppResourceSqlWarehouse,
    AppResourceSqlWarehouseSqlWarehousePermission,
)

from caspers_lib.errors import WorkspaceError
from caspers_lib.runtime.task_graph import TARGETS
from caspers_lib.runtime.workspace import destroy_workspace
from caspers_lib.testing.workspace import Refused
from tests.runtime.workspace.conftest import APP_ROLE, World
from tests.standins.bundle_deployment import all_target

MakeWorld = Callable[..., World]
APP = "caspers-refunds-all"
SERVES, MAKES = "Databricks_App_Refund_Manager", "Complaint_Lakebase"
BRANCHES = {
    "postgres": "projects/caspersdev-allrefundmanager-e8516a8a/branches/production",
    "complaints": "projects/caspersdev-allcomplaintmanager-293479b3/branches/production",
}
TOLD = {
    name: {
        "endpoint": f"{BRANCHES[resource]}/endpoints/primary",
        "host": f"{BRANCHES[resource].split('/')[1]}.lakebase.example",
    }
    for name, resource in (("caspers", "postgres"), ("caspers_complaints", "complaints"))
}


def before_both(make_world: MakeWorld, **how: Any) -> World:
    """A world in which neither the complaints' database nor the app has had its task."""
    world = make_world(all_target(), **how)
    for task in TARGETS["all"]:
        if task not in {SERVES, MAKES}:
            world.run(task)
    return world


def attached(world: World) -> list[tuple[str, str | None]]:
    """The databases of the app, in order, with their branches."""
    resources = world.client.apps.get(APP).resources or []
    return [(each.name, each.postgres.branch) for each in resources if each.postgres]


def told(world: World) -> Any:
    """What the code beside the app says of the databases."""
    said = world.client.workspace.export(f"{world.settings.app_source}/lakebase.json").content
    return json.loads(base64.b64decode(said or ""))


def check_serves_both(world: World) -> None:
    assert attached(world) == list(BRANCHES.items())
    assert told(world) == TOLD
    source = world.settings.app_source
    changed = max(each.modified_at or 0 for each in world.client.workspace.list(source))
    active = world.client.apps.get(APP).active_deployment
    assert active
    assert active.source_code_path == source
    assert datetime.fromisoformat(active.create_time or "").timestamp() * 1000 >= changed
    rows = {r.name: r.status for r in world.workspace().ledger.rows() if r.kind == "app_database"}
    assert rows == {APP: "ready", f"{APP}/complaints": "ready"}


def check_changes_nothing(world: World) -> None:
    exists = world.loopback.snapshot()
    world.loopback.calls.clear()
    for task in (SERVES, MAKES, SERVES):
        assert {each.became for each in world.run(task).resources} == {"unchanged"}
    assert world.loopback.snapshot() == exists
    assert [call for call in world.loopback.calls if call.method != "GET"] == []


both_orders = pytest.mark.parametrize("order", [(SERVES, MAKES), (MAKES, SERVES)])


@both_orders
def test_the_app_has_both_databases_in_whatever_order(
    make_world: MakeWorld, order: tuple[str, str]
) -> None:
    world = before_both(make_world)
    for task in order:
        world.run(task)
    check_serves_both(world)
    check_changes_nothing(world)


@both_orders
@pytest.mark.parametrize("lag", [0, 2])
def test_a_crash_at_every_change_in_either_order_ends_the_same(
    make_world: MakeWorld, order: tuple[str, str], lag: int
) -> None:
    world = before_both(make_world)
    world.loopback.lag = lag
    for task in order:
        world.through_crashes(lambda task=task: world.run(task))  # type: ignore[misc]
    assert len(world.crashed) > 40
    check_serves_both(world)
    check_changes_nothing(world)


@both_orders
def test_one_task_within_the_other_at_every_change_ends_the_same(
    make_world: MakeWorld, order: tuple[str, str]
) -> None:
    outer, inner = order
    alone = before_both(make_world)
    before = alone.moments
    alone.run(outer)
    changes = alone.moments - before
    assert changes > 5
    for change in range(1, changes + 1):
        world = before_both(make_world)
        world.in_between = (world.moments + change, lambda world=world: world.run(inner))
        world.run(outer)
        assert world.in_between is None
        check_serves_both(world)
    check_changes_nothing(world)


@pytest.mark.parametrize("what", ["update", "deployments"])
def test_a_change_that_another_one_was_quicker_with_is_tried_again(
    make_world: MakeWorld, what: str
) -> None:
    world = before_both(make_world)
    quicker = Refused(409, "RESOURCE_CONFLICT", "Another one is under way")
    world.loopback.next_time(f"POST /api/2.0/apps/{APP}/{what}", quicker)
    world.run(SERVES)
    world.run(MAKES)
    check_serves_both(world)


def test_an_older_list_of_resources_that_comes_in_between_is_put_right(
    make_world: MakeWorld,
) -> None:
    world = before_both(make_world)
    world.run(MAKES)
    changes = world.moments
    world.run(SERVES)
    changes = world.moments - changes

    world = before_both(make_world)
    world.run(MAKES)

    def older() -> None:
        there = (world.client.apps.get(APP).resources or [])[:1]
        app = App(name=APP, resources=there)
        world.client.apps.create_update(APP, "resources", app=app).result()

    world.in_between = (world.moments + changes, older)
    world.run(SERVES)
    assert world.in_between is None
    check_serves_both(world)


def test_a_deployment_under_way_of_older_files_is_waited_for(make_world: MakeWorld) -> None:
    world = before_both(make_world)
    source = world.settings.app_source
    world.client.apps.wait_get_app_active(APP)
    world.loopback.common.looks = 50
    world.client.apps.deploy(APP, AppDeployment(source_code_path=source))
    world.run(MAKES)
    assert world.run(SERVES).done.endswith("deployment-2, new")
    assert 409 not in {call.status for call in world.loopback.calls if "/apps/" in call.path}
    check_serves_both(world)


def test_the_app_may_read_the_complaints_and_nothing_else(
    make_world: MakeWorld, lakebase_dsns: dict[str, str]
) -> None:
    world = make_world(all_target())
    with psycopg.connect(lakebase_dsns["caspers_complaints"]) as connection:
        for right in ("ALL ON ALL TABLES IN", "ALL ON"):
            revoke = f'REVOKE {right} SCHEMA complaints FROM "{APP_ROLE}"'
            connection.execute(revoke.encode())
    world.deploy()
    rights = "SELECT has_schema_privilege(%s, %s, 'USAGE'), has_table_privilege(%s, %s, %s)"
    with psycopg.connect(lakebase_dsns["caspers_complaints"]) as connection:

        def may(schema: str, right: str) -> tuple[Any, ...] | None:
            words = (APP_ROLE, schema, APP_ROLE, f"{schema}.pg_t", right)
            return connection.execute(rights, words).fetchone()

        assert may("complaints", "SELECT") == (True, True)
        assert may("complaints", "UPDATE") == (True, False)
        assert may("secret", "SELECT") == (False, False)
    # The schema of what people decide is the app's own: the platform lets it make one.
    resources = world.client.apps.get(APP).resources or []
    permissions = [each.postgres.permission for each in resources if each.postgres]
    assert [each and each.value for each in permissions] == ["CAN_CONNECT_AND_CREATE"] * 2


def test_a_target_without_complaints_serves_the_refunds_alone(make_world: MakeWorld) -> None:
    world = make_world(all_target())
    for task in TARGETS["default"]:
        world.run(task)
    assert attached(world) == [("postgres", BRANCHES["postgres"])]
    assert told(world) == {"caspers": TOLD["caspers"]}
    assert not [line for line in world.loopback.wire() if "complaintmanager" in line]
    world.loopback.calls.clear()
    assert world.run(SERVES).done.endswith("deployment-1, unchanged")
    assert [call for call in world.loopback.calls if call.method != "GET"] == []


def without_the_app(world: World) -> None:
    world.client.apps.delete(APP)
    world.client.apps.get(APP)  # a look that sees it go


def without_a_name(world: World) -> None:
    world.settings = world.settings.model_copy(update={"app_name": ""})


@pytest.mark.parametrize("trouble", [without_the_app, without_a_name])
@pytest.mark.parametrize("served", [False, True])
def test_complaints_need_no_app(
    make_world: MakeWorld, trouble: Callable[[World], None], served: bool
) -> None:
    world = before_both(make_world)
    if served:
        world.run(SERVES)
    trouble(world)
    world.loopback.calls.clear()
    made = world.run(MAKES)
    assert made.done == (
        "complaints.pg_raw_complaints, complaints.pg_complaint_responses in"
        " caspersdev-allcomplaintmanager-293479b3, database caspers_complaints"
    )
    assert "app_database" not in {each.kind for each in made.resources}
    assert not [
        call for call in world.loopback.calls if "/apps/" in call.path and call.method != "GET"
    ]


def test_what_others_gave_the_app_stays_behind_ours(make_world: MakeWorld) -> None:
    world = before_both(make_world)
    permission = AppResourceSqlWarehouseSqlWarehousePermission.CAN_USE
    warehouse = AppResourceSqlWarehouse(
        id=world.loopback.add_warehouse("theirs"), permission=permission
    )
    theirs = AppResource(name="aa-sql", sql_warehouse=warehouse)
    app = App(name=APP, resources=[theirs])
    world.client.apps.create_update(APP, "resources", app=app).result()
    world.run(MAKES)
    world.run(SERVES)
    names = [each.name for each in world.client.apps.get(APP).resources or []]
    assert names == ["postgres", "complaints", "aa-sql"]
    assert destroy_workspace(world.workspace()).removal.is_complete
    assert world.client.apps.get(APP).resources == [theirs]


def test_a_deployment_after_a_removal_knows_no_old_database(make_world: MakeWorld) -> None:
    world = make_world(all_target())
    world.deploy()
    assert destroy_workspace(world.workspace()).removal.is_complete
    assert attached(world) == []
    for task in TARGETS["default"]:
        world.run(task)
    assert told(world) == {"caspers": TOLD["caspers"]}
    assert attached(world) == [("postgres", BRANCHES["postgres"])]


def test_a_database_on_record_that_is_gone_names_the_task_that_makes_it(
    make_world: MakeWorld,
) -> None:
    world = before_both(make_world)
    world.run(MAKES)
    resources, project = world.loopback.lakebase.resources, BRANCHES["complaints"].split("/")[1]
    for name in [n for n in resources if "complaintmanager" in n and not n.endswith(project)]:
        del resources[name]
    with pytest.raises(WorkspaceError) as caught:
        world.run(SERVES)
    assert caught.value.message == f"{BRANCHES['complaints']} has no database caspers_complaints."
    assert caught.value.hint == "The task Complaint_Lakebase makes it."
    world.run(MAKES)
    world.run(SERVES)
    check_serves_both(world)
