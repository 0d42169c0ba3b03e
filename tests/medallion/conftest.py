"""A schema of its own for each test that writes tables."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest


@pytest.fixture
def schema(spark: Any, tmp_path: Path) -> Iterator[str]:
    name = f"medallion_{uuid4().hex[:8]}"
    spark.sql(f"CREATE SCHEMA {name} LOCATION '{tmp_path / name}'")
    yield name
    spark.sql(f"DROP SCHEMA {name} CASCADE")
