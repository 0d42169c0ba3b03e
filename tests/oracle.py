"""The pipeline's tables, recomputed from a dataset's parquet without the library.

The SQL is written by hand from the contracts (docs/contracts.md, Replay and Tables), for DuckDB, in
exact decimals; nothing is shared with the code that it checks.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

DAY = 86_400

# Columns and Spark types of each table, in the order in which the rows below hold them.
COLUMNS = {
    "silver_order_items": {
        "order_id": "string",
        "line": "int",
        "location_id": "int",
        "order_ts": "timestamp",
        "order_day": "date",
        "item_id": "int",
        "menu_id": "int",
        "category_id": "int",
        "brand_id": "int",
        "item_name": "string",
        "price": "decimal(12,2)",
        "qty": "int",
        "extended_price": "decimal(12,2)",
    },
    "silver_order_lifecycle": {
        "order_id": "string",
        "location_id": "int",
        "order_day": "date",
        "order_created_ts": "timestamp",
        "gk_started_ts": "timestamp",
        "gk_finished_ts": "timestamp",
        "gk_ready_ts": "timestamp",
        "driver_arrived_ts": "timestamp",
        "driver_picked_up_ts": "timestamp",
        "driver_ping_ts": "timestamp",
        "delivered_ts": "timestamp",
        "prep_minutes": "decimal(12,2)",
        "wait_minutes": "decimal(12,2)",
        "drive_minutes": "decimal(12,2)",
        "total_minutes": "decimal(12,2)",
        "status": "string",
    },
    "gold_order_header": {
        "order_id": "string",
        "location_id": "int",
        "order_day": "date",
        "order_revenue": "decimal(22,2)",
        "total_qty": "bigint",
        "total_items": "bigint",
        "brands_in_order": "array<int>",
    },
    "gold_item_sales_day": {
        "item_id": "int",
        "menu_id": "int",
        "category_id": "int",
        "brand_id": "int",
        "day": "date",
        "units_sold": "bigint",
        "gross_revenue": "decimal(22,2)",
    },
    "gold_brand_sales_day": {
        "brand_id": "int",
        "day": "date",
        "orders": "bigint",
        "items_sold": "bigint",
        "brand_revenue": "decimal(22,2)",
    },
    "gold_location_sales_hourly": {
        "location_id": "int",
        "hour_ts": "timestamp",
        "orders": "bigint",
        "revenue": "decimal(22,2)",
    },
    "gold_delivery_percentiles_hourly": {
        "location_id": "int",
        "hour_ts": "timestamp",
        "deliveries": "bigint",
        "p50_minutes": "decimal(12,2)",
        "p75_minutes": "decimal(12,2)",
        "p99_minutes": "decimal(12,2)",
    },
    "gold_kitchen_funnel_day": {
        "location_id": "int",
        "day": "date",
        "order_created_orders": "bigint",
        "gk_started_orders": "bigint",
        "gk_finished_orders": "bigint",
        "gk_ready_orders": "bigint",
        "driver_arrived_orders": "bigint",
        "driver_picked_up_orders": "bigint",
        "driver_ping_orders": "bigint",
        "delivered_orders": "bigint",
    },
    "gold_late_share_day": {
        "location_id": "int",
        "day": "date",
        "delivered_orders": "bigint",
        "late_orders": "bigint",
        "late_share": "decimal(5,4)",
    },
}

_PLAYED = """
CREATE TEMP TABLE played AS
SELECT
  CASE WHEN loop = 0 THEN order_id ELSE order_id || '-L' || loop END AS order_id,
  event_type_id,
  location_id::INTEGER AS location_id,
  make_timestamp((ts_seconds + loop * $cycle + $shift) * 1000000) AS emitted,
  items_json{sequence}
FROM read_parquet($dataset), range($loops) AS loops(loop)
WHERE ts_seconds + loop * $cycle <= $until
"""

# What chaos did, by its manifest: which events never count, and whose clock was wrong.
_LOST = ("dropped", "corrupt_json", "unknown_event_type", "wrong_type")
_CHAOS = f"""
CREATE TEMP TABLE touched AS
SELECT order_id, sequence, kind, deliveries, detail ->> 'skew_seconds' AS skew
FROM read_json($manifest, columns = {{order_id: 'VARCHAR', sequence: 'INTEGER', kind: 'VARCHAR',
  deliveries: 'DOUBLE[]', detail: 'JSON'}}, format = 'newline_delimited');
DELETE FROM played USING touched t
WHERE played.order_id = t.order_id AND played.sequence = t.sequence
  AND (t.kind IN {_LOST} OR list_min(t.deliveries) > $until);
