"""The workspace on the loopback: refusals, lag, failures, the record; Unity Catalog and files."""

import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from textwrap import dedent
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import DatabricksError, NotFound
from databricks.sdk.service import catalog

from tests import workspace_fake as package
from tests.workspace_fake import LoopbackWorkspace, Refused

UC = "/api/2.1/unity-catalog"
Refuses = Callable[[Callable[[], Any]], str]
Connect = Callable[[LoopbackWorkspace, str], WorkspaceClient]
MANAGED = catalog.VolumeType.MANAGED


def raw(workspace: LoopbackWorkspace, *asked: Any) -> tuple[int, Any]:
    """A request without the SDK: the status, and what is said."""
    connection = HTTPConnection(workspace.url.removeprefix("http://"), timeout=10)
    try:
        connection.request(*asked)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@pytest.fixture
def shop(client: WorkspaceClient) -> WorkspaceClient:
    client.catalogs.create("shop")
    client.schemas.create("sales", "shop")
    client.volumes.create("shop", "sales", "raw", MANAGED)
    return client


# The server.


def test_somebody_without_the_token_is_refused(
    workspace: LoopbackWorkspace, connect: Connect, refuses: Refuses
) -> None:
    stranger = connect(workspace, "wrong")
    assert refuses(stranger.current_user.me) == "UNAUTHENTICATED: Invalid access token"
    assert raw(workspace, "GET", f"{UC}/catalogs")[0] == 401


def test_the_user_is_known(client: WorkspaceClient) -> None:
    assert client.current_user.me().user_name == "me@example.com"


def test_a_raw_request_with_an_unknown_field_is_refused(workspace: LoopbackWorkspace) -> None:
    body = json.dumps({"name": "s", "catalog_name": "c", "colour": "red"})
    headers = {"Authorization": f"Bearer {workspace.token}", "Content-Type": "application/json"}
    status, said = raw(workspace, "POST", f"{UC}/schemas", body, headers)
    assert (status, said["message"]) == (400, "unknown fields in body: ['colour']")
    status, said = raw(workspace, "POST", f"{UC}/schemas", "{", headers)
    assert (status, said["error_code"]) == (400, "MALFORMED_REQUEST")


@pytest.mark.parametrize(
    ("method", "path", "more", "said"),
    [
        ("GET", "/api/2.0/clusters/list", {}, "No API found"),
        ("PUT", f"{UC}/catalogs", {}, "No API found"),
        ("GET", f"{UC}/catalogs", {"query": {"colour": "red"}}, "unknown query ['colour']"),
        ("GET", f"{UC}/schemas", {}, "missing query ['catalog_name']"),
        ("POST", f"{UC}/schemas", {"body": {"name": "s"}}, "missing fields in body"),
        ("POST", f"{UC}/catalogs", {"body": {"name": 3}}, "name is 3, not str"),
        ("POST", f"{UC}/catalogs", {"body": {"name": "c", "properties": []}}, "not an object"),
        ("DELETE", f"{UC}/catalogs/c", {"query": {"force": "maybe"}}, "neither true nor false"),
        (
            "POST",
            "/api/2.2/jobs/create",
            {"body": {"tasks": [{"task_key": "a", "notebook_task": {"notebook_pth": "x"}}]}},
            "unknown fields in tasks[0].notebook_task: ['notebook_pth']",
        ),
        (
            "POST",
            "/api/2.2/jobs/create",
            {"body": {"tasks": [{"task_key": "a", "run_if": "NEVER"}]}},
            "tasks[0].run_if is 'NEVER', which is unknown",
        ),
    ],
)
def test_what_it_does_not_know_is_refused(
    client: WorkspaceClient, refuses: Refuses, method: str, path: str, more: Any, said: str
) -> None:
    assert said in refuses(lambda: client.api_client.do(method, path, **more))


def test_next_calls_fail_as_planned_and_throttling_is_waited_out(
    client: WorkspaceClient, workspace: LoopbackWorkspace, clock: Any, refuses: Refuses
) -> None:
    workspace.next_time(f"POST {UC}/*", Refused(500, "INTERNAL_ERROR", "broken"))
    assert "broken" in refuses(lambda: client.catalogs.create("c"))
    workspace.throttle(f"POST {UC}/catalogs", 2, retry_after=7)
    clock.slept.clear()
    client.catalogs.create("c")
    assert [int(pause) for pause in clock.slept] == [7, 7]
    assert [call.status for call in workspace.calls] == [500, 429, 429, 200]


