"""Calls to a Databricks workspace: what went wrong in one sentence, waits that end."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from caspers_lib.errors import SettingsError, WorkspaceError

__all__ = ["Deadline", "Patience", "asked", "explained", "found", "is_conflict", "refusal"]

T = TypeVar("T")

_LONGEST_PAUSE = 10.0
_LONGEST_TEXT = 300
_LOGIN = "databricks auth login, or set DATABRICKS_HOST and DATABRICKS_TOKEN."
# The first that fits counts, in the kind of an exception with the service's code, or else in the
# service's words: an expired token comes as a missing permission, and some quotas as a bad request.
_HINTS = (
    (
        None,
        r"token[^.]{0,40}expired|expired[^.]{0,40}token|refresh token",
        f"Log in again: {_LOGIN}",
    ),
    (
        r"Unauthenticated|UNAUTHENTICATED|UNAUTHORIZED",
        r"cannot configure default credentials|invalid (access )?token|default auth:",
        f"Log in: {_LOGIN}",
    ),
    (
        r"QUOTA|RESOURCE_LIMIT|MAX_\w+_EXCEEDED",
        r"\bquota\b.{0,40}(exceed|reach|exhaust)|(exceed|reach|exhaust).{0,60}\bquota\b",
        "Remove what nobody needs or ask an administrator for more, and try again later.",
    ),
    (
        r"PermissionDenied|PERMISSION_DENIED|INSUFFICIENT_PERMISSIONS",
        None,
        "Ask an administrator for the permission, or use names that are yours.",
    ),
    (
        r"NotFound|NOT_FOUND|DOES_NOT_EXIST",
        None,
        "See that the things it names exist and that you may use them.",
    ),
    (
        r"ResourceConflict|ALREADY_EXISTS|AlreadyExists|ABORTED|Aborted|CONFLICT",
        None,
        "Something else may have this name, or is changing it now: look, then try again.",
    ),
    (
        r"Timeout|DEADLINE|DeadlineExceeded",
        None,
        "Try again later: it may have been done all the same, and what is there is kept.",
    ),
    (
        r"TooManyRequests|EXHAUSTED|LIMIT|Connection|UNAVAILABLE|Unavailable|MAINTENANCE",
        None,
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
            WorkspaceError: there was no answer in time.
        """
        pause = 1.0
        while (answer := ask()) is None:
            left = self.at - self.patience.clock()
            if left <= 0:
                raise WorkspaceError(
                    f"{what} within {self.patience.timeout_seconds:g} seconds.",
                    hint="It may still be under way: the same call goes on where this one ended.",
                )
            self.patience.sleep(min(pause, left))
            pause = min(pause + 1, _LONGEST_PAUSE)
        return answer


def refusal(
    what: str, said: str, kind: str, *, cures: Sequence[tuple[str, str]] = ()
) -> WorkspaceError:
    """An error of the service as one of ours.

    Args:
        what: what was not done, such as `The catalog x was not created`.
        said: the service's words; the first 300 characters count.
        kind: the exception's kind and the service's code.
        cures: patterns that may be found in the service's words in any case, each with the hint
            it deserves.
    """
    # The SDK appends its configuration to some messages.
    words = " ".join(said.split(". Config: ", maxsplit=1)[0].split())
    text = "".join(c if c.isprintable() else "?" for c in words)[:_LONGEST_TEXT]
    return WorkspaceError(f"{what}: {text or kind}", hint=_hint(words, kind, cures))


def explained(
    what: str, error: Exception, *, cures: Sequence[tuple[str, str]] = ()
) -> WorkspaceError:
    """An exception of the SDK as an error of ours.

    Args:
        what: what was not done.
        error: an exception that a call raised.
        cures: as for `refusal`.
    """
    # Once the SDK has lost patience, its last error says why.
    said = str(error)
    if isinstance(error, TimeoutError) and error.__cause__:
        said = f"{said} ({error.__cause__})"
    kind = f"{type(error).__name__} {getattr(error, 'error_code', None) or ''}"
    return refusal(what, said, kind.strip(), cures=cures)


def asked(what: str, call: Callable[[], T], *, cures: Sequence[tuple[str, str]] = ()) -> T:
    """What a call gives.

    Args:
        what: what was not done if it fails.
        call: the call.
        cures: as for `refusal`.

    Raises:
        WorkspaceError: the service refused, couldn't be reached, or answered what can't be read.
    """
    try:
        return call()
    except (OSError, ValueError) as error:  # the SDK's errors and those of requests are OSErrors
        raise explained(what, error, cures=cures) from error
    except RuntimeError as error:
        from databricks.sdk.errors.sdk import OperationFailed

        # What the SDK itself waits for has failed.
        if not isinstance(error, OperationFailed):
            raise
        raise explained(what, error, cures=cures) from error


def found(get: Callable[[str], T], name: str) -> T | None:
    """A resource, or None if there is none.

    Args:
        get: the SDK's function for it.
        name: its resource name.

    Raises:
        WorkspaceError: it can't be said whether there is one.
    """
    from databricks.sdk.errors.platform import NotFound

    def look() -> T | None:
        try:
            return get(name)
        except NotFound:
            return None

    return asked(f"{name} can't be read", look)


def is_conflict(error: Exception) -> bool:
    """Whether an exception of the SDK says that something is there already.

    Args:
        error: an exception that a call raised.
    """
    from databricks.sdk.errors.platform import ResourceConflict

    code = getattr(error, "error_code", None) or ""
    return isinstance(error, ResourceConflict) or "ALREADY_EXISTS" in code


def _hint(words: str, kind: str, cures: Sequence[tuple[str, str]]) -> str:
    for pattern, cure in cures:
        if re.search(pattern, words, re.IGNORECASE):
            return cure
    for in_kind, in_words, hint in _HINTS:
        if in_kind and re.search(in_kind, kind):
            return hint
        if in_words and re.search(in_words, words, re.IGNORECASE):
            return hint
    return _NO_BETTER_HINT
