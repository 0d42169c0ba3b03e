"""The tasks that bring results to people: synced tables in the bundle's databases, and the app.

Each may be called again: what is there already is kept.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from caspers_lib.errors import WorkspaceError
from caspers_lib.lakebase import SyncSpec
from caspers_lib.lakebase.managed import (
    create_synced_table,
    synced_table_id,
    synced_table_pipeline,
    wait_for_synced_table,
)
from caspers_lib.workspace.context import TaskOutcome, Workspace
from caspers_lib.workspace.declared import declared_name, declared_resources
from caspers_lib.workspace.lakebase_places import (
    LakebasePlace,
    complaint_place,
    refund_place,
)
from caspers_lib.workspace.ledger import Wanted
from caspers_lib.workspace.schedules import STREAM_MINUTES, schedule
from caspers_lib.workspace_calls import found

if TYPE_CHECKING:
    from databricks.sdk.service.apps import App

__all__ = ["complaint_lakebase", "databricks_app_refund_manager", "lakebase_reverse_etl"]


def lakebase_reverse_etl(workspace: Workspace) -> TaskOutcome:
    """The synced tables of the refund manager, and the schedule of the stream that fills them.

    Args:
        workspace: where.

    Raises:
        SettingsError: the bundle told of no project.
        WorkspaceError: something could not be made, or its name is taken.
    """
    place = refund_place(workspace.settings)
    stream = ("refund_recommender_stream", "Refund Recommender Stream")
    return _lakebase(workspace, "Lakebase_Reverse_ETL", place, [stream])


def complaint_lakebase(workspace: Workspace) -> TaskOutcome:
    """The synced tables of the complaint manager, and the schedules of the streams that fill them.

    An app that this target has is let read them.

    Args:
        workspace: where.

    Raises:
        SettingsError: the bundle told of no project.
        WorkspaceError: something could not be made, or its name is taken.
        PostgresError: the app could not be let read the complaints.
    """
    place = complaint_place(workspace.settings)
    streams = [
        ("complaint_generator_stream", "Complaint Generator Stream"),
        ("complaint_agent_stream", "Complaint Agent Stream"),
    ]
    outcome = _lakebase(workspace, "Complaint_Lakebase", place, streams)
    if "apps.refund_manager" not in declared_resources(workspace.settings):
        return outcome
    rights = _let_read(workspace, _app(workspace), place)
    return replace(outcome, done=f"{outcome.done}; {rights}")


def databricks_app_refund_manager(workspace: Workspace) -> TaskOutcome:
    """The bundle's app: let read the refunds, and waited for until it runs.

    Args:
        workspace: where.

    Raises:
        SettingsError: the bundle told of no app.
        WorkspaceError: there is no such app, or it doesn't run.
        PostgresError: the app could not be let read the refunds.
    """
    rights = _let_read(workspace, _app(workspace), refund_place(workspace.settings))

    def looked() -> "App | None":
        app = _app(workspace)
        state = app.compute_status and app.compute_status.state
        if state and state.value in {"ERROR", "STOPPED"}:
            raise WorkspaceError(
                f"The app {app.name} is {state.value.lower()}.",
                hint="Its page in the workspace says why: start it there, then run this again.",
            )
        running = app.app_status and app.app_status.state
        if running and running.value == "CRASHED":
            raise WorkspaceError(
                f"The app {app.name} has crashed.",
                hint="Its log in the workspace says why; deploy the bundle again after the cure.",
            )
        return app if running and running.value == "RUNNING" else None

    app = workspace.patience.starts().until("The app does not run", looked)
    return TaskOutcome(
        task="Databricks_App_Refund_Manager", done=f"{app.url or app.name} runs; {rights}"
    )


def _lakebase(
    workspace: Workspace, task: str, place: LakebasePlace, streams: list[tuple[str, str]]
) -> TaskOutcome:
    synced = [_synced(workspace, place, spec) for spec in place.tables]
    # After the tables, so that a schedule's row never says more than there is.
    scheduled = [
        each for key, title in streams for each in schedule(workspace, key, title, STREAM_MINUTES)
    ]
    made = workspace.ledger.ensure_all(synced)
    made += workspace.ledger.ensure_all(scheduled)
    tables = ", ".join(f"{spec.schema}.{spec.table}" for spec in place.tables)
    return TaskOutcome(
        task=task, done=f"{tables} in {place.project}, database {place.database}", resources=made
    )


def _synced(workspace: Workspace, place: LakebasePlace, spec: SyncSpec) -> Wanted:
    """A synced table; those of one mode share a pipeline, that of the first."""
    client, patience, managed = workspace.client, workspace.patience, place.managed
    identity, operations = synced_table_id(spec, managed), list[str]()
    mode = (each for each in place.tables if each.mode == spec.mode)
    first = synced_table_id(next(mode), managed)

    def create() -> None:
        shared = None if identity == first else synced_table_pipeline(client, first)
        operation = create_synced_table(client, spec, managed, pipeline=shared)
        if operation is not None:
            operations.append(operation)
        if identity == first:
            patience.starts().until(
                f"The synced table {identity} got no pipeline",
                lambda: synced_table_pipeline(client, identity),
            )

    def settle() -> str:
        operation = next(iter(operations), None)
        return wait_for_synced_table(client, spec, managed, operation, patience=patience).state

    return Wanted(kind="synced_table", name=identity, create=create, settle=settle)


def _app(workspace: Workspace) -> "App":
    name = declared_name(workspace.settings, "apps.refund_manager")
    app = found(workspace.client.apps.get, name)
    if app is None:
        raise WorkspaceError(
            f"There is no app {name}.", hint="Deploy examples/bundle, which declares it."
        )
    return app


def _let_read(workspace: Workspace, app: "App", place: LakebasePlace) -> str:
    """Let the app's role read the synced tables of a database; what it may read now."""
    # Needs a driver of PostgreSQL, which the other tasks do without.
    from caspers_lib.lakebase.lakebase_database import lakebase_database, let_read

    # In a database the app is its own service principal, by its client id.
    role = app.service_principal_client_id
    if not role:
        raise WorkspaceError(
            f"The app {app.name} has no service principal yet.", hint="Run this task again."
        )
    reach = workspace.reach or lakebase_database
    database = reach(workspace.client, place.managed.branch, place.database)
    closed = let_read(database, role, place.schemas)
    rights = f"it may read {place.database}"
    return f"{rights}; run this again when {', '.join(closed)} is copied anew" if closed else rights
