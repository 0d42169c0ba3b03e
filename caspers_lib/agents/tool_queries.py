"""The queries behind the agents' SQL tools, over the bronze table and that of the line items.

They say in SQL what `timings` and `facts` say in column expressions; tests compare the two. Times
are epoch-based: the session's time zone plays no part. An argument stands on the left of every
join: Spark refuses it on the right of an outer one, and only when the function is called.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from caspers_lib.domain import BodyField, Column, Domain
from caspers_lib.spark_sql import event_time, minutes_between, quote_name, quote_text, utc_hour

__all__ = ["HISTORY_HOURS", "LONGEST_ORDER_HOURS", "PERCENTS", "ToolQueries"]

# As in `timings`, which loads Spark; a test holds them together.
HISTORY_HOURS = 24
LONGEST_ORDER_HOURS = 24

PERCENTS = (50, 75, 99)
"""The percentiles that are told, in percent."""

_HOUR_SECONDS = 3600
_HISTORY_SECONDS = HISTORY_HOURS * _HOUR_SECONDS
_LONGEST_MILLIS = LONGEST_ORDER_HOURS * _HOUR_SECONDS * 1000
_MINUTES = "DECIMAL(12,2)"
_USD = "DECIMAL(22,2)"
_TIME = event_time()
_AMOUNT = "extended_price"


@dataclass(frozen=True, slots=True)
class ToolQueries:
    """SQL texts over one business's tables.

    Args:
        events: the bronze table, quoted.
        lines: the table of line items, quoted.
        domain: names the events, keys and fields.
        sites: a query of `site` and `site_name`, every site's id and name; empty where no
            dimension says them.
    """

    events: str
    lines: str
    domain: Domain
    sites: str = ""

    @property
    def body_fields(self) -> tuple[BodyField, ...]:
        """The opening event's own fields, without the array that becomes line items."""
        fields = self.domain.types_by_name[self.domain.opening].body
        return tuple(f for f in fields if f.kind != "json")

    @property
    def line_columns(self) -> tuple[Column, ...]:
        """The columns of a line, its number first."""
        items = self.domain.line_items
        number = Column("line", "INT", comment="number of the line in the order, from 1")
        return (number, *items.columns, *items.derived)

    @property
    def has_amounts(self) -> bool:
        """Whether lines say what they cost in all."""
        return any(c.name == _AMOUNT for c in self.line_columns)

    def order(self, order_id: str) -> str:
        """A query of one order: its keys, times, minutes and body.

        Args:
            order_id: SQL of the order's id.

        Returns:
            One row of the keys, order_ts, delivered_ts, total_minutes, opening_body, and the first
            time of each event type; no row for an order without an event.
        """
        domain = self.domain
        created, delivered = _first(domain.opening), _first(domain.closing)
        took = _millis(domain.opening, domain.closing)
        reached = f"{delivered} IS NULL OR {_believable(took)}"
        return f"""
SELECT *, CASE WHEN {delivered} IS NULL THEN opening_site ELSE closing_site END
    AS {quote_name(domain.site_key)},
  CASE WHEN {reached} THEN {created} END AS order_ts, {delivered} AS delivered_ts,
  CASE WHEN {_believable(took)} THEN {minutes_between(created, delivered)} END AS total_minutes,
  CASE WHEN {reached} THEN first_body END AS opening_body
FROM ({self._first_events(order_id)})"""  # noqa: S608 - names and texts are quoted, here and below

    def order_with_contents(self, order_id: str) -> str:
        """The order's row with `contents`, its lines as an array of structs, sorted by line.

        A line that came twice is in it once. It is null where the order's creation is out of reach.

        Args:
            order_id: SQL of the order's id.
        """
        key = quote_name(self.domain.entity_key)
        line = ", ".join(quote_name(c.name) for c in self.line_columns)
        return f"""
SELECT o.*, CASE WHEN o.order_ts IS NOT NULL THEN c.contents END AS contents
FROM ({self.order(order_id)}) AS o
LEFT JOIN (
  SELECT {key}, sort_array(collect_set(struct({line}))) AS contents
  FROM {self.lines} GROUP BY {key}
) AS c ON c.{key} = o.{key}"""  # noqa: S608

    def order_with_events(self, order_id: str) -> str:
        """The order's row with `events`, an array of structs, sorted by time and sequence.

        An event that came twice is in it once.

        Args:
            order_id: SQL of the order's id.
        """
        key, site = quote_name(self.domain.entity_key), quote_name(self.domain.site_key)
        sites = self.sites or "SELECT CAST(NULL AS INT) AS site, CAST(NULL AS STRING) AS site_name"
        event = f"{_TIME} AS event_ts, sequence, event_type, {site} AS site, site_name, body"
        return f"""
SELECT {key}, sort_array(collect_set(struct(event_ts, sequence, event_type, site, site_name, body)))
    AS events
FROM (
  SELECT {key}, {event}
  FROM (SELECT * FROM {self.events} WHERE {key} = {order_id}) AS e
  LEFT JOIN ({sites}) AS s ON s.site = e.{site}
)
GROUP BY {key}"""  # noqa: S608

    def order_with_history(self, order_id: str) -> str:
        """The order's row with `minutes`, ascending: what its location's orders took before.

        Args:
            order_id: SQL of the order's id.
        """
        site = quote_name(self.domain.site_key)
        kept = ", ".join(
            (
                quote_name(self.domain.entity_key),
                site,
                *("order_ts", "delivered_ts", "total_minutes"),
                *(_first(t.name) for t in self.domain.event_types),
            )
        )
        return f"""
SELECT {kept}, sort_array(collect_list(took)) AS minutes
FROM (
  SELECT o.*, d.took FROM ({self.order(order_id)}) AS o
  LEFT JOIN ({self._deliveries()}) AS d
    ON d.site = o.{site} AND {_before("d.delivered", utc_hour("o.delivered_ts"))}
)
GROUP BY {kept}"""  # noqa: S608

    def locations(self) -> str:
        """One row per location: `hour_ts`, the hour of the newest delivery, and `minutes`."""
        return f"""
SELECT d.site AS {quote_name(self.domain.site_key)}, n.hour_ts,
  sort_array(collect_list(d.took)) AS minutes
FROM ({self._deliveries()}) AS d
CROSS JOIN (
  SELECT {utc_hour(f"max({_TIME})")} AS hour_ts FROM {self.events} WHERE {_is(self.domain.closing)}
) AS n
WHERE d.site IS NOT NULL AND {_before("d.delivered", "n.hour_ts")}
GROUP BY d.site, n.hour_ts"""  # noqa: S608

    def total(self) -> str:
        """SQL over `contents`: what the lines add up to; null when one of them has no amount."""
        added = f"CAST(total + item.{quote_name(_AMOUNT)} AS {_USD})"
        return f"aggregate(contents, CAST(0 AS {_USD}), (total, item) -> {added})"

    def body_value(self, field: BodyField) -> str:
        """SQL over `opening_body`: one of its fields."""
        name = quote_name(field.name)
        return f"from_json(opening_body, {quote_text(f'{name} {field.type}')}).{name}"

    def duration(self, start: str, end: str) -> str:
        """SQL of the minutes between an order's first events of two types."""
        return minutes_between(_first(start), _first(end))

    def percentile(self, percent: int) -> str:
        """SQL over `minutes`: an interpolated percentile, in decimal arithmetic throughout."""
        last = "(size(minutes) - 1)"
        below = f"{last} * {percent} DIV 100"
        weight = f"CAST({last} * {percent} % 100 AS DECIMAL(3,0))"
        low = f"get(minutes, CAST({below} AS INT))"
        high = f"get(minutes, CAST(least({below} + 1, {last}) AS INT))"
        mixed = f"{low} * (100 - {weight}) + {high} * {weight}"
        return f"CAST(round(({mixed}) / 100, 2) AS {_MINUTES})"

    def _first_events(self, order_id: str) -> str:
        """One row: the first time of each event type, and what the ends say."""
        domain = self.domain
        key, site = quote_name(domain.entity_key), quote_name(domain.site_key)
        opening, closing = _is(domain.opening), _is(domain.closing)
        return f"""
SELECT {key},
  {_first_times(t.name for t in domain.event_types)},
  min(CASE WHEN {opening} THEN {site} END) AS opening_site,
  min(CASE WHEN {closing} THEN {site} END) AS closing_site,
  min(CASE WHEN {opening} AND event_ts IS NOT NULL THEN struct(event_ts, body) END).body
    AS first_body
FROM (SELECT *, {_TIME} AS event_ts FROM {self.events} WHERE {key} = {order_id})
GROUP BY {key}"""  # noqa: S608

    def _deliveries(self) -> str:
        """One row per delivered order whose minutes are known: site, delivered, took."""
        domain = self.domain
        key, site = quote_name(domain.entity_key), quote_name(domain.site_key)
        ends = (domain.opening, domain.closing)
        took = _millis(*ends)
        return f"""
SELECT site, {_first(domain.closing)} AS delivered, {minutes_between(*map(_first, ends))} AS took
FROM (
  SELECT {_first_times(ends)}, min(CASE WHEN {_is(domain.closing)} THEN {site} END) AS site
  FROM (SELECT *, {_TIME} AS event_ts FROM {self.events} WHERE {key} IS NOT NULL)
  WHERE event_type IN ({", ".join(map(quote_text, ends))}) GROUP BY {key}
)
WHERE {_believable(took)}"""  # noqa: S608


def _first_times(kinds: Iterable[str]) -> str:
    return ", ".join(
        f"min(CASE WHEN {_is(kind)} THEN event_ts END) AS {_first(kind)}" for kind in kinds
    )


def _is(kind: str) -> str:
    return f"event_type = {quote_text(kind)}"


def _first(kind: str) -> str:
    return quote_name(f"first_{kind}")


def _millis(start: str, end: str) -> str:
    return f"unix_millis({_first(end)}) - unix_millis({_first(start)})"


def _believable(millis: str) -> str:
    return f"{millis} BETWEEN 0 AND {_LONGEST_MILLIS}"


def _before(time: str, hour: str) -> str:
    """Whether a time lies in the history before an hour."""
    since = f"timestamp_seconds(unix_seconds({hour}) - {_HISTORY_SECONDS})"
    return f"{time} >= {since} AND {time} < {hour}"
