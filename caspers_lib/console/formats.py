"""How values are written on the page: pure functions of a value, `-` where there is none."""

import math
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256

__all__ = [
    "age",
    "change",
    "clip",
    "clock",
    "count",
    "counted",
    "duration",
    "element_id",
    "minutes",
    "moment",
    "money",
    "share",
    "span",
    "speed",
    "spoken",
]

ABSENT = "-"
CLIP_CHARACTERS = 400
_CODE = re.compile(r"[a-z]+(_[a-z]+)*")


def count(value: int | None) -> str:
    """A whole number with thousands separated: `12,345`."""
    return ABSENT if value is None else f"{value:,}"


def counted(value: int, noun: str, plural: str = "") -> str:
    """A number of things, the noun in its plural where it needs one: `1 credit`, `12 credits`."""
    return f"{value:,} {noun if value == 1 else plural or f'{noun}s'}"


def money(usd: Decimal | None) -> str:
    """An amount of USD to the cent: `$1,234.50`."""
    if usd is None or not usd.is_finite():
        return ABSENT
    return f"{'-' if usd < 0 else ''}${abs(usd):,.2f}"


def share(part: int | None, whole: int | None) -> str:
    """A part of a whole in percent: `7.9%`."""
    return f"{part / whole:.1%}" if part is not None and whole else ABSENT


def minutes(value: float | None) -> str:
    """A number of minutes, rounded: `47 min`."""
    return ABSENT if value is None or not math.isfinite(value) else f"{value:,.0f} min"


def duration(seconds: float) -> str:
    """A wall-clock duration: `0.4 s`, `12 s`, `3 min 05 s`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"


def span(length: timedelta) -> str:
    """A stretch of event time to the minute: `40 min`, `12 h 30 min`, `2 days 3 h`."""
    whole = round(length.total_seconds() / 60)
    hours, rest = divmod(whole, 60)
    days, hours_of_day = divmod(hours, 24)
    if days:
        return f"{counted(days, 'day')} {hours_of_day} h"
    return f"{hours} h {rest} min" if hours else f"{rest} min"


def age(seconds: float | None) -> str:
    """How long ago, in one unit: `now`, `12 s ago`, `3 min ago`, `5 h ago`, `2 days ago`."""
    if seconds is None or not math.isfinite(seconds):
        return ABSENT
    if seconds < 1.5:
        return "now"
    for limit, size, unit in ((90, 1, "s"), (5400, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds / 86_400:.0f} days ago"


def change(now: int, before: int) -> str:
    """How a number compares with the one before: `+12%`, `-3%`, `as before`."""
    if now == before:
        return "as before"
    return f"{(now - before) / before:+.0%}" if before else f"{now - before:+,}"


def clock(value: datetime | None) -> str:
    """The time of day to the second, in UTC: `14:05:09`."""
    if value is None:
        return ABSENT
    utc = value.astimezone(UTC) if value.tzinfo else value
    return utc.strftime("%H:%M:%S")


def moment(value: datetime | None) -> str:
    """A point in time to the minute, in UTC: `2024-03-11 14:05`.

    The same in every locale. A value without a time zone is taken as UTC.
    """
    if value is None:
        return ABSENT
    utc = value.astimezone(UTC) if value.tzinfo else value
    return utc.isoformat(sep=" ", timespec="minutes")[:16]


def speed(value: float | None) -> str:
    """Virtual seconds per wall-clock second: `60x`."""
    return ABSENT if value is None else f"{value:g}x"


def clip(text: str | None) -> str:
    """Text without the blanks around it, cut after 400 characters with an ellipsis."""
    stripped = (text or "").strip()
    if not stripped:
        return ABSENT
    return stripped if len(stripped) <= CLIP_CHARACTERS else f"{stripped[:CLIP_CHARACTERS]}…"


def spoken(code: str | None) -> str:
    """A code such as `delivery_delay` in words; any other text as it is, clipped."""
    text = clip(code)
    return text.replace("_", " ") if _CODE.fullmatch(text) else text


def element_id(key: str, kind: str) -> str:
    """An id for a page element that stands for a row, safe whatever the row's key contains."""
    return f"{kind}-{sha256(key.encode()).hexdigest()[:16]}"
