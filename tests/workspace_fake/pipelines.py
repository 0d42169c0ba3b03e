"""Pipelines and their updates."""

import re
from collections.abc import Callable, Iterator

from tests.workspace_fake.requests import (
    Document,
    Refused,
    Request,
    Route,
    invalid,
    not_found,
    paged,
)
from tests.workspace_fake.shapes import check_arguments
from tests.workspace_fake.state import ME, NOW, NOW_MS, Common, Course, Store
from tests.workspace_fake.unity import Unity

__all__ = ["Pipelines"]

_API = "/api/2.0/pipelines"
_ONE = f"{_API}/([^/]+)"
_PIPELINES = "pipelines.PipelinesAPI"


class Pipelines:
    """The service; an update of a continuous pipeline runs until it is stopped.

    `run_update` stands for what an update does: a table that it makes belongs to its pipeline.

    Args:
        common: of the workspace.
        unity: has the catalogs that pipelines write to.
    """

    def __init__(self, common: Common, unity: Unity) -> None:
        self.common = common
        self.unity = unity
        self.pipelines = Store(common)
        self.fails = ""  # what updates fail with; empty to succeed
        self.run_update: Callable[[Document], None] = lambda _pipeline: None
        self._updates: dict[str, dict[str, tuple[Document, Course]]] = {}
        self._tables: dict[str, set[str]] = {}

    def routes(self) -> Iterator[Route]:
        """Methods, paths, and what answers them."""
        yield "GET", _API, self.listed
        yield "POST", _API, self.create
        yield "GET", _ONE, self.get
        yield "PUT", _ONE, self.update
        yield "DELETE", _ONE, self.delete
        yield "POST", f"{_ONE}/stop", self.stop
        yield "POST", f"{_ONE}/updates", self.start_update
        yield "GET", f"{_ONE}/updates", self.list_updates
        yield "GET", f"{_ONE}/updates/([^/]+)", self.get_update

    def create(self, request: Request) -> Document:
        """A new pipeline."""
        request.only(bodiless=False)
        check_arguments(request.body, _PIPELINES, "create", required=("name",))
        self._check(request.body)
        identity = f"pipeline-{self.common.number('pipeline')}"
        self._keep(identity, request.body)
        self._updates[identity] = {}
        return {"pipeline_id": identity}

    def update(self, request: Request, identity: str) -> Document:
        """Another pipeline by the same id."""
        request.only(bodiless=False)
        elsewhere = ("pipeline_id",)
        check_arguments(request.body, _PIPELINES, "update", elsewhere=elsewhere, required=("name",))
        self._need(identity)
        self._check(request.body, identity)
        spec = _spec(identity, request.body)
        self.pipelines[identity].update(name=spec["name"], spec=spec)
        return {}

    def get(self, request: Request, identity: str) -> Document:
        """One pipeline, with its latest updates."""
        request.only()
        document = self.pipelines.look(identity)
        if document is None:
            raise self._missing(identity)
        return self._seen(identity, document)

    def listed(self, request: Request) -> Document:
        """Pipelines, all or those whose name is like a pattern."""
        request.only("filter", "max_results", "order_by", "page_token")
        pattern = _like(request.query.get("filter"))
        seen = [
            {key: value for key, value in self._seen(name, document).items() if key != "spec"}
            for name, document in self.pipelines.looks()
            if pattern.fullmatch(document["name"])
        ]
        return paged(request, "statuses", seen, "max_results")

    def delete(self, request: Request, identity: str) -> Document:
        """A pipeline that goes, and with it the tables of its updates, unless told otherwise."""
        request.only("cascade", "force")
        self._need(identity)
        self.pipelines.remove(identity)
        owned = self._tables.pop(identity, set())
        if request.query.get("cascade", "true") == "true":
            for table in owned & set(self.unity.stores["tables"].items):
                self.unity.stores["tables"].remove(table)
        self._updates.pop(identity)
        return {}

    def start_update(self, request: Request, identity: str) -> Document:
        """A new update, unless one is under way."""
        request.only(bodiless=False)
        check_arguments(request.body, _PIPELINES, "start_update", elsewhere=("pipeline_id",))
        self._need(identity)
        updates = self._updates[identity]
        for name, (_, course) in updates.items():
            if _is_active(course):
                said = f"An active update {name} already exists for pipeline '{identity}'."
                raise Refused(409, "RESOURCE_CONFLICT", said)
        name = f"update-{self.common.number('update')}"
        last = self._outcome(identity)
        course = self.common.course("QUEUED", "RUNNING", last)
        body = request.body
        kept = {"full_refresh", "validate_only", "refresh_selection", "full_refresh_selection"}
        asked = {key: value for key, value in body.items() if key in kept}
        document: Document = {
            "update_id": name,
            "pipeline_id": identity,
            "creation_time": NOW_MS,
            "cause": "API_CALL",
            **asked,
        }
        updates[name] = (document, course)
        return {"update_id": name}

    def get_update(self, request: Request, identity: str, name: str) -> Document:
        """How far an update is."""
        request.only()
        self._need(identity)
        if name not in self._updates[identity]:
            raise not_found(f"The update {name} of the pipeline {identity}")
        document, course = self._updates[identity][name]
        return {"update": {**document, "state": course.look()}}

    def list_updates(self, request: Request, identity: str) -> Document:
        """All updates, the newest first."""
        request.only("max_results", "page_token", "until_update_id")
        self._need(identity)
        newest = reversed(self._updates[identity].values())
        seen = [{**document, "state": course.state} for document, course in newest]
        return paged(request, "updates", seen, "max_results")

    def stop(self, request: Request, identity: str) -> Document:
        """An update under way that is canceled."""
        request.only()
        self._need(identity)
        for name, (document, course) in self._updates[identity].items():
            if _is_active(course):
                self._updates[identity][name] = (document, Course(["CANCELED"]))
        return {}

    def add_managed(self, name: str) -> str:
        """A pipeline that a service made for itself.

        Args:
            name: what people see.

        Returns:
            Its id.
        """
        identity = f"pipeline-{self.common.number('pipeline')}"
        self._keep(identity, {"name": name, "pipeline_type": "DATABASE_TABLE_SYNC"})
        self._updates[identity] = {}
        return identity

    def remove_managed(self, identity: str) -> None:
        """The end of such a pipeline.

        Args:
            identity: its id.
        """
        self.pipelines.remove(identity)
        self._updates.pop(identity)

    def _outcome(self, identity: str) -> str:
        if self.fails:
            self.pipelines[identity]["cause"] = self.fails
            return "FAILED"
        before = set(self.unity.stores["tables"].items)
        try:
            with self.common.outside():
                self.run_update({**self.pipelines[identity]})
        except Exception as error:  # noqa: BLE001 - whatever it is, the update has failed
            self.pipelines[identity]["cause"] = str(error)
            return "FAILED"
        finally:
            made = set(self.unity.stores["tables"].items) - before
            self._tables.setdefault(identity, set()).update(made)
        self.pipelines[identity].pop("cause", None)
        # An update of a continuous pipeline goes on until it is stopped.
        return "RUNNING" if self.pipelines[identity]["spec"].get("continuous") else "COMPLETED"

    def _check(self, body: Document, mine: str = "") -> None:
        if catalog := body.get("catalog"):
            self.unity.need("catalogs", catalog)
        if body.get("allow_duplicate_names"):
            return
        for identity, document in self.pipelines.items.items():
            if document["name"] == body["name"] and identity != mine:
                said = f"The pipeline name '{body['name']}' is already used by another pipeline."
                raise Refused(409, "RESOURCE_CONFLICT", said)

    def _keep(self, identity: str, body: Document) -> None:
        document = {
            "pipeline_id": identity,
            "name": body["name"],
            "creator_user_name": ME,
            "run_as_user_name": ME,
            "spec": _spec(identity, body),
        }
        self.pipelines.add(identity, document)

    def _seen(self, identity: str, document: Document) -> Document:
        updates = list(self._updates.get(identity, {}).values())[::-1]
        latest = [
            {"update_id": update["update_id"], "state": course.state, "creation_time": NOW}
            for update, course in updates
        ]
        state = "IDLE"
        if updates and _is_active(updates[0][1]):
            updates[0][1].look()
            state = "RUNNING"
        elif updates and updates[0][1].state == "FAILED":
            state = "FAILED"
        return {**document, "state": state, **({"latest_updates": latest} if latest else {})}

    def _need(self, identity: str) -> None:
        if identity not in self.pipelines:
            raise self._missing(identity)

    def _missing(self, identity: str) -> Refused:
        return not_found(f"The specified pipeline {identity}")

    def snapshot(self) -> Document:
        """The pipelines."""
        return {"pipelines": self.pipelines.snapshot()}


def _spec(identity: str, body: Document) -> Document:
    asked = {"allow_duplicate_names", "dry_run", "expected_last_modified"}
    return {**{key: value for key, value in body.items() if key not in asked}, "id": identity}


def _is_active(course: Course) -> bool:
    """Whether an update is under way; a continuous pipeline's runs until it is stopped."""
    return not course.has_ended or course.state == "RUNNING"


def _like(text: str | None) -> re.Pattern[str]:
    if not text:
        return re.compile(".*", re.DOTALL)
    found = re.fullmatch(r"\s*name\s+like\s+'((?:[^']|'')*)'\s*", text, re.IGNORECASE)
    if not found:
        raise invalid(f"the filter {text!r} is not: name LIKE 'pattern'")
    escaped = re.escape(found[1].replace("''", "'"))
    return re.compile(escaped.replace("%", ".*").replace("_", "."), re.DOTALL)
