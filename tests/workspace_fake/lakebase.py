"""Lakebase: projects with roles and databases, catalogs, synced tables, and their operations.

A specification is input only: the service answers with a resource's status.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from tests.workspace_fake.pipelines import Pipelines
from tests.workspace_fake.requests import (
    Document,
    Refused,
    Request,
    Route,
    invalid,
    not_found,
    paged,
    taken,
)
from tests.workspace_fake.shapes import check_arguments, check_document
from tests.workspace_fake.state import ME, NOW, Common, Store
from tests.workspace_fake.synced_tables import SyncedTables
from tests.workspace_fake.unity import Unity

__all__ = ["API", "Lakebase"]

API = "/api/2.0/postgres"
_PROJECT = "projects/[^/]+"
_BRANCH = f"{_PROJECT}/branches/[^/]+"


@dataclass(frozen=True, slots=True)
class _Kind:
    """What the service takes for a kind of resources.

    Args:
        sdk: the SDK's class.
        identity: pattern of an id.
        needed: fields of the specification that must be there.
        fixed: those that an update may not name.
    """

    sdk: str
    identity: str
    needed: tuple[str, ...]
    fixed: tuple[str, ...] = ()


_TOP = {
    "projects": _Kind("Project", "[a-z][a-z0-9-]{0,62}", ("display_name",), ("pg_version",)),
    "catalogs": _Kind("Catalog", "[A-Za-z0-9_-]{1,255}", ("postgres_database", "branch")),
    "synced_tables": _Kind(
        "SyncedTable",
        r"[A-Za-z0-9_-]+\.[A-Za-z0-9_]+\.[A-Za-z0-9_]+",
        ("source_table_full_name", "primary_key_columns", "scheduling_policy"),
    ),
}
_IN_BRANCH = {
    "roles": _Kind(
        "Role",
        "[a-z][a-z0-9-]{3,62}",
        ("postgres_role",),
        ("postgres_role", "identity_type", "auth_method"),
    ),
    "databases": _Kind("Database", "[a-z0-9][a-z0-9-]{3,62}", ("postgres_database", "role")),
}
_KINDS = _TOP | _IN_BRANCH


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
        self.operations: dict[str, Document] = {}
        self.polls = 2  # how often an operation is asked for until it is done
        self.fails: Document | None = None  # the error that operations end with
        self.states = ["SYNCED_TABLE_ONLINE_CONTINUOUS_UPDATE"]  # one a look, the last one stays
        self.message = ""
        self._store = Store(common)
        self._synced = SyncedTables(unity, pipelines)
        self._made_along: set[str] = set()
        unity.is_elsewhere = lambda catalog: f"catalogs/{catalog}" in self._store

    @property
    def resources(self) -> dict[str, Document]:
        """Everything with its specification, by resource name."""
        return self._store.items

    def routes(self) -> Iterator[Route]:
        """Methods, paths, and what answers them."""
        yield "GET", rf"{API}/(.+/operations/[0-9a-f-]{{36}})", self.operation
        yield "POST", f"{API}/credentials", self.credential
        yield "GET", f"{API}/projects", self.listed
        for kind in _TOP:
            yield "POST", f"{API}/({kind})", self.create
            yield "GET", f"{API}/({kind}/[^/]+)", self.get
            yield "DELETE", f"{API}/({kind}/[^/]+)", self.delete
        yield "PATCH", f"{API}/({_PROJECT})", self.update
        yield "GET", f"{API}/({_PROJECT})/branches", self.branches
        yield "GET", f"{API}/({_BRANCH})", self.branch
        yield "GET", f"{API}/({_BRANCH})/endpoints", self.endpoints
        yield "GET", f"{API}/({_BRANCH}/endpoints/[^/]+)", self.endpoint
        for kind in _IN_BRANCH:
            yield "GET", f"{API}/({_BRANCH})/({kind})", self.listed_in_branch
            yield "POST", f"{API}/({_BRANCH})/({kind})", self.create_in_branch
            yield "GET", f"{API}/({_BRANCH}/{kind}/[^/]+)", self.get
            yield "PATCH", f"{API}/({_BRANCH}/{kind}/[^/]+)", self.update
            yield "DELETE", f"{API}/({_BRANCH}/{kind}/[^/]+)", self.delete

    def create(self, request: Request, kind: str) -> Document:
        """A new resource, once its operation is done."""
        query = f"{kind.removesuffix('s')}_id"
        request.only(query, bodiless=False)
        identity = request.query.get(query, "")
        spec = _checked(request, kind, identity)
        name = f"{kind}/{identity}"
        if kind == "catalogs":
            self._check_catalog(identity, spec)
        elif kind == "synced_tables":
            catalog = self.resources.get(f"catalogs/{identity.partition('.')[0]}", {})
            spec = self._synced.checked(identity, spec, catalog.get("spec"))
            self._need_branch(spec["branch"])
        if name in self._store:
            raise taken(name, "ALREADY_EXISTS")
        more = (
            {"pipeline_id": self._synced.begin(identity, spec)} if kind == "synced_tables" else {}
        )
        self._store.add(name, _resource(name, spec, **more))
        if kind == "projects":
            self._make_database(f"{name}/branches/production", "databricks_postgres")
        elif kind == "catalogs" or spec.get("create_database_objects_if_missing", True):
            self._make_database(spec["branch"], spec["postgres_database"])
        return self._begin(name)

    def create_in_branch(self, request: Request, branch: str, kind: str) -> Document:
        """A new role or database, once its operation is done."""
        query = f"{kind.removesuffix('s')}_id"
        request.only(query, "replace_existing", bodiless=False)
        self._need_branch(branch)
        identity = request.query.get(query) or f"made-{self.common.number(kind)}"
        spec = _checked(request, kind, identity)
        if kind == "databases" and spec["role"] not in self._store:
            raise not_found(spec["role"], "NOT_FOUND")
        name = f"{branch}/{kind}/{identity}"
        field = _IN_BRANCH[kind].needed[0]
        others = [other for other in self._of(branch, kind) if other["name"] != name]
        is_there = name in self._store and not request.flag("replace_existing")
        if is_there or spec[field] in [other["spec"][field] for other in others]:
            said = f"{kind.removesuffix('s')} with that name already exists"
            raise Refused(400, "BAD_REQUEST", said)
        self._store.add(name, _resource(name, spec))
        return self._begin(name)

    def _check_catalog(self, identity: str, spec: Document) -> None:
        self._need_branch(spec["branch"])
        if identity in self.unity.stores["catalogs"]:
            raise taken(f"Catalog '{identity}'", "CATALOG_ALREADY_EXISTS")
        branch, database = place = spec["branch"], spec["postgres_database"]
        names = [each["spec"]["postgres_database"] for each in self._of(branch, "databases")]
        if not spec.get("create_database_if_missing") and database not in names:
            raise not_found(f"The database {database} of {branch}", "NOT_FOUND")
        for other in self._of("", "catalogs"):
            there = (other["spec"]["branch"], other["spec"]["postgres_database"])
            if there == place and other["name"] != f"catalogs/{identity}":
                raise taken(f"A catalog of the database {database} of {branch}")

    def get(self, request: Request, name: str) -> Document:
        """One resource."""
        request.only()
        resource = self._store.look(name)
        if resource is None:
            raise not_found(name, "NOT_FOUND")
        told = _told(resource)
        if name.startswith("synced_tables/"):
            state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
            said = {"detailed_state": state, "message": self.message}
            return told | {"status": said | resource["status"]}
        return told

    def listed(self, request: Request) -> Document:
        """All projects; those that are deleted but not purged only if asked for."""
        request.only("page_size", "page_token", "show_deleted")
        with_deleted = request.flag("show_deleted")
        seen = [
            _told(resource)
            for name, resource in self._store.looks()
            if re.fullmatch(_PROJECT, name) and (with_deleted or "delete_time" not in resource)
        ]
        return paged(request, "projects", seen)

    def listed_in_branch(self, request: Request, branch: str, kind: str) -> Document:
        """A branch's roles or databases."""
        request.only("page_size", "page_token")
        self._need_branch(branch)
        prefix = f"{branch}/{kind}/"
        seen = [_told(each) for name, each in self._store.looks() if name.startswith(prefix)]
        return paged(request, kind, seen)

    def update(self, request: Request, name: str) -> Document:
        """Some fields that change; what the body lacks stays, although the mask names it."""
        request.only(needs=("update_mask",), bodiless=False)
        described = _KINDS[name.split("/")[-2]]
        check_document(request.body, f"postgres.{described.sdk}", required=("spec",))
        if name not in self._store:
            raise not_found(name, "NOT_FOUND")
        spec, resource = request.body["spec"], self.resources[name]
        for path in request.query["update_mask"].split(","):
            field = path.partition("spec.")[2].partition(".")[0]
            if not field or field in described.fixed:
                raise invalid(f"Field path in update_mask that can't change: '{path}'")
            if field in spec:
                resource["spec"][field] = resource["status"][field] = spec[field]
        return self._begin(name)

    def delete(self, request: Request, name: str) -> Document:
        """A resource that goes; a project stays as deleted unless it is purged."""
        is_project = re.fullmatch(_PROJECT, name) is not None
        is_role = "/roles/" in name
        request.only(*(("purge",) if is_project else ("reassign_owned_to",) if is_role else ()))
        if name not in self._store:
            raise not_found(name, "NOT_FOUND")
        owned = [each for each, it in self.resources.items() if it["spec"].get("role") == name]
        if is_role and owned and "reassign_owned_to" not in request.query:
            raise Refused(400, "BAD_REQUEST", f"{name} owns {', '.join(owned)}")
        if name.startswith("catalogs/"):
            prefix = f"synced_{name.replace('catalogs', 'tables')}."
            if held := [each for each in self.resources if each.startswith(prefix)]:
                raise Refused(400, "INVALID_STATE", f"{name} is not empty: {', '.join(held)}")
        if is_project:
            inside = f"{name}/branches/"
            for each, resource in list(self.resources.items()):
                if (resource["spec"].get("branch") or each).startswith(inside):
                    self._remove(each)
        if is_project and not request.flag("purge"):
            self.resources[name]["delete_time"] = NOW
        else:
            self._remove(name)
        return self._begin(name)

    def _remove(self, name: str) -> None:
        removed = self._store.remove(name)
        if name.startswith("synced_tables/"):
            pipelines = {each["status"].get("pipeline_id") for each in self.resources.values()}
            identity = name.partition("/")[2]
            self._synced.end(identity, removed["status"]["pipeline_id"], pipelines)

    def _begin(self, about: str) -> Document:
        name = f"{about}/operations/{UUID(int=len(self.operations) + 1)}"
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
        made = self.resources.get(operation["about"], {})
        return {"name": name, "done": True, "response": _told(made)}

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

    def need_database(self, branch: str, database: str) -> None:
        """Refuse a database that no branch has.

        Args:
            branch: its resource name.
            database: the same.

        Raises:
            Refused: there is none.
        """
        self._need_branch(branch)
        if database not in {each["name"] for each in self._of(branch, "databases")}:
            raise not_found(database, "NOT_FOUND")

    def _of(self, branch: str, kind: str) -> list[Document]:
        """Resources of a kind; those of a branch, or of the workspace if it is empty."""
        prefix = f"{branch}/{kind}/".removeprefix("/")
        return [each for name, each in self.resources.items() if name.startswith(prefix)]

    def _make_database(self, branch: str, database: str) -> None:
        """See that a branch has a database."""
        there = {each["spec"]["postgres_database"] for each in self._of(branch, "databases")}
        if database not in there:
            name = f"{branch}/databases/{database.replace('_', '-')}"
            spec = {"postgres_database": database, "role": f"{branch}/roles/{ME}"}
            self.resources[name] = _resource(name, spec)  # part of what makes it: seen at once
            self._made_along.add(name)

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
        """What was asked for, with its specification: a database made along goes along."""
        asked = self._store.snapshot()
        return {"lakebase": {k: each for k, each in asked.items() if k not in self._made_along}}


