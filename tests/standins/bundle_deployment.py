"""What `databricks bundle deploy` and `destroy` do with a bundle, as far as a test needs it."""

import base64
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from databricks.sdk import WorkspaceClient
from databricks.sdk.service.catalog import VolumeType
from databricks.sdk.service.workspace import ImportFormat

from caspers_lib.runtime.bundle_file import TargetConfig, read_bundle
from caspers_lib.runtime.settings import Settings, load_settings

BUNDLE = Path(__file__).parents[2] / "examples" / "bundle"
ROOT = "/Workspace/Users/me@example.com/.bundle/caspers"


def all_target(name: str = "all") -> TargetConfig:
    """A target of the example bundle."""
    return read_bundle(BUNDLE).targets[name]


def deploy_bundle(client: WorkspaceClient, target: TargetConfig) -> Settings:
    """Make the target's resources; the settings that its jobs hand to their tasks."""
    root = f"{ROOT}/{target.name}"
    _upload(client, root)
    ids: dict[str, Any] = {}
    resources = {kind: _named(target, kind, ids, root) for kind in
                 ("schemas", "volumes", "pipelines", "apps")}  # fmt: skip
    for schema in resources["schemas"].values():
        client.schemas.create(schema["name"], schema["catalog_name"])
    for volume in resources["volumes"].values():
        client.volumes.create(
            volume["catalog_name"], volume["schema_name"], volume["name"], VolumeType.MANAGED
        )
    for key, pipeline in resources["pipelines"].items():
        made = _post(client, "/api/2.0/pipelines", pipeline)
        ids[f"resources.pipelines.{key}.id"] = made["pipeline_id"]
    for app in resources["apps"].values():
        _post(client, "/api/2.0/apps", {k: v for k, v in app.items() if k != "source_code_path"})
    jobs = target.resources("jobs")
    # A job that another one runs comes first.
    for key in sorted(jobs, key=lambda key: "run_job_task" in str(jobs[key])):
        job = _named(target, "jobs", ids, root)[key]
        for parameter in job.get("parameters", []):
            parameter["default"] = str(parameter["default"])
        ids[f"resources.jobs.{key}.id"] = _post(client, "/api/2.2/jobs/create", job)["job_id"]
    initializer = _named(target, "jobs", ids, root)["initializer"]
    return load_settings(
        parameters={each["name"]: str(each["default"]) for each in initializer["parameters"]}
    )


def destroy_bundle(client: WorkspaceClient, target: TargetConfig) -> None:
    """Delete what `deploy_bundle` made; what is in a schema that stays is an error."""
    for job in client.jobs.list():
        client.jobs.delete(job.job_id or 0)
    names = {each["name"] for each in _named(target, "pipelines", {}, "").values()}
    for pipeline in client.pipelines.list_pipelines():
        if pipeline.name in names:
            client.pipelines.delete(pipeline.pipeline_id or "")
    for app in _named(target, "apps", {}, "").values():
        client.apps.delete(app["name"])
    for volume in _named(target, "volumes", {}, "").values():
        client.volumes.delete(f"{volume['catalog_name']}.{volume['schema_name']}.{volume['name']}")
    for schema in _named(target, "schemas", {}, "").values():
        client.schemas.delete(f"{schema['catalog_name']}.{schema['name']}")
    client.workspace.delete(f"{ROOT}/{target.name}", recursive=True)


def _named(
    target: TargetConfig, kind: str, ids: Mapping[str, Any], root: str
) -> dict[str, dict[str, Any]]:
    """The target's resources of a kind with everything filled in that is known by now."""
    known = {"workspace.file_path": f"{root}/files", **ids}

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [filled(inner) for inner in value]
        if not isinstance(value, str):
            return value
        for name, said in known.items():
            if value == f"${{{name}}}":
                return said
            value = value.replace(f"${{{name}}}", str(said))
        return value

    return {key: filled(target.resolved(each)) for key, each in target.resources(kind).items()}


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
            if not re.search(r"__pycache__|\.ipynb", str(file)):
                yield f"{folder}/{file.name}", file.read_bytes()


def _post(client: WorkspaceClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    made = client.api_client.do("POST", path, body=body)
    assert isinstance(made, dict)
    return made
