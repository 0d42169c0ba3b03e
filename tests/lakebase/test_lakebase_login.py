"""Tokens as passwords: the real SDK against a workspace on the loopback, and a real server."""

import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from caspers_lib.errors import PostgresError
from caspers_lib.lakebase import lakebase_login
from caspers_lib.lakebase.connection import Postgres, connect
from caspers_lib.lakebase.lakebase_login import LakebaseLogin
from caspers_lib.lakebase.pool import connection_pool
from tests.lakebase.stock_postgres import ROLE, StockPostgres

ENDPOINT = "projects/kitchens/branches/production/endpoints/primary"
ACCESS = "dapi-test-7c1f"
FIELDS = {"endpoint", "claims", "expire_time", "ttl"}


@dataclass
class Workspace:
    """A workspace that knows one route; whatever else is asked of it is refused and noted."""

    port: int = 0
    token: str = "first-token"
    issued: list[str] = field(default_factory=list)
    clients: int = 0
    refused: list[str] = field(default_factory=list)

    def answer(self, method: str, path: str, access: str, body: bytes) -> tuple[int, object]:
        """Status and body for one request."""
        if (method, path) == ("GET", "/.well-known/databricks-config"):
            self.clients += 1  # each client asks once
            return 404, {}
        if (method, path) != ("POST", "/api/2.0/postgres/credentials"):
            self.refused.append(f"{method} {path}")
            return _error(404, "ENDPOINT_NOT_FOUND", "no such route")
        asked = json.loads(body)
        if unknown := set(asked) - FIELDS:
            self.refused.append(f"fields {unknown}")
            return _error(400, "INVALID_PARAMETER_VALUE", "unknown field")
        if access != f"Bearer {ACCESS}":
            return _error(401, "UNAUTHENTICATED", "Credential was not sent")
        if asked.get("endpoint") != ENDPOINT:
            return _error(404, "NOT_FOUND", "endpoint not found")
        self.issued.append(self.token)
        return 200, {"token": self.token, "expire_time": "2030-01-01T00:00:00Z"}


def _error(status: int, code: str, message: str) -> tuple[int, object]:
    return status, {"error_code": code, "message": message}


@pytest.fixture
def workspace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Workspace]:
    fake = Workspace()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            access = self.headers.get("Authorization", "")
            status, told = fake.answer(self.command, self.path, access, body)
            payload = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        do_GET = do_PUT = do_PATCH = do_DELETE = do_POST

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        fake.port = server.server_port
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("DATABRICKS_HOST", f"http://127.0.0.1:{fake.port}")
        monkeypatch.setenv("DATABRICKS_TOKEN", ACCESS)
        monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "databrickscfg"))
        lakebase_login._workspace.cache_clear()
        yield fake
        server.shutdown()
        thread.join()
    lakebase_login._workspace.cache_clear()
    assert fake.refused == []


def test_each_call_gives_a_fresh_token(workspace: Workspace) -> None:
    login = LakebaseLogin(ENDPOINT)
    assert login() == "first-token"
    workspace.token = "second-token"
    assert login() == "second-token"
    assert workspace.issued == ["first-token", "second-token"]


