"""Counting a window's events and cutting it by their number, against counting them one by one."""

import json
import math
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.errors import DatasetError, SettingsError
from caspers_lib.replay import event_counts
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.event_batches import event_batches
from caspers_lib.replay.event_counts import hourly_counts, window_counts, window_of
from caspers_lib.replay.window import Window

EPOCH = GHOST_KITCHEN.epoch
DAY = 86_400
NAMES = {event.id: event.name for event in GHOST_KITCHEN.event_types}

Row = dict[str, Any]
WriteRows = Callable[..., EventsFile]


def seconds_in(rows: list[Row], window: Window, loops: int = 8) -> list[int]:
    """Virtual second of each event of a window of a dataset that lasts a day, in order."""
    played = (row["ts_seconds"] + loop * DAY for row in rows for loop in range(loops))
    after = -math.inf if window.after is None else window.after
    return sorted(second for second in played if after < second <= window.until)


def capped(seconds: list[int], window: Window, most: int) -> Window:
    """The longest beginning of the window, found second by second."""
    if len(seconds) <= most:
        return window
    fitting = [s for s in sorted(set(seconds)) if sum(t <= s for t in seconds) <= most]
    first_too_many = min(set(seconds) - set(fitting))
    return Window(window.after, float(first_too_many - 1 if fitting else first_too_many))


some_rows = st.lists(
    st.fixed_dictionaries(
        {
            "event_type_id": st.sampled_from(sorted(NAMES)),
            # Few seconds, close together and far apart, up to a tail that lasts into loop 2.
            "ts_seconds": st.integers(0, 6).map(lambda n: EPOCH + n)
            | st.integers(0, 2 * DAY).map(lambda n: EPOCH + n),
        }
    ),
    min_size=1,
    max_size=12,
)
moments = st.floats(EPOCH - 5, EPOCH + 5 * DAY) | st.integers(EPOCH - 2, EPOCH + 8).map(float)
some_windows = st.builds(Window, st.none() | moments, moments)


@settings(max_examples=60)
@given(some_rows, some_windows, st.integers(1, 40))
def test_counts_and_caps_equal_counting_one_by_one(
    event_row: Callable[..., Row],
    write_rows: WriteRows,
    changes: list[Row],
    window: Window,
    most: int,
) -> None:
    rows = [event_row(sequence=n, **change) for n, change in enumerate(changes)]
    with tempfile.TemporaryDirectory() as folder:
        dataset = write_rows(Path(folder, "events.parquet"), rows)
        counts = window_counts(dataset, window)
        found = window_of(dataset, window, most)
    seconds = seconds_in(rows, window)
    of_type = {
        name: len(seconds_in([r for r in rows if NAMES[r["event_type_id"]] == name], window))
        for name in NAMES.values()
    }
    assert counts == of_type
    assert list(counts) == list(NAMES.values())
    assert found == capped(seconds, window, most)


@pytest.mark.parametrize("buckets", [2, 7, 1_024])
@pytest.mark.parametrize("is_sorted", [True, False])
def test_capped_windows_in_a_row_play_everything_and_hold_no_more_than_the_cap(
    buckets: int, is_sorted: bool, small: EventsFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_counts, "_BUCKETS", buckets)
    dataset = replace(small, is_sorted=is_sorted)
    window = Window(None, float(small.last_ts + small.cycle_seconds))
    total, played = sum(window_counts(dataset, window).values()), 0
    rest = window
    while not rest.is_empty:
        part = window_of(dataset, rest, 150)
        held = sum(b.num_rows for b in event_batches(dataset, part, 0))
        if part.until < rest.until:
            further = Window(part.after, part.until + 1)
            assert sum(window_counts(dataset, further).values()) > 150
        assert 0 < held <= 150
        played += held
        rest = Window(part.until, rest.until)
    assert played == total > 900


