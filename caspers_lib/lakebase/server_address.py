"""Where an embedded server answers.

A record that a copy of the folder brought along names the original's server: it isn't believed.
"""

import os
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from caspers_lib.lakebase import watchdog

__all__ = ["fits_socket", "ready_record", "real_data_folder", "running_dsn"]

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
    """The record of the data folder's own server if it answers, None where none does.

    Args:
        data: the server's data folder.
    """
    record = watchdog.read_record(data)
    if record is None or record.run is None or not record.ready:
        return None
    beside = data.with_name("run")
    if watchdog.answers(beside):  # a server's own, also after a move, and seen from a container
        return replace(record, run=beside)
    is_ours = watchdog.is_server(data, record) and watchdog.answers(record.run)
    return record if is_ours else None


def real_data_folder(data: Path) -> Path:
    """The one name of a data folder; what lies beside it is found under each of its names.

    Args:
        data: the folder, which need not exist.
    """
    return Path(os.path.realpath(data.parent)) / data.name


def running_dsn(data: Path, database: str) -> str | None:
    """Connection URI of a database on the server of a data folder, if one runs; starts nothing.

    Args:
        data: the server's data folder.
        database: the database's name; whether it exists is not checked.

    Returns:
        A URI that libpq and most drivers understand, None where no server answers.
    """
    record = ready_record(real_data_folder(data))
    if record is None or record.run is None:
        return None
    host = quote(os.fsencode(record.run), safe="")
    # Without `hostaddr` the variable PGHOSTADDR would lead elsewhere.
    place = f"host={host}&hostaddr=&port={watchdog.PORT}"
    return f"postgresql://postgres@/{quote(database, safe='')}?{place}"
