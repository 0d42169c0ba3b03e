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
]


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
