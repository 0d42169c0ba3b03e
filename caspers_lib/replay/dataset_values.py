"""Values that no event may carry: NaN and infinite numbers, and JSON that is none.

Contract: DESIGN section 4. DuckDB judges the rows; only JSON whose looks deceive reaches Python.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from caspers_lib.domain import BodyField, Domain, EventType
from caspers_lib.errors import DatasetError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["refuse_broken_values"]

_HINT = "mend the rows or generate a new one with `caspers dataset generate`"
_BATCH_ROWS = 1_000

# DuckDB's parser lets NaN, infinities and a last comma pass, which no reader of events does. What
# looks like one of them may be text within a string: a strict parser decides.
_DECEPTIVE = r"(?i)(^|[\[,:])\s*-?(nan|inf)|,\s*[\]}]"


@dataclass(frozen=True, slots=True)
class _Rule:
    """What a column must hold where an event's body needs it; a null is an absent value.

    Args:
        column: the column.
        kind: `number`, `json` or `array` (JSON that is one).
        types: ids of the event types that need it.
    """

    column: str
    kind: str
    types: tuple[int, ...]

    @property
    def used(self) -> str:
        """The rows that the rule is about, as SQL."""
        return f"event_type_id IN ({', '.join(map(str, self.types))}) AND {self.name} IS NOT NULL"

    @property
    def name(self) -> str:
        """The column as SQL."""
        return '"' + self.column.replace('"', '""') + '"'

    @property
    def broken(self) -> str:
        """Whether a row breaks the rule, as SQL."""
        if self.kind == "number":
            return f"({self.used} AND NOT isfinite({self.name}))"
        found = f"CASE WHEN json_valid({self.name}) THEN json_type({self.name}) END"
        if self.kind == "array":
            return f"({self.used} AND ({found}) IS DISTINCT FROM 'ARRAY')"
        return f"({self.used} AND ({found}) IS NULL)"

    @property
    def complaint(self) -> str:
        """What is wrong with such rows."""
        return {
            "number": f"is NaN or infinite in {self.column}",
            "json": f"is not JSON in {self.column}",
            "array": f"is not a JSON array in {self.column}",
        }[self.kind]


def refuse_broken_values(connection: "DuckDBPyConnection", path: Path, domain: Domain) -> None:
    """Refuse the dataset if a value can't become a field of its event's body.

    Args:
        connection: has the dataset as the view `events`.
        path: the dataset, for the error's sentence.
        domain: its event types say which fields each body has.

    Raises:
        DatasetError: each column with such values, how many, and the first order.
    """
    rules = _rules(domain)
    if not rules:
        return
    measures = ", ".join(
        f"count(*) FILTER ({rule.broken}), "
        f"min((ts_seconds, sequence, order_id)) FILTER ({rule.broken})"
        for rule in rules
    )
    (row,) = connection.execute(f"SELECT {measures} FROM events").fetchall()  # noqa: S608 - names and ids come from the domain's definition, not from data
    complaints: list[str] = []
    for rule, count, first in zip(rules, row[::2], row[1::2], strict=True):
        found = [(count, first)] if count else []
        if rule.kind != "number":
            found += _deceptive(connection, rule)
        if found:
            total = sum(n for n, _ in found)
            *_, order = min(at for _, at in found)
            complaints.append(f"{rule.complaint} in {total:,} rows, the first in order {order!r}")
    if complaints:
        raise DatasetError(f"The dataset {path} {'; it '.join(complaints)}", hint=_HINT)


def _rules(domain: Domain) -> list[_Rule]:
    types: dict[tuple[str, str], list[int]] = {}
    for event in domain.event_types:
        for field in event.body:
            if field.kind != "text":
                types.setdefault((field.column, _kind(domain, event, field)), []).append(event.id)
    return [_Rule(column, kind, tuple(ids)) for (column, kind), ids in types.items()]


def _kind(domain: Domain, event: EventType, field: BodyField) -> str:
    items = domain.line_items
    if field.kind == "json" and (
        field.type.startswith("ARRAY") or (event.name, field.name) == (items.event, items.field)
    ):
        return "array"
    return field.kind


_Place = tuple[int, int, str]


def _deceptive(connection: "DuckDBPyConnection", rule: _Rule) -> Iterator[tuple[int, _Place]]:
    """(1, place) of each row that DuckDB takes for JSON and a strict parser does not."""
    query = (
        f"SELECT ts_seconds, sequence, order_id, {rule.name} AS text FROM events "  # noqa: S608 - as above
        f"WHERE {rule.used} AND NOT {rule.broken} AND regexp_matches({rule.name}, '{_DECEPTIVE}')"
    )
    for batch in connection.sql(query).to_arrow_reader(_BATCH_ROWS):
        for row in batch.to_pylist():
            if not _is_json(row["text"]):
                yield 1, (row["ts_seconds"], row["sequence"], row["order_id"])


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)
