"""Which events of a dataset the rules would set aside, and why, told without Spark.

The rules are those of the tables, `domain.event_rules`, in their order, with their conditions in
Spark SQL written as DuckDB SQL. What the mapping sees to itself holds for every event. The types of
the fields in a body are judged as Spark's JSON reader judges them.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, localcontext
from functools import partial
from typing import TYPE_CHECKING

from pydantic_core import SchemaValidator, ValidationError, core_schema, to_json

from caspers_lib.domain import Domain, Rule, event_rules
from caspers_lib.domain.rules import BODY_TEXT, READABLE, of_actions

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["Quarantine", "SetAside", "create_judged_view", "set_aside"]

_HOLDS = "true"


@dataclass(frozen=True, slots=True)
class SetAside:
    """Events that violate a rule, and none before it.

    Args:
        rule: the rule's name, the first reason in the quarantine.
        comment: the rule in words.
        event_type: their type.
        events: their number.
        first_order: the order of the first of them.
    """

    rule: str
    comment: str
    event_type: str
    events: int
    first_order: str


@dataclass(frozen=True, slots=True)
class Quarantine:
    """What the rules would set aside.

    Args:
        groups: by rule and event type.
        unjudged: names of the rules whose conditions only Spark can judge.
    """

    groups: tuple[SetAside, ...]
    unjudged: tuple[str, ...]


def set_aside(connection: "DuckDBPyConnection", domain: Domain) -> Quarantine:
    """Judge each event of a dataset by the rules that keep events out of the tables.

    Args:
        connection: has the dataset, whose rows are fit to be replayed, as the view `events`.
        domain: the business and its rules.
    """
    rules, unjudged = create_judged_view(connection, domain)
    # Without a filter: DuckDB would judge each event twice, once to find it and once to name it.
    rows = connection.execute(
        f"SELECT rule, event_type, count(*), min((ts_seconds, place, {domain.entity_key}))[3] "  # noqa: S608 - names of the domain and its own rules, here and below
        "FROM judged GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    groups = tuple(
        SetAside(rules[number].name, rules[number].comment, event_type, count, order)
        for number, event_type, count, order in rows
        if number is not None
    )
    return Quarantine(groups, unjudged)


def create_judged_view(
    connection: "DuckDBPyConnection", domain: Domain
) -> tuple[list[Rule], tuple[str, ...]]:
    """The events with the number of the first `rule` that they violate, as the view `judged`.

    Args:
        connection: has the dataset, whose rows are fit to be replayed, as the view `events`.
        domain: the business and its rules.

    Returns:
        the rules by their number, and the names of those that only Spark can judge.
    """
    import duckdb

    _create_landed_view(connection, domain)
    rules: list[Rule] = []
    unjudged: list[str] = []
    cases = ""
    for rule in of_actions(event_rules(domain), "quarantine", "drop", "fail"):
        condition = _written_by_mapping(rule) or _duckdb_condition(rule.condition)
        try:
            connection.execute(f"EXPLAIN SELECT {condition} FROM landed")  # noqa: S608
        except duckdb.Error:
            unjudged.append(rule.name)
        else:
            cases += f" WHEN NOT coalesce({condition}, false) THEN {len(rules)}"
            rules.append(rule)
    connection.execute(
        f"CREATE TEMP VIEW judged AS SELECT ts_seconds, place, {domain.entity_key}, event_type, "  # noqa: S608
        f"CASE{cases} END AS rule FROM landed"
    )
    return rules, tuple(unjudged)


def _create_landed_view(connection: "DuckDBPyConnection", domain: Domain) -> None:
    """The events as bronze holds them: whole numbers that don't fit their column are null."""
    names = " ".join(f"WHEN {e.id} THEN {_quoted(e.name)}" for e in domain.event_types)
    wholes = (domain.site_key, "sequence")
    fit = " AND ".join(f"try_cast({name} AS INTEGER) IS NOT NULL" for name in wholes)
    columns = ", ".join(f"try_cast({name} AS INTEGER) AS {name}" for name in wholes)
    values: dict[str, str] = {}
    readings: list[str] = []
    for event in domain.event_types:
        for field in event.body:
            value, kind = _name(field.column), field.type
            if (event.name, field.name) == (domain.line_items.event, domain.line_items.field):
                kind = domain.line_items.element_type
            # Numbers and texts the mapping writes by their type; JSON is taken over as it is.
            if field.kind == "json":
                reader = f"read_{event.id}_{field.name}"
                connection.create_function(reader, _json_reader(kind), ["VARCHAR"], "VARCHAR")
                readings.append(
                    f"CASE WHEN event_type_id = {event.id} THEN {reader}({value}) END AS {reader}"
                )
                template = _quoted(json.dumps(_duckdb_type(kind)))
                value = f"json_transform(nullif({reader}, ''), {template})"
            values[field.name] = f"{values.get(field.name, '')} WHEN {event.id} THEN {value}"
    body = [f"{_name(name)} := CASE event_type_id{cases} END" for name, cases in values.items()]
    misfits = " OR ".join(f"{reading.rpartition(' ')[2]} = ''" for reading in readings) or "false"
    body.append(f"{BODY_TEXT} := CASE WHEN {misfits} THEN 'its fields' END")
    # Each JSON text is read once, in a projection of its own.
    connection.execute(
        f"CREATE TEMP VIEW landed AS SELECT ts_seconds, sequence AS place, "  # noqa: S608
        f"CASE event_type_id {names} END AS event_type, {domain.entity_key}, {columns}, "
        f"{fit} AS fields_fit, struct_pack({', '.join(body)}) AS parsed "
        f"FROM (SELECT {', '.join(('*', *readings))} FROM events)"
    )


