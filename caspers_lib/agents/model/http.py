"""One call to an OpenAI-compatible endpoint over HTTP: the thin edge under `client`.

Loading this module loads httpx; `client` does so when the first call is due.
"""

import asyncio
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from caspers_lib.agents.model.excerpts import excerpt, redacted
from caspers_lib.agents.model.replies import CallFailure, CallReply, reply_of, status_failure
from caspers_lib.agents.model.request_form import RequestForm, request_body
from caspers_lib.agents.model.settings import Message, ModelSettings
from caspers_lib.agents.model.turns import Turn, Turns

__all__ = ["MAX_RESPONSE_BYTES", "ModelHttp"]

MAX_RESPONSE_BYTES = 1_000_000
"""A longer response is cut off and counts as unreadable."""

_AT_WORK = 8
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_PATHS = {"chat": "/chat/completions", "responses": "/responses"}
_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class ModelHttp:
    """Sends questions to one endpoint.

    Args:
        settings: the endpoint and how it is asked.
        transport: carries the requests in place of connections of its own, for tests.
    """

    def __init__(
        self, settings: ModelSettings, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._settings = settings
        self._url = httpx.URL(settings.base_url.rstrip("/") + _PATHS[settings.api])
        self._headers = _headers(self._url, settings.secret)
        size = settings.concurrency
        self._connections = [transport] if transport else _connections(size, settings.base_url)
        self._free = self._connections * size if transport else list(self._connections)
        self._is_traced = transport is None
        self._turns = Turns(_AT_WORK if self._is_traced else size)

    async def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            await connection.aclose()

    async def call(
        self,
        messages: Sequence[Message],
        response_format: Mapping[str, object] | None,
        form: RequestForm,
    ) -> CallReply | CallFailure:
        """Ask once.

        Args:
            messages: the conversation.
            response_format: as chat completions take it; None for any text.
            form: which parameters the request may have.

        Returns:
            The reply or why there is none. A driver's error is not kept: it may hold the key.
        """
        turn, secret = Turn(self._turns, is_traced=self._is_traced), self._settings.secret
        try:
            async with turn, asyncio.timeout(self._settings.timeout_s):
                request = request_body(form, self._settings, messages, response_format)
                response = await self._post(_json(request).encode(), turn)
        except (httpx.HTTPError, OSError, _UnfitResponseError, UnicodeEncodeError) as error:
            return _failure(error, self._settings, was_sent=turn.was_sent)
        status, body = response.status, response.body
        if not 200 <= status < 300:
            return status_failure(
                status,
                body,
                request=request,
                form=form,
                secret=secret,
                retry_after=response.retry_after,
            )
        return reply_of(body, api=self._settings.api, secret=secret)

    async def _post(self, body: bytes, turn: Turn) -> "_Response":
        headers = [*self._headers, (b"Content-Length", str(len(body)).encode())]
        request = httpx.Request(
            "POST",
            self._url,
            headers=headers,
            stream=httpx.ByteStream(body),
            extensions={"trace": turn.trace},
        )
        # The last one used is the next: few stay open when few are needed.
        connection = self._free.pop()
        try:
            return await _response(await connection.handle_async_request(request))
        finally:
            self._free.append(connection)


def _headers(url: httpx.URL, secret: str | None) -> list[tuple[bytes, bytes]]:
    """What every request says, the length of its body aside."""
    key = [(b"Authorization", f"Bearer {secret}".encode())] if secret else []
    return [
        (b"Host", url.netloc),
        (b"User-Agent", b"caspers_lib"),
        (b"Accept", b"application/json"),
        # A packed megabyte may unpack to a thousand.
        (b"Accept-Encoding", b"identity"),
        (b"Content-Type", b"application/json"),
        *key,
    ]


def _connections(size: int, url: str) -> list[httpx.AsyncBaseTransport]:
    """So many kept connections, each in a pool of its own.

    One pool looks at all its connections for each request: at 500 that takes 24 ms of CPU a
    request (docs/decisions/model-client.md).
    """
    # A context without certificates trusts nobody; loading them takes some 50 ms.
    is_plain = urlsplit(url).scheme == "http"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if is_plain else httpx.create_ssl_context()
    one = httpx.Limits(max_connections=1, max_keepalive_connections=1)
    proxy = _proxy_for(url)
    return [httpx.AsyncHTTPTransport(verify=context, limits=one, proxy=proxy) for _ in range(size)]


def _proxy_for(url: str) -> str | None:
    """The proxy that the environment names for an address; none for this machine itself."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host in _LOOPBACK or proxy_bypass(host):
        return None
    proxies = getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")


def _failure(error: Exception, settings: ModelSettings, *, was_sent: bool) -> CallFailure:
    """What went wrong on the way, as a value."""
    if isinstance(error, UnicodeEncodeError):
        reason = "the question is no UTF-8 text"
        return CallFailure(kind="refused", reason=reason, retries="never", healthy=None)
    if isinstance(error, _UnfitResponseError):
        return CallFailure(
            kind="unreadable", reason=str(error), retries="once", healthy=False, may_be_paid=True
        )
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        reason = f"no answer within {settings.timeout_s:g} s"
    else:
        said = redacted(str(error), settings.secret)
        words = f"{type(error).__name__}{f' {excerpt(said)}' if said else ''}"
        reason = f"the connection failed: {words}"
    return CallFailure(
        kind="unavailable",
        reason=reason,
        retries="often",
        healthy=False,
        # Where no connection was made, nothing was asked.
        may_be_paid=was_sent and not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout),
    )


class _UnfitResponseError(Exception):
    """A response too long to be read, or packed though we asked for plain bytes."""


@dataclass(frozen=True, slots=True)
class _Response:
    """A response, read to its end."""

    status: int
    body: bytes
    retry_after: str | None


async def _response(begun: httpx.Response) -> _Response:
    """The whole of a response that is plain and short."""
    stream = cast("httpx.AsyncByteStream", begun.stream)
    body = bytearray()
    try:
        encoding = begun.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise _UnfitResponseError(f"the response is packed as {excerpt(encoding, 30)}")
        async for chunk in stream:
            body += chunk
            if len(body) > MAX_RESPONSE_BYTES:
                raise _UnfitResponseError(
                    f"the response is longer than {MAX_RESPONSE_BYTES:,} bytes"
                )
    finally:
        await stream.aclose()
    return _Response(begun.status_code, bytes(body), begun.headers.get("retry-after"))
