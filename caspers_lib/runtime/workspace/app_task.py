"""The app that serves the console: its databases, its code and its deployment.

Contract: DESIGN section 9. It may be called again: what is right already is kept, and an app whose
files didn't change is not deployed anew.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from caspers_lib.errors import WorkspaceError
from caspers_lib.lakebase.lakebase_address import ADDRESSES_FILE
from caspers_lib.runtime.workspace.app_package import app_files
from caspers_lib.runtime.workspace.app_resources import REFUNDS_DATABASE, resource_row
from caspers_lib.runtime.workspace.context import TaskOutcome, Workspace
from caspers_lib.runtime.workspace.ledger import Ensured
from caspers_lib.workspace_calls import asked, found, is_conflict

if TYPE_CHECKING:
    from databricks.sdk.service.apps import App, AppDeployment

__all__ = ["ServedApp", "databricks_app_refund_manager", "served_again"]


@dataclass(frozen=True, slots=True)
class ServedApp:
    """The console's app, serving.

    Args:
        url: its address, or its name if it has none.
        deployment: the id of the deployment that runs.
        is_new: whether it was made now.
        databases: what became of each database that it has.
    """

    url: str
    deployment: str
    is_new: bool
    databases: tuple[Ensured, ...]


def databricks_app_refund_manager(workspace: Workspace) -> TaskOutcome:
    """The bundle's app with the databases that there are, started, and with its newest code.

    Args:
        workspace: where.

    Raises:
        SettingsError: no app or code is named.
        WorkspaceError: there is no such app or database, it doesn't start, or its code fails.
        PostgresError: the app could not be let read a database.
    """
    hint = "the bundle gives it: deploy examples/bundle"
    name, source = workspace.needed("app_name", hint), workspace.needed("app_source", hint)
    served = _serve(workspace, name, source)
    became = "new" if served.is_new else "unchanged"
    return TaskOutcome(
        task="Databricks_App_Refund_Manager",
        done=f"{served.url} runs deployment {served.deployment}, {became}",
        resources=served.databases,
    )


def served_again(workspace: Workspace) -> ServedApp | None:
    """The app with a database that has just been made, if this target serves one already.

    Whoever serves it later finds the database on record, also one who is about it now: it looks
    again after the app's own row says `ready`.

    Args:
        workspace: where; the new database is on record.

    Raises:
        WorkspaceError, PostgresError: as for the task that serves it.
    """
    name, source = workspace.settings.app_name, workspace.settings.app_source
    if not (name and source):
        return None
    row = workspace.ledger.row_now("app_database", resource_row(name, REFUNDS_DATABASE))
    is_served = row is not None and row.status == "ready"
    if not is_served or found(workspace.client.apps.get, name) is None:
        return None
    return _serve(workspace, name, source)


def _serve(workspace: Workspace, name: str, source: str) -> ServedApp:
    # Needs a driver of PostgreSQL, which the other tasks do without.
    from caspers_lib.runtime.workspace import app_databases as parts

    became: dict[str, Ensured] = {}
    made: set[str] = set()

    def settled() -> ServedApp | None:
        databases = parts.app_databases(workspace)
        for ensured in [parts.attach(workspace, name, each) for each in databases]:
            if ensured.name not in became or ensured.became != "unchanged":
                became[ensured.name] = ensured
        app = _started(workspace, name)
        for each in databases:
            parts.let_app_read(workspace, app, each)
        files = {**app_files(), ADDRESSES_FILE: parts.told(workspace, databases)}
        deployment, is_new = _deployed(workspace, name, source, _upload(workspace, source, files))
        made.update([deployment] if is_new else [])
        # Another task may have made a database since, or written an older list of resources.
        if parts.app_databases(workspace) != databases:
            return None
        if not parts.has_all(_app(workspace, name), databases):
            return None
        return ServedApp(
            url=app.url or name,
            deployment=deployment,
            is_new=deployment in made,
            databases=tuple(became.values()),
        )

    return workspace.patience.starts().until(
        f"The databases of the app {name} keep changing", settled
    )


def _app(workspace: Workspace, name: str) -> "App":
    app = found(workspace.client.apps.get, name)
    if app is None:
        raise WorkspaceError(
            f"There is no app {name}.", hint="Deploy examples/bundle, which declares it."
        )
    return app


def _started(workspace: Workspace, name: str) -> "App":
    if _compute(_app(workspace, name)) == "STOPPED":
        asked(f"The app {name} was not started", lambda: workspace.client.apps.start(name))

    def looked() -> "App | None":
        app = _app(workspace, name)
        if _compute(app) == "ERROR":
            raise WorkspaceError(
                f"The app {name} does not start.", hint="Its page in the workspace says why."
            )
        return app if _compute(app) == "ACTIVE" else None

    return workspace.patience.starts().until(f"The app {name} has not started", looked)


def _compute(app: "App") -> str:
    status = app.compute_status
    return status.state.value if status and status.state else ""


def _upload(workspace: Workspace, source: str, contents: Mapping[str, bytes]) -> int:
    """Write what differs of the files beside the code; when the folder changed last, epoch ms."""
    from databricks.sdk.service.workspace import ExportFormat, ImportFormat

    files, what = workspace.client.workspace, f"The app's code in {source}"
    listed = asked(f"{what} can't be read", lambda: list(files.list(source)))
    there = {(each.path or "").rpartition("/")[2] for each in listed}

    def write(path: str, text: str, *, is_there: bool) -> None:
        if is_there:
            export = partial(files.export, path, format=ExportFormat.AUTO)
            if asked(f"{path} can't be read", export).content == text:
                return
        asked(
            f"{path} was not written",
            lambda: files.import_(path, content=text, format=ImportFormat.AUTO, overwrite=True),
        )

    for name, content in contents.items():
        text = base64.b64encode(content).decode()
        write(f"{source}/{name}", text, is_there=name in there)
    listed = asked(f"{what} can't be read", lambda: list(files.list(source)))
    return max((each.modified_at or 0 for each in listed), default=0)


def _deployed(workspace: Workspace, name: str, source: str, changed: int) -> tuple[str, bool]:
    """The id of the deployment that runs, and whether it is new."""
    apps, what = workspace.client.apps, f"The code {source} of the app {name} was not deployed"

    def is_fresh(deployment: "AppDeployment | None") -> bool:
        return (
            deployment is not None
            and deployment.source_code_path == source
            and _epoch_ms(deployment) >= changed
        )

    app = _app(workspace, name)
    if app.active_deployment and is_fresh(app.active_deployment):
        return app.active_deployment.deployment_id or "", False

    def begun() -> str | None:
        pending = _app(workspace, name).pending_deployment
        if pending and is_fresh(pending):
            return pending.deployment_id
        return None if pending else _begun(workspace, name, source, what)

    identity = workspace.patience.starts().until(what, begun)

    def looked() -> str | None:
        status = asked(what, lambda: apps.get_deployment(name, identity)).status
        state = status.state.value if status and status.state else ""
        if state in {"FAILED", "CANCELLED"}:
            raise WorkspaceError(
                f"{what}: {status.message if status else state}",
                hint="The app's log says more; this task can be run again.",
            )
        return identity if state == "SUCCEEDED" else None

    return workspace.patience.starts().until(what, looked), True


def _begun(workspace: Workspace, name: str, source: str, what: str) -> str | None:
    """The id of a new deployment; None if another one has begun since the app was read."""
    from databricks.sdk.service.apps import AppDeployment, AppDeploymentMode

    wanted = AppDeployment(source_code_path=source, mode=AppDeploymentMode.SNAPSHOT)
    try:
        return asked(what, lambda: workspace.client.apps.deploy(name, wanted).deployment_id)
    except WorkspaceError as error:
        if isinstance(error.__cause__, Exception) and is_conflict(error.__cause__):
            return None
        raise


def _epoch_ms(deployment: "AppDeployment") -> int:
    """When it was made; a deployment of unknown age counts as old."""
    if not deployment.create_time:
        return 0
    made = datetime.fromisoformat(deployment.create_time)
    return int(made.timestamp() * 1000)
