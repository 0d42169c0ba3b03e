"""Build the wheel that a deployment ships, and lay it beside the app's code with its requirements.

The version ends in a digest of what the wheel is made of: changed code has another name, which
reaches jobs and pipeline; unchanged code has the same one, so that a deployment changes nothing.
The app runs changed code after `databricks bundle run refund_manager`. `databricks bundle deploy`
runs this; it needs uv and nothing else.
"""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "examples" / "app"
EXTRAS = "console,databricks"


def content_digest(files: Iterable[Path], root: Path) -> str:
    """Digest of names and contents, whatever the order of the files."""
    found = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.relative_to(root).as_posix()):
        for part in (file.relative_to(root).as_posix().encode(), file.read_bytes()):
            found.update(len(part).to_bytes(8, "big") + part)
    return found.hexdigest()[:12]


def wheel_sources(root: Path) -> list[Path]:
    """What the wheel is made of."""
    package = (file for file in (root / "caspers_lib").rglob("*") if file.is_file())
    code = [file for file in package if "__pycache__" not in file.parts]
    return [*code, *(root / name for name in ("pyproject.toml", "README.md", "LICENSE"))]


def main() -> None:
    """Replace what an earlier build left, also beside the app's code."""
    for old in (*(ROOT / "dist").glob("*.whl"), *APP.glob("*.whl")):
        old.unlink()
    code = (ROOT / "caspers_lib" / "__init__.py").read_text(encoding="utf-8")
    [release] = re.findall(r'^__version__ = "(.+)"$', code, re.MULTILINE)
    version = f"{release}+{content_digest(wheel_sources(ROOT), ROOT)}"
    subprocess.run(
        ["uv", "build", "--quiet", "--wheel", "--out-dir", "dist"],  # noqa: S607 - on PATH
        cwd=ROOT,
        env={**os.environ, "CASPERS_VERSION": version},
        check=True,
    )
    [wheel] = (ROOT / "dist").glob("*.whl")
    shutil.copy(wheel, APP)
    (APP / "requirements.txt").write_text(f"./{wheel.name}[{EXTRAS}]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
