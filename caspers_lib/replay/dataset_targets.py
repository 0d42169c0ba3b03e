"""The canonical dataset's targets, and whether a dataset meets them.

Only what our generator made at full length is judged.
"""

from collections.abc import Callable
from dataclasses import dataclass

from caspers_lib.replay.dataset_facts import BrandsFacts, DatasetFacts, Lateness, LocationFacts

__all__ = ["LEAST_SCALE", "TARGETS", "Target", "Verdict", "is_comparable", "verdicts"]

_DAYS = 90
LEAST_SCALE = 0.1  # below it, a week has too few orders to tell a trend

Measure = Callable[[DatasetFacts], float | None]


@dataclass(frozen=True, slots=True)
class Target:
    """A figure of the canonical dataset and the range in which it lies.

    Args:
        name: what is measured.
        measure: the figure; None where the dataset has none.
        lowest: the least allowed value.
        highest: the greatest allowed value.
        form: the figure as text, for `str.format`.
        per_scale: the range grows with the story's scale.
        slack: what a few orders more or less change, for small scales; widens the range.
    """

    name: str
    measure: Measure
    lowest: float
    highest: float
    form: str = "{:,.0f}"
    per_scale: bool = False
    slack: Callable[[DatasetFacts], float] = lambda _facts: 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target and what was found.

    Args:
        name: what is measured.
        wanted: the range, as text.
        found: the figure, as text; empty where there is none.
        met: whether it lies in the range; None where the dataset isn't comparable.
    """

    name: str
    wanted: str
    found: str
    met: bool | None


def is_comparable(facts: DatasetFacts) -> bool:
    """Our generator made it: the first 90 days of a story, large enough to show its trends."""
    story = facts.story
    return (
        story is not None
        and facts.days == _DAYS
        and story.first_day == 0
        and story.scale >= LEAST_SCALE
    )


def verdicts(facts: DatasetFacts) -> tuple[Verdict, ...]:
    """Every target's verdict, in the order of `TARGETS`."""
    comparable = is_comparable(facts)
    scale = facts.story.scale if facts.story else 1.0
    return tuple(_verdict(target, facts, scale, comparable) for target in TARGETS)


def _verdict(target: Target, facts: DatasetFacts, scale: float, comparable: bool) -> Verdict:
    factor = scale if target.per_scale else 1.0
    slack = target.slack(facts)
    lowest, highest = target.lowest * factor - slack, target.highest * factor + slack
    found = target.measure(facts)
    return Verdict(
        name=target.name,
        wanted=f"{target.form.format(lowest)} to {target.form.format(highest)}"
        if lowest < highest
        else target.form.format(lowest),
        found="" if found is None else target.form.format(found),
        met=(found is not None and lowest <= found <= highest) if comparable else None,
    )


def _location(facts: DatasetFacts, location_id: int) -> LocationFacts | None:
    return next((at for at in facts.locations if at.location_id == location_id), None)


def _growth(location_id: int) -> Measure:
    def measure(facts: DatasetFacts) -> float | None:
        at = _location(facts, location_id)
        return at.growth if at else None

    return measure


def _a_daily_order(location_id: int) -> Callable[[DatasetFacts], float]:
    """What one order a day, more in one week or fewer in the other, does to the growth."""

    def slack(facts: DatasetFacts) -> float:
        at = _location(facts, location_id)
        if at is None or at.growth is None or not at.last_week:
            return 0.0
        return 7 * (1 + at.growth) * (1 / at.first_week + 1 / at.last_week)

    return slack


def _busiest_hour(location_id: int) -> Measure:
    """The busiest local hour; the small hours count on from 24."""

    def measure(facts: DatasetFacts) -> float | None:
        at = _location(facts, location_id)
        if at is None or not at.peaks:
            return None
        return at.peaks[0] if at.peaks[0] >= 6 else at.peaks[0] + 24

    return measure


def _cities_with_peak(first: int, last: int) -> Measure:
    def measure(facts: DatasetFacts) -> float:
        return sum(any(first <= hour <= last for hour in at.peaks) for at in facts.locations)

    return measure


def _lateness(figure: Callable[[Lateness], float | None]) -> Measure:
    return lambda facts: figure(facts.lateness) if facts.lateness else None


def _brands(figure: Callable[[BrandsFacts], float]) -> Measure:
    return lambda facts: figure(facts.brands) if facts.brands else None


_SAN_FRANCISCO, _SILICON_VALLEY, _BELLEVUE, _CHICAGO = 1, 2, 3, 4
_CHANGE, _SHARE, _HOUR = "{:+.0%}", "{:.1%}", "{:.0f}:00"


def _growth_target(city: str, location_id: int, lowest: float, highest: float) -> Target:
    return Target(
        f"growth of {city}",
        _growth(location_id),
        lowest,
        highest,
        _CHANGE,
        slack=_a_daily_order(location_id),
    )


TARGETS = (
    Target("orders", lambda facts: facts.orders, 70_000, 80_000, per_scale=True),
    Target("events", lambda facts: facts.rows, 950_000, 1_050_000, per_scale=True),
    Target("cities", lambda facts: len(facts.locations), 4, 4),
    Target("brands", _brands(lambda brands: brands.count), 24, 24),
    Target("brands that launch", _brands(lambda brands: len(brands.launches)), 5, 15),
    Target("brands that exit", _brands(lambda brands: len(brands.exits)), 3, 10),
    _growth_target("San Francisco", _SAN_FRANCISCO, 0.70, 0.78),
    _growth_target("Silicon Valley", _SILICON_VALLEY, 1.83, 1.97),
    _growth_target("Bellevue", _BELLEVUE, -0.03, 0.03),
    _growth_target("Chicago", _CHICAGO, -0.28, -0.22),
    Target("cities with a lunch peak, 11:00 to 13:00", _cities_with_peak(11, 13), 4, 4),
    Target("cities with a dinner peak, 17:00 to 20:00", _cities_with_peak(17, 20), 4, 4),
    Target("busiest hour of Silicon Valley", _busiest_hour(_SILICON_VALLEY), 22, 24, _HOUR),
    Target("weekend lift", lambda facts: facts.weekend_lift, 0.15, 0.30, _CHANGE),
    Target("median minutes to deliver", _lateness(lambda late: late.p50), 27, 33, "{:.1f}"),
    Target("99th percentile of minutes", _lateness(lambda late: late.p99), 70, 100, "{:.1f}"),
    Target(
        "late in the calmest hours", _lateness(lambda late: late.late_by_load[0]), 0, 0.01, _SHARE
    ),
    Target(
        "late in the busiest hours",
        _lateness(lambda late: late.late_by_load[-1]),
        0.04,
        0.12,
        _SHARE,
    ),
)
