"""Requests as they come, answers that are errors, and the checks that all services share."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "Answer",
    "Call",
    "Document",
    "Refused",
    "Reply",
    "Request",
    "Route",
    "invalid",
    "merged_lines",
    "not_found",
    "paged",
    "taken",
]

Document = dict[str, Any]


class Refused(Exception):
    """An answer that is an error.

    Args:
        status: the HTTP status.
        code: the service's error code.
        message: what it says.
        headers: more headers; underscores become hyphens, as in `Retry_After="7"`.
    """

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.body: Document = {"error_code": code, "message": message}


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is no JSON document.

    Args:
        content: the body.
        headers: more headers.
        status: the HTTP status.
    """

    content: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200


Answer = Document | bytes | Reply


def not_found(what: str, code: str = "RESOURCE_DOES_NOT_EXIST") -> Refused:
    """The refusal of a reference to nothing.

    Args:
        what: what doesn't exist.
        code: the service's error code.
    """
    return Refused(404, code, f"{what} does not exist")


def invalid(message: str) -> Refused:
    """The refusal of a value.

    Args:
        message: what is wrong with it.
    """
    return Refused(400, "INVALID_PARAMETER_VALUE", message)


def taken(what: str, code: str = "RESOURCE_ALREADY_EXISTS") -> Refused:
    """The refusal of a name that something has.

    Args:
        what: what exists.
        code: the service's error code.
    """
    return Refused(409, code, f"{what} already exists")


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came.

    Args:
        method: such as `GET`.
        path: without the query, percent signs resolved.
        query: the last value of each name.
        body: the JSON document; empty if there is none.
        content: the bytes of a body that is no JSON document.
    """

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    body: Document = field(default_factory=dict)
    content: bytes = b""

    @property
    def call(self) -> str:
        """Method and path."""
        return f"{self.method} {self.path}"

    def only(self, *names: str, needs: Sequence[str] = (), bodiless: bool = True) -> None:
        """Refuse any other query, and a body that nothing reads.

        Args:
            names: queries that may be there.
            needs: queries that must be there.
            bodiless: whether there may be no body.

        Raises:
            Refused: something else is there, or something is missing.
        """
        if unknown := set(self.query) - {*names, *needs}:
            raise invalid(f"unknown query {sorted(unknown)}")
        if missing := [name for name in needs if not self.query.get(name)]:
            raise invalid(f"missing query {missing}")
        if bodiless and (self.body or self.content):
            raise invalid(f"unknown fields in body: {sorted(self.body) or 'bytes'}")

    def flag(self, name: str) -> bool:
        """A query that is true or false, and false if it is not there.

        Args:
            name: the query.

        Raises:
            Refused: it is neither.
        """
        value = self.query.get(name, "false").lower()
        if value not in {"true", "false"}:
            raise invalid(f"{name} is {value!r}, neither true nor false")
        return value == "true"


Route = tuple[str, str, Callable[..., Answer]]


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was answered.

    Args:
        method: such as `GET`.
        path: without the query, percent signs resolved.
        query: the last value of each name.
        body: the JSON document; empty if there was none.
        status: the HTTP status of the answer.
        size: how many bytes a body had that was no JSON document.
    """

    method: str
    path: str
    query: dict[str, str]
    body: Document
    status: int
    size: int = 0

    def __str__(self) -> str:
        """One line, the same for the same call."""
        query = self.query
        if "expire_time" in query:  # the SDK counts it from now, which no golden file could match
            query = {**query, "expire_time": "*"}
        asked = "&".join(f"{name}={value}" for name, value in sorted(query.items()))
        parts = [self.method, self.path + (f"?{asked}" if asked else "")]
        if self.body:
            parts.append(json.dumps(self.body, sort_keys=True, ensure_ascii=False))
        if self.size:
            parts.append(f"<{self.size} bytes>")
        return " ".join([*parts, "->", str(self.status)])


def paged(
    request: Request,
    key: str,
    items: Iterable[Document],
    size: str = "page_size",
) -> Document:
    """One page of a list.

    Args:
        request: may have the query `page_token`, and the page's size.
        key: the field of the answer.
        items: all that there are.
        size: the query that says how many a page has; 0 leaves it to the service.

    Raises:
        Refused: a query that is no number.
    """
    try:
        start = int(request.query.get("page_token") or 0)
        count = int(request.query.get(size) or 0)
    except ValueError as error:
        raise invalid(f"{size} or page_token is no number") from error
    every = list(items)
    if count <= 0:
        return {key: every[start:]}
    page: Document = {key: every[start : start + count]}
    if start + count < len(every):
        page["next_page_token"] = str(start + count)
    return page


def merged_lines(lines: Iterable[str]) -> Iterator[str]:
    """Lines without those that repeat the one before."""
    last = None
    for line in lines:
        if line != last:
            yield line
        last = line
