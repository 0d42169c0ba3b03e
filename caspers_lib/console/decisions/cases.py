"""The list of cases: filtered, sorted and paged by Postgres, each with its latest decision.

A page begins after the last row of the one before (keyset), so it is as fast as the first and
misses nothing when rows come in between.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeAlias

from psycopg import Connection
from psycopg.rows import class_row
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from caspers_lib.console.decisions.values import LARGEST_USD, CaseKind, Status
from caspers_lib.console.queries import amount_sql, table_sql, text_sql
from caspers_lib.errors import ConsoleError
from caspers_lib.lakebase.identifiers import quote_identifier

__all__ = [
    "MOST_COUNTED",
    "Case",
    "CaseFilter",
    "CasePage",
    "Sort",
    "case_page",
    "one_case",
    "stream_cases",
]

MOST_COUNTED = 10_000
"""More are not counted: the page says "more than"."""

Sort: TypeAlias = Literal["newest", "oldest", "amount", "priority"]
ListedStatus: TypeAlias = Literal["open", "all"] | Status
_Usd = Annotated[Decimal, Field(ge=0, le=LARGEST_USD, decimal_places=2, allow_inf_nan=False)]
_Word = Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")]


_RANKS = {"standard": 1, "high": 2, "urgent": 3}
_RANK = "CASE agent_response ->> 'priority' {} ELSE 0 END".format(
    " ".join(f"WHEN '{name}' THEN {rank}" for name, rank in _RANKS.items())
)


class CaseFilter(BaseModel):
    """Which cases; an unknown filter is refused.

    Args:
        status: `open` is what waits for a person: pending, with something suggested; for
            complaints also what was escalated.
        label: the agent's class (`none`, `partial`, `full`) or decision.
        source: who answered: `model`, `rules` or `error`.
        min_usd: the least suggested amount.
        max_usd: the largest.
        since: the first day, UTC.
        until: the last day, UTC.
        text: part of the reason, or a whole case's or order's id.
        sort: which come first; by priority, the most urgent and then the newest.
        after: where the page before ended, as it said.
        limit: rows at most.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: ListedStatus = "open"
    label: _Word = ""
    source: _Word = ""
    min_usd: _Usd | None = None
    max_usd: _Usd | None = None
    since: date | None = None
    until: date | None = None
    text: _Word = ""
    sort: Sort = "newest"
    after: Annotated[str, Field(max_length=20_000)] = ""
    limit: Annotated[int, Field(ge=1, le=200)] = 25

    @field_validator("min_usd", "max_usd", "since", "until", mode="before")
    @classmethod
    def _nothing_typed(cls, value: object) -> object:
        """A form sends the fields that nobody filled in as empty texts."""
        return None if value == "" else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An agent's answer and where it is; a field of the answer is None where it has no such value.

    Args:
        case_id: the case.
        order_id: its order.
        at: of the delivery or of the complaint, event time.
        minutes: from order to delivery, of a refund.
        label: the class or the decision.
        category: what a complaint is about.
        priority: how urgent a complaint is.
        suggested_usd: what the agent suggests.
        words: why.
        suggested_reply: the agent's draft for the customer.
        source: who answered.
        version: decisions made so far; 0 for none.
        status: where it is.
        amount_usd: what the customer gets.
        reply: what the customer was told.
        person: who decided last.
        decided_at: when.
        reason: why.
    """

    case_id: str
    order_id: str
    at: datetime
    minutes: float | None
    label: str | None
    category: str | None
    priority: str | None
    suggested_usd: Decimal | None
    words: str | None
    suggested_reply: str | None
    source: str | None
    version: int
    status: Status
    amount_usd: Decimal
    reply: str | None
    person: str | None
    decided_at: datetime | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class CasePage:
    """One page of the list.

    Args:
        rows: its cases.
        next: what the next page comes after; None on the last.
        count: cases that fit the filter; at most one more than `MOST_COUNTED`.
    """

    rows: tuple[Case, ...]
    next: str | None
    count: int


class _Place(BaseModel):
    """Where a page ended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    of: str
    at: AwareDatetime
    usd: Annotated[Decimal, Field(allow_inf_nan=False)] | None
    priority: str | None
    last: Annotated[str, Field(pattern=r"^[^\x00]*$")]


