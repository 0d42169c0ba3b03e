"""Removing what tasks made in a workspace, and nothing else; what the bundle removes is named.

What uses comes before what is used; what is gone already is done; one failure doesn't stop the
rest; the account of resources outlives all of them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from caspers_lib.errors import WorkspaceError
from caspers_lib.workspace.ledger import Ledger
from caspers_lib.workspace.resource_kinds import KINDS
from caspers_lib.workspace.resource_state import GONE_OR_FOUND, Resource
from caspers_lib.workspace_calls import Patience

__all__ = ["Left", "Removal", "removal_plan", "remove_resources"]


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
        declared: what the bundle made, and `databricks bundle destroy` removes.
    """

    removed: tuple[Resource, ...]
    left: tuple[Left, ...]
    kept: tuple[Resource, ...]
    declared: tuple[Resource, ...]

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
    ours = [row for row in rows if row.owner == "task" and row.status not in GONE_OR_FOUND]
    for row in ours:
        if row.kind not in KINDS:
            raise WorkspaceError(
                f"{row.name} is on record as a {row.kind}, which this version can't delete.",
                hint="Use the version of caspers_lib that made it, or a newer one.",
            )
    order = list(KINDS)
    newest_first = sorted(ours, key=lambda row: (row.created_at, row.name), reverse=True)
    return tuple(sorted(newest_first, key=lambda row: order.index(row.kind)))


def remove_resources(
    ledger: Ledger, patience: Patience, on_event: Callable[[str], None] = lambda _text: None
) -> Removal:
    """Delete everything that tasks made for a target; may be called again at any time.

    Args:
        ledger: the account.
        patience: how long to wait for each.
        on_event: called with one line for each resource.

    Raises:
        WorkspaceError: the account can't be read or written; what is on record stays true.
    """
    rows = ledger.rows()
    plan = removal_plan(rows)
    removed: list[Resource] = []
    left: list[Left] = []
    # One write before and one after: whoever comes after a crash finds out what is gone already.
    ledger.mark(plan, "deleting")
    for resource in plan:
        what = f"{resource.kind.replace('_', ' ')} {resource.name}"
        try:
            KINDS[resource.kind].remove(ledger.client, resource.name, patience)
        except WorkspaceError as error:
            why = f"{error.message.removesuffix('.')}. {error.hint}".strip()
            left.append(Left(resource, why))
            on_event(f"left     {what}: {error.message}")
            continue
        removed.append(resource)
        on_event(f"removed  {what}")
    ledger.mark(removed, "deleted")
    return Removal(
        tuple(removed),
        tuple(left),
        kept=tuple(row for row in rows if row.status == "found"),
        declared=tuple(
            row for row in rows if row.owner == "bundle" and row.status not in GONE_OR_FOUND
        ),
    )
