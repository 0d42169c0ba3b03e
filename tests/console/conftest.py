"""A Postgres for the whole run, with empty tables for each test, and a business that tests set."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from caspers_lib.console.app import ConsoleParts, create_app
from caspers_lib.console.databases import ConsoleDatabase
from caspers_lib.console.serve import ConsoleServer
from caspers_lib.console.source import LiveStatus, StageStatus, TableStatus
from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.domain.tables import aggregate_table, bronze_table, lifecycle_table
from caspers_lib.errors import SettingsError
from caspers_lib.lakebase import (
    COMPLAINT_TEXTS,
    COMPLAINTS,
    REFUNDS,
    SyncSpec,
    order_tables,
    plan_sync,
)
from caspers_lib.lakebase.server import EmbeddedPostgres
from tests.console.browsing import (  # noqa: F401 - fixtures
    browser,
    dark_page,
    dark_phone,
    page,
    phone,
    plain_page,
    tablet,
)

NOON = datetime(2024, 3, 11, 12, 0, tzinfo=UTC)
ORDERS = {spec.name: spec for spec in order_tables()}
SPECS = (REFUNDS, COMPLAINTS, *(ORDERS[n] for n in ("lifecycle", "orders", "events", "locations")))


def _columns(columns: Any) -> dict[str, str]:
    return {column.name: column.type.lower() for column in columns}


COLUMNS = {
    "refunds": {
        "order_id": "string",
        "ts": "timestamp",
        "order_ts": "timestamp",
        "agent_response": "string",
    },
    "complaints": {
        "complaint_id": "string",
        "order_id": "string",
        "ts": "timestamp",
        "agent_response": "string",
    },
    "lifecycle": _columns(lifecycle_table(GHOST_KITCHEN).columns),
    "orders": _columns(aggregate_table(GHOST_KITCHEN.gold[0]).columns),
    "events": _columns(bronze_table(GHOST_KITCHEN).columns),
    "locations": {"location_id": "int", "name": "string", "lat": "double", "lon": "double"},
}
# What an order goes through, and minutes after it was created.
STEPS = {
    "order_created_ts": 0,
    "gk_started_ts": 4,
    "gk_ready_ts": 15,
    "driver_arrived_ts": 18,
    "driver_picked_up_ts": 20,
    "delivered_ts": 40,
}


@dataclass
class Tape:
    """The replay's controls as the tests see them; refuses what it is told to refuse."""

    done: list[str] = field(default_factory=list)
    refusal: str = ""

    def pause(self) -> None:
        self._do("pause")

    def resume(self) -> None:
        self._do("resume")

    def set_speed(self, speed: float) -> None:
        self._do(f"speed {speed:g}")

    def seek(self, target: str) -> None:
        self._do(f"seek {target}")

    def _do(self, what: str) -> None:
        if self.refusal:
            raise SettingsError(self.refusal, hint="Try another.")
        self.done.append(what)


