"""The Refunds workspace over a million recommendations: lists, cards, many clients, who listens."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median, quantiles
from urllib.parse import urlsplit

import psutil
import psycopg

from caspers_lib.console.decisions.case_table import prepare_cases
from caspers_lib.console.decisions.values import REFUND_CASES
from caspers_lib.lakebase import REFUNDS, order_tables, plan_sync
from caspers_lib.lakebase.server import EmbeddedPostgres
from tests.benchmarks.console_work import TABLES
from tests.benchmarks.http_client import ask, listen, times_of

ORDERS = 1_000_000
DECIDED = 50_000
CLIENTS = 50
LISTENERS = 200
REQUESTS = 1_200
LISTS = tuple(
    f"/api/refunds?{query}"
    for query in (
        "",
        "status=all",
        "status=approved",
        "status=rejected",
        "sort=amount",
        "sort=oldest&status=all",
        "label=full",
        "source=error&status=all",
        "city=City%202",
        "city=City%202&label=full&source=model",
        "min_usd=39.5",
        "min_usd=5&max_usd=5.2",
        "since=2024-03-05&until=2024-03-06",
        "text=o-400000",
        "text=77%20min",
        "text=no%20such%20words",
    )
)
_SPECS = {spec.name: spec for spec in order_tables()}
# One order in four suggests something; an order each 20 seconds.
_FILL = f"""
    INSERT INTO {_SPECS["locations"].target} (location_id, name)
      SELECT i, 'City ' || i FROM generate_series(1, 4) AS i;
    INSERT INTO {_SPECS["lifecycle"].target} (order_id, location_id)
      SELECT 'o-' || i, hashint4(i) & 3 + 1 FROM generate_series(1, {ORDERS}) AS i;
    INSERT INTO {REFUNDS.target}
      SELECT 'o-' || i, at, at - interval '1 minute' * (20 + hashint4(i + 1) & 63),
             CASE WHEN i % 4 = 0 THEN jsonb_build_object(
               'refund_usd', round((i % 4000) / 100.0 + 0.5, 2),
               'refund_class', CASE WHEN i % 40 = 0 THEN 'full' ELSE 'partial' END,
               'reason', 'Delivered after ' || (i / 4 % 90) || ' min; P75 is 38',
               'source', CASE WHEN i % 1000 = 0 THEN 'error' WHEN i % 8 = 0 THEN 'model'
                         ELSE 'rules' END)
             ELSE '{{"refund_usd": 0, "refund_class": "none", "source": "rules",
                     "reason": "Within the usual time"}}'::jsonb END
      FROM (SELECT i, timestamptz '2024-01-01 00:00+00' + i * interval '20 seconds' AS at
            FROM generate_series(1, {ORDERS}) AS i) AS o;
    INSERT INTO {REFUND_CASES.trail} (case_id, version, order_id, action, status_before, status,
        amount_before_usd, amount_usd, suggested_usd, order_total_usd, reason, person,
        person_before, key, asked)
      SELECT id, 1, id, action, 'pending', CASE action WHEN 'approve' THEN 'approved'
             ELSE 'rejected' END, 0, CASE action WHEN 'approve' THEN 5 ELSE 0 END, 5, 40, '', 'ann',
             '', 'k' || id, ''
      FROM (SELECT 'o-' || 4 * i AS id, CASE WHEN i % 5 = 0 THEN 'reject' ELSE 'approve' END
            AS action FROM generate_series(1, {DECIDED}) AS i) AS decided;
"""
# What a page does that reads the answers themselves each time.
_NAIVE = f"""
    SELECT count(*), sum((agent_response ->> 'refund_usd')::numeric),
           percentile_cont(0.5) WITHIN GROUP (ORDER BY ts - order_ts) FROM {REFUNDS.target};
    SELECT * FROM {REFUNDS.target} WHERE agent_response ->> 'refund_class' <> 'none'
    ORDER BY ts DESC LIMIT 25
