"""The local ROOT: what lies where, and which process owns it.

All local state is under ROOT; one process at a time owns it.
"""

import fcntl
import json
import os
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from caspers_lib.domain import GHOST_KITCHEN, Domain
from caspers_lib.errors import RootError, RootLockedError, SettingsError
from caspers_lib.runtime.root_record import check_root, new_record
from caspers_lib.runtime.settings import Settings

__all__ = ["LocalRoot", "Owner", "locked", "owned", "read_owner", "write_owner"]

# Linux allows 4,096; what lies under ROOT needs the rest.
_MAX_PATH_BYTES = 3_000
# Control characters, surrogates (bytes that are no UTF-8), line and paragraph separators.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class LocalRoot:
    """Paths under ROOT.

    Args:
        path: ROOT, absolute.
        settings: names the catalog, schema and volume.

    Raises:
        RootError: not every program can work under such a path.
        SettingsError: Spark's own catalog takes no such schema.
    """

    path: Path
    settings: Settings

    def __post_init__(self) -> None:
        """Refuse names that Spark, PostgreSQL, Java or a log's reader can't work with."""
        schema = self.settings.simulator_schema
        if not re.fullmatch(r"\w+", schema, re.ASCII):
            raise SettingsError(
                f"SIMULATOR_SCHEMA is {schema!r}: on one machine a schema's name has letters, "
                "digits and _ only",
                hint="set it by CASPERS_SIMULATOR_SCHEMA",
            )
        name = str(self.path)
        if not _REFUSED_CATEGORIES.isdisjoint(map(unicodedata.category, name)):
            problem = "it has a line break, a control character or a byte that is not UTF-8"
        elif len(os.fsencode(name)) > _MAX_PATH_BYTES:
            problem = f"it is longer than {_MAX_PATH_BYTES:,} bytes"
        else:
            return
        raise RootError(
            f"ROOT {name[:200]!r} can't be used: {problem}",
            hint="choose another folder with --root",
        )

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

    def file_stream_checkpoints(self, table: str) -> tuple[Path, ...]:
        """Checkpoints of the stream of event files into a table, one for each full refresh."""
        folders = self.pipeline_storage.glob(f"_checkpoints/*/*/{table}/{table}/*")
        return tuple(sorted(folders))

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
    def record(self) -> Path:
        """What ROOT says of itself."""
        return self.path / "root.json"

    @property
    def in_use(self) -> Path:
        """Mark that is there while a process owns ROOT, and after one that was killed."""
        return self.run / "in-use"

    @property
    def parts(self) -> tuple[Path, ...]:
        """Everything this library makes under ROOT, the owner's own files last."""
        names = ("warehouse", "Volumes", "dataset", "postgres", "root.json", "run")
        return tuple(self.path / name for name in names)


@dataclass(frozen=True, slots=True)
class Owner:
    """Who owns a ROOT.

    Args:
        pid: its process.
        command: what it runs.
        dataset: the events file it replays; None where that is the generated one.
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
def owned(root: LocalRoot, owner: Owner, domain: Domain = GHOST_KITCHEN) -> Iterator[None]:
    """Own ROOT for the block; the kernel gives it back however the process ends.

    Args:
        root: what is owned; made if it isn't there.
        owner: what others read about this process.
        domain: the business that ROOT holds or will hold.

    Raises:
        RootError: ROOT can't be written, or `check_root` refuses it.
        RootLockedError: another process owns it.
    """
    check_root(root, domain)
    with locked(root, owner):
        # Another process may have made it since.
        known = check_root(root, domain)
        record = new_record(root, domain, known)
        if record != known:
            _write(root, root.record, record.model_dump_json(indent=2))
        root.in_use.touch()
        try:
            yield
        finally:
            root.in_use.unlink(missing_ok=True)


@contextmanager
def locked(root: LocalRoot, owner: Owner) -> Iterator[None]:
    """Own ROOT for the block whatever it holds; see `owned`.

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
    if owner.dataset == str(root.dataset_file):
        owner = replace(owner, dataset=None)  # it moves with ROOT
    _write(root, _owner_file(root), json.dumps(asdict(owner)))


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


def _write(root: LocalRoot, path: Path, text: str) -> None:
    """Write a file of ROOT whole or not at all."""
    aside = path.with_suffix(".tmp")
    try:
        with aside.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        raise _unwritable(root, error) from error


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
