"""TLS to a stock server whose certificate a root of its own has signed."""

from pathlib import Path

import pytest

from caspers_lib.errors import PostgresError
from caspers_lib.lakebase.connection import connect
from tests.lakebase.stock_postgres import StockPostgres

ENCRYPTED = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


def encrypted(stock: StockPostgres, mode: str, root: Path | None = None) -> bool:
    certificate = "" if root is None else f"&sslrootcert={root}"
    with connect(f"{stock.dsn('test')}?sslmode={mode}{certificate}") as connection:
        row = connection.execute(ENCRYPTED).fetchone()
    assert row is not None
    return bool(row[0])


def test_encryption_is_used_where_required_and_only_there(stock: StockPostgres) -> None:
    assert encrypted(stock, "require")
    assert not encrypted(stock, "disable")


def test_the_server_is_verified_by_the_right_root(stock: StockPostgres) -> None:
    assert encrypted(stock, "verify-full", stock.authority.root)


def test_another_root_is_an_error_that_says_so(stock: StockPostgres) -> None:
    with pytest.raises(PostgresError, match="certificate verify failed") as caught:
        encrypted(stock, "verify-full", stock.stranger.root)
    assert "sslrootcert" in caught.value.hint


def test_another_name_than_the_certificates_is_an_error(stock: StockPostgres) -> None:
    dsn = stock.dsn("test").replace("127.0.0.1", "localhost")
    with pytest.raises(PostgresError, match="does not match"):
        connect(f"{dsn}?hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert={stock.authority.root}")


def test_a_root_that_is_missing_is_an_error_at_once(stock: StockPostgres, tmp_path: Path) -> None:
    with pytest.raises(PostgresError, match="root certificate file") as caught:
        encrypted(stock, "verify-full", tmp_path / "missing.crt")
    assert "sslrootcert" in caught.value.hint
