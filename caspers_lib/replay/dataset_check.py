"""Is a dataset fit to be replayed, what would the tables make of it, and what is in it.

Everything is counted by DuckDB in streams.
"""

from collections import Counter
from pathlib import Path

from caspers_lib.domain import GHOST_KITCHEN, Domain
from caspers_lib.errors import DatasetError
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.dataset_facts import DatasetFacts
from caspers_lib.replay.dataset_measures import measured
from caspers_lib.replay.dataset_quarantine import Quarantine, set_aside
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
        DatasetError: the replay would refuse it, see `EventsFile.open` and `refuse_unfit_rows`; the
            tables would set most events of a type aside; or what lies beside the rows (story,
            names) can't be read.
        SettingsError: the loop that is asked for is none, or not the file's own.
    """
    events = EventsFile.open(path, domain, cycle_days=cycle_days)
    with dataset_connection(path, None) as connection:
        create_events_view(connection, path, domain)
        refuse_unfit_rows(connection, path, domain)
        facts, quarantine = measured(connection, events, domain), set_aside(connection, domain)
    _refuse_most_set_aside(facts, quarantine)
    return DatasetReport(facts, quarantine)


def _refuse_most_set_aside(facts: DatasetFacts, quarantine: Quarantine) -> None:
    """A dataset of which the tables show next to nothing is a mistake in the dataset."""
    by_type: Counter[str] = Counter()
    for group in quarantine.groups:
        by_type[group.event_type] += group.events
    most = {name for name, count in by_type.items() if count > facts.events[name] / 2}
    reasons = [
        f"{group.events:,} of {facts.events[group.event_type]:,} {group.event_type} by "
        f"{group.rule} ({group.comment}), the first in order {group.first_order!r}"
        for group in quarantine.groups
        if group.event_type in most
    ]
    if reasons:
        raise DatasetError(
            f"The dataset {facts.path} can be played, but most events of a type would be set aside "
            f"in quarantine: {'; '.join(reasons)}",
            hint="mend the rows so that they satisfy the rule in brackets",
        )
