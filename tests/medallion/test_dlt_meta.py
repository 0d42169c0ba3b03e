"""The export for sdp-meta: pure data, without Spark and without sdp-meta."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from caspers_lib.cli import app
from caspers_lib.domain import GHOST_KITCHEN, Column, Rule, domain_tables, event_rules
from caspers_lib.errors import PipelineError, SettingsError
from caspers_lib.medallion.dlt_meta import (
    CORRUPT,
    DltMetaSettings,
    dlt_meta_files,
    onboarding_arguments,
    pipeline_configuration,
    with_names,
    write_dlt_meta,
)
from caspers_lib.spark_sql import event_time, quote_text, utc_day

SETTINGS = DltMetaSettings(events="/Volumes/c/simulator/events", folder="/Volumes/c/simulator/conf")
ONBOARDING, DDL, GOLD = "onboarding.json", "all_events.ddl", "gold.sql"
EXPECTATIONS, TRANSFORMATIONS = "bronze_expectations.json", "silver_transformations.json"
EXAMPLE = Path(__file__).parents[2] / "examples" / "dlt_meta"
BAD_ITEMS = replace(GHOST_KITCHEN.line_items, table="order-items")
HOSTILE = "o'\"\\\n\u2028`<script>'); DROP TABLE all_events; -- é😀"


def documents(settings: DltMetaSettings = SETTINGS) -> dict[str, Any]:
    """The JSON documents, read; the other files as text."""
    texts = dlt_meta_files(settings)
    return {n: json.loads(t) if n.endswith(".json") else t for n, t in texts.items()}


def onboarding(settings: DltMetaSettings = SETTINGS) -> Any:
    (row,) = documents(settings)[ONBOARDING]
    return row


def transformation(settings: DltMetaSettings = SETTINGS) -> Any:
    (entry,) = documents(settings)[TRANSFORMATIONS]
    return entry


def rule(name: str, action: Any, condition: str = "sequence < 1000") -> Rule:
    return Rule(name, condition, action, "")


def with_rules(*rules: Rule) -> DltMetaSettings:
    return replace(SETTINGS, domain=replace(GHOST_KITCHEN, rules=rules))


# The onboarding


def test_every_key_that_differs_between_environments_ends_with_the_environment() -> None:
    dev, prod = (documents(replace(SETTINGS, env=e, catalog="main")) for e in ("dev", "prod"))
    assert json.loads(json.dumps(dev).replace('_dev"', '_prod"')) == prod


def test_paths_are_absolute_and_name_files_of_the_export() -> None:
    row = onboarding()
    paths = [
        row["source_details"]["source_schema_path"],
        row["bronze_data_quality_expectations_json_dev"],
        row["silver_transformation_json_dev"],
    ]
    assert paths == [f"{SETTINGS.folder}/{n}" for n in (DDL, EXPECTATIONS, TRANSFORMATIONS)]
    assert set(documents()) == {ONBOARDING, DDL, EXPECTATIONS, TRANSFORMATIONS, GOLD}


def test_a_catalog_is_named_for_each_table_or_for_none() -> None:
    row = onboarding(replace(SETTINGS, catalog="main"))
    assert {key: value for key, value in row.items() if "catalog" in key} == dict.fromkeys(
        ("bronze_catalog_dev", "bronze_catalog_quarantine_dev", "silver_catalog_dev"), "main"
    )
    assert not [key for key in onboarding() if "catalog" in key]


def test_the_schema_is_the_events_and_the_line_that_can_not_be_read() -> None:
    lines = documents()[DDL].removesuffix("\n").split(",\n")
    events = [
        f"`{c.name}` {c.type} COMMENT {quote_text(c.comment)}" for c in GHOST_KITCHEN.event_columns
    ]
    assert lines[:-1] == events
    assert lines[-1].startswith(f"`{CORRUPT}` STRING COMMENT ")


def test_a_repeated_order_is_kept_once_unless_told_otherwise() -> None:
    assert onboarding()["silver_cdc_apply_changes"] == {
        "keys": ["order_id", "line"],
        "sequence_by": "order_ts",
        "scd_type": "1",
    }
    assert "silver_cdc_apply_changes" not in onboarding(replace(SETTINGS, deduplicate=False))


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
        assert configuration[f"{layer}.group"] == onboarding()["data_flow_group"]


# Expectations and transformations


def test_each_rule_is_in_the_group_of_its_action() -> None:
    settings = with_rules(rule("a", "warn"), rule("b", "drop"), rule("c", "fail"))
    groups = documents(settings)[EXPECTATIONS]
    warnings = [r.name for r in event_rules(settings.domain) if r.action == "warn"]
    assert {group: list(rules) for group, rules in groups.items()} == {
        "expect": warnings,
        "expect_or_drop": ["b"],
        "expect_or_fail": ["c"],
        "expect_or_quarantine": ["violates_a_rule"],
    }


def test_the_quarantine_has_one_predicate_that_denies_every_rule() -> None:
    groups = documents(with_rules(rule("mine", "quarantine"), rule("other", "drop", "1 = 1")))
    (predicate,) = groups[EXPECTATIONS]["expect_or_quarantine"].values()
    assert predicate.startswith(f"NOT ({CORRUPT} IS NULL AND coalesce(")
    for condition in ("event_id <> ''", "sequence >= 0", "sequence < 1000"):
        assert f" AND coalesce({condition}, false)" in predicate
    assert "1 = 1" not in predicate


def test_a_row_that_is_set_aside_or_dropped_fails_nothing() -> None:
    settings = with_rules(rule("wanted", "drop", "sequence <> 7"), rule("possible", "fail"))
    condition = documents(settings)[EXPECTATIONS]["expect_or_fail"]["possible"]
    own, _, otherwise = condition.partition(" OR NOT ")
    assert own == "coalesce(sequence < 1000, false)"
    assert "coalesce(sequence <> 7, false)" in otherwise
    assert "coalesce(event_id <> '', false)" in otherwise


def test_silver_takes_the_rows_that_no_rule_sets_aside_or_drops() -> None:
    settings = with_rules(rule("wanted", "drop", "sequence <> 7"), rule("noted", "warn", "1 = 1"))
    event, accepted = transformation(settings)["where_clause"]
    assert event == "event_type = 'order_created'"
    assert accepted.startswith(f"{CORRUPT} IS NULL AND ")
    assert "coalesce(sequence <> 7, false)" in accepted
    assert "1 = 1" not in accepted


def test_silver_explodes_once_and_computes_in_decimals() -> None:
    *scalars, lines = transformation()["select_exp"]
    assert lines.startswith("inline(transform(")
    assert not [text for text in scalars if re.search(r"explode|inline", text)]
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
    lines = transformation(settings)["select_exp"][-1]
    total = "try_cast(item.qty * (position + 1) AS INT)"
    time = event_time()
    assert f"'total', {total}" in lines
    assert f"concat(item.name, ' qty ', {total}, {utc_day(time)}, {time})" in lines


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


# Gold


def test_gold_declares_every_table_that_sdp_meta_does_not_make() -> None:
    text = documents(replace(SETTINGS, catalog="main"))[GOLD]
    row = onboarding()
    names = [row["bronze_table"], row["bronze_quarantine_table"], row["silver_table"]]
    names += re.findall(r"CREATE MATERIALIZED VIEW `main`\.`lakeflow`\.`(\w+)` \(", text)
    assert names == [table.name for table in domain_tables(GHOST_KITCHEN)]


def test_gold_reads_the_tables_of_its_own_schema() -> None:
    sources = re.findall(
        r"FROM `mine`\.`(.*)`\n", documents(replace(SETTINGS, database="mine"))[GOLD]
    )
    assert set(sources) == {"all_events", "silver_order_items", "silver_order_lifecycle"}
    assert len(sources) == len(domain_tables(GHOST_KITCHEN)) - 3


def test_each_gold_table_has_its_columns_with_their_types_and_its_layout() -> None:
    statements = documents()[GOLD].split(";\n")
    tables = {table.name: table for table in domain_tables(GHOST_KITCHEN)}
    for statement in filter(str.strip, statements):
        head, _, query = statement.partition("\nAS SELECT\n")
        table = tables[re.findall(r"VIEW `lakeflow`\.`(\w+)`", head)[0]]
        columns = [(c.name, c.fixed_type) for c in table.columns]
        assert re.findall(r"^  `(\w+)` (\S+) COMMENT '", head, re.MULTILINE) == columns
        select = query.partition("\nFROM")[0]
        selected = [line.rstrip(",").rpartition(" ")[2].strip("`") for line in select.split("\n")]
        assert selected == [name for name, _ in columns]
        partitions = re.findall(r"^PARTITIONED BY \(`(\w+)`\)$", head, re.MULTILINE)
        assert tuple(partitions) == table.partition_by
        assert ("enableChangeDataFeed" in head) == table.change_feed


def test_the_lifecycle_takes_the_rows_that_silver_takes() -> None:
    settings = with_rules(rule("wanted", "drop", "sequence <> 7"))
    accepted = transformation(settings)["where_clause"][1]
    assert f"\n    WHERE {accepted}\n" in documents(settings)[GOLD]


# What is refused, and what is written


def test_hostile_names_and_texts_stay_text() -> None:
    opening = GHOST_KITCHEN.event_types[0]
    domain = replace(
        GHOST_KITCHEN,
        event_types=(replace(opening, name=HOSTILE), *GHOST_KITCHEN.event_types[1:]),
        opening=HOSTILE,
        line_items=replace(GHOST_KITCHEN.line_items, event=HOSTILE),
        lifecycle=replace(GHOST_KITCHEN.lifecycle, durations=()),
        rules=(rule(HOSTILE, "warn"),),
    )
    settings = replace(SETTINGS, domain=domain, events=f"/events/{HOSTILE}", folder="/a 'b'")
    texts = documents(settings)
    assert onboarding(settings)["source_details"]["source_path_dev"] == f"/events/{HOSTILE}"
    assert HOSTILE in texts[EXPECTATIONS]["expect"]
    assert transformation(settings)["where_clause"][0] == f"event_type = {quote_text(HOSTILE)}"
    assert f"WHEN event_type = {quote_text(HOSTILE)} THEN" in texts[GOLD]


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
        {"domain": replace(GHOST_KITCHEN, line_items=BAD_ITEMS)},
    ],
    ids=str,
)
def test_a_name_or_path_that_sdp_meta_does_not_accept_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as refusal:
        replace(SETTINGS, **change)
    assert refusal.value.hint


def test_an_export_replaces_an_earlier_one(tmp_path: Path) -> None:
    folder = tmp_path / "a folder" / "conf"
    write_dlt_meta(replace(SETTINGS, env="prod"), folder)
    paths = write_dlt_meta(SETTINGS, folder)
    assert {p.name: p.read_text(encoding="utf-8") for p in paths} == dlt_meta_files(SETTINGS)
    assert paths[0] == folder / ONBOARDING


def test_a_folder_with_other_files_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(PipelineError, match=r"holds other files .*, such as mine\.txt$") as refusal:
        write_dlt_meta(SETTINGS, tmp_path)
    assert refusal.value.hint == "choose a folder that is new, empty or from an earlier export"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PipelineError, match="can't be written"):
        write_dlt_meta(SETTINGS, tmp_path / "file")


def test_the_export_loads_no_spark() -> None:
    program = (
        "import sys, caspers_lib.medallion.dlt_meta as d\n"
        "d.dlt_meta_files(d.DltMetaSettings(events='/e', folder='/f'))\n"
        "assert not {'pyspark', 'databricks'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# The command


def export(*arguments: str, catalog: str | None = None) -> list[str]:
    """What the command prints."""
    command = ["pipeline", "export", *arguments]
    result = CliRunner().invoke(app, command, env={"CASPERS_CATALOG": catalog})
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def test_the_command_gives_the_examples_bytes(tmp_path: Path) -> None:
    paths = [Path(line) for line in export("--format", "dlt-meta", str(tmp_path))]
    exported = {path.name: path.read_bytes() for path in paths}
    assert exported == {path.name: path.read_bytes() for path in EXAMPLE.iterdir()}


def test_the_volumes_are_the_catalogs_unless_they_are_named(tmp_path: Path) -> None:
    export(str(tmp_path), catalog="mine")
    text = (tmp_path / ONBOARDING).read_text(encoding="utf-8")
    assert '"/Volumes/mine/simulator/events"' in text
    assert "/Volumes/mine/simulator/misc/dlt_meta/" in text
    export(str(tmp_path), "--catalog", "main", "--events", "/landed", "--files", "/conf")
    (row,) = json.loads((tmp_path / ONBOARDING).read_text(encoding="utf-8"))
    assert row["silver_catalog_dev"] == "main"
    assert row["source_details"]["source_path_dev"] == "/landed"
    assert row["silver_transformation_json_dev"] == f"/conf/{TRANSFORMATIONS}"
