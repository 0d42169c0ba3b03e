"""The exception tree: every error a user can cause or cure is a `CaspersError`.

CaspersError
├── SettingsError        a parameter has a value that is not allowed
├── DatasetError         a dataset is missing, unreadable or has the wrong shape
├── ReplayStateError     the replay's state can't be read or contradicts itself
├── ReplayLockedError    another run of the replay holds its lock
├── SinkError            events can't be written where a replay should put them
├── RootError            the local ROOT can't be written
│   └── RootLockedError  another process owns it
├── EngineError          Java, Spark or Delta can't be started
│   └── JavaError        no fitting Java runtime
├── PipelineError        a flow of the declarative pipeline failed
├── PostgresError        PostgreSQL can't be started or reached
├── SyncError            a synced table's plan or batch can't be applied
├── WorkspaceError       a Databricks workspace refuses, or can't be reached
├── ResourceStateError   the record of a workspace's resources can't be read or written
├── AnswerError          a model's answer breaks its contract
├── ModelError           a model gave nothing that can be read
│   ├── ModelUnavailableError   it can't be reached, is busy, or was not asked for that reason
│   ├── ModelBudgetError        the budget doesn't allow another call
│   ├── ModelRefusedError       it refuses this one question
│   └── ModelUnreadableError    what came back is no reply
└── ConsoleError         the web console can't be served (port in use)
"""

import errno
import os
import re
from decimal import Decimal
from typing import ClassVar, Literal

__all__ = [
    "AnswerError",
    "CaspersError",
    "ConsoleError",
    "DatasetError",
    "EngineError",
    "JavaError",
    "ModelBudgetError",
    "ModelError",
    "ModelRefusedError",
    "ModelUnavailableError",
    "ModelUnreadableError",
    "PipelineError",
    "PostgresError",
    "ReplayLockedError",
    "ReplayStateError",
    "ResourceStateError",
    "RootError",
    "RootLockedError",
    "SettingsError",
    "SinkError",
    "SyncError",
    "WorkspaceError",
    "first_cause",
    "is_disk_full",
]

# What Spark appends to a message: the JVM's stack, the query's plan, the place in the user's code.
_APPENDIX = re.compile(
    r"^\s*(?:JVM stacktrace:|Driver stacktrace:|=+ [\w ]+ =+|at [\w.$]+\().*",
    re.DOTALL | re.MULTILINE,
)
# What it puts before one: the query, the task or the session in which the error was raised.
_WRAPPER = re.compile(
    r"^(?:\[STREAM_FAILED\].*? terminated with exception: |Job aborted due to stage failure: "
    r"|.*?Lost task .*?\): |Caused by: "
    r"|(?:java|javax|scala|py4j|org\.apache\.\w+|io\.delta)\.[\w.$]+(?:Exception|Error): )"
)
_TRACEBACK = "Traceback (most recent call last):"
_RAISED = re.compile(r"^(?P<module>(?:\w+\.)*)(?P<name>[A-Za-z_]\w*)(?:: (?P<message>.*))?$")
_GRPC_STATUS = re.compile(r"StatusCode\.(\w+)\s+details = \"(.*)\"")
_MARKS = re.compile(r"\[session: [^]]*\] \[userId: [^]]*\] ?|(?:\s+SQLSTATE: \w{5};?)+$")
_FRAME = re.compile(r"\s*(?:at [\w.$]+\(|File \"|\^+\s*$)")


class CaspersError(Exception):
    """An error with one sentence for the user and, where there is a cure, a hint.

    Args:
        message: what is wrong, where, and what is allowed; one line.
        hint: what to do about it; one line, may be empty.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class SettingsError(CaspersError):
    """A parameter has a value that is not allowed."""


class DatasetError(CaspersError):
    """A dataset is missing, unreadable or has the wrong shape."""


class ReplayStateError(CaspersError):
    """The replay's state can't be read or contradicts itself."""


class ReplayLockedError(CaspersError):
    """Another run of the replay holds its lock."""


class SinkError(CaspersError):
    """Events can't be written where a replay should put them."""


class RootError(CaspersError):
    """The local ROOT can't be written."""


class RootLockedError(RootError):
    """Another process owns the local ROOT."""


