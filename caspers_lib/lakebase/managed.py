"""Databricks keeps a synced table: the same `SyncSpec`, created through `w.postgres`.

Every function may be called again: what is there already is kept. Nothing of it was tried on a
workspace; the tests run the SDK itself against a stand-in that refuses whatever it doesn't know.
Why: docs/decisions/managed-synced-tables.md.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from caspers_lib.errors import SyncError, WorkspaceError
from caspers_lib.lakebase.managed_request import (
    ManagedPlace,
    checked_table_id,
    differences,
    production_branch,
    source_name,
    synced_table_id,
    synced_table_request,
)
from caspers_lib.lakebase.sync_spec import SyncSpec
from caspers_lib.spark_sql import quote_name
from caspers_lib.workspace_calls import (
    Deadline,
    Patience,
    asked,
    explained,
    found,
    is_conflict,
    refusal,
)

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.service.postgres import (
        DatabricksServiceExceptionWithDetailsProto,
        SyncedTable,
    )

__all__ = [
    "TWENTY_MINUTES",
    "ManagedPlace",
    "Patience",
    "SyncedTableStatus",
    "change_feed_cures",
    "create_synced_table",
    "delete_synced_table",
    "differences",
    "production_branch",
    "synced_table_id",
    "synced_table_pipeline",
    "synced_table_request",
    "synced_table_status",
    "wait_for_synced_table",
]

TWENTY_MINUTES = Patience()
"""How long each function waits if nothing else is said."""

_FAILED = "SYNCED_TABLE_OFFLINE_FAILED"
_PROVISIONING = "SYNCED_TABLE_PROVISIONING"
_CHANGE_FEED = r"change[ _]?data[ _]?feed|\bCDF\b"


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


class Started(Protocol):
    """An operation of the SDK."""

    def name(self) -> str:
        """Its resource name."""


def create_synced_table(
    client: "WorkspaceClient", spec: SyncSpec, place: ManagedPlace, *, pipeline: str | None = None
) -> str | None:
    """Begin to create a managed synced table, unless it is there.

    The service tells of a table that is there no more than its status, so the caller has to know
    that it is the one that is wanted: from its account of what it made.

    Args:
        client: the workspace.
        spec: what is synced.
        place: where; its project and database exist.
        pipeline: id of the pipeline that syncs it too; a new one if None.

    Returns:
        The operation to wait for with `wait_for_synced_table`; None if the table is there.

    Raises:
        SyncError: the spec asks for what a managed synced table can't do, or the one that is there
            is in another project.
        WorkspaceError: its creation could not begin.
    """
    identity, wanted = synced_table_request(spec, place, pipeline=pipeline)
    name, what = f"synced_tables/{identity}", f"synced_tables/{identity} was not created"
    existing = found(client.postgres.get_synced_table, name)
    if existing is None:
        try:
            started = client.postgres.create_synced_table(wanted, identity)
        except (OSError, ValueError) as error:
            # Somebody was faster, or the SDK sent the request twice.
            taken = is_conflict(error)
            existing = found(client.postgres.get_synced_table, name) if taken else None
            if existing is None:
                cures = change_feed_cures(source_name(spec, place.catalog))
                raise explained(what, error, cures=cures) from error
        else:
            return _operation(started, what)
    project = existing.status and existing.status.project
    if project and project != place.project:
        raise SyncError(
            f"{name} exists in {project}, not in {place.project}.",
            hint="Choose another name; it was left alone, since it may be somebody else's.",
        )
    return None


def wait_for_synced_table(
    client: "WorkspaceClient",
    spec: SyncSpec,
    place: ManagedPlace,
    operation: str | None = None,
    *,
    patience: Patience = TWENTY_MINUTES,
) -> SyncedTableStatus:
    """Wait until a managed synced table has its first copy.

    Args:
        client: the workspace.
        spec: what is synced.
        place: where.
        operation: its creation, if it is known.
        patience: how long to wait.

    Raises:
        WorkspaceError: it could not be created, not in time, or failed.
    """
    name = f"synced_tables/{synced_table_id(spec, place)}"
    source, deadline = source_name(spec, place.catalog), patience.starts()
    if operation is not None:
        _finish(client, operation, f"{name} was not created", deadline, source)

    def look() -> "SyncedTable | None":
        table = found(client.postgres.get_synced_table, name)
        return None if table is None or _state(table).startswith(_PROVISIONING) else table

    table = deadline.until(f"{name} was not provisioned", look)
    if _state(table) == _FAILED:
        cures = change_feed_cures(source)
        raise refusal(f"{name} has failed", _message(table), _FAILED, cures=cures)
    return _status(name, table)


def synced_table_pipeline(client: "WorkspaceClient", table: str) -> str | None:
    """The pipeline that syncs a table; None if there is no such table, or no pipeline yet.

    Args:
        client: the workspace.
        table: its id, `catalog.schema.table`.

    Raises:
        SettingsError: no table can have this id.
        WorkspaceError: the service doesn't answer or refuses.
    """
    there = found(client.postgres.get_synced_table, f"synced_tables/{checked_table_id(table)}")
    return (there and there.status and there.status.pipeline_id) or None


def delete_synced_table(
    client: "WorkspaceClient", table: str, *, patience: Patience = TWENTY_MINUTES
) -> bool:
    """Delete a managed synced table and wait until it is gone.

    Args:
        client: the workspace.
        table: its id, `catalog.schema.table`.
        patience: how long to wait.

    Returns:
        Whether there was one.

    Raises:
        SettingsError: no table can have this id.
        WorkspaceError: it could not be deleted, or not in time.
    """
    from databricks.sdk.errors.platform import NotFound

    api, name = client.postgres, f"synced_tables/{checked_table_id(table)}"
    what = f"{name} was not deleted"

    def start() -> str | None:
        try:
            return _operation(api.delete_synced_table(name), what)
        except NotFound:
            return None

    def gone() -> bool | None:
        state = found(api.get_operation, str(operation))
        if state is None:  # an operation may go together with what it deletes
            return True if found(api.get_synced_table, name) is None else None
        if state.error and not re.search("NOT_FOUND|DOES_NOT_EXIST", _code(state.error)):
            raise refusal(what, state.error.message or "", _code(state.error))
        return state.done or None

    operation = asked(what, start)
    if operation is None:
        return False
    patience.starts().until(what, gone)
    return True


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
    return None if there is None else _status(name, there)


def _status(name: str, table: "SyncedTable") -> SyncedTableStatus:
    status, moment, version = table.status, None, None
    if status:
        moment, version = status.last_sync_time, status.last_processed_commit_version
        if last := status.last_sync:
            moment = moment or last.sync_end_time
            if version is None and last.delta_table_sync_info:
                version = last.delta_table_sync_info.delta_commit_version
    return SyncedTableStatus(
        name=name,
        state=_state(table),
        message=_message(table),
        last_sync_time=moment.ToDatetime(tzinfo=UTC) if moment else None,
        commit_version=version,
    )


def _finish(
    client: "WorkspaceClient", operation: str, what: str, deadline: Deadline, source: str
) -> None:
    """Wait for an operation; an error if it failed."""

    def finished() -> bool | None:
        state = asked(what, lambda: client.postgres.get_operation(operation))
        if state.error:
            cures = change_feed_cures(source)
            raise refusal(what, state.error.message or "", _code(state.error), cures=cures)
        return state.done or None

    deadline.until(what, finished)


def _operation(started: Started, what: str) -> str:
    if not started.name():
        raise WorkspaceError(
            f"{what}: the service named no operation to wait for.",
            hint="Look in the workspace whether it was done.",
        )
    return started.name()


def change_feed_cures(source: str) -> tuple[tuple[str, str], ...]:
    """The hint for a source without a change data feed, as `refusal` takes it.

    Args:
        source: the source table.
    """
    parts = source.split(".")
    plain = all(re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", part) for part in parts)
    table = source if plain else quote_name(*parts)
    statement = f"ALTER TABLE {table} SET TBLPROPERTIES (delta.enableChangeDataFeed = true)"
    return ((_CHANGE_FEED, statement),)


def _code(error: "DatabricksServiceExceptionWithDetailsProto") -> str:
    return error.error_code.value if error.error_code else "unknown error"


def _state(table: "SyncedTable") -> str:
    state = table.status and table.status.detailed_state
    return state.value if state else ""


def _message(table: "SyncedTable") -> str:
    return (table.status and table.status.message) or ""
