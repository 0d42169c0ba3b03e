"""The pipeline's example by the commands in its own first lines; only its folder is another."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from deltalake import DeltaTable

from caspers_lib.medallion.registration import table_names
from caspers_lib.replay import EventsFile, Replay, StateStore, VolumeSink
from caspers_lib.replay.generator import generate_dataset
from caspers_lib.replay.volume_sink import count_events
from caspers_lib.runtime.java import find_java
from caspers_lib.runtime.spark import DELTA_PACKAGE

LAKEFLOW = Path(__file__).parents[1] / "examples" / "lakeflow"
FOLDER = "/tmp/caspers"


def commands() -> list[str]:
    lines = (LAKEFLOW / "bronze.yml").read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("#   ") for line in lines if line.startswith("#   ")]


def test_the_commands_and_settings_fit_the_files() -> None:
    assert [line.split()[-1] for line in commands()[2:]] == ["bronze.yml", "silver.yml"]
    lines = (LAKEFLOW / "spark-defaults.conf").read_text(encoding="utf-8").splitlines()
    settings = dict(line.split(maxsplit=1) for line in lines if not line.startswith("#"))
    assert settings["spark.jars.packages"] == DELTA_PACKAGE
    assert FOLDER not in (LAKEFLOW / "order_items.py").read_text(encoding="utf-8")


@pytest.mark.full
def test_the_commands_fill_every_table(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    for file in LAKEFLOW.glob("*.*"):
        text = file.read_text(encoding="utf-8").replace(FOLDER, str(tmp_path))
        (project / file.name).write_text(text, encoding="utf-8")
    dataset = EventsFile.open(generate_dataset(tmp_path / "dataset", days=3, scale=0.05))
    sink, store = VolumeSink(tmp_path / "events"), StateStore(tmp_path / "misc")
    Replay(dataset, sink, store, start_day=2, speed=60.0).tick(1_795_600_800.0)

    others = {k: v for k, v in os.environ.items() if not k.startswith(("SPARK_", "PYSPARK_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    java = find_java(tmp_path / "java").home
    done = subprocess.run(
        ["bash", "-ec", "\n".join(commands())],
        cwd=project,
        env=others | {"PATH": path, "JAVA_HOME": str(java)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    warehouse = tmp_path / "warehouse" / "lakeflow.db"
    rows = {t: DeltaTable(warehouse / t).to_pyarrow_table().num_rows for t in table_names()}
    assert rows["all_events"] == count_events(tmp_path / "events") > 500
    assert {table for table, number in rows.items() if not number} == {"quarantined_events"}