def test_a_process_makes_one_client_and_a_forked_one_its_own(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        LakebaseLogin(ENDPOINT)()
    assert workspace.clients == 1
    monkeypatch.setattr(os, "getpid", lambda: 1)
    LakebaseLogin(ENDPOINT)()
    assert workspace.clients == 2


def test_a_profile_is_used(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("DATABRICKS_HOST", "DATABRICKS_TOKEN"):
        monkeypatch.delenv(name)
    with pytest.raises(PostgresError, match="No access to a Databricks workspace"):
        LakebaseLogin(ENDPOINT, profile="kitchen")()
    text = f"[kitchen]\nhost = http://127.0.0.1:{workspace.port}\ntoken = {ACCESS}\n"
    (tmp_path / "databrickscfg").write_text(text)
    assert LakebaseLogin(ENDPOINT, profile="kitchen")() == "first-token"


def test_a_login_works_in_another_process_and_its_pickle_holds_no_secret(
    workspace: Workspace,
) -> None:
    login = LakebaseLogin(ENDPOINT)
    login()
    there = Postgres("postgresql://kitchen@h/d", password=login)
    sent = pickle.dumps(there)
    assert b"token" not in sent
    assert ACCESS.encode() not in sent
    script = "import pickle, sys; print(pickle.load(sys.stdin.buffer).password())"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, input=sent, stdout=subprocess.PIPE, check=True)
    assert done.stdout.decode().strip() == "first-token"
    assert len(workspace.issued) == 2


def test_a_missing_endpoint_is_an_error_that_names_it(workspace: Workspace) -> None:
    with pytest.raises(PostgresError, match="no Lakebase endpoint 'projects/other'") as caught:
        LakebaseLogin("projects/other")()
    assert "endpoints/" in caught.value.hint
    assert workspace.issued == []


def test_an_access_that_is_refused_is_an_error_with_a_cure(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABRICKS_TOKEN", "revoked-8d21")
    with pytest.raises(PostgresError, match="gives no credential") as caught:
        LakebaseLogin(ENDPOINT)()
    assert "databricks auth login" in caught.value.hint
    assert "revoked-8d21" not in caught.value.message
    assert workspace.issued == []


def test_no_access_at_all_is_an_error_with_a_cure(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DATABRICKS_HOST", "DATABRICKS_TOKEN"):
        monkeypatch.delenv(name)
    with pytest.raises(PostgresError, match="No access to a Databricks workspace") as caught:
        LakebaseLogin(ENDPOINT)()
    assert "DATABRICKS_HOST" in caught.value.hint
    assert workspace.issued == []


def test_an_empty_token_is_an_error(workspace: Workspace) -> None:
    workspace.token = ""
    with pytest.raises(PostgresError, match="empty credential"):
        LakebaseLogin(ENDPOINT)()


def test_no_sdk_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    lakebase_login._workspace.cache_clear()
    monkeypatch.setitem(sys.modules, "databricks.sdk", None)
    with pytest.raises(PostgresError, match="not installed") as caught:
        LakebaseLogin(ENDPOINT)()
    assert "caspers_lib[databricks]" in caught.value.hint


def test_the_module_loads_no_sdk() -> None:
    script = (
        "import sys, caspers_lib.lakebase.lakebase_login as m; m.LakebaseLogin('x');"
        "sys.exit('databricks.sdk' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_connections_and_pools_log_in_with_the_token_of_the_moment(
    workspace: Workspace, stock: StockPostgres
) -> None:
    def rotate(token: str) -> None:
        workspace.token = token
        stock.administer("ALTER ROLE {} PASSWORD {token}", "tokened", token=token)

    stock.administer("CREATE ROLE {} LOGIN IN ROLE {}", "tokened", ROLE)
    rotate("token-one")
    there = Postgres(stock.dsn("test", "tokened", None), password=LakebaseLogin(ENDPOINT))
    query = "SELECT pg_backend_pid()"
    try:
        with connection_pool(there, max_size=1) as pool:
            with pool.connection() as connection:
                first = connection.execute(query).fetchone()
            rotate("token-two")
            with connect(there) as connection:
                assert connection.execute("SELECT current_user").fetchone() == ("tokened",)
            with pool.connection() as connection:
                # Logged in already: what the password is now doesn't matter to it.
                assert connection.execute(query).fetchone() == first
            stock.administer("SELECT pg_terminate_backend({pid}::int)", pid=str(first and first[0]))
            with pool.connection() as connection:
                assert connection.execute(query).fetchone() != first
        assert workspace.issued[-1] == "token-two"
    finally:
        stock.administer("DROP ROLE {}", "tokened")
