"""The embedded server against what goes wrong on real machines."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from caspers_lib.errors import PostgresError
from caspers_lib.lakebase import watchdog
from caspers_lib.lakebase.binaries import PostgresBinaries, find_binaries
from caspers_lib.lakebase.connection import connect
from caspers_lib.lakebase.server import EmbeddedPostgres, running_dsn
from caspers_lib.lakebase.server_remains import area_prefix
from tests.lakebase.stock_postgres import stock_programs
from tests.lakebase.test_server import python_for

LIMIT_SECONDS = 60.0  # only how long a broken server may hold up the tests

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
with_proc = pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="needs /proc")

USER = """
import sys
from pathlib import Path
from caspers_lib.lakebase.server import EmbeddedPostgres
for _ in range(int(sys.argv[2])):
    with EmbeddedPostgres(Path(sys.argv[1])) as server:
        server.ensure_database("shared")
        print(server.dsn("shared"), flush=True)
        if sys.argv[2] == "1":
            sys.stdin.read()
"""


@pytest.fixture
def root(short_folder: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir=short_folder))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def use(data: Path, times: int = 1) -> "subprocess.Popen[str]":
    """Another process that uses the server, once until its input ends or some times in a row."""
    command = [sys.executable, "-c", USER, str(data), str(times)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def living(data: Path) -> list[int]:
    """Processes that work in a data folder, also one that has been moved since."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                here = str((entry / "cwd").readlink())
            except OSError:
                continue
            if here.removesuffix(" (deleted)").startswith(str(data.parent)):
                found.append(int(entry.name))
    return found


def answer(server: EmbeddedPostgres, query: str = "SELECT 42") -> Any:
    with connect(server.dsn("postgres")) as connection:
        row = connection.execute(query.encode()).fetchone()
        return row and row[0]


def kill_server(data: Path) -> int:
    record = watchdog.read_record(data)
    assert record is not None
    os.kill(record.pid, signal.SIGKILL)
    assert eventually(lambda: running_dsn(data, "postgres") is None)
    return record.pid


def system_binaries() -> PostgresBinaries:
    return PostgresBinaries(stock_programs(), "the system's")


@with_proc
@pytest.mark.parametrize("moment", ["", "data-new-*", "data", "data/postmaster.pid"])
def test_ten_processes_start_one_server_together_even_if_the_one_that_starts_it_is_killed(
    root: Path, moment: str
) -> None:
    data = root / "data"
    users = [use(data) for _ in range(10)]
    try:
        if moment:
            assert eventually(lambda: any(root.glob(moment)))
            starter = lock_holder(root / "start.lock")
            for user in [user for user in users if user.pid == starter]:
                user.kill()
                user.communicate()
                users.remove(user)
        dsns = {user.stdout.readline() for user in users if user.stdout}
        assert len(dsns) == 1
        with psycopg.connect(dsns.pop().strip()) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        for user in users:
            user.kill()
            user.communicate()
    assert eventually(lambda: not living(data))


def lock_holder(lock: Path) -> int | None:
    """The process that holds a lock now."""
    inode = f":{lock.stat().st_ino} "
    for line in Path("/proc/locks").read_text().splitlines():
        if inode in line and "->" not in line:
            return int(line.split()[4])
    return None


@with_proc
def test_processes_that_come_and_go_always_find_a_server(root: Path) -> None:
    data = root / "data"
    users = [use(data, times=4) for _ in range(5)]
    told = [user.communicate()[0].splitlines() for user in users]
    assert [len(lines) for lines in told] == [4] * 5
    assert [user.returncode for user in users] == [0] * 5
    assert eventually(lambda: not living(data))


@with_proc
@pytest.mark.parametrize("seconds", [0.05, 0.3, 0.6, 1.2])
def test_a_first_start_killed_at_any_moment_leaves_nothing_that_runs_or_hinders(
    root: Path, seconds: float
) -> None:
    data = root / "data"
    starter = use(data)
    assert eventually((root / "users.lock").exists)
    time.sleep(seconds)
    starter.kill()
    starter.communicate()
    with EmbeddedPostgres(data) as server:
        assert answer(server) == 42
    assert eventually(lambda: not living(data))
    assert sorted(path.name for path in root.iterdir() if path.name.startswith("data")) == ["data"]


