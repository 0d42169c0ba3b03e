"""What `databricks bundle deploy` and `destroy` do with a bundle, as far as a test needs it."""

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from databricks.sdk import WorkspaceClient
from databricks.sdk.service.catalog import VolumeType
from databricks.sdk.service.workspace import ImportFormat

from caspers_lib.runtime.bundle_file import TargetConfig, read_bundle
from caspers_lib.runtime.settings import Settings, load_settings
from tests.bundle.resource_kinds import KINDS

BUNDLE = Path(__file__).parents[2] / "examples" / "bundle"
ROOT = "/Workspace/Users/me@example.com/.bundle/caspers"
CATALOG = "caspersdev_all"
Body = dict[str, Any]
# What is there before what refers to it.
_KINDS = ("schemas", "volumes", "sql_warehouses", "postgres_projects", "postgres_roles",
          "postgres_databases", "postgres_catalogs", "pipelines", "apps", "dashboards",
          "genie_spaces", "jobs")  # fmt: skip


def all_target(name: str = "all") -> TargetConfig:
    """A target of the example bundle, deployed with `--var catalog=...`."""
    target = read_bundle(BUNDLE).targets[name]
    return replace(target, variables=target.variables | {"catalog": CATALOG})


def deploy_bundle(client: WorkspaceClient, target: TargetConfig) -> Settings:
    """Make the target's resources; the settings that the initializer hands to its tasks."""
    root = f"{ROOT}/{target.name}"
    _upload(client, root)
    made: dict[str, Any] = {"workspace.file_path": f"{root}/files"}
    for kind in _KINDS:
        # A job that another one runs comes first.
        for key in sorted(target.resources(kind), key="initializer".__eq__):
            body = _filled(target.resolved(target.resources(kind)[key]), made)
            made[f"resources.{kind}.{key}.id"] = _MAKE[kind](client, body)
    parameters = _filled(target.resolved(target.resources("jobs")["initializer"]), made)
    made["job.id"] = made["resources.jobs.initializer.id"]
    told = {each["name"]: str(each["default"]) for each in parameters["parameters"]}
    known = {name: text.replace("{{job.id}}", str(made["job.id"])) for name, text in told.items()}
    return load_settings(parameters=known)


def destroy_bundle(client: WorkspaceClient, target: TargetConfig) -> None:
    """Delete what `deploy_bundle` made; what is in a schema that stays is an error."""
    named = {
        kind: [target.resolved(each) for each in target.resources(kind).values()] for kind in _KINDS
    }
    for job in client.jobs.list():
        client.jobs.delete(job.job_id or 0)
    for dashboard in client.lakeview.list():
        client.lakeview.trash(dashboard.dashboard_id or "")
    for space in client.genie.list_spaces().spaces or []:
        client.genie.trash_space(space.space_id)
    for app in named["apps"]:
        client.apps.delete(app["name"])
    pipelines = {each["name"] for each in named["pipelines"]}
    for pipeline in client.pipelines.list_pipelines():
        if pipeline.name in pipelines:
            client.pipelines.delete(pipeline.pipeline_id or "")
    for catalog in named["postgres_catalogs"]:
        _done(client, "DELETE", f"/api/2.0/postgres/catalogs/{catalog['catalog_id']}")
    for project in named["postgres_projects"]:
        path = f"/api/2.0/postgres/projects/{project['project_id']}"
        _done(client, "DELETE", path, query={"purge": True})
    warehouses = {each["name"] for each in named["sql_warehouses"]}
    for warehouse in client.warehouses.list():
        if warehouse.name in warehouses:
            client.warehouses.delete(warehouse.id or "")
    for volume in named["volumes"]:
        client.volumes.delete(f"{volume['catalog_name']}.{volume['schema_name']}.{volume['name']}")
    for schema in named["schemas"]:
        client.schemas.delete(f"{schema['catalog_name']}.{schema['name']}")
    client.workspace.delete(f"{ROOT}/{target.name}", recursive=True)


def _schema(client: WorkspaceClient, body: Body) -> object:
    return client.schemas.create(body["name"], body["catalog_name"]).full_name


def _volume(client: WorkspaceClient, body: Body) -> object:
    place = (body["catalog_name"], body["schema_name"], body["name"])
    return client.volumes.create(*place, VolumeType.MANAGED).full_name


