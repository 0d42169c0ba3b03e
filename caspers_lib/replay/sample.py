"""The sample dataset in the package: two days of the canonical dataset, for tests and first steps.

It holds every order of a Sunday and a Monday, the days 41 and 42 of the canonical dataset, event by
event as they stand there: a crowded Sunday on which one order in five is late and a brand sells for
the last time in San Francisco, and a calm Monday on which another begins in Silicon Valley. Its
epoch is that Sunday and its cycle two days, so that START_DAY 0 or 1 fits. The dimensions lie
beside it, their days counted from its epoch.
"""

from importlib.resources import files
from pathlib import Path

import pyarrow.parquet as pq

from caspers_lib.errors import DatasetError
from caspers_lib.replay.generator import generate_dataset
from caspers_lib.replay.generator.writing import EventsWriter, files_that_appear_whole

__all__ = ["FIRST_DAY", "sample_dataset", "write_sample"]

FIRST_DAY = 41
_DAYS = 2
_SMALLEST = 19  # zstd's level: the wheel is downloaded more often than the sample is written


def sample_dataset() -> Path:
    """The path of the sample's `events.parquet` in the installed package; read-only.

    Raises:
        DatasetError: the package is imported from an archive and has no files.
    """
    found = files("caspers_lib.replay").joinpath("sample_data", "events.parquet")
    if not isinstance(found, Path):
        raise DatasetError(
            f"The sample dataset {found} lies in an archive and is no file",
            hint="install the wheel instead of importing from it, or use `write_sample`",
        )
    return found


def write_sample(folder: Path) -> Path:
    """Make the sample anew, the same rows wherever; this is how the package's own was made.

    Args:
        folder: where the seven files go; made if it isn't there.

    Returns:
        The path of its `events.parquet`.

    Raises:
        DatasetError: the folder can't be written.
    """
    events = generate_dataset(folder, days=_DAYS, first_day=FIRST_DAY)
    with pq.ParquetFile(events) as file:
        rows = file.read()
    with (
        files_that_appear_whole(folder, [events.name]) as paths,
        EventsWriter(
            paths[events.name], rows.schema.metadata, compression_level=_SMALLEST
        ) as writer,
    ):
        writer.append(rows)
    return events
