"""What can't be done is refused before a JVM starts."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from caspers_lib.cli import app
from caspers_lib.errors import (
    CaspersError,
    ConsoleError,
    JavaError,
    PipelineError,
    PostgresError,
    SettingsError,
    SyncError,
)
from caspers_lib.lakebase.connection import MissingDatabaseError
from caspers_lib.lakebase.server import EmbeddedPostgres
from caspers_lib.replay.generator import generate_dataset
from caspers_lib.runtime import local_business, spark
from caspers_lib.runtime.local_root import LocalRoot, Owner, owned
from caspers_lib.runtime.settings import load_settings

Refused = Callable[..., CaspersError]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_dataset(tmp_path_factory.mktemp("dataset"), days=1, scale=0.02)


@pytest.fixture
def root(tmp_path: Path) -> LocalRoot:
    return LocalRoot(tmp_path / "root", load_settings(environment={}))


@pytest.fixture
def refused(root: LocalRoot, monkeypatch: pytest.MonkeyPatch) -> Refused:
    """Runs a command on ROOT and gives the error that it ends with; no JVM may start."""

    def launch_jvm(*_: object, **__: object) -> None:
        raise AssertionError("a JVM was started")

    monkeypatch.setattr(spark, "launch_jvm", launch_jvm)

    def run(*words: object) -> CaspersError:
        answer = CliRunner().invoke(app, [*map(str, words), "--root", str(root.path)])
        assert isinstance(answer.exception, CaspersError), (answer.exception, answer.output)
        assert len(answer.exception.message.splitlines()) == 1
        return answer.exception

    return run


def begin(root: LocalRoot) -> None:
    """A ROOT that a command has owned."""
    with owned(root, Owner.this_process("caspers demo")):
        pass


def with_table(root: LocalRoot, name: str) -> None:
    """A folder where the table lies."""
    begin(root)
    (root.table(name) / "_delta_log").mkdir(parents=True)


@pytest.fixture
def old_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = tmp_path / "jdk8" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text("#!/bin/sh\necho 'openjdk version \"1.8.0_402\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(java.parent.parent))


@pytest.mark.parametrize("stream", ["refunds", "complaints", "responses"])
def test_a_stream_without_what_it_reads(refused: Refused, stream: str) -> None:
    error = refused("stream", stream)
    assert isinstance(error, PipelineError)
    assert "There is no table" in error.message


def test_a_stream_whose_model_has_no_address(
    refused: Refused, root: LocalRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_table(root, "lakeflow.all_events")
    monkeypatch.setenv("CASPERS_MODEL_BASE_URL", "ftp://nowhere")
    assert isinstance(refused("stream", "refunds"), SettingsError)


def test_a_demo_whose_model_has_no_address(
    refused: Refused, root: LocalRoot, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CASPERS_MODEL_BASE_URL", "ftp://nowhere")
    assert isinstance(refused("demo", "--once", "--port", 0, "--dataset", dataset), SettingsError)
    assert not root.replay_state.exists()


def test_a_pipeline_without_events(refused: Refused) -> None:
    assert "There are no events in" in refused("pipeline", "run").message


@pytest.mark.parametrize("names", [[], ["refunds"], ["orders", "refunds"]])
def test_a_sync_without_its_source(refused: Refused, names: list[str], root: LocalRoot) -> None:
    if "orders" in names:
        with_table(root, "lakeflow.gold_order_header")
    error = refused("sync", *names)
    assert isinstance(error, SyncError)
    assert error.message.startswith("There is no table ")


@pytest.mark.parametrize("what", [[], ["check"], ["plan"]])
def test_a_sync_to_a_server_that_lacks_the_database(
    refused: Refused, root: LocalRoot, tmp_path: Path, what: list[str]
) -> None:
    with_table(root, "recommender.refund_recommendations")
    with EmbeddedPostgres(tmp_path / "pg" / "data") as server:
        error = refused("sync", *what, "refunds", "--dsn", server.dsn("postgres"))
    assert isinstance(error, MissingDatabaseError)


def test_a_sync_to_no_server(
    refused: Refused, root: LocalRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_table(root, "recommender.refund_recommendations")
    monkeypatch.setattr("caspers_lib.lakebase.connection._FIRST_WAIT_SECONDS", 0.0)
    error = refused("sync", "refunds", "--dsn", "postgresql://nobody@no-such-host.invalid/x")
    assert isinstance(error, PostgresError)


@pytest.mark.usefixtures("old_java")
@pytest.mark.parametrize(
    "words", [["stream", "refunds"], ["pipeline", "run"], ["sync", "refunds"], ["up"], ["demo"]]
)
def test_a_java_that_is_too_old(
    refused: Refused, root: LocalRoot, dataset: Path, words: list[str]
) -> None:
    begin(root)
    root.events.mkdir(parents=True)
    synced = "recommender.refund_recommendations"
    with_table(root, synced if words[0] == "sync" else "lakeflow.all_events")
    more = ["--dataset", dataset, "--port", 0] if words[0] in {"up", "demo"} else []
    error = refused(*words, *more)
    assert isinstance(error, JavaError)
    assert "Spark needs 17 or later" in error.message
    assert not root.postgres.exists()


@pytest.mark.parametrize("command", ["demo", "up"])
def test_a_port_in_use(refused: Refused, dataset: Path, command: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        error = refused(command, "--dataset", dataset, "--start-day", 0, "--port", port)
    assert isinstance(error, ConsoleError)
    assert f"port {port}" in error.message


def test_a_machine_without_postgresql(
    refused: Refused, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_binaries() -> None:
        raise PostgresError("PostgreSQL's programs are not installed", hint="install them")

    monkeypatch.setattr(
        local_business,
        "EmbeddedPostgres",
        lambda data: EmbeddedPostgres(data, binaries=find_binaries),
    )
    assert isinstance(refused("up", "--dataset", dataset), PostgresError)


def test_a_root_that_cannot_be_written(refused: Refused, root: LocalRoot) -> None:
    root.path.write_text("a file")
    assert "can't be written" in refused("demo", "--once").message


def test_a_missing_dataset(refused: Refused, root: LocalRoot, tmp_path: Path) -> None:
    error = refused("demo", "--once", "--dataset", tmp_path / "none.parquet")
    assert "There is no dataset at" in error.message
    assert not (root.path / "Volumes").exists()


def test_an_unreadable_dataset(refused: Refused, tmp_path: Path) -> None:
    broken = tmp_path / "broken.parquet"
    broken.write_text("not parquet")
    assert "can't be read as parquet" in refused("demo", "--dataset", broken).message


def test_a_start_day_outside_the_dataset(refused: Refused, dataset: Path) -> None:
    error = refused("demo", "--dataset", dataset, "--start-day", 3)
    assert "START_DAY is 3" in error.message


def test_a_corrupt_state(refused: Refused, root: LocalRoot, dataset: Path) -> None:
    begin(root)
    root.replay_state.mkdir(parents=True)
    state = root.replay_state / "_replay_state.json"
    state.write_text("{")
    assert "_replay_state.json" in refused("demo", "--dataset", dataset, "--start-day", 0).message
    assert state.read_text() == "{"


def test_a_rate_outside_its_range(refused: Refused) -> None:
    assert "COMPLAINT_RATE is 1.5" in refused("demo", "--complaint-rate", 1.5).message
