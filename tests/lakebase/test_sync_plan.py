from dataclasses import replace

import pytest

from caspers_lib.errors import SyncError
from caspers_lib.lakebase import (
    COMPLAINTS,
    REFUNDS,
    SyncSpec,
    agent_tables,
    order_tables,
    plan_sync,
)
from caspers_lib.lakebase.pg_types import postgres_type, widens
from caspers_lib.lakebase.sync_plan import TargetColumn, TargetTable
from tests.lakebase.plans import PLAN, REFUND_COLUMNS

READY = TargetTable(
    {c.name: TargetColumn(c.type, c.name == "order_id") for c in PLAN.columns},
    (frozenset({"order_id"}),),
    PLAN.names,
)


def test_refunds_go_to_the_refund_managers_table() -> None:
    assert (REFUNDS.source, REFUNDS.database, REFUNDS.keys) == (
        "recommender.refund_recommendations",
        "caspers",
        ("order_id",),
    )
    assert REFUNDS.target == '"recommender"."pg_recommendations"'
    assert [(c.name, c.type) for c in PLAN.columns] == [
        ("order_id", "text"),
        ("ts", "timestamp with time zone"),
        ("order_ts", "timestamp with time zone"),
        ("agent_response", "jsonb"),
    ]


def test_complaints_go_to_the_complaint_managers_table() -> None:
    assert (COMPLAINTS.source, COMPLAINTS.database, COMPLAINTS.keys) == (
        "complaints.complaint_responses",
        "caspers_complaints",
        ("complaint_id",),
    )
    assert COMPLAINTS.target == '"complaints"."pg_complaint_responses"'


def test_a_page_finds_in_postgres_what_it_shows_of_an_order() -> None:
    sources = {spec.source for spec in (*agent_tables(), *order_tables())}
    assert sources >= {
        "lakeflow.gold_order_header",
        "lakeflow.silver_order_lifecycle",
        "lakeflow.silver_order_items",
        "lakeflow.all_events",
        "simulator.locations",
        "complaints.raw_complaints",
    }
    assert {s.source for s in order_tables(catalog="main")} >= {"main.lakeflow.all_events"}


def test_every_synced_table_has_a_name_and_a_target_of_its_own() -> None:
    specs = (*agent_tables(), *order_tables())
    assert len({spec.name for spec in specs}) == len(specs)
    assert len({(spec.database, spec.target) for spec in specs}) == len(specs)


def test_ddl_creates_the_target_with_its_primary_key() -> None:
    assert PLAN.ddl[:2] == (
        'CREATE SCHEMA IF NOT EXISTS "recommender"',
        'CREATE TABLE IF NOT EXISTS "recommender"."pg_recommendations" ("order_id" text, '
        '"ts" timestamp with time zone, "order_ts" timestamp with time zone, '
        '"agent_response" jsonb, PRIMARY KEY ("order_id"))',
    )
    assert PLAN.changes(None) == PLAN.ddl


def test_dead_letters_and_positions_live_beside_the_target() -> None:
    assert REFUNDS.dead_letters == '"recommender"."pg_recommendations_dead_letter"'
    assert REFUNDS.positions == '"recommender"."sync_positions"'


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"keys": ()}, "has no key"),
        ({"keys": ("order_id", "order_id")}, "names a column twice in keys"),
        ({"columns": ("ts", "ts")}, "names a column twice in columns"),
        ({"mode": "hourly"}, "has the mode 'hourly'"),
        ({"source": "refunds"}, "has the source 'refunds'"),
        ({"source": "a.b.c.d"}, "has the source"),
        ({"source": "a."}, "has the source"),
    ],
)
def test_a_spec_that_contradicts_itself_is_refused(
    changes: dict[str, object], problem: str
) -> None:
    with pytest.raises(SyncError, match=problem) as caught:
        replace(REFUNDS, **changes)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"keys": ("nobody",)}, "names column 'nobody'"),
        ({"jsonb": ("nobody",)}, "names column 'nobody'"),
        ({"newest_by": "nobody"}, "names column 'nobody'"),
        ({"columns": ("ts",), "jsonb": ()}, "names column 'order_id'"),
        ({"indexes": (("nobody",),)}, "names column 'nobody'"),
        ({"jsonb": ("ts",)}, "can't be read as JSON text"),
        ({"keys": ("agent_response",)}, "has the key 'agent_response'"),
    ],
)
def test_a_spec_that_does_not_fit_its_source_is_refused(
    changes: dict[str, object], problem: str
) -> None:
    with pytest.raises(SyncError, match=problem) as caught:
        plan_sync(replace(REFUNDS, **changes), REFUND_COLUMNS)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("spark_type", "expected"),
    [
        ("string", "text"),
        ("varchar(10)", "text"),
        ("decimal(12,2)", "numeric(12,2)"),
        ("decimal(38, 0)", "numeric(38,0)"),
        ("tinyint", "smallint"),
        ("timestamp", "timestamp with time zone"),
        ("timestamp_ntz", "timestamp without time zone"),
        ("binary", "bytea"),
        ("array<int>", "jsonb"),
        ("struct<a:int,b:array<string>>", "jsonb"),
        ("map<string,double>", "jsonb"),
        ("variant", "jsonb"),
    ],
)
def test_types_are_mapped(spark_type: str, expected: str) -> None:
    assert postgres_type("c", spark_type).name == expected


