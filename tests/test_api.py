"""The names at the packages' level: which they are, and that their examples hold."""

import doctest
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from chispa import assert_df_equality

from caspers_lib.runtime.java import find_java
from caspers_lib.testing import bronze, event, order_events

ROOT = Path(__file__).parents[1]
PACKAGES = ("replay", "medallion", "agents", "lakebase")
API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("package", PACKAGES)
def test_the_page_names_exactly_what_a_package_exports(package: str) -> None:
    section = API.split(f"## `caspers_lib.{package}`")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    named = {name for cell in rows for name in re.findall(r"`(\w+)`", cell)}
    assert named == set(import_module(f"caspers_lib.{package}").__all__)


@pytest.mark.parametrize("name", ["caspers_lib.replay.event", "caspers_lib.testing"])
def test_examples_in_docstrings_hold(name: str) -> None:
    result = doctest.testmod(import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


def test_the_readme_has_the_example_of_the_page() -> None:
    assert ten_lines() in (ROOT / "README.md").read_text(encoding="utf-8")


def ten_lines() -> str:
    (block,) = re.findall(r"```python no-run\n(from chispa.*?)```", API, re.DOTALL)
    return str(block)


@pytest.mark.spark
def test_a_users_own_test_runs_on_the_fixtures_of_the_package(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(ten_lines(), encoding="utf-8")
    java = find_java(tmp_path / "java")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SPARK_", "PYSPARK_"))}
    kept |= {"JAVA_HOME": str(java.home), "JAVA_TOOL_OPTIONS": " ".join(java.options)}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"],
        cwd=tmp_path, capture_output=True, text=True, env=kept, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "1 passed" in ran.stdout


@pytest.mark.spark
def test_a_bronze_table_of_a_few_events_holds_them(spark: Any) -> None:
    rows = bronze(spark, [*order_events("O1")[:2], event("e3", body='{"a": "é\\n"}'), "no JSON"])
    expected = spark.createDataFrame(
        [
            ("O1-0", "order_created", "2024-03-11 00:00:00.000", None),
            ("O1-1", "gk_started", "2024-03-11 00:04:17.142", None),
            ("e3", "gk_started", "2024-03-11 00:00:00.000", None),
            (None, None, None, "no JSON"),
        ],
        "event_id STRING, event_type STRING, ts STRING, _rescued_data STRING",
    )
    actual = rows.select("event_id", "event_type", "ts", "_rescued_data")
    assert_df_equality(actual, expected, ignore_row_order=True, ignore_nullable=True)
