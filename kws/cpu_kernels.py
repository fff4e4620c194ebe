"""The loops of kws.cpu_ops, which read and write each map as seldom as can be.

Numba compiles them when they are first called, in some seconds, and keeps them for later processes. Maps are
(channels, height, n), rows (channels, n), float32 or float64, contiguous. A channel is the work of one thread, so
results do not depend on how many there are. Sums may be taken in any order, but NaN and infinity go through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch
from numba import prange
from torch import Tensor

Array = npt.NDArray[Any]


_FASTMATH = {"reassoc", "contract", "nsz"}
_MOST_THREADS = numba.get_num_threads()


def _kernel(loops: Callable[..., None]) -> Callable[..., None]:
    """`loops` for tensors, on as many threads as PyTorch's."""
    try:
        compiled = numba.njit(parallel=True, fastmath=_FASTMATH, cache=True)(loops)
    except RuntimeError:  # There is no folder that it could be kept in.
        compiled = numba.njit(parallel=True, fastmath=_FASTMATH)(loops)

    def run(*arguments: Tensor | float) -> None:
        numba.set_num_threads(min(torch.get_num_threads(), _MOST_THREADS))
        compiled(*[value.detach().numpy() if isinstance(value, Tensor) else value for value in arguments])

    return run


@_kernel
def norm_relu(x: Array, weight: Array, bias: Array, eps: float, y: Array, mean: Array, inverse: Array) -> None:
    """Batch normalisation and ReLU of the map x -> y; mean and 1 / sqrt(variance + eps), (channels,) each."""
    channels, height, n = x.shape
    zero = x.dtype.type(0)
    for c in prange(channels):
        # Deviations from some value of the channel do not cancel as those from zero would.
        origin = x[c, 0, 0]
        total, squares = 0.0, 0.0
        for h in range(height):
            row, row_total, row_squares = x[c, h], zero, zero
            for i in range(n):
                deviation = row[i] - origin
                row_total += deviation
                row_squares += deviation * deviation
            total += row_total
            squares += row_squares
        offset = total / (height * n)
        mean[c] = origin + offset
        inverse[c] = 1 / np.sqrt(max(squares / (height * n) - offset * offset, 0.0) + eps)
        scale = weight[c] * inverse[c]
        shift = bias[c] - mean[c] * scale
        for h in range(height):
            row, target = x[c, h], y[c, h]
            for i in range(n):
                value = row[i] * scale + shift
                target[i] = zero if value < zero else value


@_kernel
def norm_relu_backward(
    gradient: Array,
    x: Array,
    y: Array,
    weight: Array,
    mean: Array,
    inverse: Array,
    weight_gradient: Array,
    bias_gradient: Array,
) -> None:
    """The gradients of `norm_relu`; that of x takes the place of `gradient`, which is that of y."""
    channels, height, n = x.shape
    zero = x.dtype.type(0)
    for c in prange(channels):
        centre = mean[c]
        total, products = 0.0, 0.0
        for h in range(height):
            g, row, out, row_total, row_products = gradient[c, h], x[c, h], y[c, h], zero, zero
            for i in range(n):
                masked = zero if out[i] <= zero else g[i]
                row_total += masked
                row_products += masked * (row[i] - centre)
            total += row_total
            products += row_products
        bias_gradient[c] = total
        weight_gradient[c] = products * inverse[c]
        scale = weight[c] * inverse[c]
        slope = x.dtype.type(-scale * inverse[c] * inverse[c] * products / (height * n))
        shift = x.dtype.type(-scale * total / (height * n) - slope * centre)
        for h in range(height):
            g, row, out = gradient[c, h], x[c, h], y[c, h]
            for i in range(n):
                masked = zero if out[i] <= zero else g[i]
                g[i] = scale * masked + slope * row[i] + shift


@_kernel
def frequency_branch(
    x: Array,
    taps: Array,
    weight: Array,
    bias: Array,
    stride: int,
    eps: float,
    y: Array,
    row_mean: Array,
    mean: Array,
    inverse: Array,
) -> None:
    """Depthwise convolution of x by taps (channels, 3) along the height, with a row of zeros at each end, normalised in
    equal bands -> y; the mean of y over its height, and mean and 1 / sqrt(variance + eps) of each band before the
    norm, (channels * bands,) each."""
    channels, height, n = x.shape
    height_out = y.shape[1]
    bands = len(weight) // channels
    rows = height_out // bands
    zero = x.dtype.type(0)
    part = x.dtype.type(1 / height_out)
    for c in prange(channels):
        of_all = row_mean[c]
        for i in range(n):
            of_all[i] = zero
        for band in range(bands):
            group = c * bands + band
            origin = zero
            total, squares = 0.0, 0.0
            for out in range(band * rows, (band + 1) * rows):
                at = out * stride
                # At an end the missing row is any other, times zero.
                above, before = (x[c, at - 1], taps[c, 0]) if at > 0 else (x[c, at], zero)
                below, after = (x[c, at + 1], taps[c, 2]) if at + 1 < height else (x[c, at], zero)
                row, centre = x[c, at], taps[c, 1]
                if out == band * rows:
                    origin = before * above[0] + centre * row[0] + after * below[0]
                row_total, row_squares = zero, zero
                for i in range(n):
                    deviation = before * above[i] + centre * row[i] + after * below[i] - origin
                    row_total += deviation
                    row_squares += deviation * deviation
                total += row_total
                squares += row_squares
            offset = total / (rows * n)
            mean[group] = origin + offset
            inverse[group] = 1 / np.sqrt(max(squares / (rows * n) - offset * offset, 0.0) + eps)
            scale = weight[group] * inverse[group]
            shift = bias[group] - mean[group] * scale
            for out in range(band * rows, (band + 1) * rows):
                at = out * stride
                above, before = (x[c, at - 1], taps[c, 0] * scale) if at > 0 else (x[c, at], zero)
                below, after = (x[c, at + 1], taps[c, 2] * scale) if at + 1 < height else (x[c, at], zero)
                row, centre, target = x[c, at], taps[c, 1] * scale, y[c, out]
                for i in range(n):
                    value = before * above[i] + centre * row[i] + after * below[i] + shift
                    target[i] = value
                    of_all[i] += value * part


