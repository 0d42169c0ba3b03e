"""What an import takes that every program pays for, against the SDK's and against its promise."""

import subprocess
import sys
from pathlib import Path
from statistics import median

PROMISE_MS = 100.0
_TIMES = 15
_SCRIPT = (
    "import time; started = time.perf_counter(); import {}; print(time.perf_counter() - started)"
)


def rows(_folder: Path) -> list[tuple[str, str, str, str]]:
    """What was measured, the measure, what it is held against, the ratio; for the table."""
    modules = ("databricks.sdk", "caspers_lib", "caspers_lib.cli", "caspers_lib.workspace")
    sdk, *ours = _import_ms(modules)
    found = []
    for module, took in zip(modules[1:], ours, strict=True):
        found.append(
            (f"import {module}", f"{took:.1f} ms", f"import databricks.sdk {sdk:.0f} ms",
             f"{took / sdk:.3f}x")
        )  # fmt: skip
    found.append(("import caspers_lib", f"{ours[0]:.1f} ms", f"promise {PROMISE_MS:.0f} ms",
                  f"{ours[0] / PROMISE_MS:.3f}x"))  # fmt: skip
    return found


def _import_ms(modules: tuple[str, ...]) -> list[float]:
    """The median time of each import, milliseconds; in turns, so that all see the same machine."""
    took: dict[str, list[float]] = {module: [] for module in modules}
    for _ in range(_TIMES):
        for module in modules:
            ran = subprocess.run(
                [sys.executable, "-c", _SCRIPT.format(module)],
                capture_output=True,
                text=True,
                check=True,
            )
            took[module].append(float(ran.stdout) * 1000)
    return [median(took[module]) for module in modules]
