"""Applies a made-up history to a target, from wherever the target is; is killed while it does.

`python -m tests.lakebase.crash_writer DSN SEED`: commits 0, 1, ... of the history that the seed
gives, a few at a time, by the driver's path and by the writers' path in turn.
"""

import json
import random
import sys
import time
from typing import Any

import pyarrow as pa

from caspers_lib.errors import CaspersError
from caspers_lib.lakebase.connection import connect
from caspers_lib.lakebase.staging import copy_rows, staging_table
from caspers_lib.lakebase.target import prepare_target, read_position
from caspers_lib.lakebase.upsert import apply_changes, apply_staged
from tests.lakebase.plans import PLAN

COMMITS = 1_000
_KEYS = 200

Commit = dict[str, int | None]


def history(seed: int) -> list[Commit]:
    """Commits: key -> value, None for a deletion."""
    draw = random.Random(seed)
    return [
        {
            f"k{draw.randrange(_KEYS)}": None if draw.random() < 0.3 else draw.randrange(1000)
            for _ in range(draw.randrange(1, 120))
        }
        for _ in range(COMMITS)
    ]


def model(commits: list[Commit]) -> dict[str, int]:
    """What the target holds in the end."""
    state: Commit = {}
    for commit in commits:
        state.update(commit)
    return {key: value for key, value in state.items() if value is not None}


def changes(commits: list[Commit], first: int, last: int) -> pa.Table:
    """The change feed of commits `first` to `last`, the last one left out."""
    rows: list[tuple[Any, ...]] = [
        (key, number, None if value is None else json.dumps(value))
        for number in range(first, last)
        for key, value in commits[number].items()
    ]
    moment = pa.array([number for _, number, _ in rows], pa.timestamp("us", "UTC"))
    return pa.table(
        {
            "order_id": pa.array([key for key, _, _ in rows], pa.string()),
            "ts": moment,
            "order_ts": moment,
            "agent_response": pa.array([value for _, _, value in rows], pa.string()),
            "_change_type": pa.array(["delete" if row[2] is None else "insert" for row in rows]),
            "_commit_version": pa.array([number for _, number, _ in rows], pa.int64()),
            "_commit_timestamp": moment,
        }
    )


def apply_next(dsn: str, commits: list[Commit]) -> bool:
    """Apply the next few commits; whether there were any."""
    with connect(dsn) as connection:
        position = read_position(connection, PLAN.spec)
    assert position is not None
    done = position.commit_version + 1
    if done == len(commits):
        return False
    # Often with commits that are there already, as a stream that starts anew would.
    feed = changes(commits, max(0, done - done % 3), min(done + 1 + done % 4, len(commits)))
    if done % 2:
        apply_changes(dsn, PLAN, feed.to_batches(max_chunksize=50))
        return True
    half = feed.num_rows // 2
    with staging_table(dsn, PLAN) as staging:
        staged = [
            copy_rows(dsn, staging, PLAN, rows.to_batches(), part=part, since=done - 1)
            for part, rows in enumerate((feed[:half], feed[half:]))
        ]
        apply_staged(dsn, PLAN, staging, staged)
    return True


def main(dsn: str, seed: int) -> None:
    """Apply the whole history, through every loss of the server."""
    commits = history(seed)
    working = True
    while working:
        try:
            prepare_target(dsn, PLAN)
            while working:
                working = apply_next(dsn, commits)
        except CaspersError:
            time.sleep(0.05)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
