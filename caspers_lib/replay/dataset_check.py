"""Is a dataset fit to be replayed, and what is in it.

Contract: DESIGN section 4. Everything is counted by DuckDB in streams.
"""

import glob
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from caspers_lib.domain import GHOST_KITCHEN, Domain
from caspers_lib.errors import DatasetError, first_cause
from caspers_lib.replay.dataset import CYCLE_KEY, EPOCH_KEY, EventsFile
from caspers_lib.replay.dataset_measures import measured
from caspers_lib.replay.dataset_report import DatasetReport
from caspers_lib.replay.dataset_values import refuse_broken_values

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["check_dataset"]

_MEMORY = "512MB"
_YEAR_10000 = 253_402_300_800
_HINT = "mend the rows or generate a new one with `caspers dataset generate`"
_REQUIRED = ("ts_seconds", "order_id", "event_type_id", "location_id", "sequence")


def check_dataset(path: Path, domain: Domain = GHOST_KITCHEN) -> DatasetReport:
    """Read a whole dataset and report on it; sorted or not, of any integer and float widths.

    Memory stays bounded however large the file is: what doesn't fit goes to the system's
    temporary folder.

    Args:
        path: the events file; dimension files beside it give names to locations and brands.
        domain: the event types, and the fields in their bodies.

    Raises:
        DatasetError: the file is missing, unreadable or lacks a column; an event type is unknown;
            a time, order id, sequence, location or event type is null; a time or the cycle lies
            outside the years 1970 to 9999; a number that an event's body needs is NaN or infinite;
            JSON that it needs is none; what lies beside the rows (story, names) can't be read.
    """
    events = EventsFile.open(path, domain)
    _refuse_far_times(events)
    with _view_of_events(path) as connection:
        _refuse_nulls(connection, path)
        _refuse_unknown_types(connection, path, domain)
        refuse_broken_values(connection, path, domain)
        return DatasetReport(measured(connection, events, domain))


@contextmanager
def _view_of_events(path: Path) -> Iterator["DuckDBPyConnection"]:
    """A connection with the dataset as the view `events`; what it can't hold goes to a temp folder.

    Numbers get one type each, so that no file's own width can overflow.
    """
    import duckdb  # loaded only by the command that needs it

    with tempfile.TemporaryDirectory(prefix="caspers-check-") as spill:
        config: dict[str, str | bool | int | float | list[str]] = {
            "temp_directory": spill,
            "memory_limit": _MEMORY,
            "autoinstall_known_extensions": False,
            "preserve_insertion_order": False,
        }
        with duckdb.connect(config=config) as connection:
            try:
                connection.read_parquet(
                    glob.escape(str(path)), hive_partitioning=False
                ).create_view("dataset")
                connection.execute(_EVENTS_VIEW)
                yield connection
            # Within a stream of batches Arrow hands DuckDB's errors on as its own.
            except (duckdb.Error, pa.ArrowException, OSError) as error:
                raise DatasetError(
                    f"The dataset {path} can't be read: {first_cause(error)}", hint=_HINT
                ) from error


_EVENTS_VIEW = """
CREATE VIEW events AS
SELECT * REPLACE (CAST(event_type_id AS BIGINT) AS event_type_id,
                  CAST(ts_seconds AS BIGINT) AS ts_seconds,
                  CAST(location_id AS BIGINT) AS location_id)
FROM dataset
"""


def _row(connection: "DuckDBPyConnection", sql: str) -> tuple[Any, ...]:
    """The only row of a query."""
    (row,) = connection.execute(sql).fetchall()
    return tuple(row)


def _refuse_far_times(events: EventsFile) -> None:
    if events.first_ts < 0 or events.last_ts >= _YEAR_10000:
        raise DatasetError(
            f"The dataset {events.path} has ts_seconds from {events.first_ts} to {events.last_ts}; "
            "they must be UTC epoch seconds of the years 1970 to 9999",
            hint="milliseconds must be divided by 1000",
        )
    if events.epoch < 0 or events.epoch + events.cycle_seconds > _YEAR_10000:
        raise DatasetError(
            f"The cycle of {events.path} is {events.cycle_seconds} seconds from {events.epoch} on; "
            "it must lie in the years 1970 to 9999",
            hint=f"mend the metadata {EPOCH_KEY.decode()} and {CYCLE_KEY.decode()}",
        )


def _refuse_nulls(connection: "DuckDBPyConnection", path: Path) -> None:
    nulls = ", ".join(f"count(*) - count({name})" for name in _REQUIRED)
    counts = _row(connection, f"SELECT {nulls} FROM events")  # noqa: S608 - our own names
    found = [f"{name} in {n:,}" for name, n in zip(_REQUIRED, counts, strict=True) if n]
    if found:
        raise DatasetError(f"The dataset {path} has rows with null {', '.join(found)}", hint=_HINT)


def _refuse_unknown_types(connection: "DuckDBPyConnection", path: Path, domain: Domain) -> None:
    known = {t.id: t.name for t in domain.event_types}
    found = connection.execute(
        "SELECT DISTINCT event_type_id FROM events "
        "WHERE NOT list_contains(?::BIGINT[], event_type_id) ORDER BY ALL LIMIT 20",
        [list(known)],
    ).fetchall()
    if found:
        allowed = ", ".join(f"{number} {name}" for number, name in known.items())
        raise DatasetError(
            f"The dataset {path} has unknown event type ids "
            f"{', '.join(str(number) for (number,) in found)}; allowed are {allowed}",
            hint=_HINT,
        )
