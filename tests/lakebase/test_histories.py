"""Long random histories, by Spark and without it; after each step the target equals the source."""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, dataclass, field
from decimal import Decimal
from typing import Any, Literal

import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caspers_lib.lakebase import SyncSpec
from caspers_lib.lakebase.change_feed import SyncRun, sync_once
from caspers_lib.lakebase.check import check_sync
from caspers_lib.lakebase.staging import Staged, copy_rows, staging_table
from caspers_lib.lakebase.target import SyncResult, prepare_target
from caspers_lib.lakebase.upsert import Snapshot, apply_changes, apply_staged
from tests.lakebase.plans import PLAN
from tests.lakebase.test_upsert import HOSTILE, NOON

SPEC = SyncSpec(
    name="things",
    source="lakebase_histories.things",
    keys=("part", "no"),
    database="test",
    schema="things",
    table="pg_things",
)
COLUMNS = (
    "part STRING, no INT, label STRING, usd DECIMAL(12,2), tags ARRAY<STRING>, "
    "place STRUCT<name: STRING, lat: DOUBLE>"
)
PARTS = ("a", "ключ 🍜", 'it\'s "b"')
NUMBERS = 12

Key = tuple[str, int]

# What is done, and how often; `seed` shuffles it.
WRITES = {
    "insert": 4,
    "update": 3,
    "delete": 2,
    "merge": 3,
    "overwrite": 1,
    "replace_part": 2,
    "shift_keys": 2,
    "swap_keys": 2,
    "merge_keys": 2,
    "optimize": 2,
    "set_property": 1,
}
SYNCS = {"sync": 5, "restore": 2, "reload": 1}


