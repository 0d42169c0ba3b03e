"""A small dataset, rows by hand, and an independent account of what a replay must emit."""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.replay.dataset import CYCLE_KEY, EPOCH_KEY, EVENTS_SCHEMA, EventsFile
from caspers_lib.replay.engine import Replay
from caspers_lib.replay.generator import generate_dataset
from caspers_lib.replay.state import StateStore
from caspers_lib.replay.volume_sink import EVENTS_PER_FILE, VolumeSink

NAMES = {event.id: event.name for event in GHOST_KITCHEN.event_types}

Row = dict[str, Any]
EventRow = Callable[..., Row]
WriteRows = Callable[..., EventsFile]
MakeReplay = Callable[..., Replay]
ExpectedEvents = Callable[[EventsFile, float, int], list[Row]]


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> EventsFile:
    """A loop of three days, about 500 events, the last of them beside the next loop's first."""
    path = generate_dataset(tmp_path_factory.mktemp("small"), seed=2, days=3, scale=0.02)
    found = EventsFile.open(path)
    assert found.first_ts + found.cycle_seconds < found.last_ts
    return found


@pytest.fixture(scope="session")
def event_row() -> EventRow:
    """A row of the dataset with nothing optional in it, changed as asked."""

    def row(**changes: Any) -> Row:
        required = {
            "event_type_id": 2,
            "ts_seconds": GHOST_KITCHEN.epoch,
            "location_id": 1,
            "order_id": "A",
            "sequence": 0,
        }
        return {**dict.fromkeys(EVENTS_SCHEMA.names), **required, **changes}

    return row


@pytest.fixture(scope="session")
def write_rows() -> WriteRows:
    """Write rows as a dataset that says nothing of its order, and open it."""

    def write(
        path: Path,
        rows: Iterable[Row],
        *,
        types: Mapping[str, pa.DataType] = {},
        cycle_seconds: int = 86_400,
    ) -> EventsFile:
        fields = [pa.field(f.name, types.get(f.name, f.type)) for f in EVENTS_SCHEMA]
        metadata = {EPOCH_KEY: str(GHOST_KITCHEN.epoch), CYCLE_KEY: str(cycle_seconds)}
        table = pa.Table.from_pylist(list(rows), pa.schema(fields, metadata))
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
        return EventsFile.open(path)

    return write


@pytest.fixture(scope="session")
def make_replay() -> MakeReplay:
    """A replay of a dataset whose events and state lie in one folder."""

    def make(
        dataset: EventsFile,
        root: Path,
        *,
        start_day: int = 1,
        speed: float | None = 60.0,
        events_per_file: int = EVENTS_PER_FILE,
    ) -> Replay:
        return Replay(
            dataset=dataset,
            sink=VolumeSink(root / "events", events_per_file),
            store=StateStore(root / "misc"),
            start_day=start_day,
            speed=speed,
        )

    return make


@pytest.fixture(scope="session")
def written_lines() -> Callable[[Path], list[str]]:
    """Every event line that readers of the volume see, in the order of the bytes."""

    def lines(root: Path) -> list[str]:
        files = [path.read_bytes() for path in (root / "events").glob("part-*.json")]
        return sorted(line for data in files for line in data.decode().splitlines())

    return lines


@pytest.fixture(scope="session")
def file_tree() -> Callable[[Path], dict[str, bytes]]:
    """Every file below a folder, hidden ones too, with its bytes."""

    def tree(root: Path) -> dict[str, bytes]:
        files = (path for path in root.rglob("*") if path.is_file())
        return {str(path.relative_to(root)): path.read_bytes() for path in files}

    return tree


@pytest.fixture(scope="session")
def expected_events() -> ExpectedEvents:
    """What a replay emits up to a virtual time, counted out row by row and loop by loop.

    The events lack `event_id` and `body`; they are sorted by their text.
    """

    def expected(dataset: EventsFile, until: float, shift: int) -> list[Row]:
        found = []
        for row in pq.read_table(dataset.path).to_pylist():
            loop, virtual = 0, row["ts_seconds"]
            while virtual <= until:
                ts = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=virtual + shift)
                event = {
                    "event_type": NAMES[row["event_type_id"]],
                    "ts": f"{ts:%Y-%m-%d %H:%M:%S}.000",
                    "location_id": row["location_id"],
                    "order_id": row["order_id"] + (f"-L{loop}" if loop else ""),
                    "sequence": row["sequence"],
                }
                found.append(event)
                loop, virtual = loop + 1, virtual + dataset.cycle_seconds
        return sorted(found, key=json.dumps)

    return expected
