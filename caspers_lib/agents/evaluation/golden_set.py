"""Delivered orders of the canonical dataset with their facts and the refund that is right.

Contract: DESIGN sections 4 and 7. All is counted anew by DuckDB from the events file alone, in
whole seconds, hundredths of a minute and exact decimals; nothing is shared with the code that it
checks (`timings`, `facts` and the rules) but the policy's figures, which are bound. Times are those
of the dataset: no loop, no shift.
"""

import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caspers_lib.agents.contracts import Priority
from caspers_lib.agents.refund_policy import OrderFacts, RefundPolicy
from caspers_lib.agents.triage_answer import OrderLine
from caspers_lib.domain import GHOST_KITCHEN, Domain
from caspers_lib.errors import DatasetError, first_cause
from caspers_lib.spark_paths import plain_path

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["GOLDEN_SEED", "GoldenOrder", "Verdict", "delivered_order_ids", "golden_orders"]

GOLDEN_SEED = 42
"""Draws the sample unless another seed is given."""

_MEMORY = "512MB"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is decided about a case.

    Args:
        decision: `none`, `partial` or `full` of a refund, `suggest_credit` or `escalate` of a
            complaint, `error` where something that is needed is unknown.
        usd: USD that are given back; None where nothing is said of it.
        priority: of an escalation; None where nothing is said of it.
    """

    decision: str
    usd: Decimal | None = None
    priority: Priority | None = None

    @property
    def label(self) -> str:
        """The row or column of a confusion table: the decision, with its priority if any."""
        return f"{self.decision} {self.priority}" if self.priority else self.decision

    def allows(self, given: "Verdict") -> bool:
        """Whether `given` is right where this is expected; a priority left open allows any."""
        same = (self.decision, self.usd) == (given.decision, given.usd)
        return same and self.priority in (None, given.priority)


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenOrder:
    """A delivered order, what is known about it, and the refund that is right.

    Args:
        order_id: the order as the dataset names it.
        facts: what the policy goes by.
        p50: median minutes of the location's history, two decimals; None without a history.
        lines: the order's lines in their order; empty where they can't be used.
        street: the address up to its first comma; None where it is unknown.
        expected: the refund's class and amount by the policy.
        is_labelled: whether a person has decided it.
    """

    order_id: str
    facts: OrderFacts
    p50: Decimal | None
    lines: tuple[OrderLine, ...]
    street: str | None
    expected: Verdict
    is_labelled: bool = False

    @property
    def key(self) -> str:
        """Identifies the case."""
        return self.order_id

    @property
    def kind(self) -> str:
        """What sort of case it is: whether the location's history is long enough to judge by."""
        if self.facts.total_minutes is None or self.facts.order_total is None:
            return "something unknown"
        return "with a history" if self.facts.p75 is not None else "without a history"


def golden_orders(
    path: Path,
    policy: RefundPolicy,
    *,
    orders: int | None = None,
    seed: int = GOLDEN_SEED,
    also: Collection[str] = (),
    domain: Domain = GHOST_KITCHEN,
) -> tuple[GoldenOrder, ...]:
    """Delivered orders with what is right for them, by delivery and id.

    Args:
        path: the dataset's events file.
        policy: the refund policy; its figures enter the query as values.
        orders: so many at most, those with the lowest md5 of `seed:golden:order_id`, so that a
            larger sample holds the smaller one; None takes all.
        seed: another seed draws another sample.
        also: ids of orders that are taken besides, if they were delivered.
        domain: gives the ids of the opening and closing events.

    Raises:
        DatasetError: the file is missing or can't be read.
    """
    values = {
        "dataset": str(plain_path(path)),
        "opening": domain.types_by_name[domain.opening].id,
        "closing": domain.types_by_name[domain.closing].id,
        "seed": str(seed),
        "orders": orders,
        "also": list(also),
        "min_orders": policy.min_orders,
        "late_share": str(policy.late_share),
        "very_late_share": str(policy.very_late_share),
        "full_factor": str(policy.full_factor),
    }
    with _connection(path) as connection:
        connection.execute(_PERCENTILE)
        rows = connection.execute(_GOLDEN_ORDERS, values).fetchall()
    return tuple(_golden_order(*row) for row in rows)


def delivered_order_ids(path: Path, domain: Domain = GHOST_KITCHEN) -> list[str]:
    """The ids of all orders that were delivered, sorted.

    Args:
        path: the dataset's events file.
        domain: gives the id of the closing event.

    Raises:
        DatasetError: the file is missing or can't be read.
    """
    query = (
        "SELECT DISTINCT order_id FROM read_parquet(?, hive_partitioning = false)"
        " WHERE event_type_id = ? ORDER BY order_id"
    )
    values = [str(plain_path(path)), domain.types_by_name[domain.closing].id]
    with _connection(path) as connection:
        return [order for (order,) in connection.execute(query, values).fetchall()]


@contextmanager
def _connection(path: Path) -> Iterator["DuckDBPyConnection"]:
    """DuckDB with its memory bounded, its errors as one sentence about the dataset."""
    import duckdb  # loaded only where a dataset is read

    with tempfile.TemporaryDirectory(prefix="caspers-golden-") as spill:
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": _MEMORY,
            "temp_directory": spill,
            "autoinstall_known_extensions": False,
        }
        with duckdb.connect(config=config) as connection:
            try:
                yield connection
            except (duckdb.Error, OSError) as error:
                raise DatasetError(
                    f"The dataset {path} can't be read: {first_cause(error)}",
                    hint="`caspers dataset check` names what is wrong with it",
                ) from error


