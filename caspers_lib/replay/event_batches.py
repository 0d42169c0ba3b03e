"""The events of a window, read from the dataset in Arrow batches, memory flat.

The mapping is `caspers_lib.replay.mapping`.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from caspers_lib.domain import GHOST_KITCHEN, Domain
from caspers_lib.replay.chaos import NO_CHAOS, Chaos
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.dataset_query import dataset_connection, read_slices
from caspers_lib.replay.form import Form, event_arrow_schema
from caspers_lib.replay.mapping import dataset_columns, events_sql
from caspers_lib.replay.window import Window, loop_slices, seam_parts

__all__ = ["Form", "event_arrow_schema", "event_batches"]

_BATCH_ROWS = 10_000
_SORTED_ROWS = 100_000


def event_batches(
    dataset: EventsFile,
    window: Window,
    shift: int,
    *,
    domain: Domain = GHOST_KITCHEN,
    form: Form = "lines",
    chaos: Chaos = NO_CHAOS,
    scratch: Path | None = None,
) -> Iterator[pa.RecordBatch]:
    """The events of `window` as record batches in time order, with chaos in the order of delivery.

    Args:
        dataset: what is played.
        window: virtual seconds; with chaos those of the delivery.
        shift: seconds from virtual to emitted time.
        domain: the business.
        form: `lines` is one column, `line`: a JSON object and a newline; `named_lines` adds
            `name`, the delivery's own file stem: the `event_id`, with `-1` for the second one of
            a duplicate; `columns` is `event_arrow_schema(domain)`.
        chaos: what goes wrong; nothing by default.
        scratch: folder for what does not fit into memory; None is the system's.

    Raises:
        DatasetError: an event has no order, location or sequence, an unknown event type, a number
            that is not finite or a text that should be JSON and isn't.
    """
    loops = {
        "cycle_seconds": dataset.cycle_seconds,
        "first_ts": dataset.first_ts,
        "last_ts": dataset.last_ts,
    }
    parts = seam_parts(window, **loops)
    if chaos.is_on:
        parts = (piece for part in parts for piece in _sortable_parts(dataset, part, chaos))
    with dataset_connection(dataset.path, scratch) as connection:
        for part in parts:
            since = None if part.after is None else part.after - chaos.max_delay_seconds
            slices = list(loop_slices(Window(since, part.until), **loops))
            if slices:
                read_slices(connection, dataset, slices, dataset_columns(domain))
                query = events_sql(
                    dataset, slices, form=form, domain=domain, shift=shift, chaos=chaos, window=part
                )
                yield from connection.sql(query).to_arrow_reader(_BATCH_ROWS)


def _sortable_parts(dataset: EventsFile, window: Window, chaos: Chaos) -> Iterator[Window]:
    """`window` cut into parts of so few events that they are sorted in memory, in order."""
    played = dataset.last_ts - dataset.first_ts + 1
    # Each part reads again what may arrive late from before it.
    width = max(_SORTED_ROWS * played // dataset.rows, 4 * chaos.max_delay_seconds, 1)
    after = window.after
    begin = dataset.first_ts - 1 if after is None else math.floor(after)
    for until in (*range(begin + width, math.floor(window.until), width), window.until):
        yield Window(after, until)
        after = until
