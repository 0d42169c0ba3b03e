"""The tasks that bring results to people: Lakebase with its synced tables, and the app.

Contract: DESIGN section 9. Each may be called again: what is there already is kept.
"""

from typing import TYPE_CHECKING

from caspers_lib.errors import WorkspaceError
from caspers_lib.lakebase import COMPLAINT_TEXTS, COMPLAINTS, REFUNDS, SyncSpec
from caspers_lib.lakebase.managed import (
    ManagedPlace,
    create_synced_table,
    ensure_catalog,
    ensure_project,
    production_branch,
    synced_table_id,
)
from caspers_lib.runtime.workspace.context import TaskOutcome, Workspace
from caspers_lib.runtime.workspace.ledger import Ensured
from caspers_lib.service_names import lakebase_catalog, project_id
from caspers_lib.workspace_calls import asked, found

if TYPE_CHECKING:
    from databricks.sdk.service.apps import App

__all__ = ["complaint_lakebase", "databricks_app_refund_manager", "lakebase_reverse_etl"]


def lakebase_reverse_etl(workspace: Workspace) -> TaskOutcome:
    """The Lakebase project of the refund manager, with its synced table.

    Args:
        workspace: where.

    Raises:
        WorkspaceError: something could not be made, or its name is taken.
    """
    return _lakebase(workspace, "Lakebase_Reverse_ETL", "refundmanager", (REFUNDS,))


def complaint_lakebase(workspace: Workspace) -> TaskOutcome:
    """The Lakebase project of the complaint manager, with its synced tables.

    Args:
        workspace: where.

    Raises:
        WorkspaceError: something could not be made, or its name is taken.
    """
    specs = (COMPLAINT_TEXTS, COMPLAINTS)
    return _lakebase(workspace, "Complaint_Lakebase", "complaintmanager", specs)


def databricks_app_refund_manager(workspace: Workspace) -> TaskOutcome:
    """The bundle's app, started and with its newest code.

    Args:
        workspace: where.

    Raises:
        SettingsError: no app or code is named.
        WorkspaceError: there is no such app, it doesn't start, or its code fails.
    """
    hint = "the bundle gives it: deploy examples/bundle"
    name, source = workspace.needed("app_name", hint), workspace.needed("app_source", hint)
    app = found(workspace.client.apps.get, name)
    if app is None:
        raise WorkspaceError(
            f"There is no app {name}.", hint="Deploy examples/bundle, which declares it."
        )
    if _compute(app) != "ACTIVE":
        asked(f"The app {name} was not started", lambda: workspace.client.apps.start(name))
        workspace.patience.starts().until(
            f"The app {name} has not started", lambda: _active(workspace, name)
        )
    deployment = _deployed(workspace, name, source)
    return TaskOutcome(
        task="Databricks_App_Refund_Manager",
        done=f"{app.url or name} runs deployment {deployment}",
    )


def _lakebase(
    workspace: Workspace, task: str, purpose: str, specs: tuple[SyncSpec, ...]
) -> TaskOutcome:
    settings, ledger, patience = workspace.settings, workspace.ledger, workspace.patience
    client = workspace.client
    shown = f"{settings.catalog}{purpose}"
    project, catalog = project_id(shown), lakebase_catalog(f"{settings.catalog}_{purpose}")
    branch, database = production_branch(project), specs[0].database
    place = ManagedPlace(
        branch=branch,
        catalog=catalog,
        source_catalog=settings.catalog,
        storage_catalog=settings.catalog,
        storage_schema=specs[0].schema,
    )

    def make_project() -> None:
        ensure_project(client, shown, patience=patience)

    def make_catalog() -> None:
        ensure_catalog(client, catalog, branch=branch, database=database, patience=patience)

    made = [
        ledger.ensure("lakebase_project", project, make_project),
        ledger.ensure("lakebase_catalog", catalog, make_catalog),
        *(_synced(workspace, spec, place) for spec in specs),
    ]
    tables = ", ".join(f"{spec.schema}.{spec.table}" for spec in specs)
    return TaskOutcome(
        task=task, done=f"{tables} in {project}, database {database}", resources=tuple(made)
    )


def _synced(workspace: Workspace, spec: SyncSpec, place: ManagedPlace) -> Ensured:
    def make() -> str:
        return create_synced_table(
            workspace.client, spec, place, patience=workspace.patience
        ).status

    return workspace.ledger.ensure("synced_table", synced_table_id(spec, place), make)


def _compute(app: "App") -> str:
    status = app.compute_status
    return status.state.value if status and status.state else ""


def _active(workspace: Workspace, name: str) -> bool | None:
    app = found(workspace.client.apps.get, name)
    state = _compute(app) if app else "DELETED"
    if state == "ERROR":
        raise WorkspaceError(
            f"The app {name} does not start.", hint="Its page in the workspace says why."
        )
    return state == "ACTIVE" or None


def _deployed(workspace: Workspace, name: str, source: str) -> str:
    """The id of the deployment that runs; a deployment is a restart, not a resource."""
    from databricks.sdk.service.apps import AppDeployment, AppDeploymentMode

    apps, what = workspace.client.apps, f"The code {source} of the app {name} was not deployed"
    wanted = AppDeployment(source_code_path=source, mode=AppDeploymentMode.SNAPSHOT)
    identity = asked(what, lambda: apps.deploy(name, wanted).deployment_id) or ""

    def looked() -> str | None:
        deployment = asked(what, lambda: apps.get_deployment(name, identity))
        status = deployment.status
        state = status.state.value if status and status.state else ""
        if state in {"FAILED", "CANCELLED"}:
            raise WorkspaceError(
                f"{what}: {status.message if status else state}",
                hint="The app's log says more; this task can be run again.",
            )
        return identity if state == "SUCCEEDED" else None

    return workspace.patience.starts().until(what, looked)
