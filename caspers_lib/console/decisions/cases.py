"""The list of cases: filtered, sorted and paged by Postgres, each with its latest decision.

A page begins after the last row of the one before (keyset), so it is as fast as the first and
misses nothing when rows come in between. What it is found by lies in the table of cases.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeAlias

from psycopg import Connection
from psycopg.rows import class_row
from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
)

from caspers_lib.console.decisions.values import LARGEST_USD, CaseKind, Status, Usd
from caspers_lib.console.json_columns import json_sql
from caspers_lib.console.queries import table_sql, text_sql
from caspers_lib.errors import ConsoleError
from caspers_lib.lakebase.identifiers import quote_identifier

__all__ = [
    "MOST_COUNTED",
    "Case",
    "CaseFilter",
    "CasePage",
    "Sort",
    "case_cities",
    "case_page",
    "one_case",
    "stream_cases",
]

MOST_COUNTED = 2_000
"""Of a large table more are not counted: the page says "more than"."""

Sort: TypeAlias = Literal["newest", "oldest", "amount", "priority"]
ListedStatus: TypeAlias = Literal["open", "all"] | Status
_Word = Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")]


def _may_be_empty(schema: dict[str, Any]) -> None:
    schema["anyOf"].append({"type": "string", "const": ""})


def _day(value: object) -> object:
    # A number would be read as seconds since 1970.
    if isinstance(value, str) and not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        raise ValueError("a day is written as 2024-03-11")
    return value


_Day = Annotated[date, BeforeValidator(_day)]
_Unfilled: Any = Field(default=None, json_schema_extra=_may_be_empty)


class CaseFilter(BaseModel):
    """Which cases; an unknown filter is refused.

    Args:
        status: `open` is what waits for a person: pending, with something suggested; for
            complaints also what was escalated.
        label: the agent's class (`none`, `partial`, `full`) or decision.
        source: who answered: `model`, `rules` or `error`.
        city: where the order is from.
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
    city: _Word = ""
    min_usd: Usd | None = _Unfilled
    max_usd: Usd | None = _Unfilled
    since: _Day | None = _Unfilled
    until: _Day | None = _Unfilled
    text: _Word = ""
    sort: Sort = "newest"
    after: Annotated[str, Field(max_length=1_000)] = ""
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
        city: where that is from; None while it is not known.
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
        decided_at: when, by the database's clock: wall time, not event time.
        reason: why.
    """

    case_id: str
    order_id: str | None
    city: str | None
    at: datetime | None
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
        count: cases that fit the filter.
        is_exact: whether these are all of them.
        unseen: cases that came since the page was shown; no part of an answer in JSON.
    """

    rows: tuple[Case, ...]
    next: str | None
    count: int
    is_exact: bool
    unseen: Annotated[int, Field(exclude=True)] = 0


class _Place(BaseModel):
    """Where a page ended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    of: str
    at: AwareDatetime
    worth: Annotated[Decimal, Field(ge=-LARGEST_USD, le=LARGEST_USD, allow_inf_nan=False)]
    rank: Annotated[int, Field(ge=0, le=9)]
    number: Annotated[int, Field(ge=-(2**63), lt=2**63)]


_ROWS = """
    SELECT c.case_id, c.order_id, c.city, c.at, c.minutes, c.label, c.category, c.priority,
           c.usd AS suggested_usd, c.words, {draft} AS suggested_reply, c.source,
           c.version, c.status, c.amount_usd, d.reply, d.person, d.decided_at, d.reason
    FROM (SELECT * FROM {cases} WHERE {where}) AS c
    LEFT JOIN {table} AS a ON a.{key} = c.case_id
    LEFT JOIN {trail} AS d ON d.case_id = c.case_id AND d.version = c.version
    ORDER BY {order}
"""
_ENDS = "SELECT at, worth, rank, number FROM {cases} WHERE case_id = %s"
# What is counted is in the list's order too: its first rows are the page.
_FOUND = """
    WITH found AS MATERIALIZED (
        SELECT case_id FROM {cases} WHERE {where} ORDER BY {order} LIMIT %(most)s
    )
    SELECT (SELECT count(*) FROM found), ARRAY (SELECT case_id FROM found LIMIT %(limit)s)
