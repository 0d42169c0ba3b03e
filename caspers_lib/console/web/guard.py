"""ASGI middleware before every request: a host of ours; before a write, also its origin and rate.

A page of another site can make a browser send a form with the person's cookies; its browser says
so in `Sec-Fetch-Site` and `Origin`, which no page can change. Where no proxy stands before the
console, another site could have its own name lead to this machine, and read or write as if it were
the console's; so a request names the machine by its address, as localhost or by its own name.
"""

import ipaddress
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["MAX_BODY_BYTES", "RequestGuard"]

MAX_BODY_BYTES = 256 * 1024
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_TYPES = frozenset({"application/json", "application/x-www-form-urlencoded"})
_PEOPLE = 10_000


class RequestGuard:
    """Refuses a request under a strange name, and a write of another site, too large or too often.

    Args:
        app: what is guarded.
        proxy: a proxy stands before it, which lets only its own name through.
        host: the name that the server listens on.
        writes_per_minute: for one person; so many may come at once.
        clock: seconds that pass.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        proxy: bool = False,
        host: str = "localhost",
        writes_per_minute: int = 600,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.app, self._proxy = app, proxy
        self._names = {"localhost", socket.gethostname().lower(), host.lower()}
        self._burst, self._clock = writes_per_minute, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on if nothing speaks against it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, is_read = Headers(scope=scope), scope["method"] in _READS
        refused = None if self._proxy else self._misled(headers)
        if refused is None and is_read:
            await self.app(scope, receive, send)
            return
        refused = (
            refused or _foreign(headers) or _unreadable(headers) or self._too_often(scope, headers)
        )
        if refused is not None:
            await refused(scope, receive, send)
            return
        body = await _body(receive)
        if body is None:
            await _too_large()(scope, receive, send)
            return
        await self.app(scope, _replayed(body, receive), send)

    def _too_often(self, scope: Scope, headers: Headers) -> JSONResponse | None:
        """A bucket for each person, which fills as time passes."""
        client = scope.get("client") or ("",)
        who = (headers.get("x-forwarded-email") if self._proxy else None) or client[0]
        now = self._clock()
        left, since = self._left.pop(who, (float(self._burst), now))
        left = min(self._burst, left + (now - since) * self._burst / 60)
        self._left[who] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > _PEOPLE:
            self._left.popitem(last=False)
        if left >= 1:
            return None
        return _refusal(
            429,
            "too_often",
            f"More than {self._burst} writes a minute are too many.",
            "Wait a few seconds, then go on.",
            **{"Retry-After": "5"},
        )

    def _misled(self, headers: Headers) -> JSONResponse | None:
        try:
            name = urlsplit(f"//{headers.get('host', '')}").hostname or ""
        except ValueError:  # a bracket that is never closed
            name = ""
        if name in self._names or _is_address(name):
            return None
        return _refusal(
            403,
            "foreign",
            "The console was reached under a name that is not this machine's.",
            "Use its address, or localhost.",
        )


def _foreign(headers: Headers) -> JSONResponse | None:
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    same = site in (None, "same-origin", "none")
    ours = headers.get("host") or None
    if same and (origin is None or site is not None or origin.partition("://")[2] == ours):
        return None
    return _refusal(403, "foreign", "Another site may not write here.", "Use the console's page.")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _unreadable(headers: Headers) -> JSONResponse | None:
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) > MAX_BODY_BYTES:
        return _too_large()
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in _TYPES or (not kind and length in ("", "0")):
        return None
    return _refusal(
        415, "wrong_type", "The body has a content type that is not read.", f"Use {min(_TYPES)}."
    )


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None if it is too large, or its sender went away."""
    parts = bytearray()
    while len(parts) <= MAX_BODY_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(parts) if len(parts) <= MAX_BODY_BYTES else None
    return None


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body in one message, then what comes after it."""
    whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return whole.pop() if whole else await receive()

    return next_message


def _too_large() -> JSONResponse:
    return _refusal(
        413,
        "too_large",
        f"The body is larger than {MAX_BODY_BYTES // 1024} KB.",
        "Decide fewer at once.",
    )


def _refusal(status: int, code: str, message: str, hint: str, **headers: str) -> JSONResponse:
    document = {"code": code, "message": message, "hint": hint}
    return JSONResponse(document, status_code=status, headers=headers)
