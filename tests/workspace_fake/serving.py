"""Model serving endpoints."""

import re
from collections.abc import Callable, Iterator

from tests.workspace_fake.requests import (
    Document,
    Refused,
    Request,
    Route,
    invalid,
    not_found,
    taken,
)
from tests.workspace_fake.shapes import check_arguments
from tests.workspace_fake.state import ME, NOW_MS, Common, Course, Store
from tests.workspace_fake.unity import Unity

__all__ = ["Serving"]

_API = "/api/2.0/serving-endpoints"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")


class Serving:
    """The service.

    Args:
        common: of the workspace.
        unity: has the models that endpoints serve.
    """

    def __init__(self, common: Common, unity: Unity) -> None:
        self.common = common
        self.unity = unity
        self.endpoints = Store(common)
        self.fails = ""  # what deployments fail with; empty to succeed
        self.invoke: Callable[[str, Document], Document] | None = None
        self._courses: dict[str, Course] = {}

    def routes(self) -> Iterator[Route]:
        """Methods, paths, and what answers them."""
        yield "GET", _API, self.listed
        yield "POST", _API, self.create
        yield "GET", f"{_API}/([^/]+)", self.get
        yield "DELETE", f"{_API}/([^/]+)", self.delete
        yield "PUT", f"{_API}/([^/]+)/config", self.update_config
        yield "POST", "/serving-endpoints/([^/]+)/invocations", self.query
        yield "POST", "/serving-endpoints/(?:responses|chat/completions)", self.query_model

    def create(self, request: Request) -> Document:
        """A new endpoint, which is not ready yet."""
        request.only(bodiless=False)
        body, api = request.body, "serving.ServingEndpointsAPI"
        rest = {key: value for key, value in body.items() if key != "config"}
        check_arguments(rest, api, "create", elsewhere=("config",), required=("name",))
        # The name that the SDK's class demands is for the path of an update.
        config = body.get("config", {})
        check_arguments(config, api, "update_config", elsewhere=("name",))
        if not _NAME.fullmatch(body["name"]):
            raise invalid(f"the endpoint's name is {body['name']!r}: 1 to 63 of A-Z a-z 0-9 _ -")
        if body["name"] in self.endpoints:
            raise taken(f"Endpoint with name '{body['name']}'")
        pending = self._config(config, 1)
        more = {key: value for key, value in body.items() if key not in {"name", "config"}}
        document = {
            "name": body["name"],
            "id": f"endpoint-{self.common.number('endpoint')}",
            "creator": ME,
            "creation_timestamp": NOW_MS,
            "last_updated_timestamp": NOW_MS,
            **more,
            "pending_config": pending,
        }
        self.endpoints.add(body["name"], document)
        self._begin(body["name"])
        return self._said(document, "IN_PROGRESS")

    def update_config(self, request: Request, name: str) -> Document:
        """Another configuration, while the old one goes on."""
        request.only(bodiless=False)
        document = self._need(name)
        api = "serving.ServingEndpointsAPI"
        check_arguments(request.body, api, "update_config", elsewhere=("name",))
        if not self._courses[name].has_ended:
            said = f"Endpoint '{name}' is currently being updated."
            raise Refused(409, "RESOURCE_CONFLICT", said)
        version = document.get("config", {}).get("config_version", 0) + 1
        document["pending_config"] = self._config(request.body, version)
        self._begin(name)
        return self._said(document, "IN_PROGRESS")

    def get(self, request: Request, name: str) -> Document:
        """One endpoint."""
        request.only()
        document = self.endpoints.look(name)
        if document is None:
            raise self._missing(name)
        return self._seen(name, document)

    def listed(self, request: Request) -> Document:
        """All endpoints."""
        request.only()
        seen = [self._seen(name, document) for name, document in self.endpoints.looks()]
        kept = ("name", "id", "creator", "state", "config", "tags", "description")
        return {
            "endpoints": [
                {key: document[key] for key in kept if key in document} for document in seen
            ]
        }

    def delete(self, request: Request, name: str) -> Document:
        """An endpoint that goes."""
        request.only()
        self._need(name)
        self.endpoints.remove(name)
        return {}

    def query(self, request: Request, name: str) -> Document:
        """What a model says, if the test says what."""
        request.only(bodiless=False)
        # The platform's own models are in every workspace, and in no list.
        if not name.startswith("databricks-") and "config" not in self._need(name):
            raise Refused(400, "BAD_REQUEST", f"Endpoint '{name}' is not ready")
        if self.invoke is None:
            raise Refused(501, "NOT_IMPLEMENTED", "This workspace has no models that answer")
        with self.common.outside():
            return self.invoke(name, request.body)

    def query_model(self, request: Request) -> Document:
        """The same by OpenAI's APIs, which name the endpoint as the model."""
        name = str(request.body.get("model", ""))
        return self.query(request, name)

    def _config(self, config: Document, version: int) -> Document:
        entities = config.get("served_entities") or []
        if not entities:
            raise invalid("served_entities are missing")
        served = []
        for entity in entities:
            model, number = entity.get("entity_name"), entity.get("entity_version")
            if "external_model" not in entity:
                if not model or not number:
                    raise invalid("a served entity needs entity_name and entity_version")
                self.unity.need("models", model)
                if f"{model}/{number}" not in self.unity.versions:
                    raise not_found(f"Version {number} of registered model '{model}'")
            name = entity.get("name") or f"{model}-{number}".replace(".", "-")
            served.append({**entity, "name": name, "creator": ME})
        known = {entity["name"] for entity in served}
        for route in config.get("traffic_config", {}).get("routes", []):
            if route.get("served_model_name", route.get("served_entity_name")) not in known:
                raise invalid(f"a route leads to none of {sorted(known)}")
        kept = {key: config[key] for key in ("traffic_config",) if key in config}
        return {"served_entities": served, "config_version": version, **kept}

    def _begin(self, name: str) -> None:
        last = "UPDATE_FAILED" if self.fails else "NOT_UPDATING"
        self._courses[name] = self.common.course("IN_PROGRESS", last)
        self._settle(name)

    def _settle(self, name: str) -> None:
        """The pending configuration holds once the update is over."""
        course, document = self._courses[name], self.endpoints[name]
        if not course.has_ended or "pending_config" not in document:
            return
        pending = document.pop("pending_config")
        failed = course.state == "UPDATE_FAILED"
        state = {"deployment": "DEPLOYMENT_FAILED" if failed else "DEPLOYMENT_READY"}
        if failed:
            state["deployment_state_message"] = self.fails
        for entity in pending["served_entities"]:
            entity["state"] = state
        if not failed or "config" not in document:  # a failed update leaves the old one in place
            document["config"] = pending

    def _seen(self, name: str, document: Document) -> Document:
        if name not in self.endpoints:
            return self._said(document, "NOT_UPDATING")
        state = self._courses[name].look()
        said = self._said(document, state)
        self._settle(name)
        return said

    def _said(self, document: Document, update: str) -> Document:
        entities = document.get("config", {}).get("served_entities", [])
        is_ready = bool(entities) and all(
            entity["state"]["deployment"] == "DEPLOYMENT_READY" for entity in entities
        )
        state = {"ready": "READY" if is_ready else "NOT_READY", "config_update": update}
        return {**document, "state": state}

    def _need(self, name: str) -> Document:
        if name not in self.endpoints:
            raise self._missing(name)
        return self.endpoints[name]

    def _missing(self, name: str) -> Refused:
        return not_found(f"Endpoint with name '{name}'")

    def snapshot(self) -> Document:
        """The endpoints."""
        return {"serving_endpoints": self.endpoints.snapshot()}
