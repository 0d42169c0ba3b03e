"""Quality: which rows violate which rule, which are set aside, and that none is lost.

Contract: docs/contracts.md, Tables; the rules themselves are data, `domain.event_rules`. Every row
of bronze is accepted, quarantined or dropped; `reconciliation.py` counts that they add up.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caspers_lib.domain import GHOST_KITCHEN, Action, Domain, Rule, event_rules
from caspers_lib.domain.rules import (
    READABLE,
    RESCUED,
    all_hold_sql,
    of_actions,
    parsed_sql,
    violated_sql,
)
from caspers_lib.domain.tables import bronze_table
from caspers_lib.medallion.bronze import events_of_lines

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

__all__ = [
    "accepted_events",
    "parsed_events",
    "quarantined_events",
    "repaired_events",
    "violated",
]


def parsed_events(events: "DataFrame", domain: Domain = GHOST_KITCHEN) -> "DataFrame":
    """Bronze with `parsed`, the body as a struct: the columns that the rules' conditions name."""
    return events.selectExpr("*", f"{parsed_sql(domain)} AS parsed")


def violated(rules: Sequence[Rule], *actions: Action) -> "Column":
    """Names of the violated rules, ARRAY<STRING>, in their order; over `parsed_events`.

    Of a line that can't be read nothing else is judged.

    Args:
        rules: the rules.
        actions: of these, the ones with such an action; all if none is named.
    """
    from pyspark.sql import functions as F

    return F.expr(violated_sql(of_actions(rules, *actions)))


def accepted_events(
    events: "DataFrame", domain: Domain = GHOST_KITCHEN, *, events_of: str | None = None
) -> "DataFrame":
    """The rows of bronze that violate no rule which drops or quarantines them.

    Args:
        events: rows of `all_events`, batch or streaming.
        domain: the business and its rules.
        events_of: only events of this type.

    Raises (when it runs):
        SparkException: a row violates a rule whose action is `fail`; the message names the rule.
    """
    from pyspark.sql import functions as F

    rules = event_rules(domain)
    chosen = events if events_of is None else events.where(F.col("event_type") == events_of)
    # As a struct beside it the row comes back whole; a `drop` would hide the graph's edge.
    judged = chosen.selectExpr("*", "struct(*) AS landed", f"{parsed_sql(domain)} AS parsed")
    accepted = judged.where(_all_hold(rules, "drop", "quarantine"))
    for rule in rules:
        if rule.action == "fail":
            text = F.concat(F.lit(f"rule {rule.name} is violated by event "), F.col("event_id"))
            accepted = accepted.where(
                F.when(_holds(rule), F.lit(True)).otherwise(F.raise_error(text))
            )
    return accepted.select("landed.*")


def quarantined_events(events: "DataFrame", domain: Domain = GHOST_KITCHEN) -> "DataFrame":
    """The rows of bronze that violate a rule which sets them aside: table `quarantined_events`.

    Args:
        events: rows of `all_events`, batch or streaming.
        domain: the business and its rules.

    Returns:
        `reasons`, `raw` (the line as it landed where it could not be read, else the event as a JSON
        object made from its columns and what was rescued), and the columns of bronze.
    """

    rules = event_rules(domain)
    columns = [c.name for c in bronze_table(domain).columns]
    # Naming what is violated costs as much as the rules: only where something is.
    rejected = parsed_events(events, domain).where(~_all_hold(rules, "quarantine"))
    named = rejected.select(violated(rules, "quarantine").alias("reasons"), *columns)
    return named.select("reasons", _raw(domain).alias("raw"), *columns)


def repaired_events(repaired: "DataFrame", domain: Domain = GHOST_KITCHEN) -> "DataFrame":
    """Repaired rows of the quarantine as events to be ingested once more.

    Append them to the table of directly ingested events (`PipelineSettings.direct_events`): the
    next update takes them through every table. An event that got in meanwhile counts once.

    Args:
        repaired: rows with a column `value`, the mended JSON text of an event.
        domain: the business.

    Returns:
        the seven event columns.
    """
    names = [c.name for c in domain.event_columns]
    return events_of_lines(repaired, "'repaired'", domain).select(*names)


def _all_hold(rules: Sequence[Rule], *actions: Action) -> "Column":
    from pyspark.sql import functions as F

    return F.expr(all_hold_sql(of_actions(rules, *actions)))


def _holds(rule: Rule) -> "Column":
    from pyspark.sql import functions as F

    return F.expr(all_hold_sql([rule]))


def _raw(domain: Domain) -> "Column":
    """The event's JSON text; what was rescued stands in it as it landed."""
    from pyspark.sql import functions as F

    event = F.to_json(F.struct(*[c.name for c in domain.event_columns]))
    # Two objects as one text: without the brace that ends the first and the one that begins the
    # second.
    glued = F.concat(
        F.regexp_replace(event, r"\}$", ""),
        F.when(event != "{}", F.lit(",")).otherwise(F.lit("")),
        F.regexp_replace(F.col(RESCUED), r"^\{", ""),
    )
    readable = F.when(F.col(RESCUED).isNull(), event).otherwise(glued)
    return F.when(F.array_contains("reasons", READABLE), F.col(RESCUED)).otherwise(readable)
