"""Events into any Python callable, as Arrow batches.

At least once: see `CallableSink`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pyarrow as pa

from caspers_lib.replay.form import Form

__all__ = ["CallableSink"]


@dataclass(frozen=True, slots=True)
class CallableSink:
    """A callable that receives the events, at least once.

    A run that ends in the middle of a window, by a crash or because the callable raised, leaves
    the window pending; the next run hands over the whole of it again, first batch first, under
    the same name. A callable that must take each event once keeps the name with what it took and
    drops that when the name comes again, or keys what it takes on `event_id`: the same event has
    the same id for ever.

    Args:
        receive: called with each batch, the domain's event columns in time order, and the name of
            the window it is of. What it raises ends the run as it is.
    """

    receive: Callable[[pa.RecordBatch, str], object]

    @property
    def form(self) -> Form:
        """The event's columns."""
        return "columns"

    def write(
        self,
        batches: Iterable[pa.RecordBatch],
        *,
        name: str,
        on_events: Callable[[int], None] = lambda _count: None,
    ) -> int:
        """Hand over a window's events and return how many there were.

        Args:
            batches: the events in time order.
            name: the window's name.
            on_events: called with the number of events of each batch that was taken.
        """
        total = 0
        for batch in batches:
            self.receive(batch, name)
            total += batch.num_rows
            on_events(batch.num_rows)
        return total
