"""The tasks that bring results to people's databases: Lakebase with its synced tables.

Contract: DESIGN section 9. Each may be called again: what is there already is kept.
"""

from dataclasses import replace

from caspers_lib.lakebase import SyncSpec
from caspers_lib.lakebase.managed import (
    create_synced_table,
    ensure_catalog,
    ensure_project,
    synced_table_id,
)
from caspers_lib.runtime.workspace.app_task import served_again
from caspers_lib.runtime.workspace.context import TaskOutcome, Workspace
from caspers_lib.runtime.workspace.lakebase_places import (
    LakebasePlace,
    complaint_place,
    refund_place,
)
from caspers_lib.runtime.workspace.ledger import Ensured

__all__ = ["complaint_lakebase", "lakebase_reverse_etl"]


def lakebase_reverse_etl(workspace: Workspace) -> TaskOutcome:
    """The Lakebase project of the refund manager, with its synced tables.

    Args:
        workspace: where.

    Raises:
        WorkspaceError: something could not be made, or its name is taken.
    """
    return _lakebase(workspace, "Lakebase_Reverse_ETL", refund_place(workspace.settings))


def complaint_lakebase(workspace: Workspace) -> TaskOutcome:
    """The Lakebase project of the complaint manager, with its synced tables.

    An app that this target serves already gets the database; one that is served later finds it.

    Args:
        workspace: where.

    Raises:
        WorkspaceError: something could not be made, or its name is taken; or the app fails.
        PostgresError: the app could not be let read the complaints.
    """
    made = _lakebase(workspace, "Complaint_Lakebase", complaint_place(workspace.settings))
    served = served_again(workspace)
    if served is None:
        return made
    return replace(
        made,
        done=f"{made.done}; {served.url} has it",
        resources=(*made.resources, *served.databases),
    )


def _lakebase(workspace: Workspace, task: str, place: LakebasePlace) -> TaskOutcome:
    client, ledger, patience = workspace.client, workspace.ledger, workspace.patience
    database = place.database

    def make_project() -> None:
        ensure_project(client, place.shown, patience=patience)

    def make_catalog() -> None:
        ensure_catalog(
            client, place.catalog, branch=place.branch, database=database, patience=patience
        )

    made = [
        ledger.ensure("lakebase_project", place.project, make_project),
        ledger.ensure("lakebase_catalog", place.catalog, make_catalog),
        *(_synced(workspace, spec, place) for spec in place.tables),
    ]
    tables = ", ".join(f"{spec.schema}.{spec.table}" for spec in place.tables)
    return TaskOutcome(
        task=task, done=f"{tables} in {place.project}, database {database}", resources=tuple(made)
    )


def _synced(workspace: Workspace, spec: SyncSpec, place: LakebasePlace) -> Ensured:
    def make() -> str:
        return create_synced_table(
            workspace.client, spec, place.managed, patience=workspace.patience
        ).status

    return workspace.ledger.ensure("synced_table", synced_table_id(spec, place.managed), make)