def _written_by_mapping(rule: Rule) -> str:
    """The condition of a rule about what the mapping writes; empty for every other rule."""
    return {
        READABLE: _HOLDS,
        "field_types": "fields_fit",
        "event_id_present": _HOLDS,
        "known_event_type": _HOLDS,
        "ts_readable": _HOLDS,
        "body_valid": f"parsed.{BODY_TEXT} IS NULL",
    }.get(rule.name, "")


# --- the types in a body --------------------------------------------------------------------------


def _json_reader(kind: str) -> Callable[[str], str]:
    """JSON texts as Spark reads them into a type; empty where one doesn't fit."""
    validator = SchemaValidator(_schema(kind))

    def read(text: str) -> str:
        try:
            value = validator.validate_json(text)
            if "{" in text:
                for occurrence in _occurrences(text):
                    validator.validate_python(occurrence)
        except ValidationError:
            return ""
        return to_json(value).decode()

    return read


def _occurrences(text: str) -> Iterator[object]:
    """Where a name is there twice the last one counts, but each of its values must fit.

    Yields:
        the value of the text with the first value of each such name, with the second, and so on.
    """
    most = 1

    def chosen(pairs: list[tuple[str, object]]) -> dict[str, object]:
        nonlocal most
        fields = dict(pairs)
        if len(fields) < len(pairs):
            counts: Counter[str] = Counter()
            for name, value in pairs:
                if counts[name] <= number:
                    fields[name] = value
                counts[name] += 1
            most = max(most, *counts.values())
        return fields

    number = 0
    value = json.loads(text, object_pairs_hook=chosen)
    while number + 1 < most:  # nothing more where no name is there twice
        yield value
        number += 1
        value = json.loads(text, object_pairs_hook=chosen)


def _schema(kind: str) -> core_schema.CoreSchema:
    """What JSON is of a Spark type; null is of any."""
    name, inner = _parts(kind)
    schema: core_schema.CoreSchema
    match name.partition("(")[0]:
        case "INT" | "BIGINT":
            most = 2 ** (31 if name == "INT" else 63)
            schema = core_schema.int_schema(strict=True, ge=-most, lt=most)
        case "DOUBLE":
            schema = core_schema.float_schema(strict=True, allow_inf_nan=False)
        case "BOOLEAN":
            schema = core_schema.bool_schema(strict=True)
        case "STRING":
            schema = core_schema.no_info_plain_validator_function(_text)
        case "DECIMAL":
            digits, places = map(int, re.findall("[0-9]+", name))
            number = partial(_decimal, digits, places)
            schema = core_schema.no_info_plain_validator_function(number)
        case "ARRAY":
            schema = core_schema.list_schema(_schema(inner[0]))
        case "STRUCT":
            parts = (part.partition(":") for part in inner)
            fields = {
                field.strip(): core_schema.typed_dict_field(_schema(of), required=False)
                for field, _, of in parts
            }
            schema = core_schema.typed_dict_schema(fields)
        case _:
            raise NotImplementedError(f"JSON of the type {kind} is judged by Spark alone")
    return core_schema.nullable_schema(schema)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _decimal(digits: int, places: int, value: object) -> str:
    """A number, or a text that is one, rounded half up to its places."""
    text = str(value).replace(",", "")
    if isinstance(value, bool | list | dict) or not _NUMBER.fullmatch(text):
        raise ValueError("no number")
    with localcontext(prec=1_000):
        rounded = Decimal(text).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
    if abs(rounded) >= 10 ** (digits - places):
        raise ValueError("too large")
    return str(rounded)


