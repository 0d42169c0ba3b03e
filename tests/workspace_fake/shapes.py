"""Bodies against the SDK's own classes: unknown fields, unknown values, missing fields."""

import inspect
import typing
from collections.abc import Collection
from dataclasses import MISSING, fields
from enum import Enum
from functools import cache
from importlib import import_module
from typing import Any, Union, get_args, get_origin, get_type_hints

from tests.workspace_fake.requests import Document, invalid

__all__ = ["check_arguments", "check_document"]

_SIMPLE: dict[Any, tuple[type, ...]] = {
    bool: (bool,),
    int: (int,),
    float: (int, float),
    str: (str,),
}
# A job's parameter may have nothing as its default.
_MAY_BE_EMPTY = {"default"}


def check_arguments(
    body: Document,
    service: str,
    method: str,
    *,
    elsewhere: Collection[str] = (),
    required: Collection[str] = (),
) -> None:
    """Refuse a body that a method of the SDK doesn't send.

    Args:
        body: the document.
        service: the SDK's module and class, such as `catalog.SchemasAPI`.
        method: the method, whose arguments are the body's fields.
        elsewhere: arguments that are in the path or in the query.
        required: fields that must be there besides those that the method demands.

    Raises:
        Refused: a field is unknown, missing, or of another kind.
    """
    known = _arguments(service, method)
    kinds = {name: kind for name, (kind, _) in known.items() if name not in elsewhere}
    needed = {name for name, (_, is_needed) in known.items() if is_needed} | set(required)
    _check_names(body, kinds, needed - set(elsewhere), "body")
    for name, value in body.items():
        _check(value, kinds[name], name)


def check_document(
    body: Document, service: str, *, required: Collection[str] = (), where: str = "body"
) -> None:
    """Refuse a body that is not what a class of the SDK is on the wire.

    Args:
        body: the document.
        service: the SDK's module and class, such as `apps.App`.
        required: fields that must be there besides those that the class demands.
        where: what it is called in the refusal.

    Raises:
        Refused: a field is unknown, missing, or of another kind.
    """
    kind = _class(service)
    _check_class(body, kind, where)
    if missing := sorted(name for name in required if body.get(name) in (None, "", [], {})):
        raise invalid(f"missing fields in {where}: {missing}")


def _check_names(
    body: Document, known: Collection[str], needed: Collection[str], where: str
) -> None:
    if unknown := sorted(set(body) - set(known)):
        raise invalid(f"unknown fields in {where}: {unknown}")
    missing = sorted(
        name
        for name in needed
        if body.get(name) is None or (body[name] == "" and name not in _MAY_BE_EMPTY)
    )
    if missing:
        raise invalid(f"missing fields in {where}: {missing}")


def _class(service: str) -> type:
    module, name = service.split(".")
    found: type = getattr(import_module(f"databricks.sdk.service.{module}"), name)
    return found


@cache
def _arguments(service: str, method: str) -> dict[str, tuple[Any, bool]]:
    """A method's arguments: their kinds, and whether they must be there."""
    function = getattr(_class(service), method)
    hints = get_type_hints(function)
    return {
        name: (hints[name], argument.default is inspect.Parameter.empty)
        for name, argument in inspect.signature(function).parameters.items()
        if name not in {"self", "timeout", "callback"}
    }


def _check(value: object, kind: Any, where: str) -> None:
    while get_origin(kind) is Union:  # an Optional
        kind = get_args(kind)[0]
    origin = get_origin(kind)
    if kind in _SIMPLE:
        is_flag = isinstance(value, bool) and kind is not bool
        if is_flag or not isinstance(value, _SIMPLE[kind]):
            raise invalid(f"{where} is {value!r}, not {kind.__name__}")
    elif origin in (list, typing.List):  # noqa: UP006 - what the SDK's annotations name
        if not isinstance(value, list):
            raise invalid(f"{where} is {value!r}, not a list")
        for place, item in enumerate(value):
            _check(item, get_args(kind)[0], f"{where}[{place}]")
    elif origin in (dict, typing.Dict):  # noqa: UP006
        if not isinstance(value, dict):
            raise invalid(f"{where} is {value!r}, not an object")
        for name, item in value.items():
            _check(item, get_args(kind)[1], f"{where}.{name}")
    elif isinstance(kind, type) and issubclass(kind, Enum):
        if value not in {member.value for member in kind}:
            raise invalid(f"{where} is {value!r}, which is unknown")
    elif hasattr(kind, "from_dict"):
        _check_class(value, kind, where)


def _check_class(value: object, kind: Any, where: str) -> None:
    if not isinstance(value, dict):
        raise invalid(f"{where} is {value!r}, not an object")
    hints = get_type_hints(kind)
    needed = [field.name for field in fields(kind) if field.default is MISSING]
    _check_names(value, hints, needed, where)
    for name, item in value.items():
        _check(item, hints[name], f"{where}.{name}")
