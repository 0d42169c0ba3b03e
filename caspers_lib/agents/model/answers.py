"""A batch's questions to a model: which are asked, what is written down, what stays open.

A batch is answered by the rules, or left pending, and its questions are
noted; then a bounded number of noted questions is asked, from this batch or an earlier one. A
model's answer takes the rules' place, never the other way round. Each step can run again after a
crash: what was paid for lies in the cache, and all writes are merges by key.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, Protocol

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from caspers_lib.agents.model.asking import AnsweredQuestion
from caspers_lib.agents.model.limits import Spent
from caspers_lib.agents.tables import AgentTables
from caspers_lib.domain import Table
from caspers_lib.errors import SettingsError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = [
    "Asker",
    "ModelAnswers",
    "held",
    "insert_new",
    "record_calls",
    "spent_since_midnight",
    "utc_now",
]

Fallback = Literal["rules", "pending"]


def utc_now() -> datetime:
    """The wall clock, aware."""
    return datetime.now(UTC)


class Asker(Protocol):
    """Asks a model; picklable, since a stream's handler runs in another process."""

    @property
    def model(self) -> str:
        """The model's or endpoint's name, for the record."""

    def answers(self, questions: DataFrame, spent_today: Spent) -> Sequence[AnsweredQuestion]:
        """An answer, or why there is none, for each question.

        Args:
            questions: key, order_id, at_most, facts, as `prompts` makes them; a bounded number.
            spent_today: what the agent has spent since midnight UTC.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAnswers:
    """How an agent uses a model beside its rules.

    Args:
        asker: asks the model; None only notes the questions, for another process to ask.
        fallback: what an order gets that the model did not get to: the rules' answer, or nothing
            yet. It is asked about again either way.
        questions_per_batch: questions asked in one batch, at least 1.
        recent_hours: virtual hours before the batch's newest delivery; older orders are the
            rules' for good. None asks about every order, however old.
        max_attempts: after so many answers that can't be used a question is put aside, and the
            rules' answer stands. A model that can't be reached says nothing about a question.
        now: the wall clock, aware; says which day's budget it is.

    Raises:
        SettingsError: a value is not allowed.
    """

    asker: Asker | None
    fallback: Fallback = "rules"
    questions_per_batch: int = 1_000
    recent_hours: float | None = None
    max_attempts: int = 3
    now: Callable[[], datetime] = utc_now

    def __post_init__(self) -> None:
        """Refuse figures that mean nothing."""
        for name in ("questions_per_batch", "max_attempts"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.recent_hours is not None and self.recent_hours <= 0:
            raise SettingsError(f"recent_hours is {self.recent_hours}; it must be above 0")

    def take_up(
        self,
        agent: str,
        tables: AgentTables,
        target: Table,
        rules: DataFrame,
        keys: DataFrame,
        newest: datetime | None,
    ) -> None:
        """Write a batch's answers by the rules, as far as `fallback` says, and note what to ask.

        Args:
            agent: whose batch it is.
            tables: the tables to read and write.
            target: where the answers go.
            rules: rows of `target` by the rules, each key once.
            keys: the keys of these rows, under their name in `target`.
            newest: the batch's newest delivery, aware; None where none is known.
        """
        key, asks = target.key[0], _source("agent_response") == "rules"
        if self.recent_hours is not None and newest is not None:
            since = (newest - timedelta(hours=self.recent_hours)).timestamp()
            asks = asks & (F.col("ts") >= F.timestamp_seconds(F.lit(since)))
        insert_new(rules if self.fallback == "rules" else rules.where(~asks), target)
        written = rules.sparkSession.read.table(target.name)
        if self.fallback == "rules":
            noted = written.where(asks).join(keys, key, "left_semi")
        else:
            noted = rules.where(asks).join(written, key, "left_anti")
        questions = noted.select(
            F.lit(agent).alias("agent"),
            F.col(key).alias("key"),
            "order_id",
            "ts",
            F.lit("pending").alias("state"),
            F.lit("not asked yet").alias("reason"),
            F.lit(0).alias("attempts"),
        )
        insert_new(questions, tables.open_questions, agent=agent)

    def open_questions(self, spark: "SparkSession", agent: str, tables: AgentTables) -> DataFrame:
        """What a model is to be asked next, the oldest first, held by this process.

        Args:
            spark: the session.
            agent: whose questions.
            tables: the tables to read.

        Returns:
            key, order_id, ts, attempts; at most `questions_per_batch` rows.
        """
        rows = spark.read.table(tables.open_questions.name)
        mine = rows.where((F.col("agent") == agent) & (F.col("state") == "pending"))
        first = mine.orderBy("ts", "key").limit(self.questions_per_batch)
        return held(first.select("key", "order_id", "ts", "attempts"))

    def ask(
        self,
        agent: str,
        tables: AgentTables,
        target: Table,
        open_questions: DataFrame,
        questions: DataFrame,
        rules: DataFrame,
    ) -> None:
        """Ask the model, and write down what came of it.

        Args:
            agent: whose questions.
            tables: the tables to read and write.
            target: where the answers go; all its rows of these keys are by the rules, or missing.
            open_questions: as `open_questions` gives them.
            questions: these, as `prompts` makes them.
            rules: rows of `target` by the rules for these keys.
        """
        if self.asker is None:
            return
        spark = open_questions.sparkSession
        batch = _Batch(self, self.asker, spark, agent, tables, target, open_questions)
        asked = batch.ask(questions)
        batch.record(asked)
        batch.merge_answers(asked, rules)
        batch.close(asked)


@dataclass(frozen=True, slots=True)
class _Batch:
    path: ModelAnswers
    asker: Asker
    spark: "SparkSession"
    agent: str
    tables: AgentTables
    target: Table
    open: DataFrame

    def ask(self, questions: DataFrame) -> DataFrame:
        """What came of the questions, held by this process."""
        asked_at = self.path.now()
        attempts = {row.key: row.attempts for row in self.open.collect()}
        wanted = questions.join(self._answered(), "key", "left_anti")
        table = wanted.select("key", "order_id", "at_most", "facts").toArrow()
        frame = self.spark.createDataFrame(table, schema=_HELD)
        orders = dict(zip(table["key"].to_pylist(), table["order_id"].to_pylist(), strict=True))
        answers = (
            self.asker.answers(
                frame, spent_since_midnight(self.spark, self.agent, self.tables, asked_at)
            )
            if orders
            else ()
        )
        rows = [
            (
                a.key, orders[a.key], attempts[a.key] + _was_unusable(a), a.response,
                self._state(a, attempts[a.key] + _was_unusable(a)), a.kind, a.reason, a.calls,
                a.input_tokens, a.output_tokens, a.usd, a.seconds, a.cached, asked_at,
            )
            for a in answers
        ]  # fmt: skip
        return self.spark.createDataFrame(rows, _ASKED)

    def record(self, asked: DataFrame) -> None:
        """What was asked and what it cost."""
        record_calls(asked, self.agent, self.asker.model, self.tables)

    def merge_answers(self, asked: DataFrame, rules: DataFrame) -> None:
        """A model's answers take the place of the rules'; what is put aside is the rules' own."""
        key, name = self.target.key[0], self.target.name
        given = asked.where("state <> 'pending'").select(F.col("key").alias(key), "response")
        rows = rules.join(given, key).select(
            *[c.name for c in self.target.columns if c.name != "agent_response"],
            F.coalesce("response", "agent_response").alias("agent_response"),
            F.col("response").isNotNull().alias("given"),
        )
        better = (_source(f"{name}.agent_response") != "model") & F.expr("new.given")
        columns = {c.name: F.col(f"new.{c.name}") for c in self.target.columns}
        merge = rows.alias("new").mergeInto(name, F.expr(f"{name}.{key} = new.{key}"))
        merge.whenMatched(better).update(
            {"agent_response": F.col("new.agent_response")}
        ).whenNotMatched().insert(columns).merge()

    def close(self, asked: DataFrame) -> None:
        """What a model has answered is no longer open; the rest has a reason."""
        given = asked.select("key", "attempts", "reason", "state")
        done = self._answered().withColumn("done", F.lit(True))
        rows = (
            self.open.select("key")
            .join(done, "key", "left")
            .join(given, "key", "left")
            .select(
                F.lit(self.agent).alias("agent"),
                "key",
                F.coalesce("state", F.lit("aside")).alias("state"),
                F.coalesce("reason", F.lit("its order's facts are gone")).alias("reason"),
                F.coalesce("attempts", F.lit(0)).alias("attempts"),
                (F.col("done").isNotNull() | F.col("state").eqNullSafe("answered")).alias("done"),
            )
        )
        spec = self.tables.open_questions
        changed = {c: F.col(f"new.{c}") for c in ("state", "reason", "attempts")}
        merge = rows.alias("new").mergeInto(spec.name, _same_key(spec, self.agent))
        merge.whenMatched(F.expr("new.done")).delete().whenMatched().update(changed).merge()

    def _state(self, answer: AnsweredQuestion, attempts: int) -> str:
        if answer.response is not None:
            return "answered"
        is_poison = answer.kind in ("refused", "failed")
        return "aside" if is_poison or attempts >= self.path.max_attempts else "pending"

    def _answered(self) -> DataFrame:
        """Keys among the open ones that a model has answered."""
        key = self.target.key[0]
        rows = self.spark.read.table(self.target.name)
        by_model = rows.where(_source("agent_response") == "model")
        return by_model.select(F.col(key).alias("key")).join(self.open, "key", "left_semi")


