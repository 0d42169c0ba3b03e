"""Lakebase: projects, catalogs, synced tables, roles, and the operations that make them."""

import re
from collections.abc import Iterator
from copy import deepcopy

from caspers_lib.testing.workspace.pipelines import Pipelines
from caspers_lib.testing.workspace.requests import (
    Document,
    Refused,
    Request,
    Route,
    invalid,
    not_found,
    paged,
    taken,
)
from caspers_lib.testing.workspace.shapes import check_arguments, check_document
from caspers_lib.testing.workspace.state import NOW, Common, Store
from caspers_lib.testing.workspace.unity import Unity

__all__ = ["API", "Lakebase"]

API = "/api/2.0/postgres"
_PROJECT = "projects/[^/]+"
_BRANCH = f"{_PROJECT}/branches/[^/]+"
_CLASSES = {"projects": "Project", "catalogs": "Catalog", "synced_tables": "SyncedTable"}
_REQUIRED = {
    "projects": ("display_name",),
    "catalogs": ("postgres_database", "branch"),
    "synced_tables": ("source_table_full_name", "primary_key_columns", "scheduling_policy"),
}
_IDS = {
    "projects": r"[a-z][a-z0-9-]{0,62}",
    "catalogs": r"[A-Za-z0-9_-]{1,255}",
    "synced_tables": r"[A-Za-z0-9_-]+\.[A-Za-z0-9_]+\.[A-Za-z0-9_]+",
}


