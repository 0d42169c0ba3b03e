"""DuckDB over a dataset: memory bounded, spilled files out of the way, errors in one sentence."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pyarrow as pa

from caspers_lib.errors import DatasetError, first_cause
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.mapping import slice_name
from caspers_lib.replay.row_groups import read_rows
from caspers_lib.replay.window import LoopSlice

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["dataset_connection", "read_slices"]

_MEMORY_LIMIT = "256MB"


@contextmanager
def dataset_connection(path: Path, scratch: Path | None) -> Iterator["DuckDBPyConnection"]:
    """A DuckDB connection for queries over the dataset at `path`.

    Args:
        path: the dataset, for the errors' sentence.
        scratch: folder for what does not fit into memory; None is the system's.

    Raises:
        DatasetError: a query failed.
    """
    import duckdb

    # Left to itself DuckDB spills into the current folder. It makes this one only when it has to,
    # and removes it after.
    spill = (scratch or Path(tempfile.gettempdir())) / f"caspers-replay-{uuid4()}"
    with duckdb.connect(
        config={"memory_limit": _MEMORY_LIMIT, "temp_directory": str(spill)}
    ) as connection:
        try:
            yield connection
        # Past the first batches Arrow hands DuckDB's errors on as its own.
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            first = first_cause(error).removeprefix("Invalid Input Error: ")
            if first.startswith('"'):  # a refusal of the query's own, as JSON
                first = first[1:-1]
            raise DatasetError(
                f"The dataset {path} can't be replayed: {first}",
                hint="`caspers dataset check` names what is wrong with it",
            ) from error


def read_slices(
    connection: "DuckDBPyConnection",
    dataset: EventsFile,
    slices: Sequence[LoopSlice],
    columns: Sequence[str],
) -> None:
    """Make the rows of `slices` known to one query; rows beside a slice's times may be among them.

    Args:
        connection: where the query will run.
        dataset: what is played.
        slices: its seconds by loop.
        columns: the wanted columns besides `ts_seconds`.
    """
    wanted = list(dict.fromkeys(("ts_seconds", *columns)))
    for part in slices:
        rows = read_rows(dataset.path, wanted, first=part.first, last=part.last)
        connection.register(slice_name(part), rows)
