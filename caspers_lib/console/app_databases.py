"""The databases of a console that runs as a Databricks App, as its deployment names them."""

from pathlib import Path

from caspers_lib.console.databases import ConsoleDatabase
from caspers_lib.lakebase import COMPLAINTS, REFUNDS
from caspers_lib.lakebase.lakebase_address import read_addresses

__all__ = ["app_databases"]

_NO_COMPLAINTS = "There is no database of complaints in this deployment."


def app_databases(folder: Path) -> tuple[ConsoleDatabase, ConsoleDatabase]:
    """The databases of refunds and of complaints; user and port are those of the `PG...` variables.

    Args:
        folder: of the app's code, with the file that the deployment writes: see
            `lakebase.lakebase_address`. Without it there are no databases.

    Raises:
        PostgresError: the file can't be read.
    """
    addresses = read_addresses(folder)

    def database(name: str, absent: str = "") -> ConsoleDatabase:
        address = addresses.get(name)
        access = address.postgres(name) if address else None
        return ConsoleDatabase(name, lambda: access, absent=absent)

    return database(REFUNDS.database), database(COMPLAINTS.database, _NO_COMPLAINTS)