def test_what_is_denied_stays_so_until_it_is_allowed(
    client: WorkspaceClient, workspace: LoopbackWorkspace, refuses: Refuses
) -> None:
    workspace.deny(f"* {UC}/catalogs*", "User lacks CREATE CATALOG")
    for _ in range(2):
        said = refuses(lambda: client.catalogs.create("c"))
        assert said == "PERMISSION_DENIED: User lacks CREATE CATALOG"
    workspace.allow(f"* {UC}/catalogs*")
    client.catalogs.create("c")


def test_what_comes_and_goes_shows_late(
    client: WorkspaceClient, workspace: LoopbackWorkspace
) -> None:
    workspace.lag = 2
    client.catalogs.create("c")
    for _ in range(2):
        with pytest.raises(NotFound):
            client.catalogs.get("c")
    assert client.catalogs.get("c").name == "c"
    client.catalogs.delete("c", force=True)
    assert "c" not in workspace.snapshot().get("catalogs", {})
    assert [client.catalogs.get("c").name for _ in range(2)] == ["c", "c"]
    with pytest.raises(NotFound):
        client.catalogs.get("c")


def test_a_list_shows_late_too(client: WorkspaceClient, workspace: LoopbackWorkspace) -> None:
    workspace.lag = 1
    client.catalogs.create("c")
    assert list(client.catalogs.list()) == []
    assert [c.name for c in client.catalogs.list()] == ["c"]


def test_the_wire_is_recorded_a_line_each(
    client: WorkspaceClient, workspace: LoopbackWorkspace, refuses: Refuses
) -> None:
    client.catalogs.create("c", comment="it's")
    for _ in range(3):
        refuses(lambda: client.schemas.get("c.s"))
    list(client.schemas.list("c"))
    assert workspace.wire(collapse=True) == [
        f'POST {UC}/catalogs {{"comment": "it\'s", "name": "c"}} -> 200',
        f"GET {UC}/schemas/c.s -> 404",
        f"GET {UC}/schemas?catalog_name=c&max_results=0 -> 200",
    ]
    assert len(workspace.wire()) == 5
    assert workspace.bodies == [{"name": "c", "comment": "it's"}]


def test_an_error_of_its_own_is_an_answer(
    client: WorkspaceClient, workspace: LoopbackWorkspace, refuses: Refuses
) -> None:
    workspace.unity.stores.pop("functions")
    assert "KeyError" in refuses(lambda: client.functions.get("a.b.c"))
    assert workspace.calls[-1].status == 500


def test_of_many_at_once_one_gets_the_name(
    client: WorkspaceClient, workspace: LoopbackWorkspace
) -> None:
    def create(_: int) -> bool:
        try:
            client.catalogs.create("c")
        except DatabricksError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(24))) == 1
    assert sorted(call.status for call in workspace.calls) == [200, *[409] * 23]


def test_the_example_runs(client: WorkspaceClient, capsys: pytest.CaptureFixture[str]) -> None:
    example = dedent((package.__doc__ or "").split("\n\n", 2)[2].partition("\n\nIt models")[0])
    assert client.config.host  # whose fixture unsets DATABRICKS_*
    exec(example, {})  # noqa: S102
    assert f"POST {UC}/schemas" in capsys.readouterr().out


# Unity Catalog.


def test_what_is_created_is_there_and_what_is_deleted_leaves_nothing(
    shop: WorkspaceClient, workspace: LoopbackWorkspace
) -> None:
    assert shop.catalogs.get("shop").catalog_type == catalog.CatalogType.MANAGED_CATALOG
    assert shop.schemas.get("shop.sales").full_name == "shop.sales"
    assert shop.volumes.read("shop.sales.raw").volume_type == MANAGED
    names = [schema.name for schema in shop.schemas.list("shop")]
    assert names == ["default", "information_schema", "sales"]
    assert [v.full_name for v in shop.volumes.list("shop", "sales")] == ["shop.sales.raw"]
    shop.volumes.delete("shop.sales.raw")
    shop.schemas.delete("shop.sales")
    shop.schemas.delete("shop.default")
    shop.catalogs.delete("shop")
    assert workspace.snapshot() == {}


