"""Every sink, played into: the same events in all of them, and one behaviour when one refuses."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from caspers_lib.errors import SinkError
from caspers_lib.replay.callable_sink import CallableSink
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.delta_sink import DeltaSink
from caspers_lib.replay.engine import Replay
from caspers_lib.replay.event_batches import event_arrow_schema
from caspers_lib.replay.sink import Sink
from caspers_lib.replay.state import StateStore
from caspers_lib.replay.volume_sink import VolumeSink

DAY = 86_400
START = 1_750_000_000 // DAY * DAY + 50_000.25
TIMES = (START, START + 3, START + 40)

Rows = list[tuple[object, ...]]


def replay_into(sink: Sink, dataset: EventsFile, root: Path) -> Replay:
    store = StateStore(root / "misc")
    return Replay(dataset=dataset, sink=sink, store=store, start_day=1, speed=5_000.0)


def rows_in_files(folder: Path) -> Rows:
    lines = [line for path in folder.glob("*.json") for line in path.read_text().splitlines()]
    return sorted(tuple(json.loads(line).values()) for line in lines)


def rows_in_table(folder: Path) -> Rows:
    rows = DeltaTable(str(folder)).to_pyarrow_table().to_pylist()
    return sorted(tuple(row.values()) for row in rows)


class Taken:
    """A callable that keeps what it is given."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, pa.RecordBatch]] = []

    def __call__(self, batch: pa.RecordBatch, name: str) -> None:
        self.batches.append((name, batch))

    def rows(self, _folder: Path) -> Rows:
        return sorted(tuple(r.values()) for _, batch in self.batches for r in batch.to_pylist())


def test_every_sink_gets_the_same_events(small: EventsFile, tmp_path: Path) -> None:
    taken = Taken()
    sinks: dict[str, tuple[Sink, Callable[[Path], Rows]]] = {
        "batched": (VolumeSink(tmp_path / "batched"), rows_in_files),
        "per_event": (VolumeSink(tmp_path / "per_event", layout="per_event"), rows_in_files),
        "delta": (DeltaSink(tmp_path / "delta"), rows_in_table),
        "callable": (CallableSink(taken), taken.rows),
    }
    found = {}
    for name, (sink, rows) in sinks.items():
        told: list[int] = []
        replay = replay_into(sink, small, tmp_path / f"state of {name}")
        counts = [replay.tick(now, told.append).events for now in TIMES]
        found[name] = rows(tmp_path / name)
        assert sum(told) == sum(counts) == len(found[name])
        assert min(counts) > 0
    assert found["batched"] == found["per_event"] == found["delta"] == found["callable"]


def test_a_callable_gets_the_events_columns_in_time_order_under_a_name_a_window(
    small: EventsFile, tmp_path: Path
) -> None:
    taken = Taken()
    replay = replay_into(CallableSink(taken), small, tmp_path)
    for now in TIMES:
        replay.tick(now)
    names = [name for name, _ in taken.batches]
    assert len(dict.fromkeys(names)) == len(TIMES)
    assert {batch.schema for _, batch in taken.batches} == {event_arrow_schema()}
    times = [ts for _, batch in taken.batches for ts in batch.column("ts").to_pylist()]
    assert times == sorted(times)


class OutOfReach(Exception):
    pass


def test_a_callable_that_raises_leaves_its_window_pending_and_gets_it_again(
    small: EventsFile, tmp_path: Path
) -> None:
    reachable = True
    taken: dict[str, list[pa.RecordBatch]] = {}
    refused: list[str] = []

    def receive(batch: pa.RecordBatch, name: str) -> None:
        if not reachable:
            refused.append(name)
            raise OutOfReach
        taken.setdefault(name, []).append(batch)

    replay = replay_into(CallableSink(receive), small, tmp_path)
    replay.tick(TIMES[0])
    reachable = False
    for now in (TIMES[1], TIMES[2]):
        with pytest.raises(OutOfReach):
            replay.tick(now)
    state = replay.store.load()
    assert state is not None
    assert state.pending is not None
    assert state.pending.until == state.clock.virtual_time(TIMES[1])
    reachable = True
    replay.tick(TIMES[2])
    # Both runs were refused the same window; it comes first, under the name it had.
    assert len(refused) == 2
    assert list(taken)[1] == refused[0] == refused[1]
    assert len(taken) == len(TIMES)
    undisturbed = Taken()
    for now in TIMES:
        replay_into(CallableSink(undisturbed), small, tmp_path / "whole").tick(now)
    assert [row for bs in taken.values() for b in bs for row in b.to_pylist()] == [
        row for _, b in undisturbed.batches for row in b.to_pylist()
    ]


@pytest.mark.parametrize("kind", ["batched", "per_event", "delta"])
def test_a_place_that_refuses_leaves_the_window_pending_until_it_can_be_written(
    kind: str, small: EventsFile, tmp_path: Path
) -> None:
    events = tmp_path / "events"
    sinks: dict[str, Sink] = {
        "batched": VolumeSink(events),
        "per_event": VolumeSink(events, layout="per_event"),
        "delta": DeltaSink(events),
    }
    replay = replay_into(sinks[kind], small, tmp_path)
    events.write_text("a file")
    with pytest.raises(SinkError):
        replay.tick(TIMES[0])
    state = replay.store.load()
    assert state is not None
    assert state.watermark is None
    assert state.pending is not None
    events.unlink()
    replay.tick(TIMES[1])
    rows = rows_in_table(events) if kind == "delta" else rows_in_files(events)
    taken = Taken()
    for now in TIMES[:2]:
        replay_into(CallableSink(taken), small, tmp_path / "whole").tick(now)
    assert rows == taken.rows(events)


def test_importing_a_sink_loads_nothing_heavy() -> None:
    script = (
        "import sys; from caspers_lib.replay import callable_sink, delta_sink, volume_sink; "
        "print(sorted({'duckdb', 'pyspark', 'deltalake', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout.strip() == "[]"
