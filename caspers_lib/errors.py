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
└── ConsoleError         the web console can't be served (port in use)
"""

__all__ = [
    "CaspersError",
    "ConsoleError",
    "DatasetError",
    "EngineError",
    "JavaError",
    "PipelineError",
    "PostgresError",
    "ReplayLockedError",
    "ReplayStateError",
    "RootError",
    "RootLockedError",
    "SettingsError",
    "SinkError",
    "SyncError",
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


class ConsoleError(CaspersError):
    """The web console can't be served."""
