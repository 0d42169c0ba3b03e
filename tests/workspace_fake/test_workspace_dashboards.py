"""Dashboards and Genie spaces of the workspace on the loopback."""

import json
from collections.abc import Callable
from typing import Any

from databricks.sdk import WorkspaceClient
from databricks.sdk.service.dashboards import Dashboard, LifecycleState

from tests.workspace_fake import LoopbackWorkspace

Refuses = Callable[[Callable[[], Any]], str]
CONTENT = json.dumps({"datasets": [{"name": "d", "queryLines": ["SELECT 1"]}], "pages": []})


def test_a_dashboard_is_drafted_changed_published_and_goes_to_the_trash(
    client: WorkspaceClient, workspace: LoopbackWorkspace, refuses: Refuses
) -> None:
    warehouse = workspace.add_warehouse("w")
    before, api = workspace.snapshot(), client.lakeview
    draft = Dashboard(display_name="Sales", serialized_dashboard=CONTENT, warehouse_id=warehouse)
    made = api.create(draft, dataset_catalog="shop", dataset_schema="gold")
    [dataset] = json.loads(made.serialized_dashboard or "")["datasets"]
    assert (dataset["catalog"], dataset["schema"]) == ("shop", "gold")
    assert made.path == "/Users/me@example.com/Sales.lvdash.json"
    assert "ALREADY_EXISTS" in refuses(lambda: api.create(draft))
    identity = made.dashboard_id or ""
    assert "published dashboard" in refuses(lambda: api.get_published(identity))
    assert api.publish(identity, embed_credentials=False).warehouse_id == warehouse
    changed = api.update(identity, Dashboard(display_name="Sold", etag=made.etag))
    assert changed.etag != made.etag
    assert "etag" in refuses(lambda: api.update(identity, Dashboard(etag=made.etag)))
    assert api.get_published(identity).display_name == "Sales"
    api.unpublish(identity)
    assert [each.display_name for each in api.list()] == ["Sold"]
    api.trash(identity)
    assert api.get(identity).lifecycle_state == LifecycleState.TRASHED
    assert list(api.list()) == []
    assert "does not exist" in refuses(lambda: api.trash(identity))
    assert workspace.snapshot() == before


def test_a_genie_space_asks_a_warehouse_and_goes(
    client: WorkspaceClient, workspace: LoopbackWorkspace, refuses: Refuses
) -> None:
    warehouse = workspace.add_warehouse("w")
    before, api = workspace.snapshot(), client.genie
    made = api.create_space(warehouse, '{"version": 1}', title="Ask", description="d")
    assert api.get_space(made.space_id).serialized_space is None
    whole = api.get_space(made.space_id, include_serialized_space=True)
    assert whole.serialized_space == '{"version": 1}'
    assert api.update_space(made.space_id, title="Asked", etag=whole.etag).description == "d"
    assert "etag" in refuses(lambda: api.update_space(made.space_id, etag=whole.etag))
    assert [each.title for each in api.list_spaces().spaces or []] == ["Asked"]
    api.trash_space(made.space_id)
    assert "PERMISSION_DENIED" in refuses(lambda: api.get_space(made.space_id))
    assert workspace.snapshot() == before


def test_dashboards_and_spaces_that_are_refused(client: WorkspaceClient, refuses: Refuses) -> None:
    def draft(**more: Any) -> Callable[[], Any]:
        return lambda: client.lakeview.create(Dashboard(display_name="d", **more))

    calls: list[tuple[str, Callable[[], Any]]] = [
        ("missing fields", lambda: client.lakeview.create(Dashboard())),
        ("is no JSON", draft(serialized_dashboard="SELECT 1")),
        ("SQL warehouse no does not exist", draft(warehouse_id="no")),
        ("Path (/no) does not exist", draft(parent_path="/Workspace/no")),
        ("SQL warehouse no", lambda: client.genie.create_space("no", "{}")),
        ("is no object", lambda: client.genie.create_space("no", "[]")),
    ]
    for said, call in calls:
        assert said in refuses(call)
