"""Kinds of resources that run-time makes in a workspace: how each is looked for and deleted.

Contract: DESIGN section 9. The order is that of deletion: what uses comes before what is used.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from caspers_lib.lakebase.managed import delete_managed
from caspers_lib.runtime.workspace.app_resources import detach_resource, look_resource
from caspers_lib.workspace_calls import Patience, asked, found

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

__all__ = ["KINDS", "ResourceKind"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceKind:
    """One kind of resource.

    Args:
        name: as the table of resources says it.
        order: when it is deleted; lower numbers first.
        look: gives the resource, or None if there is none.
        delete: starts its deletion; what isn't there any more may be an error `NotFound`.
        shared: whether one that was there before may be used, and is then left alone by a
            deletion; any other that is not on record is somebody else's.
        holds: gives the names of what is inside, which nobody may lose; empty if it may go.
    """

    name: str
    order: int
    look: Callable[["WorkspaceClient", str], object | None]
    delete: Callable[["WorkspaceClient", str, Patience], None]
    shared: bool = False
    holds: Callable[["WorkspaceClient", str], tuple[str, ...]] = lambda _client, _name: ()

    def is_there(self, client: "WorkspaceClient", name: str) -> bool:
        """Whether it is there.

        Args:
            client: the workspace.
            name: the resource.

        Raises:
            WorkspaceError: it can't be said.
        """
        return self.look(client, name) is not None

    def remove(self, client: "WorkspaceClient", name: str, patience: Patience) -> None:
        """Delete it and wait until it is gone; one that isn't there counts as deleted.

        Args:
            client: the workspace.
            name: the resource.
            patience: how long to wait.

        Raises:
            WorkspaceError: it could not be deleted, or not in time.
        """
        from databricks.sdk.errors.platform import NotFound

        def start() -> None:
            try:
                self.delete(client, name, patience)
            except NotFound:
                return

        what = f"The {self.name.replace('_', ' ')} {name} was not deleted"
        asked(what, start)
        patience.starts().until(what, lambda: None if self.is_there(client, name) else True)


def _look(api: str, method: str = "get") -> Callable[["WorkspaceClient", str], object | None]:
    def look(client: "WorkspaceClient", name: str) -> object | None:
        return found(getattr(getattr(client, api), method), name)

    return look


def _call(api: str, **how: object) -> Callable[["WorkspaceClient", str, Patience], None]:
    def delete(client: "WorkspaceClient", name: str, _patience: Patience) -> None:
        getattr(client, api).delete(name, **how)

    return delete


def _schema_holds(client: "WorkspaceClient", name: str) -> tuple[str, ...]:
    """What of a schema is listed: deleting it would take this along."""
    catalog, _, schema = name.partition(".")

    def listed() -> list[str | None]:
        inside = [t.full_name for t in client.tables.list(catalog, schema)]
        inside += [v.full_name for v in client.volumes.list(catalog, schema)]
        inside += [f.full_name for f in client.functions.list(catalog, schema)]
        models = client.registered_models.list(catalog_name=catalog, schema_name=schema)
        return [*inside, *(model.full_name for model in models)]

    return tuple(filter(None, asked(f"The schema {name} can't be listed", listed)))


def _look_synced(client: "WorkspaceClient", name: str) -> object | None:
    return found(client.postgres.get_synced_table, f"synced_tables/{name}")


def _look_lakebase_catalog(client: "WorkspaceClient", name: str) -> object | None:
    return found(client.postgres.get_catalog, f"catalogs/{name}")


def _look_project(client: "WorkspaceClient", name: str) -> object | None:
    return found(client.postgres.get_project, f"projects/{name}")


def _managed(part: str, client: "WorkspaceClient", name: str, patience: Patience) -> None:
    if part == "synced_table":
        delete_managed(client, synced_tables=[name], patience=patience)
    elif part == "catalog":
        delete_managed(client, catalog=name, patience=patience)
    else:
        delete_managed(client, project=name, patience=patience)


_KINDS = (
    ResourceKind(
        name="serving_endpoint",
        order=10,
        look=_look("serving_endpoints"),
        delete=_call("serving_endpoints"),
    ),
    ResourceKind(name="app_database", order=15, look=look_resource, delete=detach_resource),
    ResourceKind(
        name="synced_table", order=20, look=_look_synced, delete=partial(_managed, "synced_table")
    ),
    ResourceKind(
        name="lakebase_catalog",
        order=30,
        look=_look_lakebase_catalog,
        delete=partial(_managed, "catalog"),
    ),
    ResourceKind(
        name="lakebase_project",
        order=40,
        look=_look_project,
        delete=partial(_managed, "project"),
    ),
    ResourceKind(
        name="registered_model",
        order=50,
        look=_look("registered_models"),
        delete=_call("registered_models"),
    ),
    ResourceKind(name="function", order=60, look=_look("functions"), delete=_call("functions")),
    ResourceKind(name="view", order=70, look=_look("tables"), delete=_call("tables"), shared=True),
    ResourceKind(name="table", order=80, look=_look("tables"), delete=_call("tables"), shared=True),
    ResourceKind(
        name="volume",
        order=90,
        look=_look("volumes", "read"),
        delete=_call("volumes"),
        shared=True,
    ),
    ResourceKind(
        name="schema",
        order=100,
        look=_look("schemas"),
        delete=_call("schemas"),
        shared=True,
        holds=_schema_holds,
    ),
)

KINDS: Mapping[str, ResourceKind] = MappingProxyType({kind.name: kind for kind in _KINDS})
"""Every kind by its name, in the order of deletion."""
