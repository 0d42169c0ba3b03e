"""The console's web application: server-rendered pages that refresh themselves.

Contract: DESIGN section 8. It reads Postgres and the status that its host process hands in, and
writes nothing. Every text goes through a template that escapes it, and the content security policy
lets the browser load and run nothing but this package's own files.
"""

from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from caspers_lib.console import formats
from caspers_lib.console.panels import complaint_panel, refund_panel
from caspers_lib.console.source import ConsoleSource

__all__ = ["CONTENT_SECURITY_POLICY", "create_app"]

PACKAGE = Path(__file__).parent
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


def create_app(source: ConsoleSource) -> FastAPI:
    """The console over a running business.

    Pages: `/`, and `/live`, the part of it that refreshes itself; `/healthz` answers JSON.

    Args:
        source: tells the business's status now; called once per page or refresh, from any thread.
    """
    app = FastAPI(title="Casper's Kitchens", openapi_url=None, docs_url=None, redoc_url=None)
    app.add_middleware(SecurityHeaders)
    app.mount("/static", StaticFiles(directory=PACKAGE / "static"), name="static")
    templates = _templates()

    def render(template: str) -> HTMLResponse:
        status = source()
        html = templates.get_template(template).render(
            status=status,
            refunds=refund_panel(status.refunds_dsn),
            complaints=complaint_panel(status.complaints_dsn),
        )
        return HTMLResponse(html, headers={"Cache-Control": "no-store"})

    @app.get("/", response_class=HTMLResponse)
    def page() -> HTMLResponse:
        return render("page.html")

    @app.get("/live", response_class=HTMLResponse)
    def live() -> HTMLResponse:
        return render("live.html")

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.exception_handler(HTTPException)
    def plain_error(_: Request, error: HTTPException) -> PlainTextResponse:
        return PlainTextResponse(
            f"{error.detail}\n", status_code=error.status_code, headers=error.headers
        )

    return app


def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(PACKAGE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in formats.__all__:
        templates.filters[name] = getattr(formats, name)
    return templates