def test_a_second_with_more_events_than_the_cap_is_played_whole(
    tmp_path: Path, event_row: Callable[..., Row], write_rows: WriteRows
) -> None:
    times = [100, 100, 100, 101, 105]
    rows = [event_row(ts_seconds=EPOCH + t, sequence=n) for n, t in enumerate(times)]
    dataset = write_rows(tmp_path / "events.parquet", rows)
    window = Window(None, EPOCH + 200.5)
    assert window_of(dataset, window, 2) == Window(None, EPOCH + 100)
    assert window_of(dataset, Window(EPOCH + 100.0, window.until), 1).until == EPOCH + 104
    assert window_of(dataset, window, 3) == Window(None, EPOCH + 100)
    assert window_of(dataset, window, 4) == Window(None, EPOCH + 104)
    assert window_of(dataset, window, 5) == window


def test_a_thousand_loops_are_counted_by_counting_one(
    small: EventsFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = []
    real = event_counts._count

    def recorded(connection: Any, dataset: EventsFile, span: tuple[int, int]) -> int:
        counted.append(span)
        return real(connection, dataset, span)

    monkeypatch.setattr(event_counts, "_count", recorded)
    end = small.last_ts + 999.0 * small.cycle_seconds
    assert sum(window_counts(small, Window(None, end)).values()) == total_of(small, 1_000)
    found = window_of(small, Window(None, end), 250 * small.rows)
    assert sum(window_counts(small, found).values()) <= 250 * small.rows
    further = Window(None, found.until + 1)
    assert sum(window_counts(small, further).values()) > 250 * small.rows
    assert 0 < len(counted) < 10


def total_of(dataset: EventsFile, loops: int) -> int:
    """Events of so many loops, and those of the next one that happen before their tail ends."""
    times = pq.read_table(dataset.path, columns=["ts_seconds"]).column(0).to_pylist()
    return loops * dataset.rows + sum(t + dataset.cycle_seconds <= dataset.last_ts for t in times)


def test_hours_hold_what_windows_of_an_hour_hold(small: EventsFile) -> None:
    begin = small.epoch + small.cycle_seconds - 12 * 3_600  # across the seam
    found = hourly_counts(small, begin, hours=24)
    assert found == [
        sum(
            window_counts(
                small, Window(begin + n * 3_600 - 1.0, begin + (n + 1) * 3_600 - 1.0)
            ).values()
        )
        for n in range(24)
    ]
    assert sum(found) > 100
    assert hourly_counts(small, small.first_ts - 10 * DAY, hours=2) == [0, 0]


def test_counts_equal_the_lines_that_are_written(small: EventsFile) -> None:
    window = Window(small.first_ts + 0.5 * DAY, small.last_ts + 0.7 * small.cycle_seconds)
    written = Counter(
        json.loads(line)["event_type"]
        for batch in event_batches(small, window, 0)
        for line in batch.column(0).to_pylist()
    )
    assert window_counts(small, window) == {name: written[name] for name in NAMES.values()}


def test_an_unknown_event_type_is_refused(
    tmp_path: Path, event_row: Callable[..., Row], write_rows: WriteRows
) -> None:
    dataset = write_rows(tmp_path / "events.parquet", [event_row(event_type_id=99)])
    with pytest.raises(DatasetError, match="unknown event_type_id 99"):
        window_counts(dataset, Window(None, EPOCH))


@pytest.mark.parametrize("most", [0, -1])
def test_a_cap_under_one_event_is_refused(most: int, small: EventsFile) -> None:
    with pytest.raises(SettingsError, match=f"at most {most} events; the number must be 1 or more"):
        window_of(small, Window(None, float(small.last_ts)), most)


def test_a_file_that_can_no_longer_be_read_is_one_sentence(small: EventsFile) -> None:
    gone = replace(small, path=small.path.with_name("gone.parquet"))
    with pytest.raises(DatasetError, match="can't be replayed") as raised:
        window_of(gone, Window(None, float(small.last_ts)), 5)
    assert "\n" not in raised.value.message
    assert not isinstance(raised.value.__cause__, pa.ArrowException)
