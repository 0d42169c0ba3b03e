"""What a request to an agent says: an order's facts, or an order whose facts are looked up.

Contract: docs/contracts.md, Agents. Facts are the JSON that `prompts` makes, read strictly: every
key, none other, decimals digit by digit. Order ids and texts are data, whatever characters they
have.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from caspers_lib.agents.model.answer_objects import read_number
from caspers_lib.agents.model.excerpts import excerpt
from caspers_lib.agents.refund_policy import CENT, OrderFacts
from caspers_lib.agents.triage_answer import Complaint, OrderLine

__all__ = [
    "MAX_ORDER_ID_CHARS",
    "MAX_REQUEST_CHARS",
    "ComplaintRequest",
    "KnownOrder",
    "RefundRequest",
    "Unreadable",
    "facts_json",
    "order_of_facts",
    "read_complaint_request",
    "read_refund_request",
]

MAX_REQUEST_CHARS = 256 * 1024
"""A longer request is refused unread."""

MAX_ORDER_ID_CHARS = 200
"""A longer plain text is no order's id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownOrder:
    """What is known about an order.

    Args:
        order_id: the order.
        facts: how long it took, and what was usual.
        lines: what was in it; empty where that isn't known.
    """

    order_id: str
    facts: OrderFacts
    lines: tuple[OrderLine, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundRequest:
    """A question about a delivered order's refund.

    Args:
        order_id: the order.
        order: what the request says about it; None where it has to be looked up.
    """

    order_id: str
    order: KnownOrder | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComplaintRequest:
    """A complaint that wants an answer.

    Args:
        complaint: what the customer wrote.
        order: what the request says about the order; None where it has to be looked up.
        text_is_cut: whether the customer wrote more than the request holds.
    """

    complaint: Complaint
    order: KnownOrder | None = None
    text_is_cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A request that says nothing usable.

    Args:
        reason: why, in one sentence on one line.
        order_id: the order, if the request names one.
        category: what a complaint is about, if the request says so.
    """

    reason: str
    order_id: str | None = None
    category: str | None = None


def read_refund_request(text: str) -> RefundRequest | Unreadable:
    """What a request to the refund agent says.

    Args:
        text: a JSON object of facts, or an order's id as plain text or as `{"order_id": ...}`.

    Returns:
        The order with its facts, the order alone, or why it can't be read.
    """
    if not text.lstrip().startswith("{"):
        return _plain_order(text.strip())
    raw = _object(text)
    if isinstance(raw, Unreadable):
        return raw
    if raw.keys() == {"order_id"}:
        named = _parsed(_Named, raw)
        return named if isinstance(named, Unreadable) else RefundRequest(order_id=named.order_id)
    order = order_of_facts(raw)
    if isinstance(order, Unreadable):
        return order
    return RefundRequest(order_id=order.order_id, order=order)


def read_complaint_request(text: str) -> ComplaintRequest | Unreadable:
    """What a request to the complaint agent says.

    Args:
        text: a JSON object of facts, or one of order_id, complaint_category and complaint_text
            alone.

    Returns:
        The complaint with its order's facts, the complaint alone, or why it can't be read.
    """
    raw = _object(text)
    if isinstance(raw, Unreadable):
        return raw
    if raw.keys() <= _Complaint.model_fields.keys():
        alone = _parsed(_Complaint, raw)
        if isinstance(alone, Unreadable):
            return alone
        return ComplaintRequest(complaint=alone.complaint)
    whole = _parsed(_ComplaintFacts, raw)
    if isinstance(whole, Unreadable):
        return whole
    return ComplaintRequest(
        complaint=whole.complaint, order=whole.order, text_is_cut=whole.complaint_text_is_cut
    )


def order_of_facts(raw: Mapping[str, object]) -> KnownOrder | Unreadable:
    """The order that facts speak of.

    Args:
        raw: the keys of `prompts.refund_questions`' facts; numbers are decimals or ints.

    Returns:
        The order without lines, or why the facts are none.
    """
    facts = _parsed(_Facts, raw)
    return facts if isinstance(facts, Unreadable) else facts.order


def facts_json(order: KnownOrder, request: ComplaintRequest | None = None) -> str:
    """The facts as `prompts` makes them, for a model.

    Args:
        order: the order.
        request: the complaint about it; None for a refund.
    """
    facts = order.facts
    values: dict[str, object] = {"order_id": order.order_id}
    if request is not None:
        values |= {
            "complaint_category": request.complaint.category,
            "complaint_text": request.complaint.text,
            "complaint_text_is_cut": request.text_is_cut,
        }
    values |= {
        "location_id": facts.location_id,
        "total_minutes": _number(facts.total_minutes),
        "order_total": _number(facts.order_total),
        "history_orders": facts.history_orders,
        "p75": _number(facts.p75),
        "p99": _number(facts.p99),
    }
    if request is not None:
        values["lines"] = [
            {"item_name": line.item_name, "price": _number(line.price)} for line in order.lines
        ]
    return json.dumps(values, ensure_ascii=False)


def _storable(text: str) -> str:
    """The text, if it is UTF-8: half of a surrogate pair isn't.

    Raises:
        ValueError: it isn't.
    """
    text.encode()
    return text


def _as_decimal(value: object) -> object:
    return Decimal(value) if type(value) is int else value


def _with_cents(value: Decimal) -> Decimal:
    """Two decimals, as a table has them, and no minus before a zero."""
    return value.quantize(CENT) + 0


_CATEGORY = "complaint_category"

_Text = Annotated[str, AfterValidator(_storable)]
_OrderId = Annotated[str, Field(min_length=1), AfterValidator(_storable)]
_Decimal = (BeforeValidator(_as_decimal), AfterValidator(_with_cents))
_Minutes = Annotated[Decimal, Field(ge=0, max_digits=12, decimal_places=2), *_Decimal]
_Usd = Annotated[Decimal, Field(max_digits=22, decimal_places=2), *_Decimal]
_Int32 = Annotated[int, Field(ge=-(2**31), lt=2**31)]


class _Request(BaseModel):
    """A part of a request: immutable, no other keys, no type converted."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class _Named(_Request):
    order_id: _OrderId


class _Facts(_Named):
    location_id: _Int32 | None
    total_minutes: _Minutes | None
    order_total: _Usd | None
    history_orders: Annotated[int, Field(ge=0, lt=2**31)]
    p75: _Minutes | None
    p99: _Minutes | None

    @property
    def facts(self) -> OrderFacts:
        """For the rules; who has facts of an order says that it was delivered."""
        return OrderFacts(
            location_id=self.location_id,
            delivered=True,
            total_minutes=self.total_minutes,
            order_total=self.order_total,
            history_orders=self.history_orders,
            p75=self.p75,
            p99=self.p99,
        )

    @property
    def order(self) -> KnownOrder:
        """The order without its lines."""
        return KnownOrder(order_id=self.order_id, facts=self.facts)


class _Complaint(_Named):
    complaint_category: _Text | None
    complaint_text: _Text | None

    @property
    def complaint(self) -> Complaint:
        """For the rules."""
        return Complaint(
            order_id=self.order_id, category=self.complaint_category, text=self.complaint_text
        )


class _Line(_Request):
    item_name: _Text | None
    price: _Usd | None


class _ComplaintFacts(_Facts, _Complaint):
    complaint_text_is_cut: bool
    lines: list[_Line] | None

    @property
    def order(self) -> KnownOrder:
        """The order with its lines."""
        lines = [OrderLine(item_name=x.item_name, price=x.price) for x in self.lines or ()]
        return KnownOrder(order_id=self.order_id, facts=self.facts, lines=tuple(lines))


_Model = TypeVar("_Model", bound=_Request)

_MINUTES = "minutes from 0 with two decimals at most, or null"
_ALLOWED = {
    "order_id": "UTF-8 text with at least one character",
    "location_id": "a whole number, or null",
    "total_minutes": _MINUTES,
    "order_total": "USD with two decimals at most, or null",
    "history_orders": "a whole number from 0",
    "p75": _MINUTES,
    "p99": _MINUTES,
    "complaint_category": "UTF-8 text, or null",
    "complaint_text": "UTF-8 text, or null",
    "complaint_text_is_cut": "true or false",
    "lines": "a list of objects with item_name and price, or null",
}


def _parsed(model: type[_Model], raw: Mapping[str, object]) -> _Model | Unreadable:
    try:
        return model.model_validate(dict(raw))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        name = str(first["loc"][0])
        if first["type"] == "missing" and len(first["loc"]) == 1:
            reason = f"The request lacks {name}"
        elif name not in _ALLOWED:
            reason = f"The request has the unknown key {excerpt(name, 40)}"
        else:
            reason = f"{name} is {_shown(raw[name])}; it must be {_ALLOWED[name]}"
        return Unreadable(
            reason=reason, order_id=_text_of(raw, "order_id"), category=_text_of(raw, _CATEGORY)
        )


def _text_of(raw: Mapping[str, object], name: str) -> str | None:
    """The value, if it is a text that can be stored and isn't empty."""
    value = raw.get(name)
    if not (isinstance(value, str) and value):
        return None
    try:
        return _storable(value)
    except ValueError:
        return None


def _shown(value: object) -> str:
    if isinstance(value, str):
        return excerpt(value, 60)
    if isinstance(value, int | Decimal):
        return excerpt(str(value), 40)[1:-1]
    names = {dict: "an object", list: "a list", type(None): "null"}
    return names.get(type(value), "of another type")


def _plain_order(text: str) -> RefundRequest | Unreadable:
    if not text:
        return Unreadable(reason="The request is empty; it must be an order's facts or its id")
    if len(text) > MAX_ORDER_ID_CHARS or not _text_of({"order_id": text}, "order_id"):
        return Unreadable(
            reason=f"The request is neither a JSON object nor an order's id: {excerpt(text)}"
        )
    return RefundRequest(order_id=text)


def _object(text: str) -> dict[str, object] | Unreadable:
    """The one JSON object that a text is, its numbers digit by digit."""
    if len(text) > MAX_REQUEST_CHARS:
        return Unreadable(
            reason=f"The request has {len(text):,} characters; at most {MAX_REQUEST_CHARS:,} are"
            " read"
        )
    try:
        value = json.loads(
            text,
            parse_float=read_number,
            parse_constant=Decimal,
            object_pairs_hook=_with_unique_keys,
        )
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        return Unreadable(
            reason=f"The request must be one JSON object, each key once; it is {excerpt(text)}"
        )
    return value


def _with_unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key stands there twice")
    return values


def _number(value: Decimal | None) -> float | None:
    return None if value is None else float(value)