_ROWS = """
    SELECT a.{key} AS case_id, a.order_id, a.ts AS at, {minutes} AS minutes, {label} AS label,
           {category} AS category, {priority} AS priority, {usd} AS suggested_usd,
           {words} AS words, {draft} AS suggested_reply, {source} AS source,
           coalesce(d.version, 0) AS version, coalesce(d.status, 'pending') AS status,
           coalesce(d.amount_usd, 0) AS amount_usd, d.reply, d.person, d.decided_at, d.reason
    FROM {table} AS a {decided}
    WHERE {where} ORDER BY {order} LIMIT %(limit)s
"""
_COUNT = """
    SELECT count(*) FROM (
        SELECT 1 FROM {table} AS a {decided} WHERE {where} LIMIT %(most)s
    ) AS found
"""
# A case with decisions is found from the few decisions, not the other way round.
_DECIDED = """
    JOIN (
        SELECT DISTINCT ON (case_id) * FROM {trail} ORDER BY case_id, version DESC
    ) AS d ON d.case_id = a.{key} AND d.status = %(status)s
"""
_ANY = """
    LEFT JOIN LATERAL (
        SELECT * FROM {trail} AS t WHERE t.case_id = a.{key} ORDER BY t.version DESC LIMIT 1
    ) AS d ON true
"""


def case_page(connection: Connection, kind: CaseKind, wanted: CaseFilter) -> CasePage:
    """One page of the cases that fit a filter, and how many fit.

    Args:
        connection: to the kind's database.
        kind: what is listed.
        wanted: the filter.

    Raises:
        ConsoleError: `after` is of another list, or none.
        psycopg.Error: a table is missing, or the server can't answer.
    """
    conditions, values = _conditions(kind, wanted)
    words = _fragments(kind, wanted) | {"where": " AND ".join(conditions)}
    values |= {"status": wanted.status, "most": MOST_COUNTED + 1, "limit": wanted.limit + 1}
    # A plan for any values, as a prepared statement gets it, is slow for a rare filter.
    counted = connection.execute(_COUNT.format(**words).encode(), values, prepare=False)
    (count,) = counted.fetchall()[0]
    if wanted.after:
        condition, place = _after(kind, wanted)
        words["where"] += f" AND {condition}"
        values |= place
    with connection.cursor(row_factory=class_row(Case)) as cursor:
        rows = cursor.execute(_ROWS.format(**words).encode(), values, prepare=False).fetchall()
    shown = tuple(rows[: wanted.limit])
    more = len(rows) > wanted.limit
    return CasePage(shown, _cursor(kind, wanted, shown[-1]) if more else None, count)


def stream_cases(connection: Connection, kind: CaseKind, wanted: CaseFilter) -> Iterator[Case]:
    """Every case that fits a filter, a thousand at a time.

    Args:
        connection: in a transaction on the kind's database.
        kind: what is listed.
        wanted: the filter; its `after` and `limit` say nothing here.

    Raises:
        psycopg.Error: a table is missing, or the server can't answer.
    """
    conditions, values = _conditions(kind, wanted)
    words = _fragments(kind, wanted) | {"where": " AND ".join(conditions)}
    values |= {"status": wanted.status, "limit": None}
    with connection.cursor(name="cases", row_factory=class_row(Case)) as cursor:
        cursor.itersize = 1_000
        yield from cursor.execute(_ROWS.format(**words).encode(), values)


def one_case(connection: Connection, kind: CaseKind, case_id: str) -> Case | None:
    """One case; None if there is no such answer.

    Args:
        connection: to the kind's database.
        kind: what it is a case of.
        case_id: which.

    Raises:
        psycopg.Error: a table is missing, or the server can't answer.
    """
    words = _fragments(kind, CaseFilter(status="all"))
    words["where"] = f"a.{quote_identifier(kind.key)} = %(case_id)s"
    values = {"case_id": case_id, "limit": 1}
    with connection.cursor(row_factory=class_row(Case)) as cursor:
        return cursor.execute(_ROWS.format(**words).encode(), values).fetchone()


