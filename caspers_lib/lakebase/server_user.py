"""The operating-system user that the embedded server runs as."""

import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caspers_lib.errors import PostgresError

__all__ = ["ServerUser", "server_user"]


@dataclass(frozen=True, slots=True)
class ServerUser:
    """The operating-system user that the server runs as; PostgreSQL refuses root.

    Args:
        uid: user id, None to stay who we are.
        gid: group id.
    """

    uid: int | None = None
    gid: int | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Arguments for `subprocess.run`."""
        if self.uid is None:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, folder: Path) -> None:
        """Hand one folder over.

        Args:
            folder: an existing folder; what is in it stays as it is.
        """
        if self.uid is not None and self.gid is not None:
            os.chown(folder, self.uid, self.gid)

    def own_data(self, folder: Path) -> None:
        """Hand a data folder over with all that is in it, where root copied it.

        Args:
            folder: an existing data folder.
        """
        if self.uid is None or self.gid is None or folder.stat().st_uid == self.uid:
            return
        # The folder itself goes last: it says that all the rest is done.
        for parent, folders, files in os.walk(folder, topdown=False):
            for name in (*folders, *files):
                os.chown(Path(parent, name), self.uid, self.gid, follow_symlinks=False)
        self.own(folder)

    def can_enter(self, folder: Path) -> bool:
        """Whether the user can walk down to a folder.

        Args:
            folder: an existing folder.
        """
        if self.uid is None:
            return True
        walk = ["/bin/sh", "-c", 'cd -P -- "$1"', "sh", str(folder)]
        done = subprocess.run(walk, cwd="/", capture_output=True, check=False, **self.options)
        return done.returncode == 0

    @contextmanager
    def reach(self, folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
        """A path by which the user's programs reach a folder of theirs under a closed parent.

        Where the user can't walk to it (a ROOT under a home with mode 0700) we open it ourselves
        and hand the open folder down: its path below `/proc/self/fd` needs no parent.

        Args:
            folder: an existing folder that the user owns.

        Yields:
            The path, and the file descriptors to pass on.

        Raises:
            PostgresError: there is no such path on this system.
        """
        if self.can_enter(folder):
            yield str(folder), ()
            return
        if not Path("/proc/self/fd").exists():
            raise PostgresError(
                f"User {self.uid}, as which PostgreSQL runs, can't enter {folder}.",
                hint="Start as an ordinary user, or choose a ROOT that every user can walk to.",
            )
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield f"/proc/self/fd/{handle}", (handle,)
        finally:
            os.close(handle)


def server_user(data: Path) -> ServerUser:
    """Who runs the server of a data folder: ourselves; for root the folder's owner, else `nobody`.

    Args:
        data: the data folder, which need not exist.

    Raises:
        PostgresError: root, and the system has no user `nobody`.
    """
    if os.geteuid() != 0:
        return ServerUser()
    if data.exists() and data.stat().st_uid != 0:
        status = data.stat()
        return ServerUser(status.st_uid, status.st_gid)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError as error:
        raise PostgresError(
            "PostgreSQL does not run as root, and there is no user `nobody`.",
            hint="Start as an ordinary user.",
        ) from error
    return ServerUser(nobody.pw_uid, nobody.pw_gid)
