"""The one object in a text that a model wrote: tolerant in form, bounded in size and depth.

Code fences, text around the object, single quotes, Python's `None`, `True` and `False`, trailing
commas and line breaks inside of strings are read. All is done in one pass of a tokenizer that
rewrites such a text as JSON: reading it as a Python literal would take the last of two equal keys,
and print warnings about odd escapes.
"""

import json
import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation

from caspers_lib.agents.model.excerpts import excerpt
from caspers_lib.errors import AnswerError

__all__ = ["MAX_ANSWER_CHARS", "MAX_DEPTH", "found_object", "read_number"]

MAX_ANSWER_CHARS = 64 * 1024
"""A longer text is refused unread."""

MAX_DEPTH = 8
"""An object nested deeper is refused."""

_MAX_UNCLOSED = 16  # openings that never close; each costs a pass over the rest of the text
_THINKING, _THOUGHT = "<think>", "</think>"

# Possessive, so that a quote which is never closed costs one pass and no backtracking.
_TOKEN = re.compile(
    r"""
      (?P<string> "(?:[^"\\]|\\.)*+" | '(?:[^'\\]|\\.)*+' )
    | (?P<unclosed> ["'] )
    | (?P<open> [{\[] )
    | (?P<close> [}\]] )
    | (?P<trailing> ,(?=\s*+[}\]]) )
    | (?P<python> (?:True|False|None)(?!\w) )
    | (?P<other> \w+ | , | [^\w"'{}\[\],]+ )
    """,
    re.VERBOSE | re.DOTALL,
)
_OPENING = re.compile(r"[{\[]")
_JSON_NAMES = {"True": "true", "False": "false", "None": "null"}
_ESCAPE = re.compile(r'\\(?:x[0-9A-Fa-f]{2}|U[0-9A-Fa-f]{8}|.)|"', re.DOTALL)
_HIGHEST_CODE_POINT = 0x10FFFF


def found_object(text: str | None) -> dict[str, object]:
    """The one object that a text holds.

    Args:
        text: what a model wrote; None for no text at all.

    Returns:
        The object's values by key; numbers are decimals, NaN and infinity included.

    Raises:
        AnswerError: there is no object, more than one, or one that is too long or too deep.
    """
    if text is None or not text.strip():
        raise AnswerError("The answer is empty; it must be one JSON object")
    if len(text) > MAX_ANSWER_CHARS:
        raise AnswerError(
            f"The answer has {len(text):,} characters; at most {MAX_ANSWER_CHARS:,} are read"
        )
    found: dict[str, object] | None = None
    for value in _values(_without_thoughts(text)):
        if isinstance(value, list):
            raise AnswerError("The answer is a list; it must be one JSON object")
        if found is not None and value != found:
            raise AnswerError("The answer holds objects that differ; it must be one JSON object")
        found = value
    if found is None:
        raise AnswerError(f"The answer holds no JSON object: {excerpt(text.strip())}")
    return found


def read_number(text: str) -> Decimal:
    """The decimal that a JSON number writes; NaN if its exponent is beyond all measure."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal("NaN")


def _without_thoughts(text: str) -> str:
    """The text after a reasoning model's thoughts, which may hold drafts of the answer."""
    if not text.lstrip().startswith(_THINKING):
        return text
    return text.partition(_THOUGHT)[2] or text


def _values(text: str) -> Iterator[dict[str, object] | list[object]]:
    """Each object of a text, and each list that holds one; what isn't JSON is prose."""
    place, unclosed = 0, 0
    while (opening := _OPENING.search(text, place)) and unclosed < _MAX_UNCLOSED:
        rewritten, end = _as_json(text, opening.start())
        if rewritten is None:
            place, unclosed = opening.end(), unclosed + 1
            continue
        place = end
        value = _read(rewritten)
        if isinstance(value, dict) or (isinstance(value, list) and _holds_object(value)):
            yield value


def _as_json(text: str, start: int) -> tuple[str | None, int]:
    """What opens at `start` as JSON, and where it ends; None if it never closes."""
    parts: list[str] = []
    depth = 0
    for token in _TOKEN.finditer(text, start):
        kind, written = token.lastgroup, token.group()
        if kind == "unclosed":
            break
        if kind == "open":
            depth += 1
            if depth > MAX_DEPTH:
                raise AnswerError(
                    f"The answer is nested too deep; at most {MAX_DEPTH} levels are read"
                )
        parts.append(_rewritten(kind, written))
        if kind == "close":
            depth -= 1
            if depth == 0:
                return "".join(parts), token.end()
    return None, start


def _rewritten(kind: str | None, written: str) -> str:
    if kind == "string":
        return f'"{_ESCAPE.sub(_json_escape, written[1:-1])}"'
    if kind == "trailing":
        return ""
    return _JSON_NAMES[written] if kind == "python" else written


def _json_escape(found: re.Match[str]) -> str:
    """JSON's way of writing what Python writes as `\\'`, `\\xNN` or `\\UNNNNNNNN`."""
    written = found.group()
    if written == '"':
        return '\\"'
    if written == "\\'":
        return "'"
    if len(written) == 2:
        return written
    code = int(written[2:], 16)
    return json.dumps(chr(code))[1:-1] if code <= _HIGHEST_CODE_POINT else written


def _read(text: str) -> object:
    """The JSON value, or None for what is no JSON."""
    try:
        return json.loads(
            text,
            strict=False,
            parse_int=read_number,
            parse_float=read_number,
            parse_constant=Decimal,
            object_pairs_hook=_with_unique_keys,
        )
    except json.JSONDecodeError:
        return None


def _with_unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values: dict[str, object] = {}
    for key, value in pairs:
        if key in values:
            raise AnswerError(f"The answer has the key {excerpt(key, 40)} twice; once is allowed")
        values[key] = value
    return values


def _holds_object(values: list[object]) -> bool:
    return any(
        isinstance(value, dict) or (isinstance(value, list) and _holds_object(value))
        for value in values
    )
