"""Where an embedded server answers."""

import os
from pathlib import Path
from urllib.parse import quote

from caspers_lib.lakebase import watchdog

__all__ = ["fits_socket", "ready_record", "running_dsn"]

_MAX_RUN_BYTES = 90


def fits_socket(run: Path) -> bool:
    """Whether a folder can hold the socket, and a connection string can name it.

    Args:
        run: the folder.
    """
    name = os.fsencode(run)
    try:
        name.decode()  # connection strings are Unicode
    except UnicodeDecodeError:
        return False
    return len(name) <= _MAX_RUN_BYTES and b"," not in name  # a comma separates hosts


def ready_record(data: Path) -> watchdog.ServerRecord | None:
    """The record of a server that answers, None where none does.

    Args:
        data: the server's data folder.
    """
    record = watchdog.read_record(data)
    if record is None or record.run is None or not record.ready:
        return None
    return record if watchdog.answers(record.run) else None


def running_dsn(data: Path, database: str) -> str | None:
    """Connection URI of a database on the server of a data folder, if one runs; starts nothing.

    Args:
        data: the server's data folder.
        database: the database's name; whether it exists is not checked.

    Returns:
        A URI that libpq and most drivers understand, None where no server answers.
    """
    record = ready_record(data.absolute())
    if record is None or record.run is None:
        return None
    host = quote(os.fsencode(record.run), safe="")
    # Without `hostaddr` the variable PGHOSTADDR would lead elsewhere.
    place = f"host={host}&hostaddr=&port={watchdog.PORT}"
    return f"postgresql://postgres@/{quote(database, safe='')}?{place}"
