"""What is where: the demo's state as data, for people and for other programs.

Contract: docs/contracts.md, Command line, `caspers status --json`.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from caspers_lib.lakebase import COMPLAINTS, REFUNDS, SyncSpec
from caspers_lib.lakebase.server import EmbeddedPostgres, running_dsn
from caspers_lib.lakebase.target import count_rows
from caspers_lib.replay.dataset import read_metadata
from caspers_lib.replay.state import StateStore
from caspers_lib.replay.volume_sink import count_events
from caspers_lib.runtime.catalog import delta_rows, delta_tables
from caspers_lib.runtime.event_folder import UnreadableFile, unreadable_files
from caspers_lib.runtime.local_root import LocalRoot, read_owner
from caspers_lib.runtime.replay_status import ReplayStatus, replay_status

__all__ = ["DemoStatus", "read_status"]


@dataclass(frozen=True, slots=True)
class PathRows:
    """A place and its rows; None where it is not there yet."""

    path: str
    rows: int | None


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
    unreadable_files: tuple[UnreadableFile, ...]
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
            str(dataset), read_metadata(dataset).num_rows if dataset.is_file() else None
        ),
        events=PathRows(str(root.events), count_events(root.events)),
        unreadable_files=unreadable_files(root.events),
        tables={
            name: PathRows(str(path), delta_rows(path))
            for name, path in delta_tables(root.warehouse, root.schemas).items()
        },
        replay=replay_status(StateStore(root.replay_state).load(), now, alive=alive),
        postgres=_postgres(root),
        console=ConsoleStatus(owner.url if owner and alive else None),
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
