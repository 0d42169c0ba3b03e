"""The console as a Databricks App: the platform names the database, a token opens it."""

import os
import time
from functools import lru_cache

import uvicorn
from databricks.sdk import WorkspaceClient
from psycopg.conninfo import make_conninfo

from caspers_lib.console.app import create_app
from caspers_lib.console.source import LiveStatus


@lru_cache(maxsize=1)
def token(half_hour: int) -> str | None:  # noqa: ARG001 - a token lasts an hour
    """A password for the database that the platform's PG* variables name."""
    endpoint = os.environ["LAKEBASE_ENDPOINT"]
    return WorkspaceClient().postgres.generate_database_credential(endpoint=endpoint).token


def status() -> LiveStatus:
    """Where the refunds are; libpq reads host, user and database from PG* by itself."""
    if "PGHOST" not in os.environ:
        return LiveStatus()
    return LiveStatus(refunds_dsn=make_conninfo(password=token(int(time.time() // 1800))))


if __name__ == "__main__":
    port = int(os.environ["DATABRICKS_APP_PORT"])
    uvicorn.run(create_app(status), host="0.0.0.0", port=port)  # noqa: S104 - behind the proxy
