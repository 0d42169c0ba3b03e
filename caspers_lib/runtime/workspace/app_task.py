"""The task that serves the console: its database, its code and its deployment.

Contract: DESIGN section 9. It may be called again: what is right already is kept, and an app whose
files didn't change is not deployed anew.
"""

import base64
import json
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from caspers_lib.errors import WorkspaceError
from caspers_lib.runtime.workspace.app_package import app_files
from caspers_lib.runtime.workspace.context import TaskOutcome, Workspace
from caspers_lib.runtime.workspace.lakebase_places import refund_place
from caspers_lib.runtime.workspace.ledger import Ensured
from caspers_lib.runtime.workspace.resource_kinds import APP_DATABASE
from caspers_lib.workspace_calls import asked, found

if TYPE_CHECKING:
    from databricks.sdk.service.apps import (
        App,
        AppDeployment,
        AppDeploymentStatus,
        AppResource,
        AppUpdateUpdateStatus,
    )

__all__ = ["databricks_app_refund_manager"]

_ENDED = frozenset({"SUCCEEDED", "FAILED"})


def databricks_app_refund_manager(workspace: Workspace) -> TaskOutcome:
    """The bundle's app with the refunds' database, started, and with its newest code.

    Args:
        workspace: where.

    Raises:
        SettingsError: no app or code is named.
        WorkspaceError: there is no such app or database, it doesn't start, or its code fails.
        PostgresError: the app could not be let read the refunds.
    """
    hint = "the bundle gives it: deploy examples/bundle"
    name, source = workspace.needed("app_name", hint), workspace.needed("app_source", hint)
    attached = _attached_database(workspace, name)
    app = _started(workspace, name)
    _let_read(workspace, app)
    changed = _upload(workspace, source)
    deployment, became = _deployed(workspace, app, source, changed)
    return TaskOutcome(
        task="Databricks_App_Refund_Manager",
        done=f"{app.url or name} runs deployment {deployment}, {became}",
        resources=(attached,),
    )


def _app(workspace: Workspace, name: str) -> "App":
    app = found(workspace.client.apps.get, name)
    if app is None:
        raise WorkspaceError(
            f"There is no app {name}.", hint="Deploy examples/bundle, which declares it."
        )
    return app


def _principal(app: "App") -> str:
    """The role that the app has in a database: its own service principal's client id."""
    if not app.service_principal_client_id:
        raise WorkspaceError(
            f"The app {app.name} has no service principal yet.", hint="Run this task again."
        )
    return app.service_principal_client_id


def _let_read(workspace: Workspace, app: "App") -> None:
    # Needs a driver of PostgreSQL, which the other tasks do without.
    from caspers_lib.lakebase.lakebase_database import lakebase_database, let_read

    place = refund_place(workspace.settings)
    reach = workspace.reach or lakebase_database
    database = reach(workspace.client, place.branch, place.database)
    let_read(database, _principal(app), place.schemas)


def _attached_database(workspace: Workspace, name: str) -> Ensured:
    """The refunds' database as the app's, which makes it a role there; other resources stay."""
    from databricks.sdk.service.apps import App

    wanted = _database(workspace)
    what, apps = f"The app {name} did not get its database", workspace.client.apps

    def idle() -> bool | None:
        last = found(apps.get_update, name)
        return None if last and _state(last.status) == "IN_PROGRESS" else True

    def updated() -> "AppUpdateUpdateStatus | None":
        status = asked(what, lambda: apps.get_update(name)).status
        return status if _state(status) in _ENDED else None

    def attach() -> None:
        # A change of somebody else, or one that outlived its caller: a second would be refused.
        workspace.patience.starts().until(what, idle)
        others = [
            each for each in _app(workspace, name).resources or [] if each.name != wanted.name
        ]
        changed = App(name=name, resources=[*others, wanted])
        asked(what, lambda: apps.create_update(name, "resources", app=changed))
        status = workspace.patience.starts().until(what, updated)
        if _state(status) == "FAILED":
            raise WorkspaceError(
                f"{what}: {status.message}",
                hint="The app's page in the workspace may say more.",
            )

    print_ = json.dumps(wanted.as_dict(), sort_keys=True)
    return workspace.ledger.ensure("app_database", name, attach, fingerprint=print_)


def _state(status: "AppUpdateUpdateStatus | AppDeploymentStatus | None") -> str:
    return status.state.value if status and status.state else ""


def _database(workspace: Workspace) -> "AppResource":
    from databricks.sdk.service.apps import (
        AppResource,
        AppResourcePostgres,
        AppResourcePostgresPostgresPermission,
    )

    from caspers_lib.lakebase.lakebase_database import database_resource

    place = refund_place(workspace.settings)
    return AppResource(
        name=APP_DATABASE,
        postgres=AppResourcePostgres(
            branch=place.branch,
            database=database_resource(workspace.client, place.branch, place.database),
            permission=AppResourcePostgresPostgresPermission.CAN_CONNECT_AND_CREATE,
        ),
    )


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


def _upload(workspace: Workspace, source: str) -> int:
    """Write what differs of the library's files; when the folder changed last, epoch ms."""
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

    for name, content in app_files().items():
        text = base64.b64encode(content).decode()
        write(f"{source}/{name}", text, is_there=name in there)
    listed = asked(f"{what} can't be read", lambda: list(files.list(source)))
    return max((each.modified_at or 0 for each in listed), default=0)


def _deployed(workspace: Workspace, app: "App", source: str, changed: int) -> tuple[str, str]:
    """The id of the deployment that runs, and whether it is new."""
    from databricks.sdk.service.apps import AppDeployment, AppDeploymentMode

    active = app.active_deployment
    if active and active.source_code_path == source and _epoch_ms(active) >= changed:
        return active.deployment_id or "", "unchanged"
    name, apps = app.name, workspace.client.apps
    what = f"The code {source} of the app {name} was not deployed"
    wanted = AppDeployment(source_code_path=source, mode=AppDeploymentMode.SNAPSHOT)
    pending = app.pending_deployment
    if pending and pending.source_code_path == source and _epoch_ms(pending) >= changed:
        identity = pending.deployment_id or ""
    else:
        identity = asked(what, lambda: apps.deploy(name, wanted).deployment_id) or ""

    def looked() -> str | None:
        status = asked(what, lambda: apps.get_deployment(name, identity)).status
        state = _state(status)
        if state in {"FAILED", "CANCELLED"}:
            raise WorkspaceError(
                f"{what}: {status.message if status else state}",
                hint="The app's log says more; this task can be run again.",
            )
        return identity if state == "SUCCEEDED" else None

    return workspace.patience.starts().until(what, looked), "new"


def _epoch_ms(deployment: "AppDeployment") -> int:
    """When it was made; a deployment of unknown age counts as old."""
    if not deployment.create_time:
        return 0
    made = datetime.fromisoformat(deployment.create_time)
    return int(made.timestamp() * 1000)