class Lakebase:
    """The service.

    Args:
        common: of the workspace.
        unity: has the source tables, and the names of all catalogs.
        pipelines: run the syncs.
    """

    def __init__(self, common: Common, unity: Unity, pipelines: Pipelines) -> None:
        self.common = common
        self.unity = unity
        self.pipelines = pipelines
        self.operations: dict[str, Document] = {}
        self.polls = 2  # how often an operation is asked for until it is done
        self.fails: Document | None = None  # the error that operations end with
        self.states = ["SYNCED_TABLE_ONLINE_CONTINUOUS_UPDATE"]  # one a look, the last one stays
        self.message = ""
        self._store = Store(common)
        unity.is_elsewhere = lambda catalog: f"catalogs/{catalog}" in self._store
        self._roles = Store(common)

    @property
    def resources(self) -> dict[str, Document]:
        """Projects, catalogs and synced tables, by their resource names."""
        return self._store.items

    def routes(self) -> Iterator[Route]:
        """Methods, paths, and what answers them."""
        yield "GET", rf"{API}/(operations/\d+)", self.operation
        yield "POST", f"{API}/credentials", self.credential
        yield "GET", f"{API}/projects", self.listed
        for kind in _CLASSES:
            yield "POST", f"{API}/({kind})", self.create
            yield "GET", f"{API}/({kind}/[^/]+)", self.get
            yield "DELETE", f"{API}/({kind}/[^/]+)", self.delete
        yield "GET", f"{API}/({_PROJECT})/branches", self.branches
        yield "GET", f"{API}/({_BRANCH})", self.branch
        yield "GET", f"{API}/({_BRANCH})/endpoints", self.endpoints
        yield "GET", f"{API}/({_BRANCH}/endpoints/[^/]+)", self.endpoint
        yield "GET", f"{API}/({_BRANCH})/databases", self.databases
        yield "GET", f"{API}/({_BRANCH})/roles", self.roles
        yield "POST", f"{API}/({_BRANCH})/roles", self.create_role
        yield "GET", f"{API}/({_BRANCH}/roles/[^/]+)", self.role
        yield "DELETE", f"{API}/({_BRANCH}/roles/[^/]+)", self.delete_role

    def create(self, request: Request, kind: str) -> Document:
        """A new resource, once its operation is done."""
        query = f"{kind.removesuffix('s')}_id"
        request.only(query, bodiless=False)
        identity = request.query.get(query, "")
        if not re.fullmatch(_IDS[kind], identity):
            raise invalid(f"{query} is {identity!r}")
        check_document(request.body, f"postgres.{_CLASSES[kind]}", required=("spec",))
        spec = request.body["spec"]
        if missing := [field for field in _REQUIRED[kind] if not spec.get(field)]:
            raise invalid(f"missing fields in spec: {missing}")
        self._check_needs(kind, identity, spec)
        name = f"{kind}/{identity}"
        if name in self._store:
            raise taken(name, "ALREADY_EXISTS")
        resource = {"name": name, "spec": spec}
        if kind == "projects":  # the service answers with what holds, not with what was asked for
            resource = {"name": name, "status": {**spec, "owner": "me@example.com"}}
        if kind == "synced_tables":
            pipeline = self.pipelines.add_managed(f"Sync of {identity}")
            resource = {**resource, "status": {"pipeline_id": pipeline}}
        self._store.add(name, resource)
        return self._begin(name)

    def _check_needs(self, kind: str, identity: str, spec: Document) -> None:
        if kind == "projects":
            return
        if kind == "synced_tables" and "branch" not in spec:
            catalog = self.resources.get(f"catalogs/{identity.partition('.')[0]}", {})
            spec = {"branch": catalog.get("spec", {}).get("branch", ""), **spec}
        if spec["branch"]:
            self._need_branch(spec["branch"])
        if kind == "catalogs":
            if identity in self.unity.stores["catalogs"]:
                raise taken(f"Catalog '{identity}'", "CATALOG_ALREADY_EXISTS")
            return
        self._check_synced(identity.partition(".")[0], spec)

    def _check_synced(self, catalog: str, spec: Document) -> None:
        if f"catalogs/{catalog}" not in self._store:
            raise Refused(404, "CATALOG_DOES_NOT_EXIST", f"Catalog '{catalog}' does not exist.")
        pipeline = spec.get("new_pipeline_spec", {})
        if not pipeline and not spec.get("existing_pipeline_id"):
            raise invalid("missing fields in spec: ['new_pipeline_spec']")
        if pipeline:
            wanted = {"storage_catalog", "storage_schema"}
            if missing := sorted(name for name in wanted if not pipeline.get(name)):
                raise invalid(f"missing fields in spec.new_pipeline_spec: {missing}")
            self.unity.need("catalogs", pipeline["storage_catalog"])
        source = spec["source_table_full_name"]
        if source not in self.unity.stores["tables"]:
            raise not_found(source, "NOT_FOUND")
        properties = self.unity.stores["tables"][source].get("properties", {})
        has_feed = properties.get("delta.enableChangeDataFeed") == "true"
        if spec["scheduling_policy"] != "SNAPSHOT" and not has_feed:
            raise invalid(f"Change Data Feed is not enabled\non {source}.")

    def get(self, request: Request, name: str) -> Document:
        """One resource."""
        request.only()
        resource = self._store.look(name)
        if resource is None:
            raise not_found(name, "NOT_FOUND")
        if name.startswith("synced_tables/"):
            state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
            said = {"detailed_state": state, "message": self.message}
            return resource | {"status": said | resource["status"]}
        return resource

    def listed(self, request: Request) -> Document:
        """All projects; those that are deleted but not purged only if asked for."""
        request.only("page_size", "page_token", "show_deleted")
        with_deleted = request.flag("show_deleted")
        seen = [
            resource
            for name, resource in self._store.looks()
            if name.startswith("projects/") and (with_deleted or "delete_time" not in resource)
        ]
        return paged(request, "projects", seen)

    def delete(self, request: Request, name: str) -> Document:
        """A resource that goes; a project stays as deleted unless it is purged."""
        request.only(*(("purge",) if name.startswith("projects/") else ()))
        if name not in self._store:
            raise not_found(name, "NOT_FOUND")
        if held := self._inside(name):
            raise Refused(400, "INVALID_STATE", f"{name} is not empty: {', '.join(held)}")
        if name.startswith("projects/") and not request.flag("purge"):
            self.resources[name]["delete_time"] = NOW
        else:
            removed = self._store.remove(name)
            if pipeline := removed.get("status", {}).get("pipeline_id"):
                self.pipelines.remove_managed(pipeline)
            for role in [r for r in self._roles.items if r.startswith(f"{name}/")]:
                self._roles.remove(role)
        return self._begin(name)

    def _inside(self, name: str) -> list[str]:
        kind, _, identity = name.partition("/")
        if kind == "catalogs":
            return [
                each for each in self.resources if each.startswith(f"synced_tables/{identity}.")
            ]
        if kind != "projects":
            return []
        return [
            each
            for each, resource in self.resources.items()
            if each.startswith("catalogs/")
            and (resource.get("spec") or resource.get("status", {}))
            .get("branch", "")
            .startswith(f"{name}/")
        ]

    def _begin(self, about: str) -> Document:
        name = f"operations/{len(self.operations) + 1}"
        self.operations[name] = {"about": about, "left": self.polls}
        return {"name": name, "done": False}

    def operation(self, request: Request, name: str) -> Document:
        """How far an operation is."""
        request.only()
        if name not in self.operations:
            raise not_found(name, "NOT_FOUND")
        operation = self.operations[name]
        operation["left"] -= 1
        if operation["left"] > 0:
            return {"name": name, "done": False}
        if self.fails:
            return {"name": name, "done": True, "error": self.fails}
        about = operation["about"]
        made = self.resources.get(about) or self._roles.items.get(about) or {}
        return {"name": name, "done": True, "response": made}

    def credential(self, request: Request) -> Document:
        """A password for an hour."""
        request.only(bodiless=False)
        check_arguments(request.body, "postgres.PostgresAPI", "generate_database_credential")
        self._need_endpoint(request.body["endpoint"])
        number = self.common.number("credential")
        return {"token": f"password-{number}", "expire_time": "2026-01-01T01:00:00Z"}

    def branches(self, request: Request, project: str) -> Document:
        """A project's branches: the one it is born with."""
        request.only("page_size", "page_token", "show_deleted")
        self._need_branch(f"{project}/branches/production")
        return {"branches": [_branch(f"{project}/branches/production")]}

    def branch(self, request: Request, name: str) -> Document:
        """One branch."""
        request.only()
        self._need_branch(name)
        return _branch(name)

    def endpoints(self, request: Request, branch: str) -> Document:
        """A branch's endpoints: the one it is born with."""
        request.only("page_size", "page_token")
        self._need_branch(branch)
        return {"endpoints": [_endpoint(f"{branch}/endpoints/primary")]}

    def endpoint(self, request: Request, name: str) -> Document:
        """One endpoint."""
        request.only()
        self._need_endpoint(name)
        return _endpoint(name)

    def databases(self, request: Request, branch: str) -> Document:
        """A branch's databases: the one it is born with, and those that catalogs made."""
        request.only("page_size", "page_token")
        self._need_branch(branch)
        return paged(request, "databases", self._databases(branch))

    def _databases(self, branch: str) -> list[Document]:
        catalogs = (
            document["spec"]
            for name, document in self.resources.items()
            if name.startswith("catalogs/") and document["spec"].get("branch") == branch
        )
        names = {"databricks_postgres", *(spec["postgres_database"] for spec in catalogs)}
        return [
            {
                "name": f"{branch}/databases/{name.replace('_', '-')}",
                "parent": branch,
                "status": {"database_id": name.replace("_", "-"), "postgres_database": name},
            }
            for name in sorted(names)
        ]

    def need_database(self, branch: str, database: str) -> None:
        """Refuse a database that no branch has.

        Args:
            branch: its resource name.
            database: the same.

        Raises:
            Refused: there is none.
        """
        self._need_branch(branch)
        if database not in {each["name"] for each in self._databases(branch)}:
            raise not_found(database, "NOT_FOUND")

    def roles(self, request: Request, branch: str) -> Document:
        """A branch's roles."""
        request.only("page_size", "page_token")
        self._need_branch(branch)
        seen = [role for name, role in self._roles.looks() if name.startswith(f"{branch}/")]
        return paged(request, "roles", seen)

    def create_role(self, request: Request, branch: str) -> Document:
        """A new role, once its operation is done."""
        request.only("role_id", "replace_existing", bodiless=False)
        check_document(request.body, "postgres.Role", required=("spec",))
        self._need_branch(branch)
        number = self.common.number("role")
        name = f"{branch}/roles/{request.query.get('role_id') or f'role-{number}'}"
        if not re.fullmatch(_IDS["projects"], name.rpartition("/")[2]):
            raise invalid(f"role_id is {request.query['role_id']!r}")
        if name in self._roles and not request.flag("replace_existing"):
            raise taken(name, "ALREADY_EXISTS")
        self._roles.add(name, {"name": name, "parent": branch, "spec": request.body["spec"]})
        return self._begin(name)

    def role(self, request: Request, name: str) -> Document:
        """One role."""
        request.only()
        role = self._roles.look(name)
        if role is None:
            raise not_found(name, "NOT_FOUND")
        return role

    def delete_role(self, request: Request, name: str) -> Document:
        """A role that goes."""
        request.only("reassign_owned_to")
        if name not in self._roles:
            raise not_found(name, "NOT_FOUND")
        self._roles.remove(name)
        return self._begin(name)

    def _need_branch(self, name: str) -> None:
        project, _, branch = name.partition("/branches/")
        if project not in self._store:
            raise not_found(project, "NOT_FOUND")
        if branch != "production":
            raise not_found(name, "NOT_FOUND")

    def _need_endpoint(self, name: str) -> None:
        branch, _, endpoint = name.partition("/endpoints/")
        self._need_branch(branch)
        if endpoint != "primary":
            raise not_found(name, "NOT_FOUND")

    def snapshot(self) -> Document:
        """Resources and roles."""
        return {"lakebase": deepcopy(self._store.snapshot() | self._roles.snapshot())}


def _branch(name: str) -> Document:
    status = {"branch_id": "production", "current_state": "READY", "default": True}
    return {"name": name, "parent": name.partition("/branches/")[0], "status": status}


def _endpoint(name: str) -> Document:
    status = {
        "endpoint_id": "primary",
        "endpoint_type": "ENDPOINT_TYPE_READ_WRITE",
        "current_state": "ACTIVE",
        "hosts": {"host": f"{name.split('/')[1]}.lakebase.example"},
    }
    return {"name": name, "parent": name.partition("/endpoints/")[0], "status": status}
