"""The console as a Databricks App, with the databases that the bundle's variables name."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fastapi.testclient import TestClient

from caspers_lib.console import app_databases as module_of_databases
from caspers_lib.console.app_databases import app_databases
from caspers_lib.console.databases import NotStartedError
from caspers_lib.lakebase import Postgres
from caspers_lib.lakebase.lakebase_login import LakebaseLogin
from tests.console.page_text import words

APP = Path(__file__).parents[2] / "examples" / "app" / "app.py"
NONE = "There is no database of complaints in this deployment."
REFUNDS, COMPLAINTS = (f"projects/{name}/branches/b/endpoints/e" for name in ("r", "c"))


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch, business: Any) -> list[str]:
    """Which address each database is asked for at; this machine's server stands behind all."""
    asked: list[str] = []

    def database(login: LakebaseLogin, name: str, *, host: str | None = None) -> Postgres:
        asked.append(f"{name} at {host} by {login.endpoint}")
        return Postgres(business.server.dsn(name))

    monkeypatch.setattr(module_of_databases, "endpoint_database", database)
    monkeypatch.setattr(LakebaseLogin, "host", lambda login: f"{login.endpoint[9]}.example")
    return asked


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Starts the example app with the variables that the platform gives it."""

    def start(**endpoints: str) -> ModuleType:
        for name, endpoint in endpoints.items():
            monkeypatch.setenv(name, endpoint)
        spec = importlib.util.spec_from_file_location("deployed_app", APP)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield start
    module_of_databases._at_its_own_host.cache_clear()


def test_the_app_shows_both_databases_each_from_its_own_address(
    deployed: Any, business: Any, reached: list[str]
) -> None:
    business.refund("order-1")
    business.complaint("c-1")
    module = deployed(REFUNDS_ENDPOINT=REFUNDS, COMPLAINTS_ENDPOINT=COMPLAINTS)
    client = TestClient(module.app, base_url="http://localhost")
    assert client.get("/readyz").json()["databases"] == {
        "caspers": "ok",
        "caspers_complaints": "ok",
    }
    assert "Order order-1" in words(client.get("/refunds").text)
    assert "Complaint c-1" in words(client.get("/complaints").text)
    # The platform's own variables know the first host; the second is asked for, once.
    assert set(reached) == {
        f"caspers at None by {REFUNDS}",
        f"caspers_complaints at c.example by {COMPLAINTS}",
    }
    assert len([each for each in reached if "complaints" in each]) == 1
    module.refunds.close()
    module.complaints.close()


@pytest.mark.usefixtures("reached")
def test_without_a_database_of_complaints_the_page_says_so_and_the_refunds_work(
    deployed: Any, business: Any
) -> None:
    business.refund("order-1")
    module = deployed(REFUNDS_ENDPOINT=REFUNDS)
    client = TestClient(module.app, base_url="http://localhost")
    ready = client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["databases"] == {"caspers": "ok", "caspers_complaints": "none"}
    assert "Order order-1" in words(client.get("/refunds").text)
    complaints = client.get("/complaints")
    assert complaints.status_code == 200
    assert words(complaints.text).count(NONE) == 1
    assert NONE in words(client.get("/").text)
    answer = client.get("/api/complaints")
    assert answer.status_code == 404
    assert answer.json() == {"code": "no_database", "message": NONE, "hint": ""}
    module.refunds.close()


def test_without_an_endpoint_nothing_is_there_yet() -> None:
    refunds, complaints = app_databases({})
    with pytest.raises(NotStartedError, match="Waiting for PostgreSQL to start with database"):
        refunds.pool()
    with pytest.raises(NotStartedError, match=NONE):
        complaints.pool()
