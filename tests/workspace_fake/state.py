"""What all services share: resources that show late, courses of states, counted ids."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field

from tests.workspace_fake.requests import Document

__all__ = ["ME", "NOW", "NOW_MS", "Common", "Course", "Store"]

ME = "me@example.com"
NOW = "2026-01-01T00:00:00Z"
NOW_MS = 1767225600000


@dataclass
class Common:
    """What holds for the whole workspace.

    Args:
        lag: to how many looks a new resource isn't there yet, and a deleted one still is.
        looks: how many looks at something that takes time see it under way.
        principals: who can be granted something.
    """

    lag: int = 0
    looks: int = 1
    principals: set[str] = field(default_factory=lambda: {ME, "users", "account users"})
    lock: threading.RLock = field(default_factory=threading.RLock)
    _counts: Counter[str] = field(default_factory=Counter)

    def number(self, kind: str) -> int:
        """The next number of a kind: 1, 2, 3.

        Args:
            kind: what is counted.
        """
        self._counts[kind] += 1
        return self._counts[kind]

    def moment_ms(self) -> int:
        """The time of a change, Unix epoch milliseconds: each a second after the one before."""
        return NOW_MS + 1000 * self.number("moment")

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Let others ask the workspace while the block runs, which may do so itself."""
        self.lock.release()
        try:
            yield
        finally:
            self.lock.acquire()

    def course(self, *states: str) -> "Course":
        """States that all but the last are seen in `looks` looks.

        Args:
            states: those that are passed, and the one that stays.
        """
        *passed, last = states
        seen = [passed[min(look, len(passed) - 1)] for look in range(self.looks)] if passed else []
        return Course([*seen, last])


class Course:
    """States that something passes, one a look; the last one stays.

    Args:
        states: at least one.
    """

    def __init__(self, states: Sequence[str]) -> None:
        self._states = list(states)

    @property
    def state(self) -> str:
        """The state now."""
        return self._states[0]

    @property
    def has_ended(self) -> bool:
        """Whether the state stays."""
        return len(self._states) == 1

    def look(self) -> str:
        """The state now; the next look sees the next one."""
        return self._states.pop(0) if len(self._states) > 1 else self._states[0]


class Store:
    """Documents by name, which show as late as the workspace lags.

    Args:
        common: of the workspace.
    """

    def __init__(self, common: Common) -> None:
        self.items: dict[str, Document] = {}
        self._common = common
        self._hidden: dict[str, int] = {}
        self._ghosts: dict[str, tuple[Document, int]] = {}

    def __contains__(self, name: object) -> bool:
        """Whether it exists, seen or not."""
        return name in self.items

    def __getitem__(self, name: str) -> Document:
        """What exists, seen or not."""
        return self.items[name]

    def add(self, name: str, document: Document) -> None:
        """Something new.

        Args:
            name: its key.
            document: what it is.
        """
        self.items[name] = document
        self._ghosts.pop(name, None)
        if self._common.lag:
            self._hidden[name] = self._common.lag

    def remove(self, name: str) -> Document:
        """What goes.

        Args:
            name: its key.
        """
        document = self.items.pop(name)
        self._hidden.pop(name, None)
        if self._common.lag:
            self._ghosts[name] = (deepcopy(document), self._common.lag)
        return document

    def look(self, name: str) -> Document | None:
        """What a reader sees.

        Args:
            name: its key.
        """
        if name in self._ghosts:
            document, left = self._ghosts.pop(name)
            if left > 1:
                self._ghosts[name] = (document, left - 1)
            return document
        if name in self._hidden:
            left = self._hidden.pop(name)
            if left > 1:
                self._hidden[name] = left - 1
            return None
        return self.items.get(name)

    def looks(self) -> list[tuple[str, Document]]:
        """What a reader of the list sees, by name."""
        names = sorted({*self.items, *self._ghosts})
        seen = [(name, self.look(name)) for name in names]
        return [(name, document) for name, document in seen if document is not None]

    def snapshot(self) -> Document:
        """What exists, by name."""
        return {name: deepcopy(self.items[name]) for name in sorted(self.items)}
