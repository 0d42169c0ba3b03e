"""The SDK itself, on a clock that moves only when somebody sleeps."""

import os
from collections.abc import Callable, Iterator
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.clock import Clock
from databricks.sdk.config import Config
from databricks.sdk.errors import DatabricksError

from tests.workspace_fake import LoopbackWorkspace


class FakeTime(Clock):
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    for name in ("apps", "jobs", "pipelines", "serving", "sql"):
        module = import_module(f"databricks.sdk.service.{name}")
        monkeypatch.setattr(module, "time", SimpleNamespace(time=fake.time, sleep=fake.sleep))
    return fake


@pytest.fixture
def workspace() -> Iterator[LoopbackWorkspace]:
    with LoopbackWorkspace().running() as running:
        yield running


@pytest.fixture
def connect(
    clock: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> Callable[[LoopbackWorkspace, str], WorkspaceClient]:
    for name in [n for n in os.environ if n.startswith("DATABRICKS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def make(workspace: LoopbackWorkspace, token: str) -> WorkspaceClient:
        return WorkspaceClient(config=Config(host=workspace.url, token=token, clock=clock))

    return make


@pytest.fixture
def client(
    workspace: LoopbackWorkspace, connect: Callable[[LoopbackWorkspace, str], WorkspaceClient]
) -> WorkspaceClient:
    return connect(workspace, workspace.token)


@pytest.fixture
def refuses() -> Callable[..., str]:
    """The message and the code of a refusal."""

    def check(call: Callable[[], Any]) -> str:
        with pytest.raises(DatabricksError) as caught:
            call()
        said = str(caught.value).partition(". Config: ")[0]  # which the SDK appends
        return f"{caught.value.error_code}: {said}"

    return check
