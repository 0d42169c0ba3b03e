"""How many events a window holds, by the dataset's times alone: nothing is mapped.

On a sorted file only the row groups that a window touches are read; a loop that plays whole is
counted once, however often it plays.
"""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from caspers_lib.domain import GHOST_KITCHEN, Domain
from caspers_lib.errors import DatasetError, SettingsError
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.dataset_query import dataset_connection, read_slices
from caspers_lib.replay.mapping import rows_sql
from caspers_lib.replay.window import LoopSlice, Window, loop_slices, seam_parts

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["hourly_counts", "window_counts", "window_of"]

_BUCKETS = 1_024
_HOUR = 3_600


def window_counts(
    dataset: EventsFile,
    window: Window,
    *,
    domain: Domain = GHOST_KITCHEN,
    scratch: Path | None = None,
) -> dict[str, int]:
    """Number of events that happen in `window`, by name of the event type, zeros included.

    Args:
        dataset: what is played.
        window: virtual seconds.
        domain: the business.
        scratch: folder for what does not fit into memory; None is the system's.

    Raises:
        DatasetError: the window holds an unknown event type.
    """
    names = {event.id: event.name for event in domain.event_types}
    counts = dict.fromkeys(names.values(), 0)
    loops = Counter((part.first, part.last) for part in loop_slices(window, **_loop(dataset)))
    with dataset_connection(dataset.path, scratch) as connection:
        for (first, last), times in loops.items():
            slices = [LoopSlice(0, first, last)]
            read_slices(connection, dataset, slices, ["event_type_id"])
            rows = rows_sql(dataset, slices, ["event_type_id"])
            found = connection.execute(
                f"SELECT event_type_id, count(*) FROM ({rows}) GROUP BY ALL"  # noqa: S608
            ).fetchall()
            for number, count in found:
                if number not in names:
                    raise DatasetError(
                        f"The dataset {dataset.path} has the unknown event_type_id {number}",
                        hint="`caspers dataset check` names what is wrong with it",
                    )
                counts[names[number]] += count * times
    return counts


def hourly_counts(
    dataset: EventsFile, begin: int, *, hours: int, scratch: Path | None = None
) -> list[int]:
    """Number of events that happen in each hour of virtual time from `begin` on.

    Args:
        dataset: what is played.
        begin: virtual second with which the first hour begins.
        hours: number of hours.
        scratch: folder for what does not fit into memory; None is the system's.
    """
    counts = [0] * hours
    last = begin + hours * _HOUR - 1
    with dataset_connection(dataset.path, scratch) as connection:
        for hour, count in _bucket_counts(connection, dataset, begin, last, _HOUR):
            counts[hour] = count
    return counts


def window_of(
    dataset: EventsFile, window: Window, max_events: int, *, scratch: Path | None = None
) -> Window:
    """The longest beginning of `window` with at most `max_events` events.

    It holds at least one whole second that has events, however many these are, so that a replay
    always goes on; it is `window` itself when everything fits.

    Args:
        dataset: what is played.
        window: virtual seconds.
        max_events: events that may happen in it, 1 or more.
        scratch: folder for what does not fit into memory; None is the system's.

    Raises:
        SettingsError: `max_events` is less than 1.
    """
    if max_events < 1:
        raise SettingsError(
            f"A run may write at most {max_events} events; the number must be 1 or more",
            hint="leave the cap out to write every event up to now",
        )
    counted: dict[tuple[int, int], int] = {}
    before = 0
    with dataset_connection(dataset.path, scratch) as connection:
        for part in seam_parts(window, **_loop(dataset)):
            inside = 0
            for piece in _slices(dataset, part):
                span = (piece.first, piece.last)
                if span not in counted:
                    counted[span] = _count(connection, dataset, span)
                inside += counted[span]
            if before + inside > max_events:
                second, before = _crossing(connection, dataset, part, max_events, before)
                return Window(window.after, float(second - 1 if before else second))
            before += inside
    return window


def _loop(dataset: EventsFile) -> dict[str, int]:
    return {
        "cycle_seconds": dataset.cycle_seconds,
        "first_ts": dataset.first_ts,
        "last_ts": dataset.last_ts,
    }


def _slices(dataset: EventsFile, window: Window) -> list[LoopSlice]:
    return list(loop_slices(window, **_loop(dataset)))


def _count(connection: "DuckDBPyConnection", dataset: EventsFile, span: tuple[int, int]) -> int:
    slices = [LoopSlice(0, *span)]
    read_slices(connection, dataset, slices, ())
    rows = rows_sql(dataset, slices, ())
    ((count,),) = connection.execute(f"SELECT count(*) FROM ({rows})").fetchall()  # noqa: S608
    return int(count)


def _crossing(
    connection: "DuckDBPyConnection",
    dataset: EventsFile,
    part: Window,
    max_events: int,
    before: int,
) -> tuple[int, int]:
    """The virtual second of `part` that exceeds the cap, and the number of events before it.

    The seconds are counted in equal buckets, then those of the bucket that exceeds it, and so on:
    memory holds one round's counts, and each round reads a thousandth of the one before.
    """
    cycle = dataset.cycle_seconds
    ends = [(p.first + p.loop * cycle, p.last + p.loop * cycle) for p in _slices(dataset, part)]
    first, last = min(end[0] for end in ends), max(end[1] for end in ends)
    while True:
        width = -(-(last - first + 1) // _BUCKETS)
        for bucket, count in _bucket_counts(connection, dataset, first, last, width):
            if before + count > max_events:
                first += bucket * width
                break
            before += count
        if width == 1:
            return first, before
        last = min(last, first + width - 1)


def _bucket_counts(
    connection: "DuckDBPyConnection", dataset: EventsFile, first: int, last: int, width: int
) -> list[tuple[int, int]]:
    """Events by bucket of `width` virtual seconds, counted from `first`; empty ones left out."""
    slices = _slices(dataset, Window(first - 1, last))
    if not slices:
        return []
    read_slices(connection, dataset, slices, ())
    return connection.execute(
        f"SELECT (virtual_ts - {first}) // {width} AS bucket, count(*) "  # noqa: S608
        f"FROM ({rows_sql(dataset, slices, ())}) GROUP BY ALL ORDER BY ALL"
    ).fetchall()
