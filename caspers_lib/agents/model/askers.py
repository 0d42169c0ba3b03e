"""Ways to ask a model about a batch: over HTTP inside a partition, or by `ai_query` in SQL.

Both take the same questions and give the same results. What is
collected is bounded: `answers` passes so many questions as its settings allow.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from caspers_lib.agents.contracts import AnswerKind, AskedKind, response_format
from caspers_lib.agents.model.answer_text import parsed_answer
from caspers_lib.agents.model.asking import (
    AnsweredQuestion,
    ClientMaker,
    Outcome,
    Question,
    answer_questions,
)
from caspers_lib.agents.model.client import ModelClient
from caspers_lib.agents.model.limits import Spent
from caspers_lib.agents.model.request_form import (
    ACCEPTED_FORMS,
    FormPart,
    RequestForm,
    refused_part,
)
from caspers_lib.agents.model.settings import Message, ModelSettings
from caspers_lib.errors import AnswerError, SettingsError, first_cause
from caspers_lib.spark_sql import quote_text

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["AiQueryAsker", "HttpAsker"]

_RESULTS = (
    "key STRING, response STRING, reason STRING, kind STRING, calls INT, input_tokens BIGINT,"
    " output_tokens BIGINT, usd DECIMAL(18,6), seconds DOUBLE, cached BOOLEAN"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAsker:
    """Asks an OpenAI-compatible endpoint, many questions at a time in each partition.

    Args:
        settings: the endpoint, its limits and prices; for the whole batch.
        kind: the answer asked for.
        instructions: the system message; empty where the other side is an agent that knows its
            policy and is told the facts alone.
        cache: folder of answers that were paid for, which every executor reaches; None keeps none.
        partitions: partitions that ask at the same time, each with its share of the limits.
        make_client: makes a partition's client.
    """

    settings: ModelSettings
    kind: AskedKind
    instructions: str
    cache: str | None = None
    partitions: int = 1
    make_client: ClientMaker = ModelClient

    def __post_init__(self) -> None:
        """Refuse what can't run."""
        if self.partitions < 1:
            raise SettingsError(f"partitions is {self.partitions}; it must be 1 or more")

    @property
    def model(self) -> str:
        """The model's name."""
        return self.settings.model

    def answers(self, questions: DataFrame, spent_today: Spent) -> Sequence[AnsweredQuestion]:
        """See `answers.Asker`."""
        spread = questions.repartition(self.partitions, F.col("key"))
        ask = _PartitionAsker(self, spent_today)
        return _results(spread.mapInArrow(ask, _RESULTS).toArrow())


