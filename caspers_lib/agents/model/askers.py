"""Ways to ask a model about a batch: over HTTP from this process, or by `ai_query` in SQL.

Both take the same questions and give the same results. What is
collected is bounded: `answers` passes so many questions as its settings allow.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import cast

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from caspers_lib.agents.contracts import AskedKind
from caspers_lib.agents.model.asking import (
    AnsweredQuestion,
    ClientMaker,
    Outcome,
    Question,
    answer_questions,
    asked_format,
    checked_response,
)
from caspers_lib.agents.model.client import ModelClient
from caspers_lib.agents.model.endpoint_names import checked_endpoint_name
from caspers_lib.agents.model.limits import Spent
from caspers_lib.agents.model.request_form import (
    ACCEPTED_FORMS,
    FormPart,
    RequestForm,
    refused_part,
)
from caspers_lib.agents.model.settings import Message, ModelSettings
from caspers_lib.errors import AnswerError, first_cause
from caspers_lib.spark_sql import quote_text

__all__ = ["AiQueryAsker", "HttpAsker"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAsker:
    """Asks an OpenAI-compatible endpoint from this process, many questions at a time.

    No executor takes part: on serverless compute a function of one has no way out.

    Args:
        settings: the endpoint, its limits and prices; for the whole batch.
        kind: the answer asked for.
        instructions: the system message; empty where the other side is an agent that knows its
            policy and is told the facts alone.
        cache: folder of answers that were paid for; None keeps none.
        make_client: makes a batch's client.
    """

    settings: ModelSettings
    kind: AskedKind
    instructions: str
    cache: str | None = None
    make_client: ClientMaker = ModelClient

    @property
    def model(self) -> str:
        """The model's name."""
        return self.settings.model

    def answers(self, questions: DataFrame, spent_today: Spent) -> Sequence[AnsweredQuestion]:
        """See `answers.Asker`."""
        told = [Message("system", self.instructions)] if self.instructions else []
        return answer_questions(
            [_question(row, *told) for row in questions.toArrow().to_pylist()],
            self.settings,
            self.kind,
            folder=Path(self.cache) if self.cache else None,
            spent_today=spent_today,
            make_client=self.make_client,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AiQueryAsker:
    """Asks a foundation model by Databricks' `ai_query`, which spreads and retries by itself.

    It needs no token and no way out, so it can be asked within a stream. How many tokens a call
    takes is on the platform's bill alone.

    Args:
        endpoint: name of the serving endpoint.
        kind: the answer asked for.
        instructions: what comes before the facts.
        max_output_tokens: tokens that a reply may have.
        temperature: 0 to 2.
        calls_a_day: questions asked in one UTC day; None is unlimited.

    Raises:
        SettingsError: the endpoint's name is none.
    """

    endpoint: str
    kind: AskedKind
    instructions: str
    max_output_tokens: int = 1024
    temperature: float = 0.0
    calls_a_day: int | None = None

    def __post_init__(self) -> None:
        """Refuse a name that isn't one: `ai_query` takes it as a literal only."""
        checked_endpoint_name(self.endpoint)

    @property
    def model(self) -> str:
        """The endpoint's name."""
        return self.endpoint

    def call_sql(self, form: RequestForm) -> str:
        """The call, over the column `prompt`, in a form that the endpoint takes."""
        parameters = f"'{form.output_limit}', {self.max_output_tokens}"
        parameters += f", 'temperature', {float(self.temperature)}D" if form.has_temperature else ""
        wanted = form.format_of(asked_format(self.kind))
        shape = f" responseFormat => {quote_text(json.dumps(wanted))}," if wanted else ""
        return (
            f"ai_query({quote_text(self.endpoint)}, prompt,"
            f" modelParameters => named_struct({parameters}),{shape} failOnError => false)"
        )

    def answers(self, questions: DataFrame, spent_today: Spent) -> Sequence[AnsweredQuestion]:
        """See `answers.Asker`; where the endpoint refuses a parameter, all are asked without it."""
        keys = [str(row.key) for row in questions.select("key").orderBy("key").collect()]
        left = len(keys) if self.calls_a_day is None else self.calls_a_day - spent_today.calls
        asked = keys[: max(0, left)]
        try:
            rows = self._asked(questions.where(F.col("key").isin(asked))) if asked else []
        except PySparkException as error:
            # Without the function, the endpoint or the right to it there is no answer at all.
            reason = f"ai_query: {first_cause(error)[:300]}"
            logger.warning("%s was not asked: %s", self.endpoint, reason)
            return [_outcome(key, None, reason, "unavailable", calls=0) for key in keys]
        over = f"The day's budget of {self.calls_a_day} calls leaves no room for another call"
        return [self._answered(row) for row in rows] + [
            _outcome(key, None, over, "over_budget", calls=0) for key in keys[len(asked) :]
        ]

    def _asked(self, questions: DataFrame) -> list[dict[str, object]]:
        key = (self.endpoint, "", "ai_query")
        form: RequestForm | None = ACCEPTED_FORMS.get(key, RequestForm())
        rows: list[dict[str, object]] = []
        while form:
            rows = self._rows(questions, form)
            if any(row["text"] is not None for row in rows):
                ACCEPTED_FORMS[key] = form
                break
            part = self._refused(rows, form)
            form = form.without(part) if part else None
        return rows

    def _rows(self, questions: DataFrame, form: RequestForm) -> list[dict[str, object]]:
        """What the endpoint says to each question."""
        prompt = F.concat(F.lit(self.instructions + "\n\n"), F.col("facts"))
        asked = questions.select("*", prompt.alias("prompt")).select(
            "key", "order_id", "at_most", "facts", F.expr(self.call_sql(form)).alias("said")
        )
        rows = cast("list[dict[str, object]]", asked.toArrow().to_pylist())
        for row in rows:
            # With failOnError false the answer is a struct: the text is called `result` or
            # `response`, as the endpoint has it, and the error is null where it went well.
            told = cast("dict[str, object]", row.pop("said") or {})
            row["error"] = told.pop("errorMessage", None)
            row["text"] = next(iter(told.values()), None)
        return rows

    def _refused(self, rows: list[dict[str, object]], form: RequestForm) -> FormPart | None:
        """The parameter that the endpoint refuses, where it has answered nothing."""
        request = {"temperature": self.temperature} if form.has_temperature else {}
        sent = {**request, "response_format": form.format_of(asked_format(self.kind))}
        errors = (str(row["error"] or "") for row in rows)
        return next((p for e in errors if (p := refused_part(400, e.encode(), sent))), None)

    def _answered(self, row: dict[str, object]) -> AnsweredQuestion:
        question, text = _question(row), row["text"]
        if text is None:
            reason = f"ai_query: {first_cause(str(row['error'] or 'it gave no answer'))[:300]}"
            return _outcome(question.key, None, reason, "unavailable")
        try:
            response = checked_response(str(text), question, self.kind)
        except AnswerError as broken:
            return _outcome(question.key, None, broken.message, "unreadable")
        return _outcome(question.key, response, None, "answered")


def _question(row: dict[str, object], *told: Message) -> Question:
    return Question(
        key=str(row["key"]),
        order_id=str(row["order_id"]),
        order_total=cast("Decimal | None", row["at_most"]),
        messages=(*told, Message("user", str(row["facts"]))),
    )


def _outcome(
    key: str, response: str | None, reason: str | None, kind: Outcome, *, calls: int = 1
) -> AnsweredQuestion:
    return AnsweredQuestion(
        key=key,
        response=response,
        reason=reason,
        kind=kind,
        calls=calls,
        input_tokens=0,
        output_tokens=0,
        usd=Decimal(0),
        seconds=0.0,
        cached=False,
    )