class History:
    """A Delta table that is changed at random, and its target."""

    def __init__(self, spark: Any, database: str, seed: int) -> None:
        self.spark, self.database = spark, database
        self.draw = random.Random(seed)
        spark.sql(
            f"CREATE TABLE {SPEC.source} ({COLUMNS}) USING delta TBLPROPERTIES "
            "(delta.enableChangeDataFeed = true, delta.enableDeletionVectors = false)"
        )

    def row(self, key: Key) -> tuple[Any, ...]:
        text = self.draw.choice((None, *HOSTILE))
        usd = self.draw.choice((None, Decimal(self.draw.randrange(-(10**12), 10**12)) / 100))
        tags = self.draw.choice((None, [], [self.draw.choice(HOSTILE), None]))
        place = self.draw.choice((None, (text, None), (text, self.draw.random())))
        return (*key, text, usd, tags, place)

    def keys(self, count: int) -> list[Key]:
        every = [(part, no) for part in PARTS for no in range(NUMBERS)]
        return self.draw.sample(every, count)

    def view(self, keys: list[Key]) -> None:
        """New rows for keys, as the view `drawn`."""
        rows = [self.row(key) for key in keys]
        self.spark.createDataFrame(rows, COLUMNS).createOrReplaceTempView("drawn")

    def source(self) -> dict[Key, tuple[Any, ...]]:
        found = {}
        for row in self.spark.sql(f"SELECT * FROM {SPEC.source}").collect():
            part, no, *values, place = row
            found[(part, no)] = (*values, place and place.asDict())
        return found

    def target(self) -> dict[Key, tuple[Any, ...]]:
        with psycopg.connect(self.database) as connection:
            query = f"SELECT part, no, label, usd, tags, place FROM {SPEC.target}"
            return {
                (part, no): tuple(values)
                for part, no, *values in connection.execute(query.encode())
            }

    def insert(self) -> None:
        there = self.source()
        self.view([key for key in self.keys(10) if key not in there])
        self.spark.sql(f"INSERT INTO {SPEC.source} SELECT * FROM drawn")

    def update(self) -> None:
        no = self.draw.randrange(NUMBERS)
        self.spark.sql(
            f"UPDATE {SPEC.source} SET usd = coalesce(-usd, 1), tags = array(label), label = NULL "
            f"WHERE no BETWEEN {no} AND {no + 3}"
        )

    def shift_keys(self) -> None:
        """Each row takes the key that another one leaves."""
        part = self.draw.choice(PARTS).replace("'", "\\'")
        self.spark.sql(f"UPDATE {SPEC.source} SET no = (no + 1) % {NUMBERS} WHERE part = '{part}'")

    def swap_keys(self) -> None:
        self.spark.sql(
            f"UPDATE {SPEC.source} SET part = if(part = 'a', '{PARTS[1]}', 'a'), "
            f"no = {NUMBERS - 1} - no WHERE part IN ('a', '{PARTS[1]}')"
        )

    def merge_keys(self) -> None:
        """In one commit some rows go, and others take their keys."""
        numbers = self.draw.sample(range(NUMBERS), 6)
        pairs = ", ".join(f"({no}, {to})" for no, to in zip(numbers[:3], numbers[3:], strict=True))
        self.spark.sql(
            f"MERGE INTO {SPEC.source} AS t USING (SELECT no, to, gone FROM VALUES {pairs} "
            "AS moves (no, to) LATERAL VIEW explode(array(true, false)) AS gone) AS m "
            "ON t.no = if(m.gone, m.to, m.no) WHEN MATCHED AND m.gone THEN DELETE "
            "WHEN MATCHED THEN UPDATE SET no = m.to, label = 'moved'"
        )

    def delete(self) -> None:
        no = self.draw.randrange(NUMBERS)
        self.spark.sql(f"DELETE FROM {SPEC.source} WHERE no BETWEEN {no} AND {no + 2}")

    def merge(self) -> None:
        self.view(self.keys(15))
        self.spark.sql(
            f"MERGE INTO {SPEC.source} AS t USING drawn AS d ON t.part = d.part AND t.no = d.no "
            "WHEN MATCHED AND d.no % 3 = 0 THEN DELETE "
            "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
        )

    def overwrite(self) -> None:
        """Some keys go, some come anew, in one commit."""
        self.view(self.keys(12))
        self.spark.sql(f"INSERT OVERWRITE {SPEC.source} SELECT * FROM drawn")

    def replace_part(self) -> None:
        self.view([(part, no) for part in PARTS for no in range(3, 6)])
        self.spark.sql(
            f"INSERT INTO {SPEC.source} REPLACE WHERE no BETWEEN 3 AND 5 SELECT * FROM drawn"
        )

    def optimize(self) -> None:
        self.spark.sql(f"OPTIMIZE {SPEC.source}")

    def set_property(self) -> None:
        self.spark.sql(f"ALTER TABLE {SPEC.source} SET TBLPROPERTIES ('a.note' = 'x')")

    def back_up(self) -> None:
        with psycopg.connect(self.database) as connection:
            for table in (SPEC.target, SPEC.positions, SPEC.dead_letters):
                backup = table.replace('"things"', "backup", 1)
                connection.execute(f"DROP TABLE IF EXISTS {backup}".encode())
                connection.execute(f"CREATE TABLE {backup} AS TABLE {table}".encode())

    def restore(self) -> SyncRun:
        with psycopg.connect(self.database) as connection:
            for table in (SPEC.target, SPEC.positions, SPEC.dead_letters):
                backup = table.replace('"things"', "backup", 1)
                connection.execute(f"DELETE FROM {table}".encode())
                connection.execute(f"INSERT INTO {table} TABLE {backup}".encode())
        return self.sync()

    def reload(self) -> SyncRun:
        return self.sync(reload=True)

    def sync(self, **options: bool) -> SyncRun:
        return sync_once(self.spark, SPEC, self.database, **options)


@pytest.fixture
def history(spark: Any, database: str) -> Iterator[Callable[[int], History]]:
    spark.sql("CREATE SCHEMA lakebase_histories")
    with psycopg.connect(database) as connection:
        connection.execute("CREATE SCHEMA backup")
    yield lambda seed: History(spark, database, seed)
    spark.sql("DROP SCHEMA lakebase_histories CASCADE")


@pytest.mark.spark
def test_after_every_sync_of_a_random_history_the_target_equals_the_source(
    spark: Any, database: str, history: Callable[[int], History]
) -> None:
    it = history(11)
    it.insert()
    assert it.sync().loaded == "first load"
    steps = [step for step, times in (WRITES | SYNCS).items() for _ in range(times)]
    it.draw.shuffle(steps)
    # At last a backup is put back, and the source has nothing new.
    for step in (*steps, "merge", "sync", "restore"):
        if step in SYNCS and step != "restore":
            it.back_up()
        run = getattr(it, step)()
        if step in SYNCS:
            assert it.target() == it.source(), step
            assert check_sync(spark, SPEC, database).is_equal, step
            # A backup is no reason to load the table.
            assert run.loaded == ("as asked" if step == "reload" else None)
    assert len(it.target()) > 5