def _fragments(kind: CaseKind, wanted: CaseFilter) -> dict[str, str]:
    """SQL made of this library's own words."""
    refund, key = not kind.has_reply, quote_identifier(kind.key)
    decided = _ANY if wanted.status in ("open", "all", "pending") else _DECIDED
    return {
        "key": key,
        "table": table_sql(kind.spec),
        "decided": decided.format(trail=kind.trail, key=key),
        "minutes": "(extract(epoch FROM a.ts - a.order_ts) / 60)::float8" if refund else "NULL",
        "label": _label(kind),
        "usd": amount_sql(kind.amount),
        "words": text_sql("reason" if refund else "rationale"),
        "source": text_sql("source"),
        "category": "NULL" if refund else text_sql("complaint_category"),
        "priority": "NULL" if refund else text_sql("priority"),
        "draft": "NULL" if refund else text_sql("customer_response"),
        "order": {
            "newest": f"a.ts DESC, a.{key} DESC",
            "oldest": f"a.ts, a.{key}",
            "amount": f"coalesce({amount_sql(kind.amount)}, 0) DESC, a.{key} DESC",
            "priority": f"{_RANK} DESC, a.ts DESC, a.{key} DESC",
        }[wanted.sort],
    }


def _label(kind: CaseKind) -> str:
    return text_sql("decision" if kind.has_reply else "refund_class")


def _conditions(kind: CaseKind, wanted: CaseFilter) -> tuple[list[str], dict[str, Any]]:
    usd, key = amount_sql(kind.amount), quote_identifier(kind.key)
    # Every answer has its event time; one without would have no place in the list.
    conditions: dict[str, object] = {"a.ts IS NOT NULL": None}
    if wanted.status == "pending":
        conditions["coalesce(d.status, 'pending') = 'pending'"] = None
    if wanted.status == "open" and kind.has_reply:
        conditions["coalesce(d.status, 'pending') IN ('pending', 'escalated')"] = None
    elif wanted.status == "open":
        conditions["coalesce(d.status, 'pending') = 'pending'"] = None
        conditions[f"{_label(kind)} IS DISTINCT FROM 'none'"] = None
    optional = {
        f"{_label(kind)} = %(label)s": wanted.label,
        f"{text_sql('source')} = %(source)s": wanted.source,
        f"{usd} >= %(min_usd)s": wanted.min_usd,
        f"{usd} <= %(max_usd)s": wanted.max_usd,
        "a.ts >= %(since)s::date::timestamp AT TIME ZONE 'UTC'": wanted.since,
        "a.ts < (%(until)s::date + 1)::timestamp AT TIME ZONE 'UTC'": wanted.until,
    }
    conditions |= {sql: value for sql, value in optional.items() if value not in (None, "")}
    values = wanted.model_dump(include={"label", "source", "min_usd", "max_usd", "since", "until"})
    if wanted.text:
        words = text_sql("rationale" if kind.has_reply else "reason")
        found = f"(a.{key} = %(text)s OR a.order_id = %(text)s OR {words} ILIKE %(part)s)"
        conditions[found] = None
        values |= {"text": wanted.text, "part": f"%{_literally(wanted.text)}%"}
    return list(conditions), values


def _literally(text: str) -> str:
    """A pattern of LIKE that means this text."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _cursor(kind: CaseKind, wanted: CaseFilter, last: Case) -> str:
    place = _Place(
        of=_list(kind, wanted),
        at=last.at,
        usd=last.suggested_usd,
        priority=last.priority,
        last=last.case_id,
    )
    return base64.urlsafe_b64encode(place.model_dump_json().encode()).decode()


def _after(kind: CaseKind, wanted: CaseFilter) -> tuple[str, dict[str, object]]:
    """The condition that a page begins with, and its values."""
    usd, key = amount_sql(kind.amount), quote_identifier(kind.key)
    try:
        place = _Place.model_validate_json(base64.urlsafe_b64decode(wanted.after.encode()))
    except ValueError:  # of Base64, of UTF-8, or of what it says
        place = None
    if place is None or place.of != _list(kind, wanted):
        raise ConsoleError(
            "The place in the list is none of this list, or one of an older console.",
            hint="Begin at the first page.",
        )
    values: dict[str, object] = {"at": place.at, "usd": place.usd or 0, "last": place.last}
    if wanted.sort == "amount":
        return f"(coalesce({usd}, 0), a.{key}) < (%(usd)s, %(last)s)", values
    if wanted.sort == "priority":
        values["rank"] = _RANKS.get(place.priority or "", 0)
        return f"({_RANK}, a.ts, a.{key}) < (%(rank)s, %(at)s, %(last)s)", values
    sign = "<" if wanted.sort == "newest" else ">"
    return f"(a.ts, a.{key}) {sign} (%(at)s, %(last)s)", values


def _list(kind: CaseKind, wanted: CaseFilter) -> str:
    """Digest of a list: a place in one says nothing in another."""
    said = [kind.name, wanted.model_dump_json(exclude={"after", "limit"})]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]
