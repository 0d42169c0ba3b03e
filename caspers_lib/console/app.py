"""The console's web application: server-rendered pages that refresh themselves.

It reads Postgres and the status that its host process hands in, writes what people decide, and
steers the replay. Every text goes through a template that escapes it, and the content security
policy lets the browser load and run nothing but this package's own files.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from caspers_lib.console.access import ConsoleAccess, Person
from caspers_lib.console.databases import ConsoleDatabase
from caspers_lib.console.decisions.api import api_router
from caspers_lib.console.decisions.deciding import DecisionStore
from caspers_lib.console.decisions.desk import Desk
from caspers_lib.console.decisions.desk_pages import desk_router
from caspers_lib.console.decisions.ledger import OrderLedger
from caspers_lib.console.decisions.orders import order_cities
from caspers_lib.console.decisions.values import COMPLAINT_CASES, REFUND_CASES, CaseKind
from caspers_lib.console.health import health_router
from caspers_lib.console.live_api import live_api_router
from caspers_lib.console.live_pages import live_router
from caspers_lib.console.live_reading import LiveReader
from caspers_lib.console.pages import PACKAGE, path_below_root, render
from caspers_lib.console.source import ReplayControls, StatusSource
from caspers_lib.console.web.errors import install_errors
from caspers_lib.console.web.events import Changes
from caspers_lib.console.web.guard import RequestGuard
from caspers_lib.console.web.identity import person_of
from caspers_lib.console.web.middleware import HeadAsGet, PublicAddress, SecurityHeaders
from caspers_lib.lakebase import SyncSpec, agent_tables, order_tables

__all__ = ["ConsoleParts", "create_app"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleParts:
    """What a console is made of.

    Args:
        refunds: the database of refunds and orders.
        complaints: the database of complaints.
        tables: the synced tables of both databases.
        status: tells the business's status, from any thread; None where the console stands alone.
        controls: the replay's controls; None where there is none to steer.
        access: who may decide what, and steer.
        host: the name or address that its server listens on, which requests may name.
        clock: seconds that pass.
    """

    refunds: ConsoleDatabase
    complaints: ConsoleDatabase
    tables: tuple[SyncSpec, ...] = field(default_factory=lambda: (*agent_tables(), *order_tables()))
    status: StatusSource | None = None
    controls: ReplayControls | None = None
    access: ConsoleAccess = field(default_factory=ConsoleAccess)
    host: str = "localhost"
    clock: Callable[[], float] = time.monotonic


def create_app(parts: ConsoleParts) -> FastAPI:
    """The console.

    Pages: `/` (Live), `/refunds`, `/complaints`; parts of them that refresh themselves; the
    replay's controls under `/live/replay`; the API under `/api`, described at `/api/openapi.json`;
    `/healthz` and `/readyz` answer JSON to everybody.

    Args:
        parts: what it is made of; who made them closes the databases.
    """
    access = parts.access
    app = FastAPI(
        title="Casper's Kitchens",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(HeadAsGet),
            Middleware(PublicAddress, proxy=access.proxy, root_path=access.root_path),
            Middleware(RequestGuard, proxy=access.proxy, host=parts.host),
        ],
    )
    app.mount("/static", StaticFiles(directory=PACKAGE / "static"), name="static")
    install_errors(app)

    def identified(request: Request) -> Person:
        person = person_of(request, parts.access)
        request.state.person = person
        return person

    def may_steer(request: Request) -> bool:
        return identified(request).role == "manager"

    reader = LiveReader(parts.refunds, parts.complaints, parts.tables, clock=parts.clock)
    desks = _desks(parts)
    status, controls = parts.status, parts.controls
    pages = (
        live_router(reader, status=status, controls=controls, may_steer=may_steer),
        *(desk_router(desk, parts.access) for desk in desks),
    )
    for router in pages:
        app.include_router(router, dependencies=[Depends(identified)], include_in_schema=False)
    changes = {desk.kind.name: Changes(desk.store.edition, clock=parts.clock) for desk in desks}
    app.state.endings = tuple(each.close for each in changes.values())
    live_api = live_api_router(reader, status=status, controls=controls, may_steer=may_steer)
    app.include_router(live_api, dependencies=[Depends(identified)])
    app.include_router(api_router(desks, parts.access, changes))
    app.include_router(health_router((parts.refunds, parts.complaints), parts.tables))

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> Response:
        path, headers = path_below_root(request), dict(error.headers or {})
        if error.status_code == 405 and (allowed := app.openapi()["paths"].get(path)):
            # The router names the methods of the first of the path's routes alone.
            methods = {*allowed, "head"} if "get" in allowed else allowed
            headers["Allow"] = ", ".join(sorted(method.upper() for method in methods))
        if path.startswith("/api/"):
            document = {"code": f"http_{error.status_code}", "message": error.detail, "hint": ""}
            return JSONResponse(document, error.status_code, headers=headers)
        if "text/html" in request.headers.get("accept", ""):
            words = {"words": error.detail, "status": error.status_code}
            return render(request, "error.html", code=error.status_code, **words)
        return PlainTextResponse(
            f"{error.detail}\n", status_code=error.status_code, headers=headers
        )

    return app


def _desks(parts: ConsoleParts) -> tuple[Desk, ...]:
    tables = {spec.name: spec for spec in parts.tables}
    ledger = OrderLedger(parts.refunds, tables["orders"], parts.complaints)
    cities = order_cities(parts.refunds, tables["lifecycle"], tables["locations"])

    def desk(kind: CaseKind, database: ConsoleDatabase) -> Desk:
        store = DecisionStore(kind, database, ledger, cities, parts.access, clock=parts.clock)
        return Desk(store, parts.refunds, tables)

    return desk(REFUND_CASES, parts.refunds), desk(COMPLAINT_CASES, parts.complaints)