_HELD = "key STRING, order_id STRING, at_most DECIMAL(22,2), facts STRING"
_ASKED = (
    "key STRING, order_id STRING, attempts INT, response STRING, state STRING, outcome STRING,"
    " reason STRING, calls INT, input_tokens BIGINT, output_tokens BIGINT, usd DECIMAL(18,6),"
    " seconds DOUBLE, cached BOOLEAN, asked_at TIMESTAMP"
)


def _was_unusable(answer: AnsweredQuestion) -> bool:
    return answer.kind in ("refused", "unreadable", "failed")


def record_calls(asked: DataFrame, agent: str, model: str, tables: AgentTables) -> None:
    """Write down what was asked and what it cost.

    Args:
        asked: key, order_id, asked_at, response, outcome, reason, calls, input_tokens,
            output_tokens, usd, seconds, cached.
        agent: whose questions.
        model: who was asked.
        tables: the tables to write.
    """
    rows = asked.where("calls > 0 OR cached").select(
        F.lit(agent).alias("agent"),
        "key",
        "order_id",
        "asked_at",
        F.lit(model).alias("model"),
        F.col("response").isNotNull().alias("answered"),
        "outcome",
        "reason",
        "calls",
        "input_tokens",
        "output_tokens",
        "usd",
        "seconds",
        "cached",
    )
    insert_new(rows, tables.model_calls, agent=agent)


