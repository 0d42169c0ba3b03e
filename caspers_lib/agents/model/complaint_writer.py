"""Complaint texts written by a model, for as many of a batch as it may be asked about.

Which orders complain, about what and under which id is drawn as ever;
only the words are the model's. What it does not write the rules write, for good: a customer's text
doesn't change once somebody has read it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from caspers_lib.agents.model.answers import (
    Asker,
    record_calls,
    spent_since_midnight,
    utc_now,
)
from caspers_lib.agents.model.complaint_prompt import complaint_prompt
from caspers_lib.agents.tables import AgentTables
from caspers_lib.errors import SettingsError

__all__ = ["ComplaintWriter"]

_AGENT = "complaints"
_QUESTIONS = "key STRING, order_id STRING, at_most DECIMAL(22,2), facts STRING"
_WRITTEN = (
    "key STRING, order_id STRING, response STRING, outcome STRING, reason STRING, calls INT,"
    " input_tokens BIGINT, output_tokens BIGINT, usd DECIMAL(18,6), seconds DOUBLE,"
    " cached BOOLEAN, asked_at TIMESTAMP"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComplaintWriter:
    """How a model writes complaints.

    Args:
        asker: asks the model for `contracts.ComplaintText`, told
            `complaint_prompt.WRITER_INSTRUCTIONS`.
        texts_per_batch: texts asked for in one batch, at least 1; of the others the rules write.
        now: the wall clock, aware; says which day's budget it is.

    Raises:
        SettingsError: a value is not allowed.
    """

    asker: Asker
    texts_per_batch: int = 200
    now: Callable[[], datetime] = utc_now

    def __post_init__(self) -> None:
        """Refuse a figure that means nothing."""
        if self.texts_per_batch < 1:
            raise SettingsError(f"texts_per_batch is {self.texts_per_batch}; it must be 1 or more")

    def rewritten(
        self, complaints: DataFrame, orders: DataFrame, tables: AgentTables, seed: int
    ) -> DataFrame:
        """The complaints, with the model's words where it gave some.

        Args:
            complaints: as `complaints.raw_complaints` makes them.
            orders: as `facts.delivered_orders` makes them.
            tables: the tables; complaints that are written already are not asked about.
            seed: the seed of the sample.

        Returns:
            The same rows; `generated_by` is the model's name where the words are its own.
        """
        spark = complaints.sparkSession
        asked_at = self.now()
        known = spark.read.table(tables.complaints.name).select("complaint_id")
        new = complaints.join(known, "complaint_id", "left_anti").select("complaint_id", "order_id")
        told = new.join(orders, "order_id").select(
            "complaint_id", "order_id", "lines.item_name", "total_minutes", "street"
        )
        held = told.orderBy("complaint_id").limit(self.texts_per_batch).collect()
        asked = [
            (row.complaint_id, row.order_id, None, _facts(row.order_id, seed, row)) for row in held
        ]
        if not asked:
            return complaints
        spent = spent_since_midnight(spark, _AGENT, tables, asked_at)
        answers = self.asker.answers(spark.createDataFrame(asked, _QUESTIONS), spent)
        orders_of = {row.complaint_id: row.order_id for row in held}
        written = spark.createDataFrame(
            [
                (
                    a.key, orders_of[a.key], a.response, a.kind, a.reason, a.calls, a.input_tokens,
                    a.output_tokens, a.usd, a.seconds, a.cached, asked_at,
                )
                for a in answers
            ],
            _WRITTEN,
        )  # fmt: skip
        record_calls(written, _AGENT, self.asker.model, tables)
        texts = [
            (a.key, json.loads(a.response)["complaint_text"])
            for a in answers
            if a.response is not None
        ]
        words = spark.createDataFrame(texts, "complaint_id STRING, words STRING")
        return complaints.join(words, "complaint_id", "left").select(
            "complaint_id",
            "order_id",
            "ts",
            "complaint_category",
            F.coalesce("words", "complaint_text").alias("complaint_text"),
            F.when(F.col("words").isNotNull(), self.asker.model)
            .otherwise(F.col("generated_by"))
            .alias("generated_by"),
        )


def _facts(order_id: str, seed: int, row: object) -> str:
    """The user's message about an order."""
    _, message = complaint_prompt(
        order_id,
        seed,
        dishes=getattr(row, "item_name", None) or (),
        total_minutes=getattr(row, "total_minutes", None),
        street=getattr(row, "street", None),
    )
    return message["content"]
