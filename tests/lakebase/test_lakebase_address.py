"""The file that tells an app where its databases are: there and back, and what is no such file."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from caspers_lib.errors import PostgresError
from caspers_lib.lakebase.lakebase_address import (
    ADDRESSES_FILE,
    LakebaseAddress,
    addresses_text,
    read_addresses,
)
from caspers_lib.lakebase.lakebase_login import LakebaseLogin

ADDRESS = LakebaseAddress("projects/x/branches/y/endpoints/z", "z.example")


@given(st.dictionaries(st.text(), st.builds(LakebaseAddress, st.text(), st.text()), max_size=3))
def test_what_is_written_is_read_and_the_same_gives_the_same_text(
    tmp_path_factory: pytest.TempPathFactory, addresses: dict[str, LakebaseAddress]
) -> None:
    folder = tmp_path_factory.mktemp("app")
    text = addresses_text(addresses)
    (folder / ADDRESSES_FILE).write_bytes(text.encode())
    assert read_addresses(folder) == addresses
    assert addresses_text(dict(reversed(addresses.items()))) == text


def test_without_the_file_there_are_no_databases(tmp_path: Path) -> None:
    assert read_addresses(tmp_path) == {}


@pytest.mark.parametrize(
    "text", ["", "no", "[]", "1", '{"a": 1}', '{"a": {}}', '{"a": {"host": "h"}}', b"\xff"]
)
def test_a_file_that_says_something_else_is_an_error(tmp_path: Path, text: str | bytes) -> None:
    content = text if isinstance(text, bytes) else text.encode()
    (tmp_path / ADDRESSES_FILE).write_bytes(content)
    with pytest.raises(PostgresError, match=r"in lakebase\.json can't be read") as caught:
        read_addresses(tmp_path)
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_a_database_is_reached_at_its_own_host_with_passwords_of_its_own_endpoint() -> None:
    access = ADDRESS.postgres("o'brien db", user="me", profile="p")
    assert conninfo_to_dict(access.dsn) == {
        "host": "z.example",
        "dbname": "o'brien db",
        "user": "me",
        "sslmode": "require",
    }
    assert access.password == LakebaseLogin(ADDRESS.endpoint, profile="p")
    # As for an app: the platform gives it PGUSER.
    assert "user" not in conninfo_to_dict(ADDRESS.postgres("db").dsn)
