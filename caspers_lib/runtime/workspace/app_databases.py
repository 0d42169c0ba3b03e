"""Which databases an app has: those on record at this moment, attached, readable, and told to it.

Contract: DESIGN section 9. Needs a driver of PostgreSQL, which the other tasks do without.
"""

import json
from dataclasses import dataclass

from databricks.sdk.service.apps import (
    App,
    AppResource,
    AppResourcePostgres,
    AppResourcePostgresPostgresPermission,
)

from caspers_lib.errors import WorkspaceError
from caspers_lib.lakebase.lakebase_address import addresses_text
from caspers_lib.lakebase.lakebase_database import (
    database_resource,
    lakebase_database,
    let_read,
    writable_address,
)
from caspers_lib.runtime.workspace.app_resources import (
    COMPLAINTS_DATABASE,
    REFUNDS_DATABASE,
    attach_resource,
    resource_row,
)
from caspers_lib.runtime.workspace.context import Workspace
from caspers_lib.runtime.workspace.lakebase_places import (
    LakebasePlace,
    complaint_place,
    refund_place,
)
from caspers_lib.runtime.workspace.ledger import Ensured

__all__ = ["AppDatabase", "app_databases", "attach", "has_all", "let_app_read", "told"]


@dataclass(frozen=True, slots=True)
class AppDatabase:
    """A database of the console's app.

    Args:
        resource: its name among the app's resources.
        place: where it is.
        made_by: the task that makes it.
    """

    resource: str
    place: LakebasePlace
    made_by: str


def app_databases(workspace: Workspace) -> tuple[AppDatabase, ...]:
    """The databases that the app has to have now: refunds, and complaints if they are on record.

    Args:
        workspace: where; its account is read anew, since another task may be making one.

    Raises:
        ResourceStateError: the account can't be read.
    """
    refunds = refund_place(workspace.settings)
    complaints = complaint_place(workspace.settings)
    row = workspace.ledger.row_now("lakebase_catalog", complaints.catalog)
    found = [AppDatabase(REFUNDS_DATABASE, refunds, "Lakebase_Reverse_ETL")]
    if row is not None and row.status == "ready":
        found.append(AppDatabase(COMPLAINTS_DATABASE, complaints, "Complaint_Lakebase"))
    return tuple(found)


def attach(workspace: Workspace, name: str, database: AppDatabase) -> Ensured:
    """Give an app a database, which makes the app a role there; its other resources stay.

    Args:
        workspace: where.
        name: the app.
        database: what it gets.

    Raises:
        WorkspaceError: there is no such app or database, or the app did not get it.
    """
    client, place = workspace.client, database.place
    wanted = AppResource(
        name=database.resource,
        postgres=AppResourcePostgres(
            branch=place.branch,
            database=database_resource(
                client, place.branch, place.database, made_by=database.made_by
            ),
            permission=AppResourcePostgresPostgresPermission.CAN_CONNECT_AND_CREATE,
        ),
    )
    return workspace.ledger.ensure(
        "app_database",
        resource_row(name, database.resource),
        lambda: attach_resource(client, name, wanted, workspace.patience),
        fingerprint=json.dumps(wanted.as_dict(), sort_keys=True),
    )


def has_all(app: App, databases: tuple[AppDatabase, ...]) -> bool:
    """Whether an app has databases of these names.

    Args:
        app: as it is now.
        databases: what it has to have.
    """
    return {each.resource for each in databases} <= {each.name for each in app.resources or []}


def let_app_read(workspace: Workspace, app: App, database: AppDatabase) -> None:
    """Let an app's role read the synced tables of a database.

    Args:
        workspace: where.
        app: has the database.
        database: which one.

    Raises:
        WorkspaceError: the app has no role yet.
        PostgresError: the right could not be given.
    """
    # In a database the app is its own service principal, by its client id.
    role = app.service_principal_client_id
    if not role:
        raise WorkspaceError(
            f"The app {app.name} has no service principal yet.", hint="Run this task again."
        )
    place = database.place
    reach = workspace.reach or lakebase_database
    let_read(reach(workspace.client, place.branch, place.database), role, place.schemas)


def told(workspace: Workspace, databases: tuple[AppDatabase, ...]) -> bytes:
    """The file that tells an app where its databases are.

    Args:
        workspace: where.
        databases: what the app has.

    Raises:
        WorkspaceError: one has no endpoint that takes writes.
    """
    addresses = {
        each.place.database: writable_address(workspace.client, each.place.branch)
        for each in databases
    }
    return addresses_text(addresses).encode()
