"""Data folders that were copied, moved or linked: a record that travelled is not believed."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from caspers_lib.lakebase import watchdog
from caspers_lib.lakebase.server import EmbeddedPostgres, running_dsn


@pytest.fixture
def root(short_folder: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir=short_folder))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def execute(server: EmbeddedPostgres, text: str) -> None:
    with psycopg.connect(server.dsn("postgres"), autocommit=True) as connection:
        connection.execute(text.encode())


def notes(server: EmbeddedPostgres) -> list[str]:
    with psycopg.connect(server.dsn("postgres")) as connection:
        return [row[0] for row in connection.execute("SELECT note FROM notes ORDER BY note")]


def copy_while_running(original: Path, copy: Path) -> None:
    """As a backup does; sockets stay behind, everything becomes ours."""
    shutil.copytree(
        original,
        copy,
        ignore=lambda _folder, names: [name for name in names if name.startswith(".s.PGSQL")],
    )


# The socket of a short path lies beside the data, that of a long one in a temporary folder.
@pytest.mark.parametrize("parent", ["short", "x" * 130])
def test_the_copy_of_a_running_servers_folder_gets_a_server_of_its_own(
    root: Path, parent: str
) -> None:
    original, copy = root / parent / "a", root / parent / "b"
    with EmbeddedPostgres(original / "data") as first:
        execute(first, "CREATE TABLE notes AS SELECT 'both' AS note")
        execute(first, "CHECKPOINT")
        copy_while_running(original, copy)
        assert running_dsn(copy / "data", "postgres") is None
        with EmbeddedPostgres(copy / "data") as second:
            assert second.dsn("postgres") != first.dsn("postgres")
            execute(second, "INSERT INTO notes VALUES ('the copy')")
            assert notes(second) == ["both", "the copy"]
        assert notes(first) == ["both"]


def test_the_original_is_not_signalled_for_a_copy_that_nobody_uses(root: Path) -> None:
    with EmbeddedPostgres(root / "a" / "data") as first:
        copy_while_running(root / "a", root / "b")
        data = root / "b" / "data"
        assert not watchdog.stop_server(data)
        assert watchdog.stop_if_unused(data, root / "b" / "users.lock", patience=0)
        execute(first, "SELECT 1")


def test_where_there_is_no_proc_the_record_must_name_the_folder(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, copy = root / "a" / "data", root / "b" / "data"
    with EmbeddedPostgres(original):
        copy_while_running(root / "a", root / "b")
        monkeypatch.setattr(watchdog, "_has_proc", lambda: False)
        for data, is_its in ((original, True), (copy, False)):
            record = watchdog.read_record(data)
            assert record is not None
            assert watchdog.is_server(data, record) is is_its


def test_a_running_server_is_found_after_its_folder_was_moved(root: Path) -> None:
    before, after = root / "before", root / "after"
    with EmbeddedPostgres(before / "data") as server:
        execute(server, "CREATE TABLE notes AS SELECT 'moved' AS note")
        record = watchdog.read_record(before / "data")
        before.rename(after)
        with EmbeddedPostgres(after / "data") as joined:
            assert notes(joined) == ["moved"]
            assert watchdog.read_record(after / "data") == record
        after.rename(before)


@pytest.mark.parametrize("name", ["link/data", "link/../real/data", "real/../link/./data"])
def test_two_names_of_one_folder_share_a_server(root: Path, name: str) -> None:
    (root / "real").mkdir()
    (root / "link").symlink_to("real")
    with EmbeddedPostgres(root / "real" / "data") as server:
        other = Path(os.path.join(root, name))  # noqa: PTH118 - keeps the `..`
        assert running_dsn(other, "postgres") == server.dsn("postgres")
        with EmbeddedPostgres(other) as joined:
            assert joined.dsn("postgres") == server.dsn("postgres")
