"""Reconciliation: that every row of bronze is accounted for, per file and per rule.

Contract: docs/contracts.md, Tables: rows in = rows out + rows quarantined + rows dropped, by name.
Rows out and dropped are judged anew from bronze; rows quarantined are those that the quarantine
really has: one that got lost on the way is missing in the sum.
"""

from typing import TYPE_CHECKING

from caspers_lib.domain import GHOST_KITCHEN, Domain, event_rules
from caspers_lib.domain.rules import all_hold_sql, of_actions, parsed_sql, violated_sql
from caspers_lib.spark_sql import quote_text

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["DUPLICATE", "reconciliation", "reconciliation_sql"]

DUPLICATE = "duplicate_event"
"""Under this name events that were delivered again are counted as dropped."""


def reconciliation(
    events: "DataFrame", quarantined: "DataFrame", domain: Domain = GHOST_KITCHEN
) -> "DataFrame":
    """Whether every row of bronze is accounted for, one row per source file.

    Args:
        events: rows of `all_events`.
        quarantined: rows of `quarantined_events`.
        domain: the business and its rules.

    Returns:
        source_file, rows_in, rows_out (accepted, each event once), rows_quarantined, rows_dropped
        (by a rule, or delivered again), and by_rule MAP<STRING, BIGINT>: rows that violate each
        rule, warnings included. rows_in = rows_out + rows_quarantined + rows_dropped.
    """
    query = reconciliation_sql("{events}", "{quarantined}", domain)
    return events.sparkSession.sql(query, events=events, quarantined=quarantined)


def reconciliation_sql(events: str, quarantined: str, domain: Domain = GHOST_KITCHEN) -> str:
    """The query of `reconciliation`.

    Args:
        events: name of the bronze table, quoted.
        quarantined: name of the quarantine, quoted.
        domain: the business and its rules.
    """
    rules = event_rules(domain)
    return f"""
WITH judged AS (
  SELECT source_file, event_id, ingest_ts, {violated_sql(rules)} AS names,
    NOT ({all_hold_sql(of_actions(rules, "quarantine"))}) AS aside,
    NOT ({all_hold_sql(of_actions(rules, "drop"))}) AS left_out
  FROM (SELECT *, {parsed_sql(domain)} AS parsed FROM {events})
), numbered AS (
  SELECT *, row_number() OVER (
    PARTITION BY event_id, aside OR left_out ORDER BY ingest_ts, source_file
  ) AS delivery
  FROM judged
), outcomes AS (
  SELECT source_file,
    CASE
      WHEN aside THEN 'quarantined' WHEN left_out OR delivery > 1 THEN 'dropped' ELSE 'out'
    END AS outcome,
    CASE
      WHEN aside OR left_out OR delivery = 1 THEN names ELSE array({quote_text(DUPLICATE)})
    END AS names
  FROM numbered
), counted AS (
  SELECT source_file, count(*) AS rows_in, count_if(outcome = 'out') AS rows_out,
    count_if(outcome = 'dropped') AS rows_dropped
  FROM outcomes GROUP BY source_file
), named AS (
  SELECT source_file, name, count(*) AS rows
  FROM (SELECT source_file, explode(names) AS name FROM outcomes) GROUP BY source_file, name
), by_rule AS (
  SELECT source_file, map_from_entries(sort_array(collect_list(struct(name, rows)))) AS by_rule
  FROM named GROUP BY source_file
), aside AS (
  SELECT source_file, count(*) AS rows_quarantined FROM {quarantined} GROUP BY source_file
)
SELECT source_file, rows_in, rows_out, coalesce(rows_quarantined, 0) AS rows_quarantined,
  rows_dropped, by_rule
FROM counted LEFT JOIN aside USING (source_file) LEFT JOIN by_rule USING (source_file)
"""  # noqa: S608 - names are quoted by the caller, rules are the domain's own