def test_names_that_are_taken_or_none_or_nowhere(shop: WorkspaceClient, refuses: Refuses) -> None:
    calls = {
        "CATALOG_ALREADY_EXISTS": lambda: shop.catalogs.create("shop"),
        "SCHEMA_ALREADY_EXISTS": lambda: shop.schemas.create("sales", "shop"),
        "VOLUME_ALREADY_EXISTS": lambda: shop.volumes.create("shop", "sales", "raw", MANAGED),
        "CATALOG_DOES_NOT_EXIST": lambda: shop.schemas.create("sales", "no"),
        "SCHEMA_DOES_NOT_EXIST": lambda: shop.volumes.create("shop", "no", "raw", MANAGED),
        "VOLUME_DOES_NOT_EXIST": lambda: shop.volumes.delete("shop.sales.no"),
        "TABLE_DOES_NOT_EXIST": lambda: shop.tables.get("shop.sales.no"),
        "FUNCTION_DOES_NOT_EXIST": lambda: shop.functions.delete("shop.sales.no"),
        "RESOURCE_DOES_NOT_EXIST": lambda: shop.registered_models.get("shop.sales.no"),
    }
    for code, call in calls.items():
        assert refuses(call).startswith(f"{code}: ")


@pytest.mark.parametrize("name", ["a b", "a/b", "a\n", "x" * 256, "a\x00"])
def test_names_that_the_service_does_not_take(
    shop: WorkspaceClient, refuses: Refuses, name: str
) -> None:
    assert "not a valid name" in refuses(lambda: shop.catalogs.create(name))
    assert "not a valid name" in refuses(lambda: shop.schemas.create(name, "shop"))


def test_what_is_not_empty_goes_by_force_alone(
    shop: WorkspaceClient, workspace: LoopbackWorkspace, refuses: Refuses
) -> None:
    workspace.add_table("shop.sales.orders")
    workspace.add_view("shop.sales.recent")
    workspace.add_function("shop.sales.total")
    workspace.add_model_version("shop.sales.agent")
    said = refuses(lambda: shop.schemas.delete("shop.sales"))
    assert said.startswith("SCHEMA_NOT_EMPTY")
    for name in ("agent", "orders", "raw", "recent", "total"):
        assert f"shop.sales.{name}" in said
    assert "CATALOG_NOT_EMPTY" in refuses(lambda: shop.catalogs.delete("shop"))
    shop.catalogs.delete("shop", force=True)
    assert workspace.snapshot() == {}


def test_tables_views_and_functions_are_the_tests(
    shop: WorkspaceClient, workspace: LoopbackWorkspace
) -> None:
    before = workspace.snapshot()
    workspace.add_table("shop.sales.orders", change_feed=True)
    workspace.add_view("shop.sales.recent")
    workspace.add_function("shop.sales.total")
    feed = shop.tables.get("shop.sales.orders").properties
    assert feed == {"delta.enableChangeDataFeed": "true"}
    assert shop.tables.exists("shop.sales.recent").table_exists
    assert not shop.tables.exists("shop.sales.no").table_exists
    tables = {table.name: table.table_type for table in shop.tables.list("shop", "sales")}
    assert tables == {"orders": catalog.TableType.MANAGED, "recent": catalog.TableType.VIEW}
    assert [f.name for f in shop.functions.list("shop", "sales")] == ["total"]
    assert [t.name for t in shop.tables.list("shop", "sales", max_results=1)] == list(tables)
    shop.tables.delete("shop.sales.orders")
    shop.tables.delete("shop.sales.recent")
    shop.functions.delete("shop.sales.total")
    assert workspace.snapshot() == before
    with pytest.raises(Refused, match="does not exist"):
        workspace.add_table("shop.no.orders")


def test_a_model_goes_with_its_versions(
    shop: WorkspaceClient, workspace: LoopbackWorkspace, refuses: Refuses
) -> None:
    before = workspace.snapshot()
    shop.registered_models.create(catalog_name="shop", schema_name="sales", name="agent")
    assert workspace.add_model_version("shop.sales.agent") == 1
    assert workspace.add_model_version("shop.sales.agent", status="PENDING_REGISTRATION") == 2
    versions = list(shop.model_versions.list("shop.sales.agent"))
    assert [version.version for version in versions] == [1, 2]
    assert shop.model_versions.get("shop.sales.agent", 2).status == (
        catalog.ModelVersionInfoStatus.PENDING_REGISTRATION
    )
    assert [m.name for m in shop.registered_models.list()] == ["agent"]
    shop.registered_models.delete("shop.sales.agent")
    assert "does not exist" in refuses(lambda: shop.model_versions.get("shop.sales.agent", 1))
    assert workspace.snapshot() == before


