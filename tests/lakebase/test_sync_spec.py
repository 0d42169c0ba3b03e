from dataclasses import replace

import pytest

from caspers_lib.errors import SyncError
from caspers_lib.lakebase import COMPLAINTS, REFUNDS, SyncColumn


def test_refunds_go_to_the_refund_managers_table() -> None:
    assert (REFUNDS.source, REFUNDS.database, REFUNDS.keys) == (
        "recommender.refund_recommendations",
        "caspers",
        ("order_id",),
    )
    assert REFUNDS.target == '"recommender"."pg_recommendations"'
    assert [(c.name, c.type) for c in REFUNDS.columns] == [
        ("order_id", "text"),
        ("ts", "timestamptz"),
        ("order_ts", "timestamptz"),
        ("agent_response", "jsonb"),
    ]


def test_complaints_go_to_the_complaint_managers_table() -> None:
    assert (COMPLAINTS.source, COMPLAINTS.database, COMPLAINTS.keys) == (
        "complaints.complaint_responses",
        "caspers_complaints",
        ("complaint_id",),
    )
    assert COMPLAINTS.target == '"complaints"."pg_complaint_responses"'


def test_ddl_creates_the_target_with_its_primary_key() -> None:
    assert REFUNDS.ddl[:2] == (
        'CREATE SCHEMA IF NOT EXISTS "recommender"',
        'CREATE TABLE IF NOT EXISTS "recommender"."pg_recommendations" ("order_id" text, '
        '"ts" timestamptz, "order_ts" timestamptz, "agent_response" jsonb, '
        'PRIMARY KEY ("order_id"))',
    )


def test_dead_letters_and_positions_live_beside_the_target() -> None:
    assert REFUNDS.dead_letters == '"recommender"."pg_recommendations_dead_letter"'
    assert REFUNDS.positions == '"recommender"."sync_positions"'


@pytest.mark.parametrize(
    "column_type", ["text", "numeric(12,2)", "numeric(12, 2)", "double precision", "int8"]
)
def test_plain_types_are_allowed(column_type: str) -> None:
    replace(REFUNDS, columns=(*REFUNDS.columns, SyncColumn("extra", column_type)))


@pytest.mark.parametrize("column_type", ["", "TEXT", "text)", "text; DROP TABLE x", "int'8", "%s"])
def test_a_type_that_is_no_plain_type_is_refused(column_type: str) -> None:
    with pytest.raises(SyncError, match="not a plain PostgreSQL type"):
        replace(REFUNDS, columns=(*REFUNDS.columns, SyncColumn("extra", column_type)))


@pytest.mark.parametrize("keys", [(), ("nobody",)])
def test_a_plan_without_a_key_among_its_columns_is_refused(keys: tuple[str, ...]) -> None:
    with pytest.raises(SyncError, match="needs key columns"):
        replace(REFUNDS, keys=keys)


def test_a_column_named_twice_is_refused() -> None:
    with pytest.raises(SyncError, match="names a column twice"):
        replace(REFUNDS, columns=REFUNDS.columns * 2)
