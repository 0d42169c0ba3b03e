"""Kinds of a bundle's resources: how each is made, changed and deleted by the SDK's client."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import NotFound

from tests.bundle.configuration import Body

__all__ = ["KINDS", "Deployed", "Kind"]


@dataclass(frozen=True)
class Deployed:
    """A resource as it was deployed.

    Args:
        identity: its id, a number for a job.
        body: what it was made of.
    """

    identity: Any
    body: Body


@dataclass(frozen=True)
class Kind:
    """A kind of resources; `create` gives the id."""

    create: Callable[[WorkspaceClient, Body], object]
    update: Callable[[WorkspaceClient, Deployed, Body], object]
    delete: Callable[[WorkspaceClient, Deployed], object]


def _do(client: WorkspaceClient, method: str, path: str, **more: Any) -> Body:
    answer = client.api_client.do(method, path, **more)
    assert isinstance(answer, dict), path
    return answer


def _until(what: str, look: Callable[[], bool]) -> None:
    """Look until something holds; nothing sleeps, since the stand-in counts looks."""
    assert any(look() for _ in range(20)), f"{what} does not end"


def _plain(
    path: str,
    identity: str,
    update: str,
    *,
    fixed: tuple[str, ...] = (),
    sent: Callable[[Body], Body] = lambda body: body,
) -> Kind:
    """A kind with an address for all of it and one for each.

    Args:
        path: the address of all.
        identity: the answer's field with the id.
        update: an update's method, and what its address ends in.
        fixed: fields that would make it another one; an update doesn't send them.
        sent: what is sent for a body.
    """
    method, _, end = update.partition(" ")

    def change(client: WorkspaceClient, was: Deployed, body: Body) -> None:
        assert {k: was.body[k] for k in fixed} == {k: body[k] for k in fixed}, "it would be moved"
        rest = {key: value for key, value in sent(body).items() if key not in fixed}
        _do(client, method, f"{path}/{was.identity}{end}", body=rest)

    return Kind(
        lambda client, body: _do(client, "POST", path, body=sent(body))[identity],
        change,
        lambda client, was: _do(client, "DELETE", f"{path}/{was.identity}"),
    )


def _settings(body: Body) -> Body:
    """A job's settings: a parameter's default is text."""
    parameters = [each | {"default": str(each["default"])} for each in body.get("parameters", [])]
    return body | ({"parameters": parameters} if parameters else {})


def _job() -> Kind:
    def post(client: WorkspaceClient, what: str, **body: Any) -> Body:
        return _do(client, "POST", f"/api/2.2/jobs/{what}", body=body)

    return Kind(
        lambda client, body: post(client, "create", **_settings(body))["job_id"],
        lambda client, was, body: post(
            client, "reset", job_id=was.identity, new_settings=_settings(body)
        ),
        lambda client, was: post(client, "delete", job_id=was.identity),
    )


def _postgres(kind: str) -> Kind:
    base, identity = "/api/2.0/postgres", f"{kind.removesuffix('s')}_id"

    def finish(client: WorkspaceClient, method: str, path: str, **more: Any) -> None:
        name = _do(client, method, f"{base}/{path}", **more)["name"]

        def look() -> bool:
            state = client.postgres.get_operation(name)
            assert not state.error, state.error
            return bool(state.done)

        _until(name, look)

    def spec(body: Body) -> Body:
        beside = {identity, "parent", "purge_on_delete"}
        return {key: value for key, value in body.items() if key not in beside}

    def create(client: WorkspaceClient, body: Body) -> str:
        path = "/".join([*filter(None, [body.get("parent")]), kind])
        finish(client, "POST", path, query={identity: body[identity]}, body={"spec": spec(body)})
        return f"{path}/{body[identity]}"

    def update(client: WorkspaceClient, was: Deployed, body: Body) -> None:
        changed = [key for key in spec(body) if spec(body)[key] != was.body.get(key)]
        query = {"update_mask": ",".join(f"spec.{key}" for key in changed)}
        finish(client, "PATCH", was.identity, query=query, body={"spec": spec(body)})

    def delete(client: WorkspaceClient, was: Deployed) -> None:
        query = {"purge": True} if was.body.get("purge_on_delete") else {}
        finish(client, "DELETE", was.identity, query=query)

    return Kind(create, update, delete)


def _app() -> Kind:
    path, of_code = "/api/2.0/apps", {"source_code_path", "config", "lifecycle"}

    def about(body: Body) -> Body:
        return {key: value for key, value in body.items() if key not in of_code}

    def deploy(client: WorkspaceClient, body: Body) -> None:
        """The code, where the bundle says that the app runs; else `bundle run` deploys it."""
        if not body.get("lifecycle", {}).get("started"):
            return
        own, config = f"{path}/{body['name']}", body.get("config", {})
        _until(own, lambda: _do(client, "GET", own)["compute_status"]["state"] == "ACTIVE")
        sent = {
            "source_code_path": body["source_code_path"],
            "mode": "SNAPSHOT",
            "command": config.get("command", []),
            "env_vars": config.get("env", []),
        }
        made = (
            f"{own}/deployments/"
            + _do(client, "POST", f"{own}/deployments", body=sent)["deployment_id"]
        )
        _until(made, lambda: _do(client, "GET", made)["status"]["state"] == "SUCCEEDED")

    def create(client: WorkspaceClient, body: Body) -> str:
        query = {} if body.get("lifecycle", {}).get("started") else {"no_compute": True}
        _do(client, "POST", path, query=query, body=about(body))
        deploy(client, body)
        return str(body["name"])

    def update(client: WorkspaceClient, was: Deployed, body: Body) -> None:
        own = f"{path}/{was.identity}/update"
        if about(was.body) != about(body):
            sent = {"update_mask": "description,resources", "app": about(body)}
            _do(client, "POST", own, body=sent)
            _until(own, lambda: _do(client, "GET", own)["status"]["state"] == "SUCCEEDED")
        deploy(client, body)

    def delete(client: WorkspaceClient, was: Deployed) -> None:
        def is_gone() -> bool:
            try:
                client.apps.get(was.identity)
            except NotFound:
                return True
            return False

        client.apps.delete(was.identity)
        _until(was.identity, is_gone)

    return Kind(create, update, delete)


def _holding(field: str) -> Callable[[Body], Body]:
    """What is sent of a document in a file, or written in the field itself: its text."""

    def sent(body: Body) -> Body:
        if field in body:
            return body | {field: json.dumps(body[field])}
        text = Path(body["file_path"]).read_text(encoding="utf-8")
        return {key: value for key, value in body.items() if key != "file_path"} | {field: text}

    return sent


def _dashboard() -> Kind:
    path = "/api/2.0/lakeview/dashboards"
    asked_in = ("dataset_catalog", "dataset_schema")

    def send(client: WorkspaceClient, method: str, address: str, body: Body) -> str:
        """The draft, then the same for everybody."""
        beside = {*asked_in, "embed_credentials"}
        draft = {k: v for k, v in _holding("serialized_dashboard")(body).items() if k not in beside}
        query = {key: body[key] for key in asked_in if key in body}
        identity = str(_do(client, method, address, query=query, body=draft)["dashboard_id"])
        said = {key: body[key] for key in ("embed_credentials", "warehouse_id") if key in body}
        _do(client, "POST", f"{path}/{identity}/published", body=said)
        return identity

    return Kind(
        lambda client, body: send(client, "POST", path, body),
        lambda client, was, body: send(client, "PATCH", f"{path}/{was.identity}", body),
        lambda client, was: _do(client, "DELETE", f"{path}/{was.identity}"),
    )


_UNITY = "/api/2.1/unity-catalog"
_IN_SCHEMA = ("catalog_name", "schema_name", "name")
KINDS: Mapping[str, Kind] = {
    "schemas": _plain(f"{_UNITY}/schemas", "full_name", "PATCH", fixed=("catalog_name", "name")),
    "volumes": _plain(
        f"{_UNITY}/volumes",
        "full_name",
        "PATCH",
        fixed=(*_IN_SCHEMA, "volume_type"),
        sent=lambda body: {"volume_type": "MANAGED", **body},
    ),
    "sql_warehouses": _plain("/api/2.0/sql/warehouses", "id", "POST /edit"),
    "pipelines": _plain("/api/2.0/pipelines", "pipeline_id", "PUT"),
    "jobs": _job(),
    "apps": _app(),
    "postgres_projects": _postgres("projects"),
    "postgres_roles": _postgres("roles"),
    "postgres_databases": _postgres("databases"),
    "postgres_catalogs": _postgres("catalogs"),
    "dashboards": _dashboard(),
    "genie_spaces": _plain(
        "/api/2.0/genie/spaces", "space_id", "PATCH", sent=_holding("serialized_space")
    ),
}
