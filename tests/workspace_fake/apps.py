"""Apps, their updates and their deployments."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

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
from tests.workspace_fake.state import ME, NOW, Common, Course, Store

__all__ = ["Apps", "Needs"]

Needs = Callable[[str, Document], None]
"""Refuses a resource of an app, given its kind and what it says, if it doesn't exist."""

_API = "/api/2.0/apps"
_ONE = f"{_API}/([^/]+)"
_NAME = re.compile(r"[a-z0-9-]{2,30}")
_CHANGEABLE = {
    "description", "resources", "user_api_scopes", "budget_policy_id", "usage_policy_id",
    "compute_size", "compute_min_instances", "compute_max_instances", "git_repository",
    "telemetry_export_destinations", "forward_user_access_token",
}  # fmt: skip


class Apps:
    """The service.

    Args:
        common: of the workspace.
        needs: refuses resources that don't exist.
    """

    def __init__(self, common: Common, needs: Needs) -> None:
        self.common = common
        self.apps = Store(common)
        self.fails = ""  # what deployments and updates fail with; empty to succeed
        self._needs = needs
        self._compute: dict[str, Course] = {}
        self._going: dict[str, tuple[Document, Course]] = {}
        self._updates: dict[str, tuple[Document, Course, str]] = {}
        self._deployments: dict[str, dict[str, tuple[Document, Course, str]]] = {}

    def routes(self) -> Iterator[Route]:
        """Methods, paths, and what answers them."""
        yield "GET", _API, self.listed
        yield "POST", _API, self.create
        yield "GET", _ONE, self.get
        yield "PATCH", _ONE, self.update
        yield "DELETE", _ONE, self.delete
        yield "POST", f"{_ONE}/start", self.start
        yield "POST", f"{_ONE}/stop", self.stop
        yield "POST", f"{_ONE}/update", self.create_update
        yield "GET", f"{_ONE}/update", self.get_update
        yield "POST", f"{_ONE}/deployments", self.deploy
        yield "GET", f"{_ONE}/deployments", self.list_deployments
        yield "GET", f"{_ONE}/deployments/([^/]+)", self.get_deployment

    def create(self, request: Request) -> Document:
        """A new app, whose compute starts."""
        request.only("no_compute", bodiless=False)
        check_document(request.body, "apps.App")
        body = request.body
        if not _NAME.fullmatch(body["name"]):
            raise invalid(f"the app's name is {body['name']!r}: 2 to 30 of a-z 0-9 -")
        self._check_fields(body)
        name = body["name"]
        if name in self.apps or name in self._going:
            raise taken(f"An app with the name {name}")
        number = self.common.number("app")
        client = f"app-client-{number}"
        document = {
            **body,
            "id": f"app-{number}",
            "url": f"https://{name}-1.databricksapps.example",
            "creator": ME,
            "create_time": NOW,
            "service_principal_id": 1000 + number,
            "service_principal_client_id": client,
            "service_principal_name": f"app-{name}",
        }
        self.common.principals.add(client)
        self.apps.add(name, document)
        self._deployments[name] = {}
        started = ("STOPPED",) if request.flag("no_compute") else ("STARTING", "ACTIVE")
        self._compute[name] = self.common.course(*started)
        return self._said(document, self._compute[name].state)

    def get(self, request: Request, name: str) -> Document:
        """One app; whoever looks sees its deployments get on."""
        request.only()
        if name in self._going:
            document, course = self._going[name]
            if course.look() == "DELETING":
                return self._said(document, "DELETING")
            del self._going[name]
        seen = self.apps.look(name)
        if seen is None:
            raise self._missing(name)
        return self._seen(name, seen)

    def listed(self, request: Request) -> Document:
        """All apps."""
        request.only("page_size", "page_token", "space")
        seen = [self._seen(name, document) for name, document in self.apps.looks()]
        going = [self._said(document, "DELETING") for document, _ in self._going.values()]
        return paged(request, "apps", [*seen, *going])

    def update(self, request: Request, name: str) -> Document:
        """Another description, other resources; what is not said stays."""
        request.only(bodiless=False)
        check_document(request.body, "apps.App")
        document = self._need(name)
        self._check_fields(request.body)
        document.update(request.body | {"name": name})
        return self._said(document, self._compute[name].state)

    def delete(self, request: Request, name: str) -> Document:
        """An app that goes in a while, with its service principal; its name is taken until then."""
        request.only()
        document = self._need(name)
        self.common.principals.discard(document["service_principal_client_id"])
        self.apps.remove(name)
        self._going[name] = document, self.common.course("DELETING", "DELETED")
        self._updates.pop(name, None)
        del self._deployments[name]
        return self._said(document, "DELETING")

    def start(self, request: Request, name: str) -> Document:
        """An app whose compute starts."""
        return self._turn(request, name, "STARTING", "ACTIVE")

    def stop(self, request: Request, name: str) -> Document:
        """An app whose compute stops."""
        return self._turn(request, name, "STOPPING", "STOPPED")

    def _turn(self, request: Request, name: str, during: str, last: str) -> Document:
        request.only()
        document = self._need(name)
        if self._compute[name].state != last:
            self._compute[name] = self.common.course(during, last)
        return self._said(document, self._compute[name].state)

    def create_update(self, request: Request, name: str) -> Document:
        """Some fields that change, in a while."""
        request.only(bodiless=False)
        check_arguments(request.body, "apps.AppsAPI", "create_update", elsewhere=("app_name",))
        document, app = self._need(name), request.body.get("app", {})
        fields = request.body["update_mask"].split(",")
        changed = sorted(_CHANGEABLE) if fields == ["*"] else fields
        if unknown := sorted(set(changed) - _CHANGEABLE):
            raise invalid(f"update_mask names {unknown}, which can't be changed")
        self._check_fields(app)
        if name in self._updates and not self._updates[name][1].has_ended:
            raise Refused(409, "RESOURCE_CONFLICT", f"An update of the app {name} is under way")
        if not self.fails:
            for field in changed:
                document.pop(field, None)
                document.update({field: app[field]} if field in app else {})
        said = {key: value for key, value in app.items() if key in _CHANGEABLE}
        self._updates[name] = (said, self._course(), self.fails)
        return self._progress(*self._updates[name], look=False)

    def get_update(self, request: Request, name: str) -> Document:
        """How far the latest update is."""
        request.only()
        self._need(name)
        if name not in self._updates:
            raise not_found(f"An update of the app {name}")
        return self._progress(*self._updates[name])

    def deploy(self, request: Request, name: str) -> Document:
        """A new deployment, of an app that runs."""
        request.only(bodiless=False)
        check_document(request.body, "apps.AppDeployment")
        document, body = self._need(name), request.body
        if not body.get("source_code_path") and not body.get("git_source"):
            raise invalid("source_code_path is missing")
        if self._compute[name].state != "ACTIVE":
            raise Refused(400, "INVALID_STATE", f"The compute of the app {name} is not active")
        names = {resource["name"] for resource in document.get("resources", [])}
        for variable in body.get("env_vars", []):
            if variable.get("value_from") not in {None, *names}:
                raise invalid(f"{variable['name']} is from {variable['value_from']}: not there")
        for _, course, _ in self._deployments[name].values():
            if not course.has_ended:
                raise Refused(409, "RESOURCE_CONFLICT", f"The app {name} is being deployed")
        identity = f"deployment-{self.common.number('deployment')}"
        made = {"mode": "SNAPSHOT", **body, "deployment_id": identity}
        made["create_time"] = _rfc3339(self.common.moment_ms())
        self._deployments[name][identity] = (made, self._course(), self.fails)
        return self._progress(*self._deployments[name][identity], look=False)

    def get_deployment(self, request: Request, name: str, identity: str) -> Document:
        """How far a deployment is."""
        request.only()
        self._need(name)
        if identity not in self._deployments[name]:
            raise not_found(f"The deployment {identity} of the app {name}")
        return self._progress(*self._deployments[name][identity])

    def list_deployments(self, request: Request, name: str) -> Document:
        """All deployments, the newest first."""
        request.only("page_size", "page_token")
        self._need(name)
        newest = reversed(self._deployments[name].values())
        seen = [self._progress(*deployment, look=False) for deployment in newest]
        return paged(request, "app_deployments", seen)

    def _course(self) -> Course:
        return self.common.course("IN_PROGRESS", "FAILED" if self.fails else "SUCCEEDED")

    def _progress(
        self, document: Document, course: Course, failure: str, *, look: bool = True
    ) -> Document:
        state = course.look() if look else course.state
        message = failure if state == "FAILED" else state.replace("_", " ").lower()
        return {**document, "status": {"state": state, "message": message}}

    def _check_fields(self, body: Document) -> None:
        for resource in body.get("resources", []):
            for kind, said in resource.items():
                if kind not in {"name", "description"}:
                    self._needs(kind, said)

    def _seen(self, name: str, document: Document) -> Document:
        if name not in self.apps:
            return self._said(document, "DELETING")
        said = self._said(document, self._compute[name].look())
        for _, course, _ in self._deployments[name].values():
            course.look()
        return said

    def _said(self, document: Document, compute: str) -> Document:
        said = {**document, "compute_status": {"state": compute, "message": compute.lower()}}
        running = "UNAVAILABLE"
        for deployment, course, failure in self._deployments.get(document["name"], {}).values():
            done = self._progress(deployment, course, failure, look=False)
            if course.state == "SUCCEEDED":
                said["active_deployment"] = done
                running = "RUNNING" if compute == "ACTIVE" else "UNAVAILABLE"
            elif not course.has_ended:
                said["pending_deployment"] = done
        return {**said, "app_status": {"state": running, "message": running.lower()}}

    def _need(self, name: str) -> Document:
        if name in self._going:
            raise Refused(400, "BAD_REQUEST", f"The app {name} is being deleted")
        if name not in self.apps:
            raise self._missing(name)
        return self.apps[name]

    def _missing(self, name: str) -> Refused:
        return not_found(f"App with name {name}")

    def snapshot(self) -> Document:
        """The apps."""
        return {"apps": self.apps.snapshot()}


def _rfc3339(epoch_ms: int) -> str:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
