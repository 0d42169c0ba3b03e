"""A schema of its own for each test that writes tables."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from caspers_lib.replay.generator import generate_dataset


@pytest.fixture
def schema(spark: Any, tmp_path: Path) -> Iterator[str]:
    name = f"medallion_{uuid4().hex[:8]}"
    spark.sql(f"CREATE SCHEMA {name} LOCATION '{tmp_path / name}'")
    yield name
    spark.sql(f"DROP SCHEMA {name} CASCADE")


@pytest.fixture(scope="session")
def small_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days, about 120 orders."""
    return generate_dataset(tmp_path_factory.mktemp("dataset"), days=3, scale=0.05)
