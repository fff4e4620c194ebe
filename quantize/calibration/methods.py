"""Range methods: what part of the values of one tensor int8 should span.

Each takes a histogram and the `span` that matters (all values seen, without what a ReLU hides, and zero) and returns
a range within it that includes zero; values beyond the range saturate. Wu et al. 2020 (arXiv:2004.09602) compare them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from quantize.affine import INT8_MAX, INT8_MIN, affine_from_range
from quantize.calibration.histograms import Histogram
from quantize.calibration.ranges import Range

Array = npt.NDArray[np.float64]
RangeMethod = Callable[[Histogram, Range], Range]

PERCENT_KEPT = 99.99
SHRINKS: list[float] = (0.96 ** np.arange(60)).tolist()
LEVELS = INT8_MAX - INT8_MIN


def min_max_range(histogram: Histogram, span: Range) -> Range:
    """All of it."""
    return span


def percentile_range(histogram: Histogram, span: Range) -> Range:
    """`span` without the outermost 100 - PERCENT_KEPT percent of the values at either end."""
    values, counts = histogram.points(span)
    share = np.cumsum(counts) / counts.sum()
    outside = 1 - PERCENT_KEPT / 100
    low, high = values[np.searchsorted(share, [outside, 1 - outside])]
    return _within(span, low=float(low), high=float(high))


def mse_range(histogram: Histogram, span: Range) -> Range:
    """The range of least mean squared error after int8, sought for each end in turn."""
    values, counts = histogram.points(span)
    highs = [span.high * shrink for shrink in SHRINKS if span.high > 0]
    lows = [span.low * shrink for shrink in SHRINKS if span.low < 0]
    best = span
    for _ in range(2):
        best = _least_error(values, counts, best, [Range(best.low, high) for high in highs])
        best = _least_error(values, counts, best, [Range(low, best.high) for low in lows])
    return best


def entropy_range(histogram: Histogram, span: Range) -> Range:
    """The range whose int8 levels lose the least information: smallest KL divergence from the values' distribution.

    As TensorRT does it (Migacz 2017, "8-bit Inference with TensorRT") for magnitudes; here a tensor of one sign has
    all its levels on that side. A spike at zero, which int8 represents exactly, would outweigh everything else.
    """
    values, counts = histogram.without_spike_at_zero().points(span)
    peak = max(-span.low, span.high)
    candidates = [span, *(Range(max(span.low, -peak * s), min(span.high, peak * s)) for s in SHRINKS)]
    divergences = [_divergence(values, counts, candidate) for candidate in candidates]
    return candidates[int(np.argmin(divergences))]


RANGE_METHODS: dict[str, RangeMethod] = {
    "min-max": min_max_range,
    "percentile": percentile_range,
    "entropy": entropy_range,
    "mse": mse_range,
}


def choose_range(method: str, histogram: Histogram, span: Range) -> Range:
    """What the method of that name finds in `span`, widened to include zero as every int8 range is."""
    return RANGE_METHODS[method](histogram, Range(min(span.low, 0.0), max(span.high, 0.0)))


def _within(span: Range, *, low: float, high: float) -> Range:
    """The range from `low` to `high` that includes zero and lies within `span`."""
    return Range(max(span.low, min(low, 0.0)), min(span.high, max(high, 0.0)))


def _least_error(values: Array, counts: Array, first: Range, narrowing: list[Range]) -> Range:
    """The best of `first` and of `narrowing`, whose candidates get narrower.

    What saturates only grows on the way; once it alone costs more than the best range does in all, the rest is worse.
    """

    def cost(errors: Array) -> float:
        return float(counts @ np.square(errors))

    best, least = first, math.inf
    for candidate in [first, *narrowing]:
        affine = affine_from_range(candidate.low, candidate.high)
        error = cost(values - affine.dequantize(affine.quantize(values)))
        if error < least:
            best, least = candidate, error
        elif cost(values - np.clip(values, candidate.low, candidate.high)) > least:
            break
    return best


def _divergence(values: Array, counts: Array, kept: Range) -> float:
    """KL(what saturation to `kept` leaves || what LEVELS even levels can tell apart of it), in nats.

    Infinite where fewer points than levels are left, which would tell nothing.
    """
    inside = (values >= kept.low) & (values <= kept.high)
    if inside.sum() < LEVELS:
        return math.inf
    wanted = counts[inside]
    level = ((values[inside] - kept.low) / (kept.high - kept.low) * LEVELS).astype(np.int64)
    told = (np.bincount(level, wanted) / np.maximum(np.bincount(level), 1))[level]
    saturated = wanted.copy()
    saturated[0] += counts[values < kept.low].sum()
    saturated[-1] += counts[values > kept.high].sum()
    share, told_share = saturated / saturated.sum(), told / told.sum()
    return float(np.sum(share * np.log(share / told_share)))
