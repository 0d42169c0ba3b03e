"""How a window of virtual time is shared out among tasks, from the dataset's metadata alone.

No event is lost or doubled at any cut.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.row_groups import RowGroup, row_groups
from caspers_lib.replay.window import LoopSlice, Window, loop_slices

__all__ = ["first_events", "partition_windows", "timed_groups"]

_Seconds = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Pieces:
    """Row groups as a window plays them, once a loop: virtual seconds (after, until] each.

    Args:
        after: start of each piece.
        until: end of each piece.
        density: events a second, taken as even within a row group.
        whole: the group's events where all of it is in the window, else 0.
    """

    after: _Seconds
    until: _Seconds
    density: npt.NDArray[np.float64]
    whole: _Seconds


def timed_groups(dataset: EventsFile) -> list[RowGroup]:
    """The dataset's row groups by their statistics; one for all where a group has none."""
    groups = row_groups(dataset.path)
    if all(group.is_timed for group in groups):
        return list(groups)
    return [RowGroup(dataset.first_ts, dataset.last_ts, dataset.rows)]


def partition_windows(
    dataset: EventsFile, groups: Sequence[RowGroup], window: Window, *, rows: int
) -> list[Window]:
    """`window` cut into windows of about `rows` events each, in order; none where it is empty.

    Args:
        dataset: what is played.
        groups: its row groups.
        window: virtual seconds.
        rows: events of a part, about: as even as the events lie within their row groups.
    """
    pieces = _pieces(dataset, groups, window)
    if not len(pieces.after):
        return []
    edges = np.concatenate([pieces.after, pieces.until])
    slopes = np.concatenate([pieces.density, -pieces.density])
    order = np.argsort(edges, kind="stable")
    # Rounding may leave a density of a hair below nothing; the sum must not fall.
    density = np.maximum(np.cumsum(slopes[order])[:-1], 0.0)
    edges = edges[order]
    events = np.concatenate([[0.0], np.cumsum(density * np.diff(edges))])
    parts = max(1, math.ceil(round(float(events[-1]), 3) / rows))
    shares = np.linspace(0.0, float(events[-1]), parts + 1)[1:-1]
    # Events sit on whole seconds, so that a cut at one says clearly on which side they are.
    cuts = np.unique(np.floor(np.interp(shares, events, edges)))
    inside = [float(cut) for cut in cuts if edges[0] < cut < edges[-1]]
    ends = [*inside, window.until]
    return [
        Window(after, until) for after, until in zip([window.after, *inside], ends, strict=True)
    ]


def first_events(
    dataset: EventsFile, groups: Sequence[RowGroup], window: Window, *, most: int
) -> Window:
    """The longest beginning of `window` that holds at most `most` events.

    Where the first second alone holds more, that second: time goes on in any case. The times, and
    nothing else, of the row groups in question are read.

    Args:
        dataset: what is played.
        groups: its row groups.
        window: virtual seconds.
        most: number of events.
    """
    reach = Window(window.after, _end_of_more_than(most, _pieces(dataset, groups, window), window))
    times = _event_times(dataset, reach)
    if len(times) <= most:
        return window
    beyond = int(np.partition(times, most)[most])
    first = int(times.min())
    return Window(window.after, float(max(beyond - 1, first)))


def _pieces(dataset: EventsFile, groups: Sequence[RowGroup], window: Window) -> _Pieces:
    firsts, lasts, rows = np.array(
        [(group.first, group.last, group.rows) for group in groups], dtype=np.int64
    ).T
    density = rows / (lasts - firsts + 1)
    found: list[tuple[npt.NDArray[np.generic], ...]] = []
    for part in _slices(dataset, window):
        offset = part.loop * dataset.cycle_seconds
        after = np.maximum(firsts, part.first) - 1
        until = np.minimum(lasts, part.last)
        here = until > after
        whole = np.where((after < firsts) & (until == lasts), rows, 0)
        found.append((after[here] + offset, until[here] + offset, density[here], whole[here]))
    if not found:
        none = np.array([], dtype=np.int64)
        return _Pieces(none, none, none.astype(np.float64), none)
    return _Pieces(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _end_of_more_than(rows: int, pieces: _Pieces, window: Window) -> float:
    """A virtual second by which more than `rows` events of the window have surely happened."""
    order = np.argsort(pieces.until, kind="stable")
    enough = np.flatnonzero(np.cumsum(pieces.whole[order]) > rows)
    return float(pieces.until[order][enough[0]]) if len(enough) else window.until


def _event_times(dataset: EventsFile, window: Window) -> _Seconds:
    found = [np.array([], dtype=np.int64)]
    for part in _slices(dataset, window):
        table = pq.read_table(
            dataset.path,
            columns=["ts_seconds"],
            filters=[("ts_seconds", ">=", part.first), ("ts_seconds", "<=", part.last)],
            # A folder called `ts_seconds=3` would replace the column.
            partitioning=None,
        )
        seconds = table.column("ts_seconds").to_numpy().astype(np.int64)
        found.append(seconds + part.loop * dataset.cycle_seconds)
    return np.concatenate(found)


def _slices(dataset: EventsFile, window: Window) -> Iterator[LoopSlice]:
    return loop_slices(
        window,
        cycle_seconds=dataset.cycle_seconds,
        first_ts=dataset.first_ts,
        last_ts=dataset.last_ts,
    )
