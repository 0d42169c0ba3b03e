"""Removing what run-time made in a workspace, and nothing else.

Contract: DESIGN section 9. What uses comes before what is used; what is gone already is done; one
failure doesn't stop the rest; the account of resources outlives all of them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from caspers_lib.errors import WorkspaceError
from caspers_lib.runtime.workspace.ledger import Ledger
from caspers_lib.runtime.workspace.resource_kinds import KINDS, ResourceKind
from caspers_lib.runtime.workspace.resource_state import GONE_OR_FOUND, Resource
from caspers_lib.workspace_calls import Patience

__all__ = ["Left", "Removal", "removal_plan", "remove_resources"]

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Left:
    """A resource that is still there.

    Args:
        resource: its row.
        why: why it was not deleted.
    """

    resource: Resource
    why: str


@dataclass(frozen=True, slots=True)
class Removal:
    """What a removal did.

    Args:
        removed: what is gone now, in the order in which it went.
        left: what is still there, and why; the same call tries it again.
        kept: what was there before, which is not ours to delete.
    """

    removed: tuple[Resource, ...]
    left: tuple[Left, ...]
    kept: tuple[Resource, ...]

    @property
    def is_complete(self) -> bool:
        """Whether nothing of ours is left."""
        return not self.left


def removal_plan(rows: Iterable[Resource]) -> tuple[Resource, ...]:
    """What would be deleted, in this order: by kind, the newest first.

    Args:
        rows: the account of a workspace and target.

    Raises:
        WorkspaceError: a kind that this version doesn't know.
    """
    ours = [row for row in rows if row.status not in GONE_OR_FOUND]
    for row in ours:
        if row.kind not in KINDS:
            raise WorkspaceError(
                f"{row.name} is on record as a {row.kind}, which this version can't delete.",
                hint="Use the version of caspers_lib that made it, or a newer one.",
            )
    newest_first = sorted(ours, key=lambda row: (row.created_at, row.name), reverse=True)
    return tuple(sorted(newest_first, key=lambda row: KINDS[row.kind].order))


def remove_resources(
    ledger: Ledger, patience: Patience, on_event: Callable[[str], None] = lambda _text: None
) -> Removal:
    """Delete everything that run-time made for a target; may be called again at any time.

    Args:
        ledger: the account.
        patience: how long to wait for each.
        on_event: called with one line for each resource.

    Raises:
        WorkspaceError: the account can't be read or written; what is on record stays true.
    """
    rows = ledger.rows()
    removed: list[Resource] = []
    left: list[Left] = []
    for resource in removal_plan(rows):
        what = f"{resource.kind.replace('_', ' ')} {resource.name}"
        # Write errors of the account end the removal: what it says must stay true.
        ledger.mark(resource, "deleting")
        try:
            _remove(KINDS[resource.kind], ledger, resource.name, patience)
        except WorkspaceError as error:
            left.append(Left(resource, f"{error.message.removesuffix('.')}. {error.hint}".strip()))
            on_event(f"left     {what}: {error.message}")
            continue
        ledger.mark(resource, "deleted")
        removed.append(resource)
        on_event(f"removed  {what}")
    kept = tuple(row for row in rows if row.status == "found")
    return Removal(tuple(removed), tuple(left), kept)


def _remove(kind: ResourceKind, ledger: Ledger, name: str, patience: Patience) -> None:
    if kind.is_there(ledger.client, name):
        held = kind.holds(ledger.client, name)
        if held:
            more = f" and {len(held) - _SHOWN} more" if len(held) > _SHOWN else ""
            raise WorkspaceError(
                f"The {kind.name} {name} still holds {', '.join(held[:_SHOWN])}{more}, which are"
                " not on record.",
                hint="Delete or move them, then run it again.",
            )
    kind.remove(ledger.client, name, patience)