class EngineError(CaspersError):
    """Java, Spark or Delta can't be started."""


class JavaError(EngineError):
    """No fitting Java runtime."""


class PipelineError(CaspersError):
    """A flow of the declarative pipeline failed."""


class PostgresError(CaspersError):
    """PostgreSQL can't be started or reached."""


class SyncError(CaspersError):
    """A synced table's plan or batch can't be applied."""


class WorkspaceError(CaspersError):
    """A Databricks workspace refuses, or can't be reached."""


class ResourceStateError(CaspersError):
    """The record of a workspace's resources can't be read or written."""


class AnswerError(CaspersError, ValueError):
    """A model's answer breaks its contract."""


class ModelError(CaspersError):
    """A model gave nothing that can be read; the message never holds the key or a whole body.

    Args:
        message: what is wrong; one line.
        hint: what to do about it; one line, may be empty.
        calls: requests that were sent all the same.
        input_tokens: tokens that they may have used.
        output_tokens: tokens that they may have made.
        usd: what these tokens cost.
    """

    kind: ClassVar[Literal["unavailable", "over_budget", "refused", "unreadable"]]

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        calls: int = 0,
        input_tokens: int = 0,
        output_tokens: int = 0,
        usd: Decimal = Decimal(0),
    ) -> None:
        super().__init__(message, hint=hint)
        self.calls = calls
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.usd = usd


class ModelUnavailableError(ModelError):
    """A model can't be reached, is busy, refuses everybody, or was not asked for that reason."""

    kind = "unavailable"


class ModelBudgetError(ModelError):
    """The budget of the batch or of the day doesn't allow another call."""

    kind = "over_budget"


class ModelRefusedError(ModelError):
    """A model refuses this one question; asked again it would refuse again."""

    kind = "refused"


class ModelUnreadableError(ModelError):
    """What came back is no reply of a model."""

    kind = "unreadable"


class ConsoleError(CaspersError):
    """The web console can't be served."""


def first_cause(error: BaseException | str) -> str:
    """What an error says about its cause, in one line without a stack.

    Spark's errors carry the error of a Python worker, or of a task, within their text.

    Args:
        error: any error, or its text.

    Returns:
        One line; the error's class where it has no text.
    """
    nameless = "no reason given" if isinstance(error, str) else type(error).__name__
    text = str(error).strip()
    if status := _GRPC_STATUS.search(text):
        return f"{status[1]}: {status[2]}"
    message = _APPENDIX.sub("", text)
    if _TRACEBACK in message:
        if raised := _raised_in(message):
            return raised
        # The text was cut off within the traceback.
        message = message.partition(_TRACEBACK)[0]
    summary = _unwrapped(message).rstrip(":") or nameless
    causes = [_unwrapped(line) for line in text.splitlines() if line.startswith("Caused by: ")]
    if causes and causes[-1] and _TRACEBACK not in causes[-1] and causes[-1] not in summary:
        summary = f"{summary.rstrip('.')}: {causes[-1]}"
    return summary


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or one that led to it, says that no more can be written to a disk.

    Args:
        error: any error.
    """
    texts = [os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT)]
    cause: BaseException | None = error
    while cause is not None:
        message = str(cause)
        if any(text in message for text in texts):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _raised_in(message: str) -> str:
    """The exception that ends the last Python traceback of a text; empty if it was cut off."""
    for line in message.rpartition(_TRACEBACK)[2].splitlines():
        # Frames and the source that they quote are indented.
        if line[:1].isspace() or not (raised := _RAISED.match(line)):
            continue
        detail = _unwrapped(raised["message"] or "")
        if detail and (detail.startswith("[") or raised["module"].startswith("caspers_lib.")):
            return detail
        return f"{raised['name']}: {detail}" if detail else raised["name"]
    return ""


def _unwrapped(text: str) -> str:
    """The first line of a text that says something, without Spark's wrappers."""
    for line in text.splitlines():
        # A text that was cut off may go on with a frame of the JVM's stack.
        inner, message = line.partition("\tat ")[0], ""
        while inner != message:
            inner, message = _WRAPPER.sub("", inner), inner
        message = _MARKS.sub("", message).strip()
        if message and not _FRAME.match(message):
            return message
    return ""
