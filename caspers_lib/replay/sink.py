"""What a replay writes to: the seam between the engine and a volume, a table or a callable.

The engine gives each window a name; after a crash it writes the same batches under the same name
again, and a sink leaves what an undisturbed run would have left.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

import pyarrow as pa

from caspers_lib.replay.form import Form

__all__ = ["Sink"]


class Sink(Protocol):
    """A receiver of events."""

    @property
    def form(self) -> Form:
        """What the batches hold, see `event_batches`."""

    def write(
        self,
        batches: Iterable[pa.RecordBatch],
        *,
        name: str,
        on_events: Callable[[int], None] = lambda _count: None,
    ) -> int:
        """Write a window's events and return how many there were.

        Args:
            batches: the events in time order, in the sink's form.
            name: the window's name; a second write under it replaces the first.
            on_events: called with the number of events of each written piece.

        Raises:
            SinkError: the place can't be written; nothing half-written is visible.
        """