@dataclass(frozen=True, slots=True)
class _PartitionAsker:
    """Picklable; runs where the partition is."""

    asker: HttpAsker
    spent_today: Spent

    def __call__(self, batches: "Iterator[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
        import pyarrow as pa

        asker = self.asker
        rows = [row for batch in batches for row in batch.to_pylist()]
        answered = answer_questions(
            [self._question(row) for row in rows],
            asker.settings,
            asker.kind,
            folder=Path(asker.cache) if asker.cache else None,
            share=1 / asker.partitions,
            spent_today=self.spent_today,
            make_client=asker.make_client,
        )
        names = [f.name for f in fields(AnsweredQuestion)]
        columns = zip(*(astuple(a) for a in answered), strict=True) if answered else [[]] * 10
        types = [pa.string()] * 4 + [pa.int32(), pa.int64(), pa.int64()]
        types += [pa.decimal128(18, 6), pa.float64(), pa.bool_()]
        arrays = [pa.array(list(c), type=t) for c, t in zip(columns, types, strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, names=names)

    def _question(self, row: dict[str, object]) -> Question:
        said = [Message("system", self.asker.instructions)] if self.asker.instructions else []
        return Question(
            key=str(row["key"]),
            order_id=str(row["order_id"]),
            order_total=cast("Decimal", row["at_most"]),
            messages=(*said, Message("user", str(row["facts"]))),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AiQueryAsker:
    """Asks a foundation model by Databricks' `ai_query`, which spreads and retries by itself.

    It knows no limits but the number of questions; their cost is on the platform's bill.

    Args:
        endpoint: name of the serving endpoint.
        kind: the answer asked for.
        instructions: what comes before the facts.
        max_output_tokens: tokens that a reply may have.

    Raises:
        SettingsError: the endpoint's name is none.
    """

    endpoint: str
    kind: AnswerKind
    instructions: str
    max_output_tokens: int = 1024

    def __post_init__(self) -> None:
        """Refuse a name that isn't one: `ai_query` takes it as a literal only."""
        from caspers_lib.agents.model.endpoint_names import checked_endpoint_name

        checked_endpoint_name(self.endpoint)

    @property
    def model(self) -> str:
        """The endpoint's name."""
        return self.endpoint

    def call_sql(self, form: RequestForm) -> str:
        """The call, over the column `prompt`, in a form that the endpoint takes."""
        parameters = f"'{form.output_limit}', {self.max_output_tokens}"
        parameters += ", 'temperature', 0.0D" if form.has_temperature else ""
        wanted = form.format_of(response_format(self.kind))
        shape = f" responseFormat => {quote_text(json.dumps(wanted))}," if wanted else ""
        return (
            f"ai_query({quote_text(self.endpoint)}, prompt,"
            f" modelParameters => named_struct({parameters}),{shape} failOnError => false)"
        )

    def answers(self, questions: DataFrame, spent_today: Spent) -> Sequence[AnsweredQuestion]:  # noqa: ARG002 - the platform keeps the account
        """See `answers.Asker`; where the endpoint refuses a parameter, all are asked without it."""
        key = (self.endpoint, "", "ai_query")
        form: RequestForm | None = ACCEPTED_FORMS.get(key, RequestForm())
        rows: list[dict[str, object]] = []
        while form:
            rows = self._rows(questions, form)
            if any(row["result"] is not None for row in rows):
                ACCEPTED_FORMS[key] = form
                break
            part = self._refused(rows, form)
            form = form.without(part) if part else None
        return [self._answered(row) for row in rows]

    def _rows(self, questions: DataFrame, form: RequestForm) -> list[dict[str, object]]:
        """What the endpoint says to each question."""
        prompt = F.concat(F.lit(self.instructions + "\n\n"), F.col("facts"))
        asked = questions.select("*", prompt.alias("prompt")).select(
            "key", "order_id", "at_most", F.expr(self.call_sql(form)).alias("said")
        )
        # With failOnError false the answer is a struct; its error is null where it went well.
        rows = asked.select("key", "order_id", "at_most", "said.result", "said.errorMessage")
        return cast("list[dict[str, object]]", rows.toArrow().to_pylist())

    def _refused(self, rows: list[dict[str, object]], form: RequestForm) -> FormPart | None:
        """The parameter that the endpoint refuses, where it has answered nothing."""
        request = {"temperature": 0.0} if form.has_temperature else {}
        sent = {**request, "response_format": form.format_of(response_format(self.kind))}
        errors = (str(row["errorMessage"] or "") for row in rows)
        return next((p for e in errors if (p := refused_part(400, e.encode(), sent))), None)

    def _answered(self, row: dict[str, object]) -> AnsweredQuestion:
        key, text, error = str(row["key"]), row["result"], row["errorMessage"]
        if text is None:
            reason = f"ai_query: {first_cause(str(error or 'it gave no answer'))[:300]}"
            return _outcome(key, None, reason, "unavailable")
        try:
            answer = parsed_answer(
                str(text),
                self.kind,
                order_total=cast("Decimal", row["at_most"]),
                order_id=str(row["order_id"]),
            )
        except AnswerError as broken:
            return _outcome(key, None, broken.message, "unreadable")
        return _outcome(key, answer.model_dump_json(), None, "answered")


def _outcome(key: str, response: str | None, reason: str | None, kind: Outcome) -> AnsweredQuestion:
    return AnsweredQuestion(
        key=key,
        response=response,
        reason=reason,
        kind=kind,
        calls=1,
        input_tokens=0,
        output_tokens=0,
        usd=Decimal(0),
        seconds=0.0,
        cached=False,
    )


def _results(rows: "pa.Table") -> list[AnsweredQuestion]:
    return [AnsweredQuestion(**row) for row in rows.to_pylist()]