UPDATE played SET emitted = emitted + to_seconds(t.skew::INTEGER)
FROM touched t
WHERE played.order_id = t.order_id AND played.sequence = t.sequence AND t.kind = 'clock_skew'
"""

_LINES = """
CREATE TEMP TABLE silver_order_items AS
WITH numbered AS (
  SELECT order_id, location_id, emitted, items_json,
    unnest(range(1, json_array_length(items_json)::BIGINT + 1)) AS line
  FROM played WHERE event_type_id = 1
), elements AS (
  SELECT *, json_extract(items_json, line - 1) AS item FROM numbered
), priced AS (
  SELECT *, (item ->> 'price')::DECIMAL(12, 2) AS price, (item ->> 'qty')::INTEGER AS qty
  FROM elements
)
SELECT order_id, line, location_id, emitted AS order_ts, emitted::DATE AS order_day,
  (item ->> 'id')::INTEGER AS item_id,
  (item ->> 'menu_id')::INTEGER AS menu_id,
  (item ->> 'category_id')::INTEGER AS category_id,
  (item ->> 'brand_id')::INTEGER AS brand_id,
  item ->> 'name' AS item_name,
  price, qty, price * qty AS extended_price
FROM priced
"""

_FIRSTS = """
CREATE TEMP TABLE firsts AS
SELECT order_id, min(location_id) AS location_id,
  min(emitted) FILTER (event_type_id = 1) AS created,
  min(emitted) FILTER (event_type_id = 2) AS started,
  min(emitted) FILTER (event_type_id = 3) AS finished,
  min(emitted) FILTER (event_type_id = 4) AS ready,
  min(emitted) FILTER (event_type_id = 5) AS arrived,
  min(emitted) FILTER (event_type_id = 6) AS picked_up,
  min(emitted) FILTER (event_type_id = 7) AS ping,
  min(emitted) FILTER (event_type_id = 8) AS delivered,
  max(event_type_id) AS furthest
FROM played GROUP BY order_id
"""

_LIFECYCLE = """
CREATE TEMP TABLE silver_order_lifecycle AS
SELECT order_id, location_id, created::DATE AS order_day, created, started, finished, ready,
  arrived, picked_up, ping, delivered,
  round(date_diff('millisecond', created, ready) / 60000, 2)::DECIMAL(12, 2) AS prep,
  round(date_diff('millisecond', ready, picked_up) / 60000, 2)::DECIMAL(12, 2) AS wait,
  round(date_diff('millisecond', picked_up, delivered) / 60000, 2)::DECIMAL(12, 2) AS drive,
  round(date_diff('millisecond', created, delivered) / 60000, 2)::DECIMAL(12, 2) AS total,
  ['order_created', 'gk_started', 'gk_finished', 'gk_ready', 'driver_arrived',
   'driver_picked_up', 'driver_ping', 'delivered'][furthest] AS status
