"""What no row of a dataset may be: one judge for the check, the replay and the Spark data source.

A row without its key, of an unknown type, with a number that is none or with JSON that is none is
no event. An id that two events would share, in any loop, makes one of them vanish. DuckDB judges
the rows; only JSON whose looks deceive reaches Python.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from caspers_lib.domain import BodyField, Domain, EventType
from caspers_lib.errors import DatasetError
from caspers_lib.replay.dataset_query import dataset_connection
from caspers_lib.spark_paths import plain_path

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from caspers_lib.replay.dataset import EventsFile

__all__ = ["create_events_view", "refuse_unfit_rows", "validate_dataset"]

_HINT = "mend the rows or generate a new one with `caspers dataset generate`"
_BATCH_ROWS = 1_000

# DuckDB's parser lets NaN, infinities and a last comma pass, which no reader of events does. What
# looks like one of them may be text within a string: a strict parser decides.
_DECEPTIVE = r"(?i)(^|[\[,:])\s*-?(nan|inf)|,\s*[\]}]"


def validate_dataset(dataset: "EventsFile", domain: Domain, scratch: Path | None = None) -> None:
    """Refuse a dataset that holds a row which is no event; the whole file is read.

    Args:
        dataset: what is to be played.
        domain: its event types, and the fields in their bodies.
        scratch: folder for what does not fit into memory; None is the system's.

    Raises:
        DatasetError: see `refuse_unfit_rows`.
    """
    with dataset_connection(dataset.path, scratch) as connection:
        create_events_view(connection, dataset.path, domain)
        refuse_unfit_rows(connection, dataset.path, domain)


def create_events_view(connection: "DuckDBPyConnection", path: Path, domain: Domain) -> None:
    """The dataset as the view `events`; keys get one type each, so that no file's own overflows."""
    connection.execute("SET preserve_insertion_order = false")
    connection.read_parquet(str(plain_path(path)), hive_partitioning=False).create_view("dataset")
    keys = ("event_type_id", "ts_seconds", "sequence", domain.site_key)
    wider = ", ".join(f"CAST({key} AS BIGINT) AS {key}" for key in keys)
    connection.execute(f"CREATE VIEW events AS SELECT * REPLACE ({wider}) FROM dataset")  # noqa: S608 - names of the domain, here and below


def refuse_unfit_rows(connection: "DuckDBPyConnection", path: Path, domain: Domain) -> None:
    """Refuse a dataset that holds a row which is no event.

    Args:
        connection: has the dataset as the view `events`.
        path: the dataset, for the error's sentence.
        domain: its event types, and the fields in their bodies.

    Raises:
        DatasetError: a key is null, an event type unknown, an event's id not unique, or a value
            can't become a field of its event's body; with how many there are, and the first.
    """
    _refuse_nulls(connection, path, domain)
    _refuse_unknown_types(connection, path, domain)
    _refuse_shared_ids(connection, path, domain)
    _refuse_broken_values(connection, path, domain)


def _refuse_nulls(connection: "DuckDBPyConnection", path: Path, domain: Domain) -> None:
    keys = ("ts_seconds", domain.entity_key, "event_type_id", domain.site_key, "sequence")
    counts = ", ".join(f"count(*) - count({key})" for key in keys)
    (nulls,) = connection.execute(f"SELECT {counts} FROM events").fetchall()  # noqa: S608
    columns = [f"{key} in {count:,}" for key, count in zip(keys, nulls, strict=True) if count]
    if columns:
        raise DatasetError(
            f"The dataset {path} has rows with null {', '.join(columns)}", hint=_HINT
        )


def _refuse_unknown_types(connection: "DuckDBPyConnection", path: Path, domain: Domain) -> None:
    known = {t.id: t.name for t in domain.event_types}
    unknown = connection.execute(
        "SELECT DISTINCT event_type_id FROM events "
        "WHERE NOT list_contains(?::BIGINT[], event_type_id) ORDER BY ALL LIMIT 20",
        [list(known)],
    ).fetchall()
    if unknown:
        allowed = ", ".join(f"{number} {name}" for number, name in known.items())
        raise DatasetError(
            f"The dataset {path} has unknown event type ids "
            f"{', '.join(str(number) for (number,) in unknown)}; allowed are {allowed}",
            hint=_HINT,
        )


# --- ids -----------------------------------------------------------------------------------------