@_kernel
def frequency_branch_backward(
    map_gradient: Array,
    mean_gradient: Array,
    x: Array,
    taps: Array,
    weight: Array,
    mean: Array,
    inverse: Array,
    stride: int,
    shortcut: bool,
    x_gradient: Array,
    taps_gradient: Array,
    weight_gradient: Array,
    bias_gradient: Array,
) -> None:
    """The gradients of `frequency_branch` from those of y and of its mean; with `shortcut` that of y is also x's."""
    channels, height, n = x.shape
    height_out = map_gradient.shape[1]
    bands = len(weight) // channels
    rows = height_out // bands
    zero = x.dtype.type(0)
    part = x.dtype.type(1 / height_out)
    for c in prange(channels):
        of_all, nowhere = mean_gradient[c], np.empty(n, x.dtype)
        sum_before, sum_centre, sum_after = 0.0, 0.0, 0.0
        for h in range(height):
            target = x_gradient[c, h]
            if shortcut:
                g = map_gradient[c, h]
                for i in range(n):
                    target[i] = g[i]
            else:
                for i in range(n):
                    target[i] = zero
        for band in range(bands):
            group = c * bands + band
            middle = mean[group]
            total, products = 0.0, 0.0
            for out in range(band * rows, (band + 1) * rows):
                at = out * stride
                above, before = (x[c, at - 1], taps[c, 0]) if at > 0 else (x[c, at], zero)
                below, after = (x[c, at + 1], taps[c, 2]) if at + 1 < height else (x[c, at], zero)
                row, centre, g = x[c, at], taps[c, 1], map_gradient[c, out]
                row_total, row_products = zero, zero
                for i in range(n):
                    value = g[i] + of_all[i] * part
                    row_total += value
                    row_products += value * (before * above[i] + centre * row[i] + after * below[i] - middle)
                total += row_total
                products += row_products
            bias_gradient[group] = total
            weight_gradient[group] = products * inverse[group]
            scale = weight[group] * inverse[group]
            slope = x.dtype.type(-scale * inverse[group] * inverse[group] * products / (rows * n))
            shift = x.dtype.type(-scale * total / (rows * n) - slope * middle)
            for out in range(band * rows, (band + 1) * rows):
                at = out * stride
                above, before = (x[c, at - 1], taps[c, 0]) if at > 0 else (x[c, at], zero)
                below, after = (x[c, at + 1], taps[c, 2]) if at + 1 < height else (x[c, at], zero)
                row, centre, g = x[c, at], taps[c, 1], map_gradient[c, out]
                above_gradient = x_gradient[c, at - 1] if at > 0 else nowhere
                below_gradient = x_gradient[c, at + 1] if at + 1 < height else nowhere
                row_gradient = x_gradient[c, at]
                row_before, row_centre, row_after = zero, zero, zero
                for i in range(n):
                    convolved = before * above[i] + centre * row[i] + after * below[i]
                    value = scale * (g[i] + of_all[i] * part) + slope * convolved + shift
                    row_before += value * above[i]
                    row_centre += value * row[i]
                    row_after += value * below[i]
                    above_gradient[i] += before * value
                    row_gradient[i] += centre * value
                    below_gradient[i] += after * value
                sum_before += row_before if at > 0 else zero
                sum_centre += row_centre
                sum_after += row_after if at + 1 < height else zero
        taps_gradient[c, 0], taps_gradient[c, 1], taps_gradient[c, 2] = sum_before, sum_centre, sum_after


@_kernel
def broadcast_sum(map_: Array, row: Array, shortcut: Array) -> None:
    """relu(map + row + shortcut) in place of the map; a shortcut of no channels is none."""
    channels, height, n = map_.shape
    zero = map_.dtype.type(0)
    for c in prange(channels):
        of_all = row[c]
        for h in range(height):
            y = map_[c, h]
            if len(shortcut):
                added = shortcut[c, h]
                for i in range(n):
                    value = y[i] + of_all[i] + added[i]
                    y[i] = zero if value < zero else value
            else:
                for i in range(n):
                    value = y[i] + of_all[i]
                    y[i] = zero if value < zero else value


@_kernel
def broadcast_sum_backward(gradient: Array, y: Array, row_gradient: Array) -> None:
    """The gradient of the map takes the place of `gradient`, that of y; the row's is its sum over the height."""
    channels, height, n = y.shape
    zero = y.dtype.type(0)
    for c in prange(channels):
        summed = row_gradient[c]
        for i in range(n):
            summed[i] = zero
        for h in range(height):
            g, out = gradient[c, h], y[c, h]
            for i in range(n):
                masked = zero if out[i] <= zero else g[i]
                g[i] = masked
                summed[i] += masked
