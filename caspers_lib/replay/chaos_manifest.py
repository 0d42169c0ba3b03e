"""The manifest: which events chaos touched, and how, window by window.

An event stands in the manifest of the window in which it happens (its own virtual time), whenever
it is delivered; so each touched event stands in exactly one, and a window's manifest is known
before any of its events is delivered.
"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from caspers_lib.domain import GHOST_KITCHEN, Domain
from caspers_lib.replay.chaos import Chaos
from caspers_lib.replay.chaos_sql import delays_sql, detail_sql, drawn_sql
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.dataset_query import dataset_connection, read_slices
from caspers_lib.replay.form import Form
from caspers_lib.replay.mapping import event_type_sql, identified_sql, rows_sql
from caspers_lib.replay.window import LoopSlice, Window, loop_slices, seam_parts

__all__ = ["manifest_batches"]

_BATCH_ROWS = 10_000


def manifest_batches(
    dataset: EventsFile,
    window: Window,
    chaos: Chaos,
    *,
    domain: Domain = GHOST_KITCHEN,
    form: Form = "lines",
    scratch: Path | None = None,
) -> Iterator[pa.RecordBatch]:
    """What chaos does to the events that happen in `window`, as JSON lines in time order.

    The one column, `line`, holds an object and a newline: `event_id`, the order's id, `sequence`,
    `event_type` (the true one), `virtual_time` (seconds), `deliveries` (virtual seconds, none
    where it is dropped, two for a duplicate; they may lie in later windows), `kind`, `detail`.
    The detail of a kind:

    late, out_of_order, duplicate: `delay_seconds`; a duplicate's first delivery is in time.
    dropped: nothing.
    corrupt_json: `text` (line or body) of n characters, of which the first
    1 + (n - 1) * `kept_permille` // 1000 are left; a line keeps its newline.
    unknown_event_type: `event_type`, the name that was delivered.
    new_field: `field`, its name, and `in`: envelope or body.
    wrong_type: `field`, sequence or body, and `type`: string.
    clock_skew: `skew_seconds`, what the delivered `ts` is ahead.

    Args:
        dataset: what is played.
        window: virtual seconds.
        chaos: what goes wrong.
        domain: the business.
        form: of the events' batches: `columns` know no line and no envelope.
        scratch: folder for what does not fit into memory; None is the system's.

    Raises:
        DatasetError: an event has an unknown event type.
    """
    if not chaos.is_on:
        return
    loops = {
        "cycle_seconds": dataset.cycle_seconds,
        "first_ts": dataset.first_ts,
        "last_ts": dataset.last_ts,
    }
    with dataset_connection(dataset.path, scratch) as connection:
        for part in seam_parts(window, **loops):
            slices = list(loop_slices(part, **loops))
            if slices:
                read_slices(connection, dataset, slices, _columns(domain))
                query = _manifest_sql(dataset, slices, chaos, domain, form)
                yield from connection.sql(query).to_arrow_reader(_BATCH_ROWS)


def _columns(domain: Domain) -> list[str]:
    return ["event_type_id", domain.entity_key, "sequence"]


def _manifest_sql(
    dataset: EventsFile, slices: list[LoopSlice], chaos: Chaos, domain: Domain, form: Form
) -> str:
    key = domain.entity_key
    rows = rows_sql(dataset, slices, _columns(domain))
    touched = (
        f"SELECT *, {event_type_sql(domain)} AS event_type "  # noqa: S608
        f"FROM ({drawn_sql(identified_sql(rows, domain), chaos)}) WHERE kind IS NOT NULL"
    )
    record = (
        """concat('{"event_id":"', event_id, '","', """
        f"""'{key}":', to_json(entity_id), ',"sequence":', sequence, """
        """',"event_type":', to_json(event_type), ',"virtual_time":', virtual_ts, """
        f"""',"deliveries":', to_json(list_transform({delays_sql(chaos)}, """
        """lambda delay: virtual_ts + delay)), ',"kind":"', kind, """
        f"""'","detail":', {detail_sql(chaos, form)}, '}}' || chr(10))"""
    )
    return (
        f"SELECT {record} AS line FROM ({touched}) "  # noqa: S608
        f"ORDER BY virtual_ts, {key}, sequence"
    )
