"""What came back from a model's endpoint, as values: a reply, or why there is none.

Nothing here knows HTTP beyond status codes and bodies. Nothing that a server sent is trusted: a
body may be a proxy's page, may lack what it should have, and may repeat the key.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Literal

from caspers_lib.agents.model.excerpts import excerpt, redacted
from caspers_lib.agents.model.request_form import RequestForm, error_texts, refused_part

__all__ = ["CallFailure", "CallReply", "reply_of", "retry_after_s", "status_failure"]

_MOST_TOKENS = 100_000_000  # a count above is no count


@dataclass(frozen=True, slots=True, kw_only=True)
class CallReply:
    """What a model wrote.

    Args:
        text: its text; None if it wrote none.
        input_tokens: tokens of the question; None where the server does not say.
        output_tokens: tokens of the text; None where the server does not say.
        is_cut: whether the limit of output tokens ended it, be it within its thoughts.
        in_models_place: whether a served agent's rules wrote it because its model did not.
    """

    text: str | None
    input_tokens: int | None
    output_tokens: int | None
    is_cut: bool = False
    in_models_place: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFailure:
    """Why a call brought no reply.

    Args:
        kind: what it means if it stays so: `refused` is to blame on the question.
        reason: for people; one line without the key.
        retries: how often another try makes sense.
        healthy: whether it shows that the server works; None if it shows nothing.
        may_be_paid: whether the server may have used tokens for it.
        retry_after: the pause that the server asks for, as in its header; None for none.
        is_form_refused: whether the server refuses the request's form, whatever the question.
        next_form: the form to try next; None where there is none, or another reason.
        is_quota: whether the account's quota is used up, so that no question gets an answer.
    """

    kind: Literal["unavailable", "refused", "unreadable"]
    reason: str
    retries: Literal["never", "once", "often"]
    healthy: bool | None
    may_be_paid: bool = False
    retry_after: str | None = None
    is_form_refused: bool = False
    next_form: RequestForm | None = None
    is_quota: bool = False


# The question is innocent of these: the next one would fare no better.
_MISCONFIGURED = {
    401: "the key is missing or wrong",
    403: "the key may not use this model",
    404: "there is no such address or model",
    405: "there is no such address",
    407: "a proxy wants a login",
}
_PAYMENT_REQUIRED, _TOO_MANY = 402, 429
_PASSING = {408, 409, 425, _TOO_MANY}

_QUOTA_STATUSES = {400, 403, _TOO_MANY}
_QUOTA = re.compile(
    r"insufficient[_ ](?:quota|balance|credits?|funds)|exceeded[_ ](?:your[_ ])?current[_ ]quota"
    r"|billing[_ ](?:hard[_ ])?limit|hard[_ ]limit[_ ](?:has[_ ]been[_ ])?reached"
    r"|billing[_ ](?:is[_ ])?not[_ ]active|credit balance is too low|out of credits"
    r"|rate limit (?:(?:of|is|is set to|set to) )?0(?!\.?\d)",
    re.IGNORECASE,
)
# Some call a limit a minute a quota; it passes.
_PASSES = re.compile(r"(?:retry|try again) (?:in|after)\b", re.IGNORECASE)


def status_failure(
    status: int,
    body: bytes,
    *,
    request: Mapping[str, object],
    form: RequestForm,
    secret: str | None,
    retry_after: str | None = None,
) -> CallFailure:
    """Why a call failed, by the HTTP status of its answer.

    Args:
        status: any but 200 to 299.
        body: what came with it; a short excerpt is told.
        request: the body that was sent.
        form: the form that it has.
        secret: the key, which the body may repeat.
        retry_after: the header of that name.

    Returns:
        Throttling, a used-up quota, a failing server, wrong settings, a request in a form that the
        server refuses, or a refusal of this question.
    """
    said = _said(body, secret)
    if _is_quota(status, body, retry_after):
        reason = f"HTTP {status} (the quota is used up){said}"
        return CallFailure(
            kind="unavailable", reason=reason, retries="never", healthy=False, is_quota=True
        )
    if part := refused_part(status, body, request):
        reason = f"HTTP {status} (the server refuses the request's {part}){said}"
        next_form = form.without(part)
        return CallFailure(
            kind="unavailable",
            reason=reason,
            retries="never",
            healthy=None if next_form else False,
            is_form_refused=True,
            next_form=next_form,
        )
    if status in _PASSING or status >= 500:
        healthy = None if status == _TOO_MANY else False
        return CallFailure(
            kind="unavailable",
            reason=f"HTTP {status}{said}",
            retries="often",
            healthy=healthy,
            retry_after=retry_after,
        )
    if status in _MISCONFIGURED or status < 400:
        why = _MISCONFIGURED.get(status, "a redirect, which is not followed")
        return CallFailure(
            kind="unavailable",
            reason=f"HTTP {status} ({why}){said}",
            retries="never",
            healthy=False,
        )
    return CallFailure(kind="refused", reason=f"HTTP {status}{said}", retries="never", healthy=True)


def _is_quota(status: int, body: bytes, retry_after: str | None) -> bool:
    if status == _PAYMENT_REQUIRED:
        return True
    if status not in _QUOTA_STATUSES or retry_after is not None:
        return False
    text = "\n".join(error_texts(body))
    return bool(_QUOTA.search(text)) and not _PASSES.search(text)


def reply_of(
    body: bytes, *, api: Literal["chat", "responses"], secret: str | None
) -> CallReply | CallFailure:
    """The reply in the body of a successful HTTP answer.

    Args:
        body: the whole body.
        api: which API was called.
        secret: the key, which the body may repeat.

    Returns:
        The reply, or a failure for a body that holds none, such as a proxy's page.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return _unreadable(f"no JSON{_said(body, secret)}")
    if not isinstance(document, dict):
        return _unreadable(f"JSON that is no object{_said(body, secret)}")
    parts = _chat_parts(document) if api == "chat" else _response_parts(document)
    if parts is None:
        missing = "choices" if api == "chat" else "output"
        return _unreadable(f"JSON without {missing}{_said(body, secret)}")
    usage, outputs = document.get("usage"), document.get("custom_outputs")
    return CallReply(
        text=redacted("".join(parts), secret) if parts else None,
        input_tokens=_count(usage, "prompt_tokens", "input_tokens"),
        output_tokens=_count(usage, "completion_tokens", "output_tokens"),
        is_cut=_is_cut(document),
        in_models_place=isinstance(outputs, dict) and outputs.get("in_models_place") is True,
    )


