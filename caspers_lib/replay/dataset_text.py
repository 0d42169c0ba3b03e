"""The report of `caspers dataset check` as text, 100 columns wide."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from caspers_lib.domain import LATE_MINUTES
from caspers_lib.replay.dataset_facts import (
    BrandsFacts,
    BrandSpan,
    DatasetFacts,
    Lateness,
    LocationFacts,
)
from caspers_lib.replay.dataset_quarantine import Quarantine
from caspers_lib.replay.dataset_targets import LEAST_SCALE, Verdict
from caspers_lib.replay.text_chart import bars

__all__ = ["report_lines"]

_WIDTH = 100
_INDENT = "  "
_ROOM = _WIDTH - len(_INDENT)
_MOST_LOCATIONS = 12
_NAME_WIDTH = 24
_DAY = 86_400
_UNIX = datetime(1970, 1, 1, tzinfo=UTC)
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MARKS = {True: "✓", False: "✗"}


def report_lines(
    facts: DatasetFacts, verdicts: Sequence[Verdict], quarantine: Quarantine
) -> list[str]:
    """The whole report; sections without anything to say are left out."""
    shown = sorted(facts.locations, key=lambda at: -sum(at.daily))[:_MOST_LOCATIONS]
    locations = sorted(shown, key=lambda at: at.location_id)
    sections = [
        _totals(facts),
        _quarantine(quarantine, facts.rows),
        _daily(facts, locations),
        _hours(locations),
        _weekdays(facts),
        _lateness(facts.lateness, locations) if facts.lateness else [],
        _brands(facts.brands) if facts.brands else [],
        _targets(verdicts) if facts.story else [],
    ]
    found = [f"{facts.path}"]
    for section in sections:
        found += [*([""] if section and len(found) > 1 else []), *section]
    return found


def _totals(facts: DatasetFacts) -> list[str]:
    sorting = "sorted" if facts.is_sorted else "not sorted: each tick reads the whole file"
    story = facts.story
    origin = (
        f"generated: seed {story.seed}, scale {story.scale:g}"
        + (f", from day {story.first_day} of the story" if story.first_day else "")
        if story
        else "not made by this generator"
    )
    kinds = [f"{_INDENT}{_plain(name):<17}{n:>12,}" for name, n in facts.events.items()]
    half = -(-len(kinds) // 2)
    right = [*kinds[half:], ""] if len(kinds) % 2 else kinds[half:]
    return [
        f"{facts.rows:,} events of {facts.orders:,} orders, {facts.delivered:,} delivered",
        f"{_utc(facts.first_ts)} to {_utc(facts.last_ts)} UTC, a cycle of {facts.days} days",
        f"{sorting}; {origin}",
        f"fingerprint {facts.fingerprint}",
        *(f"{a}{_INDENT}{b}".rstrip() for a, b in zip(kinds[:half], right, strict=True)),
    ]


def _quarantine(quarantine: Quarantine, rows: int) -> list[str]:
    total = sum(group.events for group in quarantine.groups)
    lines = [f"The tables would set {total:,} of {rows:,} events aside, in quarantine"]
    for group in quarantine.groups:
        words = (
            f"{group.events:,} {_plain(group.event_type)}",
            f"the first in order {_name(group.first_order)}",
            _plain(group.comment),
        )
        lines += _wrapped(f"{group.rule}: ", words)
    if quarantine.unjudged:
        lines += _wrapped("not judged here, Spark alone can: ", quarantine.unjudged)
    return lines


# --- orders over time -------------------------------------------------------------------------


def _daily(facts: DatasetFacts, locations: Sequence[LocationFacts]) -> list[str]:
    in_hours = any(at.course for at in locations)
    size = _column_hours(facts.days) if in_hours else _column_days(facts.days)
    unit = "hour" if in_hours else "day"
    column = f"{'an' if in_hours else 'a'} {unit}" if size == 1 else f"{size} {unit}s"
    found = [f"Orders by city, UTC (a column is {column}; each city from zero to its own highest)"]
    for at in locations:
        growth = "" if at.growth is None else f", growth {at.growth:+.0%}"
        found.append(
            f"{_INDENT}{_name(at.name)}: {sum(at.daily):,} orders, {_mean(at.daily):,.0f} a day, "
            f"at most {max(at.daily):,}{growth}"
        )
        means = _means(at.course if in_hours else at.daily, size)
        found += [f"{_INDENT}{row}".rstrip() for row in bars(means, rows=2)]
    axis = _calendar_of_hours(facts, size) if in_hours else _calendar(facts, size)
    found.append(f"{_INDENT}{axis}")
    if len(facts.locations) > len(locations):
        found.append(f"{_INDENT}and {len(facts.locations) - len(locations):,} smaller locations")
    return found


def _column_days(days: int) -> int:
    """A day, or whole weeks, so that the days of the week don't make a pattern of their own."""
    return 1 if days <= _ROOM else 7 * -(-days // (7 * _ROOM))


def _column_hours(days: int) -> int:
    """The fewest hours that divide a day and fit."""
    return next(hours for hours in (1, 2, 3, 4) if days * 24 // hours <= _ROOM)


def _calendar(facts: DatasetFacts, size: int) -> str:
    """The first day, and names of months below the columns in which they begin."""
    labels: dict[int, str] = {}
    for column in range(1, -(-facts.days // size)):
        first = _UNIX + timedelta(seconds=facts.epoch + column * size * _DAY)
        begun = [day for n in range(size) if (day := first + timedelta(days=n)).day == 1]
        if begun:
            labels[column] = _MONTHS[begun[0].month - 1]
    return _axis(f"{_UNIX + timedelta(seconds=facts.epoch):%Y-%m-%d}", labels)


def _calendar_of_hours(facts: DatasetFacts, size: int) -> str:
    """The days, each below the column of its midnight."""
    days = [_UNIX + timedelta(seconds=facts.epoch + n * _DAY) for n in range(facts.days)]
    labels = {n * 24 // size: f"{_WEEKDAYS[d.weekday()]} {d.day}" for n, d in enumerate(days)}
    first = days[0]
    return _axis(f"{_WEEKDAYS[first.weekday()]} {first:%Y-%m-%d}", labels)


def _axis(first: str, labels: Mapping[int, str]) -> str:
    """`first`, and each label at its column where there is room."""
    text = first
    for column, label in labels.items():
        if column > len(text) and column + len(label) <= _ROOM:
            text = text.ljust(column) + label
    return text


def _hours(locations: Sequence[LocationFacts]) -> list[str]:
    local = any(at.utc_offset_hours is not None for at in locations)
    width = max((len(_name(at.name)) for at in locations), default=0)
    zone = "local time, each city's own offset" if local else "UTC: the dataset tells no local time"
    found = [
        f"Orders by hour of the day ({zone})",
        f"{_INDENT}{'':<{width}}  0     6     12    18    24",
    ]
    for at in locations:
        (row,) = bars(at.hourly)
        peaks = ", ".join(f"{hour}:00" for hour in at.peaks)
        busiest = f"  peaks at {peaks}" if peaks else ""
        found.append(f"{_INDENT}{_name(at.name):<{width}}  {row}{busiest}".rstrip())
    return found


def _weekdays(facts: DatasetFacts) -> list[str]:
    if not facts.weekdays or facts.weekend_lift is None:
        return []
    (row,) = bars(facts.weekdays)
    days = "  ".join(
        f"{name} {bar} {share:.2f}"
        for name, bar, share in zip(_WEEKDAYS, row, facts.weekdays, strict=True)
    )
    return [
        "Orders by day of the week (1 is the mean day)",
        f"{_INDENT}{days}",
        f"{_INDENT}Friday to Sunday {facts.weekend_lift:+.0%} over Monday to Thursday",
    ]


# --- lateness, brands, targets ----------------------------------------------------------------


def _lateness(late: Lateness, locations: Sequence[LocationFacts]) -> list[str]:
    found = [
        f"Minutes to deliver: P50 {late.p50:.1f}, P75 {late.p75:.1f}, P99 {late.p99:.1f}; "
        f"{late.late_share:.1%} of orders took more than {LATE_MINUTES}"
    ]
    cities = [
        f"{_name(at.name)} {at.late_share:.1%}" for at in locations if at.late_share is not None
    ]
    if cities:
        found += _wrapped("by city: ", cities)
    if any(late.late_by_load):
        (row,) = bars([share or 0.0 for share in late.late_by_load])
        shares = " ".join("-" if s is None else f"{s:.1%}" for s in late.late_by_load)
        found.append(
            f"{_INDENT}by load, the calmest fifth of hours to the busiest: {row}  {shares}"
        )
    return found


def _brands(brands: BrandsFacts) -> list[str]:
    found = [f"{brands.count:,} brands sell"]
    for word, spans in (("launch", brands.launches), ("exit", brands.exits)):
        if spans:
            found += _wrapped(f"{len(spans):,} {word}: ", [_span(span) for span in spans])
    return found


def _span(span: BrandSpan) -> str:
    return f"{_name(span.name)} in {_name(span.location)} (day {span.day})"


def _targets(verdicts: Sequence[Verdict]) -> list[str]:
    judged = [verdict for verdict in verdicts if verdict.met is not None]
    if not judged:
        return [
            "Not judged: the canonical dataset's targets are for a story's first 90 days, scale "
            f"{LEAST_SCALE:g} or more"
        ]
    width = max(len(verdict.name) for verdict in judged)
    return [
        f"Targets of the canonical dataset: {sum(v.met is True for v in judged)} of "
        f"{len(judged)} met",
        *(
            f"{_INDENT}{_MARKS[v.met is True]} {v.name:<{width}}  {v.found or '-':>9}  "
            f"wanted {v.wanted}"
            for v in judged
        ),
    ]


# --- words ------------------------------------------------------------------------------------


def _wrapped(head: str, words: Sequence[str]) -> list[str]:
    """Words with commas between them, broken into lines only after a comma."""
    found = [f"{_INDENT}{head}"]
    for number, word in enumerate(words, start=1):
        text = word if number == len(words) else f"{word}, "
        if len(found[-1]) + len(text.rstrip()) > _WIDTH:
            found.append(2 * _INDENT)
        found[-1] += text
    return [line.rstrip() for line in found]


def _plain(text: str) -> str:
    """Text from data on one line: a terminal must not obey it."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _name(text: str) -> str:
    plain = _plain(text)
    return plain if len(plain) <= _NAME_WIDTH else plain[: _NAME_WIDTH - 1] + "…"


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values)


def _means(values: Sequence[int], size: int) -> list[float]:
    """The mean of each `size` values."""
    return [_mean(values[n : n + size]) for n in range(0, len(values), size)]


def _utc(seconds: int) -> str:
    return f"{_UNIX + timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S}"
