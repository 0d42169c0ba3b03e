"""One call to an OpenAI-compatible endpoint over HTTP: the thin edge under `model_client`.

Loading this module loads openai and httpx; `model_client` does so when the first call is due.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx
import openai

from caspers_lib.agents.excerpts import excerpt, redacted
from caspers_lib.agents.model_replies import CallFailure, CallReply, reply_of, status_failure
from caspers_lib.agents.model_settings import Message, ModelSettings

__all__ = ["MAX_RESPONSE_BYTES", "ModelHttp"]

MAX_RESPONSE_BYTES = 1_000_000
"""A longer response is cut off and counts as unreadable."""

_AT_WORK = 8
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_PATHS = {"chat": "/chat/completions", "responses": "/responses"}


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
        self._http = httpx.AsyncClient(
            transport=_Bounded(transport or _Connections(settings.concurrency, settings.base_url)),
            timeout=settings.timeout_s,
            # A packed megabyte may unpack to a thousand.
            headers={"Accept-Encoding": "identity"},
            follow_redirects=False,
        )
        self._client = openai.AsyncOpenAI(
            base_url=settings.base_url,
            api_key=settings.secret or "none",
            max_retries=0,
            # Version 3 annotates its own fork of httpx, and takes httpx as well.
            http_client=cast("Any", self._http),
        )
        # What isn't given the package takes from the environment: it would send another service's
        # key to this address.
        self._headers = {
            "Authorization": f"Bearer {settings.secret}" if settings.secret else openai.omit,
            "OpenAI-Organization": openai.omit,
            "OpenAI-Project": openai.omit,
        }

        self._at_work = asyncio.Semaphore(settings.concurrency if transport else _AT_WORK)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def call(
        self, messages: Sequence[Message], response_format: Mapping[str, object] | None
    ) -> CallReply | CallFailure:
        """Ask once.

        Args:
            messages: the conversation.
            response_format: as chat completions take it; None for any text.

        Returns:
            The reply or why there is none. A driver's error is not kept: it may hold the key.
        """
        secret = self._settings.secret
        try:
            async with _Turn(self._at_work), asyncio.timeout(self._settings.timeout_s):
                response = await self._post(self._body(messages, response_format))
        except (TimeoutError, openai.APITimeoutError) as error:
            asked = not isinstance(error.__cause__, httpx.ConnectTimeout | httpx.PoolTimeout)
            return _failure(f"no answer within {self._settings.timeout_s:g} s", may_be_paid=asked)
        except openai.APIStatusError as error:
            header = error.response.headers.get("retry-after")
            status, body = error.status_code, error.response.content
            return status_failure(status, body, secret=secret, retry_after=header)
        except (openai.APIConnectionError, httpx.HTTPError) as error:
            return _connection_failure(error, secret)
        except UnicodeEncodeError:
            return CallFailure(
                kind="refused",
                reason="the question is no UTF-8 text",
                retries="never",
                healthy=None,
            )
        return reply_of(response.content, api=self._settings.api, secret=secret)

    async def _post(self, body: Mapping[str, object]) -> httpx.Response:
        # The package's general call: the typed ones cost half as much again, and read no less
        # from a body that is not what it should be.
        return await self._client.post(
            _PATHS[self._settings.api],
            cast_to=httpx.Response,
            body=body,
            options={"headers": self._headers},
        )

    def _body(
        self, messages: Sequence[Message], response_format: Mapping[str, object] | None
    ) -> dict[str, object]:
        settings = self._settings
        said = [{"role": m.role, "content": m.content} for m in messages]
        body: dict[str, object] = {"model": settings.model}
        if settings.temperature is not None:
            body["temperature"] = settings.temperature
        if settings.api == "chat":
            body |= {"messages": said, "max_tokens": settings.max_output_tokens}
            return body | ({} if response_format is None else {"response_format": response_format})
        body |= {"input": said, "max_output_tokens": settings.max_output_tokens}
        return body | ({} if response_format is None else {"text": _text_format(response_format)})


def _proxy_for(url: str) -> str | None:
    """The proxy that the environment names for an address; none for this machine itself."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host in _LOOPBACK or proxy_bypass(host):
        return None
    proxies = getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")


def _text_format(response_format: Mapping[str, object]) -> dict[str, object]:
    """The same format as the responses API takes it: one level less."""
    schema = response_format.get("json_schema")
    inner = schema if isinstance(schema, Mapping) else {}
    return {"format": {"type": response_format["type"], **inner}}


