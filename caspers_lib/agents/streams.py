"""The agents as streams: `foreachBatch` handlers, and runs of what is new since the last run.

A handler is pickled and runs in another process, so it holds frozen
values only. It merges by key and inserts only what is not there: a batch that runs again changes
nothing, with or without a checkpoint. The first run is a batch like any other.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol, TypeAlias

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from caspers_lib.agents.complaint_draws import sample_bound
from caspers_lib.agents.complaints import complaining_orders, raw_complaints
from caspers_lib.agents.facts import delivered_orders, order_facts
from caspers_lib.agents.model.answers import ModelAnswers, held, insert_new
from caspers_lib.agents.model.complaint_writer import ComplaintWriter
from caspers_lib.agents.model.prompts import complaint_questions, refund_questions
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
from caspers_lib.domain import GHOST_KITCHEN, Domain
from caspers_lib.domain.rules import accepted_condition
from caspers_lib.errors import PipelineError, first_cause

__all__ = [
    "AnswerHandler",
    "BatchHandler",
    "complaint_batch_handler",
    "refund_batch_handler",
    "response_batch_handler",
    "run_complaint_stream",
    "run_refund_stream",
    "run_response_stream",
]

BatchHandler: TypeAlias = Callable[[DataFrame, int], None]


class AnswerHandler(Protocol):
    """A handler of batches that can ask a model again about what it has not answered."""

    def __call__(self, batch: DataFrame, batch_id: int, /) -> None:
        """Answer a batch."""

    def improve(self, spark: SparkSession) -> None:
        """Ask a model about what it has not answered, a batch of it; nothing without a model."""


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
    model: ModelAnswers | None

    def __call__(self, batch: DataFrame, _batch_id: int) -> None:
        spark, span = batch.sparkSession, _span(batch, event_time())
        if not span.rows:
            return
        facts = self._facts(spark, _orders(batch, self.domain.entity_key), span)
        answers, target = refund_answers(facts, self.policy), self.tables.recommendations
        if self.model is None:
            insert_new(answers, target)
        else:
            keys = _orders(batch, self.domain.entity_key)
            self.model.take_up("refunds", self.tables, target, answers, keys, span.last)
            self.improve(spark)

    def improve(self, spark: SparkSession) -> None:
        """Ask a model about orders that it has not answered."""
        if self.model is None or self.model.asker is None:
            return
        open_ = self.model.open_questions(spark, "refunds", self.tables)
        span = _span(open_, F.col("ts"))
        if not span.rows:
            return
        facts = held(self._facts(spark, open_.select("order_id"), span))
        questions = refund_questions(facts, self.policy)
        rules, target = refund_answers(facts, self.policy), self.tables.recommendations
        self.model.ask("refunds", self.tables, target, open_, questions, rules)

    def _facts(self, spark: SparkSession, orders: DataFrame, span: _Span) -> DataFrame:
        events, lines = _reach(spark, self.tables, span)
        return order_facts(orders, events, lines, self.domain)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ComplaintBatch:
    """Writes the complaints of the customers in a batch who complain."""

    tables: AgentTables
    domain: Domain
    rate: float
    seed: int
    writer: ComplaintWriter | None

    def __call__(self, batch: DataFrame, _batch_id: int) -> None:
        named = batch.select("ts", F.col(self.domain.entity_key).alias("order_id"))
        complaining = complaining_orders(named, self.rate, self.seed)
        span = _span(complaining, event_time())
        if not span.rows:
            return
        events, lines = _reach(batch.sparkSession, self.tables, span)
        orders = delivered_orders(_orders(complaining, "order_id"), events, lines, self.domain)
        complaints = raw_complaints(orders, self.seed, self.domain.namespace)
        if self.writer is not None:
            complaints = self.writer.rewritten(complaints, orders, self.tables, self.seed)
        insert_new(complaints, self.tables.complaints)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ResponseBatch:
    """Answers the complaints of a batch."""

    tables: AgentTables
    domain: Domain
    policy: TriagePolicy
    model: ModelAnswers | None

    def __call__(self, batch: DataFrame, _batch_id: int) -> None:
        spark, span = batch.sparkSession, _span(batch, F.col("ts"))
        if not span.rows:
            return
        complaints = batch.dropDuplicates([*self.tables.complaints.key])
        facts = self._facts(spark, complaints, span)
        responses = complaint_responses(complaints, facts, self.policy)
        target = self.tables.responses
        if self.model is None:
            insert_new(responses, target)
        else:
            keys = complaints.select("complaint_id")
            self.model.take_up("responses", self.tables, target, responses, keys, span.last)
            self.improve(spark)

    def improve(self, spark: SparkSession) -> None:
        """Ask a model about complaints that it has not answered."""
        if self.model is None or self.model.asker is None:
            return
        open_ = self.model.open_questions(spark, "responses", self.tables)
        span = _span(open_, F.col("ts"))
        if not span.rows:
            return
        keys = open_.select(F.col("key").alias("complaint_id"))
        written = spark.read.table(self.tables.complaints.name)
        complaints = held(written.join(keys, "complaint_id", "left_semi"))
        facts = held(self._facts(spark, complaints, span))
        questions = complaint_questions(complaints, facts)
        rules, target = complaint_responses(complaints, facts, self.policy), self.tables.responses
        self.model.ask("responses", self.tables, target, open_, questions, rules)

    def _facts(self, spark: SparkSession, complaints: DataFrame, span: _Span) -> DataFrame:
        events, lines = _reach(spark, self.tables, span)
        return order_facts(_orders(complaints, "order_id"), events, lines, self.domain)


def refund_batch_handler(
    *,
    tables: AgentTables = AGENT_TABLES,
    domain: Domain = GHOST_KITCHEN,
    policy: RefundPolicy | None = None,
    model: ModelAnswers | None = None,
) -> AnswerHandler:
    """A picklable handler of batches of closing events.

    Args:
        tables: the tables to read and write.
        domain: names the events and keys.
        policy: the refund policy; the published one if None.
        model: how a model is used; by rules alone if None.
    """
    policy = policy or RefundPolicy()
    return _RefundBatch(tables=tables, domain=domain, policy=policy, model=model)


def complaint_batch_handler(
    *,
    rate: float,
    seed: int,
    tables: AgentTables = AGENT_TABLES,
    domain: Domain = GHOST_KITCHEN,
    writer: ComplaintWriter | None = None,
) -> BatchHandler:
    """A picklable handler of batches of closing events.

    Args:
        rate: share of delivered orders that complain, 0 to 1.
        seed: another seed draws another sample.
        tables: the tables to read and write.
        domain: names the events and keys.
        writer: a model that writes the texts; by rules alone if None.

    Raises:
        ValueError: the rate is outside 0..1.
    """
    sample_bound(rate)
    return _ComplaintBatch(tables=tables, domain=domain, rate=rate, seed=seed, writer=writer)


def response_batch_handler(
    *,
    tables: AgentTables = AGENT_TABLES,
    domain: Domain = GHOST_KITCHEN,
    policy: TriagePolicy | None = None,
    model: ModelAnswers | None = None,
) -> AnswerHandler:
    """A picklable handler of batches of raw complaints.

    Args:
        tables: the tables to read and write.
        domain: names the events and keys.
        policy: the complaint policy; the published one if None.
        model: how a model is used; by rules alone if None.
    """
    policy = policy or TriagePolicy()
    return _ResponseBatch(tables=tables, domain=domain, policy=policy, model=model)


def run_refund_stream(
    spark: SparkSession,
    checkpoint: str,
    *,
    tables: AgentTables = AGENT_TABLES,
    domain: Domain = GHOST_KITCHEN,
    policy: RefundPolicy | None = None,
    model: ModelAnswers | None = None,
) -> None:
    """Recommend refunds for the orders delivered since the last run, and return.

    With a model, it is then asked about orders that it has not answered before.

    Args:
        spark: the session; the tables exist in it.
        checkpoint: folder that remembers what was read.
        tables: the tables to read and write.
        domain: names the events and keys.
        policy: the refund policy; the published one if None.
        model: how a model is used; by rules alone if None.

    Raises:
        PipelineError: the stream failed; what was not written is taken up by the next run.
    """
    make = partial(refund_batch_handler, tables=tables, domain=domain, policy=policy)
    _run_and_ask("refunds", _closing_events(spark, tables, domain), make, model, checkpoint)


def run_complaint_stream(
    spark: SparkSession,
    checkpoint: str,
    rate: float,
    seed: int,
    *,
    tables: AgentTables = AGENT_TABLES,
    domain: Domain = GHOST_KITCHEN,
    writer: ComplaintWriter | None = None,
) -> None:
    """Write complaints about the orders delivered since the last run, and return.

    Args:
        spark: the session; the tables exist in it.
        checkpoint: folder that remembers what was read.
        rate: share of delivered orders that complain, 0 to 1.
        seed: another seed draws another sample.
        tables: the tables to read and write.
        domain: names the events and keys.
        writer: a model that writes the texts; by rules alone if None.

    Raises:
        PipelineError: the stream failed; what was not written is taken up by the next run.
        ValueError: the rate is outside 0..1.
    """
    handler = complaint_batch_handler(
        rate=rate, seed=seed, tables=tables, domain=domain, writer=writer
    )
    _run("complaints", _closing_events(spark, tables, domain), handler, checkpoint)


def run_response_stream(
    spark: SparkSession,
    checkpoint: str,
    *,
    tables: AgentTables = AGENT_TABLES,
    domain: Domain = GHOST_KITCHEN,
    policy: TriagePolicy | None = None,
    model: ModelAnswers | None = None,
) -> None:
    """Answer the complaints written since the last run, and return.

    With a model, it is then asked about complaints that it has not answered before.

    Args:
        spark: the session; the tables exist in it.
        checkpoint: folder that remembers what was read.
        tables: the tables to read and write.
        domain: names the events and keys.
        policy: the complaint policy; the published one if None.
        model: how a model is used; by rules alone if None.

    Raises:
        PipelineError: the stream failed; what was not written is taken up by the next run.
    """
    make = partial(response_batch_handler, tables=tables, domain=domain, policy=policy)
    written = spark.readStream.table(tables.complaints.name)
    _run_and_ask("responses", written, make, model, checkpoint)


def _run_and_ask(
    name: str,
    source: DataFrame,
    make: Callable[..., AnswerHandler],
    model: ModelAnswers | None,
    checkpoint: str,
) -> None:
    """Take up what is new, then ask from this process: it has a login, and a way out."""
    _run(name, source, make(model=model and replace(model, asker=None)), checkpoint)
    make(model=model).improve(source.sparkSession)


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
        raise PipelineError(
            f"The stream {name} failed: {first_cause(error)}",
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
