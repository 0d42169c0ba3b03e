"""Texts with `{named}` places, filled by column expressions.

The places are found by Python's own format parser, so `template.format(...)` and `filled` read a
template alike. Values are joined in, never read as a template.
"""

from collections.abc import Mapping
from string import Formatter

from pyspark.sql import Column
from pyspark.sql import functions as F

__all__ = ["filled"]


def filled(template: str, values: Mapping[str, Column]) -> Column:
    """The template with each place replaced by its column as text; null becomes `unknown`.

    Args:
        template: text with places such as `{item}`; no conversions or format specifications.
        values: a column per place; columns without a place are not used.

    Returns:
        A string column that is never null.

    Raises:
        KeyError: a place has no column.
    """
    parts: list[Column] = []
    for literal, place, _, _ in Formatter().parse(template):
        if literal:
            parts.append(F.lit(literal))
        if place is not None:
            parts.append(F.coalesce(values[place].cast("string"), F.lit("unknown")))
    return F.concat(*parts)
