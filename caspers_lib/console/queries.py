"""What the console's SQL says of an agent's answer, and what is read of it.

`agent_response` is written by models and rules, so nothing is assumed about it: an amount counts
when it is a JSON number that money can be, and no expression here raises on any JSON value.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from caspers_lib.lakebase.sync_spec import SyncSpec

__all__ = [
    "ComplaintRow",
    "RefundRow",
    "amount_sql",
    "newest_sql",
    "table_sql",
    "text_sql",
]

# More than DECIMAL(12,2) holds is not an amount of money.
AMOUNT_LIMIT_USD = 10**10
# Characters of a free text that leave the database; the page shows fewer.
TEXT_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class RefundRow:
    """One suggested refund; an answer's field is None where it is missing or no such value.

    Args:
        order_id: the order.
        delivered_at: when it was delivered, event time.
        minutes: from the order's creation to its delivery.
        refund_class: `partial` or `full`, or what the answer says instead.
        refund_usd: the suggested amount, USD.
        reason: why, in words.
        source: who answered: `model`, `rules` or `error`.
    """

    order_id: str
    delivered_at: datetime | None
    minutes: float | None
    refund_class: str | None
    refund_usd: Decimal | None
    reason: str | None
    source: str | None


@dataclass(frozen=True, slots=True)
class ComplaintRow:
    """One answered complaint; an answer's field is None where it is missing or no such value.

    Args:
        complaint_id: the complaint.
        order_id: the order it is about.
        answered_at: the response's time.
        category: what it is about, as the agent sees it.
        decision: `suggest_credit` or `escalate`, or what the answer says instead.
        credit_usd: the suggested credit, USD.
        priority: how urgent it is.
        rationale: why, in words.
        customer_response: the proposed reply to the customer.
        source: who answered: `model`, `rules` or `error`.
    """

    complaint_id: str
    order_id: str | None
    answered_at: datetime | None
    category: str | None
    decision: str | None
    credit_usd: Decimal | None
    priority: str | None
    rationale: str | None
    customer_response: str | None
    source: str | None


def amount_sql(key: str, *, answer: str = "agent_response") -> str:
    """The SQL expression of an amount in the answer: USD to the cent, or NULL.

    Nested CASE, because only CASE keeps a cast from being tried on a value that it does not fit.

    Args:
        key: the amount's.
        answer: the SQL expression of the answer, jsonb.
    """
    value = f"{answer} -> '{key}'"
    return (
        f"CASE WHEN jsonb_typeof({value}) = 'number' THEN"
        f" CASE WHEN abs(round(({value})::numeric, 2)) < {AMOUNT_LIMIT_USD}"
        f" THEN round(({value})::numeric, 2) END END"
    )


# Of the newest hundred rows at most three are strays: those beyond a gap of more than a day that is
# longer than all that lies before it.
_NEWEST = """
    WITH sample AS (
        SELECT {time} AS at FROM {rows} WHERE isfinite({time}) AND ({where})
        ORDER BY {time} DESC LIMIT 100
    ), placed AS (
        SELECT extract(epoch FROM at) AS at, lead(at) OVER newest_first AS before,
               row_number() OVER newest_first AS place, count(*) OVER () AS seen,
               extract(epoch FROM min(at) OVER ()) AS oldest
        FROM sample WINDOW newest_first AS (ORDER BY at DESC)
    )
    SELECT coalesce(
        (SELECT before FROM placed
         WHERE place <= least(seen / 3, 3) AND at - extract(epoch FROM before)
             > greatest(86400, extract(epoch FROM before) - oldest)
         ORDER BY place DESC LIMIT 1),
        (SELECT max(at) FROM sample))
"""


def newest_sql(time: str, rows: str, *, where: str = "true") -> str:
    """The SQL query of the newest time of a table; a few rows that are far ahead don't count.

    A clock that was wrong once must not move what a page shows to a time when nothing else is.

    Args:
        time: the column, a date or a timestamp; best with an index.
        rows: the table.
        where: which of its rows.
    """
    return _NEWEST.format(time=time, rows=rows, where=where)


def table_sql(spec: SyncSpec) -> str:
    """The synced table, quoted; the driver's placeholder sign in its name stays a character."""
    return spec.target.replace("%", "%%")


def text_sql(key: str, *, answer: str = "agent_response") -> str:
    """The SQL expression of a text in the answer, cut to what a page may carry.

    Args:
        key: the text's.
        answer: the SQL expression of the answer, jsonb.
    """
    return f"left({answer} ->> '{key}', {TEXT_LIMIT})"
