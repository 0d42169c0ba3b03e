"""Where a workspace's account of resources lives: its catalog and schema, made and removed last.

Contract: DESIGN section 9. The account outlives what it tracks: its schema, or the catalog if it
was made for it, goes in one call after everything else.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from caspers_lib.runtime.workspace.resource_state import RESOURCES, ResourceStore
from caspers_lib.workspace_calls import asked, found

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

__all__ = ["MADE_BY", "ensure_catalog", "remove_home"]

MADE_BY = "caspers_lib"
"""Property of a catalog that was made for a deployment."""

_SCHEMA, _TABLE = RESOURCES.name.split(".")
# What every catalog is born with.
_BORN_WITH = {"default", "information_schema"}


def ensure_catalog(client: "WorkspaceClient", catalog: str) -> bool:
    """See that the catalog exists; whether it was made.

    Args:
        client: the workspace.
        catalog: its name.

    Raises:
        WorkspaceError: it doesn't exist and may not be created.
    """
    if found(client.catalogs.get, catalog) is not None:
        return False
    asked(
        f"The catalog {catalog} doesn't exist and was not created",
        lambda: client.catalogs.create(
            catalog, comment="Casper's Kitchens", properties={MADE_BY: "made"}
        ),
        cures=(
            (
                "permission|privilege|not authorized|storage",
                "Set CATALOG to one that exists and that you may use, or have it created.",
            ),
        ),
    )
    return True


def remove_home(
    client: "WorkspaceClient",
    catalog: str,
    store: ResourceStore,
    on_event: Callable[[str], None] = lambda _text: None,
) -> str | None:
    """Remove the account itself, and the catalog if it was made for it.

    Args:
        client: the workspace.
        catalog: its name.
        store: the account; nothing of this target is live in it any more.
        on_event: called with one line for what is removed.

    Returns:
        Why it stays, or None if it is gone.

    Raises:
        WorkspaceError: it could not be removed.
    """
    there = found(client.catalogs.get, catalog)
    if there is None:
        return None
    if store.others_live():
        return "another target is still on record in it"
    schemas = asked(
        f"The schemas of {catalog} can't be listed",
        lambda: {schema.name or "" for schema in client.schemas.list(catalog)},
    )
    made = (there.properties or {}).get(MADE_BY) == "made"
    if made and schemas <= {*_BORN_WITH, _SCHEMA}:
        asked(
            f"The catalog {catalog} was not deleted",
            lambda: client.catalogs.delete(catalog, force=True),
        )
        on_event(f"removed  catalog {catalog}")
        return None
    if _SCHEMA in schemas:
        name = f"{catalog}.{_SCHEMA}"
        tables = asked(
            f"The schema {name} can't be listed",
            lambda: {table.name for table in client.tables.list(catalog, _SCHEMA)},
        )
        if not tables <= {_TABLE}:
            return f"{name} holds tables that are not on record"
        asked(f"The schema {name} was not deleted", lambda: client.schemas.delete(name, force=True))
        on_event(f"removed  schema {name}")
    if made:
        left = ", ".join(sorted(schemas - {*_BORN_WITH, _SCHEMA}))
        return f"the catalog {catalog} still holds the schemas {left}"
    return None
