"""SQL warehouses, and the statements that are run on them."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from json import dumps

from tests.workspace_fake.requests import (
    Document,
    Refused,
    Request,
    Route,
    invalid,
    not_found,
    paged,
    taken,
)
from tests.workspace_fake.shapes import check_arguments
from tests.workspace_fake.state import ME, Common, Course, Store

__all__ = ["Column", "Executor", "Warehouses"]

Column = tuple[str, str]
"""Name and SQL type."""

Executor = Callable[[str, dict[str, object]], tuple[Sequence[Column], Sequence[Sequence[object]]]]
"""Runs a statement with its parameters: columns and rows, or an exception if it fails."""

_API = "/api/2.0/sql"
_TYPE_NAMES = {
    "BIGINT": "LONG", "INTEGER": "INT", "SMALLINT": "SHORT", "TINYINT": "BYTE", "REAL": "FLOAT",
    "VARCHAR": "STRING", "TEXT": "STRING", "TIMESTAMP_NTZ": "TIMESTAMP",
}  # fmt: skip
_READERS: dict[str, Callable[[str], object]] = {
    "STRING": str,
    "BOOLEAN": lambda text: text.lower() == "true",
    "DECIMAL": Decimal,
    "DATE": date.fromisoformat,
    **dict.fromkeys(("INT", "INTEGER", "BIGINT", "LONG", "SMALLINT", "TINYINT"), int),
    **dict.fromkeys(("DOUBLE", "FLOAT"), float),
    **dict.fromkeys(("TIMESTAMP", "TIMESTAMP_NTZ"), datetime.fromisoformat),
}


@dataclass
class _Statement:
    course: Course
    result: Document


class Warehouses:
    """The service.

    Args:
        common: of the workspace.
        execute: runs statements; without it they are refused.
    """

    def __init__(self, common: Common, execute: Executor | None) -> None:
        self.common = common
        self.execute = execute
        self.warehouses = Store(common)
        self.slow_statements = 0  # how many looks at a statement see it under way
        self._courses: dict[str, Course] = {}
        self._statements: dict[str, _Statement] = {}

    def routes(self) -> Iterator[Route]:
        """Methods, paths, and what answers them."""
        yield "GET", f"{_API}/warehouses", self.listed
        yield "POST", f"{_API}/warehouses", self.create
        yield "GET", f"{_API}/warehouses/([^/]+)", self.get
        yield "DELETE", f"{_API}/warehouses/([^/]+)", self.delete
        yield "POST", f"{_API}/warehouses/([^/]+)/start", self.start
        yield "POST", f"{_API}/warehouses/([^/]+)/stop", self.stop
        yield "POST", f"{_API}/warehouses/([^/]+)/edit", self.edit
        yield "POST", f"{_API}/statements", self.run
        yield "GET", f"{_API}/statements/([^/]+)", self.statement
        yield "POST", f"{_API}/statements/([^/]+)/cancel", self.cancel

    def listed(self, request: Request) -> Document:
        """All warehouses."""
        request.only("page_size", "page_token", "run_as_user_id")
        seen = [self._seen(name, document) for name, document in self.warehouses.looks()]
        return paged(request, "warehouses", seen)

    def create(self, request: Request) -> Document:
        """A new warehouse, which starts."""
        request.only(bodiless=False)
        needed = ("name", "cluster_size")
        check_arguments(request.body, "sql.WarehousesAPI", "create", required=needed)
        self._check_name(request.body["name"])
        identity = self.add(**{**request.body, "state": "STARTING"})
        return {"id": identity}

    def add(self, name: str, state: str = "RUNNING", **more: object) -> str:
        """A warehouse, without a call; its id.

        Args:
            name: what people see.
            state: `RUNNING`, `STOPPED` or `STARTING`.
            more: its other fields.
        """
        identity = f"warehouse{self.common.number('warehouse')}"
        document = {"num_clusters": 1, "creator_name": ME, **more, "id": identity, "name": name}
        self.warehouses.add(identity, document)
        states = ("STARTING", "RUNNING") if state == "STARTING" else (state,)
        self._courses[identity] = self.common.course(*states)
        return identity

    def get(self, request: Request, identity: str) -> Document:
        """One warehouse."""
        request.only()
        document = self.warehouses.look(identity)
        if document is None:
            raise not_found(f"SQL warehouse {identity}")
        return self._seen(identity, document)

    def edit(self, request: Request, identity: str) -> Document:
        """Another size, name, time until it stops."""
        request.only(bodiless=False)
        check_arguments(request.body, "sql.WarehousesAPI", "edit", elsewhere=("id",))
        self.need(identity)
        self._check_name(request.body.get("name", ""), identity)
        self.warehouses[identity].update(request.body)
        return {}

    def delete(self, request: Request, identity: str) -> Document:
        """A warehouse that goes."""
        request.only()
        self.need(identity)
        self.warehouses.remove(identity)
        return {}

    def start(self, request: Request, identity: str) -> Document:
        """A warehouse that starts."""
        request.only()
        self.need(identity)
        if self._courses[identity].state != "RUNNING":
            self._courses[identity] = self.common.course("STARTING", "RUNNING")
        return {}

    def stop(self, request: Request, identity: str) -> Document:
        """A warehouse that stops."""
        request.only()
        self.need(identity)
        if self._courses[identity].state != "STOPPED":
            self._courses[identity] = self.common.course("STOPPING", "STOPPED")
        return {}

    def run(self, request: Request) -> Document:
        """A statement, which starts its warehouse if need be."""
        request.only(bodiless=False)
        check_arguments(request.body, "sql.StatementExecutionAPI", "execute_statement")
        body = request.body
        seconds = _seconds(body.get("wait_timeout", "10s"))
        for field, only in (("disposition", "INLINE"), ("format", "JSON_ARRAY")):
            if body.get(field, only) != only:
                raise invalid(f"{field} {body[field]} is not modelled")
        self.need(body["warehouse_id"])
        if self.execute is None:
            raise Refused(400, "BAD_REQUEST", "This workspace has no executor for statements")
        self._courses[body["warehouse_id"]] = Course(["RUNNING"])
        identity = f"statement-{self.common.number('statement')}"
        result = self._result(body, self.execute)
        looks = max(self.slow_statements, 0 if seconds else 1)
        states = ["PENDING", *["RUNNING"] * (looks - 1)] if looks else []
        last = str(result["status"]["state"])
        if states and seconds and body.get("on_wait_timeout") == "CANCEL":
            states, last, result = [], "CANCELED", {"status": {"state": "CANCELED"}}
        self._statements[identity] = _Statement(Course([*states, last]), result)
        return self._said(identity)

    def statement(self, request: Request, identity: str) -> Document:
        """How far a statement is."""
        request.only()
        if identity not in self._statements:
            raise not_found(f"The statement {identity}")
        return self._said(identity)

    def cancel(self, request: Request, identity: str) -> Document:
        """A statement that ends, unless it has ended."""
        request.only()
        if identity not in self._statements:
            raise not_found(f"The statement {identity}")
        if not self._statements[identity].course.has_ended:
            ended = {"status": {"state": "CANCELED"}}
            self._statements[identity] = _Statement(Course(["CANCELED"]), ended)
        return {}

    def _said(self, identity: str) -> Document:
        statement = self._statements[identity]
        state = statement.course.look()
        if state in {"PENDING", "RUNNING"}:
            return {"statement_id": identity, "status": {"state": state}}
        return {"statement_id": identity, **statement.result}

    def _result(self, body: Document, execute: Executor) -> Document:
        parameters = {item["name"]: _value(item) for item in body.get("parameters", ())}
        try:
            with self.common.outside():
                columns, rows = execute(body["statement"], parameters)
        except Exception as error:  # noqa: BLE001 - whatever it is, the statement has failed
            failure = {"error_code": "BAD_REQUEST", "message": str(error)}
            return {"status": {"state": "FAILED", "error": failure}}
        limit = body.get("row_limit", len(rows))
        return _manifest(columns, rows[:limit], is_truncated=len(rows) > limit)

    def _seen(self, identity: str, document: Document) -> Document:
        if identity not in self.warehouses:
            return {**document, "state": "DELETING"}
        return {**document, "state": self._courses[identity].look()}

    def need(self, identity: str) -> None:
        """Refuse a warehouse that doesn't exist.

        Args:
            identity: its id.

        Raises:
            Refused: there is none.
        """
        if identity not in self.warehouses:
            raise not_found(f"SQL warehouse {identity}")

    def _check_name(self, name: str, mine: str = "") -> None:
        for identity, document in self.warehouses.items.items():
            if document["name"] == name and identity != mine:
                raise taken(f"SQL warehouse '{name}'")

    def snapshot(self) -> Document:
        """The warehouses."""
        return {"warehouses": self.warehouses.snapshot()}


def _seconds(text: str) -> int:
    found = re.fullmatch(r"(\d+)s", text)
    seconds = int(found[1]) if found else -1
    if seconds and not 5 <= seconds <= 50:
        raise invalid(f"wait_timeout is {text!r}: 0s, or 5s to 50s")
    return seconds


def _value(item: Document) -> object:
    """A parameter's value in its type; values come as text."""
    text, kind = item.get("value"), str(item.get("type", "STRING")).upper().partition("(")[0]
    if kind not in _READERS:
        raise invalid(f"the parameter {item['name']} has the type {kind}, which is not modelled")
    if text is None:
        return None
    try:
        return _READERS[kind](text)
    except (ValueError, ArithmeticError) as error:
        raise invalid(f"the parameter {item['name']} is {text!r}, not {kind}") from error


def _manifest(
    columns: Sequence[Column], rows: Sequence[Sequence[object]], *, is_truncated: bool
) -> Document:
    described = [
        {
            "name": name,
            "position": position,
            "type_name": _TYPE_NAMES.get(kind.partition("(")[0], kind.partition("(")[0]),
            "type_text": kind,
        }
        for position, (name, kind) in enumerate(columns)
    ]
    sent = [[_text(value) for value in row] for row in rows]
    chunk = {"chunk_index": 0, "row_offset": 0, "row_count": len(sent)}
    return {
        "status": {"state": "SUCCEEDED"},
        "manifest": {
            "format": "JSON_ARRAY",
            "schema": {"column_count": len(described), "columns": described},
            "total_chunk_count": 1,
            "total_row_count": len(sent),
            "truncated": is_truncated,
            "chunks": [chunk],
        },
        "result": {**chunk, **({"data_array": sent} if sent else {})},
    }


def _text(value: object) -> str | None:
    """A value as it is in a JSON array: text, whatever its type."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").partition("+")[0] + "Z"
    if isinstance(value, list | dict):
        return dumps(value, default=str)
    return str(value)
