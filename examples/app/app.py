"""The console as a Databricks App: the platform names the database, a token opens it."""

import os

import uvicorn

from caspers_lib.console.access import access_from_environment
from caspers_lib.console.app import ConsoleParts, create_app
from caspers_lib.console.databases import ConsoleDatabase
from caspers_lib.lakebase import COMPLAINTS, REFUNDS, Postgres
from caspers_lib.lakebase.lakebase_login import LakebaseLogin


def database() -> Postgres | None:
    """The app's database, also for complaints; libpq reads host, user and name from PG*."""
    endpoint = os.environ.get("LAKEBASE_ENDPOINT")
    return Postgres("", LakebaseLogin(endpoint)) if endpoint else None


refunds = ConsoleDatabase(REFUNDS.database, database)
complaints = ConsoleDatabase(COMPLAINTS.database, database)
access = access_from_environment(os.environ)
app = create_app(ConsoleParts(refunds=refunds, complaints=complaints, access=access))

if __name__ == "__main__":
    port = int(os.environ["DATABRICKS_APP_PORT"])
    uvicorn.run(app, host="0.0.0.0", port=port)  # noqa: S104 - behind the proxy
