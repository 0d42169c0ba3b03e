"""The console's Live page: how long its part that refreshes itself takes, with many readers."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from statistics import quantiles
from urllib.parse import urlsplit

import psycopg

from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.domain.tables import aggregate_table, bronze_table, lifecycle_table
from caspers_lib.lakebase import COMPLAINTS, REFUNDS, SyncSpec, order_tables, plan_sync
from caspers_lib.lakebase.server import EmbeddedPostgres
from tests.benchmarks.http_client import ask

ORDERS = 60_000
READERS = 200
# As the page asks.
EVERY_SECONDS = 2.0
RUN_SECONDS = 20.0
_SPECS = {spec.name: spec for spec in order_tables()}
_TEXTS = {"ts": "timestamp", "agent_response": "string"}
TABLES: tuple[tuple[SyncSpec, dict[str, str]], ...] = (
    (REFUNDS, {"order_id": "string", "order_ts": "timestamp", **_TEXTS}),
    (COMPLAINTS, {"complaint_id": "string", "order_id": "string", **_TEXTS}),
    (
        _SPECS["locations"],
        dict.fromkeys(("lat", "lon"), "double") | {"location_id": "int", "name": "string"},
    ),
    *(
        (_SPECS[name], {column.name: column.type.lower() for column in table.columns})
        for name, table in (
            ("lifecycle", lifecycle_table(GHOST_KITCHEN)),
            ("orders", aggregate_table(GHOST_KITCHEN.gold[0])),
            ("events", bronze_table(GHOST_KITCHEN)),
        )
    ),
)

# Eighty days of orders, two minutes apart; each takes 40 minutes and is on the way for 20.
_FILL = """
    CREATE TEMP TABLE o AS
      SELECT 'o-' || i AS id, i % 4 + 1 AS place,
             timestamptz '2024-01-01 00:00+00' + i * interval '115 seconds' AS at
      FROM generate_series(1, {orders}) AS i;
    INSERT INTO {locations} (location_id, name, lat, lon)
      SELECT i, 'City ' || i, 37 + i, -122 + i FROM generate_series(1, 4) AS i;
    INSERT INTO {lifecycle} (order_id, location_id, order_day, order_created_ts, gk_started_ts,
                             gk_ready_ts, driver_picked_up_ts, delivered_ts, total_minutes)
      SELECT id, place, (at AT TIME ZONE 'UTC')::date, at, at + interval '5 minutes',
             at + interval '15 minutes', at + interval '20 minutes', at + interval '40 minutes', 40
      FROM o;
    INSERT INTO {orders_table} (order_id, order_revenue) SELECT id, 30 FROM o;
    INSERT INTO {refunds}
      SELECT id, at, at + interval '40 minutes',
             '{{"refund_class": "partial", "refund_usd": 5, "reason": "late", "source": "rules"}}'
      FROM o;
    INSERT INTO {events} (event_id, event_type, ts, order_id, body)
      SELECT id || '-p', 'driver_picked_up',
             to_char(at + interval '20 minutes', 'YYYY-MM-DD HH24:MI:SS.MS'), id,
             jsonb_build_object('route_points', (
               SELECT jsonb_agg(jsonb_build_array(
                 37 + place + j * (length(id) - 4) / 2000.0, -122 + place + j / 2000.0))
               FROM generate_series(0, 30) AS j))
      FROM o;
    INSERT INTO {events} (event_id, event_type, ts, order_id, body)
      SELECT id || '-' || j, 'driver_ping',
             to_char(at + (20 + j) * interval '1 minute', 'YYYY-MM-DD HH24:MI:SS.MS'), id,
             jsonb_build_object('loc_lat', 37 + place + j / 1000.0, 'loc_lon', -122 + place)
      FROM o, generate_series(1, 10) AS j;
"""


def rows(folder: Path) -> list[tuple[str, str, str, str]]:
    """What was measured, the measure, what it is held against, the ratio; for the table."""
    folder.chmod(0o755)
    with EmbeddedPostgres(folder / "postgres" / "data") as server:
        _fill(server)
        command = [Path(sys.executable).with_name("caspers"), "console", "--port", "0"]
        dsn = server.dsn(REFUNDS.database)
        with subprocess.Popen(
            [*map(str, command), "--dsn", dsn], stdout=subprocess.PIPE, text=True
        ) as console:
            assert console.stdout is not None
            port = urlsplit(console.stdout.readline().split()[1]).port or 0
            alone, many = (asyncio.run(_read(port, readers)) for readers in (1, READERS))
            console.terminate()
    return [
        (
            f"Live's part, {READERS} readers, a request each 2 s, {name}, ms",
            f"{many[percent] * 1e3:.0f}",
            f"one reader, p50 {alone[49] * 1e3:.0f}",
            f"{many[percent] / alone[49]:.2f}x",
        )
        for name, percent in (("p50", 49), ("p95", 94))
    ]


def _fill(server: EmbeddedPostgres) -> None:
    for spec, columns in TABLES:
        server.ensure_database(spec.database)
        plan = plan_sync(spec, columns)
        with psycopg.connect(server.dsn(spec.database)) as connection:
            for statement in (*plan.ddl, *plan.index_ddl):
                connection.execute(statement.encode())
    targets = {name: spec.target for name, spec in _SPECS.items()}
    sql = _FILL.format(
        **{
            **targets,
            "orders_table": targets["orders"],
            "orders": ORDERS,
            "refunds": REFUNDS.target,
        }
    )
    with psycopg.connect(server.dsn(REFUNDS.database)) as connection:
        connection.execute(sql.encode())
    with psycopg.connect(server.dsn(REFUNDS.database), autocommit=True) as connection:
        connection.execute("ANALYZE")


async def _read(port: int, readers: int) -> list[float]:
    """Percentiles of the seconds that an answer takes."""
    taken: list[float] = []
    await asyncio.gather(*(_reader(port, n / readers, taken) for n in range(readers)))
    return quantiles(taken, n=100)


async def _reader(port: int, phase: float, taken: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.sleep(phase * EVERY_SECONDS)
    end = time.perf_counter() + RUN_SECONDS
    while (started := time.perf_counter()) < end:
        await ask(reader, writer, "/live")
        taken.append(time.perf_counter() - started)
        await asyncio.sleep(max(0.0, EVERY_SECONDS - taken[-1]))
    writer.close()
