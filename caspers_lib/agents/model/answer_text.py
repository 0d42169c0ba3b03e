"""A model's text as an answer of the contract: tolerant in form, strict in result.

Whatever a text says, its answer never gives back more than the order's
total, and its source is `model`. Amounts are rounded half up: refunds to cents, credits to 0.50
USD. `none` is exactly 0 USD, `full` exactly the order's total, `partial` whatever lies between.
"""

import re
import unicodedata
from collections.abc import Collection, Mapping
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from typing import get_args, overload

from pydantic import ValidationError

from caspers_lib.agents.contracts import (
    MAX_COMPLAINT_CHARACTERS,
    AnswerKind,
    ComplaintAnswer,
    ComplaintCategory,
    ComplaintText,
    Decision,
    Priority,
    RefundAnswer,
    RefundClass,
)
from caspers_lib.agents.model.answer_objects import (
    found_object,
    read_number,
    without_thoughts,
)
from caspers_lib.agents.model.excerpts import excerpt
from caspers_lib.agents.triage_policy import CREDIT_STEP
from caspers_lib.errors import AnswerError

__all__ = ["parsed_answer", "parsed_text"]

_CENT = Decimal("0.01")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
# A comma groups digits where cents follow or a currency is named; alone it may be a decimal comma.
_DOLLARS = re.compile(
    r"(?P<sign>(?:USD|US\$|\$)\s?)?"
    r"(?P<number>(?:[1-9][0-9]{0,2}(?P<groups>(?:,[0-9]{3})+)|[0-9]+)(?P<cents>\.[0-9]+)?)"
    r"(?P<unit>\s?(?:USD|(?:US )?dollars?))?",
    re.IGNORECASE,
)
_MAX_NUMBER_CHARS = 40
_OPTIONAL = frozenset({"order_id", "credit_amount", "confidence", "priority", "source"})
_SHOWN_KEYS = 3
_SOURCES = ("model", "rules")


@overload
def parsed_answer(
    text: str | None,
    kind: type[RefundAnswer],
    *,
    order_total: Decimal | None,
    order_id: str | None = None,
    keeps_source: bool = False,
) -> RefundAnswer: ...


@overload
def parsed_answer(
    text: str | None,
    kind: type[ComplaintAnswer],
    *,
    order_total: Decimal | None,
    order_id: str | None = None,
    keeps_source: bool = False,
) -> ComplaintAnswer: ...


@overload
def parsed_answer(
    text: str | None,
    kind: AnswerKind,
    *,
    order_total: Decimal | None,
    order_id: str | None = None,
    keeps_source: bool = False,
) -> RefundAnswer | ComplaintAnswer: ...


def parsed_answer(
    text: str | None,
    kind: AnswerKind,
    *,
    order_total: Decimal | None,
    order_id: str | None = None,
    keeps_source: bool = False,
) -> RefundAnswer | ComplaintAnswer:
    """The answer that a model's text holds.

    Args:
        text: what the model wrote: one object, in whatever form `answer_objects` reads.
        kind: the answer asked for.
        order_total: USD; where it is unknown (None) nothing can be given back.
        order_id: the order asked about; the text may leave it out, and must not name another one.
            None where a complaint's text has to name it.
        keeps_source: whether the text is a served agent's, which says who answered; one that could
            not judge the order is refused.

    Returns:
        The answer; its source is `model` whatever the text says, unless that is kept.

    Raises:
        AnswerError: the text breaks the contract; one sentence that people, tables and models may
            be shown.
    """
    found = _with_known_keys(found_object(text), kind)
    total = max(order_total or Decimal(0), Decimal(0))
    if kind is RefundAnswer:
        fields = _refund_fields(found, total)
    else:
        fields = _complaint_fields(found, total, order_id)
    source = _choice("source", found, _SOURCES) if keeps_source else "model"
    try:
        return kind.model_validate({**fields, "source": source})
    except ValidationError as error:
        raise AnswerError(f"The answer breaks its contract: {_rule(error)}") from error


def parsed_text(text: str | None) -> ComplaintText:
    """A customer's complaint as a model wrote it, less its thoughts and quotation marks around it.

    Args:
        text: what the model wrote.

    Raises:
        AnswerError: there is no text, it is too long, or it holds control characters.
    """
    said = without_thoughts(text or "").strip().strip('"\u201c\u201d').strip()
    if not 0 < len(said) <= MAX_COMPLAINT_CHARACTERS:
        raise AnswerError(
            f"The text has {len(said):,} characters; allowed are 1 to {MAX_COMPLAINT_CHARACTERS:,}"
        )
    if any(unicodedata.category(c) in ("Cc", "Cs") and c != "\n" for c in said):
        raise AnswerError("The text holds control characters; only plain text is allowed")
    return ComplaintText(complaint_text=said)


def _plain(written: str) -> str:
    """A name as the contract spells it: `refundUsd` and ` Refund USD ` are `refund_usd`."""
    return re.sub(r"[\s_-]+|(?<=[a-z])(?=[A-Z])", "_", written.strip()).lower()


def _with_known_keys(written: Mapping[str, object], kind: AnswerKind) -> dict[str, object]:
    """The values by the names of the contract; other keys and missing ones are refused."""
    found: dict[str, object] = {}
    for key, value in written.items():
        name = _plain(key) if _plain(key) in kind.model_fields else key
        if name in found:
            raise AnswerError(f"The answer has the key {excerpt(name, 40)} twice; once is allowed")
        found[name] = value
    asked = [name for name in kind.model_fields if name != "source"]
    unknown = [key for key in found if key not in kind.model_fields]
    if unknown:
        shown = ", ".join(excerpt(key, 30) for key in unknown[:_SHOWN_KEYS])
        raise AnswerError(
            f"The answer has the unknown keys {shown}; allowed are {', '.join(asked)}"
        )
    missing = [name for name in asked if name not in found and name not in _OPTIONAL]
    if missing:
        raise AnswerError(
            f"The answer lacks {', '.join(missing)}; its keys must be {', '.join(asked)}"
        )
    return found


