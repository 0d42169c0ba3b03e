"""What `caspers dataset check` finds in a valid dataset, as values."""

from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "LEAST_RHYTHM_DAYS",
    "BrandSpan",
    "BrandsFacts",
    "DatasetFacts",
    "Lateness",
    "LocationFacts",
    "Story",
]

LEAST_RHYTHM_DAYS = 14


@dataclass(frozen=True, slots=True)
class Story:
    """How the generator was asked for the dataset.

    Args:
        seed: the story's seed.
        scale: factor on the number of orders.
        first_day: days of the story that pass before the dataset begins.
    """

    seed: int
    scale: float
    first_day: int


@dataclass(frozen=True, slots=True)
class LocationFacts:
    """A location's orders.

    Args:
        location_id: its id in the dataset.
        name: its name in the `locations` dimension beside the dataset, else `location <id>`.
        utc_offset_hours: its local time minus UTC, as the dataset says; None where it says nothing
            and hours are those of UTC.
        daily: orders of each UTC day of the cycle.
        course: orders of each hour of the cycle; empty in a cycle of two weeks or more.
        hourly: orders in each local hour of the day, 0 to 23.
        late_share: share of its delivered orders that took longer than `LATE_MINUTES`; None
            without any.
    """

    location_id: int
    name: str
    utc_offset_hours: int | None
    daily: tuple[int, ...]
    course: tuple[int, ...]
    hourly: tuple[int, ...]
    late_share: float | None

    @property
    def first_week(self) -> int:
        """Orders of the first seven days of the cycle."""
        return sum(self.daily[:7])

    @property
    def last_week(self) -> int:
        """Orders of the last seven days of the cycle."""
        return sum(self.daily[-7:])

    @property
    def growth(self) -> float | None:
        """Change from the first to the last week (0.74 = 74 % more).

        None in less than two weeks, or without orders in the first one.
        """
        if len(self.daily) < LEAST_RHYTHM_DAYS or not self.first_week:
            return None
        return self.last_week / self.first_week - 1

    @property
    def peaks(self) -> tuple[int, ...]:
        """Local hours with more orders than those around them and than the mean, busiest first."""
        mean = sum(self.hourly) / 24
        around = [(self.hourly[hour - 1], self.hourly[(hour + 1) % 24]) for hour in range(24)]
        found = [
            hour
            for hour, (before, after) in enumerate(around)
            if self.hourly[hour] > max(mean, before) and self.hourly[hour] >= after
        ]
        return tuple(sorted(found, key=lambda hour: -self.hourly[hour]))


@dataclass(frozen=True, slots=True)
class Lateness:
    """How long orders take from the opening to the closing event.

    Args:
        p50: median, minutes.
        p75: 75th percentile, minutes.
        p99: 99th percentile, minutes.
        late_share: share of orders that took longer than `LATE_MINUTES`.
        late_by_load: the same share in each fifth of the hours, by the orders that came in: the
            calmest fifth first, the busiest last. Hours compare within their location and week, so
            that neither size nor growth counts as load. None where a fifth has no order.
    """

    p50: float
    p75: float
    p99: float
    late_share: float
    late_by_load: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class BrandSpan:
    """A brand that begins or ceases to sell at a location within the cycle.

    Args:
        brand_id: its id in the line items.
        name: its name in the `brands` dimension beside the dataset, else `brand <id>`.
        location: the location's name.
        day: the first day on which it sells, or the last (0 = the cycle's first day).
    """

    brand_id: int
    name: str
    location: str
    day: int


@dataclass(frozen=True, slots=True)
class BrandsFacts:
    """The brands in the line items.

    Args:
        count: number of brands that sell.
        launches: beginnings after the cycle's first day, by day.
        exits: ends before the cycle's last day, by day.
    """

    count: int
    launches: tuple[BrandSpan, ...]
    exits: tuple[BrandSpan, ...]


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """What a valid dataset holds.

    Args:
        path: the dataset's file.
        fingerprint: its identity, see `EventsFile`.
        rows: number of events.
        orders: number of orders that were created.
        delivered: number of orders that were created and completed.
        first_ts: time of the first event (UTC epoch seconds).
        last_ts: time of the last event (UTC epoch seconds).
        epoch: first second of the cycle (UTC epoch seconds).
        days: whole days of one cycle.
        is_sorted: the file is sorted, so that a tick reads only the rows it needs.
        events: rows by name of the event type.
        story: how our generator was asked for it; None for datasets of others.
        locations: each location, by id.
        weekdays: orders on a Monday, ..., Sunday of local time relative to the mean day; empty in
            less than two weeks.
        lateness: None if no order was completed.
        brands: None if line items name no brand.
    """

    path: Path
    fingerprint: str
    rows: int
    orders: int
    delivered: int
    first_ts: int
    last_ts: int
    epoch: int
    days: int
    is_sorted: bool
    events: dict[str, int]
    story: Story | None
    locations: tuple[LocationFacts, ...]
    weekdays: tuple[float, ...]
    lateness: Lateness | None
    brands: BrandsFacts | None

    @property
    def weekend_lift(self) -> float | None:
        """How much more a day from Friday to Sunday has than one from Monday to Thursday."""
        if not self.weekdays or not sum(self.weekdays[:4]):
            return None
        return (sum(self.weekdays[4:]) / 3) / (sum(self.weekdays[:4]) / 4) - 1
