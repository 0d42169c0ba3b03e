"""AI/BI dashboards and Genie spaces: their documents, what they ask with, and what is published."""

import json
from collections.abc import Callable, Iterator

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
from tests.workspace_fake.workspace_files import WorkspaceFiles

__all__ = ["Dashboards"]

_DASHBOARDS = "/api/2.0/lakeview/dashboards"
_SPACES = "/api/2.0/genie/spaces"
_HOME = f"/Users/{ME}"


class Dashboards:
    """Both services.

    Args:
        common: of the workspace.
        files: has the folders that they are in.
        need_warehouse: refuses a SQL warehouse that doesn't exist.
    """

    def __init__(
        self, common: Common, files: WorkspaceFiles, need_warehouse: Callable[[str], object]
    ) -> None:
        self.common = common
        self.dashboards = Store(common)
        self.spaces = Store(common)
        self._files = files
        self._need_warehouse = need_warehouse
        self._published: dict[str, Document] = {}

    def routes(self) -> Iterator[Route]:
        """Methods, paths, and what answers them."""
        yield "GET", _DASHBOARDS, self.listed
        yield "POST", _DASHBOARDS, self.create
        yield "GET", f"{_DASHBOARDS}/([^/]+)", self.get
        yield "PATCH", f"{_DASHBOARDS}/([^/]+)", self.update
        yield "DELETE", f"{_DASHBOARDS}/([^/]+)", self.trash
        yield "POST", f"{_DASHBOARDS}/([^/]+)/published", self.publish
        yield "GET", f"{_DASHBOARDS}/([^/]+)/published", self.published
        yield "DELETE", f"{_DASHBOARDS}/([^/]+)/published", self.unpublish
        yield "GET", _SPACES, self.list_spaces
        yield "POST", _SPACES, self.create_space
        yield "GET", f"{_SPACES}/([^/]+)", self.get_space
        yield "PATCH", f"{_SPACES}/([^/]+)", self.update_space
        yield "DELETE", f"{_SPACES}/([^/]+)", self.trash_space

    def create(self, request: Request) -> Document:
        """A new draft, in a folder that is there."""
        request.only("dataset_catalog", "dataset_schema", bodiless=False)
        check_document(request.body, "dashboards.Dashboard", required=("display_name",))
        body = {"serialized_dashboard": "{}", **request.body}
        folder = self._folder(body)
        path = f"{folder}/{body['display_name']}.lvdash.json"
        if path in {each["path"] for each in self.dashboards.items.values()}:
            raise taken(f"Path ({path})", "ALREADY_EXISTS")
        self._check_warehouse(body)
        identity = f"dashboard-{self.common.number('dashboard')}"
        document = {
            **body,
            "serialized_dashboard": _with_datasets(body["serialized_dashboard"], request),
            "dashboard_id": identity,
            "parent_path": folder,
            "path": path,
            "etag": "1",
            "lifecycle_state": "ACTIVE",
            "create_time": NOW,
        }
        self.dashboards.add(identity, document)
        return document

    def update(self, request: Request, identity: str) -> Document:
        """Another draft; what is published stays."""
        request.only("dataset_catalog", "dataset_schema", bodiless=False)
        check_document(request.body, "dashboards.Dashboard")
        document, body = self._need(identity), dict(request.body)
        _check_etag(document, body)
        self._check_warehouse(body)
        if "serialized_dashboard" in body:
            said = _with_datasets(body["serialized_dashboard"], request)
            body["serialized_dashboard"] = said
        document.update(body | {"etag": str(int(document["etag"]) + 1)})
        document["path"] = f"{document['parent_path']}/{document['display_name']}.lvdash.json"
        return document

    def get(self, request: Request, identity: str) -> Document:
        """One draft; one in the trash says so."""
        request.only()
        document = self.dashboards.look(identity)
        if document is None:
            raise self._missing(identity)
        return document

    def listed(self, request: Request) -> Document:
        """All drafts without what they hold; those in the trash only if they are asked for."""
        request.only("page_size", "page_token", "show_trashed", "view")
        trashed = request.flag("show_trashed")
        seen = [
            {key: value for key, value in document.items() if key != "serialized_dashboard"}
            for _, document in self.dashboards.looks()
            if trashed or document["lifecycle_state"] == "ACTIVE"
        ]
        return paged(request, "dashboards", seen)

    def trash(self, request: Request, identity: str) -> Document:
        """A draft that goes to the trash, and with it what was published of it."""
        request.only()
        document = self._need(identity)
        document.update(lifecycle_state="TRASHED", parent_path=f"{_HOME}/Trash", path="")
        return {}

    def publish(self, request: Request, identity: str) -> Document:
        """The draft as it is now, for others."""
        request.only(bodiless=False)
        elsewhere = ("dashboard_id",)
        check_arguments(request.body, "dashboards.LakeviewAPI", "publish", elsewhere=elsewhere)
        document = self._need(identity)
        said = {"warehouse_id": document.get("warehouse_id"), **request.body}
        self._check_warehouse(said)
        self._published[identity] = {
            "embed_credentials": False,
            **{key: value for key, value in said.items() if value is not None},
            "display_name": document["display_name"],
            "revision_create_time": NOW,
        }
        return self._published[identity]

    def published(self, request: Request, identity: str) -> Document:
        """What is published of a draft."""
        request.only()
        self._need(identity)
        if identity not in self._published:
            raise not_found(f"The published dashboard {identity}")
        return self._published[identity]

    def unpublish(self, request: Request, identity: str) -> Document:
        """Nothing of a draft is published any more."""
        self.published(request, identity)
        del self._published[identity]
        return {}

    def create_space(self, request: Request) -> Document:
        """A new space, in a folder that is there."""
        request.only(bodiless=False)
        check_arguments(request.body, "dashboards.GenieAPI", "create_space")
        body = request.body
        _object(body["serialized_space"], "serialized_space")
        folder = self._folder(body)
        self._check_warehouse(body)
        identity = f"space-{self.common.number('space')}"
        document = {"title": "New Space", **body, "space_id": identity, "parent_path": folder}
        self.spaces.add(identity, {**document, "etag": "1"})
        return self.spaces[identity]

    def update_space(self, request: Request, identity: str) -> Document:
        """Another title, text, warehouse or content; what is not said stays."""
        request.only(bodiless=False)
        elsewhere = ("space_id",)
        check_arguments(request.body, "dashboards.GenieAPI", "update_space", elsewhere=elsewhere)
        document, body = self._need_space(identity), request.body
        _check_etag(document, body)
        if "serialized_space" in body:
            _object(body["serialized_space"], "serialized_space")
        self._check_warehouse(body)
        document.update(body | {"etag": str(int(document["etag"]) + 1)})
        return document

    def get_space(self, request: Request, identity: str) -> Document:
        """One space; what it holds only if that is asked for."""
        request.only("include_serialized_space")
        document = self._need_space(identity)
        if request.flag("include_serialized_space"):
            return document
        return {k: v for k, v in document.items() if k not in {"serialized_space", "etag"}}

    def list_spaces(self, request: Request) -> Document:
        """All spaces without what they hold."""
        request.only("page_size", "page_token")
        kept = ("space_id", "title", "description", "warehouse_id")
        seen = [{key: each[key] for key in kept if key in each} for _, each in self.spaces.looks()]
        return paged(request, "spaces", seen)

    def trash_space(self, request: Request, identity: str) -> Document:
        """A space that goes."""
        request.only()
        self._need_space(identity)
        self.spaces.remove(identity)
        return {}

    def _folder(self, body: Document) -> str:
        folder: str = body.get("parent_path", _HOME).removeprefix("/Workspace")
        if folder != _HOME and folder not in self._files.folders:
            raise not_found(f"Path ({folder})")
        return folder

    def _check_warehouse(self, body: Document) -> None:
        if body.get("warehouse_id"):
            self._need_warehouse(body["warehouse_id"])

    def _need(self, identity: str) -> Document:
        document = self.dashboards.items.get(identity)
        if document is None or document["lifecycle_state"] == "TRASHED":
            raise self._missing(identity)
        return document

    def _missing(self, identity: str) -> Refused:
        return not_found(f"The dashboard {identity}")

    def _need_space(self, identity: str) -> Document:
        if identity not in self.spaces:  # the service doesn't tell that from a missing right
            raise Refused(403, "PERMISSION_DENIED", f"You can't view the space {identity}")
        return self.spaces[identity]

    def snapshot(self) -> Document:
        """Both, without the trash."""
        drafts = {
            identity: {**draft, "published": self._published.get(identity)}
            for identity, draft in self.dashboards.snapshot().items()
            if draft["lifecycle_state"] == "ACTIVE"
        }
        return {"dashboards": drafts, "genie_spaces": self.spaces.snapshot()}


def _with_datasets(text: str, request: Request) -> str:
    """The dashboard's content with the catalog and schema that its datasets are asked in."""
    content = _object(text, "serialized_dashboard")
    said = {part: request.query.get(f"dataset_{part}") for part in ("catalog", "schema")}
    place = {part: name for part, name in said.items() if name}
    if not place:
        return text
    content["datasets"] = [each | place for each in content.get("datasets", [])]
    return json.dumps(content)


def _object(text: str, what: str) -> Document:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise invalid(f"{what} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise invalid(f"{what} is no object")
    return content


def _check_etag(document: Document, body: Document) -> None:
    if body.get("etag") not in {None, document["etag"]}:
        raise Refused(409, "RESOURCE_CONFLICT", "The etag is not that of the latest version")
