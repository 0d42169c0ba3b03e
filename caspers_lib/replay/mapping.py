"""Dataset rows to events, as one DuckDB query generated from the domain.

An event is seven columns or one line: a JSON object and a newline, with `body` as a JSON text
inside it. A value that is absent leaves its field out; a number that is not finite, a text that
should be JSON and isn't, and an event without its order, location or sequence are refused: the
query fails and says which order has what. `event.event_json` says the same of one row in Python.
"""

import json
from collections.abc import Callable, Sequence

from caspers_lib.domain import BodyField, Domain, EventType
from caspers_lib.replay.chaos import NO_CHAOS, Chaos
from caspers_lib.replay.chaos_sql import (
    delivered_sql,
    drawn_sql,
    name_sql,
    touched_end_sql,
    touched_line_sql,
    touched_sequence_sql,
    touched_sql,
)
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.event import order_suffix
from caspers_lib.replay.form import Form
from caspers_lib.replay.window import LoopSlice, Window

__all__ = [
    "dataset_columns",
    "event_type_sql",
    "events_sql",
    "identified_sql",
    "rows_sql",
    "slice_name",
]

_TYPES = {"STRING": "VARCHAR", "INT": "INTEGER"}

# json_valid lets a comma in front of a closing bracket pass, and NaN and infinities as numbers.
# One pattern for all three takes longer than the three.
_LAX_JSON = r",\s*[\]}]|(?i:nan|inf)"
_JSON_STRING = r'"([^"\\]|\\.)*"'


def events_sql(
    dataset: EventsFile,
    slices: Sequence[LoopSlice],
    *,
    form: Form,
    domain: Domain,
    shift: int,
    chaos: Chaos = NO_CHAOS,
    window: Window,
) -> str:
    """A query that yields the events of `window` in the order of their delivery.

    Args:
        dataset: what is played.
        slices: its seconds by loop, in order, at least one: those of `window`, with chaos also
            those of the longest delay before it. Their rows are there under their names, with
            `dataset_columns`, see `dataset_query.read_slices`.
        form: what the query's columns are, see `event_batches`.
        domain: the business.
        shift: seconds from virtual to emitted time.
        chaos: what goes wrong.
        window: virtual seconds; without chaos the slices say it all.
    """
    rows = rows_sql(dataset, slices, dataset_columns(domain))
    key = domain.entity_key
    if chaos.is_on:
        drawn = drawn_sql(identified_sql(rows, domain), chaos)
        identified = delivered_sql(drawn, chaos, window, key)
    else:
        # A slice of a sorted file streams through in file order; loops that overlap are merged.
        # The rows are sorted, not the lines: these are several times as large.
        if not (dataset.is_sorted and len(slices) == 1):
            rows = f"SELECT * FROM ({rows}) ORDER BY virtual_ts, {key}, sequence"  # noqa: S608
        identified = identified_sql(rows, domain)
    events = _events_sql(identified, domain, shift, chaos)
    if chaos.is_on:
        events = touched_sql(events, form)
    if form == "columns":
        columns = ", ".join(f"{c.name}::{_TYPES[c.type]} AS {c.name}" for c in domain.event_columns)
        return f"SELECT {columns} FROM ({events})"  # noqa: S608
    name = f", {name_sql(chaos)} AS name" if form == "named_lines" else ""
    return f"SELECT {_line_sql(domain, chaos)} AS line{name} FROM ({events})"  # noqa: S608


def dataset_columns(domain: Domain) -> list[str]:
    """The dataset's columns that an event is made of, each once."""
    envelope = ("event_type_id", domain.site_key, domain.entity_key, "sequence")
    body = (field.column for event in domain.event_types for field in event.body)
    return list(dict.fromkeys((*envelope, *body)))


def slice_name(part: LoopSlice) -> str:
    """The name of a slice's rows in a query."""
    return f"slice_{part.loop}_{part.first}_{part.last}".replace("-", "m")


def rows_sql(dataset: EventsFile, slices: Sequence[LoopSlice], columns: Sequence[str]) -> str:
    """The dataset's rows of `slices`: the given columns, `virtual_ts` and the loop's `suffix`.

    The slices' rows are there under their names, see `dataset_query.read_slices`.
    """
    # Named columns only: a further one of the file could bear the name of one computed here.
    return " UNION ALL ".join(
        f"SELECT {''.join(f'{column}, ' for column in columns)}"  # noqa: S608
        f"ts_seconds::BIGINT + {part.loop * dataset.cycle_seconds} AS virtual_ts, "
        f"{_literal(order_suffix(part.loop))} AS suffix "
        f"FROM {slice_name(part)} "
        f"WHERE ts_seconds BETWEEN {part.first} AND {part.last}"
        for part in slices
    )


