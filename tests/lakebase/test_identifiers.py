import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caspers_lib.errors import SyncError
from caspers_lib.lakebase.identifiers import qualified, quote_identifier


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("orders", '"orders"'),
        ("Orders", '"Orders"'),
        ("select", '"select"'),
        ("a.b", '"a.b"'),
        ('a"b', '"a""b"'),
        ('"; DROP TABLE x; --', '"""; DROP TABLE x; --"'),
        ("a\nb", '"a\nb"'),
        ("50%s", '"50%s"'),
        ("é" * 31, '"' + "é" * 31 + '"'),
    ],
)
def test_a_name_is_quoted_literally(name: str, quoted: str) -> None:
    assert quote_identifier(name) == quoted


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 64, "é" * 32, "\ud800"])
def test_a_name_that_postgres_would_not_keep_is_refused(name: str) -> None:
    with pytest.raises(SyncError, match="can't be a PostgreSQL name") as caught:
        quote_identifier(name)
    assert caught.value.hint


def test_schema_and_table_are_quoted_apart() -> None:
    assert qualified("a.b", 'c"d') == '"a.b"."c""d"'


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_quoting_agrees_with_libpq(name: str) -> None:
    if len(name.encode()) <= 63:
        assert quote_identifier(name) == psycopg.sql.Identifier(name).as_string()
