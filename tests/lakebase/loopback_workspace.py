"""A workspace on the loopback for the SDK itself: it keeps state and refuses what it doesn't know.

Unknown routes, queries and fields are refused, missing fields too, and whatever the order of
things forbids, such as deleting a catalog that has tables. It can be told to fail.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

TOKEN = "dapi-loopback"
API = "/api/2.0/postgres"

Document = dict[str, Any]


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.body: Document = {"error_code": code, "message": message}


def not_found(what: str) -> Refused:
    return Refused(404, "NOT_FOUND", f"{what} does not exist")


def invalid(message: str) -> Refused:
    return Refused(400, "INVALID_PARAMETER_VALUE", message)


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came."""

    method: str
    path: str
    query: dict[str, str]
    body: Document

    def only(self, *names: str) -> None:
        """Refuse any other query."""
        if unknown := set(self.query) - set(names):
            raise invalid(f"unknown query {sorted(unknown)}")


@dataclass
class Shape:
    """The fields of a document: its required and its optional ones, and documents within it."""

    required: set[str] = field(default_factory=set)
    optional: set[str] = field(default_factory=set)
    inner: dict[str, "Shape"] = field(default_factory=dict)

    def check(self, document: Document, where: str = "body") -> None:
        if unknown := set(document) - self.required - self.optional:
            raise invalid(f"unknown fields in {where}: {sorted(unknown)}")
        if missing := {name for name in self.required if not document.get(name)}:
            raise invalid(f"missing fields in {where}: {sorted(missing)}")
        for name, shape in self.inner.items():
            if name in document:
                shape.check(document[name], f"{where}.{name}")


def spec_of(required: set[str], optional: set[str], **inner: Shape) -> Shape:
    return Shape({"spec"}, inner={"spec": Shape(required, optional, inner)})


SHAPES = {
    "projects": spec_of({"display_name"}, {"pg_version"}),
    "catalogs": spec_of({"postgres_database", "branch"}, {"create_database_if_missing"}),
    "synced_tables": spec_of(
        {"source_table_full_name", "primary_key_columns", "scheduling_policy", "new_pipeline_spec"},
        {"branch", "postgres_database", "timeseries_key", "create_database_objects_if_missing"},
        new_pipeline_spec=Shape({"storage_catalog", "storage_schema"}),
    ),
}
IDS = {
    "projects": r"[a-z][a-z0-9-]{0,62}",
    "catalogs": r"[A-Za-z0-9_-]{1,255}",
    "synced_tables": r"[A-Za-z0-9_-]+\.[A-Za-z0-9_]+\.[A-Za-z0-9_]+",
}


