"""Is a dataset fit to be replayed, and what is in it.

Everything is counted by DuckDB in streams.
"""

from pathlib import Path

from caspers_lib.domain import GHOST_KITCHEN, Domain
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.dataset_measures import measured
from caspers_lib.replay.dataset_query import dataset_connection
from caspers_lib.replay.dataset_report import DatasetReport
from caspers_lib.replay.dataset_validation import create_events_view, refuse_unfit_rows

__all__ = ["check_dataset"]


def check_dataset(
    path: Path, domain: Domain = GHOST_KITCHEN, *, cycle_days: int | None = None
) -> DatasetReport:
    """Read a whole dataset and report on it; sorted or not, of any integer and float widths.

    Memory stays bounded however large the file is: what doesn't fit goes to the system's
    temporary folder.

    Args:
        path: the events file; dimension files beside it give names to locations and brands.
        domain: the event types, and the fields in their bodies.
        cycle_days: length of a loop that is asked for, see `EventsFile.open`.

    Raises:
        DatasetError: the replay would refuse it, see `EventsFile.open` and `refuse_unfit_rows`; or
            what lies beside the rows (story, names) can't be read.
        SettingsError: the loop that is asked for is none, or not the file's own.
    """
    events = EventsFile.open(path, domain, cycle_days=cycle_days)
    with dataset_connection(path, None) as connection:
        create_events_view(connection, path, domain)
        refuse_unfit_rows(connection, path, domain)
        return DatasetReport(measured(connection, events, domain))
