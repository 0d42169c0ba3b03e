"""Serving endpoints, apps and Lakebase of the workspace on the loopback."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.common.types.fieldmask import FieldMask
from databricks.sdk.errors import OperationFailed
from databricks.sdk.service import apps, postgres, serving
from databricks.sdk.service.serving import EndpointCoreConfigInput, ServedEntityInput

from tests.workspace_fake import LoopbackWorkspace

Refuses = Callable[[Callable[[], Any]], str]
MODEL = "shop.agents.refunds"


def entity(version: int | str = 1, model: str = MODEL) -> ServedEntityInput:
    return ServedEntityInput(
        entity_name=model,
        entity_version=str(version),
        workload_size="Small",
        scale_to_zero_enabled=True,
    )


def config(*entities: ServedEntityInput) -> EndpointCoreConfigInput:
    return EndpointCoreConfigInput.from_dict({"served_entities": [e.as_dict() for e in entities]})


@pytest.fixture
def serving_client(client: WorkspaceClient, workspace: LoopbackWorkspace) -> WorkspaceClient:
    workspace.add_schema("shop.agents")
    workspace.add_model_version(MODEL)
    return client


# Serving endpoints.


def test_an_endpoint_gets_ready_is_updated_and_goes(
    serving_client: WorkspaceClient, workspace: LoopbackWorkspace, refuses: Refuses
) -> None:
    before, api = workspace.snapshot(), serving_client.serving_endpoints
    workspace.common.looks = 2
    started = api.create("e", config=config(entity()))
    assert started.response.state and started.response.state.ready
    assert started.response.state.ready == serving.EndpointStateReady.NOT_READY
    conflict = refuses(lambda: api.update_config("e", served_entities=[entity()]))
    assert conflict.startswith("RESOURCE_CONFLICT")
    done = started.result()
    assert done.state and done.state.ready == serving.EndpointStateReady.READY
    workspace.add_model_version(MODEL)
    done = api.update_config("e", served_entities=[entity(2)]).result()
    assert done.config and done.config.config_version == 2
    assert [e.entity_version for e in done.config.served_entities or []] == ["2"]
    assert [e.name for e in api.list()] == ["e"]
    api.delete("e")
    workspace.unity.versions.remove(f"{MODEL}/2")
    assert workspace.snapshot() == before
    assert "RESOURCE_DOES_NOT_EXIST" in refuses(lambda: api.get("e"))


def test_an_endpoint_that_fails_says_why(
    serving_client: WorkspaceClient, workspace: LoopbackWorkspace
) -> None:
    api = serving_client.serving_endpoints
    workspace.serving.fails = "the container exited"
    with pytest.raises(OperationFailed, match="UPDATE_FAILED"):
        api.create("e", config=config(entity())).result()
    there = api.get("e")
    assert there.state and there.state.ready == serving.EndpointStateReady.NOT_READY
    assert there.config and there.config.served_entities
    state = there.config.served_entities[0].state
    assert state and state.deployment_state_message == "the container exited"


def test_endpoints_that_are_refused(serving_client: WorkspaceClient, refuses: Refuses) -> None:
    api = serving_client.serving_endpoints
    calls: list[tuple[str, Callable[[], Any]]] = [
        ("RESOURCE_DOES_NOT", lambda: api.create("e", config=config(entity(7)))),
        ("does not exist", lambda: api.create("e", config=config(entity(1, "shop.agents.no")))),
        ("the endpoint's name", lambda: api.create("e.f", config=config(entity()))),
        ("the endpoint's name", lambda: api.create("e" * 64, config=config(entity()))),
        ("served_entities are missing", lambda: api.create("e", config=config())),
        ("served_entities are missing", lambda: api.create("e")),
        (
            "unknown fields in body: ['name']",
            lambda: api.create("e", config=EndpointCoreConfigInput(name="e")),
        ),
        ("does not exist", lambda: api.update_config("no", served_entities=[entity()])),
    ]
    for said, call in calls:
        assert said in refuses(call)
    api.create("e", config=config(entity()))
    taken = refuses(lambda: api.create("e", config=config(entity())))
    assert taken.startswith("RESOURCE_ALREADY_EXISTS")


def test_an_endpoint_answers_what_the_test_says(
    serving_client: WorkspaceClient, workspace: LoopbackWorkspace, refuses: Refuses
) -> None:
    api = serving_client.serving_endpoints
    api.create("e", config=config(entity())).result()
    assert "no models that answer" in refuses(lambda: api.query("e", inputs=[1]))
    workspace.serving.invoke = lambda name, body: {"predictions": [name, *body["inputs"]]}
    assert api.query("e", inputs=[1]).predictions == ["e", 1]


# Apps.


def deployment(**more: Any) -> apps.AppDeployment:
    return apps.AppDeployment(source_code_path="/Workspace/app", **more)


def test_an_app_is_deployed_changed_stopped_and_goes(
    client: WorkspaceClient, workspace: LoopbackWorkspace, refuses: Refuses
) -> None:
    warehouse = workspace.add_warehouse("w")
    before = workspace.snapshot()
    uses = apps.AppResource(
        name="sql",
        sql_warehouse=apps.AppResourceSqlWarehouse(
            id=warehouse, permission=apps.AppResourceSqlWarehouseSqlWarehousePermission.CAN_USE
        ),
    )
    app = client.apps.create(apps.App(name="shop-1", resources=[uses])).result()
    assert app.compute_status and app.compute_status.state == apps.ComputeState.ACTIVE
    variables = [apps.EnvVar(name="WAREHOUSE", value_from="sql")]
    mode = apps.AppDeploymentMode.SNAPSHOT
    made = client.apps.deploy("shop-1", deployment(mode=mode, env_vars=variables)).result()
    assert made.status and made.status.state == apps.AppDeploymentState.SUCCEEDED
    there = client.apps.get("shop-1")
    assert there.active_deployment == made
    assert there.app_status and there.app_status.state == apps.ApplicationState.RUNNING
    changed = apps.App(name="shop-1", description="d")
    client.apps.create_update("shop-1", "description", app=changed).result()
    assert client.apps.update("shop-1", apps.App(name="shop-1", resources=[])).description == "d"
    assert client.apps.stop("shop-1").result().name == "shop-1"
    assert "INVALID_STATE" in refuses(lambda: client.apps.deploy("shop-1", deployment()))
    assert [a.name for a in client.apps.list()] == ["shop-1"]
    client.apps.delete("shop-1")
    assert workspace.snapshot() == before
    assert "BAD_REQUEST" in refuses(lambda: client.apps.delete("shop-1"))
    assert "EXISTS" in refuses(lambda: client.apps.create(apps.App(name="shop-1")))
    going = client.apps.get("shop-1").compute_status
    assert going and going.state == apps.ComputeState.DELETING
    assert "RESOURCE_DOES_NOT_EXIST" in refuses(lambda: client.apps.get("shop-1"))


def test_apps_that_are_refused(client: WorkspaceClient, refuses: Refuses) -> None:
    endpoint = apps.AppResourceServingEndpoint(
        name="no",
        permission=apps.AppResourceServingEndpointServingEndpointPermission.CAN_QUERY,
    )
    uses = apps.AppResource(name="r", serving_endpoint=endpoint)
    for name in ("a", "a_b", "A", "a" * 31):
        assert "the app's name" in refuses(lambda n=name: client.apps.create(apps.App(name=n)))
    create = client.apps.create
    assert "does not exist" in refuses(lambda: create(apps.App(name="app", resources=[uses])))
    create(apps.App(name="app")).result()
    calls: list[tuple[str, Callable[[], Any]]] = [
        ("RESOURCE_ALREADY_EXISTS", lambda: create(apps.App(name="app"))),
        ("does not exist", lambda: client.apps.deploy("no", deployment())),
        ("source_code_path", lambda: client.apps.deploy("app", apps.AppDeployment())),
        ("update_mask", lambda: client.apps.create_update("app", "name")),
        ("does not exist", lambda: client.apps.get_deployment("app", "no")),
        (
            "not there",
            lambda: client.apps.deploy(
                "app", deployment(env_vars=[apps.EnvVar(name="X", value_from="no")])
            ),
        ),
    ]
    for said, call in calls:
        assert said in refuses(call)


def test_a_deployment_that_fails_says_why(
    client: WorkspaceClient, workspace: LoopbackWorkspace
) -> None:
    client.apps.create(apps.App(name="app")).result()
    workspace.apps.fails = "no such file: app.yaml"
    with pytest.raises(OperationFailed, match=r"no such file: app\.yaml"):
        client.apps.deploy("app", deployment()).result()
    assert client.apps.get("app").active_deployment is None


def test_a_deployment_gets_on_while_one_looks_at_its_app(
    client: WorkspaceClient, workspace: LoopbackWorkspace, refuses: Refuses
) -> None:
    client.apps.create(apps.App(name="app")).result()
    workspace.common.looks = 2
    client.apps.deploy("app", deployment())
    assert client.apps.get("app").pending_deployment
    assert "RESOURCE_CONFLICT" in refuses(lambda: client.apps.deploy("app", deployment()))
    client.apps.get("app")
    there = client.apps.get("app")
    assert there.active_deployment
    assert there.pending_deployment is None


def test_an_app_is_somebody_until_it_goes(
    client: WorkspaceClient, workspace: LoopbackWorkspace
) -> None:
    app = client.apps.create(apps.App(name="app")).result()
    assert app.service_principal_client_id in workspace.common.principals
    client.apps.delete("app")
    assert app.service_principal_client_id not in workspace.common.principals


# Lakebase; test_managed.py has the rest.


def test_a_project_is_born_with_a_branch_and_an_endpoint(
    client: WorkspaceClient, workspace: LoopbackWorkspace, refuses: Refuses
) -> None:
    api = client.postgres
    api.create_project(
        postgres.Project(spec=postgres.ProjectSpec(display_name="x", pg_version=17)), "x"
    )
    (branch,) = api.list_branches("projects/x")
    assert branch.name == "projects/x/branches/production"
    (endpoint,) = api.list_endpoints(branch.name)
    assert endpoint.name == f"{branch.name}/endpoints/primary"
    assert api.get_endpoint(endpoint.name).status
    assert api.generate_database_credential(endpoint.name).token == "password-1"
    assert "NOT_FOUND" in refuses(lambda: api.generate_database_credential(f"{endpoint.name}s"))
    api.delete_project("projects/x")
    assert list(api.list_projects()) == []
    assert [p.name for p in api.list_projects(show_deleted=True)] == ["projects/x"]
    api.delete_project("projects/x", purge=True)
    assert workspace.snapshot() == {}


def test_a_branch_has_roles_and_databases_that_they_own(
    client: WorkspaceClient, workspace: LoopbackWorkspace, refuses: Refuses
) -> None:
    workspace.lakebase.polls = 1
    api, branch = client.postgres, "projects/x/branches/production"
    api.create_project(postgres.Project(spec=postgres.ProjectSpec(display_name="x")), "x")
    role = postgres.Role(spec=postgres.RoleRoleSpec(postgres_role="casper"))
    api.create_role(branch, role, role_id="casper").wait()
    made = api.get_role(f"{branch}/roles/casper")
    assert (made.spec, made.status and made.status.postgres_role) == (None, "casper")
    said = refuses(lambda: api.create_role(branch, role, role_id="casper"))
    assert said == "BAD_REQUEST: role with that name already exists"
    assert "role_id is 'app'" in refuses(lambda: api.create_role(branch, role, role_id="app"))
    api.create_role(branch, role, role_id="casper", replace_existing=True)

    def database(owner: str) -> postgres.Database:
        spec = postgres.DatabaseDatabaseSpec(f"{branch}/roles/{owner}", "orders")
        return postgres.Database(spec=spec)

    said = refuses(lambda: api.create_database(branch, database("nobody"), database_id="orders"))
    assert said.startswith("NOT_FOUND")
    operation = api.create_database(branch, database("casper"), database_id="orders")
    assert re.fullmatch(rf"{branch}/databases/orders/operations/[0-9a-f-]{{36}}", operation.name())
    there = {each.name: each.status for each in api.list_databases(branch)}
    assert list(there) == [
        f"{branch}/databases/{name}" for name in ("databricks-postgres", "orders")
    ]
    said = refuses(lambda: api.create_database(branch, database("casper"), database_id="other"))
    assert said.startswith("BAD_REQUEST")
    mask = FieldMask(["spec.postgres_database"])
    spec = postgres.DatabaseDatabaseSpec(f"{branch}/roles/casper", "sales")
    renamed = postgres.Database(spec=spec)
    done = api.update_database(f"{branch}/databases/orders", renamed, mask).wait()
    assert done.status and done.status.postgres_database == "sales"
    fixed = FieldMask(["spec.postgres_role"])
    assert "can't change" in refuses(lambda: api.update_role(f"{branch}/roles/casper", role, fixed))
    assert "owns" in refuses(lambda: api.delete_role(f"{branch}/roles/casper"))
    api.delete_database(f"{branch}/databases/orders")
    api.delete_role(f"{branch}/roles/casper")
    api.delete_project("projects/x", purge=True)
    assert workspace.snapshot() == {}


def test_a_lakebase_catalog_is_of_one_database_and_goes_with_its_project(
    client: WorkspaceClient, workspace: LoopbackWorkspace, refuses: Refuses
) -> None:
    api = client.postgres
    api.create_project(postgres.Project(spec=postgres.ProjectSpec(display_name="x")), "x")
    client.catalogs.create("taken")

    def wanted(database: str, *, make: bool = False) -> postgres.Catalog:
        branch = "projects/x/branches/production"
        spec = postgres.CatalogCatalogSpec(
            database, branch=branch, create_database_if_missing=make or None
        )
        return postgres.Catalog(spec=spec)

    said = refuses(lambda: api.create_catalog(wanted("db"), "free"))
    assert said.startswith("NOT_FOUND: The database db")
    said = refuses(lambda: api.create_catalog(wanted("db", make=True), "taken"))
    assert said.startswith("CATALOG_ALREADY_EXISTS")
    api.create_catalog(wanted("db", make=True), "free")
    there = api.get_catalog("catalogs/free")
    assert (there.spec, there.status and there.status.project) == (None, "projects/x")
    said = refuses(lambda: api.create_catalog(wanted("db"), "another"))
    assert "A catalog of the database db" in said
    assert "CATALOG_ALREADY_EXISTS" in refuses(lambda: client.catalogs.create("free"))
    api.delete_project("projects/x", purge=True)
    assert "NOT_FOUND" in refuses(lambda: api.get_catalog("catalogs/free"))
    assert "lakebase" not in workspace.snapshot()


def test_a_synced_table_may_be_in_an_ordinary_catalog_and_in_anothers_pipeline(
    client: WorkspaceClient, workspace: LoopbackWorkspace, refuses: Refuses
) -> None:
    workspace.lakebase.polls = 1
    api, policy = client.postgres, postgres.SyncedTableSyncedTableSpecSyncedTableSchedulingPolicy
    api.create_project(postgres.Project(spec=postgres.ProjectSpec(display_name="x")), "x")
    workspace.add_schema("shop.sales")
    workspace.add_table("shop.sales.orders", change_feed=True)
    before = workspace.snapshot()

    def table(**more: Any) -> postgres.SyncedTable:
        spec = postgres.SyncedTableSyncedTableSpec(
            source_table_full_name="shop.sales.orders",
            primary_key_columns=["id"],
            scheduling_policy=policy.CONTINUOUS,
            **more,
        )
        return postgres.SyncedTable(spec=spec)

    place = {"branch": "projects/x/branches/production", "postgres_database": "shop"}
    own = postgres.NewPipelineSpec(storage_catalog="shop", storage_schema="sales")
    calls: list[tuple[str, Callable[[], Any]]] = [
        ("['branch', 'p", lambda: api.create_synced_table(table(), "shop.sales.a")),
        ("one of new_pip", lambda: api.create_synced_table(table(**place), "shop.sales.a")),
        ("SCHEMA_DOES_NOT", lambda: api.create_synced_table(table(**place), "shop.no.a")),
    ]
    for said, call in calls:
        assert said in refuses(call)
    api.create_synced_table(table(**place, new_pipeline_spec=own), "shop.sales.a").wait()
    first = api.get_synced_table("synced_tables/shop.sales.a")
    assert first.spec is None
    assert first.status
    assert first.status.project == "projects/x"
    shared = {"existing_pipeline_id": first.status.pipeline_id}
    api.create_synced_table(table(**place, **shared), "shop.sales.b").wait()
    assert [each.name for each in client.tables.list("shop", "sales")] == ["a", "b", "orders"]
    assert len(list(client.pipelines.list_pipelines())) == 1
    api.delete_synced_table("synced_tables/shop.sales.a")
    assert len(list(client.pipelines.list_pipelines())) == 1
    api.delete_synced_table("synced_tables/shop.sales.b")
    api.delete_database("projects/x/branches/production/databases/shop")
    assert workspace.snapshot() == before
