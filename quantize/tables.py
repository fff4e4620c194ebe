"""Functions of one int8 value as tables: what the device looks up for each of the 256 inputs."""

from __future__ import annotations

import numpy as np

from quantize.affine import INT8_MAX, INT8_MIN, Affine, Int8Array


def swish_table(source: Affine, result: Affine) -> Int8Array:
    """int8 (256,): x / (1 + exp(-x)) rounded once, for the inputs -128..127 in that order."""
    x = source.dequantize(np.arange(INT8_MIN, INT8_MAX + 1).astype(np.int8)).astype(np.float64)
    return result.quantize((x / (1.0 + np.exp(-np.clip(x, -700.0, None)))).astype(np.float32)).astype(np.int8)
