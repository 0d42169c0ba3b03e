"""An agent behind mlflow's agent server, as a web application for any ASGI server.

It answers `POST /responses` and `/invocations` in OpenAI's Responses format, with or without `/v1`
before them, and `GET /health`. Importing this module loads neither mlflow nor a web framework.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from caspers_lib.agents.model.excerpts import excerpt
from caspers_lib.agents.serving.agent_logic import AgentLogic
from caspers_lib.errors import SettingsError

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

    from caspers_lib.agents.serving.quiet_mlflow import (
        ResponsesAgentRequest,
        ResponsesAgentResponse,
        ResponsesAgentStreamEvent,
    )
    from caspers_lib.agents.serving.responses_agent import CaspersResponsesAgent

__all__ = ["MAX_BODY_BYTES", "agent_app"]

MAX_BODY_BYTES = 1_000_000
"""A longer request is refused."""

_MAX_REASON_CHARS = 500
_FAILED = {"invalid_request": 422, "server_error": 500}

_Scope: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_App: TypeAlias = Callable[[_Scope, _Receive, _Send], Awaitable[None]]


def agent_app(logic: AgentLogic, *, threads: int = 32) -> "FastAPI":
    """The agent as a web application.

    From then on this process records no mlflow traces: there is no tracking server to take them.
    Several agents may be served by one process, each as an application of its own.

    Args:
        logic: the agent.
        threads: requests answered at the same time; each waits in a thread, so that none blocks
            another.

    Raises:
        SettingsError: this process has registered another function with mlflow's agent server.
    """
    from starlette.exceptions import HTTPException

    from caspers_lib.agents.serving.quiet_mlflow import agent_server, mlflow
    from caspers_lib.agents.serving.responses_agent import CaspersResponsesAgent

    mlflow.tracing.disable()
    _register_once()
    served = _Served(CaspersResponsesAgent(logic), ThreadPoolExecutor(threads, "agent"))
    app: FastAPI = agent_server.AgentServer("ResponsesAgent").app
    app.add_middleware(_Door, served=served)
    app.add_exception_handler(HTTPException, _told)
    return app


@dataclass(frozen=True, slots=True)
class _Served:
    agent: "CaspersResponsesAgent"
    threads: ThreadPoolExecutor


@dataclass(slots=True)
class _Request:
    """A request on its way; the status is that of its answer, if it isn't the usual one."""

    served: _Served
    status: int | None = None


# mlflow keeps one function for the whole process: it finds the request's agent here.
_request: ContextVar[_Request] = ContextVar("request")


async def _invoke(request: "ResponsesAgentRequest") -> "ResponsesAgentResponse":
    here = _request.get()
    loop = asyncio.get_running_loop()
    response = await loop.run_in_executor(here.served.threads, here.served.agent.predict, request)
    if response.error:
        # A client takes 200 for an answer that could be put right by asking again in other words.
        here.status = _FAILED.get(response.error.code or "", 500)
    return response


async def _stream(
    request: "ResponsesAgentRequest",
) -> AsyncGenerator["ResponsesAgentStreamEvent", None]:
    served = _request.get().served

    def events() -> list["ResponsesAgentStreamEvent"]:
        return list(served.agent.predict_stream(request))

    loop = asyncio.get_running_loop()
    for event in await loop.run_in_executor(served.threads, events):
        yield event


def _register_once() -> None:
    from caspers_lib.agents.serving.quiet_mlflow import agent_server

    if agent_server.get_invoke_function() is _invoke:  # type: ignore[no-untyped-call]
        return
    try:
        agent_server.invoke()(_invoke)
        agent_server.stream()(_stream)
    except ValueError as error:
        raise SettingsError(
            "Another agent is registered with mlflow's agent server in this process",
            hint="serve this one from a process of its own",
        ) from error


class _Door:
    """Lets in what the agent server can read, and refuses the rest with one clear sentence.

    A browser sends JSON to another site only if that site agrees, which this one never does: so no
    page that somebody happens to look at can ask the agent.
    """

    def __init__(self, app: _App, served: _Served) -> None:
        self._app = app
        self._served = served

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Pass a request on, its path without `/v1` and its body checked."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _Request(self._served)
        _request.set(request)
        scope["path"] = scope["path"].removeprefix("/v1")
        if scope["method"] == "POST":
            body = await _body(receive)
            checked = _checked(dict(scope["headers"]), body)
            if isinstance(checked, _Refusal):
                await _send_json(send, checked.status, _error(checked.reason))
                return
            receive = _again(checked, receive)

        async def send_status(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start" and request.status:
                message = {**message, "status": request.status}
            await send(message)

        await self._app(scope, receive, send_status)


@dataclass(frozen=True, slots=True)
class _Refusal:
    status: int
    reason: str


def _checked(headers: Mapping[bytes, bytes], body: bytes | None) -> bytes | _Refusal:
    """The body as the agent server reads it, or why it can't be read."""
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != b"application/json":
        shown = excerpt(kind.decode("latin-1"), 40)
        return _Refusal(415, f"The request's content type is {shown}; it must be application/json")
    if body is None:
        return _Refusal(413, f"The request is longer than {MAX_BODY_BYTES:,} bytes")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict) and isinstance(document.get("input"), list):
        return body
    if isinstance(document, dict) and isinstance(document.get("input"), str):
        # The API takes a text for one message of the user; the agent server takes lists only.
        said = [{"role": "user", "content": document["input"]}]
        return json.dumps(document | {"input": said}).encode()
    return _Refusal(
        400, "The request must be a JSON object whose input is a text or a list of messages"
    )


async def _body(receive: _Receive) -> bytes | None:
    """The request's body; None if it is too long."""
    body = b""
    while True:
        message = await receive()
        chunk: bytes = message.get("body", b"")
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return None
        if not message.get("more_body", False):
            return body


def _again(body: bytes, receive: _Receive) -> _Receive:
    """A way to receive a body that has been read; then whatever comes after it."""
    pending = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> MutableMapping[str, Any]:
        return pending.pop() if pending else await receive()

    return receive_again


async def _told(_: "Request", error: Exception) -> "Response":
    """An error of the agent server in the form of the API, on one line."""
    from fastapi.responses import JSONResponse
    from starlette.exceptions import HTTPException

    if not isinstance(error, HTTPException):
        raise error
    reason = " ".join(str(error.detail).split())[:_MAX_REASON_CHARS]
    return JSONResponse(_error(reason), status_code=error.status_code)


def _error(reason: str) -> dict[str, object]:
    return {"error": {"message": reason, "type": "invalid_request_error", "code": None}}


async def _send_json(send: _Send, status: int, document: Mapping[str, object]) -> None:
    body = json.dumps(document).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
