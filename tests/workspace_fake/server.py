"""The workspace: its services, what it was asked, and what it does wrong."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from urllib.parse import unquote

from tests.workspace_fake.apps import Apps
from tests.workspace_fake.catalogs import Catalogs
from tests.workspace_fake.dashboards import Dashboards
from tests.workspace_fake.files import Files
from tests.workspace_fake.http import Server, handler
from tests.workspace_fake.jobs import Jobs, RunJob
from tests.workspace_fake.lakebase import Lakebase
from tests.workspace_fake.people import People
from tests.workspace_fake.pipelines import Pipelines
from tests.workspace_fake.requests import (
    Answer,
    Call,
    Document,
    Refused,
    Reply,
    Request,
    merged_lines,
    not_found,
)
from tests.workspace_fake.serving import Serving
from tests.workspace_fake.state import Common
from tests.workspace_fake.unity import Unity, parent_of
from tests.workspace_fake.warehouses import Executor, Warehouses
from tests.workspace_fake.workspace_files import WorkspaceFiles

__all__ = ["TOKEN", "LoopbackWorkspace"]

TOKEN = "dapi-loopback"
_SECURABLES = {"TABLE": "tables", "VOLUME": "volumes", "FUNCTION": "functions"}


class LoopbackWorkspace:
    """A workspace that the SDK can talk to while `running`.

    Its services are attributes with knobs of their own: `lakebase`, `serving`, `apps`, `jobs`,
    `pipelines`, `warehouses`, `dashboards`. A service's `fails` is what its long work ends with.

    Args:
        lag: to how many looks a new resource isn't there yet, and a deleted one still is.
        looks: how many looks at something that takes time see it under way.
        execute: runs SQL statements, such as a `DuckDBExecutor`; without it they are refused.
        run_job: does what a job does; without it every run succeeds at once. It may ask the
            workspace; the call that starts the run is answered when it is done.
    """

    def __init__(
        self,
        *,
        lag: int = 0,
        looks: int = 1,
        execute: Executor | None = None,
        run_job: RunJob | None = None,
    ) -> None:
        self.url = ""
        self.token = TOKEN
        self.calls: list[Call] = []
        self.common = Common(lag, looks)
        self.unity = Unity(self.common)
        self.warehouses = Warehouses(self.common, execute)
        self.pipelines = Pipelines(self.common, self.unity)
        has_pipeline = self.pipelines.pipelines.__contains__
        self.jobs = Jobs(self.common, run_job, has_pipeline)
        self.serving = Serving(self.common, self.unity)
        self.apps = Apps(self.common, self._need_of_app)
        self.lakebase = Lakebase(self.common, self.unity, self.pipelines)
        self.workspace_files = WorkspaceFiles(self.common)
        self.dashboards = Dashboards(self.common, self.workspace_files, self.warehouses.need)
        self._planned: list[tuple[str, list[Refused | bytes]]] = []
        self._denied: dict[str, str] = {}
        services = (
            People(), Catalogs(self.unity), Files(self.unity), self.warehouses, self.pipelines,
            self.jobs, self.serving, self.apps, self.lakebase, self.workspace_files,
            self.dashboards,
        )  # fmt: skip
        self._routes: list[tuple[str, re.Pattern[str], Callable[..., Answer]]] = []
        for service in services:
            routes = service.routes()
            self._routes += [(method, re.compile(path), answer) for method, path, answer in routes]

    @property
    def lag(self) -> int:
        """To how many looks a new resource isn't there yet, and a deleted one still is."""
        return self.common.lag

    @lag.setter
    def lag(self, lag: int) -> None:
        self.common.lag = lag

    @property
    def bodies(self) -> list[Document]:
        """The documents that were sent."""
        return [call.body for call in self.calls if call.body]

    def next_time(self, call: str, *answers: Refused | bytes) -> None:
        """Answer the next calls of a kind otherwise.

        Args:
            call: method and path, such as `GET /api/2.0/apps/x`; `*` stands for any text.
            answers: one for each call.
        """
        self._planned.append((call, list(answers)))

    def throttle(self, call: str, times: int = 1, *, retry_after: int = 1) -> None:
        """Answer the next calls of a kind with 429.

        Args:
            call: as for `next_time`.
            times: how many.
            retry_after: seconds that they are told to wait.
        """
        seconds = str(retry_after)
        slow = Refused(429, "REQUEST_LIMIT_EXCEEDED", "Too many requests", Retry_After=seconds)
        self.next_time(call, *[slow] * times)

    def deny(self, call: str, message: str = "User does not have permission") -> None:
        """Refuse all calls of a kind with 403, until they are allowed again.

        Args:
            call: as for `next_time`.
            message: what the refusal says.
        """
        self._denied[call] = message

    def allow(self, call: str) -> None:
        """Take back what `deny` said of a kind.

        Args:
            call: the same text.
        """
        self._denied.pop(call, None)

    def add_schema(self, name: str) -> None:
        """A schema, and its catalog if that is not there, without a call.

        Args:
            name: `catalog.schema`.

        Raises:
            Refused: it exists, or the name is none.
        """
        with self.common.lock:
            if parent_of(name) not in self.unity.stores["catalogs"]:
                self.unity.add("catalogs", parent_of(name), catalog_type="MANAGED_CATALOG")
            self.unity.add("schemas", name)

    def add_table(self, name: str, *, change_feed: bool = False) -> None:
        """A table as a statement would make it.

        Args:
            name: `catalog.schema.table`.
            change_feed: whether it has a change data feed.

        Raises:
            Refused: it exists, its schema doesn't, or the name is none.
        """
        feed = {"delta.enableChangeDataFeed": str(change_feed).lower()}
        with self.common.lock:
            self.unity.add(
                "tables", name, table_type="MANAGED", data_source_format="DELTA", properties=feed
            )

    def add_view(self, name: str, definition: str = "SELECT 1") -> None:
        """A view as a statement would make it.

        Args:
            name: `catalog.schema.view`.
            definition: its query.

        Raises:
            Refused: it exists, its schema doesn't, or the name is none.
        """
        with self.common.lock:
            self.unity.add("tables", name, table_type="VIEW", view_definition=definition)

    def add_function(self, name: str, definition: str = "1") -> None:
        """A function as a statement would make it.

        Args:
            name: `catalog.schema.function`.
            definition: its body.

        Raises:
            Refused: it exists, its schema doesn't, or the name is none.
        """
        with self.common.lock:
            self.unity.add("functions", name, routine_body="SQL", routine_definition=definition)

    def add_model_version(self, name: str, *, status: str = "READY") -> int:
        """A version of a model as MLflow would register it; the model too if it is not there.

        Args:
            name: `catalog.schema.model`.
            status: `READY`, `PENDING_REGISTRATION` or `FAILED_REGISTRATION`.

        Returns:
            Its number.

        Raises:
            Refused: its schema doesn't exist, or the name is none.
        """
        with self.common.lock:
            if name not in self.unity.stores["models"]:
                self.unity.add("models", name)
            number = self.common.number(f"version of {name}")
            catalog, schema, model = name.split(".")
            names = {"catalog_name": catalog, "schema_name": schema, "model_name": model}
            document = {**names, "version": number, "status": status}
            self.unity.versions.add(f"{name}/{number}", document)
            return number

    def add_warehouse(self, name: str, *, state: str = "RUNNING") -> str:
        """A SQL warehouse, without a call; its id.

        Args:
            name: what people see.
            state: `RUNNING` or `STOPPED`.
        """
        with self.common.lock:
            return self.warehouses.add(name, state)

    def add_principal(self, name: str) -> None:
        """Somebody who can be granted something.

        Args:
            name: of a user, a group or a service principal.
        """
        self.common.principals.add(name)

    def wire(self, *, collapse: bool = False) -> list[str]:
        """The calls, a line each: the same calls give the same lines.

        Args:
            collapse: whether lines that repeat the one before are left out, as polling has them.
        """
        with self.common.lock:
            lines = [str(call) for call in self.calls]
        return list(merged_lines(lines)) if collapse else lines

    def snapshot(self) -> Document:
        """All that exists, sorted; not what is over, such as runs, updates and operations."""
        with self.common.lock:
            said: Document = self.unity.snapshot()
            for service in (
                self.apps, self.dashboards, self.jobs, self.lakebase, self.pipelines, self.serving,
                self.warehouses, self.workspace_files,
            ):  # fmt: skip
                said |= service.snapshot()
        return {kind: said[kind] for kind in sorted(said) if said[kind]}

    def answer(self, request: Request, raw_path: str, authorization: str | None) -> Answer:
        """Answer a request, and record it.

        Args:
            request: as it came.
            raw_path: its path with percent signs unresolved.
            authorization: the header.

        Raises:
            Refused: the answer is an error.
        """
        status = 500
        with self.common.lock:
            place = len(self.calls)
            size = len(request.content)
            call = Call(request.method, request.path, request.query, request.body, 0, size)
            self.calls.append(call)
            try:
                answer = self._answer(request, raw_path, authorization)
                if isinstance(answer, dict):  # before anybody else changes what it is made of
                    answer = json.dumps(answer).encode()
                status = answer.status if isinstance(answer, Reply) else 200
            except Refused as refused:
                status = refused.status
                raise
            finally:
                if place < len(self.calls) and self.calls[place] is call:
                    self.calls[place] = Call(
                        call.method, call.path, call.query, call.body, status, size
                    )
            return answer

    def _answer(self, request: Request, raw_path: str, authorization: str | None) -> Answer:
        if authorization != f"Bearer {self.token}":
            raise Refused(401, "UNAUTHENTICATED", "Invalid access token")
        for kind, answers in self._planned:
            if answers and (kind == request.call or fnmatchcase(request.call, kind)):
                planned = answers.pop(0)
                if isinstance(planned, Refused):
                    raise planned
                return planned
        for kind, message in self._denied.items():
            if kind == request.call or fnmatchcase(request.call, kind):
                raise Refused(403, "PERMISSION_DENIED", message)
        for method, pattern, answer in self._routes:
            if method == request.method and (found := pattern.fullmatch(raw_path)):
                return answer(request, *map(unquote, found.groups()))
        raise Refused(404, "ENDPOINT_NOT_FOUND", f"No API found for '{request.call}'")

    def _need_of_app(self, kind: str, said: Document) -> None:
        """Refuse a resource of an app that doesn't exist."""
        if kind == "sql_warehouse":
            self.warehouses.need(said["id"])
        if kind == "serving_endpoint" and said["name"] not in self.serving.endpoints:
            raise not_found(f"Endpoint with name '{said['name']}'")
        if kind == "genie_space" and said["space_id"] not in self.dashboards.spaces:
            raise not_found(f"Genie space {said['space_id']}")
        if kind == "job" and said["id"] not in self.jobs.jobs:
            raise not_found(f"Job {said['id']}")
        if kind == "uc_securable":
            path = _SECURABLES.get(said["securable_type"])
            if path:
                self.unity.need(path, said["securable_full_name"])
        if kind == "postgres":
            self.lakebase.need_database(said.get("branch", ""), said.get("database", ""))

    @contextmanager
    def running(self) -> Iterator["LoopbackWorkspace"]:
        """Serve from a thread until the block ends."""
        server = Server(("127.0.0.1", 0), handler(self.answer))
        self.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