"""
_SORTS: Mapping[Sort, tuple[str, ...]] = {
    "newest": ("at DESC", "number DESC"),
    "oldest": ("at", "number"),
    "amount": ("worth DESC", "number DESC"),
    "priority": ("rank DESC", "at DESC", "number DESC"),
}


def case_page(
    connection: Connection,
    kind: CaseKind,
    wanted: CaseFilter,
    *,
    most: int = MOST_COUNTED,
    shown: Sequence[str] = (),
) -> CasePage:
    """One page of the cases that fit a filter, and how many fit.

    Args:
        connection: to the kind's database.
        kind: what is listed.
        wanted: the filter.
        most: more cases than that are not counted; at least a page.
        shown: the cases that an open page shows already: these again, in their places, whether or
            not they fit any more.

    Raises:
        ConsoleError: `after` is of another list, or none.
        psycopg.Error: a table is missing, or the server can't answer.
    """
    conditions, values = _conditions(kind, wanted)
    where = " AND ".join(conditions)
    values["limit"] = wanted.limit + 1
    order = ", ".join(_SORTS[wanted.sort])
    listed = _rows_sql(connection, kind, wanted.sort, "case_id = ANY (%(ids)s) AND is_listed")

    def fitting(where: str, most: int) -> tuple[int, list[str]]:
        query = _FOUND.format(cases=kind.cases, where=where, order=order).encode()
        # A plan for any values, as a prepared statement gets it, is slow for a rare filter.
        [(count, ids)] = connection.execute(query, values | {"most": most}, prepare=False)
        return count, ids

    def following(after: str) -> list[str]:
        condition, place = _after(kind, wanted, after)
        values.update(place)
        return fitting(f"{where} AND {condition}", wanted.limit + 1)[1]

    def cases(ids: Sequence[str]) -> tuple[Case, ...]:
        with connection.cursor(row_factory=class_row(Case)) as cursor:
            by_id = {case.case_id: case for case in cursor.execute(listed, {"ids": list(ids)})}
        return tuple(by_id[case_id] for case_id in ids if case_id in by_id)

    count, ids = fitting(where, most + 1)
    if wanted.after:
        ids = following(wanted.after)
    kept = cases(shown) if shown else ()
    rows = kept or cases(ids[: wanted.limit])
    end = _cursor(connection, kind, wanted, rows[-1]) if rows else None
    beyond = following(end) if kept and end else ids[wanted.limit :]
    unseen = len(set(ids[: wanted.limit]) - set(shown) - set(beyond)) if kept else 0
    return CasePage(rows, end if beyond else None, min(count, most), count <= most, unseen)


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
    query = _rows_sql(connection, kind, wanted.sort, " AND ".join(conditions))
    with connection.cursor(name="cases", row_factory=class_row(Case)) as cursor:
        cursor.itersize = 1_000
        yield from cursor.execute(query, values)


def one_case(connection: Connection, kind: CaseKind, case_id: str) -> Case | None:
    """One case; None if there is no such answer.

    Args:
        connection: to the kind's database.
        kind: what it is a case of.
        case_id: which.

    Raises:
        psycopg.Error: a table is missing, or the server can't answer.
    """
    query = _rows_sql(connection, kind, "newest", "case_id = %(case_id)s AND is_there")
    with connection.cursor(row_factory=class_row(Case)) as cursor:
        return cursor.execute(query, {"case_id": case_id}).fetchone()


def case_cities(connection: Connection, kind: CaseKind) -> tuple[str, ...]:
    """The cities that cases are from, at most a hundred.

    Args:
        connection: to the kind's database.
        kind: whose.

    Raises:
        psycopg.Error: the server can't answer.
    """
    return tuple(city for (city,) in connection.execute(_CITIES.format(cases=kind.cases).encode()))


# Each next city is one look into the index.
_CITIES = """
    WITH RECURSIVE found (city) AS (
        SELECT min(city) FROM {cases} WHERE is_listed AND city > ''
        UNION ALL
        SELECT (SELECT min(city) FROM {cases} WHERE is_listed AND city > found.city)
        FROM found WHERE city IS NOT NULL
    )
    SELECT city FROM found WHERE city IS NOT NULL LIMIT 100
