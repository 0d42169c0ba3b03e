"""The account of what run-time made: each resource is on record before and after it is made.

Contract: DESIGN section 9. Whatever is interrupted can be called again: a resource that is on
record as being created, and is there, is ours.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from threading import Lock
from typing import TYPE_CHECKING, Literal

from caspers_lib.errors import CaspersError, WorkspaceError
from caspers_lib.runtime.workspace.resource_kinds import KINDS, ResourceKind
from caspers_lib.runtime.workspace.resource_state import Resource, ResourceStore, Status
from caspers_lib.workspace_calls import Patience, is_conflict

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

__all__ = ["Ensured", "Ledger"]

Became = Literal["created", "updated", "unchanged", "found"]


@dataclass(frozen=True, slots=True)
class Ensured:
    """What became of a resource.

    Args:
        kind: its kind.
        name: its name in the workspace.
        became: `found` is one that was there before and isn't ours.
        detail: a note on it, such as a model's version.
    """

    kind: str
    name: str
    became: Became
    detail: str = ""


@dataclass
class Ledger:
    """The resources of one workspace and target; safe to use from several threads.

    Args:
        client: the workspace.
        store: where the rows are kept.
        now: the wall clock, aware.
        patience: how long a new resource may take until it can be seen.
    """

    client: "WorkspaceClient"
    store: ResourceStore
    now: Callable[[], datetime]
    patience: Patience
    _lock: Lock = field(default_factory=Lock)
    _rows: dict[tuple[str, str], Resource] | None = None

    def rows(self) -> tuple[Resource, ...]:
        """Every row of this workspace and target, oldest first."""
        with self._lock:
            return tuple(self._read().values())

    def row(self, kind: str, name: str) -> Resource | None:
        """One resource's row, None if it was never made or found."""
        with self._lock:
            return self._read().get((kind, name))

    def row_now(self, kind: str, name: str) -> Resource | None:
        """The same, read anew: another task of this target may have written since.

        Args:
            kind: its kind.
            name: its name in the workspace.
        """
        with self._lock:
            self._rows = None
            return self._read().get((kind, name))

    def ensure(
        self,
        kind: str,
        name: str,
        create: Callable[[], str | None],
        *,
        fingerprint: str = "",
        update: Callable[[], str | None] | None = None,
    ) -> Ensured:
        """See that a resource exists and is as it should be; the second call changes nothing.

        Args:
            kind: one of `KINDS`.
            name: its name in the workspace.
            create: makes it; gives a note for the record.
            fingerprint: digest of what it is made of; another one than on record means `update`.
            update: brings one of ours up to date; `create` if None.

        Raises:
            WorkspaceError: it could not be made, or one that isn't ours has the name.
        """
        described, row = KINDS[kind], self.row(kind, name)
        there = described.is_there(self.client, name)
        if there and not _is_ours(row):
            # Another task of this target may have made it since the rows were read.
            row = self.row_now(kind, name)
            if not _is_ours(row):
                return self._found(described, name, row)
        if there and row and row.status == "ready" and row.fingerprint == fingerprint:
            return Ensured(kind, name, "unchanged", row.detail)
        # One that a crash left behind may be half of what it should be.
        work = (update or create) if there else create
        if row is None or row.status != "creating":
            self.record(kind, name, "creating", fingerprint=row.fingerprint if row else "")
        try:
            detail = work() or ""
        except CaspersError as error:
            if not there and not _is_ours(row) and _is_taken(error):
                # By something that can't be seen, so it isn't ours to delete.
                self.record(kind, name, "deleted")
            raise
        self._until_seen(described, name)
        self.record(kind, name, "ready", fingerprint=fingerprint, detail=detail)
        became: Became = "updated" if there and row and row.status == "ready" else "created"
        return Ensured(kind, name, became, detail)

    def record(
        self, kind: str, name: str, status: Status, *, fingerprint: str = "", detail: str = ""
    ) -> None:
        """Write a resource's row.

        Args:
            kind: its kind.
            name: its name in the workspace.
            status: how far it is.
            fingerprint: digest of what it is made of.
            detail: a note on it.

        Raises:
            WorkspaceError: the row could not be written.
        """
        with self._lock:
            rows, now = self._read(), self.now()
            old = rows.get((kind, name))
            is_new = old is None or old.status == "deleted"
            resource = Resource(
                kind=kind,
                name=name,
                status=status,
                fingerprint=fingerprint,
                detail=detail,
                created_at=now if is_new or old is None else old.created_at,
                updated_at=now,
            )
            self.store.write(resource)
            rows[kind, name] = resource

    def mark(self, resource: Resource, status: Status) -> None:
        """Give a row another status.

        Args:
            resource: the row.
            status: how far it is now.

        Raises:
            WorkspaceError: the row could not be written.
        """
        with self._lock:
            changed = replace(resource, status=status, updated_at=self.now())
            self.store.write(changed)
            self._read()[resource.kind, resource.name] = changed

    def _found(self, kind: ResourceKind, name: str, row: Resource | None) -> Ensured:
        """One that was there before: taken as it is if it may be shared."""
        if not kind.shared:
            words = kind.name.replace("_", " ")
            raise WorkspaceError(
                f"The {words} {name} exists and is not on record as made by this target.",
                hint="Choose another name, or delete it; it was left alone, since it may be"
                " somebody else's.",
            )
        if row is None or row.status == "deleted":
            self.record(kind.name, name, "found")
        return Ensured(kind.name, name, "found")

    def _until_seen(self, kind: ResourceKind, name: str) -> None:
        self.patience.starts().until(
            f"The {kind.name.replace('_', ' ')} {name} could not be seen",
            lambda: True if kind.is_there(self.client, name) else None,
        )

    def _read(self) -> dict[tuple[str, str], Resource]:
        if self._rows is None:
            self._rows = {(row.kind, row.name): row for row in self.store.read()}
        return self._rows


def _is_ours(row: Resource | None) -> bool:
    return row is not None and row.status not in {"found", "deleted"}


def _is_taken(error: BaseException | None) -> bool:
    """Whether the service said on the way to this error that something is there already."""
    while error is not None:
        if isinstance(error, Exception) and is_conflict(error):
            return True
        error = error.__cause__ or error.__context__
    return False