@pytest.mark.parametrize("spark_type", ["void", "interval day to second", "geometry", ""])
def test_a_type_that_postgres_lacks_is_refused_by_name(spark_type: str) -> None:
    with pytest.raises(SyncError, match="for which PostgreSQL has none"):
        postgres_type("c", spark_type)


@pytest.mark.parametrize(
    ("old", "new", "wider"),
    [
        ("integer", "bigint", True),
        ("smallint", "bigint", True),
        ("bigint", "integer", False),
        ("real", "double precision", True),
        ("numeric(10,2)", "numeric(12,2)", True),
        ("numeric(10,2)", "numeric(12,4)", True),
        ("numeric(10,2)", "numeric(11,4)", False),
        ("numeric(12,2)", "numeric(10,2)", False),
        ("text", "jsonb", False),
        ("text", "text", False),
    ],
)
def test_only_wider_types_are_followed(old: str, new: str, wider: bool) -> None:
    assert widens(old, new) is wider


def test_a_target_that_is_ready_needs_nothing() -> None:
    assert PLAN.changes(READY) == PLAN.ddl[2:]
    assert PLAN.explain(READY)[-1] == "  the target is ready"


def test_a_new_column_is_added_and_a_wider_type_widened() -> None:
    wider = plan_sync(REFUNDS, {**REFUND_COLUMNS, 'n"ote': "array<int>"})
    narrow = replace(READY, columns={**READY.columns, "n": TargetColumn("integer")})
    assert 'ALTER TABLE "recommender"."pg_recommendations" ADD COLUMN "n""ote" jsonb' in (
        wider.changes(READY)
    )
    plan = plan_sync(REFUNDS, {**REFUND_COLUMNS, "n": "bigint"})
    assert plan.changes(narrow)[-1].endswith('ALTER COLUMN "n" TYPE bigint')
    assert "will run: ALTER TABLE" in "\n".join(plan.explain(narrow))


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        (replace(READY, is_ours=False), "no sync made it"),
        (replace(READY, unique=()), "primary key isn't"),
        (replace(READY, unique=(frozenset({"order_id", "ts"}),)), "primary key isn't"),
        (
            replace(READY, columns={k: v for k, v in READY.columns.items() if k != "ts"}),
            "column ts was synced and is gone",
        ),
        (
            replace(READY, columns={**READY.columns, "ts": TargetColumn("text")}),
            "column ts is text there and timestamp with time zone here",
        ),
        (
            replace(
                READY,
                columns={**READY.columns, "old": TargetColumn("text")},
                synced=(*PLAN.names, "old"),
            ),
            "the source no longer has column old",
        ),
        (
            replace(READY, columns={**READY.columns, "own": TargetColumn("text", True)}),
            "column own needs a value",
        ),
    ],
)
def test_a_target_that_does_not_fit_is_refused_with_its_cure(
    target: TargetTable, problem: str
) -> None:
    with pytest.raises(SyncError, match=problem) as caught:
        PLAN.changes(target)
    assert caught.value.hint


def test_columns_and_indexes_of_ones_own_are_left_alone() -> None:
    own = replace(READY, columns={**READY.columns, "own": TargetColumn("text")})
    assert PLAN.changes(own) == PLAN.ddl[2:]


def test_indexes_have_names_of_their_own_that_postgres_keeps_whole() -> None:
    spec = replace(REFUNDS, table="x" * 60, indexes=(("ts",), ("ts", "order_id")))
    names = [ddl.split('"')[1] for ddl in plan_sync(spec, REFUND_COLUMNS).index_ddl]
    assert len(set(names)) == 2
    assert all(len(name) <= 63 for name in names)


def test_a_plan_explains_itself() -> None:
    lines = PLAN.explain(None)
    assert lines[0] == (
        "refunds: recommender.refund_recommendations -> caspers recommender.pg_recommendations"
    )
    assert lines[1] == "  triggered, key order_id"
    assert "  agent_response  string -> jsonb" in lines
    assert sum(line.startswith("  will run: CREATE TABLE") for line in lines) == 3


def test_a_spec_can_be_written_in_a_few_lines() -> None:
    spec = SyncSpec(name="a", source="s.a", keys=("k",), database="d", schema="s", table="a")
    assert (spec.mode, spec.columns, spec.newest_by) == ("triggered", (), None)


@pytest.mark.parametrize(
    "name",
    ["ctid", "xmin", "TABLEOID", "_change_type", "_Commit_Version", "", "a\0b", "ü" * 32, "\ud800"],
)
def test_a_column_that_one_side_cannot_have_is_refused_by_name(name: str) -> None:
    spec = replace(REFUNDS, jsonb=())
    with pytest.raises(SyncError) as caught:
        plan_sync(spec, {"order_id": "string", name: "string"})
    assert f"{name!a}" in caught.value.message
    assert caught.value.hint
    # Left out of the spec it is in nobody's way.
    assert plan_sync(replace(spec, columns=("order_id",)), {"order_id": "string", name: "string"})
