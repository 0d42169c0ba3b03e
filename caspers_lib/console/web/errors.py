"""Errors as answers: one shape, one sentence, no traces, no words of the driver; a page for people.

`{"code": "stale", "message": "...", "hint": "..."}`
"""

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import psycopg
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from caspers_lib.console.databases import AbsentDatabaseError
from caspers_lib.console.decisions.values import Refusal, RefusalCode
from caspers_lib.console.pages import path_below_root, render
from caspers_lib.console.panels import GRANT_HINT, LACKING_RIGHT
from caspers_lib.errors import ConsoleError, PostgresError

__all__ = ["STATUS_CODES", "Refused", "error_answer", "install_errors", "refusals"]

logger = logging.getLogger(__name__)

STATUS_CODES: Mapping[RefusalCode, int] = MappingProxyType(
    {
        "forbidden": 403,
        "above_limit": 403,
        "above_total": 422,
        "not_found": 404,
        "stale": 409,
        "wrong_status": 409,
        "wrong_request": 422,
        "key_reused": 409,
        "no_total": 409,
        "suggestion_changed": 409,
        "lost_connection": 503,
    }
)
_LONGEST_MESSAGE = 500


class Refused(BaseModel):
    """Why a request was refused.

    Args:
        code: one word for a program.
        message: one sentence for a person.
        hint: what to do about it; may be empty.
    """

    code: str
    message: str
    hint: str


def refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of a route, for its description.

    Args:
        codes: their status codes.
    """
    return {code: {"model": Refused} for code in codes}


def error_answer(error: Exception) -> tuple[int, dict[str, str]]:
    """Status code and document of an error.

    Args:
        error: a refusal, a wrong request, or what the database said.
    """
    if isinstance(error, Refusal):
        code: str = error.code
        return STATUS_CODES[error.code], _document(code, error.message, error.hint)
    if isinstance(error, RequestValidationError):
        return 422, _document(
            "wrong_request", _wrong(error), "It is described at /api/openapi.json."
        )
    if isinstance(error, ConsoleError):
        return 400, _document("wrong_request", error.message, error.hint)
    if isinstance(error, AbsentDatabaseError):
        return 404, _document("no_database", error.message, "")
    return _of_database(error)


def install_errors(app: FastAPI) -> None:
    """Answer errors in that shape.

    Args:
        app: the application.
    """

    def answer(request: Request, error: Exception) -> Response:
        code, document = error_answer(error)
        if path_below_root(request).startswith("/api/") or "text/html" not in request.headers.get(
            "accept", ""
        ):
            return JSONResponse(document, status_code=code)
        words = " ".join(filter(None, (document["message"], document["hint"])))
        return render(request, "error.html", code=code, words=words, status=code)

    for kind in (ConsoleError, PostgresError, psycopg.Error, RequestValidationError):
        app.add_exception_handler(kind, answer)


def _of_database(error: Exception) -> tuple[int, dict[str, str]]:
    # The driver's words may name hosts and users: they belong in the log.
    logger.warning("the database failed: %s", error)
    if isinstance(error, psycopg.errors.UndefinedTable):
        return 503, _document("not_there", "The first sync is not done yet.", "Try again soon.")
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return 503, _document("no_right", LACKING_RIGHT, GRANT_HINT)
    if isinstance(error, (PostgresError, psycopg.OperationalError)):
        return 503, _document("no_database", "The database does not answer.", "Try again soon.")
    return 500, _document("failed", "The database refused what the console asked.", "See its log.")


def _document(code: str, message: str, hint: str) -> dict[str, str]:
    return {"code": code, "message": message, "hint": hint}


def _wrong(error: RequestValidationError) -> str:
    """Where and what; not the input itself, which may be long or hostile."""
    found = [
        f"{'.'.join(str(part)[:50] for part in each['loc'])}: {each['msg']}"
        for each in error.errors()
    ]
    return "; ".join(found)[:_LONGEST_MESSAGE]
