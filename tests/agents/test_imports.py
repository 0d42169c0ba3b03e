import subprocess
import sys

PURE = (
    "complaint_draws",
    "complaint_texts",
    "contracts",
    "refund_policy",
    "tables",
    "triage_policy",
)


def test_policies_and_contracts_load_no_spark() -> None:
    imports = "; ".join(f"import caspers_lib.agents.{name}" for name in PURE)
    check = f"{imports}; import sys; sys.exit('pyspark' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
