"""The example, unmodified, under open-source Spark's own `spark-pipelines run`."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.medallion.business import HOUR, START, Business

pytestmark = pytest.mark.spark

EXAMPLE = Path(__file__).parents[2] / "examples" / "lakeflow"
SPARK_PIPELINES = Path(sys.executable).parent / "spark-pipelines"


@pytest.fixture
def run(spark: Any, schema: str, tmp_path: Path) -> Callable[[str], None]:
    """Runs a spec of the example against the tests' Spark, with folders and schema of its own."""
    port = spark.conf.get("spark.connect.grpc.binding.port")
    token = {"SPARK_CONNECT_AUTHENTICATE_TOKEN": spark.client._builder.token}
    project = tmp_path / "project"
    project.mkdir()
    shutil.copy(EXAMPLE / "order_items.py", project)

    def command(name: str) -> None:
        spec = yaml.safe_load((EXAMPLE / f"{name}.yml").read_text())
        assert spec["database"] == "lakeflow"
        spec["storage"] = (tmp_path / "checkpoints").as_uri()
        spec["database"] = schema
        spec["configuration"]["caspers.events"] = str(tmp_path / "events")
        (project / f"{name}.yml").write_text(yaml.safe_dump(spec))
        words = ["--remote", f"sc://localhost:{port}", "run", "--spec", f"{name}.yml"]
        answer = subprocess.run(
            [str(SPARK_PIPELINES), *words],
            cwd=project,
            env={**os.environ, "PYSPARK_PYTHON": sys.executable, **token},
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr

    return command


def test_the_example_keeps_every_table_equal_to_the_oracle_over_two_runs(
    spark: Any, schema: str, tmp_path: Path, run: Callable[[str], None], small_dataset: Path
) -> None:
    business = Business(spark, schema, tmp_path, small_dataset, days=3, start_day=1)
    for hours in (0, 6):
        now = START + hours * HOUR
        business.tick(now)
        run("bronze")
        run("silver")
        assert business.faults(now) == {}, f"after {hours} hours"
