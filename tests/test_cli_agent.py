"""`caspers agent serve` as a process of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import httpx
import pytest
from typer.testing import CliRunner

from caspers_lib.agents.serving.agent_logic import ComplaintAgent, RefundAgent
from caspers_lib.cli import app
from tests.agents.model_server import HANG, KEY, ModelServer
from tests.agents.serving.test_agent_logic import COMPLAINT, FACTS, said

COMMAND = [sys.executable, "-W", "error", "-c", "from caspers_lib.cli import main; main()"]
# mlflow takes these for a test run or a CI, where it reports nothing anyway.
_HINTS = ("PYTEST_CURRENT_TEST", "CI", "GITHUB_ACTIONS")


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _HINTS}
    return kept | {"HOME": str(home), "XDG_CONFIG_HOME": str(home)} | more


@contextmanager
def serving(
    *options: str, folder: Path, **more: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The running process and its address; it is killed at the end, if it still runs."""
    process = subprocess.Popen(
        [*COMMAND, "agent", "serve", *options, "--port", "0"],
        cwd=folder,
        env=environment(folder, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        line = process.stdout.readline()
        name, _, url = line.strip().partition(" agent: ")
        assert name == options[0], process.stderr and process.stderr.read()
        yield process, url
    finally:
        process.kill()
        process.communicate()


def answer(url: str, request: object) -> str:
    body = {"model": "agent", "input": [{"role": "user", "content": said(request)}]}
    document = httpx.post(f"{url}/responses", json=body, timeout=30).raise_for_status().json()
    text: str = document["output"][0]["content"][0]["text"]
    return text


@contextmanager
def connections() -> Iterator[tuple[str, list[bytes]]]:
    """An address, and the beginning of whatever somebody sends there."""
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            try:
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        seen.append(connection.recv(100))
            except OSError:
                return

        thread = Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", seen
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_answers_says_one_line_writes_no_file_calls_nobody_and_stops_cleanly(
    tmp_path: Path, stop: signal.Signals
) -> None:
    with connections() as (proxy, seen):
        proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), proxy)
        with serving("refund", folder=tmp_path, NO_PROXY="", **proxies) as (process, url):
            text = answer(url, FACTS)
            process.send_signal(stop)
            out, err = process.communicate(timeout=60)
    assert text == RefundAgent().reply(said(FACTS)).answer
    assert (process.returncode, out, err) == (0, "", "")
    assert list(tmp_path.rglob("*")) == []
    assert seen == []


def test_the_complaint_agent_is_served_as_well(tmp_path: Path) -> None:
    with serving("complaint", folder=tmp_path) as (_, url):
        assert answer(url, COMPLAINT) == ComplaintAgent().reply(said(COMPLAINT)).answer


def test_a_model_is_asked_with_the_key_from_the_environment_alone(tmp_path: Path) -> None:
    with ModelServer().running() as model:
        options = ("refund", "--model-url", model.url, "--model", "m")
        with serving(*options, folder=tmp_path, CASPERS_MODEL_API_KEY=KEY) as (process, url):
            text = answer(url, FACTS)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
    assert json.loads(text)["source"] == "model"
    assert process.returncode == 0
    assert KEY not in out + err


def test_a_question_in_flight_does_not_keep_it_from_stopping(tmp_path: Path) -> None:
    with ModelServer(then=HANG, key=None).running() as model:
        options = ("refund", "--model-url", model.url, "--model", "m")
        with serving(*options, folder=tmp_path) as (process, url):
            asking = Thread(target=ask_in_vain, args=(url,))
            asking.start()
            while not model.in_flight:
                asking.join(timeout=0.01)
                assert asking.is_alive()
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
            asking.join(timeout=60)
    assert process.returncode == 0


def ask_in_vain(url: str) -> None:
    try:
        answer(url, FACTS)
    except httpx.HTTPError:
        return


def run(*options: str, folder: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    program = f"{before}; from caspers_lib.cli import main; main()".lstrip("; ")
    return subprocess.run(
        [sys.executable, "-c", program, "agent", "serve", *options],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_port_in_use_is_one_line_and_a_hint(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = run("refund", "--port", str(port), folder=tmp_path)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.splitlines() == [
        f"error: port {port} on 127.0.0.1 is in use by another program",
        "hint: --port 0 picks a free one",
    ]


def test_a_package_that_is_missing_is_named_with_its_extra(tmp_path: Path) -> None:
    ran = run("refund", folder=tmp_path, before="import sys; sys.modules['mlflow'] = None")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.splitlines() == [
        "error: An agent's server needs the package mlflow, which is not installed",
        "hint: pip install 'caspers_lib[agents]'",
    ]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["refund", "--model", "m"], "--model-url and --model belong together"),
        (["refund", "--model-url", "http://localhost/v1"], "belong together"),
        (["waiter"], "waiter"),
        ([], "Missing argument"),
    ],
)
def test_bad_usage_is_said_with_exit_code_2(options: list[str], reason: str) -> None:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["agent", "serve", *options])
    assert result.exit_code == 2
    assert reason in result.stderr