def test_grants_are_added_removed_and_gone_with_their_object(
    shop: WorkspaceClient, workspace: LoopbackWorkspace, refuses: Refuses
) -> None:
    workspace.add_table("shop.sales.orders")
    select, modify = catalog.Privilege.SELECT, catalog.Privilege.MODIFY

    def change(principal: str, name: str = "shop.sales.orders", kind: str = "TABLE") -> Any:
        changes = [catalog.PermissionsChange(principal=principal, add=[select, modify])]
        return shop.grants.update(kind, name, changes=changes)

    change("users")
    revoke = [catalog.PermissionsChange(principal="users", remove=[modify])]
    shop.grants.update("TABLE", "shop.sales.orders", changes=revoke)
    (given,) = shop.grants.get("TABLE", "shop.sales.orders").privilege_assignments or []
    assert (given.principal, given.privileges) == ("users", [select])
    assert workspace.snapshot()["grants"] == {"TABLE shop.sales.orders": {"users": ["SELECT"]}}
    assert "PRINCIPAL_DOES_NOT_EXIST" in refuses(lambda: change("ghost"))
    workspace.add_principal("ghost")
    change("ghost")
    assert "TABLE_DOES_NOT_EXIST" in refuses(lambda: change("users", "shop.sales.no"))
    wrong = str(catalog.SecurableType.TABLE)
    assert "not a securable type" in refuses(lambda: change("users", kind=wrong))
    shop.tables.delete("shop.sales.orders")
    assert "grants" not in workspace.snapshot()


# Files.


def test_files_are_written_read_listed_and_deleted(
    shop: WorkspaceClient, workspace: LoopbackWorkspace
) -> None:
    before, root = workspace.snapshot(), "/Volumes/shop/sales/raw"
    shop.files.create_directory(f"{root}/a/b")
    shop.files.upload(f"{root}/a/b/x y%.bin", io.BytesIO(b"\x00{}"))
    shop.files.upload(f"{root}/a/b/x y%.bin", io.BytesIO(b"\x01{}"), overwrite=True)
    assert shop.files.get_metadata(f"{root}/a/b/x y%.bin").content_length == 3
    contents = shop.files.download(f"{root}/a/b/x y%.bin").contents
    assert contents is not None
    with contents:
        assert contents.read() == b"\x01{}"
    assert any("expire_time=*&path=" in line for line in workspace.wire())
    assert [e.name for e in shop.files.list_directory_contents(f"{root}/a")] == ["b"]
    shop.files.get_directory_metadata(f"{root}/a/b")
    shop.files.delete(f"{root}/a/b/x y%.bin")
    shop.files.delete_directory(f"{root}/a/b")
    shop.files.delete_directory(f"{root}/a")
    assert workspace.snapshot() == before


def test_files_that_are_refused(shop: WorkspaceClient, refuses: Refuses) -> None:
    root = "/Volumes/shop/sales/raw"
    shop.files.upload(f"{root}/d/f", io.BytesIO(b"x"))
    calls: list[tuple[str, Callable[[], Any]]] = [
        ("VOLUME_DOES_NOT", lambda: shop.files.create_directory("/Volumes/shop/sales/no/d")),
        ("not a path in a volume", lambda: shop.files.create_directory("/tmp/d")),
        ("ALREADY_EXISTS", lambda: shop.files.upload(f"{root}/d/f", io.BytesIO(b"y"))),
        ("DIRECTORY_NOT_EMPTY", lambda: shop.files.delete_directory(f"{root}/d")),
        ("NOT_FOUND", lambda: shop.files.delete(f"{root}/no")),
        ("is a file", lambda: shop.files.upload(f"{root}/d/f/g", io.BytesIO(b"y"))),
    ]
    for said, call in calls:
        assert said in refuses(call)
    with pytest.raises(DatabricksError):
        shop.files.get_metadata(f"{root}/no")
    shop.volumes.delete("shop.sales.raw")