@with_proc
def test_a_back_end_that_works_on_after_the_server_was_killed_is_no_obstacle(root: Path) -> None:
    data = root / "data"
    with EmbeddedPostgres(data) as server:
        busy = psycopg.connect(server.dsn("postgres"))
        pid = busy.info.backend_pid

        def work() -> None:
            with pytest.raises(psycopg.OperationalError):
                busy.execute("SELECT count(*) FROM generate_series(1, 100000000000)")

        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(0.5)
        kill_server(data)
        try:
            with EmbeddedPostgres(data) as again:
                assert answer(again) == 42
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            thread.join()
            busy.close()


@pytest.mark.parametrize(
    "name",
    [" quo't\"es né-ключ-🍜", "back\\slash %s %20 $HOME `x` ;&|*?#", "x" * 130, "com,ma",
     b"\xff\xfe".decode(errors="surrogateescape")],
)  # fmt: skip
def test_a_difficult_path_is_none_for_the_server(root: Path, name: str) -> None:
    data = root / name / "data"
    with EmbeddedPostgres(data) as server:
        server.ensure_database("dätä \"b'ase %41")
        with connect(server.dsn("dätä \"b'ase %41")) as connection:
            assert connection.execute("SELECT 42").fetchone() == (42,)
        kill_server(data)
        with EmbeddedPostgres(data) as again:
            assert answer(again) == 42
    assert eventually(lambda: not (data / "postmaster.pid").exists())


def test_a_line_break_in_the_path_is_an_error_that_says_so(root: Path) -> None:
    with pytest.raises(PostgresError, match="line break") as caught:
        EmbeddedPostgres(root / "new\nline" / "data").start()
    assert len(caught.value.message.splitlines()) == 1
    assert list(root.iterdir()) == []


def test_the_temporary_folder_of_a_start_that_was_killed_goes_and_another_servers_stays(
    root: Path,
) -> None:
    temporary = root / "tmp"
    temporary.mkdir()
    data = root / ("x" * 130) / "data"
    other = temporary / f"{area_prefix(root / 'other' / 'data')}0"
    for left in (temporary / f"{area_prefix(data)}0", other):
        (left / "run").mkdir(parents=True)
    with EmbeddedPostgres(data, temporary=temporary) as server:
        assert answer(server) == 42
    assert list(temporary.iterdir()) == [other]


@with_proc
def test_a_server_whose_start_was_killed_and_that_comes_up_late_is_no_obstacle(root: Path) -> None:
    real = find_binaries()
    wrapped = root / "bin"
    wrapped.mkdir()
    (wrapped / "initdb").symlink_to(real.folder / "initdb")
    # The first start brings up the killed one's server, then loses its socket to the next starter.
    (wrapped / "pg_ctl").write_text(
        f"""#!/bin/sh
if mkdir '{root}/first'; then
  '{real.folder}/pg_ctl' "$@" && rm '{root}/run/.s.PGSQL.5432'
fi
exec '{real.folder}/pg_ctl' "$@"
"""
    )
    (wrapped / "pg_ctl").chmod(0o755)
    data = root / "data"
    root.chmod(0o777)
    with EmbeddedPostgres(data, binaries=lambda: PostgresBinaries(wrapped, "wrapped")) as server:
        assert answer(server) == 42
        assert (root / "first").is_dir()
    assert eventually(lambda: not living(data))


def test_a_running_server_whose_socket_was_removed_is_an_error_that_says_so(root: Path) -> None:
    data = root / "data"
    with EmbeddedPostgres(data):
        (root / "run" / ".s.PGSQL.5432").unlink()
        with pytest.raises(PostgresError, match="does not answer at its socket"):
            EmbeddedPostgres(data).start()


