"""The words of generated complaints, by category.

Places: `{item}` is a dish of the order, `{wait}` the time from order to door.
"""

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["COMPLAINT_ENDINGS", "COMPLAINT_SHAPES", "UNKNOWN_ITEM", "UNKNOWN_WAIT"]

UNKNOWN_ITEM = "the food"
"""Stands for the dish when the order's lines aren't known."""

UNKNOWN_WAIT = "much longer than expected"
"""Stands for the time when the order's creation isn't known."""

COMPLAINT_SHAPES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "delivery_delay": (
            "From order to door it took {wait}. By then {item} was past its best.",
            "We sat at the table for {wait} before anybody rang the bell.",
            "I watched the map for {wait}. Nobody told me what was going on.",
            "My break was over when {item} got here. It took {wait}.",
            "A meal from across town should not take {wait}.",
            "I ordered {item} because I was in a hurry. It took {wait}.",
        ),
        "missing_items": (
            "I paid for {item} and it was not in the bag.",
            "The bag was sealed, but {item} had never been packed.",
            "Everything else came, only {item} is missing.",
            "Two people looked through the bag twice: no {item}.",
            "Part of what I ordered did not arrive.",
            "My kid cried because {item} was left out.",
        ),
        "food_quality": (
            "{item} arrived cold and had gone limp.",
            "The lid had come off and {item} was all over the bag.",
            "{item} was so salty that we could not finish it.",
            "{item} tasted stale, as if it had been standing for hours.",
            "There was a hair in {item}.",
            "I felt sick an hour after eating {item}.",
        ),
        "service_issue": (
            "The driver dropped the bag at the wrong entrance and left.",
            "The driver was rude when I asked about the drinks.",
            "I wrote in the notes where to ring, and nobody read them.",
            "Nobody answered when I called about {item}.",
            "The driver shouted at my neighbour in the stairwell.",
            "I asked for cutlery with {item} and was told to find my own.",
        ),
        "other": (
            "The bag for {item} was soaked, although it was not raining.",
            "I would like a proper receipt for {item}.",
            "The app showed a different picture for {item} than what I got.",
            "Too much plastic around {item}; please use less.",
            "I tried to change my address after ordering and could not.",
            "The portion of {item} is not what it was a month ago.",
        ),
    }
)
"""Shapes of the complaint itself."""

COMPLAINT_ENDINGS = (
    "",
    " Please put this right.",
    " I expected better.",
    " What can you do about it?",
)
"""What may follow the complaint."""
