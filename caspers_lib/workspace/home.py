"""The account's own schema, which outlives what it tracks: it goes in one call after the rest."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from caspers_lib.workspace.resource_state import RESOURCES, ResourceStore
from caspers_lib.workspace_calls import asked, found

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

__all__ = ["remove_home"]

_SCHEMA, _TABLE = RESOURCES.name.split(".")


def remove_home(
    client: "WorkspaceClient",
    catalog: str,
    store: ResourceStore,
    on_event: Callable[[str], None] = lambda _text: None,
) -> str | None:
    """Remove the account itself.

    Args:
        client: the workspace.
        catalog: where it is.
        store: the account; nothing of this target's tasks is live in it any more.
        on_event: called with one line for what is removed.

    Returns:
        Why it stays, or None if it is gone.

    Raises:
        WorkspaceError: it could not be removed.
    """
    name = f"{catalog}.{_SCHEMA}"
    if found(client.schemas.get, name) is None:
        return None
    if store.others_live():
        return "another target is still on record in it"
    tables = asked(
        f"The schema {name} can't be listed",
        lambda: {table.name for table in client.tables.list(catalog, _SCHEMA)},
    )
    if not tables <= {_TABLE}:
        return f"{name} holds tables that are not on record"
    asked(f"The schema {name} was not deleted", lambda: client.schemas.delete(name, force=True))
    on_event(f"removed  schema {name}")
    return None
