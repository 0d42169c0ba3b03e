"""`caspers console` as a program, and the app of the examples, over a real Postgres."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from psycopg.conninfo import conninfo_to_dict

from caspers_lib.cli.console_view import beside
from caspers_lib.errors import PostgresError
from caspers_lib.runtime.demo import Demo
from caspers_lib.runtime.local_business import LocalBusiness
from caspers_lib.runtime.local_root import LocalRoot
from caspers_lib.runtime.settings import load_settings
from tests.console.page_text import words

CASPERS = Path(sys.executable).with_name("caspers")
PATIENCE_SECONDS = 30
APP = Path(__file__).parents[2] / "examples" / "app" / "app.py"


@contextmanager
def program(*options: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`caspers console` while it runs, and its address."""
    process = subprocess.Popen(
        [str(CASPERS), "console", "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **variables},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("console: http://127.0.0.1:"), process.communicate()
        yield process, line.split()[1]
    finally:
        process.kill()
        process.communicate()


def test_it_shows_what_postgres_knows_and_ends_on_a_signal(business: Any) -> None:
    business.order("order-1")
    business.complaint("c-1")
    with program("--dsn", business.addresses["caspers"]) as (process, url):
        page = words(httpx.get(url, trust_env=False).text)
        ready = httpx.get(f"{url}/readyz", trust_env=False)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert "none runs here: this is what Postgres knows" in page
    assert "order order-1" in page
    assert ready.status_code == 200


def test_it_starts_before_postgres_and_shows_it_once_it_is_there(
    business: Any, tmp_path: Path
) -> None:
    # A socket's folder that comes later, as a server that is started later.
    there = conninfo_to_dict(business.addresses["caspers"])
    later = tmp_path / "run"
    dsn = f"host={later} port={there['port']} user={there['user']} dbname=caspers"
    business.order("order-1")
    with program(CASPERS_DSN=dsn) as (_, url):
        before = httpx.get(f"{url}/live", trust_env=False).text
        later.symlink_to(str(there["host"]))
        until = time.monotonic() + PATIENCE_SECONDS
        after = before
        while "does not answer" in after and time.monotonic() < until:
            after = httpx.get(f"{url}/live", trust_env=False).text
    assert "Database caspers does not answer. Trying again." in before
    assert "does not answer" not in after
    assert "order-1" in after


def test_a_connection_string_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(CASPERS), "console", "--dsn", "password=secret-word ="],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: The connection string of PostgreSQL can't be read.")
    assert "secret-word" not in done.stderr + done.stdout


def test_the_command_obeys_the_variables_of_the_console() -> None:
    dsn = "host=/nowhere dbname=caspers"
    variables = {"CONSOLE_PROXY": "1", "CONSOLE_AGENTS": "Ann", "CONSOLE_ROOT_PATH": "/casper"}
    with program("--dsn", dsn, **variables) as (_, url):
        nobody = httpx.get(f"{url}/casper/api/me", trust_env=False)
        ann = httpx.get(
            f"{url}/casper/api/me", headers={"X-Forwarded-Email": "ann"}, trust_env=False
        )
    assert nobody.status_code == 401
    assert ann.json() == {"name": "ann", "role": "agent"}


@pytest.mark.parametrize("command", [("console", "--dsn", "dbname=x"), ("demo", "--once")])
@pytest.mark.parametrize(
    ("name", "value"), [("CONSOLE_MANAGER", "ann"), ("CONSOLE_EVERYBODY", "king")]
)
def test_a_variable_that_cannot_be_obeyed_is_one_line_before_anything_starts(
    tmp_path: Path, command: tuple[str, ...], name: str, value: str
) -> None:
    done = subprocess.run(
        [str(CASPERS), *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {name: value},
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {name} is ")
    assert list(tmp_path.iterdir()) == []


def test_the_console_of_a_demo_obeys_them_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSOLE_PROXY", "1")
    business = LocalBusiness(LocalRoot(tmp_path, load_settings(environment={})))
    with Demo(business, port=0)._served() as server:
        assert httpx.get(f"{server.url}/refunds", trust_env=False).status_code == 401


def test_the_complaints_are_beside_the_refunds() -> None:
    assert conninfo_to_dict(beside("postgresql://me:word@db:5433/caspers?sslmode=require")) == {
        "user": "me",
        "password": "word",
        "host": "db",
        "port": "5433",
        "dbname": "caspers_complaints",
        "sslmode": "require",
    }
    with pytest.raises(PostgresError):
        beside("=")


def test_the_app_of_the_examples_answers_before_it_has_a_database() -> None:
    spec = importlib.util.spec_from_file_location("console_app", APP)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    client = TestClient(module.app, base_url="http://localhost")
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 503
    page = words(client.get("/").text)
    assert "none runs here: this is what Postgres knows" in page
    assert "Waiting for PostgreSQL to start with database caspers." in page