def _refuse_shared_ids(connection: "DuckDBPyConnection", path: Path, domain: Domain) -> None:
    """Refuse events whose ids, made of entity, loop and sequence, would not be their own."""
    key, site = domain.entity_key, domain.site_key
    # Counting hashes takes half the time and a quarter of the memory of grouping by the key.
    ((repeated,),) = connection.execute(
        f"SELECT count(*) - count(DISTINCT hash({key}, sequence)) FROM events"  # noqa: S608
    ).fetchall()
    if repeated:
        ((groups, rows, first),) = connection.execute(
            f"SELECT count(*), sum(n), min(({key}, sequence)) FROM (SELECT {key}, sequence, "  # noqa: S608
            f"count(*) AS n FROM events GROUP BY ALL HAVING n > 1)"
        ).fetchall()
        if groups:
            raise DatasetError(
                f"The dataset {path} has {rows:,} rows that share their {key} and sequence with "
                f"another one, the first in order {first[0]!r} with sequence {first[1]}; the id of "
                "an event is made of both",
                hint="number the events of each order: row_number() OVER (PARTITION BY "
                f"{key} ORDER BY ts_seconds) - 1; where sites count their orders alike, put {site} "
                f"into {key}",
            )
    opening = domain.types_by_name[domain.opening].id
    ((orders, order),) = connection.execute(
        f"SELECT count(*), min({key}) FROM (SELECT {key} FROM events WHERE event_type_id = "  # noqa: S608
        f"{opening} GROUP BY {key} HAVING min({site}) <> max({site}))"
    ).fetchall()
    if orders:
        raise DatasetError(
            f"The dataset {path} has {orders:,} values of {key} with {domain.opening} at more than "
            f"one {site}, the first {order!r}; they are taken for one order each",
            hint=f"where sites count their orders alike, put {site} into {key}",
        )
    ((orders, order),) = connection.execute(
        f"SELECT count(DISTINCT {key}), min({key}) FROM events WHERE "  # noqa: S608
        f"regexp_matches({key}, '-L[1-9][0-9]*$') AND "
        f"regexp_replace({key}, '-L[1-9][0-9]*$', '') IN (SELECT {key} FROM events)"
    ).fetchall()
    if orders:
        raise DatasetError(
            f"The dataset {path} has {orders:,} values of {key} that others get in a later loop, "
            f"which adds -L and its number; the first is {order!r}",
            hint="give them another ending, or leave out the later loops of an older replay",
        )


# --- values --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _ValueRule:
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
        kind = f"CASE WHEN json_valid({self.name}) THEN json_type({self.name}) END"
        if self.kind == "array":
            return f"({self.used} AND ({kind}) IS DISTINCT FROM 'ARRAY')"
        return f"({self.used} AND ({kind}) IS NULL)"

    @property
    def complaint(self) -> str:
        """What is wrong with such rows."""
        return {
            "number": f"is NaN or infinite in {self.column}",
            "json": f"is not JSON in {self.column}",
            "array": f"is not a JSON array in {self.column}",
        }[self.kind]


def _refuse_broken_values(connection: "DuckDBPyConnection", path: Path, domain: Domain) -> None:
    rules = _value_rules(domain)
    if not rules:
        return
    place = f"(ts_seconds, sequence, {domain.entity_key})"
    measures = ", ".join(
        f"count(*) FILTER ({rule.broken}), min({place}) FILTER ({rule.broken})" for rule in rules
    )
    (row,) = connection.execute(f"SELECT {measures} FROM events").fetchall()  # noqa: S608
    complaints: list[str] = []
    for rule, count, first in zip(rules, row[::2], row[1::2], strict=True):
        broken = [(count, first)] if count else []
        if rule.kind != "number":
            broken += _deceptive(connection, rule, domain)
        if broken:
            total = sum(n for n, _ in broken)
            *_, order = min(at for _, at in broken)
            complaints.append(f"{rule.complaint} in {total:,} rows, the first in order {order!r}")
    if complaints:
        raise DatasetError(f"The dataset {path} {'; it '.join(complaints)}", hint=_HINT)


def _value_rules(domain: Domain) -> list[_ValueRule]:
    types: dict[tuple[str, str], list[int]] = {}
    for event in domain.event_types:
        for field in event.body:
            if field.kind != "text":
                types.setdefault((field.column, _kind(domain, event, field)), []).append(event.id)
    return [_ValueRule(column, kind, tuple(ids)) for (column, kind), ids in types.items()]


def _kind(domain: Domain, event: EventType, field: BodyField) -> str:
    items = domain.line_items
    if field.kind == "json" and (
        field.type.startswith("ARRAY") or (event.name, field.name) == (items.event, items.field)
    ):
        return "array"
    return field.kind


_Place = tuple[int, int, str]


def _deceptive(
    connection: "DuckDBPyConnection", rule: _ValueRule, domain: Domain
) -> Iterator[tuple[int, _Place]]:
    """(1, place) of each row that DuckDB takes for JSON and a strict parser does not."""
    query = (
        f"SELECT ts_seconds, sequence, {domain.entity_key}, {rule.name} AS text FROM events "  # noqa: S608
        f"WHERE {rule.used} AND NOT {rule.broken} AND regexp_matches({rule.name}, '{_DECEPTIVE}')"
    )
    for batch in connection.sql(query).to_arrow_reader(_BATCH_ROWS):
        for second, sequence, order, text in zip(*batch.to_pydict().values(), strict=True):
            if not _is_json(text):
                yield 1, (second, sequence, order)


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)