@dataclass
class Business:
    """A running business as the tests want it: its tables, its status and its controls.

    `addresses` tells where a database is, by its name: None is one that has not been started.
    """

    server: EmbeddedPostgres
    status: LiveStatus = field(default_factory=LiveStatus)
    tape: Tape = field(default_factory=Tape)
    addresses: dict[str, str | None] = field(default_factory=dict)

    def parts(self, **changes: Any) -> ConsoleParts:
        """The console over this business."""
        refunds, complaints = (
            ConsoleDatabase(name, lambda name=name: self.addresses[name])  # type: ignore[misc]
            for name in (REFUNDS.database, COMPLAINTS.database)
        )
        standard = ConsoleParts(
            refunds=refunds,
            complaints=complaints,
            status=lambda: self.status,
            controls=self.tape,
        )
        return replace(standard, **changes)

    def tell(self, **changes: Any) -> None:
        self.status = replace(self.status, **changes)

    def refund(self, order_id: str, *, minute: int = 0, took: float = 40, **answer: object) -> None:
        """A recommendation as the rules give it, but for the fields of `answer`."""
        self.refund_json(order_id, REFUND_ANSWER | answer, minute=minute, took=took)

    def refund_json(
        self, order_id: str, answer: object, *, minute: int = 0, took: float = 40
    ) -> None:
        """A recommendation with any JSON value as its answer; None is SQL's NULL."""
        delivered = NOON + timedelta(minutes=minute)
        ordered = delivered - timedelta(minutes=took)
        self._insert(REFUNDS, order_id, delivered, ordered, _jsonb(answer))

    def complaint(
        self, complaint_id: str, *, order: str = "o-1", minute: int = 0, **answer: object
    ) -> None:
        """A response as the rules give it, but for the fields of `answer`."""
        self.complaint_json(complaint_id, COMPLAINT_ANSWER | answer, order=order, minute=minute)

    def complaint_json(
        self, complaint_id: str, answer: object, *, order: str = "o-1", minute: int = 0
    ) -> None:
        """A response with any JSON value as its answer; None is SQL's NULL."""
        answered = NOON + timedelta(minutes=minute)
        self._insert(COMPLAINTS, complaint_id, order, answered, _jsonb(answer))

    def city(self, location_id: int, name: str | None, place: Any = (37.77, -122.42)) -> None:
        """A kitchen's location."""
        self._insert(ORDERS["locations"], location_id, name, *place)

    def order(
        self, order_id: str, *, minute: float = 0, until: str = "delivered_ts", location: int = 1
    ) -> None:
        """An order created some minutes after noon that has come as far as `until`."""
        created = NOON + timedelta(minutes=minute)
        steps = list(STEPS)[: list(STEPS).index(until) + 1]
        row: dict[str, object] = {
            "order_id": order_id,
            "location_id": location,
            "order_day": created.date(),
            **{step: created + timedelta(minutes=STEPS[step]) for step in steps},
        }
        if until == "delivered_ts":
            row["total_minutes"] = STEPS["delivered_ts"]
        self._insert_named(ORDERS["lifecycle"], row)

    def event(self, order_id: str, kind: str, body: object, *, minute: float = 0) -> None:
        """An event of an order with any JSON value as its body."""
        ts = f"{NOON + timedelta(minutes=minute):%Y-%m-%d %H:%M:%S.000}"
        row: dict[str, object] = {
            "event_id": f"{order_id}-{kind}-{ts}",
            "event_type": kind,
            "ts": ts,
            "order_id": order_id,
            "body": _jsonb(body),
        }
        self._insert_named(ORDERS["events"], row)

    def worth(self, order_id: str, usd: str) -> None:
        """What an order is worth."""
        self._insert_named(ORDERS["orders"], {"order_id": order_id, "order_revenue": usd})

    def fill(self, text: str) -> None:
        """Empty every table; then each field that holds text holds this one."""
        for spec in SPECS:
            with self.connect(spec) as connection:
                connection.execute(f"TRUNCATE {spec.target}".encode())
        fields = ("complaint_category", "decision", "priority", "rationale", "customer_response")
        self.city(1, text)
        self.order(text)
        self.order(f"{text}!", minute=15, until="driver_picked_up_ts")
        self.refund(text, refund_class=text, reason=text, source=text)
        self.complaint(text, order=text, source=text, **dict.fromkeys(fields, text))
        self.tell(
            stages=(StageStatus(text, "running", text, 1), StageStatus(text, "failed", text)),
            tables=(TableStatus(text, 1),),
            place=text,
        )

    def connect(self, spec: SyncSpec) -> psycopg.Connection:
        return psycopg.connect(self.server.dsn(spec.database))

    def drop(self, spec: SyncSpec) -> None:
        with self.connect(spec) as connection:
            connection.execute(f"DROP SCHEMA IF EXISTS {spec.schema} CASCADE".encode())

    def create(self, spec: SyncSpec) -> None:
        with self.connect(spec) as connection:
            for statement in plan_sync(spec, COLUMNS[spec.name]).ddl:
                connection.execute(statement.encode())

    def _insert(self, spec: SyncSpec, *values: object) -> None:
        with self.connect(spec) as connection:
            query = f"INSERT INTO {spec.target} VALUES (%s, %s, %s, %s)"
            connection.execute(query.encode(), values)

    def _insert_named(self, spec: SyncSpec, row: dict[str, object]) -> None:
        marks = ", ".join(["%s"] * len(row))
        with self.connect(spec) as connection:
            query = f"INSERT INTO {spec.target} ({', '.join(row)}) VALUES ({marks})"
            connection.execute(query.encode(), tuple(row.values()))


