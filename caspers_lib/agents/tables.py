"""The agents' Delta tables: names, columns, comments.

The schemas (databases) exist already; whoever starts the session made them.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from caspers_lib.domain import GHOST_KITCHEN, Column, Table

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = [
    "AGENT_TABLES",
    "COMPLAINT_RESPONSES",
    "MODEL_CALLS",
    "OPEN_QUESTIONS",
    "RAW_COMPLAINTS",
    "REFUND_RECOMMENDATIONS",
    "AgentTables",
    "ensure_tables",
]


_ORDER_ID = Column("order_id", "STRING", comment="the order, with -L<n> in loop n")
_COMPLAINT_ID = Column("complaint_id", "STRING", comment="UUIDv5 of the order")
_DELIVERED = Column("ts", "TIMESTAMP", comment="event time of the delivery")

REFUND_RECOMMENDATIONS = Table(
    "recommender.refund_recommendations",
    "One recommendation per delivered order",
    (
        _ORDER_ID,
        _DELIVERED,
        Column("order_ts", "TIMESTAMP", comment="event time of the creation"),
        Column(
            "agent_response", "STRING", comment="JSON: refund_usd, refund_class, reason, source"
        ),
    ),
    key=("order_id",),
    change_feed=True,
)

RAW_COMPLAINTS = Table(
    "complaints.raw_complaints",
    "One complaint per complaining order",
    (
        _COMPLAINT_ID,
        _ORDER_ID,
        _DELIVERED,
        Column("complaint_category", "STRING", comment="what the customer complains about"),
        Column("complaint_text", "STRING", comment="what the customer wrote"),
        Column("generated_by", "STRING", comment="rules or a model"),
    ),
    key=("complaint_id",),
    change_feed=True,
)

COMPLAINT_RESPONSES = Table(
    "complaints.complaint_responses",
    "One response per complaint",
    (
        _COMPLAINT_ID,
        _ORDER_ID,
        _DELIVERED,
        Column("agent_response", "STRING", comment="JSON: decision, amount or priority, why"),
    ),
    key=("complaint_id",),
    change_feed=True,
)

# The agents' streams run at the same time and write into the same two tables: partitioned by agent,
# two MERGEs never touch the same files, so Delta sees no conflict.
_AGENT = Column("agent", "STRING", comment="refunds, complaints or responses")
_KEY = Column("key", "STRING", comment="the order, or the complaint")

MODEL_CALLS = Table(
    "ai.model_calls",
    "One row per question that a model was asked: what it cost, and what came of it",
    (
        _AGENT,
        _KEY,
        _ORDER_ID,
        Column("asked_at", "TIMESTAMP", comment="wall clock at the start of the batch"),
        Column("model", "STRING", comment="model or endpoint"),
        Column("answered", "BOOLEAN", comment="whether the answer kept its contract"),
        Column("outcome", "STRING", comment="answered, or what kind of failure it was"),
        Column("reason", "STRING", comment="why there is no answer; null where there is one"),
        Column("calls", "INT", comment="requests that were sent, retries included"),
        Column("input_tokens", "BIGINT", comment="tokens of the questions"),
        Column("output_tokens", "BIGINT", comment="tokens of the answers"),
        Column("usd", "DECIMAL(18,6)", comment="USD, by the prices in the settings"),
        Column("seconds", "DOUBLE", comment="wall-clock seconds from question to answer"),
        Column("cached", "BOOLEAN", comment="whether the answer had been paid for before"),
    ),
    key=("agent", "key", "asked_at"),
    partition_by=("agent",),
)

OPEN_QUESTIONS = Table(
    "ai.open_questions",
    "Orders and complaints that a model has not answered yet",
    (
        _AGENT,
        _KEY,
        _ORDER_ID,
        _DELIVERED,
        Column("state", "STRING", comment="pending: asked again later; aside: never again"),
        Column("reason", "STRING", comment="why it has no model's answer"),
        Column("attempts", "INT", comment="answers of a model that could not be used"),
    ),
    key=("agent", "key"),
    partition_by=("agent",),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentTables:
    """The tables that the streams read and write.

    Args:
        events: the bronze table.
        lines: the silver table of line items.
        recommendations: the refund recommender's answers.
        complaints: what customers wrote.
        responses: the complaint agent's answers.
        model_calls: what models were asked, and what it cost.
        open_questions: what a model has still to answer.
        dimensions: schema of the dimension tables, which name the locations; None where there are
            none.
    """

    events: str = f"lakeflow.{GHOST_KITCHEN.bronze}"
    lines: str = f"lakeflow.{GHOST_KITCHEN.line_items.table}"
    recommendations: Table = REFUND_RECOMMENDATIONS
    complaints: Table = RAW_COMPLAINTS
    responses: Table = COMPLAINT_RESPONSES
    model_calls: Table = MODEL_CALLS
    open_questions: Table = OPEN_QUESTIONS
    dimensions: str | None = None

    @property
    def written(self) -> tuple[Table, ...]:
        """Those that the streams write; they exist before a stream runs."""
        answers = (self.recommendations, self.complaints, self.responses)
        return (*answers, self.model_calls, self.open_questions)


AGENT_TABLES = AgentTables()
"""The tables of the default domain, under their contracted names."""


def ensure_tables(spark: "SparkSession", tables: AgentTables = AGENT_TABLES) -> None:
    """Create those of the tables that the streams write and that don't exist.

    Args:
        spark: the session; the schemas exist in it.
        tables: the tables' names.
    """
    for spec in tables.written:
        spark.sql(spec.create_sql())
