"""Scales of weights: symmetric int8 per output channel, by largest weight or by least squared error."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from quantize.affine import Affine, FloatArray, symmetric_scales

WeightScales = Callable[[FloatArray, int], FloatArray]

SHRINKS = np.linspace(1.0, 0.5, 51, dtype=np.float32)


def mse_scales(weights: FloatArray, axis: int) -> FloatArray:
    """float32 weights -> float32 (channels,): for each channel along `axis` that of `symmetric_scales`, or as small a
    part of it (down to half) as brings the least squared error. Raises KwsError if `weights` hold NaN or infinity.
    """
    others = tuple(index for index in range(weights.ndim) if index != axis % weights.ndim)
    widest = symmetric_scales(weights, axis)
    candidates = [widest * shrink for shrink in SHRINKS]
    errors = [np.square(weights - _rounded(weights, scales, axis)).sum(axis=others) for scales in candidates]
    best = np.argmin(errors, axis=0)
    scales: FloatArray = np.stack(candidates)[best, np.arange(len(best))]
    return scales


def _rounded(weights: FloatArray, scales: FloatArray, axis: int) -> FloatArray:
    affine = Affine(scales, 0, axis % weights.ndim)
    return affine.dequantize(affine.quantize(weights))


WEIGHT_RANGE_METHODS: dict[str, WeightScales] = {"min-max": symmetric_scales, "mse": mse_scales}