class Lakebase:
    """Projects, catalogs, synced tables, and the operations that make and unmake them.

    Args:
        sources: the Delta tables of the workspace, and whether they have a change data feed.
    """

    def __init__(self, sources: dict[str, bool]) -> None:
        self.sources = sources
        self.resources: dict[str, Document] = {}
        self.operations: dict[str, Document] = {}
        self.polls = 2  # how often an operation is asked for until it is done
        self.fails: Document | None = None  # the error that operations end with
        self.states = ["SYNCED_TABLE_ONLINE_CONTINUOUS_UPDATE"]  # one a look, the last one stays
        self.message = ""

    def routes(self) -> Iterator[tuple[str, str, Callable[[Request, str], Document]]]:
        yield "GET", rf"{API}/(operations/\d+)", self.operation
        for kind in SHAPES:
            yield "POST", f"{API}/({kind})", self.create
            yield "GET", f"{API}/({kind}/[^/]+)", self.get
            yield "DELETE", f"{API}/({kind}/[^/]+)", self.delete

    def create(self, request: Request, kind: str) -> Document:
        query = f"{kind.removesuffix('s')}_id"
        request.only(query)
        identity = request.query.get(query, "")
        if not re.fullmatch(IDS[kind], identity):
            raise invalid(f"{query} is {identity!r}")
        SHAPES[kind].check(request.body)
        spec = request.body["spec"]
        self._check_needs(kind, identity, spec)
        name = f"{kind}/{identity}"
        if name in self.resources:
            raise Refused(409, "ALREADY_EXISTS", f"{name} already exists")
        resource = {"name": name, "spec": spec}
        if kind == "projects":  # the service answers with what holds, not with what was asked for
            resource = {"name": name, "status": {**spec, "owner": "me@example.com"}}
        self.resources[name] = resource
        return self._begin(name)

    def _check_needs(self, kind: str, identity: str, spec: Document) -> None:
        if kind == "projects":
            return
        project = spec["branch"].partition("/branches/")[0]
        if project not in self.resources:
            raise not_found(project)
        if kind == "catalogs":
            return
        catalog, source = identity.split(".", maxsplit=1)[0], spec["source_table_full_name"]
        if f"catalogs/{catalog}" not in self.resources:
            raise Refused(404, "CATALOG_DOES_NOT_EXIST", f"Catalog '{catalog}' does not exist.")
        if source not in self.sources:
            raise not_found(source)
        if spec["scheduling_policy"] != "SNAPSHOT" and not self.sources[source]:
            raise invalid(f"Change Data Feed is not enabled\non {source}.")

    def get(self, request: Request, name: str) -> Document:
        request.only()
        if name not in self.resources:
            raise not_found(name)
        resource = self.resources[name]
        if name.startswith("synced_tables/"):
            state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
            said = {"detailed_state": state, "message": self.message}
            return resource | {"status": said | resource.get("status", {})}
        return resource

    def delete(self, request: Request, name: str) -> Document:
        request.only("purge")
        if name not in self.resources:
            raise not_found(name)
        kind = name.split("/", maxsplit=1)[0]
        inner = {"projects": "catalogs/", "catalogs": "synced_tables/"}.get(kind)
        if inner and any(other.startswith(inner) for other in self.resources):
            raise Refused(400, "INVALID_STATE", f"{name} is not empty")
        if name.startswith("projects/") and request.query.get("purge") != "true":
            self.resources[name]["delete_time"] = "2026-11-01T00:00:00Z"
        else:
            del self.resources[name]
        return self._begin(name)

    def _begin(self, about: str) -> Document:
        name = f"operations/{len(self.operations) + 1}"
        self.operations[name] = {"about": about, "left": self.polls}
        return {"name": name, "done": False}

    def operation(self, request: Request, name: str) -> Document:
        request.only()
        if name not in self.operations:
            raise not_found(name)
        operation = self.operations[name]
        operation["left"] -= 1
        if operation["left"] > 0:
            return {"name": name, "done": False}
        if self.fails:
            return {"name": name, "done": True, "error": self.fails}
        return {"name": name, "done": True, "response": self.resources.get(operation["about"], {})}


class LoopbackWorkspace:
    """The server's account: what it has seen, and what it does wrong.

    Args:
        sources: as for `Lakebase`.
    """

    def __init__(self, sources: dict[str, bool]) -> None:
        self.url = ""
        self.calls: list[str] = []
        self.bodies: list[Document] = []
        self.refusals: dict[str, list[Refused | bytes]] = {}
        self.lakebase = Lakebase(sources)
        self._routes = [(m, re.compile(p), answer) for m, p, answer in self.lakebase.routes()]

    def next_time(self, call: str, *answers: Refused | bytes) -> None:
        """Answer the next calls of this kind, such as `GET /api/...`, otherwise."""
        self.refusals.setdefault(call, []).extend(answers)

    def answer(self, request: Request, authorization: str | None) -> Document | bytes:
        call = f"{request.method} {request.path}"
        self.calls.append(
            call.replace(f"{API}/", "") + "".join(f" {k}={v}" for k, v in request.query.items())
        )
        if request.body:
            self.bodies.append(request.body)
        if authorization != f"Bearer {TOKEN}":
            raise Refused(401, "UNAUTHENTICATED", "Invalid access token")
        if self.refusals.get(call):
            planned = self.refusals[call].pop(0)
            if isinstance(planned, Refused):
                raise planned
            return planned
        for method, pattern, answer in self._routes:
            if method == request.method and (found := pattern.fullmatch(request.path)):
                return answer(request, found[1])
        raise Refused(404, "ENDPOINT_NOT_FOUND", f"No API found for '{call}'")

    @contextmanager
    def running(self) -> Iterator["LoopbackWorkspace"]:
        """Serve from a thread until the block ends."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def _handler(workspace: LoopbackWorkspace) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            address = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            query = dict(parse_qsl(address.query, keep_blank_values=True))
            request = Request(self.command, unquote(address.path), query, body)
            if address.path == "/.well-known/databricks-config":  # the SDK looks for it at first
                self._send(404, b"{}", {})
                return
            try:
                answer = workspace.answer(request, self.headers.get("Authorization"))
            except Refused as refused:
                self._send(refused.status, json.dumps(refused.body).encode(), refused.headers)
            else:
                sent = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self._send(200, sent, {})

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            fields = {"Content-Type": "application/json", "Content-Length": str(len(body))}
            for name, value in (fields | headers).items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
