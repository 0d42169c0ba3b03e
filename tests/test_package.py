"""What every module of the package keeps to."""

import importlib
import pkgutil
import subprocess
import sys
from importlib.resources import files

import pytest

import caspers_lib

HEAVY = (
    "pyspark", "delta", "duckdb", "mlflow", "pandas", "httpx", "psycopg", "fastapi", "databricks",
)  # fmt: skip
LIGHT = ("caspers_lib", "caspers_lib.replay.window", "caspers_lib.errors")
PACKAGES = [
    module.name for module in pkgutil.walk_packages(caspers_lib.__path__, "caspers_lib.")
    if module.ispkg
]  # fmt: skip
MODULES = [
    "caspers_lib",
    *(module.name for module in pkgutil.walk_packages(caspers_lib.__path__, "caspers_lib.")),
]


@pytest.mark.parametrize("name", [*LIGHT, *PACKAGES])
def test_importing_it_loads_nothing_heavy_and_says_nothing(name: str) -> None:
    check = f"import sys, {name}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", check], capture_output=True, text=True, check=True
    )
    assert (ran.stdout.strip(), ran.stderr) == ("", "")


@pytest.mark.parametrize("name", MODULES)
def test_all_names_only_what_exists_and_each_once(name: str) -> None:
    module = importlib.import_module(name)
    names = getattr(module, "__all__", [])
    assert len(names) == len(set(names))
    assert [n for n in names if not hasattr(module, n)] == []


def test_every_module_is_found() -> None:
    sources = files("caspers_lib")
    found = {
        str(path.relative_to(str(sources)))
        for path in sources.rglob("*.py")  # type: ignore[attr-defined]
    }
    assert len(found) == len(MODULES)


def test_the_package_is_typed() -> None:
    assert files("caspers_lib").joinpath("py.typed").is_file()


def test_the_version_is_the_one_that_is_installed() -> None:
    from importlib.metadata import version

    assert version("caspers_lib") == caspers_lib.__version__