@as_root
def test_a_user_without_a_name_is_told_what_to_do(root: Path) -> None:
    os.chown(root, 54321, 54321)
    options: dict[str, Any] = {
        "user": 54321,
        "group": 54321,
        "extra_groups": [],
        "cwd": "/",
        "env": {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    }
    start = (
        "import sys; from pathlib import Path; from caspers_lib.errors import PostgresError\n"
        "from caspers_lib.lakebase.server import EmbeddedPostgres\n"
        "try: EmbeddedPostgres(Path(sys.argv[1])).start()\n"
        "except PostgresError as error: print(error.message, error.hint)"
    )
    command = [python_for(options), "-c", start, str(root / "data")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, **options)
    assert "effective user ID 54321" in done.stdout
    assert "/etc/passwd" in done.stdout


def test_the_systems_programs_serve_as_well(root: Path) -> None:
    with EmbeddedPostgres(root / "data", binaries=system_binaries) as server:
        assert answer(server) == 42
        assert server.origin == "the system's"


def test_data_of_another_version_is_left_alone_and_both_versions_are_named(root: Path) -> None:
    data = root / "data"
    with EmbeddedPostgres(data, binaries=system_binaries) as server:
        assert answer(server) == 42
    version = (data / "PG_VERSION").read_text().strip()
    with pytest.raises(PostgresError, match=rf"version {version}\b.*version 18") as caught:
        EmbeddedPostgres(data).start()
    assert len(caught.value.message.splitlines()) == 1
    with EmbeddedPostgres(data, binaries=system_binaries) as server:
        assert answer(server) == 42


@as_root
def test_a_root_that_cannot_be_written_is_an_error_with_a_hint(root: Path) -> None:
    (root / "closed").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(root / "closed")]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is not permitted")
    try:
        with pytest.raises(PostgresError, match="Read-only file system") as caught:
            EmbeddedPostgres(root / "closed" / "postgres" / "data").start()
        assert "ROOT" in caught.value.hint
    finally:
        subprocess.run(["umount", str(root / "closed")], check=True)


@pytest.fixture
def small_disk(root: Path) -> Iterator[Path]:
    disk = root / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100m,mode=755", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted")
    yield disk
    assert eventually(lambda: not living(disk / "postgres" / "data"))
    subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return ballast


def test_a_disk_too_full_for_a_first_start_is_an_error_that_says_so(small_disk: Path) -> None:
    ballast = fill(small_disk)
    data = small_disk / "postgres" / "data"
    with pytest.raises(PostgresError, match=r"(?i)no space left") as caught:
        EmbeddedPostgres(data).start()
    assert len(caught.value.message.splitlines()) == 1
    with ballast.open("r+b") as file:
        file.truncate(ballast.stat().st_size - 10_000_000)
    with pytest.raises(PostgresError, match=r"(?i)no space left"):
        EmbeddedPostgres(data).start()
    ballast.unlink()
    with EmbeddedPostgres(data) as server:
        assert answer(server) == 42


def test_a_disk_that_fills_up_loses_nothing_that_was_committed(small_disk: Path) -> None:
    data = small_disk / "postgres" / "data"
    committed = 0
    with EmbeddedPostgres(data) as server:
        with connect(server.dsn("postgres")) as connection:
            connection.execute("CREATE TABLE t (n int, filler text)")
        with pytest.raises(psycopg.Error):
            while True:
                with connect(server.dsn("postgres")) as connection:
                    connection.execute(
                        "INSERT INTO t SELECT %s, string_agg(md5(random()::text), '') "
                        "FROM generate_series(1, 100), generate_series(1, 200) i GROUP BY i",
                        (committed,),
                    )
                committed += 1
    ballast = fill(small_disk)
    with pytest.raises(PostgresError, match=r"(?i)no space left"):
        EmbeddedPostgres(data).start()
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=300m", str(small_disk)], check=True)
    with EmbeddedPostgres(data) as server:
        assert answer(server, "SELECT count(DISTINCT n) FROM t") == committed > 0
        assert answer(server, "SELECT count(*) FROM t") == committed * 200
