"""Calls to a workspace's Lakebase service: what went wrong in one sentence, waits that end.

Why: docs/decisions/managed-synced-tables.md.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from caspers_lib.errors import SettingsError, SyncError
from caspers_lib.spark_sql import quote_name

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.service.postgres import DatabricksServiceExceptionWithDetailsProto

__all__ = ["Deadline", "Patience", "asked", "ensured", "found", "refusal", "removed"]

T = TypeVar("T")

_LONGEST_PAUSE = 10.0
_LONGEST_TEXT = 300
_CHANGE_FEED = re.compile(r"change[ _]?data[ _]?feed|\bCDF\b", re.IGNORECASE)
# Looked for in the kind of an exception and in the service's code; the first that fits counts.
_HINTS = (
    (
        r"Unauthenticated|UNAUTHENTICATED|UNAUTHORIZED",
        "Log in: databricks auth login, or set DATABRICKS_HOST and DATABRICKS_TOKEN.",
    ),
    (
        r"PermissionDenied|PERMISSION_DENIED",
        "Ask an administrator for the permission, or use names that are yours.",
    ),
    (
        r"NotFound|NOT_FOUND|DOES_NOT_EXIST",
        "See that the project, the catalogs and the source exist and that you may use them.",
    ),
    (
        r"ResourceConflict|ALREADY_EXISTS|ABORTED|CONFLICT",
        "Something else may have this name, or is changing it now: look, then try again.",
    ),
    (
        r"TooManyRequests|EXHAUSTED|LIMIT|Timeout|Connection|UNAVAILABLE|DEADLINE",
        "Try again later: what is there already is kept.",
    ),
)
_NO_BETTER_HINT = "The resource's page in the workspace may say more."


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long something may take; the SDK itself would wait for ever.

    A single request may take five minutes beyond that, while the SDK retries it.

    Args:
        timeout_seconds: how long at most.
        sleep: pauses for so many seconds.
        clock: seconds since any moment, never less than before.

    Raises:
        SettingsError: the time-out is not a positive number.
    """

    timeout_seconds: float = 1200.0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        """Refuse waits without an end."""
        if not 0 < self.timeout_seconds < float("inf"):
            raise SettingsError(
                f"timeout_seconds is {self.timeout_seconds}.", hint="Choose a positive number."
            )

    def starts(self) -> "Deadline":
        """The moment from which patience is lost, counted from now."""
        return Deadline(self, self.clock() + self.timeout_seconds)


@dataclass(frozen=True, slots=True)
class Deadline:
    """The end of one wait, which may have several parts.

    Args:
        patience: whose end it is.
        at: when, by its clock.
    """

    patience: Patience
    at: float

    def until(self, what: str, ask: Callable[[], T | None]) -> T:
        """Ask at once and then after growing pauses, the last time at the end.

        Args:
            what: what is not the case as long as there is no answer; begins the error.
            ask: gives None as long as there is no answer.

        Raises:
            SyncError: there was no answer in time.
        """
        pause = 1.0
        while (answer := ask()) is None:
            left = self.at - self.patience.clock()
            if left <= 0:
                raise SyncError(
                    f"{what} within {self.patience.timeout_seconds:g} seconds.",
                    hint="It may still be under way: the same call goes on where this one ended.",
                )
            self.patience.sleep(min(pause, left))
            pause = min(pause + 1, _LONGEST_PAUSE)
        return answer


class Started(Protocol):
    """An operation of the SDK."""

    def name(self) -> str:
        """Its resource name."""


def refusal(what: str, said: str, kind: str, *, source: str = "") -> SyncError:
    """An error of the service as one of ours.

    Args:
        what: what was not done, such as `The catalog x was not created`.
        said: the service's words; the first 300 characters count.
        kind: the exception's kind and the service's code.
        source: the source table, for a hint to its change data feed.
    """
    # The SDK appends its configuration to some messages.
    words = " ".join(said.split(". Config: ", maxsplit=1)[0].split())
    text = "".join(c if c.isprintable() else "?" for c in words)[:_LONGEST_TEXT]
    if source and _CHANGE_FEED.search(words):
        hint = (
            f"ALTER TABLE {_sql_name(source)} SET TBLPROPERTIES (delta.enableChangeDataFeed = true)"
        )
    else:
        fitting = (hint for pattern, hint in _HINTS if re.search(pattern, kind))
        hint = next(fitting, _NO_BETTER_HINT)
    return SyncError(f"{what}: {text or kind}", hint=hint)


def asked(what: str, call: Callable[[], T], *, source: str = "") -> T:
    """What a call gives.

    Args:
        what: what was not done if it fails.
        call: the call.
        source: as for `refusal`.

    Raises:
        SyncError: the service refused, couldn't be reached, or answered what can't be read.
    """
    try:
        return call()
    except (OSError, ValueError) as error:  # the SDK's errors and those of requests are OSErrors
        raise _explained(what, error, source) from error


def found(get: Callable[[str], T], name: str) -> T | None:
    """A resource, or None if there is none.

    Args:
        get: the SDK's function for it.
        name: its resource name.

    Raises:
        SyncError: it can't be said whether there is one.
    """
    from databricks.sdk.errors.platform import NotFound

    def look() -> T | None:
        try:
            return get(name)
        except NotFound:
            return None

    return asked(f"{name} can't be read", look)


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
        source: as for `refusal`.

    Returns:
        Whether it was created.

    Raises:
        SyncError: it could not be created, not in time, or is another one.
    """
    what = f"{name} was not created"
    existing = found(get, name)
    if existing is None:
        try:
            started = create()
        except (OSError, ValueError) as error:
            # Somebody was faster, or the SDK sent the request twice.
            existing = found(get, name) if _is_conflict(error) else None
            if existing is None:
                raise _explained(what, error, source) from error
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
        SyncError: it could not be deleted, or not in time.
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
            raise refusal(what, state.error.message or "", _code(state.error), source=source)
        return state.done or None

    deadline.until(what, finished)


def _operation(started: Started, what: str) -> str:
    if not started.name():
        raise SyncError(
            f"{what}: the service named no operation to wait for.",
            hint="Look in the workspace whether it was done.",
        )
    return started.name()


def _code(error: "DatabricksServiceExceptionWithDetailsProto") -> str:
    return error.error_code.value if error.error_code else "unknown error"


def _is_conflict(error: Exception) -> bool:
    from databricks.sdk.errors.platform import ResourceConflict

    code = getattr(error, "error_code", None) or ""
    return isinstance(error, ResourceConflict) or "ALREADY_EXISTS" in code


def _explained(what: str, error: Exception, source: str) -> SyncError:
    # Once the SDK has lost patience, its last error says why.
    said = f"{error} ({error.__cause__})" if isinstance(error, TimeoutError) else str(error)
    kind = f"{type(error).__name__} {getattr(error, 'error_code', None) or ''}"
    return refusal(what, said, kind, source=source)


def _sql_name(table: str) -> str:
    parts = table.split(".")
    plain = all(re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", part) for part in parts)
    return table if plain else quote_name(*parts)
