"""The console as a Databricks App: the platform names the database, a token opens it."""

import os

import uvicorn

from caspers_lib.console.app import ConsoleParts, create_app
from caspers_lib.console.databases import ConsoleDatabase
from caspers_lib.lakebase import COMPLAINTS, REFUNDS, Database, Postgres
from caspers_lib.lakebase.lakebase_login import LakebaseLogin


def refunds() -> Database | None:
    """The app's own database; libpq reads host, user and name from PG* by itself."""
    if "PGHOST" not in os.environ:
        return None
    return Postgres("", LakebaseLogin(os.environ["LAKEBASE_ENDPOINT"]))


def complaints() -> Database | None:
    """Another project, where the target has one: `COMPLAINTS_DSN` and `COMPLAINTS_ENDPOINT`."""
    if "COMPLAINTS_DSN" not in os.environ:
        return refunds()
    return Postgres(os.environ["COMPLAINTS_DSN"], LakebaseLogin(os.environ["COMPLAINTS_ENDPOINT"]))


app = create_app(
    ConsoleParts(
        refunds=ConsoleDatabase(REFUNDS.database, refunds),
        complaints=ConsoleDatabase(COMPLAINTS.database, complaints),
    )
)

if __name__ == "__main__":
    port = int(os.environ["DATABRICKS_APP_PORT"])
    uvicorn.run(app, host="0.0.0.0", port=port)  # noqa: S104 - behind the proxy
