"""95 % confidence intervals of counts."""

from __future__ import annotations

import math
from collections.abc import Callable

CONFIDENCE = 0.95
# The normal distribution's quantile of (1 + CONFIDENCE) / 2.
_Z = 1.959963984540054
_BISECTIONS = 200


def wilson(count: int, of: int) -> tuple[float, float]:
    """The share (0..1) that `count` in `of` trials stands for (Wilson 1927). No trials give 0 to 1."""
    if of == 0:
        return 0.0, 1.0
    share, z2 = count / of, _Z * _Z
    centre = share + z2 / (2 * of)
    spread = _Z * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    low, high = ((centre + sign * spread) / (1 + z2 / of) for sign in (-1, 1))
    return (0.0 if count == 0 else low), (1.0 if count == of else high)


def poisson(count: int) -> tuple[float, float]:
    """The mean that `count` events stand for, exactly (Garwood 1936): beyond either end, as many events or as few have
    a probability below (1 - CONFIDENCE) / 2."""
    tail = (1 - CONFIDENCE) / 2
    low = 0.0 if count == 0 else _root(lambda mean: _poisson_cdf(count - 1, mean) - (1 - tail), count)
    return low, _root(lambda mean: _poisson_cdf(count, mean) - tail, count)


def _poisson_cdf(count: int, mean: float) -> float:
    if mean == 0:
        return 1.0
    return math.fsum(math.exp(i * math.log(mean) - mean - math.lgamma(i + 1)) for i in range(count + 1))


def _root(falling: Callable[[float], float], count: int) -> float:
    """Where `falling` crosses zero, between 0 and far beyond `count`."""
    low, high = 0.0, 10.0 + 2 * count + 10 * math.sqrt(count)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if falling(middle) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2
