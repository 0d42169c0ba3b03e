"""Random draws that are the same on every machine.

Only PCG64's raw 64-bit output is used, whose stream NumPy guarantees, and from it only integer
arithmetic, products and sums: library functions such as `exp` or `normal` differ in their last bit
between processors.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Draws", "Floats", "Ints"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_UNIT = 1.0 / (1 << 53)


class Draws:
    """A stream of draws that belongs to one purpose.

    Args:
        seed: the dataset's seed, >= 0.
        key: numbers that name the purpose (a topic, a day, a location); streams of different keys
            are independent, so that a longer dataset begins like a shorter one.
    """

    def __init__(self, seed: int, *key: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key))

    def uniform(self, count: int) -> Floats:
        """`count` numbers in [0, 1)."""
        raw = np.asarray(self._bits.random_raw(count), dtype=np.uint64)
        return (raw >> np.uint64(11)).astype(np.float64) * _UNIT

    def below(self, count: int, bound: int) -> Ints:
        """`count` integers in [0, bound)."""
        return np.floor(self.uniform(count) * bound).astype(np.int64)

    def shaped(self, count: int, quantiles: Sequence[float]) -> Floats:
        """`count` numbers of a distribution given by its evenly spaced quantiles, 0 to 1."""
        table = np.asarray(quantiles, dtype=np.float64)
        place = self.uniform(count) * (len(table) - 1)
        left = np.floor(place).astype(np.int64)
        return table[left] + (table[left + 1] - table[left]) * (place - left)

    def weighted(self, count: int, weights: Ints) -> Ints:
        """`count` indices, each as often as its whole-number weight says."""
        upto = np.cumsum(weights)
        return np.searchsorted(upto, self.below(count, int(upto[-1])), side="right")
