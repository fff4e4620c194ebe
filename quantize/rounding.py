"""Rounding of weights that looks at what they weigh: up or down as suits the layer's output, not each weight alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from quantize.affine import SYMMETRIC_MAX, Int8Array

Array = npt.NDArray[np.float64]

MAX_SWEEPS = 10


def round_for_output(weights: Array, scales: Array, moments: Array) -> Int8Array:
    """int8 q (channels, taps) of small expected squared output error, (s q - w)' E[x x'] (s q - w) in each channel.

    `weights` w are (channels, taps), `scales` s (channels,), `moments` E[x x'] of a channel's inputs (channels, taps,
    taps). Starts at the nearest integers and moves one tap of all channels at a time to its best integer, given the
    others. The objective is that of AdaRound (Nagel et al. 2020, arXiv:2004.10568, equation 11), the descent stands in
    for its relaxation. Weights of inputs that are always zero stay at the nearest.
    """
    curvature = np.diagonal(moments, axis1=1, axis2=2)
    step = scales[:, None]
    rounded = np.clip(np.rint(weights / step), -SYMMETRIC_MAX, SYMMETRIC_MAX)
    for _ in range(MAX_SWEEPS):
        before = rounded.copy()
        for tap in np.flatnonzero(curvature.any(axis=0)):
            slope = np.einsum("ck,ck->c", moments[:, tap], step * rounded - weights)
            move = np.divide(slope, curvature[:, tap] * scales, out=np.zeros_like(slope), where=curvature[:, tap] > 0)
            rounded[:, tap] = np.clip(np.rint(rounded[:, tap] - move), -SYMMETRIC_MAX, SYMMETRIC_MAX)
        if np.array_equal(before, rounded):
            break
    return rounded.astype(np.int8)
