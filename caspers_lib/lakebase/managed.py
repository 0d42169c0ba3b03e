"""Databricks keeps a synced table: the same `SyncSpec`, created through `w.postgres`.

Every function may be called again: what is there already is kept. Nothing of it was tried on a
workspace; the tests run the SDK itself against a stand-in that refuses whatever it doesn't know.
Contract: DESIGN section 8. Why: docs/decisions/managed-synced-tables.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Literal

from caspers_lib.errors import SyncError
from caspers_lib.lakebase.managed_calls import change_feed_cures, ensured, removed
from caspers_lib.lakebase.managed_request import (
    ManagedPlace,
    checked_branch,
    checked_catalog,
    checked_database,
    checked_project,
    checked_table_id,
    differences,
    production_branch,
    project_id,
    source_name,
    spec_mismatches,
    synced_table_id,
    synced_table_request,
)
from caspers_lib.lakebase.sync_spec import SyncSpec
from caspers_lib.workspace_calls import Deadline, Patience, found, refusal

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.service.postgres import Catalog, Project, SyncedTable

__all__ = [
    "TWENTY_MINUTES",
    "ManagedOutcome",
    "ManagedPlace",
    "Patience",
    "SyncedTableStatus",
    "create_synced_table",
    "delete_managed",
    "differences",
    "ensure_catalog",
    "ensure_project",
    "production_branch",
    "project_id",
    "synced_table_id",
    "synced_table_request",
    "synced_table_status",
]

TWENTY_MINUTES = Patience()
"""How long each function waits if nothing else is said."""

_FAILED = "SYNCED_TABLE_OFFLINE_FAILED"
_PROVISIONING = "SYNCED_TABLE_PROVISIONING"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedOutcome:
    """What became of one resource.

    Args:
        name: its resource name, such as `projects/x`.
        done: whether it was created or existed, was deleted or was not there.
        status: a synced table's state in the service's words; empty for what has none.
    """

    name: str
    done: Literal["created", "exists", "deleted", "absent"]
    status: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncedTableStatus:
    """How far a managed synced table is.

    Args:
        name: its resource name.
        state: its state in the service's words; empty if it says none.
        message: what the service says about it.
        last_sync_time: when rows arrived last; None if it is not said.
        commit_version: the source's commit that is synced; None if it is not said.
    """

    name: str
    state: str
    message: str
    last_sync_time: datetime | None
    commit_version: int | None


def ensure_project(
    client: "WorkspaceClient",
    name: str,
    *,
    pg_version: int = 17,
    patience: Patience = TWENTY_MINUTES,
) -> ManagedOutcome:
    """See that there is a Lakebase project, with its branch `production`.

    Args:
        client: the workspace.
        name: the name that people see; `project_id` makes the id of it.
        pg_version: PostgreSQL's major version.
        patience: how long to wait.

    Raises:
        SettingsError: the name is none.
        WorkspaceError: it could not be created, or not in time.
        SyncError: the one that exists has another version, or was deleted and is not purged yet.
    """
    from databricks.sdk.service.postgres import Project, ProjectSpec

    identity = project_id(name)
    wanted = Project(spec=ProjectSpec(display_name=name, pg_version=pg_version))
    created = ensured(
        client,
        f"projects/{identity}",
        get=client.postgres.get_project,
        create=lambda: client.postgres.create_project(wanted, identity),
        check=partial(_check_project, identity, pg_version),
        deadline=patience.starts(),
    )
    return _outcome(f"projects/{identity}", created)


def ensure_catalog(
    client: "WorkspaceClient",
    catalog: str,
    *,
    branch: str,
    database: str,
    patience: Patience = TWENTY_MINUTES,
) -> ManagedOutcome:
    """See that a database of a branch is a catalog; the database is made if it is missing.

    Args:
        client: the workspace.
        catalog: the name in Unity Catalog.
        branch: `projects/x/branches/y`.
        database: the PostgreSQL database.
        patience: how long to wait.

    Raises:
        SettingsError: a name that the service doesn't take.
        WorkspaceError: it could not be created, or not in time.
        SyncError: the one that exists is another database's.
    """
    from databricks.sdk.service.postgres import Catalog, CatalogCatalogSpec

    name = f"catalogs/{checked_catalog(catalog)}"
    spec = CatalogCatalogSpec(
        postgres_database=checked_database(database),
        branch=checked_branch(branch),
        create_database_if_missing=True,
    )
    created = ensured(
        client,
        name,
        get=client.postgres.get_catalog,
        create=lambda: client.postgres.create_catalog(Catalog(spec=spec), catalog),
        check=partial(_check_catalog, name, branch, database),
        deadline=patience.starts(),
    )
    return _outcome(name, created)


def create_synced_table(
    client: "WorkspaceClient",
    spec: SyncSpec,
    place: ManagedPlace,
    *,
    patience: Patience = TWENTY_MINUTES,
) -> ManagedOutcome:
    """See that a managed synced table exists, and wait until it is provisioned.

    One that is not what the spec says is left alone, since it may be somebody else's.

    Args:
        client: the workspace.
        spec: what is synced.
        place: where; its project and catalog exist.
        patience: how long to wait.

    Raises:
        SyncError: the spec asks for what a managed synced table can't do, or the one that exists
            is another one.
        WorkspaceError: it could not be created, not in time, or failed.
    """
    identity, wanted = synced_table_request(spec, place)
    name, source = f"synced_tables/{identity}", source_name(spec, place.source_catalog)
    deadline = patience.starts()
    created = ensured(
        client,
        name,
        get=client.postgres.get_synced_table,
        create=lambda: client.postgres.create_synced_table(wanted, identity),
        check=partial(_check_synced_table, name, wanted),
        deadline=deadline,
        source=source,
    )
    table = _provisioned(client, name, deadline)
    if _state(table) == _FAILED:
        cures = change_feed_cures(source)
        raise refusal(f"{name} has failed", _message(table), _FAILED, cures=cures)
    return _outcome(name, created, _state(table))


def delete_managed(
    client: "WorkspaceClient",
    *,
    synced_tables: Sequence[str] = (),
    catalog: str | None = None,
    project: str | None = None,
    patience: Patience = TWENTY_MINUTES,
) -> tuple[ManagedOutcome, ...]:
    """Delete synced tables, then their catalog, then the project with all its data, for good.

    What is not there counts as done, so that an interrupted deletion can be called again.

    Args:
        client: the workspace.
        synced_tables: ids, `catalog.schema.table`.
        catalog: the Lakebase catalog; None to leave it.
        project: the project's id; None to leave it.
        patience: how long to wait for each.

    Returns:
        What became of each, in this order.

    Raises:
        SettingsError: a name that nothing can have; nothing has been deleted.
        WorkspaceError: one could not be deleted, or not in time; those after it were left.
    """
    api = client.postgres
    steps: list[tuple[str, partial[bool]]] = []
    for table in synced_tables:
        step = partial(removed, get=api.get_synced_table, delete=api.delete_synced_table)
        steps.append((f"synced_tables/{checked_table_id(table)}", step))
    if catalog is not None:
        step = partial(removed, get=api.get_catalog, delete=api.delete_catalog)
        steps.append((f"catalogs/{checked_catalog(catalog)}", step))
    if project is not None:
        purge = partial(api.delete_project, purge=True)
        step = partial(removed, get=api.get_project, delete=purge)
        steps.append((f"projects/{checked_project(project)}", step))
    return tuple(
        ManagedOutcome(
            name=name,
            done="deleted" if step(client, name, deadline=patience.starts()) else "absent",
        )
        for name, step in steps
    )


def synced_table_status(client: "WorkspaceClient", table: str) -> SyncedTableStatus | None:
    """How far a managed synced table is, as far as the service says.

    Args:
        client: the workspace.
        table: its id, `catalog.schema.table`.

    Returns:
        The status, or None if there is no such table.

    Raises:
        SettingsError: no table can have this id.
        WorkspaceError: the service doesn't answer or refuses.
    """
    name = f"synced_tables/{checked_table_id(table)}"
    there = found(client.postgres.get_synced_table, name)
    if there is None:
        return None
    status, moment, version = there.status, None, None
    if status:
        moment, version = status.last_sync_time, status.last_processed_commit_version
        if last := status.last_sync:
            moment = moment or last.sync_end_time
            if version is None and last.delta_table_sync_info:
                version = last.delta_table_sync_info.delta_commit_version
    return SyncedTableStatus(
        name=name,
        state=_state(there),
        message=_message(there),
        last_sync_time=moment.ToDatetime(tzinfo=UTC) if moment else None,
        commit_version=version,
    )


def _check_project(identity: str, pg_version: int, project: "Project") -> None:
    if project.delete_time:
        raise SyncError(
            f"The project {identity} was deleted, but not purged.",
            hint="Undelete it in the workspace, or purge it with delete_managed.",
        )
    versions = (part.pg_version for part in (project.status, project.spec) if part)
    version = next(filter(None, versions), pg_version)
    if version != pg_version:
        raise SyncError(
            f"The project {identity} exists with PostgreSQL {version}, not {pg_version}.",
            hint="Choose another name, or this version.",
        )


def _check_catalog(name: str, branch: str, database: str, catalog: "Catalog") -> None:
    said = [part for part in (catalog.status, catalog.spec) if part]
    there = (
        next(filter(None, (part.branch for part in said)), None),
        next(filter(None, (part.postgres_database for part in said)), None),
    )
    if there != (branch, database):
        raise SyncError(
            f"{name} exists for the database {there[1]} of {there[0]}, not {database} of {branch}.",
            hint="Choose another name; it was left alone, since it may be somebody else's.",
        )


def _check_synced_table(name: str, wanted: "SyncedTable", table: "SyncedTable") -> None:
    if wrong := spec_mismatches(table, wanted):
        raise SyncError(
            f"{name} exists as another one: {'; '.join(wrong)}.",
            hint="Choose another table; it was left alone, since it may be somebody else's.",
        )


def _provisioned(client: "WorkspaceClient", name: str, deadline: Deadline) -> "SyncedTable":
    """The table as soon as its first copy is made, also if an earlier call didn't wait so long."""

    def look() -> "SyncedTable | None":
        table = found(client.postgres.get_synced_table, name)
        return None if table is None or _state(table).startswith(_PROVISIONING) else table

    return deadline.until(f"{name} was not provisioned", look)


def _outcome(name: str, created: bool, status: str = "") -> ManagedOutcome:
    return ManagedOutcome(name=name, done="created" if created else "exists", status=status)


def _state(table: "SyncedTable") -> str:
    state = table.status and table.status.detailed_state
    return state.value if state else ""


def _message(table: "SyncedTable") -> str:
    return (table.status and table.status.message) or ""