def _app(client: WorkspaceClient, body: Body) -> object:
    """The app, and its code at once, as `lifecycle.started` says."""
    assert body["lifecycle"] == {"started": True}
    ours = {"source_code_path", "lifecycle", "config"}
    _post(client, "/api/2.0/apps", {k: v for k, v in body.items() if k not in ours})
    for _ in range(5):
        client.apps.get(body["name"])  # its compute gets ready while one looks
    source = f"{ROOT}/all/files/app"
    variables = body["config"]["env"]
    _post(
        client,
        f"/api/2.0/apps/{body['name']}/deployments",
        {
            "source_code_path": source,
            "mode": "SNAPSHOT",
            "command": body["config"]["command"],
            "env_vars": variables,
        },
    )
    return body["name"]


def _dashboard(client: WorkspaceClient, body: Body) -> object:
    file = BUNDLE / "resources" / body["file_path"]
    return KINDS["dashboards"].create(client, body | {"file_path": str(file)})


def _job(client: WorkspaceClient, body: Body) -> object:
    for parameter in body.get("parameters", []):
        parameter["default"] = str(parameter["default"])
    return _post(client, "/api/2.2/jobs/create", body)["job_id"]


def _postgres(kind: str, beside: set[str]) -> Callable[[WorkspaceClient, Body], object]:
    identity = f"{kind.removesuffix('s')}_id"

    def make(client: WorkspaceClient, body: Body) -> object:
        parent = f"{body['parent']}/" if "parent" in body else ""
        spec = {k: v for k, v in body.items() if k not in {identity, "parent", *beside}}
        path, query = f"/api/2.0/postgres/{parent}{kind}", {identity: body[identity]}
        _done(client, "POST", path, query=query, body={"spec": spec})
        return f"{parent}{kind}/{body[identity]}"

    return make


_MAKE: Mapping[str, Callable[[WorkspaceClient, Body], object]] = {
    "schemas": _schema,
    "volumes": _volume,
    "sql_warehouses": lambda client, body: _post(client, "/api/2.0/sql/warehouses", body)["id"],
    "postgres_projects": _postgres("projects", {"purge_on_delete"}),
    "postgres_roles": _postgres("roles", set()),
    "postgres_databases": _postgres("databases", set()),
    "postgres_catalogs": _postgres("catalogs", set()),
    "pipelines": lambda client, body: _post(client, "/api/2.0/pipelines", body)["pipeline_id"],
    "apps": _app,
    "dashboards": _dashboard,
    "genie_spaces": KINDS["genie_spaces"].create,
    "jobs": _job,
}


def _filled(value: Any, made: Mapping[str, Any]) -> Any:
    """The value with everything filled in that is known by now."""
    if isinstance(value, dict):
        return {key: _filled(inner, made) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, made) for inner in value]
    if not isinstance(value, str):
        return value
    for name, said in made.items():
        if value == f"${{{name}}}":
            return said
        value = value.replace(f"${{{name}}}", str(said))
    return value


def _upload(client: WorkspaceClient, root: str) -> None:
    for path, content in _files():
        folder, _, _ = f"{root}/files/{path}".rpartition("/")
        client.workspace.mkdirs(folder)
        client.workspace.import_(
            f"{root}/files/{path}",
            content=base64.b64encode(content).decode(),
            format=ImportFormat.AUTO,
            overwrite=True,
        )


def _files() -> Iterator[tuple[str, bytes]]:
    examples = BUNDLE.parent
    for folder in ("app", "lakeflow", "notebooks"):
        for file in sorted((examples / folder).glob("*.*")):
            if not re.search(r"__pycache__|\.ipynb|\.whl", str(file)):
                yield f"{folder}/{file.name}", file.read_bytes()


def _done(client: WorkspaceClient, method: str, path: str, **more: Any) -> None:
    """A request whose operation has ended when this returns."""
    operation = client.api_client.do(method, path, **more)
    assert isinstance(operation, dict)
    for _ in range(10):
        state = client.postgres.get_operation(operation["name"])
        assert not state.error, state.error
        if state.done:
            return
    raise AssertionError(f"{path} does not end")


def _post(client: WorkspaceClient, path: str, body: Body) -> Body:
    made = client.api_client.do("POST", path, body=body)
    assert isinstance(made, dict)
    return made
