"""What is wrong in the files that an onboarding of sdp-meta names, in pure Python."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from caspers_lib.domain import Domain, event_rules
from caspers_lib.domain.rules import accepted_condition, on_bronze
from caspers_lib.medallion.dlt_meta_sql import (
    conjuncts,
    ddl_columns,
    generators,
    normal,
    sql_mistake,
)

__all__ = [
    "Problem",
    "check_expectations",
    "check_schema",
    "check_transformations",
    "good_conditions",
    "nearest",
    "read_json",
]

QUARANTINE = "expect_or_quarantine"
GROUPS = {
    "expect": "expect", "expect_all": "expect",
    "expect_or_drop": "expect_or_drop", "expect_all_or_drop": "expect_or_drop",
    "expect_or_fail": "expect_or_fail", "expect_all_or_fail": "expect_or_fail",
    QUARANTINE: QUARANTINE,
}  # fmt: skip
"""Groups of an expectations file, each with the name under which it means the same."""

_TRANSFORMATION_KEYS = ("target_table", "select_exp", "where_clause", "target_partition_cols")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that sdp-meta refuses, or takes and does otherwise than is meant.

    Args:
        file: the file's name.
        where: the place in it, from the outside in; empty for the whole file.
        what: what is wrong, one sentence.
        fix: what to do about it, one sentence.
    """

    file: str
    where: str
    what: str
    fix: str

    def __str__(self) -> str:
        """One line."""
        place = f"{self.file}, {self.where}" if self.where else self.file
        return f"{place}: {self.what}; {self.fix}"


class _Repeated(ValueError):
    """A JSON object has a key twice."""


def read_json(file: str, text: str) -> tuple[Any, list[Problem]]:
    """The document, or None and why there is none.

    Args:
        file: the file's name.
        text: what is in it.
    """
    if file.lower().endswith((".yml", ".yaml")):
        fix = "write it as JSON: sdp-meta turns YAML into JSON files beside it anyway"
        return None, [Problem(file, "", "it is YAML, which this check can't read", fix)]
    try:
        return json.loads(text, object_pairs_hook=_without_repetition), []
    except _Repeated as error:
        fix = "keep one: only the last would count"
        return None, [Problem(file, "", f"key {error} is there twice in one object", fix)]
    except (json.JSONDecodeError, RecursionError) as error:
        where = ""
        if isinstance(error, json.JSONDecodeError):
            where = f"line {error.lineno}, column {error.colno}"
        return None, [Problem(file, where, f"it is no JSON: {error}", "correct the text there")]


def good_conditions(domain: Domain) -> dict[str, str]:
    """Conditions that hold for the right rows, in their normal form, to the rules' names."""
    rules = {
        normal(text): rule.name
        for rule in event_rules(domain)
        for text in (rule.condition, on_bronze(rule, domain).condition)
    }
    return {**rules, normal(accepted_condition(domain)): "accepted"}


def check_schema(file: str, text: str) -> Iterator[Problem]:
    """What is wrong in a schema's DDL.

    Args:
        file: the file's name.
        text: what is in it.
    """
    try:
        ddl_columns(text)
    except ValueError as error:
        fix = "write `name TYPE, ...` as in a CREATE TABLE, without the brackets around it"
        yield Problem(file, "", f"the schema can't be read: {error}", fix)


def check_expectations(
    file: str, document: object, good: Mapping[str, str], quarantine_table: str
) -> Iterator[Problem]:
    """What is wrong in an expectations file.

    Args:
        file: its name.
        document: what is in it.
        good: `good_conditions`.
        quarantine_table: the table that the onboarding names for it; may be empty.
    """
    if not isinstance(document, dict) or not document:
        fix = 'write {"expect": {"name": "condition"}, ...}'
        yield Problem(file, "", "it is no JSON object with groups of expectations", fix)
        return
    yield from _check_groups(file, document)
    groups = {g: c for g, c in document.items() if g in GROUPS and isinstance(c, dict)}
    names: dict[str, str] = {}
    for group, conditions in groups.items():
        for name, condition in conditions.items():
            yield from _check_condition(file, f"{group}, {name!r}", name, condition)
            if name in names and name.strip():
                what = f"the name is in {names[name]} too"
                yield Problem(file, f"{group}, {name!r}", what, "give each expectation its own")
            names.setdefault(name, group)
    yield from _check_quarantine(file, groups, good, quarantine_table)


def check_transformations(file: str, document: object) -> Iterator[Problem]:
    """What is wrong in a transformations file.

    Args:
        file: its name.
        document: what is in it.
    """
    if not isinstance(document, list) or not document:
        fix = 'write [{"target_table": "...", "select_exp": [...], "where_clause": [...]}]'
        yield Problem(file, "", "it is no JSON list of transformations", fix)
        return
    seen: set[str] = set()
    for index, entry in enumerate(document):
        if not isinstance(entry, dict):
            yield Problem(file, f"[{index}]", "it is no JSON object", "write one in braces")
            continue
        target = entry.get("target_table")
        where = target if isinstance(target, str) and target else f"[{index}]"
        if where == f"[{index}]":
            fix = "name the silver table, as `silver_table` of the onboarding does"
            yield Problem(file, where, "target_table is missing or empty", fix)
        elif where in seen:
            fix = "keep one: each would become a flow of its own into the table"
            yield Problem(file, where, "the table has two transformations", fix)
        seen.add(where)
        for key in entry:
            if key not in _TRANSFORMATION_KEYS:
                fix = nearest(key, _TRANSFORMATION_KEYS)
                yield Problem(file, f"{where}, {key}", "sdp-meta doesn't know the key", fix)
        yield from _check_select(file, where, entry.get("select_exp"))
        yield from _check_where(file, where, entry.get("where_clause"))


