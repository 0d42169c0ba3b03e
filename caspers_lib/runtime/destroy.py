"""Removing what the library made under a local ROOT, and nothing else."""

import shutil
from pathlib import Path

from caspers_lib.errors import RootError
from caspers_lib.runtime.local_root import LocalRoot, Owner, locked

__all__ = ["destroy_root", "removable"]


def removable(root: LocalRoot) -> tuple[Path, ...]:
    """The folders that `destroy_root` would remove, in its order."""
    return tuple(part for part in root.parts if part.exists())


def destroy_root(root: LocalRoot) -> tuple[Path, ...]:
    """Remove everything the library made; a run that was cut off is finished by the next.

    It takes a ROOT of any version, domain or state. ROOT itself goes too if nothing else is in it.

    Returns:
        what was removed.

    Raises:
        RootLockedError: a process owns ROOT.
        RootError: something can't be removed.
    """
    if not removable(root):
        return ()
    with locked(root, Owner.this_process("caspers destroy")):
        parts = removable(root)
        for part in parts:
            _remove(part)
    if not any(root.path.iterdir()):
        root.path.rmdir()
        return (*parts, root.path)
    return parts


def _remove(part: Path) -> None:
    try:
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink()
    except OSError as error:
        raise RootError(
            f"{error.filename or part} can't be removed: {error.strerror}",
            hint="run `caspers destroy` again once it can",
        ) from error
