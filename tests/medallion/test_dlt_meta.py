"""The files for sdp-meta, and the check of them: pure data, without Spark and without sdp-meta."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from caspers_lib.domain import GHOST_KITCHEN, Column, Rule, event_rules
from caspers_lib.errors import PipelineError, SettingsError
from caspers_lib.medallion.dlt_meta import (
    CORRUPT,
    DltMetaSettings,
    dlt_meta_files,
    onboarding_arguments,
    pipeline_configuration,
    write_dlt_meta,
)
from caspers_lib.medallion.dlt_meta_check import Problem, check_dlt_meta
from caspers_lib.medallion.dlt_meta_sql import (
    conjuncts,
    ddl_columns,
    generators,
    normal,
    sql_mistake,
    with_names,
)
from caspers_lib.spark_sql import event_time, utc_day

SETTINGS = DltMetaSettings(events="/Volumes/c/simulator/events", folder="/Volumes/c/simulator/conf")
ONBOARDING, DDL = "onboarding.json", "all_events.ddl"
EXPECTATIONS, TRANSFORMATIONS = "bronze_expectations.json", "silver_transformations.json"
HOSTILE = "o'\"\\\n\u2028`<script>'); DROP TABLE all_events; -- é😀"

Files = dict[str, Any]


def files(settings: DltMetaSettings = SETTINGS) -> Files:
    """The documents, read; the schema as text."""
    texts = dlt_meta_files(settings)
    return {n: t if n.endswith(".ddl") else json.loads(t) for n, t in texts.items()}


def written(documents: Files) -> dict[str, str]:
    return {n: d if isinstance(d, str) else json.dumps(d) for n, d in documents.items()}


def rule(name: str, action: Any, condition: str = "sequence < 1000") -> Rule:
    return Rule(name, condition, action, "")


def with_rules(*rules: Rule) -> DltMetaSettings:
    return replace(SETTINGS, domain=replace(GHOST_KITCHEN, rules=rules))


# What is exported


def test_the_check_finds_nothing_in_what_is_exported() -> None:
    for settings in (
        SETTINGS,
        replace(SETTINGS, catalog="main", env="prod", deduplicate=False),
        with_rules(rule("a", "drop"), rule("b", "fail"), rule(HOSTILE, "quarantine")),
    ):
        found = check_dlt_meta(dlt_meta_files(settings), env=settings.env, domain=settings.domain)
        assert found == []


def test_every_key_that_differs_between_environments_ends_with_the_environment() -> None:
    dev, prod = (files(replace(SETTINGS, env=e, catalog="main")) for e in ("dev", "prod"))
    assert json.loads(json.dumps(dev).replace('_dev"', '_prod"')) == prod


def test_paths_are_absolute_and_name_files_that_are_there() -> None:
    documents = files()
    (row,) = documents[ONBOARDING]
    paths = [
        row["source_details"]["source_schema_path"],
        row["bronze_data_quality_expectations_json_dev"],
        row["silver_transformation_json_dev"],
    ]
    assert paths == [f"{SETTINGS.folder}/{n}" for n in (DDL, EXPECTATIONS, TRANSFORMATIONS)]
    assert set(documents) == {ONBOARDING, DDL, EXPECTATIONS, TRANSFORMATIONS}


def test_a_catalog_is_named_for_each_table_or_for_none() -> None:
    (row,) = files(replace(SETTINGS, catalog="main"))[ONBOARDING]
    catalogs = {key: value for key, value in row.items() if "catalog" in key}
    assert catalogs == dict.fromkeys(
        ("bronze_catalog_dev", "bronze_catalog_quarantine_dev", "silver_catalog_dev"), "main"
    )
    assert not [key for key in files()[ONBOARDING][0] if "catalog" in key]


def test_the_schema_is_the_events_and_the_line_that_can_not_be_read() -> None:
    events = [(c.name, c.type.lower()) for c in GHOST_KITCHEN.event_columns]
    assert ddl_columns(files()[DDL]) == [*events, (CORRUPT, "string")]


def test_each_rule_stands_in_the_group_of_its_action() -> None:
    settings = with_rules(rule("a", "warn"), rule("b", "drop"), rule("c", "fail"))
    found = files(settings)[EXPECTATIONS]
    by_action = {
        action: [r.name for r in event_rules(settings.domain) if r.action == action]
        for action in ("warn", "drop", "fail")
    }
    assert {group: list(found[group]) for group in found if group != "expect_or_quarantine"} == {
        "expect": by_action["warn"],
        "expect_or_drop": ["b"],
        "expect_or_fail": ["c"],
    }


def test_the_quarantine_has_one_predicate_that_denies_every_rule() -> None:
    settings = with_rules(rule("mine", "quarantine"))
    found = files(settings)[EXPECTATIONS]["expect_or_quarantine"]
    (predicate,) = found.values()
    assert predicate.startswith("NOT (")
    held = conjuncts(predicate.removeprefix("NOT "))
    assert "sequence < 1000" in held
    rules = [r for r in event_rules(settings.domain) if r.action == "quarantine"]
    assert len(held) >= len(rules)


def test_a_row_that_is_set_aside_or_dropped_fails_nothing() -> None:
    settings = with_rules(rule("wanted", "drop", "sequence <> 7"), rule("possible", "fail"))
    condition = files(settings)[EXPECTATIONS]["expect_or_fail"]["possible"]
    own, _, otherwise = condition.partition(" OR ")
    assert own == "coalesce(sequence < 1000, false)"
    assert otherwise.startswith("NOT (")
    assert normal("sequence <> 7") in conjuncts(otherwise.removeprefix("NOT "))


def test_silver_takes_the_rows_that_no_rule_sets_aside_or_drops() -> None:
    settings = with_rules(rule("wanted", "drop", "sequence <> 7"), rule("noted", "warn", "1 = 1"))
    ((entry),) = files(settings)[TRANSFORMATIONS]
    clauses = [normal(clause) for clause in entry["where_clause"]]
    assert clauses[0] == "event_type = 'order_created'"
    assert normal("sequence <> 7") in clauses
    assert normal("1 = 1") not in clauses
    assert len(clauses) == 1 + len(
        [r for r in event_rules(settings.domain) if r.action in ("quarantine", "drop")]
    )


def test_silver_explodes_once_and_computes_in_decimals() -> None:
    (entry,) = files()[TRANSFORMATIONS]
    assert [g for text in entry["select_exp"] for g in generators(text)] == ["inline"]
    lines = entry["select_exp"][-1]
    assert "price: DECIMAL(12,2)" in lines
    assert "'line', position + 1" in lines
    assert "try_cast(item.price * item.qty AS DECIMAL(12,2))" in lines


def test_derived_columns_may_name_every_column_of_silver_and_each_other() -> None:
    items = replace(
        GHOST_KITCHEN.line_items,
        derived=(
            Column("total", "INT", "qty * line"),
            Column("label", "STRING", "concat(item_name, ' qty ', total, order_day, order_ts)"),
        ),
    )
    settings = replace(SETTINGS, domain=replace(GHOST_KITCHEN, line_items=items))
    lines = files(settings)[TRANSFORMATIONS][0]["select_exp"][-1]
    total = "try_cast(item.qty * (position + 1) AS INT)"
    time = event_time()
    assert f"'total', {total}" in lines
    assert f"concat(item.name, ' qty ', {total}, {utc_day(time)}, {time})" in lines


def test_an_order_that_comes_again_is_kept_once_unless_told_otherwise() -> None:
    (row,) = files()[ONBOARDING]
    assert row["silver_cdc_apply_changes"] == {
        "keys": ["order_id", "line"],
        "sequence_by": "order_ts",
        "scd_type": "1",
    }
    (row,) = files(replace(SETTINGS, deduplicate=False))[ONBOARDING]
    assert "silver_cdc_apply_changes" not in row


def test_hostile_names_and_texts_stay_text() -> None:
    opening = GHOST_KITCHEN.event_types[0]
    domain = replace(
        GHOST_KITCHEN,
        event_types=(replace(opening, name=HOSTILE), *GHOST_KITCHEN.event_types[1:]),
        opening=HOSTILE,
        line_items=replace(GHOST_KITCHEN.line_items, event=HOSTILE),
        rules=(rule(HOSTILE, "warn"),),
    )
    settings = replace(SETTINGS, domain=domain, events=f"/events/{HOSTILE}", folder="/a 'b'")
    documents = files(settings)
    assert documents[ONBOARDING][0]["source_details"]["source_path_dev"] == f"/events/{HOSTILE}"
    assert HOSTILE in documents[EXPECTATIONS]["expect"]
    texts = [*documents[EXPECTATIONS]["expect_or_quarantine"].values()]
    texts += documents[TRANSFORMATIONS][0]["where_clause"]
    assert [mistake for text in texts if (mistake := sql_mistake(text))] == []
    assert check_dlt_meta(written(documents), domain=domain) == []


@pytest.mark.parametrize(
    "change",
    [
        {"events": "events"},
        {"folder": "conf"},
        {"folder": "/conf/*"},
        {"folder": "/conf/{a}"},
        {"database": "my-schema"},
        {"database": ""},
        {"catalog": "main`; DROP"},
        {"env": "dev env"},
        {"env": ""},
        {"domain": replace(GHOST_KITCHEN, entity_key="order id")},
        {
            "domain": replace(
                GHOST_KITCHEN, line_items=replace(GHOST_KITCHEN.line_items, table="order-items")
            )
        },
    ],
    ids=str,
)
def test_a_name_or_path_that_sdp_meta_does_not_take_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as refusal:
        replace(SETTINGS, **change)
    assert refusal.value.hint


def test_what_onboarding_and_pipeline_are_given_names_the_same_tables_and_group() -> None:
    settings = replace(SETTINGS, env="prod")
    arguments = onboarding_arguments(settings, "main.specs")
    assert arguments == {
        "onboarding_file_path": f"{SETTINGS.folder}/{ONBOARDING}",
        "database": "main.specs",
        "env": "prod",
        "bronze_dataflowspec_table": "bronze_dataflowspec",
        "silver_dataflowspec_table": "silver_dataflowspec",
        "import_author": "caspers_lib",
        "version": "v1",
        "overwrite": "True",
    }
    configuration = pipeline_configuration(settings, "main.specs")
    for layer in ("bronze", "silver"):
        table = f"main.specs.{arguments[f'{layer}_dataflowspec_table']}"
        assert configuration[f"{layer}.dataflowspecTable"] == table
        assert configuration[f"{layer}.group"] == files()[ONBOARDING][0]["data_flow_group"]


def test_the_files_are_written_and_checked_where_they_lie(tmp_path: Path) -> None:
    folder = tmp_path / "a folder" / "conf"
    paths = write_dlt_meta(SETTINGS, folder)
    assert {p.name: p.read_text(encoding="utf-8") for p in paths} == dlt_meta_files(SETTINGS)
    assert paths[0] == folder / ONBOARDING
    assert check_dlt_meta(folder) == []
    (folder / DDL).unlink()
    assert [p.what for p in check_dlt_meta(folder)] == [f"the file {DDL} isn't there"]


def test_files_with_a_problem_are_not_written(tmp_path: Path) -> None:
    settings = with_rules(rule("broken", "warn", "sequence < (1"))
    with pytest.raises(PipelineError, match="'broken': the condition is no SQL") as refusal:
        write_dlt_meta(settings, tmp_path / "conf")
    assert refusal.value.hint == "correct the text there"
    assert not (tmp_path / "conf").exists()


def test_a_folder_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PipelineError, match="can't be written"):
        write_dlt_meta(SETTINGS, tmp_path / "file")


def test_export_and_check_load_no_spark() -> None:
    program = (
        "import sys, caspers_lib.medallion.dlt_meta as d\n"
        "s = d.DltMetaSettings(events='/e', folder='/f')\n"
        "assert d.check_dlt_meta(d.dlt_meta_files(s)) == []\n"
        "assert not {'pyspark', 'databricks'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# What is checked


def put(value: object, *path: Any) -> Callable[[Files], None]:
    """A change: the value at this place."""

    def change(documents: Files) -> None:
        place: Any = documents
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return change


def without(*path: Any) -> Callable[[Files], None]:
    """A change: nothing at this place."""

    def change(documents: Files) -> None:
        place: Any = documents
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]

    return change


def both(*changes: Callable[[Files], None]) -> Callable[[Files], None]:
    def change(documents: Files) -> None:
        for one in changes:
            one(documents)

    return change


def row(*path: Any, value: object) -> Callable[[Files], None]:
    return put(value, ONBOARDING, 0, *path)


def again(documents: Files) -> None:
    documents[ONBOARDING].append(documents[ONBOARDING][0])


def rename(old: str, new: str) -> Callable[[Files], None]:
    def change(documents: Files) -> None:
        found = documents[ONBOARDING][0]
        found[new] = found.pop(old)

    return change


BAD, SILVER = "expect_or_quarantine", (ONBOARDING, 0, "silver_database_dev")
GOOD_RULE = "coalesce(sequence >= 0, false)"
# What is done to the files, and what the check says: file, part of the place, part of the sentence.
BROKEN: dict[str, tuple[Callable[[Files], None], str, str, str]] = {
    "no onboarding": (without(ONBOARDING), ONBOARDING, "", "there is no such file"),
    "bad JSON": (put("[{", ONBOARDING), ONBOARDING, "line 1", "it is no JSON"),
    "deep JSON": (put("[" * 100_000, ONBOARDING), ONBOARDING, "", "it is no JSON"),
    "no list": (put({}, ONBOARDING), ONBOARDING, "", "no JSON list of data flows"),
    "empty list": (put([], ONBOARDING), ONBOARDING, "", "no JSON list of data flows"),
    "no object": (put(["row"], ONBOARDING), ONBOARDING, "[0]", "no JSON object"),
    "key twice": (put('[{"a": 1, "a": 2}]', ONBOARDING), ONBOARDING, "", "'a' is there twice"),
    "id missing": (without(ONBOARDING, 0, "data_flow_id"), ONBOARDING, "[0]", "data_flow_id is"),
    "id a number": (row("data_flow_id", value=100), ONBOARDING, "[0]", "no text"),
    "id twice": (again, ONBOARDING, "data_flow_id 100", "two rows have this data_flow_id"),
    "group missing": (
        without(ONBOARDING, 0, "data_flow_group"), ONBOARDING, "100", "data_flow_group is missing",
    ),
    "format missing": (
        without(ONBOARDING, 0, "source_format"), ONBOARDING, "100", "source_format is missing",
    ),
    "format unknown": (
        row("source_format", value="cloudfile"), ONBOARDING, "100", "source_format is 'cloudfile'",
    ),
    "no source": (
        both(without(ONBOARDING, 0, "source_details"), without(*SILVER)),
        ONBOARDING, "100", "there is nothing to read",
    ),
    "source no object": (row("source_details", value="/e"), ONBOARDING, "100", "no JSON object"),
    "bronze table missing": (
        without(ONBOARDING, 0, "bronze_table"), ONBOARDING, "100", "bronze_table is missing",
    ),
    "silver table empty": (row("silver_table", value=""), ONBOARDING, "100", "silver_table is"),
    "transformation missing": (
        without(ONBOARDING, 0, "silver_transformation_json_dev"),
        ONBOARDING, "100", "silver_transformation_json_dev is missing",
    ),
    "unknown key": (
        row("bronze_tabel", value="t"), ONBOARDING, "bronze_tabel", "doesn't know the key",
    ),
    "unknown source key": (
        row("source_details", "path", value="/e"), ONBOARDING, "source_details, path", "the key",
    ),
    "unknown metadata key": (
        row("source_details", "source_metadata", "cols", value={}),
        ONBOARDING, "source_metadata, cols", "know the key",
    ),
    "metadata expression": (
        row("source_details", "source_metadata", "select_metadata_cols", "t", value="now()"),
        ONBOARDING, "source_metadata", "'t' is no column",
    ),
    "metadata no object": (
        row("source_details", "source_metadata", value="x"),
        ONBOARDING, "source_metadata", "no JSON object",
    ),
    "other environment": (
        rename("bronze_database_dev", "bronze_database_prod"),
        ONBOARDING, "bronze_database_prod", "of another environment than dev",
    ),
    "database name": (
        row("silver_database_dev", value="a.b.c"), ONBOARDING, "100", "is 'a.b.c'",
    ),
    "table name": (row("bronze_table", value="all-events"), ONBOARDING, "100", "'all-events'"),
    "option no text": (
        row("bronze_reader_options", "x", value=True), ONBOARDING, "100", "a value that is no text",
    ),
    "properties no object": (
        row("silver_table_properties", value="x"), ONBOARDING, "100", "no JSON object",
    ),
    "partitions a list": (
        row("silver_partition_columns", value=["order_day"]),
        ONBOARDING, "100", "silver_partition_columns is no text",
    ),
    "events missing": (
        without(ONBOARDING, 0, "source_details", "source_path_dev"),
        ONBOARDING, "source_details", "source_path_dev is missing",
    ),
    "events relative": (
        row("source_details", "source_path_dev", value="events"),
        ONBOARDING, "source_path_dev", "'events' is no absolute path",
    ),
    "schema missing": (without(DDL), ONBOARDING, "source_schema_path", f"{DDL} isn't there"),
    "expectations missing": (
        without(EXPECTATIONS), ONBOARDING, "bronze_data_quality", f"{EXPECTATIONS} isn't there",
    ),
    "transformations missing": (
        without(TRANSFORMATIONS), ONBOARDING, "silver_transf", f"{TRANSFORMATIONS} isn't there",
    ),
    "YAML": (
        both(row("silver_transformation_json_dev", value="/c/s.yml"), put("- a", "s.yml")),
        "s.yml", "", "it is YAML",
    ),
    "quarantine key missing": (
        without(ONBOARDING, 0, "bronze_quarantine_table"),
        ONBOARDING, "100", "sdp-meta fails without the key",
    ),
    "quarantine database missing": (
        without(ONBOARDING, 0, "bronze_database_quarantine_dev"),
        ONBOARDING, "100", "sdp-meta leaves the quarantine out",
    ),
    "quarantine without expectations": (
        without(ONBOARDING, 0, "bronze_data_quality_expectations_json_dev"),
        ONBOARDING, "100", "so nothing goes there",
    ),
    "quarantine table empty": (
        row("bronze_quarantine_table", value=""), EXPECTATIONS, BAD, "no table is named",
    ),
    "no quarantine group": (
        without(EXPECTATIONS, BAD), EXPECTATIONS, BAD, "nothing goes there",
    ),
    "expectations no object": (put([], EXPECTATIONS), EXPECTATIONS, "", "with groups"),
    "expectations bad JSON": (put("{", EXPECTATIONS), EXPECTATIONS, "line 1", "it is no JSON"),
    "unknown group": (
        put({"a": "1"}, EXPECTATIONS, "expect_or_warn"), EXPECTATIONS, "_or_warn", "the group",
    ),
    "empty group": (put({}, EXPECTATIONS, "expect"), EXPECTATIONS, "expect", "no expectations"),
    "two groups that mean the same": (
        put({"a": "1 = 1"}, EXPECTATIONS, "expect_all"),
        EXPECTATIONS, "expect_all", "one of the two is left out",
    ),
    "expectation without a name": (
        put("1 = 1", EXPECTATIONS, "expect", " "), EXPECTATIONS, "expect, ' '", "has no name",
    ),
    "expectation without a condition": (
        put(" ", EXPECTATIONS, "expect", "a"), EXPECTATIONS, "expect, 'a'", "condition is empty",
    ),
    "expectation that is no SQL": (
        put("a = 'b", EXPECTATIONS, "expect", "a"), EXPECTATIONS, "expect, 'a'", "isn't closed",
    ),
    "one name in two groups": (
        put({"no_new_field": "1 = 1"}, EXPECTATIONS, "expect_or_drop"),
        EXPECTATIONS, "expect_or_drop, 'no_new_field'", "the name is in expect too",
    ),
    "quarantine alone": (
        without(EXPECTATIONS, "expect"), EXPECTATIONS, BAD, "it stands alone",
    ),
    "two quarantine predicates": (
        put({"a": "a = 1", "b": "b = 1"}, EXPECTATIONS, BAD), EXPECTATIONS, BAD, "all 2 predicates",
    ),
    "quarantine of a rule's good rows": (
        put({"a": "SEQUENCE  >= 0"}, EXPECTATIONS, BAD),
        EXPECTATIONS, f"{BAD}, 'a'", "right by sequence_not_negative",
    ),
    "quarantine of all good rows": (
        put({"a": f"{GOOD_RULE} AND event_id <> ''"}, EXPECTATIONS, BAD),
        EXPECTATIONS, f"{BAD}, 'a'", "the rows that are right",
    ),
    "quarantine of an expectation's good rows": (
        both(
            put("qty > 1", EXPECTATIONS, "expect", "many"),
            put({"a": "(coalesce(qty > 1, false))"}, EXPECTATIONS, BAD),
        ),
        EXPECTATIONS, f"{BAD}, 'a'", "right by many",
    ),
    "transformations no list": (
        put({}, TRANSFORMATIONS), TRANSFORMATIONS, "", "no JSON list of transformations",
    ),
    "transformation no object": (
        put("x", TRANSFORMATIONS, 0), TRANSFORMATIONS, "[0]", "no JSON object",
    ),
    "target missing": (
        without(TRANSFORMATIONS, 0, "target_table"), TRANSFORMATIONS, "[0]", "target_table is",
    ),
    "target of no table": (
        put("other", TRANSFORMATIONS, 0, "target_table"),
        TRANSFORMATIONS, "", "no transformation has target_table silver_order_items",
    ),
    "target twice": (
        lambda documents: documents[TRANSFORMATIONS].append(documents[TRANSFORMATIONS][0]),
        TRANSFORMATIONS, "silver_order_items", "two transformations",
    ),
    "unknown transformation key": (
        put([], TRANSFORMATIONS, 0, "select"), TRANSFORMATIONS, "select", "know the key",
    ),
    "select missing": (
        without(TRANSFORMATIONS, 0, "select_exp"), TRANSFORMATIONS, "select_exp", "missing",
    ),
    "select no SQL": (
        put("f(a", TRANSFORMATIONS, 0, "select_exp", 0), TRANSFORMATIONS, "select_exp[0]", "no SQL",
    ),
    "two generators": (
        put("explode(a) AS b", TRANSFORMATIONS, 0, "select_exp", 0),
        TRANSFORMATIONS, "select_exp", "it has 2 generators (explode, inline)",
    ),
    "where no list": (
        put("a = 1", TRANSFORMATIONS, 0, "where_clause"), TRANSFORMATIONS, "where", "no list",
    ),
    "where empty": (
        put([""], TRANSFORMATIONS, 0, "where_clause"), TRANSFORMATIONS, "where_clause[0]", "empty",
    ),
    "generator in where": (
        put(["explode(a) = 1"], TRANSFORMATIONS, 0, "where_clause"),
        TRANSFORMATIONS, "where_clause[0]", "a generator can't stand",
    ),
    "schema no DDL": (put("id STRING, qty NUMBR", DDL), DDL, "", "column qty has no type"),
    "schema empty": (put(" \n", DDL), DDL, "", "the schema can't be read"),
    "schema column twice": (put("id INT, ID INT", DDL), DDL, "", "column ID is there twice"),
    "cdc no object": (
        row("silver_cdc_apply_changes", value=["order_id"]), ONBOARDING, "100", "no JSON object",
    ),
    "cdc without keys": (
        without(ONBOARDING, 0, "silver_cdc_apply_changes", "keys"),
        ONBOARDING, "silver_cdc_apply_changes", "keys is missing",
    ),
    "cdc of another type": (
        row("silver_cdc_apply_changes", "scd_type", value="3"),
        ONBOARDING, "silver_cdc_apply_changes", "scd_type is '3'",
    ),
    "cdc twice": (
        row("silver_cdc_apply_changes_flows", value={"flows": []}),
        ONBOARDING, "silver_cdc_apply_changes", "refuses both together",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_the_check_names_the_problem_with_its_place_and_its_fix(name: str) -> None:
    change, file, where, what = BROKEN[name]
    documents = files()
    change(documents)
    found = check_dlt_meta(written(documents))
    named = [p for p in found if p.file == file and where in p.where and what in p.what]
    assert named, [str(p) for p in found]
    assert all(problem.fix for problem in found)
    assert len(set(found)) == len(found)


def test_every_problem_is_found_at_once() -> None:
    documents = files()
    for name in (
        "unknown key",
        "metadata expression",
        "two generators",
        "two quarantine predicates",
    ):
        BROKEN[name][0](documents)
    found = check_dlt_meta(written(documents))
    assert len(found) == 4


def test_keys_of_other_environments_may_stand_beside_ours() -> None:
    documents = files()
    documents[ONBOARDING][0] |= {"bronze_database_prod": "lakeflow"}
    assert check_dlt_meta(written(documents)) == []


def test_a_row_may_read_a_bronze_table_that_another_row_fills() -> None:
    documents = files()
    more = {
        "data_flow_id": "101",
        "data_flow_group": "ghost_kitchen",
        "bronze_database_dev": "lakeflow",
        "bronze_table": "all_events",
        "silver_database_dev": "lakeflow",
        "silver_table": "deliveries",
        "silver_transformation_json_dev": f"/x/{TRANSFORMATIONS}",
    }
    documents[ONBOARDING].append(more)
    documents[TRANSFORMATIONS].append({"target_table": "deliveries", "select_exp": ["*"]})
    assert check_dlt_meta(written(documents)) == []


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    write_dlt_meta(SETTINGS, tmp_path)
    (tmp_path / ONBOARDING).write_bytes(b"\xff\xfe\x00")
    (problem,) = check_dlt_meta(tmp_path)
    assert problem.file == ONBOARDING
    assert "can't be read" in problem.what


def test_a_folder_that_is_not_there_has_no_onboarding(tmp_path: Path) -> None:
    (problem,) = check_dlt_meta(tmp_path / "nowhere")
    assert problem.what == "there is no such file"


def test_a_problem_is_one_line() -> None:
    problem = Problem("a.json", "[0]", "it is no text", "write one")
    assert str(problem) == "a.json, [0]: it is no text; write one"


# Texts of SQL and DDL


@pytest.mark.parametrize(
    ("sql", "rewritten"),
    [
        ("price * qty", "i.price * i.qty"),
        ("PRICE*Qty", "i.price*i.qty"),
        ("s.price + price.x", "s.price + i.price.x"),
        ("price(qty)", "price(i.qty)"),
        ("'price' || \"qty\" || `price`", "'price' || \"qty\" || `price`"),
        ("'it''s price' || 'a\\'qty' || qty", "'it''s price' || 'a\\'qty' || i.qty"),
        ("priced + my_qty + qty2", "priced + my_qty + qty2"),
    ],
)
def test_only_columns_are_replaced(sql: str, rewritten: str) -> None:
    assert with_names(sql, {"price": "i.price", "qty": "i.qty"}) == rewritten


@pytest.mark.parametrize(
    ("sql", "mistake"),
    [
        ("a = 'it''s' AND f(b[1]) > 0", ""),
        ("a = 'it\\'s; (' -- fine", ""),
        ("a = 'b", "the ' at character 5 isn't closed"),
        ("f(a", "a ( isn't closed"),
        ("f(a]", "the ] at character 4 closes nothing"),
        ("a)", "the ) at character 2 closes nothing"),
        ("a = 1; DROP TABLE b", "the ; at character 6 ends a statement"),
    ],
)
def test_quotes_and_brackets_tell_what_is_no_sql(sql: str, mistake: str) -> None:
    assert sql_mistake(sql) == mistake


def test_generators_are_functions_and_neither_texts_nor_names() -> None:
    sql = "EXPLODE(a), posexplode_outer (b), 'explode(c)', explode, my_explode(d), x.`inline`(e)"
    assert generators(sql) == ["explode", "posexplode_outer"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a  >= 0", "(A>=0)"),
        ("coalesce(a >= 0, false)", "a >= 0"),
        ("((coalesce((a), false)))", "a"),
    ],
)
def test_conditions_that_mean_the_same_at_first_sight_have_one_form(one: str, other: str) -> None:
    assert normal(one) == normal(other)


@pytest.mark.parametrize(
    ("one", "other"), [("a = 'X'", "a = 'x'"), ("(a) OR (b)", "a) OR (b"), ("a", "NOT a")]
)
def test_conditions_that_differ_have_two_forms(one: str, other: str) -> None:
    assert normal(one) != normal(other)


def test_and_joins_conditions_only_at_the_top_and_not_in_between() -> None:
    assert conjuncts("a BETWEEN 1 AND 2 AND (b AND c) AND coalesce(d, false)") == [
        "a between 1 and 2", "b and c", "d",
    ]  # fmt: skip


def test_ddl_is_read_with_nested_types_and_comments() -> None:
    ddl = (
        "id STRING NOT NULL COMMENT 'it\\'s, the key', `odd ``name` decimal(12, 2),\n"
        "lines ARRAY<STRUCT<qty: INT COMMENT 'n', more MAP<STRING, ARRAY<DOUBLE>>>>"
    )
    assert ddl_columns(ddl) == [
        ("id", "string"),
        ("odd `name", "decimal(12,2)"),
        ("lines", "array<struct<qty:int,more:map<string,array<double>>>>"),
    ]


@pytest.mark.parametrize(
    ("ddl", "reason"),
    [
        ("", "it ends where more should stand"),
        ("id", "it ends where more should stand"),
        ("id STRING,", "it ends where more should stand"),
        ("id STRING qty INT", "qty stands where a comma or the end should"),
        ("id STRIN", "column id has no type that Spark knows: STRIN"),
        ("'id' STRING", "'id' stands where a column's name should"),
        ("a ARRAY<INT", "it ends where more should stand"),
        ("a ARRAY(INT)", "( stands in column a where < should"),
        ("a DECIMAL(x)", "column a has a size that is no number: DECIMAL(x)"),
        ("a DECIMAL(1", "it ends where more should stand"),
        ("a INT COMMENT key", "the comment of column a is no text in quotes"),
        ("(a INT)", "( stands where a column's name should"),
    ],
)
def test_ddl_that_can_not_be_read_says_where(ddl: str, reason: str) -> None:
    with pytest.raises(ValueError) as refusal:
        ddl_columns(ddl)
    assert str(refusal.value) == reason