def _jsonb(answer: object) -> str | None:
    return None if answer is None else json.dumps(answer)


REFUND_ANSWER = {
    "refund_usd": 7.5,
    "refund_class": "partial",
    "reason": "Slower than three in four orders of this kitchen.",
    "source": "rules",
}
COMPLAINT_ANSWER = {
    "order_id": "o-1",
    "complaint_category": "delivery_delay",
    "decision": "suggest_credit",
    "credit_amount": 5.25,
    "confidence": "high",
    "priority": "standard",
    "rationale": "The order took 71 minutes; this kitchen's P75 is 52.",
    "customer_response": "We are sorry that it took so long.",
    "source": "rules",
}


@contextmanager
def own_server() -> Iterator[EmbeddedPostgres]:
    """A server of one's own with both databases, empty."""
    # A short path of its own: the server may run as another user than the tests.
    root = Path(tempfile.mkdtemp(prefix="console-"))
    root.chmod(0o755)
    try:
        with EmbeddedPostgres(root / "pg") as server:
            for spec in SPECS:
                server.ensure_database(spec.database)
            yield server
    finally:
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    with own_server() as server:
        yield server


@pytest.fixture
def business(postgres: EmbeddedPostgres) -> Business:
    """A business whose tables exist and are empty."""
    names = {spec.database for spec in SPECS}
    business = Business(postgres, addresses={name: postgres.dsn(name) for name in names})
    for spec in SPECS:
        business.drop(spec)
    for spec in SPECS:
        business.create(spec)
    for spec in (REFUNDS, COMPLAINTS):
        with business.connect(spec) as connection:
            connection.execute("DROP SCHEMA IF EXISTS console CASCADE")
    return business


@pytest.fixture
def story_tables(business: Business) -> Iterator[None]:
    """The tables that an order's story and a complaint's text are read from, empty."""
    made = {
        ORDERS["lines"]: "order_id text, line int, item_name text, qty int, extended_price numeric",
        COMPLAINT_TEXTS: "complaint_id text PRIMARY KEY, complaint_text text",
    }
    for spec, columns in made.items():
        with business.connect(spec) as connection:
            query = f"DROP TABLE IF EXISTS {spec.target}; CREATE TABLE {spec.target} ({columns})"
            connection.execute(query.encode())
    yield
    for spec in made:
        with business.connect(spec) as connection:
            connection.execute(f"DROP TABLE IF EXISTS {spec.target}".encode())


@contextmanager
def serving(parts: ConsoleParts, port: int = 0) -> Iterator[ConsoleServer]:
    """The console, really served; its connections end with the block."""
    with (
        closing(parts.refunds),
        closing(parts.complaints),
        ConsoleServer(create_app(parts), port=port) as server,
    ):
        yield server


@pytest.fixture
def serve() -> Any:
    """Serves a console for a block: `with serve(parts) as server`."""
    return serving


@pytest.fixture
def console(business: Business) -> Iterator[ConsoleServer]:
    """The console over the business, really served."""
    with serving(business.parts()) as server:
        yield server


@pytest.fixture
def client(console: ConsoleServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=console.url, trust_env=False) as client:
        yield client


@pytest.fixture(scope="session")
def hostile_texts() -> tuple[str, ...]:
    """Texts that become code, markup or layout where they are not treated as data."""
    return (
        "<script>window.pwned = 1</script>",
        '<img src="x" onerror="window.pwned = 1">',
        "</p></li></table></main><h1>gone</h1>",
        "{{7*7}} {% raw %} ${7*7}",
        "'; DROP TABLE recommender.pg_recommendations; --",
        "quotes \" and ' and ` and \\ and &amp;",
        "first line\nsecond line\r\n\tthird",
        "javascript:window.pwned=1",
        "\u202eright to left\u202c and \u0001 and 🍜",
        "x" * 5000,
    )