def _golden_order(
    order_id: str,
    location_id: int,
    figures: dict[str, Any],
    contents: dict[str, Any],
    decision: str,
    refund_usd: Decimal,
) -> GoldenOrder:
    return GoldenOrder(
        order_id=order_id,
        facts=OrderFacts(
            location_id=location_id,
            delivered=True,
            total_minutes=_minutes(figures["took"]),
            order_total=contents["total"],
            history_orders=figures["history_orders"],
            p75=_minutes(figures["p75"]),
            p99=_minutes(figures["p99"]),
        ),
        p50=_minutes(figures["p50"]),
        lines=tuple(
            OrderLine(item_name=line["name"], price=line["price"]) for line in contents["lines"]
        ),
        street=contents["street"],
        expected=Verdict(decision=decision, usd=None if decision == "error" else refund_usd),
    )


def _minutes(hundredths: int | None) -> Decimal | None:
    return None if hundredths is None else Decimal(hundredths).scaleb(-2)


# Of an ascending list of whole numbers: linearly interpolated, rounded half up, without fractions.
_PERCENTILE = """
CREATE TEMP MACRO percentile(took, percent) AS (
  took[(len(took) - 1) * percent // 100 + 1] * (100 - (len(took) - 1) * percent % 100)
  + took[least((len(took) - 1) * percent // 100 + 2, len(took))]
    * ((len(took) - 1) * percent % 100)
  + 50
) // 100
"""

_GOLDEN_ORDERS = """
WITH events AS MATERIALIZED (
  SELECT event_type_id, ts_seconds::BIGINT AS seconds, location_id::INTEGER AS location_id,
    order_id, customer_addr, items_json
  FROM read_parquet($dataset, hive_partitioning = false)
  WHERE event_type_id IN ($opening, $closing)
), ends AS (
  SELECT order_id,
    min(location_id) FILTER (event_type_id = $closing) AS location_id,
    min(seconds) FILTER (event_type_id = $opening) AS created,
    min(seconds) FILTER (event_type_id = $closing) AS delivered,
    arg_min(customer_addr, seconds) FILTER (event_type_id = $opening) AS address
  FROM events GROUP BY order_id
), deliveries AS MATERIALIZED (
  SELECT order_id, location_id, address, delivered, delivered // 3600 AS hour,
    -- hundredths of a minute, half up
    CASE WHEN delivered - created BETWEEN 0 AND 86400
      THEN (200 * (delivered - created) + 60) // 120 END AS took
  FROM ends WHERE delivered IS NOT NULL
), chosen AS MATERIALIZED (
  SELECT * FROM deliveries WHERE order_id IN (SELECT unnest($also::VARCHAR[]))
  UNION
  (SELECT * FROM deliveries ORDER BY md5($seed || ':golden:' || order_id), order_id LIMIT $orders)
), hours AS MATERIALIZED (
  SELECT location_id, hour, unnest(range(hour - 24, hour)) AS past
  FROM (SELECT DISTINCT location_id, hour FROM chosen)
), history AS (
  SELECT hours.location_id, hours.hour, list(before.took ORDER BY before.took) AS took
  FROM hours
  JOIN deliveries AS before
    ON before.location_id = hours.location_id AND before.hour = hours.past
  WHERE before.took IS NOT NULL
  GROUP BY hours.location_id, hours.hour
), usual AS MATERIALIZED (
  SELECT location_id, hour, len(took) AS orders, percentile(took, 50) AS p50,
    percentile(took, 75) AS p75, percentile(took, 99) AS p99
  FROM history
), numbered AS (
  SELECT order_id, items_json,
    unnest(range(json_array_length(items_json)::BIGINT)) AS line
  FROM events WHERE event_type_id = $opening AND order_id IN (SELECT order_id FROM chosen)
), items AS (
  SELECT DISTINCT order_id, line, json_extract(items_json, line) AS item FROM numbered
), priced AS (
  SELECT order_id, line, item ->> 'name' AS name,
    try_cast(item ->> 'price' AS DECIMAL(12, 2)) AS price,
    try_cast(item ->> 'qty' AS BIGINT) AS qty
  FROM items
), contents AS (
  SELECT order_id, sum(price * qty)::DECIMAL(18, 2) AS total,
    list({'name': name, 'price': price} ORDER BY line, name) AS lines
  FROM priced GROUP BY order_id
  -- one line that no order can have, and none of them counts
  HAVING bool_and(coalesce(price >= 0 AND qty >= 1, false))
), facts AS (
  SELECT order_id, location_id, delivered, took,
    CASE WHEN took IS NOT NULL THEN trim(split_part(address, ',', 1)) END AS street,
    CASE WHEN took IS NOT NULL THEN total END AS total,
    CASE WHEN took IS NOT NULL THEN lines END AS lines,
    coalesce(orders, 0) AS history_orders, p50, p75, p99
  FROM chosen LEFT JOIN usual USING (location_id, hour) LEFT JOIN contents USING (order_id)
), shared AS (
  SELECT *, CASE
      WHEN history_orders < $min_orders OR took <= p75 THEN 0
      WHEN took >= $full_factor::DECIMAL(18, 6) * p99 THEN 1
      WHEN took > p99 THEN $very_late_share::DECIMAL(14, 12)
      ELSE $late_share::DECIMAL(14, 12)
    END AS share
  FROM facts
), judged AS (
  SELECT *, round(total * share, 2)::DECIMAL(18, 2) AS refund FROM shared
)
SELECT order_id, location_id,
  {'took': took, 'history_orders': history_orders, 'p50': p50, 'p75': p75, 'p99': p99},
  {'total': total, 'lines': coalesce(lines, []), 'street': street},
  CASE WHEN took IS NULL OR total IS NULL THEN 'error'
    WHEN refund = 0 THEN 'none' WHEN refund = total THEN 'full' ELSE 'partial' END,
  refund
FROM judged ORDER BY delivered, order_id
"""
