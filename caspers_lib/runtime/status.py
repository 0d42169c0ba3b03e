"""What is where: the demo's state as data, for people and for other programs.

Contract: DESIGN section 10, `caspers status --json`.
"""

import math
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pyarrow.parquet as pq

from caspers_lib.lakebase import COMPLAINTS, REFUNDS, SyncSpec
from caspers_lib.lakebase.server import EmbeddedPostgres, running_dsn
from caspers_lib.lakebase.target import count_rows
from caspers_lib.replay.state import ReplayState, StateStore
from caspers_lib.replay.volume_sink import count_events
from caspers_lib.runtime.catalog import delta_rows, delta_tables
from caspers_lib.runtime.local_root import LocalRoot, read_owner

__all__ = ["DemoStatus", "read_status"]

ReplayPhase = Literal["not_started", "running", "paused", "stopped"]


@dataclass(frozen=True, slots=True)
class PathRows:
    """A place and its rows; None where it is not there yet."""

    path: str
    rows: int | None


@dataclass(frozen=True, slots=True)
class ReplayStatus:
    """Where the replay stands.

    Args:
        status: not_started, running (a process plays it), paused (speed 0) or stopped.
        speed: virtual seconds a wall-clock second.
        watermark: virtual seconds up to which events are written.
        shift_seconds: from virtual to emitted time.
        loop: the watermark's loop, from 0.
        virtual_time: the clock's virtual time now, ISO 8601 UTC.
    """

    status: ReplayPhase
    speed: float | None = None
    watermark: float | None = None
    shift_seconds: int | None = None
    loop: int | None = None
    virtual_time: str | None = None


@dataclass(frozen=True, slots=True)
class SyncedStatus:
    """A synced table; `dsn` is None while its server is down, `rows` None before the first sync."""

    dsn: str | None
    table: str
    rows: int | None


@dataclass(frozen=True, slots=True)
class ConsoleStatus:
    """The console's address; None while it is down."""

    url: str | None


@dataclass(frozen=True, slots=True)
class DemoStatus:
    """The document of `caspers status --json`."""

    root: str
    dataset: PathRows
    events: PathRows
    tables: dict[str, PathRows]
    replay: ReplayStatus
    postgres: dict[str, SyncedStatus]
    console: ConsoleStatus

    def as_document(self) -> dict[str, object]:
        """Plain values for JSON."""
        return asdict(self)


def read_status(root: LocalRoot, now: float) -> DemoStatus:
    """The status of ROOT; a running demo is not disturbed.

    Where PostgreSQL is down, it is started for the moment of counting its rows.

    Args:
        root: where the demo lies.
        now: wall clock, UTC epoch seconds.

    Raises:
        CaspersError: a part is there but can't be read.
    """
    owner, alive = read_owner(root)
    dataset = Path(owner.dataset) if owner and owner.dataset else root.dataset_file
    return DemoStatus(
        root=str(root.path),
        dataset=PathRows(
            str(dataset), pq.read_metadata(dataset).num_rows if dataset.is_file() else None
        ),
        events=PathRows(str(root.events), count_events(root.events)),
        tables={
            name: PathRows(str(path), delta_rows(path))
            for name, path in delta_tables(root.warehouse, root.schemas).items()
        },
        replay=replay_status(StateStore(root.replay_state).load(), now, alive=alive),
        postgres=_postgres(root),
        console=ConsoleStatus(owner.url if owner and alive else None),
    )


def replay_status(state: ReplayState | None, now: float, *, alive: bool) -> ReplayStatus:
    """The replay's part of the status.

    Args:
        state: the replay's state, None before the first run.
        now: wall clock, UTC epoch seconds.
        alive: whether a process plays it.
    """
    if state is None:
        return ReplayStatus("not_started")
    paused: ReplayPhase = "paused" if state.clock.speed == 0 else "running"
    virtual = state.clock.virtual_time(now)
    return ReplayStatus(
        status=paused if alive or paused == "paused" else "stopped",
        speed=state.clock.speed,
        watermark=state.watermark,
        shift_seconds=state.shift_seconds,
        loop=None
        if state.watermark is None
        else math.floor((state.watermark - state.epoch) / state.cycle_seconds),
        virtual_time=datetime.fromtimestamp(virtual, UTC).isoformat(),
    )


def _postgres(root: LocalRoot) -> dict[str, SyncedStatus]:
    specs = {"refunds": REFUNDS, "complaints": COMPLAINTS}
    if running_dsn(root.postgres, REFUNDS.database):
        return {
            name: _synced(spec, running_dsn(root.postgres, spec.database), running=True)
            for name, spec in specs.items()
        }
    if not (root.postgres / "PG_VERSION").is_file():
        return {name: _synced(spec, None, running=False) for name, spec in specs.items()}
    with EmbeddedPostgres(root.postgres) as server:
        return {
            name: _synced(spec, server.dsn(spec.database), running=False)
            for name, spec in specs.items()
        }


def _synced(spec: SyncSpec, dsn: str | None, *, running: bool) -> SyncedStatus:
    rows = count_rows(dsn, spec) if dsn else None
    return SyncedStatus(dsn if running else None, f"{spec.schema}.{spec.table}", rows)
