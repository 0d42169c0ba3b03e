"""Windows of virtual time, and the slices of the looping dataset that they touch.

An event at `t` of loop L happens at v = t + L * cycle, and a window (after, until] holds it when
after < v <= until. No event is lost or doubled at any seam.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["LoopSlice", "Window", "loop_slices", "seam_parts"]


@dataclass(frozen=True, slots=True)
class Window:
    """Virtual seconds (after, until]; `after` is None on the first run: from the beginning."""

    after: float | None
    until: float

    @property
    def is_empty(self) -> bool:
        """True where no time passes in it."""
        return self.after is not None and self.until <= self.after


@dataclass(frozen=True, slots=True)
class LoopSlice:
    """Dataset seconds first..last (both included, whole) played in loop `loop`."""

    loop: int
    first: int
    last: int


def loop_slices(
    window: Window, *, cycle_seconds: int, first_ts: int, last_ts: int
) -> Iterator[LoopSlice]:
    """Slices of the dataset that play within `window`, one a loop, in order.

    Args:
        window: virtual seconds.
        cycle_seconds: length of a loop.
        first_ts: the dataset's first event (UTC epoch seconds).
        last_ts: the dataset's last event; may lie past the cycle's end.
    """
    if window.is_empty:
        return
    # Events sit on whole seconds: (a, b] holds the same events as [floor(a) + 1, floor(b)].
    after = -math.inf if window.after is None else math.floor(window.after)
    until = math.floor(window.until)
    earliest = 0 if window.after is None else max(0, -(-(after + 1 - last_ts) // cycle_seconds))
    latest = (until - first_ts) // cycle_seconds
    for loop in range(int(earliest), latest + 1):
        offset = loop * cycle_seconds
        first = int(max(first_ts, after + 1 - offset))
        last = min(last_ts, until - offset)
        if first <= last:
            yield LoopSlice(loop, first, last)


def seam_parts(
    window: Window, *, cycle_seconds: int, first_ts: int, last_ts: int
) -> Iterator[Window]:
    """`window` cut where a loop begins or ends, in order.

    A part touches one loop, or holds the stretch in which one loop's tail and the next overlap:
    however long the window is, only such a stretch has to be merged.

    Args:
        window: virtual seconds.
        cycle_seconds: length of a loop.
        first_ts: the dataset's first event (UTC epoch seconds).
        last_ts: the dataset's last event; may lie past the cycle's end.
    """
    slices = loop_slices(window, cycle_seconds=cycle_seconds, first_ts=first_ts, last_ts=last_ts)
    offsets = [part.loop * cycle_seconds for part in slices]
    seams = {seam + offset for offset in offsets for seam in (first_ts - 1, last_ts)}
    after = window.after
    for until in (*sorted(s for s in seams if s < window.until), window.until):
        if after is None or until > after:
            yield Window(after, until)
            after = until
