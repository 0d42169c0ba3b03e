"""A Postgres for the whole run, with empty tables for each test, and a status that tests set."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from caspers_lib.console.app import create_app
from caspers_lib.console.serve import ConsoleServer
from caspers_lib.console.source import LiveStatus
from caspers_lib.lakebase import COMPLAINTS, REFUNDS, SyncSpec, plan_sync
from caspers_lib.lakebase.server import EmbeddedPostgres

NOON = datetime(2024, 3, 11, 12, 0, tzinfo=UTC)
SPECS = (REFUNDS, COMPLAINTS)
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
}


@dataclass
class Business:
    """A running business as the tests want it: its two tables and the status it tells."""

    server: EmbeddedPostgres
    status: LiveStatus = field(default_factory=LiveStatus)

    def __call__(self) -> LiveStatus:
        return self.status

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


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
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


@pytest.fixture
def business(postgres: EmbeddedPostgres) -> Business:
    """A business whose tables exist and are empty."""
    business = Business(postgres)
    for spec in SPECS:
        business.drop(spec)
        business.create(spec)
    business.tell(
        refunds_dsn=postgres.dsn(REFUNDS.database), complaints_dsn=postgres.dsn(COMPLAINTS.database)
    )
    return business


@pytest.fixture
def console(business: Business) -> Iterator[ConsoleServer]:
    """The console over the business, really served."""
    with ConsoleServer(create_app(business), port=0) as server:
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