"""


def _rows_sql(connection: Connection, kind: CaseKind, sort: Sort, where: str) -> bytes:
    draft = "NULL"
    if kind.has_reply:
        answer = json_sql(connection, kind.spec, "agent_response")
        draft = text_sql("customer_response", answer=answer)
    return _ROWS.format(
        cases=kind.cases,
        table=table_sql(kind.spec),
        key=quote_identifier(kind.key),
        trail=kind.trail,
        draft=draft,
        where=where,
        order=", ".join(f"c.{column}" for column in _SORTS[sort]),
    ).encode()


def _conditions(kind: CaseKind, wanted: CaseFilter) -> tuple[list[str], dict[str, Any]]:
    """SQL conditions on the table of cases, and the values that they name."""
    # What is open is listed too, which lets the indexes of what is listed serve.
    conditions = ["is_listed", *(["is_open"] if wanted.status == "open" else [])]
    if wanted.status not in ("open", "all"):
        conditions.append("status = %(status)s")
    optional = {
        "label = %(label)s": wanted.label,
        "source = %(source)s": wanted.source,
        "city = %(city)s": wanted.city,
        "worth >= %(min_usd)s AND usd IS NOT NULL": wanted.min_usd,
        "worth <= %(max_usd)s AND usd IS NOT NULL": wanted.max_usd,
        "at >= %(since)s::date::timestamp AT TIME ZONE 'UTC'": wanted.since,
        "at < (%(until)s::date + 1)::timestamp AT TIME ZONE 'UTC'": wanted.until,
    }
    conditions += [sql for sql, value in optional.items() if value not in (None, "")]
    values = wanted.model_dump(exclude={"sort", "after", "limit"})
    if wanted.text:
        about = " OR order_id = %(text)s" if kind.has_reply else ""
        conditions.append(f"(case_id = %(text)s{about} OR words ILIKE %(part)s)")
        values |= {"part": f"%{_literally(wanted.text)}%"}
    return conditions, values


def _literally(text: str) -> str:
    """A pattern of LIKE that means this text."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _cursor(connection: Connection, kind: CaseKind, wanted: CaseFilter, last: Case) -> str:
    query = _ENDS.format(cases=kind.cases).encode()
    [(at, worth, rank, number)] = connection.execute(query, (last.case_id,)).fetchall()
    place = _Place(of=_list(kind, wanted), at=at, worth=worth, rank=rank, number=number)
    return base64.urlsafe_b64encode(place.model_dump_json().encode()).decode()


def _after(kind: CaseKind, wanted: CaseFilter, after: str) -> tuple[str, dict[str, object]]:
    """The condition that a page begins with, and its values."""
    try:
        place = _Place.model_validate_json(base64.urlsafe_b64decode(after.encode()))
    except ValueError:  # of Base64, of UTF-8, or of what it says
        place = None
    if place is None or place.of != _list(kind, wanted):
        raise ConsoleError(
            "The place in the list is none of this list, or one of an older console.",
            hint="Begin at the first page.",
        )
    columns = [column.removesuffix(" DESC") for column in _SORTS[wanted.sort]]
    values = {f"after_{column}": getattr(place, column) for column in columns}
    marks = ", ".join(f"%({name})s" for name in values)
    sign = ">" if wanted.sort == "oldest" else "<"
    return f"({', '.join(columns)}) {sign} ({marks})", values


def _list(kind: CaseKind, wanted: CaseFilter) -> str:
    """Digest of a list: a place in one says nothing in another."""
    said = [kind.name, wanted.model_dump_json(exclude={"after", "limit"})]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]