def nearest(name: str, known: tuple[str, ...]) -> str:
    """Advice on a name that isn't known.

    Args:
        name: the name.
        known: those that are.
    """
    close = get_close_matches(name, known, n=1)
    return f"write {close[0]}, or take it out" if close else "take it out"


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _Repeated(repr(key))
        found[key] = value
    return found


def _check_groups(file: str, document: Mapping[str, Any]) -> Iterator[Problem]:
    meanings: dict[str, str] = {}
    for group, conditions in document.items():
        if group not in GROUPS:
            fix = nearest(group, tuple(GROUPS))
            yield Problem(file, group, "sdp-meta doesn't know the group and leaves it out", fix)
            continue
        if not isinstance(conditions, dict) or not conditions:
            fix = 'write {"name": "condition"}, or take the group out'
            yield Problem(file, group, "it has no expectations", fix)
        other = meanings.setdefault(GROUPS[group], group)
        if other != group:
            what = f"{other} is there too, and one of the two is left out"
            yield Problem(file, group, what, f"put all of them under {GROUPS[group]}")


def _check_condition(file: str, where: str, name: str, condition: object) -> Iterator[Problem]:
    if not name.strip():
        yield Problem(file, where, "the expectation has no name", "name what it expects")
    if not isinstance(condition, str) or not condition.strip():
        fix = "write an SQL condition over the table's columns, or take it out"
        yield Problem(file, where, "the condition is empty or no text", fix)
        return
    mistake = sql_mistake(condition)
    if mistake:
        yield Problem(file, where, f"the condition is no SQL: {mistake}", "correct the text there")


def _check_quarantine(
    file: str, groups: Mapping[str, Mapping[str, Any]], good: Mapping[str, str], table: str
) -> Iterator[Problem]:
    aside = groups.get(QUARANTINE, {})
    if not aside:
        if table:
            fix = f"write {QUARANTINE}, or leave the quarantine table empty"
            yield Problem(file, QUARANTINE, f"{table} is named, but nothing goes there", fix)
        return
    if not table:
        fix = "name one in the onboarding, `<layer>_quarantine_table`"
        yield Problem(file, QUARANTINE, "no table is named for what is set aside", fix)
    if set(groups) == {QUARANTINE}:
        fix = 'add a group for the rest, such as {"expect": {"any_row": "true"}}'
        what = "it stands alone: sdp-meta then declares the quarantine and not the table itself"
        yield Problem(file, QUARANTINE, what, fix)
    if len(aside) > 1:
        fix = "join them with OR into one"
        what = f"only rows for which all {len(aside)} predicates are true would be set aside"
        yield Problem(file, QUARANTINE, what, fix)
    known = {
        normal(condition): name
        for group, conditions in groups.items()
        if group != QUARANTINE
        for name, condition in conditions.items()
        if isinstance(condition, str)
    } | dict(good)
    for name, condition in aside.items():
        if not isinstance(condition, str) or not condition.strip():
            continue
        parts = [normal(condition), *conjuncts(condition)]
        rule = next((known[part] for part in parts if part in known), None)
        if rule is not None:
            what = f"the predicate holds for the rows that are right by {rule}"
            fix = "write NOT (...): it must describe the bad rows"
            yield Problem(file, f"{QUARANTINE}, {name!r}", what, fix)


def _check_select(file: str, target: str, select: object) -> Iterator[Problem]:
    where = f"{target}, select_exp"
    if not isinstance(select, list) or not select:
        fix = 'write a list of expressions, such as ["order_id"]; ["*"] for all columns'
        yield Problem(file, where, "it is missing, or no list", fix)
        return
    yield from _check_texts(file, where, select)
    found = [g for text in select if isinstance(text, str) for g in generators(text)]
    if len(found) > 1:
        what = f"it has {len(found)} generators ({', '.join(found)}); Spark allows one a select"
        fix = "compute inside of `transform(...)` and explode once, with `inline(...)`"
        yield Problem(file, where, what, fix)


def _check_where(file: str, target: str, clauses: object) -> Iterator[Problem]:
    where = f"{target}, where_clause"
    if clauses is None:
        return
    if not isinstance(clauses, list):
        yield Problem(file, where, "it is no list", 'write a list of conditions, such as ["a = 1"]')
        return
    yield from _check_texts(file, where, clauses)
    for index, clause in enumerate(clauses):
        if isinstance(clause, str) and generators(clause):
            what = "a generator can't stand in a condition"
            yield Problem(file, f"{where}[{index}]", what, "move it to select_exp")


def _check_texts(file: str, where: str, texts: list[Any]) -> Iterator[Problem]:
    for index, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            fix = "write SQL, or take it out"
            yield Problem(file, f"{where}[{index}]", "it is empty or no text", fix)
            continue
        mistake = sql_mistake(text)
        if mistake:
            what = f"it is no SQL: {mistake}"
            yield Problem(file, f"{where}[{index}]", what, "correct the text there")
