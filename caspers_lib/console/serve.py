"""Serving the console from a thread of the process that runs the business."""

import errno
import socket
import threading
import time
from types import TracebackType
from typing import Self

import uvicorn
from fastapi import FastAPI

from caspers_lib.errors import ConsoleError

__all__ = ["ConsoleServer"]

MAX_PORT = 65535
# The longest filter that the API describes, percent-encoded, in the address of a request.
MAX_HEAD_BYTES = 512 * 1024
START_SECONDS = 120.0
# Requests still at work when the server stops may finish within this time.
GRACE_SECONDS = 1
POLL_SECONDS = 0.02


class ConsoleServer:
    """A web server in a thread, up inside its `with` block.

    Args:
        app: the application.
        host: the address to listen on.
        port: the port; 0 takes a free one.

    Raises:
        ConsoleError: on entering, if the address can't be had or the server doesn't start.
    """

    def __init__(self, app: FastAPI, host: str = "127.0.0.1", port: int = 8000) -> None:
        self._app = app
        self._host = host
        self._port = port
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The page's address; with port 0 the port is known inside the block."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    def __enter__(self) -> Self:
        """Bind the address and answer requests."""
        listener = _bound_socket(self._host, self._port)
        self._port = listener.getsockname()[1]
        # Signals belong to the host process: uvicorn takes them only in the main thread.
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._app,
                log_config=None,
                log_level="warning",
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                # Whom to believe about the address is the application's setting.
                proxy_headers=False,
                h11_max_incomplete_event_size=MAX_HEAD_BYTES,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name="console", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                self._stop()
                listener.close()
                raise ConsoleError(f"the console's web server did not start on {self.url}")
            time.sleep(POLL_SECONDS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop answering; idle connections are closed at once."""
        self._stop()

    def _stop(self) -> None:
        if self._server is not None and self._thread is not None:
            # What streams without an end would be waited for.
            for end in getattr(self._app.state, "endings", ()):
                end()
            self._server.should_exit = True
            self._thread.join(timeout=GRACE_SECONDS + 5)


def _bound_socket(host: str, port: int) -> socket.socket:
    if not 0 <= port <= MAX_PORT:
        raise ConsoleError(
            f"port {port} is not a port; allowed are 0 to {MAX_PORT}",
            hint="--port 0 picks a free one",
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise _bind_error(host, port, error) from error
    # asyncio does so only for sockets it made; without it an answer in two pieces waits 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _bind_error(host: str, port: int, error: OSError) -> ConsoleError:
    if error.errno == errno.EADDRINUSE:
        return ConsoleError(
            f"port {port} on {host} is in use by another program",
            hint="--port 0 picks a free one",
        )
    return ConsoleError(
        f"can't listen on {host} port {port}: {error.strerror or error}",
        hint="--host 127.0.0.1 --port 0 picks a free port on this machine",
    )
