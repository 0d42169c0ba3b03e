"""One Spark for the whole test run: tiny, UTC, no UI."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from caspers_lib.lakebase import server
from caspers_lib.runtime.spark import FEW_ROWS, start_session, stop_session

# No test fails because the machine is busy.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

# As `start_session` sets it, which comes too late here: tests load gRPC before.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

# The tests' JVMs live for seconds: its first compiler alone starts them in two thirds of the time.
_SHORT_LIVED = "-XX:TieredStopAtLevel=1"
os.environ.setdefault("JAVA_TOOL_OPTIONS", _SHORT_LIVED)


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Servers hand commits to the operating system only; tests kill programs, not machines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "SETTINGS", {**server.SETTINGS, "fsync": "off"})
        patch.setattr(server, "_INITDB", (*server._INITDB, "--no-sync"))
        yield


@pytest.fixture(scope="session")
def spark(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    root = tmp_path_factory.mktemp("spark")
    full = request.config.getoption("markexpr") == "full"
    # This one lives for many minutes: the second compiler pays. Options of the user's stay.
    with pytest.MonkeyPatch.context() as patch:
        if os.environ.get("JAVA_TOOL_OPTIONS") == _SHORT_LIVED:
            patch.delenv("JAVA_TOOL_OPTIONS")
        session = start_session(
            root / "warehouse",
            log=root / "spark.log",
            work=root / "work",
            config={} if full else FEW_ROWS,
        )
    yield session
    stop_session(session)
