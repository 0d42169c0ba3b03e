"""The console as a Databricks App, with the databases that its deployment names."""

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fastapi.testclient import TestClient

from caspers_lib.console.app_databases import app_databases
from caspers_lib.console.databases import NotStartedError
from caspers_lib.lakebase import Postgres
from caspers_lib.lakebase.lakebase_address import (
    ADDRESSES_FILE,
    LakebaseAddress,
    addresses_text,
)
from tests.console.page_text import words

APP = Path(__file__).parents[2] / "examples" / "app" / "app.py"
NONE = "There is no database of complaints in this deployment."
ADDRESSES = {
    name: LakebaseAddress(f"projects/{name}/branches/b/endpoints/e", f"{name}.example")
    for name in ("caspers", "caspers_complaints")
}


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch, business: Any) -> list[str]:
    """Which address each database is asked for at; this machine's server stands behind all."""
    asked: list[str] = []

    def postgres(address: LakebaseAddress, database: str, **_who: str) -> Postgres:
        asked.append(f"{database} at {address.host} by {address.endpoint}")
        return Postgres(business.server.dsn(database))

    monkeypatch.setattr(LakebaseAddress, "postgres", postgres)
    return asked


def deployed(folder: Path, *databases: str) -> ModuleType:
    """The example app from a folder in which its deployment wrote the file."""
    shutil.copy(APP, folder)
    addresses = {name: ADDRESSES[name] for name in databases}
    (folder / ADDRESSES_FILE).write_text(addresses_text(addresses), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("deployed_app", folder / APP.name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_app_shows_both_databases_each_from_its_own_address(
    tmp_path: Path, business: Any, reached: list[str]
) -> None:
    business.refund("order-1")
    business.complaint("c-1")
    module = deployed(tmp_path, "caspers", "caspers_complaints")
    client = TestClient(module.app, base_url="http://localhost")
    assert client.get("/readyz").json()["databases"] == {
        "caspers": "ok",
        "caspers_complaints": "ok",
    }
    assert "Order order-1" in words(client.get("/refunds").text)
    assert "Complaint c-1" in words(client.get("/complaints").text)
    assert reached == [
        f"{name} at {name}.example by projects/{name}/branches/b/endpoints/e" for name in ADDRESSES
    ]
    module.refunds.close()
    module.complaints.close()


def test_without_a_database_of_complaints_the_page_says_so_and_the_refunds_work(
    tmp_path: Path, business: Any, reached: list[str]
) -> None:
    business.refund("order-1")
    module = deployed(tmp_path, "caspers")
    client = TestClient(module.app, base_url="http://localhost")
    assert len(reached) == 1
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


def test_without_the_file_nothing_is_there_yet(tmp_path: Path) -> None:
    refunds, complaints = app_databases(tmp_path)
    with pytest.raises(NotStartedError, match="Waiting for PostgreSQL to start with database"):
        refunds.pool()
    with pytest.raises(NotStartedError, match=NONE):
        complaints.pool()
