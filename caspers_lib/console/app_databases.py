"""The databases of a console that runs as a Databricks App, as the bundle's variables name them."""

import functools
from collections.abc import Mapping

from caspers_lib.console.databases import ConsoleDatabase
from caspers_lib.lakebase import COMPLAINTS, REFUNDS
from caspers_lib.lakebase.access import Database
from caspers_lib.lakebase.lakebase_database import endpoint_database
from caspers_lib.lakebase.lakebase_login import LakebaseLogin

__all__ = ["app_databases"]

_NO_COMPLAINTS = "There is no database of complaints in this deployment."


def app_databases(environment: Mapping[str, str]) -> tuple[ConsoleDatabase, ConsoleDatabase]:
    """The databases of refunds and of complaints.

    `REFUNDS_ENDPOINT` and `COMPLAINTS_ENDPOINT` are the endpoints of the app's databases, as the
    platform puts them in place of a `value_from`. Its `PG...` variables speak of the first database
    only: the host of the other one is asked for. User and port are the same for both.

    Args:
        environment: the variables by name.
    """
    refunds = environment.get("REFUNDS_ENDPOINT")
    complaints = environment.get("COMPLAINTS_ENDPOINT")
    return (
        ConsoleDatabase(
            REFUNDS.database,
            lambda: (
                endpoint_database(LakebaseLogin(refunds), REFUNDS.database) if refunds else None
            ),
        ),
        ConsoleDatabase(
            COMPLAINTS.database,
            lambda: _at_its_own_host(complaints, COMPLAINTS.database) if complaints else None,
            absent="" if complaints else _NO_COMPLAINTS,
        ),
    )


@functools.cache
def _at_its_own_host(endpoint: str, database: str) -> Database:
    """Asked once: an endpoint keeps its host."""
    login = LakebaseLogin(endpoint)
    return endpoint_database(login, database, host=login.host())