_NUMBER = re.compile(r"[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]{1,3})?")


def _duckdb_type(kind: str) -> object:
    """A Spark type as `json_transform` takes it."""
    name, inner = _parts(kind)
    if name == "ARRAY":
        return [_duckdb_type(inner[0])]
    if name == "STRUCT":
        return {n.strip(): _duckdb_type(k) for n, _, k in (f.partition(":") for f in inner)}
    return {"STRING": "VARCHAR", "INT": "INTEGER"}.get(name, name)


def _parts(kind: str) -> tuple[str, list[str]]:
    """A Spark type's name and what stands within its angle brackets, cut at commas."""
    name, _, rest = kind.strip().partition("<")
    inner, depth = [""], 0
    for char in rest.strip().removesuffix(">"):
        depth += (char in "(<") - (char in ")>")
        if char == "," and not depth:
            inner.append("")
        else:
            inner[-1] += char
    return name.strip().upper(), inner


# --- conditions -----------------------------------------------------------------------------------

_WORD = re.compile(r"'(?:[^'\\]|\\.)*'|<=>|->|\w+|\s+|.", re.DOTALL)
_CALL = re.compile(r"\b(size|array|forall|exists|filter|transform|aggregate)\s*\($")
_NAMES = {"size": "len", "array": "list_value", "filter": "list_filter"}


def _duckdb_condition(condition: str) -> str:
    """A condition in Spark SQL as DuckDB writes it."""
    return _translated(_WORD.findall(condition))


def _translated(words: list[str]) -> str:
    written = ""
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word == "(":
            end = _closing(words, position)
            inside = _arguments(words[position:end])
            position = end + 1
            if call := _CALL.search(written + "("):
                written = written[: call.start()] + _call(call[1], inside)
            else:
                written += f"({', '.join(inside)})"
        elif word[0] == "'":
            written += _quoted(re.sub(r"\\(.)", r"\1", word[1:-1]))
        elif word == "->":
            head = re.search(r"(\w+|\([\w\s,]+\))\s*$", written)
            parameters = head[1].strip("()") if head else ""
            written = f"{written[: head.start()] if head else written}lambda {parameters}:"
        else:
            written += {"<=>": "IS NOT DISTINCT FROM"}.get(word, word)
    return written


def _closing(words: list[str], position: int) -> int:
    depth = 1
    for number in range(position, len(words)):
        depth += (words[number] == "(") - (words[number] == ")")
        if not depth:
            return number
    return len(words)


def _arguments(words: list[str]) -> list[str]:
    arguments: list[list[str]] = [[]]
    depth = 0
    for word in words:
        depth += (word == "(") - (word == ")")
        if word == "," and not depth:
            arguments.append([])
        else:
            arguments[-1].append(word)
    return [_translated(argument).strip() for argument in arguments]


def _call(function: str, arguments: list[str]) -> str:
    """A call of a function of Spark that DuckDB has under another name or in another form."""
    listed = ", ".join(arguments)
    match function:
        case "forall":
            head, _, body = arguments[1].partition(":")
            each = f"list_transform({arguments[0]}, {head}: coalesce({body}, false))"
            return f"coalesce(list_bool_and({each}), {arguments[0]} IS NOT NULL)"
        case "exists":
            return f"list_bool_or(list_transform({listed}))"
        case "aggregate":
            values, start, merge, *_ = arguments
            return f"list_reduce({values}, {merge}, {start})"
        case _:
            return f"{_NAMES.get(function, f'list_{function}')}({listed})"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