def _failure(reason: str, *, may_be_paid: bool = False) -> CallFailure:
    return CallFailure(
        kind="unavailable", reason=reason, retries="often", healthy=False, may_be_paid=may_be_paid
    )


def _connection_failure(error: Exception, secret: str | None) -> CallFailure:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, _UnfitResponseError):
        cause = cause.__cause__
    if cause is not None:
        return CallFailure(
            kind="unreadable",
            reason=str(cause),
            retries="once",
            healthy=False,
            may_be_paid=True,
        )
    root = error.__cause__ or error
    said = redacted(str(root), secret)
    words = f"{type(root).__name__}{f' {excerpt(said)}' if said else ''}"
    return _failure(
        f"the connection failed: {words}",
        # Where no connection was made, nothing was asked.
        may_be_paid=not isinstance(root, httpx.ConnectError),
    )


class _Turn:
    """Leave to use the CPU for one call, given back while the call waits for the network.

    Hundreds of calls that are prepared side by side are all ready at the end of that work, wait
    side by side, and come back side by side. One after the other they use the CPU while others
    wait.
    """

    def __init__(self, at_work: asyncio.Semaphore) -> None:
        self._at_work = at_work
        self._is_held = False

    async def __aenter__(self) -> None:
        await self._take()
        _turn.set(self)

    async def __aexit__(self, *_: object) -> None:
        self._give_back()

    async def trace(self, event: str, _details: object) -> None:
        """Follow the call by what httpx's transport says of it."""
        if event == "http11.send_request_headers.started":
            await self._take()
        elif event in ("connection.connect_tcp.started", "http11.send_request_body.complete"):
            self._give_back()

    async def _take(self) -> None:
        if not self._is_held:
            await self._at_work.acquire()
            self._is_held = True

    def _give_back(self) -> None:
        if self._is_held:
            self._is_held = False
            self._at_work.release()


_turn: ContextVar[_Turn] = ContextVar("_turn")


class _UnfitResponseError(httpx.RequestError):
    """A response too long to be read, or packed though we asked for plain bytes."""


class _BoundedStream(httpx.AsyncByteStream):
    """A response's body up to the bound."""

    def __init__(self, inner: httpx.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._inner:
            size += len(chunk)
            if size > MAX_RESPONSE_BYTES:
                raise _UnfitResponseError(
                    f"the response is longer than {MAX_RESPONSE_BYTES:,} bytes"
                )
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Bounded(httpx.AsyncBaseTransport):
    """Another transport whose responses are plain and short."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        stream = cast("httpx.AsyncByteStream", response.stream)
        encoding = response.headers.get("content-encoding", "identity")
        if encoding != "identity":
            await stream.aclose()
            raise _UnfitResponseError(f"the response is packed as {excerpt(encoding, 30)}")
        response.stream = _BoundedStream(stream)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _LentStream(httpx.AsyncByteStream):
    """A response's body on a connection that is given back when it is closed."""

    def __init__(self, inner: httpx.AsyncByteStream, give_back: Callable[[], None]) -> None:
        self._inner = inner
        self._give_back: Callable[[], None] | None = give_back

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._inner:
            yield chunk

    async def aclose(self) -> None:
        give_back, self._give_back = self._give_back, None
        try:
            await self._inner.aclose()
        finally:
            if give_back:
                give_back()


class _Connections(httpx.AsyncBaseTransport):
    """So many kept connections, each in a pool of its own.

    One pool looks at all its connections for each request: at 500 that takes 24 ms of CPU a
    request (docs/decisions/model-client.md).

    Args:
        size: requests in flight at most.
        url: where they go.
    """

    def __init__(self, size: int, url: str) -> None:
        # A context without certificates trusts nobody; loading them takes some 50 ms.
        is_plain = urlsplit(url).scheme == "http"
        context = (
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if is_plain else httpx.create_ssl_context()
        )
        one = httpx.Limits(max_connections=1, max_keepalive_connections=1)
        proxy = _proxy_for(url)
        self._all = [
            httpx.AsyncHTTPTransport(verify=context, limits=one, proxy=proxy) for _ in range(size)
        ]
        self._free = list(self._all)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        # The last one used is the next: few stay open when few are needed.
        connection = self._free.pop()
        request.extensions = {**request.extensions, "trace": _turn.get().trace}
        try:
            response = await connection.handle_async_request(request)
        except BaseException:
            self._free.append(connection)
            raise
        stream = cast("httpx.AsyncByteStream", response.stream)
        response.stream = _LentStream(stream, lambda: self._free.append(connection))
        return response

    async def aclose(self) -> None:
        for connection in self._all:
            await connection.aclose()
