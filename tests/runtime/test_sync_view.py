from datetime import UTC, datetime
from pathlib import Path

import pytest

from caspers_lib.cli.sync_view import _check_lines, _Failures, run_sync
from caspers_lib.errors import PostgresError, SyncError
from caspers_lib.lakebase import REFUNDS
from caspers_lib.lakebase.check import Difference, SyncCheck
from caspers_lib.lakebase.target import Position, SyncResult
from caspers_lib.runtime.local_root import LocalRoot
from caspers_lib.runtime.settings import load_settings

NOON = datetime(2024, 3, 11, 12, tzinfo=UTC)
POSITION = Position("id", "generation", 1_234, 3, NOON, NOON, ("order_id",), SyncResult())


@pytest.fixture
def root(tmp_path: Path) -> LocalRoot:
    return LocalRoot(tmp_path / "root", load_settings(environment={}))


def test_a_name_that_is_no_synced_table_is_refused_before_anything_starts(root: LocalRoot) -> None:
    with pytest.raises(SyncError, match="There is no synced table 'nobody'") as caught:
        run_sync(root, ["refunds", "nobody"], dsn=None, reload=False, as_json=True)
    assert "refunds, complaints, complaint_texts, orders" in caught.value.hint
    assert not root.path.exists()


def test_a_root_without_tables_says_what_makes_some(root: LocalRoot) -> None:
    with pytest.raises(SyncError, match="There is no table to sync under") as caught:
        run_sync(root, [], dsn=None, reload=False, as_json=True)
    assert "caspers demo" in caught.value.hint


def test_a_check_is_told_with_its_first_differences() -> None:
    check = SyncCheck(
        REFUNDS, POSITION, 1_000, 999, "12", "-7", 2, 1, 12,
        (Difference(("a'b",), "missing"), Difference(("c",), "different", ("ts", "x"))),
    )  # fmt: skip
    assert not check.is_equal
    assert list(_check_lines([check])) == [
        "refunds: 12 keys differ at commit 1,234; 1,000 rows there, 999 here; checksums 12 and -7",
        '  2 rows are refused, see "recommender"."pg_recommendations_dead_letter"',
        "  1 rows of the source share their key with another",
        '  missing: "a\'b"',
        "  different: 'c' in ts, x",
        "  and 10 more",
    ]


def test_one_table_that_fails_keeps_no_other_from_its_turn_and_is_not_forgotten() -> None:
    failed, done = _Failures(), []
    for number in range(4):
        with failed.kept():
            if number % 2:
                raise PostgresError(f"no {number}.", hint="h")
            done.append(number)
    assert done == [0, 2]
    with pytest.raises(SyncError, match=r"no 1\. Also: no 3\.") as caught:
        failed.raise_first()
    assert caught.value.hint == "h"
    _Failures().raise_first()
