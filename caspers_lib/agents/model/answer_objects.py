"""The one object in a text that a model wrote: tolerant in form, bounded in size and depth.

A reasoning model's thoughts are skipped. Code fences, text around the object, a list of one, single
or curly quotes, Python's `None`, `True` and `False`, bare keys, comments, trailing commas and line
breaks inside of strings are read. All is done in one pass of a tokenizer that rewrites such a text
as JSON: reading it as a Python literal would take the last of two equal keys, and a library that
repairs JSON would guess what a broken text meant.
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal, InvalidOperation

from caspers_lib.agents.model.excerpts import excerpt
from caspers_lib.errors import AnswerError

__all__ = ["MAX_ANSWER_CHARS", "MAX_DEPTH", "found_object", "read_number", "without_thoughts"]

MAX_ANSWER_CHARS = 64 * 1024
"""A longer text, thoughts aside, is refused unread."""

_MAX_TEXT_CHARS = 4 * MAX_ANSWER_CHARS  # with its thoughts

MAX_DEPTH = 8
"""An object nested deeper is refused."""

_MAX_UNCLOSED = 16  # openings that never close; each costs a pass over the rest of the text

_DOUBLE, _SINGLE = r"\u201c\u201d\u201e", r"\u2018\u2019\u201a"  # curly quotes
# Possessive, so that what is never closed costs one pass and no backtracking.
_COMMENT = r"(?: //[^\n]*+ | \#[^\n]*+ | /\*(?:[^*]|\*(?!/))*+(?:\*/)? )"
_DOLLARS = r"[0-9]{1,9}(?:,[0-9]{3}){0,3}(?:\.[0-9]{1,9})?"
_TOKEN = re.compile(
    rf"""
      (?P<string> "(?:[^"\\]|\\.)*+" | '(?:[^'\\]|\\.)*+'
                | [{_DOUBLE}](?:[^{_DOUBLE}\\]|\\.)*+[{_DOUBLE}]
                | [{_SINGLE}](?:[^{_SINGLE}\\]|\\.)*+[{_SINGLE}] )
    | (?P<unclosed> ["'] )
    | (?P<open> [{{\[] )
    | (?P<close> [}}\]] )
    | (?P<trailing> ,(?=(?:\s|{_COMMENT})*+[}}\]]) )
    | (?P<comment> {_COMMENT} )
    | (?P<bare> [A-Za-z_]\w*+(?=\s*+:) | \$\s?{_DOLLARS} | {_DOLLARS}\s?USD\b )
    | (?P<python> (?:True|False|None)(?!\w) )
    | (?P<other> \w+ | [^\w"'{_DOUBLE}{_SINGLE}{{}}\[\],/\#$]+ | . )
    """,
    re.VERBOSE | re.DOTALL,
)
_TAG_NAMES = "(?:think|thinking|thoughts?|reasoning|reflection)"
_CHANNEL, _MESSAGE = r"<\|channel\|>\s*", r"\b[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>"
_THOUGHT_TAG = re.compile(
    rf"""
      (?P<opens> <{_TAG_NAMES}> | \[THINK\] | ◁think▷
                | {_CHANNEL}(?:analysis|commentary){_MESSAGE} )
    | (?P<closes> </{_TAG_NAMES}> | \[/THINK\] | ◁/think▷ )
    | (?P<ends> <\|end\|> )
    | (?P<answers> {_CHANNEL}final{_MESSAGE} | \bassistantfinal )
    """,
    re.VERBOSE | re.IGNORECASE,
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
    answer = without_thoughts(text) if len(text) <= _MAX_TEXT_CHARS else text
    if len(answer) > MAX_ANSWER_CHARS:
        raise AnswerError(
            f"The answer has {len(answer):,} characters; at most {MAX_ANSWER_CHARS:,} are read"
        )
    found: dict[str, object] | None = None
    for value, _, _ in _values(answer):
        if said := _said_in_parts(value):
            return found_object(said)
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


def without_thoughts(text: str) -> str:
    """The text less a reasoning model's thoughts, which may hold drafts of the answer.

    Args:
        text: what a model wrote: thoughts between tags, after an opening tag that never closes,
            before a closing tag that never opened, or in the channels of the harmony format.
    """
    if not _THOUGHT_TAG.search(text):
        return text
    # An answer may quote a customer who writes such a tag.
    edges = [0, *(edge for span in _spans(text) for edge in span), len(text)]
    prose = zip(edges[::2], edges[1::2], strict=True)
    kept: list[str] = []
    start, is_thought = 0, False
    for tag in (tag for begin, end in prose for tag in _THOUGHT_TAG.finditer(text, begin, end)):
        if tag.lastgroup == "opens":
            if not is_thought:
                kept.append(text[start : tag.start()])
            is_thought = True
        elif tag.lastgroup == "ends" and not is_thought:
            continue
        else:
            if tag.lastgroup == "answers" or not is_thought:
                kept.clear()
            start, is_thought = tag.end(), False
    return "".join(kept) + ("" if is_thought else text[start:])


def _said_in_parts(value: dict[str, object] | list[object]) -> str:
    """The text of a message's parts, where a server hands them over as text; empty for others."""
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, dict) and isinstance(part.get("type"), str) for part in parts):
        return ""
    said = (part for part in parts if isinstance(part, dict) and part["type"] == "text")
    return "".join(str(part.get("text", "")) for part in said)


def _spans(text: str) -> list[tuple[int, int]]:
    """Where the values of a text begin and end, up to one that is refused."""
    spans = []
    with suppress(AnswerError):
        for _, start, end in _values(text):
            spans.append((start, end))
    return spans


def _values(text: str) -> Iterator[tuple[dict[str, object] | list[object], int, int]]:
    """Each object of a text, and each list of objects, with its place; other text is prose.

    A list of one object is that object.
    """
    place, unclosed = 0, 0
    while (opening := _OPENING.search(text, place)) and unclosed < _MAX_UNCLOSED:
        start = opening.start()
        rewritten, end = _as_json(text, start)
        if rewritten is None:
            place, unclosed = opening.end(), unclosed + 1
            continue
        place = end
        value = _read(rewritten)
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
            value = value[0]
        if isinstance(value, dict) or (isinstance(value, list) and _holds_object(value)):
            yield value, start, end


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
    if kind == "bare":
        return f'"{written}"'
    if kind in ("trailing", "comment"):
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
