"""Rules of data quality that follow from what a business is, and those it adds.

A condition is SQL that Spark and Databricks both understand, over the columns of bronze and
`parsed`, the event's body as a struct (`body_type`). What the rules accept, every table and every
reader of one can hold: a rule is never wider than what follows it.
"""

import re
from collections.abc import Iterable, Sequence

from caspers_lib.domain.model import Action, Domain, Rule
from caspers_lib.spark_sql import FIRST_YEAR, LAST_YEAR, event_time, one_json_value, quote_text

__all__ = [
    "BODY_TEXT",
    "READABLE",
    "RESCUED",
    "accepted_condition",
    "all_hold_sql",
    "body_type",
    "event_rules",
    "of_actions",
    "on_bronze",
    "parsed_sql",
    "violated_sql",
]

RESCUED = "_rescued_data"
"""Bronze's column with what of a line does not fit the schema: the fields that don't, as a JSON
object, or the whole line where it is no JSON object."""

READABLE = "json_readable"
"""The rule without which no other one can be judged: where it is violated, it alone is named."""

BODY_TEXT = "_unreadable"
"""Field of the parsed body: its text, where it is no such object; null where it is."""


def event_rules(domain: Domain) -> tuple[Rule, ...]:
    """Every rule for a landed event, the decisive one first."""
    names = _texts(domain.types_by_name)
    fields = _texts(c.name for c in domain.event_columns)
    items = domain.line_items
    site, entity = domain.site_key, domain.entity_key
    return (
        Rule(
            READABLE,
            f"{RESCUED} IS NULL"
            f" OR json_object_keys({RESCUED}) IS NOT NULL AND {one_json_value(RESCUED)}",
            "quarantine",
            "the line is a JSON object",
        ),
        Rule(
            "field_types",
            f"NOT coalesce(arrays_overlap(json_object_keys({RESCUED}), array({fields})), false)",
            "quarantine",
            "every field of the event has the type of the schema",
        ),
        Rule("event_id_present", "event_id <> ''", "quarantine", "the event has an id"),
        Rule("known_event_type", f"event_type IN ({names})", "quarantine", "the type is known"),
        Rule(
            "ts_readable",
            f"{event_time()} IS NOT NULL",
            "quarantine",
            "ts is a UTC time, yyyy-MM-dd HH:mm:ss with up to six decimals, in the years"
            f" {FIRST_YEAR} to {LAST_YEAR}",
        ),
        Rule(f"{entity}_present", f"{entity} <> ''", "quarantine", f"{entity} is there"),
        Rule(f"{site}_present", f"{site} IS NOT NULL", "quarantine", f"{site} is there"),
        Rule("sequence_not_negative", "sequence >= 0", "quarantine", "sequence is 0 or more"),
        Rule(
            "body_valid",
            # The body is named once: Spark may parse it each time that a condition names it.
            f"{one_json_value('body')} AND forall(array(parsed), p -> p IS NOT NULL"
            f" AND p.{BODY_TEXT} IS NULL{_finite_numbers(domain)})",
            "quarantine",
            "the body is one JSON object, its fields have their types, its numbers are finite",
        ),
        Rule(
            f"{items.field}_not_empty",
            f"NOT (event_type <=> {quote_text(items.event)}) OR size(parsed.{items.field}) > 0",
            "quarantine",
            f"{items.event} has at least one of {items.field}",
        ),
        *domain.rules,
        Rule(
            "no_new_field",
            f"{RESCUED} IS NULL",
            "warn",
            "the event has no field that the schema lacks; one that it has is kept",
        ),
        Rule(
            "no_new_body_field",
            f"coalesce(size(array_except(json_object_keys(body), {_known_fields(domain)})) = 0,"
            " true)",
            "warn",
            "the body has no field that its event type lacks; one that it has is kept",
        ),
    )


def body_type(domain: Domain) -> str:
    """DDL of the parsed body: every event type's fields, all optional, and `BODY_TEXT`."""
    items = domain.line_items
    fields = {field.name: field.type for event in domain.event_types for field in event.body}
    fields[items.field] = items.element_type
    return ", ".join(f"{name} {kind}" for name, kind in {**fields, BODY_TEXT: "STRING"}.items())


def parsed_sql(domain: Domain) -> str:
    """The expression of `parsed`: the column `body` as a struct of `body_type`."""
    return (
        f"from_json(body, {quote_text(body_type(domain))}, "
        f"map('mode', 'PERMISSIVE', 'columnNameOfCorruptRecord', {quote_text(BODY_TEXT)}))"
    )


def on_bronze(rule: Rule, domain: Domain) -> Rule:
    """The rule with a condition on bronze's own columns alone, where there is no `parsed`."""
    return Rule(rule.name, _with_parsed(rule.condition, domain), rule.action, rule.comment)


def of_actions(rules: Sequence[Rule], *actions: Action) -> list[Rule]:
    """The rules with one of the actions; all of them if none is named."""
    return [rule for rule in rules if not actions or rule.action in actions]


def all_hold_sql(rules: Sequence[Rule]) -> str:
    """SQL, true or false: none of the rules is violated; they are judged in their order."""
    return " AND ".join(f"coalesce({rule.condition}, false)" for rule in rules) or "true"


def violated_sql(rules: Sequence[Rule]) -> str:
    """SQL of the names of the violated rules, ARRAY<STRING>; of `READABLE` alone if it is one."""
    names = [f"CASE WHEN NOT {all_hold_sql([r])} THEN {quote_text(r.name)} END" for r in rules]
    every = f"array_compact(array({', '.join(names)}))"
    gate = [rule for rule in rules if rule.name == READABLE]
    if not gate:
        return every
    return f"CASE WHEN {all_hold_sql(gate)} THEN {every} ELSE array({quote_text(READABLE)}) END"


def accepted_condition(domain: Domain) -> str:
    """SQL over bronze's own columns: no rule that quarantines or drops the row is violated."""
    rules = of_actions(event_rules(domain), "quarantine", "drop")
    return _with_parsed(all_hold_sql(rules), domain)


def _with_parsed(condition: str, domain: Domain) -> str:
    """The condition with the body parsed once, however often it names `parsed`."""
    if not re.search(r"\bparsed\b", condition):
        return condition
    return f"forall(array({parsed_sql(domain)}), parsed -> {condition})"


def _finite_numbers(domain: Domain) -> str:
    """Further conditions on `p`, the body: 1e999 and "Infinity" are read as an infinite number."""
    fields = {field.name: field.type for event in domain.event_types for field in event.body}
    conditions = (_finite(f"p.{name}", kind.upper()) for name, kind in fields.items())
    return "".join(f" AND {condition}" for condition in conditions if condition)


def _finite(value: str, kind: str) -> str:
    if kind in {"DOUBLE", "FLOAT"}:
        return f"coalesce(abs({value}) < double('Infinity'), true)"
    if not kind.startswith("ARRAY<"):
        return ""
    element = f"x{kind.count('<')}"
    inner = _finite(element, kind.removeprefix("ARRAY<").removesuffix(">"))
    return inner and f"coalesce(forall({value}, {element} -> {inner}), true)"


def _known_fields(domain: Domain) -> str:
    cases = "".join(
        f" WHEN {quote_text(event.name)} THEN array({_texts(f.name for f in event.body)})"
        for event in domain.event_types
        if event.body
    )
    return f"CASE event_type{cases} ELSE array() END" if cases else "array()"


def _texts(names: Iterable[str]) -> str:
    return ", ".join(map(quote_text, names))
