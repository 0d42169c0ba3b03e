"""A lakehouse on paper: tables, views and functions appear in the workspace, and hold nothing."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from caspers_lib.replay.generator.dimensions import DIMENSION_SCHEMAS
from caspers_lib.workspace.lakehouse import StreamName
from tests.workspace_fake import LoopbackWorkspace

_CREATE = re.compile(
    r"CREATE (?:OR REPLACE )?(TABLE|VIEW|FUNCTION)(?: IF NOT EXISTS)? ((?:`?\w+`?\.)+`?\w+`?)"
)


@dataclass
class PaperLakehouse:
    """Fails on a statement that it doesn't know."""

    workspace: LoopbackWorkspace
    catalog: str
    step: Callable[[str], None] = lambda _what: None
    dimensions: tuple[str, ...] = tuple(DIMENSION_SCHEMAS)
    done: list[str] = field(default_factory=list)
    dataset: bool = False
    events: int = 12_345

    def has_dataset(self) -> bool:
        return self.dataset

    def write_dataset(self) -> None:
        if not self.dataset:
            with self._step("write dataset"):
                self.dataset = True

    def write_dimension(self, name: str) -> None:
        with self._step(f"write {name}"):
            self._table(f"{self.catalog}.simulator.{name}")

    def tick(self, _now: float) -> int:
        with self._step("tick"):
            written, self.events = self.events, 0
        return written

    def execute(self, statement: str) -> None:
        found = _CREATE.match(statement)
        assert found, f"unknown statement: {statement[:60]}"
        kind, name = found[1], found[2].replace("`", "")
        with self._step(f"create {kind.lower()} {name}"):
            if kind == "TABLE":
                self._table(name)
            elif kind == "VIEW" and name not in self.workspace.unity.stores["tables"]:
                self.workspace.add_view(name)
            elif kind == "FUNCTION" and name not in self.workspace.unity.stores["functions"]:
                self.workspace.add_function(name)

    def run_stream(self, name: StreamName, _client: object) -> str:
        with self._step(f"stream {name}"):
            return "nobody"

    def _table(self, name: str) -> None:
        if name not in self.workspace.unity.stores["tables"]:
            self.workspace.add_table(name, change_feed=True)

    @contextmanager
    def _step(self, what: str) -> Iterator[None]:
        self.step(f"before {what}")
        yield
        self.done.append(what)
        self.step(f"after {what}")