"""


def rows(folder: Path) -> list[tuple[str, str, str, str]]:
    """What was measured, the measure, what it is held against, the ratio; for the table."""
    folder.chmod(0o755)
    with EmbeddedPostgres(folder / "postgres" / "data") as server:
        dsn = fill(server)
        naive = _naive(dsn)
        command = [str(Path(sys.executable).with_name("caspers")), "console", "--port", "0"]
        with subprocess.Popen(
            [*command, "--dsn", dsn], stdout=subprocess.PIPE, text=True
        ) as console:
            assert console.stdout is not None
            port = urlsplit(console.stdout.readline().split()[1]).port or 0
            first, times = asyncio.run(_times(port, dsn))
            memory = asyncio.run(_memory(port, psutil.Process(console.pid)))
            console.terminate()
    against = f"answers read each time, p50 {naive * 1e3:.0f}"
    return [
        (f"Refunds, first reading of {ORDERS:,} answers, s", f"{first:.1f}", "-", "-"),
        *(
            (f"{name}, {percent}, ms", f"{value * 1e3:.0f}", against, f"{value / naive:.3f}x")
            for name, taken in times.items()
            for percent, value in zip(("p50", "p95"), _percentiles(taken), strict=True)
        ),
        *((name, f"{value:.1f}", "-", "-") for name, value in memory),
    ]


def fill(server: EmbeddedPostgres) -> str:
    """A million recommendations, fifty thousand of them decided; the database's address.

    Args:
        server: gets them, in the refunds' database.
    """
    for database in {spec.database for spec, _ in TABLES}:
        server.ensure_database(database)
    dsn = server.dsn(REFUNDS.database)
    with psycopg.connect(dsn) as connection:
        for spec, columns in TABLES:
            if spec.database == REFUNDS.database:
                for statement in plan_sync(spec, columns).ddl:
                    connection.execute(statement.encode())
        prepare_cases(connection, REFUND_CASES)
        connection.execute(_FILL.encode())
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE)")
    return dsn


def _naive(dsn: str) -> float:
    with psycopg.connect(dsn) as connection:
        return median(_seconds(connection) for _ in range(5))


def _seconds(connection: psycopg.Connection) -> float:
    started = time.perf_counter()
    connection.execute(_NAIVE.encode())
    return time.perf_counter() - started


def _percentiles(taken: Sequence[float]) -> Iterable[float]:
    cuts = quantiles(taken, n=100)
    return cuts[49], cuts[94]


async def _times(port: int, dsn: str) -> tuple[float, dict[str, list[float]]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    started = time.perf_counter()
    await ask(reader, writer, LISTS[0])
    first = time.perf_counter() - started
    # As autovacuum does within a minute.
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"VACUUM (ANALYZE) {REFUND_CASES.cases}".encode())
    for path in LISTS:
        await ask(reader, writer, path)
    writer.close()
    slowest = {path: median(await times_of(port, [path], 1, 9)) for path in LISTS}
    worst = max(slowest, key=slowest.__getitem__)
    measured = {
        "open list": await times_of(port, LISTS[:1], 1, REQUESTS),
        f"list, {len(LISTS)} filters in turn": await times_of(port, LISTS, 1, REQUESTS),
        f"the slowest of them ({urlsplit(worst).query})": await times_of(port, [worst], 1, 100),
        "cards": await times_of(port, ["/api/refunds/figures"], 1, REQUESTS),
        "list and cards as a page": await times_of(port, ["/refunds/list"], 1, REQUESTS),
        f"list, {CLIENTS} clients at once": await times_of(port, LISTS, CLIENTS, 2 * REQUESTS),
    }
    return first, measured


async def _memory(port: int, console: psutil.Process) -> list[tuple[str, float]]:
    def megabytes() -> float:
        return float(console.memory_info().rss) / 1e6

    before = megabytes()
    listening = [await listen(port, "/api/refunds/events") for _ in range(LISTENERS)]
    await times_of(port, LISTS, 1, REQUESTS)
    listened = megabytes()
    await times_of(port, LISTS, 1, REQUESTS)
    after = megabytes()
    for writer in listening:
        writer.close()
    return [
        ("the console's memory before, MB", before),
        (f"more with {LISTENERS} pages that listen and {REQUESTS} lists, MB", listened - before),
        (f"more after {REQUESTS} lists more, MB", after - listened),
    ]
