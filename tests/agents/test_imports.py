import subprocess
import sys

import pytest

PURE = (
    "complaint_draws",
    "complaint_texts",
    "complaint_words",
    "contracts",
    "evaluation",
    "labels",
    "model.complaint_prompt",
    "model.instructions",
    "refund_policy",
    "tables",
    "tool_definitions",
    "tool_queries",
    "tools",
    "triage_answer",
    "triage_policy",
)
PACKAGES = ("", ".model", ".serving")
HEAVY = ("duckdb", "httpx", "mlflow", "pyarrow", "pyspark")


def heavy_after(statements: str) -> str:
    """Which heavy packages are loaded once the statements have run."""
    check = f"{statements}; import sys; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    return ran.stdout.strip()


def test_policies_and_contracts_load_no_spark() -> None:
    assert heavy_after("; ".join(f"import caspers_lib.agents.{name}" for name in PURE)) == ""


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_loads_nothing_heavy(package: str) -> None:
    assert heavy_after(f"import caspers_lib.agents{package}") == ""
