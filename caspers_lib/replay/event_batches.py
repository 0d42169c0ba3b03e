"""The events of a window, read from the dataset in Arrow batches, memory flat.

Contract: DESIGN section 5; the mapping is `caspers_lib.replay.mapping`.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from uuid import uuid4

import pyarrow as pa

from caspers_lib.domain import GHOST_KITCHEN, Domain
from caspers_lib.errors import DatasetError
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.mapping import event_lines_sql
from caspers_lib.replay.window import LoopSlice, Window, loop_slices, seam_parts

__all__ = ["Form", "event_batches"]

Form = Literal["lines"]
_BATCH_ROWS = 10_000
_MEMORY_LIMIT = "256MB"


def event_batches(
    dataset: EventsFile,
    window: Window,
    shift: int,
    *,
    domain: Domain = GHOST_KITCHEN,
    form: Form = "lines",  # noqa: ARG001 - the only one so far
    scratch: Path | None = None,
) -> Iterator[pa.RecordBatch]:
    """The events of `window` as record batches in time order.

    Args:
        dataset: what is played.
        window: virtual seconds.
        shift: seconds from virtual to emitted time.
        domain: the business.
        form: `lines` is one column, `line`: a JSON object and a newline.
        scratch: folder for what does not fit into memory; None is the system's.

    Raises:
        DatasetError: a row has no order, location, sequence or time, or an unknown event type.
    """
    loops = {
        "cycle_seconds": dataset.cycle_seconds,
        "first_ts": dataset.first_ts,
        "last_ts": dataset.last_ts,
    }
    for part in seam_parts(window, **loops):
        slices = list(loop_slices(part, **loops))
        if slices:
            yield from _run(dataset, slices, shift, domain, scratch)


def _run(
    dataset: EventsFile, slices: list[LoopSlice], shift: int, domain: Domain, scratch: Path | None
) -> Iterator[pa.RecordBatch]:
    import duckdb

    query = event_lines_sql(
        dataset.path,
        slices,
        domain=domain,
        cycle_seconds=dataset.cycle_seconds,
        shift=shift,
        is_sorted=dataset.is_sorted,
    )
    # Left to itself DuckDB spills into the current folder. It makes this one only when it has to,
    # and removes it after.
    spill = (scratch or Path(tempfile.gettempdir())) / f"caspers-replay-{uuid4()}"
    with duckdb.connect(
        config={"memory_limit": _MEMORY_LIMIT, "temp_directory": str(spill)}
    ) as connection:
        try:
            yield from connection.sql(query).to_arrow_reader(_BATCH_ROWS)
        # Past the first batches Arrow hands DuckDB's errors on as its own.
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            first = str(error).strip().splitlines()[0]
            raise DatasetError(
                f"The dataset {dataset.path} can't be replayed: {first}",
                hint="`caspers dataset check` names what is wrong with it",
            ) from error
