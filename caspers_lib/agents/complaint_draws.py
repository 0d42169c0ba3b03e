"""Which orders complain, about what, in which words: seeded draws that anyone can recompute.

A draw is the first 32 bits of md5 over the UTF-8 text `seed:purpose:order_id`, an integer below
2**32; in SQL `conv(substr(md5(...), 1, 8), 16, 10)`. No state, no order of rows, no engine enters.
"""

from decimal import Decimal
from hashlib import md5
from itertools import accumulate
from uuid import UUID, uuid5

from caspers_lib.agents.contracts import CATEGORY_WEIGHTS

__all__ = [
    "COMPLAINT_SEED",
    "DRAWS",
    "category_bounds",
    "complains",
    "complaint_category",
    "complaint_id",
    "draw",
    "sample_bound",
]

COMPLAINT_SEED = 42
"""Draws the complaints of the demo, on a laptop and in a workspace."""

DRAWS = 2**32
"""Number of values that a draw can take."""


def draw(purpose: str, order_id: str, seed: int) -> int:
    """The order's draw for one purpose, 0 to `DRAWS` - 1."""
    text = f"{seed}:{purpose}:{order_id}".encode()
    return int(md5(text, usedforsecurity=False).hexdigest()[:8], 16)


def sample_bound(rate: float) -> int:
    """The draws below this are in the sample: 0 at rate 0, all at rate 1.

    Raises:
        ValueError: the rate is outside 0..1.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"the complaint rate is {rate}; it must be between 0 and 1")
    return round(rate * DRAWS)


def complains(order_id: str, rate: float, seed: int) -> bool:
    """Whether the order's customer complains; more complain at a higher rate, never others."""
    return draw("complains", order_id, seed) < sample_bound(rate)


def category_bounds() -> tuple[tuple[str, int], ...]:
    """Each category with the draw that ends its share."""
    ends = accumulate(CATEGORY_WEIGHTS.values())
    return tuple(
        (name, int(end * Decimal(DRAWS))) for name, end in zip(CATEGORY_WEIGHTS, ends, strict=True)
    )


def complaint_category(order_id: str, seed: int) -> str:
    """What the order's complaint is about, by the categories' weights."""
    drawn = draw("category", order_id, seed)
    return next(name for name, end in category_bounds() if drawn < end)


def complaint_id(order_id: str, namespace: UUID) -> str:
    """The complaint's id: UUIDv5 of `complaint:<order_id>` in the domain's namespace."""
    return str(uuid5(namespace, f"complaint:{order_id}"))