def _checked(request: Request, kind: str, identity: str) -> Document:
    """The specification that a request has."""
    described = _KINDS[kind]
    if not re.fullmatch(described.identity, identity):
        raise invalid(f"{kind.removesuffix('s')}_id is {identity!r}, not {described.identity}")
    check_document(request.body, f"postgres.{described.sdk}", required=("spec",))
    spec: Document = request.body["spec"]
    if missing := [field for field in described.needed if not spec.get(field)]:
        raise invalid(f"missing fields in spec: {missing}")
    return spec


def _resource(name: str, spec: Document, **more: str) -> Document:
    """A resource with its status, which tells what holds."""
    kind, identity = name.split("/")[-2:]
    place = spec.get("branch") or name
    project = place.partition("/branches/")[0]
    status = {**spec, f"{kind.removesuffix('s')}_id": identity}
    if kind == "projects":
        status |= {"owner": ME, "default_branch": f"{name}/branches/production"}
    elif kind == "catalogs":
        status = {"branch": spec["branch"], "postgres_database": spec["postgres_database"],
                  "project": project}  # fmt: skip
    elif kind == "synced_tables":
        status = {"project": project, "unity_catalog_provisioning_state": "ACTIVE", **more}
    return {"name": name, "spec": spec, "status": status}


def _told(resource: Document) -> Document:
    """What the service answers with."""
    return {key: value for key, value in resource.items() if key != "spec"}


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
