from caspers_lib.agents.tables import (
    COMPLAINT_RESPONSES,
    RAW_COMPLAINTS,
    REFUND_RECOMMENDATIONS,
)
from caspers_lib.domain import Column, Table


def test_the_tables_have_the_contracted_columns() -> None:
    assert [c.name for c in REFUND_RECOMMENDATIONS.columns] == [
        "order_id",
        "ts",
        "order_ts",
        "agent_response",
    ]
    assert [c.name for c in RAW_COMPLAINTS.columns] == [
        "complaint_id",
        "order_id",
        "ts",
        "complaint_category",
        "complaint_text",
        "generated_by",
    ]
    assert [c.name for c in COMPLAINT_RESPONSES.columns] == [
        "complaint_id",
        "order_id",
        "ts",
        "agent_response",
    ]


def test_the_tables_that_postgres_follows_have_a_change_feed() -> None:
    for spec in (REFUND_RECOMMENDATIONS, COMPLAINT_RESPONSES):
        assert "delta.enableChangeDataFeed = true" in spec.create_sql()


def test_a_comment_with_quotes_stays_one_literal() -> None:
    spec = Table("s.t", r"it's a \ test", (Column("a", "INT"),))
    assert spec.create_sql().endswith(r"COMMENT 'it\'s a \\ test'")
