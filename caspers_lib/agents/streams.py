"""The agents as streams: `foreachBatch` handlers, and runs of what is new since the last run.

Contract: DESIGN section 7. A handler is pickled and runs in another process, so it holds frozen
values only. It merges by key and inserts only what is not there: a batch that runs again changes
nothing, with or without a checkpoint. The first run is a batch like any other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from caspers_lib.agents.complaint_draws import sample_bound
from caspers_lib.agents.complaints import complaining_orders, raw_complaints
from caspers_lib.agents.facts import delivered_orders, order_facts
from caspers_lib.agents.refund_policy import RefundPolicy
from caspers_lib.agents.refund_rules import refund_answers
from caspers_lib.agents.tables import AGENT_TABLES, AgentTables
from caspers_lib.agents.timings import (
    LONGEST_ORDER_HOURS,
    event_time,
    events_between,
)
from caspers_lib.agents.triage import complaint_responses
from caspers_lib.agents.triage_policy import TriagePolicy
from caspers_lib.domain import GHOST_KITCHEN, Domain, Table
from caspers_lib.domain.rules import accepted_condition
from caspers_lib.errors import PipelineError

__all__ = [
    "BatchHandler",
    "make_complaint_batch_handler",
    "make_refund_batch_handler",
    "make_response_batch_handler",
    "run_complaint_stream",
    "run_refund_stream",
    "run_response_stream",
]

BatchHandler: TypeAlias = Callable[[DataFrame, int], None]


@dataclass(frozen=True, slots=True)
class _Span:
    """How many rows a batch has, and when its first and last orders were delivered."""

    rows: int
    first: datetime | None
    last: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _RefundBatch:
    """Recommends a refund for each delivered order of a batch."""

    tables: AgentTables
    domain: Domain
    policy: RefundPolicy

    def __call__(self, batch: DataFrame, _batch_id: int) -> None:
        orders = _orders(batch, self.domain.entity_key)
        span = _span(batch, event_time(F.col("ts")))
        if not span.rows:
            return
        events, lines = _reach(batch.sparkSession, self.tables, span)
        facts = order_facts(orders, events, lines, self.domain)
        _insert_new(refund_answers(facts, self.policy), self.tables.recommendations)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ComplaintBatch:
    """Writes the complaints of the customers in a batch who complain."""

    tables: AgentTables
    domain: Domain
    rate: float
    seed: int

    def __call__(self, batch: DataFrame, _batch_id: int) -> None:
        named = batch.select("ts", F.col(self.domain.entity_key).alias("order_id"))
        complaining = complaining_orders(named, self.rate, self.seed)
        span = _span(complaining, event_time(F.col("ts")))
        if not span.rows:
            return
        events, lines = _reach(batch.sparkSession, self.tables, span)
        orders = delivered_orders(_orders(complaining, "order_id"), events, lines, self.domain)
        complaints = raw_complaints(orders, self.seed, self.domain.namespace)
        _insert_new(complaints, self.tables.complaints)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ResponseBatch:
    """Answers the complaints of a batch."""

    tables: AgentTables
    domain: Domain
    policy: TriagePolicy

    def __call__(self, batch: DataFrame, _batch_id: int) -> None:
        complaints = batch.dropDuplicates([*self.tables.complaints.key])
        span = _span(batch, F.col("ts"))
        if not span.rows:
            return
        events, lines = _reach(batch.sparkSession, self.tables, span)
        orders = _orders(batch, "order_id")
        facts = order_facts(orders, events, lines, self.domain)
        responses = complaint_responses(complaints, facts, self.policy)
        _insert_new(responses, self.tables.responses)


def make_refund_batch_handler(
    *,
    tables: AgentTables = AGENT_TABLES,
    domain: Domain = GHOST_KITCHEN,
    policy: RefundPolicy | None = None,
) -> BatchHandler:
    """A picklable handler of batches of closing events.

    Args:
        tables: the tables to read and write.
        domain: names the events and keys.
        policy: the refund policy; the published one if None.
    """
    return _RefundBatch(tables=tables, domain=domain, policy=policy or RefundPolicy())


def make_complaint_batch_handler(
    *,
    rate: float,
    seed: int,
    tables: AgentTables = AGENT_TABLES,
    domain: Domain = GHOST_KITCHEN,
) -> BatchHandler:
    """A picklable handler of batches of closing events.

    Args:
        rate: share of delivered orders that complain, 0 to 1.
        seed: another seed draws another sample.
        tables: the tables to read and write.
        domain: names the events and keys.

    Raises:
        ValueError: the rate is outside 0..1.
    """
    sample_bound(rate)
    return _ComplaintBatch(tables=tables, domain=domain, rate=rate, seed=seed)


def make_response_batch_handler(
    *,
    tables: AgentTables = AGENT_TABLES,
    domain: Domain = GHOST_KITCHEN,
    policy: TriagePolicy | None = None,
) -> BatchHandler:
    """A picklable handler of batches of raw complaints.

    Args:
        tables: the tables to read and write.
        domain: names the events and keys.
        policy: the complaint policy; the published one if None.
    """
    return _ResponseBatch(tables=tables, domain=domain, policy=policy or TriagePolicy())


def run_refund_stream(
    spark: SparkSession,
    checkpoint: str,
    *,
    tables: AgentTables = AGENT_TABLES,
    domain: Domain = GHOST_KITCHEN,
    policy: RefundPolicy | None = None,
) -> None:
    """Recommend refunds for the orders delivered since the last run, and return.

    Args:
        spark: the session; the tables exist in it.
        checkpoint: folder that remembers what was read.
        tables: the tables to read and write.
        domain: names the events and keys.
        policy: the refund policy; the published one if None.

    Raises:
        PipelineError: the stream failed; what was not written is taken up by the next run.
    """
    handler = make_refund_batch_handler(tables=tables, domain=domain, policy=policy)
    _run("refunds", _closing_events(spark, tables, domain), handler, checkpoint)


def run_complaint_stream(
    spark: SparkSession,
    checkpoint: str,
    rate: float,
    seed: int,
    *,
    tables: AgentTables = AGENT_TABLES,
    domain: Domain = GHOST_KITCHEN,
) -> None:
    """Write complaints about the orders delivered since the last run, and return.

    Args:
        spark: the session; the tables exist in it.
        checkpoint: folder that remembers what was read.
        rate: share of delivered orders that complain, 0 to 1.
        seed: another seed draws another sample.
        tables: the tables to read and write.
        domain: names the events and keys.

    Raises:
        PipelineError: the stream failed; what was not written is taken up by the next run.
        ValueError: the rate is outside 0..1.
    """
    handler = make_complaint_batch_handler(rate=rate, seed=seed, tables=tables, domain=domain)
    _run("complaints", _closing_events(spark, tables, domain), handler, checkpoint)


def run_response_stream(
    spark: SparkSession,
    checkpoint: str,
    *,
    tables: AgentTables = AGENT_TABLES,
    domain: Domain = GHOST_KITCHEN,
    policy: TriagePolicy | None = None,
) -> None:
    """Answer the complaints written since the last run, and return.

    Args:
        spark: the session; the tables exist in it.
        checkpoint: folder that remembers what was read.
        tables: the tables to read and write.
        domain: names the events and keys.
        policy: the complaint policy; the published one if None.

    Raises:
        PipelineError: the stream failed; what was not written is taken up by the next run.
    """
    handler = make_response_batch_handler(tables=tables, domain=domain, policy=policy)
    _run("responses", spark.readStream.table(tables.complaints.name), handler, checkpoint)


def _run(name: str, source: DataFrame, handler: BatchHandler, checkpoint: str) -> None:
    try:
        query = (
            source.writeStream.queryName(name)
            .option("checkpointLocation", checkpoint)
            .trigger(availableNow=True)
            .foreachBatch(handler)
            .start()
        )
        try:
            query.awaitTermination()
        finally:
            query.stop()
    except PySparkException as error:
        summary = next(iter(str(error).splitlines()), type(error).__name__)
        raise PipelineError(
            f"The stream {name} failed: {summary}",
            hint="Run it again: it continues where it stopped.",
        ) from error


def _closing_events(spark: SparkSession, tables: AgentTables, domain: Domain) -> DataFrame:
    """The closing events that are not set aside; a full refresh of the table shows them again."""
    events = spark.readStream.option("skipChangeCommits", "true").table(tables.events)
    closing = events.where(F.col("event_type") == domain.closing)
    return closing.where(accepted_condition(domain))


def _orders(rows: DataFrame, key: str) -> DataFrame:
    """Each order of the rows once; a row that names no order can't be answered."""
    return rows.select(F.col(key).alias("order_id")).where("order_id IS NOT NULL").distinct()


