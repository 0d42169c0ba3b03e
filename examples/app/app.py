"""The console as a Databricks App: the bundle names the databases, a token opens them."""

import os

import uvicorn

from caspers_lib.console.access import access_from_environment
from caspers_lib.console.app import ConsoleParts, create_app
from caspers_lib.console.app_databases import app_databases

refunds, complaints = app_databases(os.environ)
access = access_from_environment(os.environ)
app = create_app(ConsoleParts(refunds=refunds, complaints=complaints, access=access))

if __name__ == "__main__":
    port = int(os.environ["DATABRICKS_APP_PORT"])
    uvicorn.run(app, host="0.0.0.0", port=port, proxy_headers=False)  # noqa: S104 - behind the proxy