FROM firsts
"""

_PERCENTILE = "round(round(quantile_cont(total::DOUBLE, {}), 4)::DECIMAL(18, 4), 2)::DECIMAL(12, 2)"

_QUERIES = {
    "silver_order_items": "FROM silver_order_items",
    "silver_order_lifecycle": "FROM silver_order_lifecycle",
    "gold_order_header": """
        SELECT order_id, any_value(location_id), any_value(order_day), sum(price * qty), sum(qty),
          count(*), list_sort(list_distinct(list(brand_id)))
        FROM silver_order_items GROUP BY order_id""",
    "gold_item_sales_day": """
        SELECT item_id, menu_id, category_id, brand_id, order_day, sum(qty), sum(price * qty)
        FROM silver_order_items GROUP BY ALL""",
    "gold_brand_sales_day": """
        WITH per_order AS (
          SELECT brand_id, order_day, order_id, sum(qty) AS items, sum(price * qty) AS revenue
          FROM silver_order_items GROUP BY ALL
        )
        SELECT brand_id, order_day, count(*), sum(items), sum(revenue)
        FROM per_order GROUP BY ALL""",
    "gold_location_sales_hourly": """
        WITH per_order AS (
          SELECT location_id, order_id, date_trunc('hour', order_ts) AS hour,
            sum(price * qty) AS revenue
          FROM silver_order_items GROUP BY ALL
        )
        SELECT location_id, hour, count(*), sum(revenue) FROM per_order GROUP BY ALL""",
    "gold_delivery_percentiles_hourly": f"""
        SELECT location_id, date_trunc('hour', created), count(total),
          {_PERCENTILE.format(0.5)}, {_PERCENTILE.format(0.75)}, {_PERCENTILE.format(0.99)}
        FROM silver_order_lifecycle WHERE created IS NOT NULL GROUP BY ALL""",
    "gold_kitchen_funnel_day": """
        SELECT location_id, order_day, count(created), count(started), count(finished),
          count(ready), count(arrived), count(picked_up), count(ping), count(delivered)
        FROM silver_order_lifecycle WHERE created IS NOT NULL GROUP BY ALL""",
    "gold_late_share_day": """
        SELECT location_id, order_day, count(total), count(*) FILTER (total > 60),
          round(count(*) FILTER (total > 60) / nullif(count(total), 0), 4)::DECIMAL(5, 4)
        FROM silver_order_lifecycle WHERE created IS NOT NULL GROUP BY ALL""",
}


@dataclass(frozen=True)
class Played:
    """What of a dataset has been played: every loop's events up to a virtual second.

    Args:
        dataset: the events' parquet file.
        cycle_seconds: length of a loop.
        shift: seconds from virtual to emitted time.
        until: virtual seconds, included.
        manifest: folder of what chaos did; None where it did nothing.
    """

    dataset: Path
    cycle_seconds: int
    shift: int
    until: float
    manifest: Path | None = None


@dataclass(frozen=True)
class Expected:
    """The oracle's answer.

    Args:
        events: number of events of every type.
        tables: rows of each table in `COLUMNS`; timestamps are UTC without a zone.
    """

    events: int
    tables: dict[str, list[tuple[Any, ...]]]


def played_at(
    dataset: Path,
    *,
    epoch: int,
    days: int,
    start_day: int,
    speed: float,
    start: float,
    now: float,
    manifest: Path | None = None,
) -> Played:
    """What is played at `now` by a replay begun at `start` (both UTC epoch seconds)."""
    until = epoch + start_day * DAY + start % DAY + (now - start) * speed
    midnight = int(start - start % DAY)
    return Played(dataset, days * DAY, midnight - start_day * DAY - epoch, until, manifest)


def expected(played: Played) -> Expected:
    """Every table of the pipeline, computed anew from the dataset."""
    with duckdb.connect() as connection:
        file = str(played.dataset)
        first = _value(connection, "SELECT min(ts_seconds) FROM read_parquet(?)", file)
        loops = max(0, int((played.until - first) // played.cycle_seconds) + 1)
        values = {
            "dataset": file,
            "cycle": played.cycle_seconds,
            "shift": played.shift,
            "until": played.until,
            "loops": loops,
        }
        sequence = ", sequence::INTEGER AS sequence" if played.manifest else ""
        connection.execute(_PLAYED.format(sequence=sequence), values)
        if played.manifest:
            # DuckDB takes parameters for one statement at a time.
            files = f"{played.manifest}/*.json"
            for statement in _CHAOS.split(";"):
                given = {"manifest": files, "until": math.floor(played.until)}
                used = {name: v for name, v in given.items() if f"${name}" in statement}
                connection.execute(statement, used)
        for table in (_LINES, _FIRSTS, _LIFECYCLE):
            connection.execute(table)
        return Expected(
            events=_value(connection, "SELECT count(*) FROM played"),
            tables={name: connection.execute(q).fetchall() for name, q in _QUERIES.items()},
        )


def rows_of(frame: Any) -> list[tuple[Any, ...]]:
    """All rows of a Spark DataFrame; timestamps are UTC without a zone, wherever this runs."""
    table = frame.toArrow()
    naive = pa.timestamp("us")
    columns = [
        (column.cast(naive) if pa.types.is_timestamp(column.type) else column).to_pylist()
        for column in table.columns
    ]
    return list(zip(*columns, strict=True))


def differences(
    wanted: Iterable[tuple[Any, ...]], found: Iterable[tuple[Any, ...]], *, limit: int = 5
) -> list[str]:
    """The first rows that stand on one side only; a row counts as often as it is there."""
    here, there = Counter(map(_hashable, wanted)), Counter(map(_hashable, found))
    lacking = [f"lacks {row}" for row in (here - there).elements()]
    surplus = [f"has {row}" for row in (there - here).elements()]
    return sorted(lacking)[:limit] + sorted(surplus)[:limit]


def _hashable(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(tuple(value) if isinstance(value, list) else value for value in row)


def _value(connection: duckdb.DuckDBPyConnection, query: str, *values: object) -> int:
    row = connection.execute(query, values).fetchone()
    assert row is not None
    return int(row[0])