def _refund_fields(found: Mapping[str, object], total: Decimal) -> dict[str, object]:
    refund = _stepped(_amount("refund_usd", found, total), _CENT, total)
    refund_class = _choice("refund_class", found, get_args(RefundClass))
    fitting = "none" if refund == 0 else "full" if refund == total else "partial"
    if refund_class != fitting:
        raise AnswerError(
            f"refund_class is {refund_class}; it must be {fitting} for {refund} USD of an order of"
            f" {total:f} USD"
        )
    return {
        "refund_usd": refund,
        "refund_class": refund_class,
        "reason": _words("reason", found),
    }


def _complaint_fields(
    found: Mapping[str, object], total: Decimal, order_id: str | None
) -> dict[str, object]:
    decision = _choice("decision", found, get_args(Decision))
    credits = decision == "suggest_credit"
    carried = {"credit_amount": credits, "confidence": credits, "priority": not credits}
    for name, carries in carried.items():
        if (found.get(name) is not None) != carries:
            rule = "must have a value" if carries else "must be null"
            raise AnswerError(f"{name} is {_shown(found.get(name))}; with {decision} it {rule}")
    return {
        "order_id": _order_id(found, order_id),
        "complaint_category": _choice("complaint_category", found, get_args(ComplaintCategory)),
        "decision": decision,
        "credit_amount": (
            _stepped(_amount("credit_amount", found, total), CREDIT_STEP, total)
            if credits
            else None
        ),
        "confidence": _confidence(found) if credits else None,
        "priority": None if credits else _choice("priority", found, get_args(Priority)),
        "rationale": _words("rationale", found),
        "customer_response": _words("customer_response", found),
    }


def _stepped(amount: Decimal, step: Decimal, total: Decimal) -> Decimal:
    """The multiple of `step` next to an amount, half up, that the order's total covers."""
    steps = (amount / step).quantize(Decimal(1), ROUND_HALF_UP)
    covered = (total / step).quantize(Decimal(1), ROUND_DOWN)
    return (min(steps, covered) * step).quantize(_CENT)


def _amount(name: str, found: Mapping[str, object], total: Decimal) -> Decimal:
    value = found[name]
    match = _DOLLARS.fullmatch(_short(value).strip())
    if match and not (match["groups"] and not (match["sign"] or match["unit"] or match["cents"])):
        value = match["number"].replace(",", "")
    allowed = f"a number of USD from 0 to the order's total of {total:f}"
    return _number(name, found, value, total, allowed)


def _confidence(found: Mapping[str, object]) -> Decimal:
    value = found["confidence"]
    share = _number("confidence", found, value, Decimal(1), "a number from 0 to 1")
    return share.quantize(_CENT, ROUND_HALF_UP)


def _number(
    name: str, found: Mapping[str, object], value: object, most: Decimal, allowed: str
) -> Decimal:
    written = _short(value).strip()
    number = read_number(written) if _NUMBER.fullmatch(written) else value
    if not (isinstance(number, Decimal) and number.is_finite() and 0 <= number <= most):
        raise AnswerError(f"{name} is {_shown(found[name])}; it must be {allowed}")
    return abs(number)


def _short(value: object) -> str:
    """A text that may be a number; empty for another value."""
    return value if isinstance(value, str) and len(value) <= _MAX_NUMBER_CHARS else ""


def _choice(name: str, found: Mapping[str, object], allowed: Collection[str]) -> str:
    value = found.get(name)
    if not (isinstance(value, str) and _plain(value[:_MAX_NUMBER_CHARS]) in allowed):
        raise AnswerError(f"{name} is {_shown(value)}; it must be one of {', '.join(allowed)}")
    return _plain(value)


def _order_id(found: Mapping[str, object], asked: str | None) -> str:
    if found.get("order_id") is None and asked is not None:
        return asked
    if asked is None:
        return _words("order_id", {"order_id": None, **found})
    if found["order_id"] != asked:
        raise AnswerError(
            f"order_id is {_shown(found['order_id'])}; it must be {excerpt(asked, 60)}, the order"
            " asked about"
        )
    return asked


def _words(name: str, found: Mapping[str, object]) -> str:
    value = found[name]
    if not (isinstance(value, str) and value.strip()):
        raise AnswerError(f"{name} is {_shown(value)}; it must be a text with at least one word")
    # Half of a surrogate pair is no UTF-8, and PostgreSQL takes no NUL.
    unfit = next((c for c in value if c == "\0" or "\ud800" <= c <= "\udfff"), None)
    if unfit is not None:
        raise AnswerError(f"{name} holds the character {excerpt(unfit)}, which can't be stored")
    return value


def _shown(value: object) -> str:
    if isinstance(value, str):
        return excerpt(value)
    if isinstance(value, Decimal):
        return excerpt(str(value), 40)[1:-1]
    names = {dict: "an object", list: "a list", bool: "true or false", type(None): "null"}
    return names.get(type(value), "of another type")


def _rule(error: ValidationError) -> str:
    return str(error.errors(include_url=False, include_input=False)[0]["msg"])
