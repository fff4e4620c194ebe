"""Range methods: what part of the values of one tensor int8 should span.

Each takes a histogram and the `span` that matters (all values seen, without what a ReLU hides) and returns a range
within it; values beyond the range saturate. Wu et al. 2020 (arXiv:2004.09602) compare them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from quantize.affine import INT8_MAX, INT8_MIN, affine_from_range
from quantize.calibration.histograms import Histogram
from quantize.calibration.ranges import Range

RangeMethod = Callable[[Histogram, Range], Range]

PERCENT_KEPT = 99.99
SHRINKS = 0.96 ** np.arange(60)
LEVELS = INT8_MAX - INT8_MIN
ENTROPY_BINS = 2048
LEAST_PROBABILITY = 1e-9


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
    best = span
    for _ in range(2):
        candidates = [Range(best.low, span.high * shrink) for shrink in SHRINKS if span.high > 0]
        best = _least_error(values, counts, [best, *candidates])
        candidates = [Range(span.low * shrink, best.high) for shrink in SHRINKS if span.low < 0]
        best = _least_error(values, counts, [best, *candidates])
    return best


def entropy_range(histogram: Histogram, span: Range) -> Range:
    """The range whose int8 levels lose the least information: smallest KL divergence from the values' distribution.

    As TensorRT does it (Migacz 2017, "8-bit Inference with TensorRT") for magnitudes; here a tensor of one sign has
    all its levels on that side. A spike at zero, which int8 represents exactly, would outweigh everything else.
    """
    values, counts = histogram.without_spike_at_zero().points(span)
    peak = max(-span.low, span.high)
    if peak <= 0 or not len(values):
        return span
    candidates = [Range(max(span.low, -peak * s), min(span.high, peak * s)) for s in SHRINKS]
    divergences = [_divergence(values, counts, candidate) for candidate in candidates]
    return candidates[int(np.argmin(divergences))]


RANGE_METHODS: dict[str, RangeMethod] = {
    "min-max": min_max_range,
    "percentile": percentile_range,
    "entropy": entropy_range,
    "mse": mse_range,
}


def _within(span: Range, *, low: float, high: float) -> Range:
    """A range that keeps zero, which int8 needs anyway, and the sign of `span`."""
    return Range(max(span.low, min(low, 0.0)), min(span.high, max(high, 0.0)))


def _least_error(values: npt.NDArray[np.float64], counts: npt.NDArray[np.float64], candidates: list[Range]) -> Range:
    def error(candidate: Range) -> float:
        affine = affine_from_range(candidate.low, candidate.high)
        return float(counts @ np.square(values - affine.dequantize(affine.quantize(values))))

    return min(candidates, key=error)


def _divergence(values: npt.NDArray[np.float64], counts: npt.NDArray[np.float64], kept: Range) -> float:
    """KL(what saturation to `kept` leaves || what LEVELS even levels can tell apart of it), in nats."""
    low, high = min(kept.low, 0.0), max(kept.high, 0.0)
    edges = np.linspace(low, high, ENTROPY_BINS + 1)
    saturated = np.histogram(np.clip(values, low, high), edges, weights=counts)[0]
    inside = np.histogram(values, edges, weights=counts)[0]
    level = np.arange(ENTROPY_BINS) * LEVELS // ENTROPY_BINS
    occupied = inside > 0
    shares = np.bincount(level, inside) / np.maximum(np.bincount(level, occupied), 1)
    coarse = np.where(occupied, shares[level], 0.0)
    wanted, told = saturated / saturated.sum(), np.maximum(coarse / max(coarse.sum(), 1.0), LEAST_PROBABILITY)
    present = wanted > 0
    return float(np.sum(wanted[present] * np.log(wanted[present] / told[present])))