def _span(rows: DataFrame, time: Column) -> _Span:
    millis = F.unix_millis(time)
    row = rows.agg(F.count(F.lit(1)), F.min(millis), F.max(millis)).first()
    if row is None:
        return _Span(0, None, None)
    return _Span(row[0], _instant(row[1]), _instant(row[2]))


def _instant(millis: int | None) -> datetime | None:
    return None if millis is None else datetime.fromtimestamp(millis / 1000, UTC)


def _reach(spark: SparkSession, tables: AgentTables, span: _Span) -> tuple[DataFrame, DataFrame]:
    """The events and line items that can matter to the orders of a span."""
    events = events_between(spark.read.table(tables.events), span.first, span.last)
    lines = spark.read.table(tables.lines)
    if span.first is None:
        return events, lines.where(F.lit(False))
    since = (span.first - timedelta(hours=LONGEST_ORDER_HOURS)).timestamp()
    return events, lines.where(F.col("order_ts") >= F.timestamp_seconds(F.lit(since)))


def _insert_new(rows: DataFrame, table: Table) -> None:
    """Add the rows whose key the table doesn't have yet."""
    same_key = F.expr(" AND ".join(f"{table.name}.{key} = new.{key}" for key in table.key))
    rows.alias("new").mergeInto(table.name, same_key).whenNotMatched().insertAll().merge()