def spent_since_midnight(
    spark: "SparkSession", agent: str, tables: AgentTables, now: datetime
) -> Spent:
    """What an agent has spent on the UTC day of `now`, by the record.

    Args:
        spark: the session.
        agent: whose calls.
        tables: the tables to read.
        now: the wall clock, aware.
    """
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    since = F.timestamp_seconds(F.lit(int(midnight.timestamp())))
    rows = spark.read.table(tables.model_calls.name)
    spent = rows.where((F.col("agent") == agent) & (F.col("asked_at") >= since)).agg(
        *(F.coalesce(F.sum(c), F.lit(0)) for c in ("calls", "input_tokens", "output_tokens", "usd"))
    )
    found = spent.first()
    return Spent() if found is None else Spent(*found)


def held(rows: DataFrame) -> DataFrame:
    """The rows as this process holds them: what is asked of them doesn't compute them again.

    Args:
        rows: at most a batch of questions.
    """
    return rows.sparkSession.createDataFrame(rows.toArrow(), schema=rows.schema)


def insert_new(rows: DataFrame, table: Table, *, agent: str | None = None) -> None:
    """Add the rows whose key the table doesn't have yet.

    Args:
        rows: the table's columns, each key once.
        table: where they go.
        agent: the agent whose rows they all are, in a table that is partitioned by agent.
    """
    merge = rows.alias("new").mergeInto(table.name, _same_key(table, agent))
    merge.whenNotMatched().insertAll().merge()


def _same_key(table: Table, agent: str | None) -> Column:
    """The condition of a MERGE; Delta reads one partition alone if a literal names it."""
    same = F.expr(" AND ".join(f"{table.name}.{key} = new.{key}" for key in table.key))
    return same if agent is None else same & (F.col(f"{table.name}.agent") == agent)


def _source(column: str) -> Column:
    return F.get_json_object(F.col(column), "$.source")
