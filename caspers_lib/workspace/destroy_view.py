"""`caspers destroy --workspace`: what the tasks made in a workspace, listed or removed."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from caspers_lib.errors import WorkspaceError
from caspers_lib.runtime.settings import Settings
from caspers_lib.workspace.home import remove_home
from caspers_lib.workspace.ledger import Ledger
from caspers_lib.workspace.removal import Removal, removal_plan, remove_resources
from caspers_lib.workspace.resource_state import Resource
from caspers_lib.workspace.state_stores import WarehouseResourceStore
from caspers_lib.workspace_calls import Patience, asked, found

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

__all__ = ["destroy_from_here", "warehouse_ledger"]


def warehouse_ledger(
    client: "WorkspaceClient", settings: Settings, patience: Patience | None = None
) -> Ledger | None:
    """A target's account of resources, read through a SQL warehouse.

    Args:
        client: the workspace.
        settings: name catalog, target and warehouse; without one a warehouse of the workspace is
            taken, one that runs first.
        patience: how long to wait for what is under way.

    Returns:
        None where there is no catalog, or no account in it.

    Raises:
        WorkspaceError: there is no warehouse, or it can't be used.
    """
    patience = patience or Patience()
    if found(client.catalogs.get, settings.catalog) is None:
        return None
    if found(client.tables.get, f"{settings.catalog}._internal_state.resources") is None:
        return None
    store = WarehouseResourceStore(
        client,
        settings.warehouse_id or _a_warehouse(client),
        settings.catalog,
        client.config.host,
        settings.target,
        patience=patience,
    )
    return Ledger(client, store, lambda: datetime.now(UTC), patience)


def destroy_from_here(
    client: "WorkspaceClient",
    settings: Settings,
    say: Callable[[str], None],
    *,
    dry_run: bool,
    patience: Patience | None = None,
) -> None:
    """Say what would go, or delete it, in this order; what is left is named with the reason.

    Args:
        client: the workspace.
        settings: name catalog, target and warehouse.
        say: takes a line for people.
        dry_run: only say what would go.
        patience: how long to wait for each.

    Raises:
        WorkspaceError: something is left; the same call tries it again.
        ResourceStateError: the account can't be read or written.
    """
    ledger = warehouse_ledger(client, settings, patience)
    if ledger is None:
        say(f"nothing to remove: there is no account of {settings.target} in {settings.catalog}")
        return
    if dry_run:
        for resource in removal_plan(ledger.rows()):
            say(f"would remove  {_named(resource)}")
        _say_kept((row for row in ledger.rows() if row.status == "found"), say)
        _say_declared((row for row in ledger.rows() if row.owner == "bundle"), say)
        return
    removal = remove_resources(ledger, ledger.patience, say)
    _say_kept(removal.kept, say)
    _say_declared(removal.declared, say)
    if not removal.is_complete:
        raise _left(removal)
    if why := remove_home(client, settings.catalog, ledger.store, say):
        say(f"kept     the account of resources in {settings.catalog}: {why}")


def _say_kept(rows: Iterable[Resource], say: Callable[[str], None]) -> None:
    for resource in rows:
        say(f"kept     {_named(resource)}: it was there before")


def _say_declared(rows: Iterable[Resource], say: Callable[[str], None]) -> None:
    for resource in rows:
        if resource.status != "deleted":
            say(f"bundle   {_named(resource)}: databricks bundle destroy removes it")


def _left(removal: Removal) -> WorkspaceError:
    first = removal.left[0]
    more = len(removal.left) - 1
    others = f", and {more} more" if more else ""
    return WorkspaceError(
        f"{_named(first.resource)} is left{others}: {first.why}",
        hint="Cure it, then run the same command again: it goes on with what is left.",
    )


def _named(resource: Resource) -> str:
    return f"{resource.kind.replace('_', ' ')} {resource.name}"


def _a_warehouse(client: "WorkspaceClient") -> str:
    listed = asked("The SQL warehouses can't be listed", lambda: list(client.warehouses.list()))
    running = [w for w in listed if w.state and w.state.value == "RUNNING"]
    for warehouse in (*running, *listed):
        if warehouse.id:
            return warehouse.id
    raise WorkspaceError(
        "The workspace has no SQL warehouse to read the account of resources with.",
        hint="Create one, or run the bundle's destroyer: databricks bundle run destroyer.",
    )
