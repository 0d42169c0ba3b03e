"""Dataset rows to event lines, as one DuckDB query generated from the domain.

Contract: DESIGN section 5. A line is one JSON object and a newline; `body` is a JSON text inside
it. A number that is absent or not finite, and a text that is absent, leave their field out.
"""

import glob
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from caspers_lib.domain import BodyField, Domain, EventType
from caspers_lib.replay.window import LoopSlice

__all__ = ["event_id_name", "event_lines_sql", "order_suffix"]


def order_suffix(loop: int) -> str:
    """What an entity's id gets in loop `loop`: nothing in loop 0, then -L1, -L2, ..."""
    return f"-L{loop}" if loop else ""


def event_id_name(order_id: str, sequence: int) -> str:
    """The text whose UUIDv5, in the domain's namespace, is the event's id.

    Args:
        order_id: with its loop's suffix.
        sequence: the event's number in the order.
    """
    return f"{order_id}|{sequence}"


def event_lines_sql(
    path: Path,
    slices: Sequence[LoopSlice],
    *,
    domain: Domain,
    cycle_seconds: int,
    shift: int,
    is_sorted: bool,
) -> str:
    """A query whose only column, `line`, holds the events of `slices` in time order.

    Args:
        path: the dataset.
        slices: dataset seconds by loop, in order; at least one.
        domain: the business.
        cycle_seconds: length of a loop.
        shift: seconds from virtual to emitted time.
        is_sorted: the file is in time order, so that one slice needs no sort.
    """
    key = domain.entity_key
    rows = " UNION ALL ".join(_slice_sql(path, part, domain, cycle_seconds) for part in slices)
    # A slice of a sorted file streams through in file order; loops that overlap are merged. The
    # rows are sorted, not the lines: these are several times as large.
    if not (is_sorted and len(slices) == 1):
        rows = f"SELECT * FROM ({rows}) ORDER BY virtual_ts, {key}, sequence"  # noqa: S608
    named = f"SELECT *, {key} || suffix AS entity_id FROM ({rows})"  # noqa: S608
    mapped = (
        f"SELECT *, {_digest_sql(domain)} AS digest, {_body_sql(domain)} AS body FROM ({named})"  # noqa: S608
    )
    return f"SELECT {_line_sql(domain, shift)} AS line FROM ({mapped})"  # noqa: S608


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _path(path: Path) -> str:
    """The file's name as a literal; DuckDB would read `*`, `?` and `[` as a pattern."""
    return _literal(glob.escape(str(path)))


def _json(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _slice_sql(path: Path, part: LoopSlice, domain: Domain, cycle_seconds: int) -> str:
    # Named columns only: a further one of the file could bear the name of one computed here, and
    # a folder called `location_id=3` would replace the column.
    return (
        f"SELECT {', '.join(_columns(domain))}, "  # noqa: S608
        f"ts_seconds::BIGINT + {part.loop * cycle_seconds} AS virtual_ts, "
        f"{_literal(order_suffix(part.loop))} AS suffix "
        f"FROM read_parquet({_path(path)}, hive_partitioning = false) "
        f"WHERE ts_seconds BETWEEN {part.first} AND {part.last}"
    )


def _columns(domain: Domain) -> list[str]:
    """The dataset's columns that an event is made of, each once."""
    envelope = ("event_type_id", domain.site_key, domain.entity_key, "sequence")
    body = (field.column for event in domain.event_types for field in event.body)
    return list(dict.fromkeys((*envelope, *body)))


def _line_sql(domain: Domain, shift: int) -> str:
    """The envelope: the domain's event columns, in their order."""
    values = {
        "event_id": f"""'"' || {_uuid5_sql()} || '"'""",
        "event_type": _by_type(domain, lambda event: _literal(_json(event.name))),
        "ts": f"""'"' || {_timestamp_sql(f"virtual_ts + {shift}")} || '"'""",
        domain.site_key: domain.site_key,
        domain.entity_key: "to_json(entity_id)",
        "sequence": "sequence",
        "body": "to_json(body)",
    }
    fields = [f"{_literal(_json(c.name) + ':')} || {values[c.name]}" for c in domain.event_columns]
    line = "'{' || " + " || ',' || ".join(fields) + " || '}' || chr(10)"
    refused = f"an event lacks its {domain.entity_key}, {domain.site_key}, sequence or time"
    return f"coalesce({line}, error({_literal(refused)}))"


def _timestamp_sql(seconds: str) -> str:
    return f"strftime(make_timestamp(({seconds}) * 1000000), '%Y-%m-%d %H:%M:%S.%g')"


def _by_type(domain: Domain, value: Callable[[EventType], str]) -> str:
    cases = " ".join(f"WHEN {event.id} THEN {value(event)}" for event in domain.event_types)
    unknown = "error('unknown event_type_id ' || coalesce(event_type_id::VARCHAR, 'null'))"
    return f"CASE event_type_id {cases} ELSE {unknown} END"


def _body_sql(domain: Domain) -> str:
    def body(event: EventType) -> str:
        fields = ", ".join(_field_sql(field) for field in event.body)
        return f"'{{' || concat_ws(',', {fields}) || '}}'" if fields else "'{}'"

    return _by_type(domain, body)


def _field_sql(field: BodyField) -> str:
    label = _literal(_json(field.name) + ":")
    if field.kind == "number":
        value = f"{field.column}::DOUBLE"
        return f"CASE WHEN isfinite({value}) THEN {label} || to_json({value}) END"
    if field.kind == "text":
        return f"{label} || to_json({field.column})"
    return f"{label} || {field.column}"


def _digest_sql(domain: Domain) -> str:
    name = "entity_id || '|' || sequence"
    return f"sha1(from_hex({_literal(domain.namespace.hex)}) || encode({name}))"


def _uuid5_sql() -> str:
    """UUIDv5 as text: the SHA-1 `digest` with version 5 and the RFC 4122 variant set."""
    variant = "substr('89ab89ab89ab89ab', strpos('0123456789abcdef', digest[17]), 1)"
    return f"(digest[1:12] || '5' || digest[14:16] || {variant} || digest[18:32])::UUID::VARCHAR"
