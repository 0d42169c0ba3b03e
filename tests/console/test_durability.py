"""What was answered with success outlives a crash of the whole server."""

import os
import signal
import time
from contextlib import closing
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient

from caspers_lib.console.app import create_app
from caspers_lib.console.decisions.values import COMPLAINT_CASES, REFUND_CASES
from caspers_lib.lakebase.connection import connect
from tests.console.conftest import SPECS, Business, own_server

KILLS = 20
PATIENCE_SECONDS = 60.0


def test_no_acknowledged_decision_is_lost_to_a_back_end_that_is_killed() -> None:
    with own_server() as server:
        names = {spec.database for spec in SPECS}
        business = Business(server, addresses={name: server.dsn(name) for name in names})
        for spec in SPECS:
            business.create(spec)
        for number in range(KILLS):
            business.worth(f"o-{number}", "40")
            business.refund(f"o-{number}")
            business.complaint(f"c-{number}", order=f"o-{number}")
        parts = business.parts()
        with closing(parts.refunds), closing(parts.complaints):
            client = TestClient(create_app(parts), base_url="http://localhost")
            acknowledged = [decided_and_crashed(business, client, n) for n in range(KILLS)]
        kept = []
        for kind in (REFUND_CASES, COMPLAINT_CASES):
            with connect(business.addresses[kind.spec.database], patience=60) as connection:
                trail = connection.execute(f"SELECT case_id, amount_usd FROM {kind.trail}".encode())
                kept += trail.fetchall()
        assert sorted(kept) == sorted(acknowledged)
        with connect(business.addresses["caspers"], patience=60) as connection:
            counted = connection.execute("SELECT case_id, usd FROM console.order_payouts")
            assert sorted(counted.fetchall()) == sorted(acknowledged)


def decided_and_crashed(business: Any, client: TestClient, number: int) -> tuple[str, Decimal]:
    """Decide a case; once that is acknowledged, kill a back end, which restarts the server."""
    kind, case_id = (
        (REFUND_CASES, f"o-{number}") if number % 2 else (COMPLAINT_CASES, f"c-{number}")
    )
    wanted = {"case_id": case_id, "version": 0, "action": "change", "amount_usd": "4.25",
              "reason": "why", "key": case_id}  # fmt: skip
    address = business.addresses["caspers"]
    victim = connect(address, patience=PATIENCE_SECONDS)
    witness = connect(address, patience=PATIENCE_SECONDS, autocommit=True)
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        answer = client.post(f"/api/{kind.name}/decisions", json={"decisions": [wanted]})
        outcome = answer.json().get("outcomes", [{}])[0]
        if outcome.get("made"):
            break
        # Not yet back from the crash before: nothing was acknowledged.
        assert outcome.get("refused", {}).get("code") == "lost_connection", outcome
        assert time.monotonic() < until
    os.kill(victim.info.backend_pid, signal.SIGKILL)
    victim.close()
    # Until the server ends its other back ends it has not noticed.
    with closing(witness), pytest.raises(psycopg.OperationalError):
        while time.monotonic() < until + PATIENCE_SECONDS:
            witness.execute("SELECT 1")
    return case_id, Decimal(outcome["made"]["amount_usd"])
