"""The form of a request to a model: which parameters it has, and how it adapts to a server.

Servers that call themselves OpenAI-compatible refuse different parameters, by HTTP 400 or 422 and
an error in one of a dozen shapes. Such an error is about the form, never about the question.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, TypeAlias

from caspers_lib.agents.model.settings import Message, ModelSettings

__all__ = [
    "ACCEPTED_FORMS",
    "FormKey",
    "FormPart",
    "RequestForm",
    "error_texts",
    "refused_part",
    "request_body",
]

FormPart: TypeAlias = Literal[
    "output_limit", "temperature", "strict", "response_format", "system", "model"
]
"""A part of a request that a server may refuse, whatever the question is."""

_FORM_STATUSES = frozenset({400, 404, 422, 500, 501})
_MAX_ERROR_CHARS = 4_000  # of one text; what a server repeats of the question comes later
_MAX_NESTING = 8

_NAMES: Mapping[FormPart, re.Pattern[str]] = {
    "output_limit": re.compile(r"max_?(?:completion_|output_|new_)?tokens", re.IGNORECASE),
    "temperature": re.compile(r"\btemperature\b", re.IGNORECASE),
    "strict": re.compile(r"\bstrict\b", re.IGNORECASE),
    "response_format": re.compile(
        r"response[_ ]format|text\.format|json[_ ](?:schema|object|mode)|structured[_ ]outputs?"
        r"|guided[_ ](?:json|decoding|grammar)|\bgrammar\b|additionalProperties",
        re.IGNORECASE,
    ),
    "system": re.compile(
        r"\bsystem[_ ](?:role|message|prompt|instruction)|\brole\W{1,4}system\b|'system'|`system`"
        r"|(?:messages|input)[\[.]\d+\]?\.role|developer instruction|roles must alternate",
        re.IGNORECASE,
    ),
    "model": re.compile(
        r"^(?:body\.)?model$|model_not_found|invalid model|model\b.{0,80}\bnot (?:exist|found)",
        re.IGNORECASE,
    ),
}
_REFUSES = re.compile(
    r"unsupported|not (?:exist|found)|(?:not|n't|only|never|no) supports?\b|invalid|forbidden"
    r"|n[o']t (?:be )?(?:currently )?(?:supported|permitted|allowed|available|enabled|recogni[sz]ed"
    r"|valid|implemented|accepted|compatible)|un(?:known|recogni[sz]ed|expected|available)"
    r"|extra (?:inputs?|fields?)|only (?:the default|\S+ (?:is|are) )|deprecated|no longer|\bmust\b"
    r"|can ?not|can't|too (?:large|high|big|low|small)|(?:at most|less than|greater than)"
    r"|enabled only|expected",
    re.IGNORECASE,
)
# These are about the question, whatever parameter they name beside it.
_ABOUT_QUESTION = re.compile(
    r"context[_ ](?:length|window|size)|input tokens|(?:prompt|input) (?:is )?too long"
    r"|reduce the length|content[_ ](?:filter|management|policy)|flagged|safety|moderation",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestForm:
    """Which of its parameters a server takes, as far as it has shown.

    Args:
        output_limit: the name of the limit of output tokens, in chat completions.
        has_temperature: whether a temperature may be sent.
        response_format: what may be asked for: a strict schema, a schema, a JSON object, or
            nothing, where the instructions alone say what to write.
        has_system: whether instructions may be a system message; they begin the first user
            message otherwise.
    """

    output_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    has_temperature: bool = True
    response_format: Literal["strict", "schema", "object", "none"] = "strict"
    has_system: bool = True

    def __str__(self) -> str:
        """How it differs from the usual form."""
        changed = (f for f in fields(self) if getattr(self, f.name) != f.default)
        return ", ".join(f"{f.name}={getattr(self, f.name)}" for f in changed) or "as usual"

    def without(self, part: FormPart) -> "RequestForm | None":
        """The form with a part replaced or left out.

        Args:
            part: what the server refuses.

        Returns:
            The next form to try; None if there is none: a limit of tokens is never left out.
        """
        adapted = self
        if part == "output_limit":
            adapted = replace(self, output_limit="max_completion_tokens")
        elif part == "temperature":
            adapted = replace(self, has_temperature=False)
        elif part == "system":
            adapted = replace(self, has_system=False)
        elif part == "strict" and self.response_format == "strict":
            adapted = replace(self, response_format="schema")
        elif part in ("strict", "response_format"):
            has_schema = self.response_format in ("strict", "schema")
            adapted = replace(self, response_format="object" if has_schema else "none")
        return None if adapted == self else adapted

    def format_of(self, asked: Mapping[str, object] | None) -> Mapping[str, object] | None:
        """The response format that may be asked for in place of a strict schema.

        Args:
            asked: as chat completions take it; None for any text.
        """
        if asked is None or self.response_format == "none":
            return None
        if self.response_format == "object":
            return {"type": "json_object"}
        schema = asked.get("json_schema")
        if self.response_format == "strict" or not isinstance(schema, Mapping):
            return asked
        unstrict = {key: value for key, value in schema.items() if key != "strict"}
        return {**asked, "json_schema": unstrict}


FormKey: TypeAlias = tuple[str, str, str]
"""Which model it is: its address, its name there, and the API."""

ACCEPTED_FORMS: dict[FormKey, RequestForm] = {}
"""The forms that models have accepted after they refused another, as long as the process lives."""


def request_body(
    form: RequestForm,
    settings: ModelSettings,
    messages: Sequence[Message],
    response_format: Mapping[str, object] | None,
) -> dict[str, object]:
    """A request's body in the form that the server takes.

    Args:
        form: which parameters it may have.
        settings: their values, and which API is spoken.
        messages: the conversation.
        response_format: as chat completions take it; None for any text.
    """
    if not form.has_system:
        messages = _without_system(messages)
    said = [{"role": message.role, "content": message.content} for message in messages]
    body: dict[str, object] = {"model": settings.model}
    if settings.temperature is not None and form.has_temperature:
        body["temperature"] = settings.temperature
    wanted = form.format_of(response_format)
    if settings.api == "chat":
        body |= {"messages": said, form.output_limit: settings.max_output_tokens}
        return body | ({"response_format": wanted} if wanted else {})
    body |= {"input": said, "max_output_tokens": settings.max_output_tokens}
    # The responses API has the same format, one level less.
    inner = wanted.get("json_schema", {}) if wanted else {}
    flat = {"type": wanted["type"], **inner} if wanted and isinstance(inner, Mapping) else None
    return body | ({"text": {"format": flat}} if flat else {})


def refused_part(status: int, answer: bytes, request: Mapping[str, object]) -> FormPart | None:
    """The part of a request that a server refuses.

    Args:
        status: the HTTP status of its answer.
        answer: the answer's body.
        request: the body that was sent; only a part that it has can be refused.

    Returns:
        The part; None if the error is not about the request's form.
    """
    if status not in _FORM_STATUSES:
        return None
    parameters, texts = _errors(answer)
    whole = "\n".join(texts)
    if _ABOUT_QUESTION.search(whole):
        return None
    sent = [part for part in _NAMES if _has(request, part)]
    if status >= 500:
        sent.remove("model")  # a server that fails may find it again
    for parameter in parameters:
        for part in sent:
            if _NAMES[part].search(parameter):
                return part
    if not _REFUSES.search(whole):
        return None
    matches = [(match.start(), part) for part in sent if (match := _NAMES[part].search(whole))]
    if not matches:
        return None
    part = min(matches)[1]
    # A schema's flag is the least that can be left out of it.
    is_strict = part == "response_format" and any(other == "strict" for _, other in matches)
    return "strict" if is_strict else part


def error_texts(answer: bytes) -> list[str]:
    """What an error says: its messages and codes, in whatever shape it comes.

    Args:
        answer: the body of an answer that is no reply.
    """
    return _errors(answer)[1]


def _without_system(messages: Sequence[Message]) -> list[Message]:
    """The conversation with its instructions at the beginning of the user's first message."""
    instructions = [m.content for m in messages if m.role == "system"]
    others = [m for m in messages if m.role != "system"]
    if not others:
        return [Message("user", content) for content in instructions]
    first = "\n\n".join([*instructions, others[0].content])
    return [Message(others[0].role, first), *others[1:]]


