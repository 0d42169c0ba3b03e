"""HTTP: from bytes to requests, and from answers to bytes."""

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.workspace_fake.requests import (
    Answer,
    Document,
    Refused,
    Reply,
    Request,
    invalid,
)

__all__ = ["Server", "handler"]

_JSON = {"Content-Type": "application/json"}


class Server(ThreadingHTTPServer):
    """A thread for each connection; many may come at once without any being turned away."""

    request_queue_size = 128


def handler(
    answer: Callable[[Request, str, str | None], Answer],
) -> type[BaseHTTPRequestHandler]:
    """What the server calls for each request.

    Args:
        answer: takes the request, its path as it came, and the header with the token.
    """

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            if self.path.startswith("/.well-known/"):  # the SDK looks for it at first
                self._send(Reply(b"{}", _JSON, 404))
                return
            try:
                raw_path, request = self._request()
                self._send(_reply(answer(request, raw_path, self.headers.get("Authorization"))))
            except Refused as refused:
                content = json.dumps(refused.body).encode()
                self._send(Reply(content, _JSON | refused.headers, refused.status))
            except Exception as error:  # noqa: BLE001 - a silent end would be retried for minutes
                said = {
                    "error_code": "INTERNAL_ERROR",
                    "message": f"{type(error).__name__}: {error}",
                }
                self._send(Reply(json.dumps(said).encode(), _JSON, 500))

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

        def _request(self) -> tuple[str, Request]:
            address = urlsplit(self.path)
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            query = dict(parse_qsl(address.query, keep_blank_values=True))
            body: Document = {}
            is_file = address.path.startswith("/api/2.0/fs/files/")
            if content and not is_file:
                body, content = _document(content), b""
            path = unquote(address.path)
            return address.path, Request(self.command, path, query, body, content)

        def _send(self, reply: Reply) -> None:
            self.send_response(reply.status)
            lengths = {"Content-Length": str(len(reply.content))}
            for name, value in (lengths | reply.headers).items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


def _document(content: bytes) -> Document:
    try:
        document = json.loads(content)
    except ValueError as error:
        raise Refused(400, "MALFORMED_REQUEST", f"The body is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise invalid("The body is no object")
    return document


def _reply(answer: Answer) -> Reply:
    if isinstance(answer, Reply):
        return answer
    content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return Reply(content, dict(_JSON))
