"""ASGI middleware around every request: its public address, HEAD, and the headers of its answer."""

import re
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from caspers_lib.console.access import is_root_path

__all__ = ["HeadAsGet", "PublicAddress", "SecurityHeaders"]

_SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none';"
        " object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_HOST = re.compile(r"[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?", re.ASCII)


class SecurityHeaders:
    """Puts the security headers on every answer; what does not say so may not be stored."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and complete the answer's headers."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_SECURITY_HEADERS)
                # A static file has an ETag: a browser keeps it and asks whether it is still good.
                headers.setdefault("Cache-Control", "no-cache" if "etag" in headers else "no-store")
            await send(message)

        await self.app(scope, receive, send_with_headers)


class HeadAsGet:
    """Answers HEAD as GET without a body; what would stream without an end ends at once."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; of the answer to a HEAD, only the status and the headers."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start":
                await send({"type": "http.response.body"})
                raise _HeadSent

        with suppress(_HeadSent):
            await self.app({**scope, "method": "GET"}, receive, send_head)


class _HeadSent(Exception):
    """The headers are sent: the rest of the answer is not wanted."""


class PublicAddress:
    """Hands on each request with the address that its sender used.

    Where a proxy is declared, `X-Forwarded-Proto`, `-For`, `-Host` and `-Prefix` tell it; where
    none is, these headers are only what anybody may send, and say nothing.

    Args:
        app: what is asked.
        proxy: a proxy is declared.
        root_path: the prefix under which the console is published, such as `/casper`; the proxy
            may take it off the path or leave it there.
    """

    def __init__(self, app: ASGIApp, *, proxy: bool = False, root_path: str = "") -> None:
        self.app, self._proxy, self._root_path = app, proxy, root_path
        if proxy:
            self.app = ProxyHeadersMiddleware(app, trusted_hosts="*")  # type: ignore[arg-type,assignment]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, unless the proxy's headers are no address."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        root, headers = self._root_path, Headers(scope=scope)
        scope = dict(scope)
        if self._proxy:
            # Each proxy on the way adds the prefix that it took off; the first saw the browser.
            prefixes = headers.get("x-forwarded-prefix", "").split(",")
            root = "".join(prefix.strip().rstrip("/") for prefix in prefixes) or root
            host, scheme = (
                headers.get(f"x-forwarded-{name}", "").partition(",")[0].strip()
                for name in ("host", "proto")
            )
            if not is_root_path(root) or (host and not _HOST.fullmatch(host)):
                await _wrong_address()(scope, receive, send)
                return
            seen = {b"host": host.encode(), b"x-forwarded-proto": scheme.encode("latin-1")}
            kept = [pair for pair in scope["headers"] if not seen.get(pair[0])]
            scope["headers"] = [*kept, *(pair for pair in seen.items() if pair[1])]
        path = scope["path"]
        if root:
            below = path == root or path.startswith(f"{root}/")
            path = path.removeprefix(root) or "/" if below else path
            scope |= {"root_path": root, "path": root + path}
        await self.app(scope, receive, send)


def _wrong_address() -> JSONResponse:
    document = {
        "code": "wrong_address",
        "message": "X-Forwarded-Host or X-Forwarded-Prefix of the proxy is no address.",
        "hint": "The prefix is a path such as /casper, the host a name with or without a port.",
    }
    return JSONResponse(document, status_code=400)
