"""The console's web application: server-rendered pages that refresh themselves.

Contract: DESIGN section 8. It reads Postgres and the status that its host process hands in, and
steers nothing but the replay. Every text goes through a template that escapes it, and the content
security policy lets the browser load and run nothing but this package's own files.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from caspers_lib.console.databases import ConsoleDatabase
from caspers_lib.console.health import health_router
from caspers_lib.console.lists import lists_router
from caspers_lib.console.live_pages import live_router
from caspers_lib.console.live_reading import LiveReader
from caspers_lib.console.pages import PACKAGE, render
from caspers_lib.console.source import ReplayControls, StatusSource
from caspers_lib.lakebase import SyncSpec, agent_tables, order_tables

__all__ = ["CONTENT_SECURITY_POLICY", "ConsoleParts", "create_app"]

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none';"
    " object-src 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def _everyone(_request: Request) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleParts:
    """What a console is made of.

    Args:
        refunds: the database of refunds and orders.
        complaints: the database of complaints.
        tables: the synced tables of both databases.
        status: tells the business's status, from any thread; None where the console stands alone.
        controls: the replay's controls; None where there is none to steer.
        may_steer: whether who asks may use them.
        routers: further routes; what they answer comes before the console's own pages.
        middleware: around every request, outermost first.
        clock: seconds that pass.
    """

    refunds: ConsoleDatabase
    complaints: ConsoleDatabase
    tables: tuple[SyncSpec, ...] = field(default_factory=lambda: (*agent_tables(), *order_tables()))
    status: StatusSource | None = None
    controls: ReplayControls | None = None
    may_steer: Callable[[Request], bool] = _everyone
    routers: tuple[APIRouter, ...] = ()
    middleware: tuple[Middleware, ...] = ()
    clock: Callable[[], float] = time.monotonic


class SecurityHeaders:
    """ASGI middleware that puts the security headers on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and complete the answer's headers."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        await self.app(scope, receive, send_with_headers)


def create_app(parts: ConsoleParts) -> FastAPI:
    """The console.

    Pages: `/` (Live), `/refunds`, `/complaints`; parts of them that refresh themselves; the
    replay's controls under `/live/replay`; `/healthz` and `/readyz` answer JSON.

    Args:
        parts: what it is made of; who made them closes the databases.
    """
    app = FastAPI(
        title="Casper's Kitchens",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        middleware=[Middleware(SecurityHeaders), *parts.middleware],
    )
    app.mount("/static", StaticFiles(directory=PACKAGE / "static"), name="static")
    reader = LiveReader(parts.refunds, parts.complaints, parts.tables, clock=parts.clock)
    own = (
        live_router(
            reader, status=parts.status, controls=parts.controls, may_steer=parts.may_steer
        ),
        lists_router(parts.refunds, parts.complaints, parts.tables),
        health_router((parts.refunds, parts.complaints), parts.tables),
    )
    for router in (*parts.routers, *own):
        app.include_router(router)

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            words = {"words": error.detail, "status": error.status_code}
            return render(request, "error.html", code=error.status_code, **words)
        return PlainTextResponse(
            f"{error.detail}\n", status_code=error.status_code, headers=error.headers
        )

    return app