def retry_after_s(header: str | None, now: float) -> float | None:
    """The seconds that a `Retry-After` header asks to wait.

    Args:
        header: seconds or an HTTP date; None for no header.
        now: UTC epoch seconds.

    Returns:
        0 or more, infinite included; None if there is no header or it can't be read.
    """
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            date = parsedate_to_datetime(header)
            # A date without a zone is in UTC, as HTTP has it.
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return None if math.isnan(seconds) else max(0.0, seconds)


def _chat_parts(document: dict[str, object]) -> list[str] | None:
    """The texts of the first choice; None if there is no choice."""
    choices = document.get("choices")
    if not (isinstance(choices, list) and choices and isinstance(choices[0], dict)):
        return None
    message = choices[0].get("message")
    if not isinstance(message, dict):
        return None
    content = message.get("content")
    return [content] if isinstance(content, str) else _texts(content, "text")


def _response_parts(document: dict[str, object]) -> list[str] | None:
    """The texts of every message, which is what `output_text` is; the last output may be a tool."""
    output = document.get("output")
    if not isinstance(output, list):
        return None
    messages = (o for o in output if isinstance(o, dict) and o.get("type") == "message")
    return [text for message in messages for text in _texts(message.get("content"), "output_text")]


def _is_cut(document: dict[str, object]) -> bool:
    details, choices = document.get("incomplete_details"), document.get("choices")
    if isinstance(details, dict):
        return details.get("reason") == "max_output_tokens"
    return isinstance(choices, list) and choices[0].get("finish_reason") == "length"


def _texts(content: object, kind: str) -> list[str]:
    if not isinstance(content, list):
        return []
    parts = (part for part in content if isinstance(part, dict) and part.get("type") == kind)
    texts = (part.get("text") for part in parts)
    return [text for text in texts if isinstance(text, str)]


def _count(usage: object, *names: str) -> int | None:
    """A number of tokens under one of its names, if it can be one."""
    if not isinstance(usage, dict):
        return None
    found = (usage.get(name) for name in names)
    return next((n for n in found if type(n) is int and 0 <= n <= _MOST_TOKENS), None)


def _unreadable(what: str) -> CallFailure:
    return CallFailure(
        kind="unreadable",
        reason=f"the answer is {what}",
        retries="once",
        healthy=False,
        may_be_paid=True,
    )


def _said(body: bytes, secret: str | None) -> str:
    """A short excerpt of a body in words, without the key."""
    text = redacted(body.decode("utf-8", "replace"), secret).strip()
    return f": {excerpt(text)}" if text else ""