KEYS = ("a", "b", "c'", 'd"\n')
BAD = "{"  # no JSON


@dataclass(frozen=True)
class Commit:
    """What one commit does.

    Args:
        writes: key -> value (None deletes it), and whether the key is deleted first.
        keys: the keys that the other rows get, in the order of `KEYS`, where none is in the way.
        values: the values that they get, None to stay as they are.
    """

    writes: dict[str, tuple[int | str | None, bool]]
    keys: tuple[str, ...]
    values: tuple[int | str | None, ...]

    def updates(self, source: Mapping[str, int | str]) -> dict[str, tuple[str, int | str]]:
        """Old key -> new key and value, of a source as it was before."""
        given = zip(KEYS, self.keys, self.values, strict=True)
        updates = {
            key: (new_key, source[key] if value is None else value)
            for key, new_key, value in given
            if key in source and key not in self.writes and (new_key != key or value is not None)
        }
        while True:
            taken = {key for key, (value, _) in self.writes.items() if value is not None}
            taken |= source.keys() - self.writes.keys() - updates.keys()
            blocked = [key for key, (new_key, _) in updates.items() if new_key in taken]
            if not blocked:
                return updates
            for key in blocked:
                del updates[key]


@dataclass(frozen=True)
class Step:
    """Commits that are new, and how they reach the target."""

    commits: list[Commit]
    how: Literal["changes", "snapshot", "staged"]
    overlap: int
    parts: int
    surplus: bool


VALUES = st.tuples(st.one_of(st.none(), st.integers(0, 3), st.just(BAD)), st.booleans())
NEW_VALUES = st.one_of(st.none(), st.none(), st.integers(0, 3), st.just(BAD))
COMMITS = st.builds(
    Commit,
    st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3),
    st.one_of(st.just(KEYS), st.permutations(KEYS).map(tuple)),
    st.tuples(*[NEW_VALUES] * len(KEYS)),
)
STEPS = st.builds(
    Step,
    st.lists(COMMITS, max_size=4),
    st.sampled_from(["changes", "snapshot", "staged"]),
    st.integers(0, 3),
    st.integers(1, 3),
    st.booleans(),
)

Change = tuple[str, int, str | None, str]
"""Key, version, value (None where the key goes), type of the change."""


@dataclass
class Model:
    """What source and target hold, and the result that is due."""

    feed: list[list[Change]] = field(default_factory=list)
    source: dict[str, int | str] = field(default_factory=dict)
    target: dict[str, int | str] = field(default_factory=dict)

    def changes(self, first: int) -> list[Change]:
        """The change feed from a commit on."""
        return [change for commit in self.feed[first:] for change in commit]

    def commit(self, commits: list[Commit]) -> SyncResult:
        """Follow the commits; what a batch of them alone does."""
        first, before = len(self.feed), dict(self.target)
        for commit in commits:
            self._follow(commit)
        return self._result(self.changes(first), before)

    def _follow(self, commit: Commit) -> None:
        updates = commit.updates(self.source)
        new = dict(updates.values())
        gone = [key for key, (v, replaced) in commit.writes.items() if v is None or replaced]
        written = {key: v for key, (v, _) in commit.writes.items() if v is not None}
        version = len(self.feed)
        self.feed.append(
            [(key, version, None, "update_preimage") for key in updates]
            + [(key, version, None, "delete") for key in gone]
            + [(key, version, _text(v), "insert") for key, v in written.items()]
            + [(key, version, _text(v), "update_postimage") for key, v in new.items()]
        )
        for key in (*updates, *gone):
            self.source.pop(key, None)
        for key in (*gone, *(updates.keys() - new.keys() - written.keys())):
            self.target.pop(key, None)
        self.source |= written | new
        self.target |= {k: v for k, v in (written | new).items() if v != BAD}

    def load(self, commits: list[Commit]) -> tuple[list[Change], SyncResult]:
        """The source after the commits, and what loading it does."""
        before = dict(self.target)
        self.commit(commits)
        version = len(self.feed) - 1
        rows = [(k, version, _text(v), "insert") for k, v in self.source.items()]
        kept = {key: before[key] for key, v in self.source.items() if v == BAD and key in before}
        self.target = {k: v for k, v in self.source.items() if v != BAD} | kept
        return rows, self._result(rows, before)

    def _result(self, rows: list[Change], before: dict[str, int | str]) -> SyncResult:
        rows = without_kept_keys(rows)
        good = {key for key, _, value, _ in rows if value != BAD}
        written = sum(k in self.target and before.get(k) != self.target[k] for k in good)
        deleted = len(set(before) - set(self.target))
        not_there = good - set(before) - set(self.target)
        same = sum(k in before and before[k] == self.target.get(k) for k in good)
        bad = sum(value == BAD for _, _, value, _ in rows)
        # A value is looked at if it is the newest of its key; then all of the batch are.
        is_seen = BAD in {key: value for key, _, value, _ in rows}.values()
        refused = bad if is_seen else 0
        return SyncResult(len(rows), written, same + len(not_there), deleted, refused)


