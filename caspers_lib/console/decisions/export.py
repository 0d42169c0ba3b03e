"""Cases and decisions as files: CSV for a spreadsheet, JSON lines as labels for an evaluation."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import fields

from psycopg import Connection
from psycopg.rows import class_row

from caspers_lib.console.decisions.cases import Case
from caspers_lib.console.decisions.values import GIVEN, CaseKind, Decided

__all__ = ["csv_lines", "label_lines", "last_decisions"]

# What a spreadsheet takes for a formula, wherever it came from.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_LAST = "SELECT DISTINCT ON (case_id) {columns} FROM {trail} ORDER BY case_id, version DESC"


def csv_lines(cases: Iterable[Case]) -> Iterator[str]:
    """A line for the names of the columns, then one for each case; times are UTC, ISO 8601.

    A text that a spreadsheet would take for a formula begins with an apostrophe.

    Args:
        cases: the cases.
    """
    names = [field.name for field in fields(Case)]
    yield _line(names)
    for case in cases:
        yield _line([_cell(getattr(case, name)) for name in names])


def last_decisions(connection: Connection, kind: CaseKind) -> Iterator[Decided]:
    """The latest decision about each case, a thousand at a time.

    Args:
        connection: in a transaction on the kind's database.
        kind: what is decided about.

    Raises:
        psycopg.Error: the trail can't be read.
    """
    columns = ", ".join(field.name for field in fields(Decided))
    query = _LAST.format(columns=columns, trail=kind.trail)
    with connection.cursor(name="last_decisions", row_factory=class_row(Decided)) as cursor:
        cursor.itersize = 1_000
        yield from cursor.execute(query.encode())


def label_lines(kind: CaseKind, decisions: Iterable[Decided]) -> Iterator[str]:
    """What people decided, a JSON object a line, as `caspers agent evaluate --labels` reads it.

    What is pending or waits for a second person is no label. Nor is a complaint that was closed
    without a credit: an agent has no such answer.

    Args:
        kind: what was decided about.
        decisions: the latest of each case.
    """
    for each in decisions:
        said = _complaint_label(each) if kind.has_reply else _refund_label(each)
        if said:
            about = {"decided_by": each.person, "decided_at": each.decided_at.isoformat()}
            yield json.dumps(said | about, ensure_ascii=False) + "\n"


def _refund_label(last: Decided) -> dict[str, object]:
    if last.status not in (*GIVEN, "rejected"):
        return {}
    return {"order_id": last.case_id, "refund_usd": float(last.amount_usd)}


def _complaint_label(last: Decided) -> dict[str, object]:
    if last.status == "escalated":
        return {"complaint_id": last.case_id, "decision": "escalate"}
    if last.status in GIVEN:
        credit = {"decision": "suggest_credit", "credit_amount": float(last.amount_usd)}
        return {"complaint_id": last.case_id, **credit}
    return {}


def _cell(value: object) -> object:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return "" if value is None else value


def _line(cells: Iterable[object]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()
