"""The account of a deployment: what a task makes is on record before and after it is made.

Whatever is interrupted can be called again: a resource that is on record as being created, and is
there, is ours. What the bundle made is on record too, as its own.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from threading import Lock
from typing import TYPE_CHECKING, Literal

from caspers_lib.errors import CaspersError, WorkspaceError
from caspers_lib.workspace.resource_kinds import KINDS, ResourceKind
from caspers_lib.workspace.resource_state import Resource, ResourceStore, Status
from caspers_lib.workspace_calls import Patience, is_conflict

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

__all__ = ["Ensured", "Ledger", "Wanted"]

Became = Literal["created", "updated", "unchanged", "found"]
_Key = tuple[str, str]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A resource that a task needs.

    Args:
        kind: one of `KINDS`.
        name: its name in the workspace.
        create: makes it or begins to; gives a note for the record.
        fingerprint: digest of what it is made of; another one than on record means `update`.
        update: brings one of ours up to date; `create` if None.
        settle: waits until it works, after all of its task were begun; gives a better note.
    """

    kind: str
    name: str
    create: Callable[[], str | None]
    fingerprint: str = ""
    update: Callable[[], str | None] | None = None
    settle: Callable[[], str | None] | None = None


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
    _rows: dict[_Key, Resource] | None = None

    def rows(self) -> tuple[Resource, ...]:
        """Every row of this workspace and target, oldest first."""
        with self._lock:
            return tuple(self._read().values())

    def row(self, kind: str, name: str) -> Resource | None:
        """One resource's row, None if it was never made or found."""
        with self._lock:
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
        """See that one resource exists and is as it should be, see `ensure_all`.

        Args:
            kind: as `Wanted`; so are the others.
            name: the same.
            create: the same.
            fingerprint: the same.
            update: the same.

        Raises:
            WorkspaceError: it could not be made, or one that isn't ours has the name.
        """
        wanted = Wanted(kind=kind, name=name, create=create, fingerprint=fingerprint, update=update)
        return self.ensure_all([wanted])[0]

    def ensure_all(self, wanted: Sequence[Wanted]) -> tuple[Ensured, ...]:
        """See that resources exist and are as they should be; the second call changes nothing.

        Two writes put all of them on record, however many they are: before the first is made, and
        after the last. All are begun, in this order, before any is waited for.

        Args:
            wanted: in the order in which they are made.

        Raises:
            WorkspaceError: one could not be made, or one that isn't ours has a name.
        """
        with self._lock:
            self._rows = None  # another task of this target may have written since
        there = [KINDS[each.kind].is_there(self.client, each.name) for each in wanted]
        found: list[Resource] = []
        work: list[tuple[Wanted, bool]] = []
        for each, is_there in zip(wanted, there, strict=True):
            row = self.row(each.kind, each.name)
            if is_there and not _is_ours(row):
                found += self._found(KINDS[each.kind], each.name, row)
            elif not (is_there and row and row.status == "ready"
                      and row.fingerprint == each.fingerprint):  # fmt: skip
                # One that a crash left behind may be half of what it should be.
                work.append((each, is_there))
        before = {key: row for key in map(_key, wanted) if (row := self.row(*key))}
        self._write([*found, *self._begun([each for each, _ in work])])
        made = self._made(work, before)
        return tuple(self._ensured(each, before.get(_key(each)), made) for each in wanted)

    def record_declared(self, declared: Iterable[tuple[str, str, str]]) -> None:
        """Put what the bundle has made on record; what it had made before and has no more, goes.

        Args:
            declared: kind, name and the bundle's key of each of its resources.

        Raises:
            WorkspaceError: the rows could not be written.
        """
        with self._lock:
            old = {key: row for key, row in self._read().items() if row.owner == "bundle"}
        new = {
            (kind, name): self._row(kind, name, "ready", owner="bundle", detail=key)
            for kind, name, key in declared
        }
        changed = [
            row for key, row in new.items()
            if key not in old or (old[key].status, old[key].detail) != ("ready", row.detail)
        ]  # fmt: skip
        gone = [row for key, row in old.items() if key not in new and row.status != "deleted"]
        self.mark(gone, "deleted")
        self._write(changed)

    def mark(self, resources: Iterable[Resource], status: Status) -> None:
        """Give rows another status, by one write.

        Args:
            resources: the rows.
            status: how far they are now.

        Raises:
            WorkspaceError: the rows could not be written.
        """
        now = self.now()
        self._write([replace(row, status=status, updated_at=now) for row in resources])

    def _begun(self, work: Iterable[Wanted]) -> list[Resource]:
        """The rows that have to say `creating` before the work begins."""
        begun = []
        for each in work:
            row = self.row(each.kind, each.name)
            if row is None or row.status != "creating":
                fingerprint = row.fingerprint if row else ""
                begun.append(self._row(each.kind, each.name, "creating", fingerprint=fingerprint))
        return begun

    def _made(
        self, work: Sequence[tuple[Wanted, bool]], before: dict[_Key, Resource]
    ) -> dict[_Key, Resource]:
        """The new rows of what was made; what was made before an error is on record as well."""
        ready: list[Resource] = []
        try:
            notes = [self._make(each, before, is_there=is_there) for each, is_there in work]
            for (each, _), note in zip(work, notes, strict=True):
                detail = (each.settle and each.settle()) or note
                self._until_seen(KINDS[each.kind], each.name)
                ready.append(
                    self._row(
                        each.kind, each.name, "ready", fingerprint=each.fingerprint, detail=detail
                    )
                )
        except CaspersError:
            self._write(ready)
            raise
        self._write(ready)
        return {(row.kind, row.name): row for row in ready}

    def _make(self, wanted: Wanted, before: dict[_Key, Resource], *, is_there: bool) -> str:
        try:
            return ((wanted.update or wanted.create) if is_there else wanted.create)() or ""
        except CaspersError as error:
            if not is_there and not _is_ours(before.get(_key(wanted))) and _is_taken(error):
                # By something that can't be seen, so it isn't ours to delete.
                self._write([self._row(wanted.kind, wanted.name, "deleted")])
            raise

    def _ensured(
        self, wanted: Wanted, before: Resource | None, made: dict[_Key, Resource]
    ) -> Ensured:
        new = made.get(_key(wanted))
        became: Became = "unchanged"
        if new is not None:
            became = "updated" if before and before.status == "ready" else "created"
        elif before is None or before.status in {"found", "deleted"}:
            became = "found"
        detail = new.detail if new else before.detail if before else ""
        return Ensured(wanted.kind, wanted.name, became, detail)

    def _row(
        self,
        kind: str,
        name: str,
        status: Status,
        *,
        owner: Literal["bundle", "task"] = "task",
        fingerprint: str = "",
        detail: str = "",
    ) -> Resource:
        """A resource's next row; one that is made anew begins anew."""
        old, now = self.row(kind, name), self.now()
        return Resource(
            kind=kind,
            name=name,
            owner=owner,
            status=status,
            fingerprint=fingerprint,
            detail=detail,
            created_at=now if old is None or old.status == "deleted" else old.created_at,
            updated_at=now,
        )

    def _write(self, resources: Sequence[Resource]) -> None:
        with self._lock:
            if resources:
                self.store.write(*resources)
                self._read().update({(row.kind, row.name): row for row in resources})

    def _found(self, kind: ResourceKind, name: str, row: Resource | None) -> list[Resource]:
        """One that was there before: taken as it is if it may be shared."""
        if not kind.shared:
            words = kind.name.replace("_", " ")
            raise WorkspaceError(
                f"The {words} {name} exists and is not on record as made by this target.",
                hint="Choose another name, or delete it; it was left alone, since it may be"
                " somebody else's.",
            )
        is_new = row is None or row.status == "deleted"
        return [self._row(kind.name, name, "found")] if is_new else []

    def _until_seen(self, kind: ResourceKind, name: str) -> None:
        self.patience.starts().until(
            f"The {kind.name.replace('_', ' ')} {name} could not be seen",
            lambda: True if kind.is_there(self.client, name) else None,
        )

    def _read(self) -> dict[_Key, Resource]:
        if self._rows is None:
            self._rows = {(row.kind, row.name): row for row in self.store.read()}
        return self._rows


def _key(wanted: Wanted) -> _Key:
    return wanted.kind, wanted.name


def _is_ours(row: Resource | None) -> bool:
    return row is not None and row.status not in {"found", "deleted"}


def _is_taken(error: BaseException | None) -> bool:
    """Whether the service said on the way to this error that something is there already."""
    while error is not None:
        if isinstance(error, Exception) and is_conflict(error):
            return True
        error = error.__cause__ or error.__context__
    return False
