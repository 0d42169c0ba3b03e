"""Kinds of resources that tasks make in a workspace: how each is looked for and deleted.

The order is that of deletion: what starts or uses comes before what is started or used.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from caspers_lib.lakebase.managed import delete_synced_table
from caspers_lib.workspace_calls import Patience, asked, found

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.service.jobs import BaseJob

__all__ = ["KINDS", "ResourceKind", "job_named"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceKind:
    """One kind of resource.

    Args:
        name: as the table of resources says it.
        look: gives the resource, or None if there is none.
        delete: starts its deletion; what isn't there any more may be an error `NotFound`.
        shared: whether one that was there before may be used, and is then left alone by a
            deletion; any other that is not on record is somebody else's.
    """

    name: str
    look: Callable[["WorkspaceClient", str], object | None]
    delete: Callable[["WorkspaceClient", str, Patience], None]
    shared: bool = False

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


def job_named(client: "WorkspaceClient", name: str) -> "BaseJob | None":
    """A job by its name, which is one of a kind in a workspace only where we see to it.

    Args:
        client: the workspace.
        name: the job's name.

    Raises:
        WorkspaceError: the jobs can't be listed.
    """
    listed = asked(f"The jobs named {name} can't be listed", lambda: client.jobs.list(name=name))
    return next(iter(listed), None)


def _look(api: str) -> Callable[["WorkspaceClient", str], object | None]:
    return lambda client, name: found(getattr(client, api).get, name)


def _delete(api: str) -> Callable[["WorkspaceClient", str, Patience], None]:
    return lambda client, name, _patience: getattr(client, api).delete(name)


def _look_synced(client: "WorkspaceClient", name: str) -> object | None:
    return found(client.postgres.get_synced_table, f"synced_tables/{name}")


def _delete_synced(client: "WorkspaceClient", name: str, patience: Patience) -> None:
    delete_synced_table(client, name, patience=patience)


def _delete_schedule(client: "WorkspaceClient", name: str, _patience: Patience) -> None:
    job = job_named(client, name)
    if job is not None:
        client.jobs.delete(job.job_id or 0)


_KINDS = (
    ResourceKind(name="schedule", look=job_named, delete=_delete_schedule),
    ResourceKind(
        name="serving_endpoint",
        look=_look("serving_endpoints"),
        delete=_delete("serving_endpoints"),
    ),
    ResourceKind(name="synced_table", look=_look_synced, delete=_delete_synced),
    ResourceKind(
        name="registered_model",
        look=_look("registered_models"),
        delete=_delete("registered_models"),
    ),
    ResourceKind(name="function", look=_look("functions"), delete=_delete("functions")),
    ResourceKind(name="view", look=_look("tables"), delete=_delete("tables"), shared=True),
    ResourceKind(name="table", look=_look("tables"), delete=_delete("tables"), shared=True),
)

KINDS: Mapping[str, ResourceKind] = MappingProxyType({kind.name: kind for kind in _KINDS})
"""Every kind by its name, in the order of deletion."""
