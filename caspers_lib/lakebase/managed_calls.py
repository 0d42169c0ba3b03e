"""Operations of a workspace's Lakebase service: started, waited for, explained.

Why: docs/decisions/managed-synced-tables.md.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from caspers_lib.errors import WorkspaceError
from caspers_lib.spark_sql import quote_name
from caspers_lib.workspace_calls import Deadline, asked, explained, found, is_conflict, refusal

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.service.postgres import DatabricksServiceExceptionWithDetailsProto

__all__ = ["change_feed_cures", "ensured", "removed"]

T = TypeVar("T")

_CHANGE_FEED = r"change[ _]?data[ _]?feed|\bCDF\b"


class Started(Protocol):
    """An operation of the SDK."""

    def name(self) -> str:
        """Its resource name."""


def change_feed_cures(source: str) -> tuple[tuple[str, str], ...]:
    """The hint for a source without a change data feed, as `refusal` takes it.

    Args:
        source: the source table; empty where there is none.
    """
    if not source:
        return ()
    statement = (
        f"ALTER TABLE {_sql_name(source)} SET TBLPROPERTIES (delta.enableChangeDataFeed = true)"
    )
    return ((_CHANGE_FEED, statement),)


def ensured(
    client: "WorkspaceClient",
    name: str,
    *,
    get: Callable[[str], T],
    create: Callable[[], Started],
    check: Callable[[T], None],
    deadline: Deadline,
    source: str = "",
) -> bool:
    """Create a resource and wait for it, unless it exists.

    Args:
        client: the workspace.
        name: the resource name.
        get: the SDK's function for the resource.
        create: starts its creation.
        check: raises if the one that exists is another one.
        deadline: until when to wait.
        source: the source table, for a hint to its change data feed.

    Returns:
        Whether it was created.

    Raises:
        WorkspaceError: it could not be created, or not in time.
    """
    what = f"{name} was not created"
    existing = found(get, name)
    if existing is None:
        try:
            started = create()
        except (OSError, ValueError) as error:
            # Somebody was faster, or the SDK sent the request twice.
            existing = found(get, name) if is_conflict(error) else None
            if existing is None:
                raise explained(what, error, cures=change_feed_cures(source)) from error
        else:
            _finish(client, started, what, deadline, source)
            return True
    check(existing)
    return False


def removed(
    client: "WorkspaceClient",
    name: str,
    *,
    get: Callable[[str], object],
    delete: Callable[[str], Started],
    deadline: Deadline,
) -> bool:
    """Delete a resource and wait until it is gone.

    Args:
        client: the workspace.
        name: the resource name.
        get: the SDK's function for the resource.
        delete: starts its deletion.
        deadline: until when to wait.

    Returns:
        Whether there was one.

    Raises:
        WorkspaceError: it could not be deleted, or not in time.
    """
    from databricks.sdk.errors.platform import NotFound

    what = f"{name} was not deleted"

    def start() -> str | None:
        try:
            return _operation(delete(name), what)
        except NotFound:
            return None

    def gone() -> bool | None:
        state = found(client.postgres.get_operation, str(operation))
        if state is None:  # an operation may go together with what it deletes
            return True if found(get, name) is None else None
        if state.error and not re.search("NOT_FOUND|DOES_NOT_EXIST", _code(state.error)):
            raise refusal(what, state.error.message or "", _code(state.error))
        return state.done or None

    operation = asked(what, start)
    if operation is None:
        return False
    deadline.until(what, gone)
    return True


def _finish(
    client: "WorkspaceClient", started: Started, what: str, deadline: Deadline, source: str
) -> None:
    """Wait for an operation; an error if it failed."""
    operation = _operation(started, what)

    def finished() -> bool | None:
        state = asked(what, lambda: client.postgres.get_operation(operation))
        if state.error:
            cures = change_feed_cures(source)
            raise refusal(what, state.error.message or "", _code(state.error), cures=cures)
        return state.done or None

    deadline.until(what, finished)


def _operation(started: Started, what: str) -> str:
    if not started.name():
        raise WorkspaceError(
            f"{what}: the service named no operation to wait for.",
            hint="Look in the workspace whether it was done.",
        )
    return started.name()


def _code(error: "DatabricksServiceExceptionWithDetailsProto") -> str:
    return error.error_code.value if error.error_code else "unknown error"


def _sql_name(table: str) -> str:
    parts = table.split(".")
    plain = all(re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", part) for part in parts)
    return table if plain else quote_name(*parts)
