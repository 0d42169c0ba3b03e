"""How a complaint is put together: the tone, the sentence and its facts, by seeded draws.

`complaint_text` writes one; `complaints.raw_complaints` writes the same texts for a whole
DataFrame.
"""

from collections.abc import Iterator, Sequence
from decimal import ROUND_FLOOR, Decimal
from itertools import accumulate

from caspers_lib.agents.complaint_draws import DRAWS, complaint_category, draw
from caspers_lib.agents.complaint_words import COMPLAINT_CORES, COMPLAINT_TONES

__all__ = [
    "FEWEST_MINUTES",
    "UNKNOWN_ITEM",
    "UNKNOWN_ITEMS",
    "UNKNOWN_STREET",
    "UNKNOWN_WAIT",
    "complaint_shapes",
    "complaint_text",
    "complaint_tone",
    "counted_minutes",
    "tone_bounds",
]

UNKNOWN_ITEM = "the food"
"""Stands for the dish when the order's lines aren't known."""

UNKNOWN_ITEMS = "part of my order"
"""Stands for one or two dishes."""

UNKNOWN_WAIT = "much longer than expected"
"""Stands for the time when the order's creation isn't known."""

UNKNOWN_STREET = "our house"
"""Stands for the street when the address isn't known."""

FEWEST_MINUTES = 2
"""A wait below so many minutes isn't counted out."""


def tone_bounds() -> tuple[tuple[str, int], ...]:
    """Each tone with the draw that ends its share."""
    ends = accumulate(tone.share for tone in COMPLAINT_TONES.values())
    return tuple((name, int(end * DRAWS)) for name, end in zip(COMPLAINT_TONES, ends, strict=True))


def complaint_tone(order_id: str, seed: int) -> str:
    """How the order's customer writes, by the tones' shares."""
    drawn = draw("tone", order_id, seed)
    return next(name for name, end in tone_bounds() if drawn < end)


def complaint_shapes() -> Iterator[str]:
    """Every text that can come about, its places unfilled."""
    for cores in COMPLAINT_CORES.values():
        for name, tone in COMPLAINT_TONES.items():
            for core in cores[name]:
                for opening in tone.openings:
                    yield from (f"{opening}{core}{ending}" for ending in tone.endings)


def complaint_text(
    order_id: str,
    seed: int,
    *,
    dishes: Sequence[str | None] = (),
    total_minutes: Decimal | None = None,
    street: str | None = None,
) -> str:
    """What the order's customer writes; nothing in it that isn't so.

    Args:
        order_id: the order.
        seed: another seed draws another text.
        dishes: names of the dishes, a line of the order each, in the lines' order.
        total_minutes: minutes from the order to its delivery; None is unknown.
        street: where it was brought; None is unknown.
    """
    category, name = complaint_category(order_id, seed), complaint_tone(order_id, seed)
    tone = COMPLAINT_TONES[name]
    core = _chosen("shape", order_id, seed, COMPLAINT_CORES[category][name])
    # One format over the template alone: what is filled in is never read as a template.
    filled = core.format(**_places(order_id, seed, dishes, total_minutes, street))
    opening = _chosen("opening", order_id, seed, tone.openings)
    return opening + filled + _chosen("ending", order_id, seed, tone.endings)


def counted_minutes(total_minutes: Decimal | None) -> int | None:
    """The minutes that a customer counts: whole ones; None where there is nothing to count."""
    minutes = int((total_minutes or Decimal(0)).to_integral_value(ROUND_FLOOR))
    return minutes if minutes >= FEWEST_MINUTES else None


def _chosen(purpose: str, order_id: str, seed: int, options: Sequence[str]) -> str:
    return options[draw(purpose, order_id, seed) % len(options)]


def _places(
    order_id: str,
    seed: int,
    dishes: Sequence[str | None],
    total_minutes: Decimal | None,
    street: str | None,
) -> dict[str, str]:
    first, second = _two_dishes(dishes, draw("item", order_id, seed))
    item = first or UNKNOWN_ITEM
    both = f"{first} and {second}" if first and second else first
    minutes = counted_minutes(total_minutes)
    return {
        "item": item,
        "Item": first or UNKNOWN_ITEM.capitalize(),
        "items": both or UNKNOWN_ITEMS,
        "wait": UNKNOWN_WAIT if minutes is None else f"{minutes} minutes",
        "street": _written(street) or UNKNOWN_STREET,
    }


def _two_dishes(dishes: Sequence[str | None], drawn: int) -> tuple[str | None, str | None]:
    """A dish of the order and the one on the next line, if that is another one."""
    if not dishes:
        return None, None
    first, second = (_written(dishes[(drawn + n) % len(dishes)]) for n in (0, 1))
    return first, None if second == first else second


def _written(text: str | None) -> str | None:
    """The text, or None where there is nothing but blanks."""
    return text if text and text.strip(" ") else None
