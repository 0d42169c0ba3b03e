"""Charts of plain text: a column of block characters for each value."""

from collections.abc import Sequence

__all__ = ["bars"]

_EIGHTHS = " ▁▂▃▄▅▆▇█"


def bars(values: Sequence[float], *, rows: int = 1, top: float | None = None) -> list[str]:
    """A bar for each value, from zero up.

    Args:
        values: numbers >= 0; a value above zero is always seen.
        rows: lines of text, 1 or more.
        top: the value of a full bar; the highest value if not given.

    Returns:
        `rows` lines of `len(values)` characters, the uppermost first.
    """
    full = max(values, default=0.0) if top is None else top
    steps = [_steps(value, full, 8 * rows) for value in values]
    return [
        "".join(_EIGHTHS[min(max(step - 8 * row, 0), 8)] for step in steps)
        for row in reversed(range(rows))
    ]


def _steps(value: float, full: float, most: int) -> int:
    if value <= 0 or full <= 0:
        return 0
    return min(max(round(value / full * most), 1), most)