def _text(value: int | str) -> str:
    return BAD if value == BAD else json.dumps(value)


def without_kept_keys(rows: list[Change]) -> list[Change]:
    """Without the old images whose key the same commit writes again."""
    written = {(key, version) for key, version, value, _ in rows if value is not None}
    return [row for row in rows if row[3] != "update_preimage" or row[:2] not in written]


def deliver(
    dsn: str, changes: pa.Table, step: Step, since: int, snapshot: Snapshot | None
) -> SyncResult:
    if step.how != "staged":
        batches = changes.to_batches(max_chunksize=5)
        return apply_changes(dsn, PLAN, batches, snapshot=snapshot)
    size = -(-changes.num_rows // step.parts)
    with staging_table(dsn, PLAN) as staging:

        def copy(first: int, *, part: int) -> Staged:
            batches = changes[first : first + size].to_batches()
            return copy_rows(dsn, staging, PLAN, batches, part=part, since=since)

        if step.surplus:
            # An attempt that failed after its rows were committed.
            copy(0, part=99)
        staged = [copy(size * part, part=part) for part in range(step.parts)]
        return apply_staged(dsn, PLAN, staging, staged, snapshot=snapshot)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(STEPS, max_size=6), st.randoms(use_true_random=False))
def test_batches_snapshots_and_staged_parts_in_any_order_leave_the_target_equal_to_the_model(
    emptied: Callable[[], str],
    refund_changes: Callable[..., pa.Table],
    refund_rows: Callable[[str], dict[str, Any]],
    steps: list[Step],
    draw: random.Random,
) -> None:
    dsn, model, results = emptied(), Model(), []
    prepare_target(dsn, PLAN)
    for step in steps:
        done, snapshot = len(model.feed), None
        if step.how == "snapshot":
            new, due = model.load(step.commits)
            rows, snapshot = list(new), Snapshot("source", len(model.feed) - 1, NOON)
        else:
            due = model.commit(step.commits)
            new, rows = model.changes(done), model.changes(max(0, done - step.overlap))
        draw.shuffle(rows)
        since = draw.choice([-1, done - 1])
        changes = refund_changes(*(row[:3] for row in rows))
        changes = changes.set_column(
            4, "_change_type", pa.array([row[3] for row in rows], pa.string())
        )
        # The same value has the same time in every commit.
        changes = changes.set_column(1, "ts", changes["order_ts"])
        results.append(deliver(dsn, changes, step, since, snapshot))
        assert refund_rows(dsn) == model.target
        assert results[-1] == due
        assert_adds_up(results[-1], new, is_snapshot=snapshot is not None)
    totals = prepare_target(dsn, PLAN).totals
    assert astuple(totals) == tuple(sum(astuple(result)[n] for result in results) for n in range(6))


def assert_adds_up(result: SyncResult, new: list[Change], *, is_snapshot: bool) -> None:
    """Each change is refused, replaced by a newer one of its key, or has one outcome."""
    new = without_kept_keys(new)
    keys = {key for key, _, value, _ in new if value != BAD}
    replaced = len(new) - result.refused - len(keys)
    assert replaced >= 0
    # What a snapshot deletes is not among its rows.
    deleted = 0 if is_snapshot else result.deleted
    outcomes = result.written + result.unchanged + deleted
    assert result.rows_in == len(new) == outcomes + result.refused + replaced