def _has(request: Mapping[str, object], part: FormPart) -> bool:
    """Whether a request has a part that can be refused."""
    if part in ("output_limit", "model"):
        return True
    if part == "temperature":
        return "temperature" in request
    if part == "system":
        conversation = request.get("messages", request.get("input"))
        return isinstance(conversation, list) and any(m["role"] == "system" for m in conversation)
    shape = json.dumps(request.get("response_format", request.get("text")))
    return '"strict"' in shape if part == "strict" else shape != "null"


def _errors(answer: bytes) -> tuple[list[str], list[str]]:
    """The parameters that an error names, and what it says."""
    text = answer.decode("utf-8", "replace")
    parameters: list[str] = []
    texts: list[str] = []
    for kind, value in _told("message", _json(text) or text, _MAX_NESTING):
        (parameters if kind == "param" else texts).append(value[:_MAX_ERROR_CHARS])
    return parameters, texts


_KINDS = {
    **dict.fromkeys(("param", "parameter", "loc"), "param"),
    **dict.fromkeys(("code", "type", "status", "error_code", "error_type"), "code"),
    **dict.fromkeys(
        (
            "message", "msg", "error", "errors", "detail", "details", "title", "metadata", "raw",
            "description", "error_description", "external_model_message", "external_model_error",
        ),
        "message",
    ),
}  # fmt: skip
"""The keys of an error that are read; others may repeat the question."""


def _told(kind: str, value: object, depth: int) -> Iterator[tuple[str, str]]:
    """Each text of an error with its kind; gateways wrap one error in another, also as text."""
    if depth == 0:
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            if inner_kind := _KINDS.get(key):
                yield from _told(inner_kind, item, depth - 1)
    elif isinstance(value, list):
        if kind == "param":
            yield kind, ".".join(map(str, value))
            return
        for item in value:
            yield from _told(kind, item, depth - 1)
    elif isinstance(value, str):
        inner = _json(value)
        yield from [(kind, value)] if inner is None else _told(kind, inner, depth - 1)


def _json(text: str) -> Mapping[str, object] | list[object] | None:
    """The object or list that a text writes; None for another text."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None
