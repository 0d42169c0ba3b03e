"""The moment that the Live page shows: virtual time, evenly though events come in batches."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

__all__ = ["Playhead", "advanced"]

# Batches come every few seconds; after a longer silence the next one is played out as quickly.
LONGEST_SECONDS = 20.0
# What lies further away is a seek: nobody wants to watch the way there.
LONGEST_WAY = timedelta(hours=6)


@dataclass(frozen=True, slots=True)
class Playhead:
    """Plays what the newest batch brought over the time until the next one is due.

    Args:
        begin: the moment shown when the batch came.
        end: the batch's newest event.
        since: when it came, seconds of a clock.
        seconds: how long it is played.
    """

    begin: datetime
    end: datetime
    since: float
    seconds: float

    def at(self, now: float) -> datetime:
        """The moment to show.

        Args:
            now: seconds of the same clock.
        """
        if self.seconds <= 0:
            return self.end
        share = min(1.0, max(0.0, (now - self.since) / self.seconds))
        return self.begin + (self.end - self.begin) * share


def advanced(head: Playhead | None, newest: datetime, now: float) -> Playhead:
    """The playhead once the newest event is known.

    Args:
        head: as it was; None at first.
        newest: the newest event that may be shown.
        now: seconds of a clock.
    """
    if head is not None and newest == head.end:
        return head
    if head is None:
        return Playhead(newest, newest, now, 0.0)
    begin = head.at(now)
    if not timedelta() < newest - begin < LONGEST_WAY:
        return replace(head, begin=newest, end=newest, since=now, seconds=0.0)
    return Playhead(begin, newest, now, min(now - head.since, LONGEST_SECONDS))
