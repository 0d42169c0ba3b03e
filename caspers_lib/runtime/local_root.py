"""The local ROOT: what lies where, and which process owns it.

Contract: DESIGN sections 1 and 10. All local state is under ROOT; one process at a time owns it.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from caspers_lib.errors import RootError, RootLockedError
from caspers_lib.runtime.settings import Settings

__all__ = ["LocalRoot", "Owner", "owned", "read_owner", "write_owner"]


@dataclass(frozen=True, slots=True)
class LocalRoot:
    """Paths under ROOT.

    Args:
        path: ROOT, absolute.
        settings: names the catalog, schema and volume.
    """

    path: Path
    settings: Settings

    def volume(self, schema: str, volume: str) -> Path:
        """ROOT/Volumes/catalog/schema/volume."""
        return self.path / "Volumes" / self.settings.catalog / schema / volume

    @property
    def events(self) -> Path:
        """Folder of the event files."""
        return self.volume(self.settings.simulator_schema, self.settings.events_volume)

    @property
    def replay_state(self) -> Path:
        """Folder of the replay's state."""
        return self.volume(self.settings.simulator_schema, "misc")

    def checkpoint(self, schema: str, stream: str) -> Path:
        """A stream's checkpoint, in its schema's volume `checkpoints`."""
        return self.volume(schema, "checkpoints") / stream

    def answer_cache(self, schema: str) -> Path:
        """Answers of models that were paid for, beside the checkpoints of the schema's streams."""
        return self.volume(schema, "checkpoints") / "model_answers"

    @property
    def pipeline_storage(self) -> Path:
        """Checkpoints of the declarative pipeline."""
        return self.volume("lakeflow", "checkpoints") / "pipeline"

    @property
    def warehouse(self) -> Path:
        """Delta tables: warehouse/<schema>/<table>."""
        return self.path / "warehouse"

    def table(self, name: str) -> Path:
        """Folder of the Delta table `schema.table`."""
        schema, _, table = name.partition(".")
        return self.warehouse / schema / table

    @property
    def schemas(self) -> tuple[str, ...]:
        """The schemas of this deployment, upstream first."""
        return (self.settings.simulator_schema, "lakeflow", "recommender", "complaints", "ai")

    @property
    def dataset(self) -> Path:
        """Folder of the generated dataset."""
        return self.path / "dataset"

    @property
    def dataset_file(self) -> Path:
        """The generated dataset's events."""
        return self.dataset / "events.parquet"

    @property
    def postgres(self) -> Path:
        """Data folder of the embedded PostgreSQL."""
        return self.path / "postgres" / "data"

    @property
    def run(self) -> Path:
        """Lock, logs and scratch files of the owning process."""
        return self.path / "run"

    @property
    def spark_log(self) -> Path:
        """What Spark's JVM prints."""
        return self.run / "spark.log"

    @property
    def parts(self) -> tuple[Path, ...]:
        """Everything this library makes under ROOT, the owner's own files last."""
        names = ("warehouse", "Volumes", "dataset", "postgres", "run")
        return tuple(self.path / name for name in names)


@dataclass(frozen=True, slots=True)
class Owner:
    """Who owns a ROOT.

    Args:
        pid: its process.
        command: what it runs.
        dataset: the events file it replays.
        url: the console's address, if it serves one.
        tick_seconds: wall-clock seconds between its ticks, if it ticks the replay.
    """

    pid: int
    command: str
    dataset: str | None = None
    url: str | None = None
    tick_seconds: float | None = None

    @classmethod
    def this_process(cls, command: str, dataset: Path | None = None) -> "Owner":
        """This process as an owner."""
        return cls(os.getpid(), command, str(dataset) if dataset else None)


@contextmanager
def owned(root: LocalRoot, owner: Owner) -> Iterator[None]:
    """Own ROOT for the block; the kernel gives it back however the process ends.

    Raises:
        RootError: ROOT can't be written.
        RootLockedError: another process owns it.
    """
    try:
        root.run.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(_lock_file(root), os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise _unwritable(root, error) from error
    try:
        _lock(root, descriptor)
        write_owner(root, owner)
        yield
    finally:
        os.close(descriptor)


def write_owner(root: LocalRoot, owner: Owner) -> None:
    """Say who owns ROOT; only the owner may.

    Raises:
        RootError: ROOT can't be written.
    """
    aside = _owner_file(root).with_suffix(".tmp")
    try:
        aside.write_text(json.dumps(asdict(owner)) + "\n", encoding="utf-8")
        aside.replace(_owner_file(root))
    except OSError as error:
        raise _unwritable(root, error) from error


def read_owner(root: LocalRoot) -> tuple[Owner | None, bool]:
    """The newest owner and whether it still lives; it is looked at, not disturbed."""
    try:
        owner = Owner(**json.loads(_owner_file(root).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None, False
    except (ValueError, TypeError) as error:
        raise RootError(
            f"{_owner_file(root)} is not an owner's record: {error}", hint="delete that file"
        ) from error
    return owner, _is_locked(root)


def _unwritable(root: LocalRoot, error: OSError) -> RootError:
    return RootError(
        f"ROOT {root.path} can't be written: {error.strerror}",
        hint="choose another folder with --root",
    )


def _is_locked(root: LocalRoot) -> bool:
    try:
        descriptor = os.open(_lock_file(root), os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _lock(root: LocalRoot, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner, _ = read_owner(root)
        who = f"process {owner.pid} ({owner.command})" if owner else "another process"
        raise RootLockedError(
            f"ROOT {root.path} is in use by {who}",
            hint="stop it first, or choose another folder with --root",
        ) from error


def _lock_file(root: LocalRoot) -> Path:
    return root.run / "lock"


def _owner_file(root: LocalRoot) -> Path:
    return root.run / "owner.json"
