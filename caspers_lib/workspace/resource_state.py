"""What a deployment has in a workspace: one row for each resource, the bundle's and the tasks'.

A task's row says `creating` before the resource is created and `deleting` before it is deleted, so
that whoever comes after a crash knows what may be there. The bundle's are put on record as they
are. Why: docs/decisions/resource-account.md.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol, cast, get_args

from caspers_lib.domain import Column, Table
from caspers_lib.errors import ResourceStateError

__all__ = [
    "GONE_OR_FOUND",
    "RESOURCES",
    "Owner",
    "Resource",
    "ResourceStore",
    "Status",
    "age",
    "from_micros",
    "resources_table",
    "restored",
    "stored",
    "to_micros",
]

Status = Literal["creating", "ready", "found", "deleting", "deleted"]

Owner = Literal["bundle", "task"]

GONE_OR_FOUND: tuple[Status, ...] = ("deleted", "found")
"""What nobody has to delete: it is gone, or it was there before."""

RESOURCES = Table(
    "_internal_state.resources",
    "One row per resource of a deployment, the bundle's and the tasks'",
    (
        Column("workspace", "STRING", comment="whose resource: the workspace"),
        Column("target", "STRING", comment="whose resource: the target of the deployment"),
        Column("type", "STRING", comment="kind of resource"),
        Column("name", "STRING", comment="its name in the workspace"),
        Column("owner", "STRING", comment="who makes and removes it: bundle or task"),
        Column("status", "STRING", comment=", ".join(get_args(Status))),
        Column("fingerprint", "STRING", comment="digest of what it was made of; may be empty"),
        Column("detail", "STRING", comment="a note, such as the version of a model; may be empty"),
        Column("created_at", "TIMESTAMP", comment="wall clock when it was first recorded"),
        Column("updated_at", "TIMESTAMP", comment="wall clock of this status"),
    ),
    key=("workspace", "target", "type", "name"),
)
"""The table of all workspaces and targets, under its default name."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A resource of this workspace and target.

    Args:
        kind: what it is, such as `app`.
        name: its name in the workspace; any text.
        owner: who makes and removes it.
        status: how far it is; `found` is what was there before, and stays.
        fingerprint: digest of what it was made of; empty where it has none.
        detail: a note such as a model's version.
        created_at: when it was first recorded, aware.
        updated_at: when it got this status, aware.

    Raises:
        ResourceStateError: a moment has no time zone, or a text can't be stored as UTF-8.
    """

    kind: str
    name: str
    owner: Owner = "task"
    status: Status
    fingerprint: str = ""
    detail: str = ""
    created_at: datetime
    updated_at: datetime

    def __post_init__(self) -> None:
        """Refuse what would not read back as it was written."""
        for field in ("created_at", "updated_at"):
            if getattr(self, field).utcoffset() is None:
                raise ResourceStateError(f"{field} of {self.name!a} has no time zone.")
        for field in ("kind", "name", "fingerprint", "detail"):
            if any("\ud800" <= c <= "\udfff" for c in getattr(self, field)):
                raise ResourceStateError(f"{field} is no Unicode text: {getattr(self, field)!a}.")


class ResourceStore(Protocol):
    """Where the rows are kept; `prepare` comes before everything else."""

    def prepare(self) -> None:
        """See that the place exists (idempotent)."""

    def read(self) -> tuple[Resource, ...]:
        """Rows of this workspace and target, oldest first."""

    def write(self, *resources: Resource) -> None:
        """Insert or replace by (workspace, target, kind, name), all of them at once.

        Args:
            resources: whole rows, as they are to be; none of them twice.
        """

    def others_live(self) -> bool:
        """Whether tasks of another workspace or target have rows neither deleted nor found."""


def age(resource: Resource) -> tuple[datetime, str, str]:
    """What rows are sorted by, the oldest first.

    Args:
        resource: a row.
    """
    return resource.created_at, resource.kind, resource.name


def resources_table(name: str) -> Table:
    """The table under another name.

    Args:
        name: with schema, with or without catalog, its parts between dots.
    """
    return replace(RESOURCES, name=name)


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970 UTC.

    Args:
        moment: aware.
    """
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """The moment, in UTC.

    Args:
        micros: microseconds since 1970 UTC.
    """
    return _EPOCH + timedelta(microseconds=micros)


def stored(workspace: str, target: str, resource: Resource) -> dict[str, str | int]:
    """A row's values by the names of the table's columns, the moments in microseconds.

    Args:
        workspace: whose row.
        target: whose row.
        resource: the row.
    """
    return {
        "workspace": workspace,
        "target": target,
        "type": resource.kind,
        "name": resource.name,
        "owner": resource.owner,
        "status": resource.status,
        "fingerprint": resource.fingerprint,
        "detail": resource.detail,
        "created_at": to_micros(resource.created_at),
        "updated_at": to_micros(resource.updated_at),
    }


def restored(where: str, fields: dict[str, Any]) -> Resource:
    """A row that was read.

    Args:
        where: what was read, for the error.
        fields: type, name, owner, status, fingerprint, detail, and the moments in microseconds.

    Raises:
        ResourceStateError: it is no row of ours.
    """
    try:
        named = ("type", "name", "owner", "status", "fingerprint", "detail")
        texts = {k: fields[k] for k in named}
        moments = {k: from_micros(int(fields[k])) for k in ("created_at", "updated_at")}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _strange(where, f"{type(error).__name__} {error}") from error
    if wrong := [k for k, text in texts.items() if not isinstance(text, str)]:
        raise _strange(where, f"{wrong[0]} is no text")
    for field, allowed in (("status", get_args(Status)), ("owner", get_args(Owner))):
        if texts[field] not in allowed:
            raise _strange(where, f"its {field} is {texts[field][:40]!a}")
    return Resource(
        kind=texts["type"],
        name=texts["name"],
        owner=cast("Owner", texts["owner"]),
        status=cast("Status", texts["status"]),
        fingerprint=texts["fingerprint"],
        detail=texts["detail"],
        **moments,
    )


def _strange(where: str, reason: str) -> ResourceStateError:
    return ResourceStateError(
        f"{where} has a row that is none of ours: {reason}.",
        hint="Was it written by a newer version of this library, or by hand?",
    )
