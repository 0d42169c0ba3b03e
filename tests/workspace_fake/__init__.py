"""A Databricks workspace on the loopback, for tests: `databricks-sdk` talks to it over HTTP.

It keeps state, and it refuses what it doesn't know: routes, queries, fields, names, and references
to what doesn't exist. It can be slow, late and broken on demand, and it records what was asked.

    from databricks.sdk import WorkspaceClient
    from tests.workspace_fake import LoopbackWorkspace, Refused

    with LoopbackWorkspace().running() as workspace:
        client = WorkspaceClient(host=workspace.url, token=workspace.token)
        client.catalogs.create("shop")
        client.schemas.create("sales", "shop")
        workspace.add_table("shop.sales.orders", change_feed=True)
        no = Refused(403, "PERMISSION_DENIED", "User lacks USE CATALOG")
        workspace.next_time("GET /api/2.1/unity-catalog/catalogs/shop", no)
        print(workspace.wire(), workspace.snapshot())

It models the service as its documentation and its SDK describe it, and has not been compared with
a workspace. Importing it loads nothing heavy; running it needs the extra `databricks`.
"""

from tests.workspace_fake.duckdb_sql import DuckDBExecutor
from tests.workspace_fake.lakebase import API
from tests.workspace_fake.requests import Call, Refused, Request
from tests.workspace_fake.server import TOKEN, LoopbackWorkspace

__all__ = ["API", "TOKEN", "Call", "DuckDBExecutor", "LoopbackWorkspace", "Refused", "Request"]