def identified_sql(rows: str, domain: Domain) -> str:
    """`rows` with `entity_id` (the order's id in its loop) and `event_id`."""
    named = f"SELECT *, {domain.entity_key} || suffix AS entity_id FROM ({rows})"  # noqa: S608
    hashed = f"SELECT *, {_digest_sql(domain)} AS digest FROM ({named})"  # noqa: S608
    return f"SELECT * EXCLUDE (digest), {_uuid5_sql()} AS event_id FROM ({hashed})"  # noqa: S608


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _json(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _events_sql(identified: str, domain: Domain, shift: int, chaos: Chaos) -> str:
    """The domain's event columns, in their order and types, and what chaos needs of each event."""
    values = {
        "event_id": "event_id",
        "event_type": event_type_sql(domain),
        "ts": _timestamp_sql(f"virtual_ts + {shift}"),
        domain.site_key: _present_sql(domain.site_key, domain.site_key, domain),
        domain.entity_key: _present_sql("entity_id", domain.entity_key, domain),
        "sequence": _present_sql("sequence", "sequence", domain),
        "body": _body_sql(domain),
    }
    columns = [f"{values[c.name]} AS {c.name}" for c in domain.event_columns]
    touched = ["kind", "amount", "delay"] if chaos.is_on else []
    return f"SELECT {', '.join((*columns, *touched))} FROM ({identified})"  # noqa: S608


def _line_sql(domain: Domain, chaos: Chaos) -> str:
    """The envelope: the domain's event columns, in their order, as one JSON object."""
    values = {
        "event_id": """'"' || event_id || '"'""",
        "event_type": "to_json(event_type)",
        "ts": """'"' || ts || '"'""",
        domain.site_key: domain.site_key,
        domain.entity_key: f"to_json({domain.entity_key})",
        "sequence": touched_sequence_sql() if chaos.is_on else "sequence",
        "body": "to_json(body)",
    }
    parts = [
        f"{_literal(('{', ',')[number > 0] + _json(c.name) + ':')}, {values[c.name]}"
        for number, c in enumerate(domain.event_columns)
    ]
    # One concat: a chain of || copies the growing text each time.
    if chaos.is_on:
        return touched_line_sql(f"concat({', '.join((*parts, touched_end_sql()))})") + " || chr(10)"
    return f"concat({', '.join(parts)}, {_literal('}' + chr(10))})"


def _timestamp_sql(seconds: str) -> str:
    return f"strftime(make_timestamp(({seconds}) * 1000000), '%Y-%m-%d %H:%M:%S.%g')"


def event_type_sql(domain: Domain) -> str:
    """The name of an event's type; an unknown type is refused."""
    return _by_type(domain, lambda event: _literal(event.name))


def _by_type(domain: Domain, value: Callable[[EventType], str]) -> str:
    cases = " ".join(f"WHEN {event.id} THEN {value(event)}" for event in domain.event_types)
    unknown = _refused_sql("the unknown event_type_id ", domain, "event_type_id")
    return f"CASE event_type_id {cases} ELSE {unknown} END"


def _body_sql(domain: Domain) -> str:
    def body(event: EventType) -> str:
        fields = ", ".join(_field_sql(field, domain) for field in event.body)
        return f"'{{' || concat_ws(',', {fields}) || '}}'" if fields else "'{}'"

    return _by_type(domain, body)


def _field_sql(field: BodyField, domain: Domain) -> str:
    """`"name":value`, null where the value is absent."""
    label, column = _literal(_json(field.name) + ":"), field.column
    if field.kind == "number":
        number = f"{column}::DOUBLE"
        refused = _refused_sql(f"a {column} that is not a finite number: ", domain, column)
        return (
            f"CASE WHEN isfinite({number}) THEN {label} || to_json({number}) "
            f"WHEN {column} IS NOT NULL THEN {refused} END"
        )
    if field.kind == "text":
        return f"{label} || to_json({column})"
    refused = _refused_sql(f"a text in {column} that is not JSON", domain)
    # Few texts are looked at twice: those with a name such as "Banana" in a string.
    return (
        f"CASE WHEN json_valid({column}) AND NOT {_lax_sql(column)} THEN {label} || {column} "
        f"WHEN json_valid({column}) AND NOT {_lax_sql(_without_strings_sql(column))} "
        f"THEN {label} || {column} WHEN {column} IS NOT NULL THEN {refused} END"
    )


def _lax_sql(text: str) -> str:
    """Whether a text, strings apart, holds what DuckDB takes for JSON and no standard does."""
    return f"regexp_matches({text}, {_literal(_LAX_JSON)})"


def _without_strings_sql(text: str) -> str:
    return f"""regexp_replace({text}, {_literal(_JSON_STRING)}, '""', 'g')"""


def _present_sql(value: str, column: str, domain: Domain) -> str:
    return f"coalesce({value}, {_refused_sql(f'no {column}', domain)})"


def _refused_sql(found: str, domain: Domain, column: str | None = None) -> str:
    """The query's end: which order has what, with the value of `column`."""
    # JSON keeps the sentence in one line. One concat, of texts that differ: what such sentences
    # have in common DuckDB would compute for every row.
    parts = [
        "'order '''",
        domain.entity_key,
        _literal(f"' has {found}"),
        *([column] if column else []),
    ]
    return f"error(to_json(concat({', '.join(parts)})))"


def _digest_sql(domain: Domain) -> str:
    name = "entity_id || '|' || sequence"
    return f"sha1(from_hex({_literal(domain.namespace.hex)}) || encode({name}))"


def _uuid5_sql() -> str:
    """UUIDv5 as text: the SHA-1 `digest` with version 5 and the RFC 4122 variant set."""
    variant = "substr('89ab89ab89ab89ab', strpos('0123456789abcdef', substr(digest, 17, 1)), 1)"
    # A third of the time that slices and a cast to UUID take. The || keeps null null.
    return (
        "substr(digest, 1, 8) || concat('-', substr(digest, 9, 4), '-5', substr(digest, 14, 3), "
        f"'-', {variant}, substr(digest, 18, 3), '-', substr(digest, 21, 12))"
    )
