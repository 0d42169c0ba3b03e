"""Executors in processes of their own, with the wheel shipped to them (docs/invariants.md, 9)."""

import json
import os
import site
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyspark
import pytest

from caspers_lib.lakebase.server import EmbeddedPostgres
from caspers_lib.replay.clock import start_clock
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.event_batches import event_batches
from caspers_lib.replay.state import ReplayState, StateStore
from caspers_lib.replay.window import Window
from caspers_lib.runtime.java import find_java
from caspers_lib.runtime.spark import FEW_ROWS, session_config
from tests.replay.cluster_program import outcomes

pytestmark = pytest.mark.spark

ROOT = Path(__file__).parents[2]
MASTER = "local-cluster[2,1,1024]"
DAY = 86_400
SHIFT = 1000 * DAY
PROGRAM_SECONDS = 600


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """The wheel, under the extension by which Spark puts an artifact on Python's path."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    built = next((tmp_path / "dist").glob("*.whl"))
    return built.rename(built.with_suffix(".zip"))


@pytest.fixture
def spark_home(tmp_path: Path) -> Path:
    """The installed Spark under a name of ours: its workers write into their home."""
    home = tmp_path / "spark_home"
    home.mkdir()
    for entry in Path(pyspark.__file__).parent.iterdir():
        (home / entry.name).symlink_to(entry)
    return home


@pytest.fixture
def bare_python(tmp_path: Path) -> Path:
    """A Python that sees the installed packages but not the editable install of this library."""
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True
    )
    return tmp_path / "bare" / "bin" / "python"


@pytest.fixture
def state(small: EventsFile, tmp_path: Path) -> Path:
    """A replay that is paused in its second loop."""
    now = 1_795_000_000.0
    clock = start_clock(now, epoch=small.epoch, start_day=1, speed=60.0).paused(now)
    stands = ReplayState(
        simulation_start=now,
        epoch=small.epoch,
        cycle_seconds=small.cycle_seconds,
        shift_seconds=SHIFT,
        clock=clock.moved_to(small.epoch + 4.5 * DAY, now),
        watermark=0.0,
    )
    StateStore(tmp_path / "misc").save(stands)
    return tmp_path / "misc"


def mapped(dataset: EventsFile, after: float | None, until: float) -> list[str]:
    """The window's events by the mapping in this process, as JSON texts, sorted."""
    window = Window(after, until)
    batches = event_batches(dataset, window, SHIFT, form="columns")
    rows = [row for batch in batches for row in batch.to_pylist()]
    return sorted(json.dumps(row, separators=(",", ":"), ensure_ascii=False) for row in rows)


@pytest.fixture
def submit(
    wheel: Path, spark_home: Path, bare_python: Path, tmp_path: Path
) -> Callable[..., dict[str, Any]]:
    """Runs the program as one submits it to a cluster, and gives its report."""

    def run(*words: str) -> dict[str, Any]:
        java = find_java(tmp_path / "work")
        config = session_config(tmp_path / "warehouse", port=0, java_options=java.options)
        config |= FEW_ROWS
        config["spark.local.dir"] = str(tmp_path / "work")
        # Packages found this way come without the .pth files that make an editable install.
        packages = os.pathsep.join(site.getsitepackages())
        config["spark.executorEnv.PYTHONPATH"] = packages
        # The driver, which plans streams, has the wheel installed; executors are only sent it.
        installed = tmp_path / "installed"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(installed)
        options = [x for item in config.items() for x in ("--conf", "=".join(item))]
        program = Path(__file__).with_name("cluster_program.py")
        answer = subprocess.run(
            [str(spark_home / "bin" / "spark-submit"), "--master", MASTER, *options,
             "--py-files", str(wheel), str(program), *words],
            cwd=tmp_path,
            env={
                **_environment(java.home, spark_home, bare_python),
                "PYTHONPATH": os.pathsep.join([str(installed), packages]),
            },
            capture_output=True,
            text=True,
            timeout=PROGRAM_SECONDS,
            check=False,
        )  # fmt: skip
        (tmp_path / "cluster.log").write_text(answer.stderr, encoding="utf-8")
        errors = [line for line in answer.stderr.splitlines() if "Error: " in line]
        assert answer.returncode == 0, (tmp_path / "cluster.log", errors[:5])
        report: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
        return report

    return run


@pytest.fixture
def tried_database(tmp_path: Path) -> Iterator[str]:
    """A database that executors can reach."""
    with EmbeddedPostgres(tmp_path / "postgres" / "data") as server:
        server.ensure_database("tried")
        yield server.dsn("tried")


def _environment(java: Path, spark_home: Path, python: Path) -> dict[str, str]:
    """This process's, without what its own Spark left in it."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SPARK_", "PYSPARK_"))}
    return {
        **kept,
        "JAVA_HOME": str(java),
        "SPARK_HOME": str(spark_home),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": str(python),
        "PYTHONSAFEPATH": "1",
    }


def test_every_spark_function_gives_the_same_on_executors_that_have_only_the_wheel(
    spark: Any,
    submit: Callable[..., dict[str, Any]],
    small: EventsFile,
    state: Path,
    tried_database: str,
    tmp_path: Path,
) -> None:
    dataset = str(small.path)
    report = submit(dataset, str(state), str(tmp_path / "there"), tried_database)

    executors = {Path(folder).name for _, folder in report["workers"]}
    assert executors == {"0", "1"}
    for origin, folder in report["workers"]:
        assert origin.endswith(".zip/caspers_lib/__init__.py"), origin
        assert not folder.startswith(str(ROOT))

    found = report["outcomes"]
    begin = small.epoch
    assert found["batch"] == mapped(small, begin + 1.5 * DAY, begin + 3.25 * DAY)
    assert found["stream"] == mapped(small, None, begin + 4.5 * DAY)
    here = outcomes(spark, dataset, str(state), tmp_path / "here", tried_database)
    assert all(here.values())
    assert found == here
