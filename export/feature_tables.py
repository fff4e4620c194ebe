"""What the C front end is rendered from: its numbers and tables, in float32 and in fixed point."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from export import cgen
from kws.config import FeatureConfig
from kws.features import FeatureTables

LOG_TABLE_ENTRIES = 65
# CMSIS-DSP has real FFTs of these sizes.
CMSIS_FFT_SIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096)

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class BinaryFraction:
    """value ~ mantissa * 2**exponent."""

    mantissa: int
    exponent: int


def binary_fraction(value: float, bits: int) -> BinaryFraction:
    """`value` > 0 with a mantissa of exactly `bits` bits."""
    fraction, exponent = math.frexp(value)
    mantissa = round(fraction * 2**bits)
    if mantissa == 2**bits:
        mantissa, exponent = mantissa // 2, exponent + 1
    return BinaryFraction(mantissa=mantissa, exponent=exponent - bits)


def unsigned_q16(values: FloatArray) -> IntArray:
    """Values in 0..1 as integers in 0..65535; 1 becomes 65535."""
    return np.minimum(np.rint(values.astype(np.float64) * 65536), 65535).astype(np.int64)


def signed_q15(values: FloatArray) -> IntArray:
    """Values in -1..1 as integers in -32768..32767; 1 becomes 32767."""
    steps: IntArray = np.minimum(np.rint(values * 32768), 32767).astype(np.int64)
    return steps


def q15_rest(values: FloatArray) -> IntArray:
    """What `signed_q15` leaves out, times 2**30."""
    rest: IntArray = (np.rint(values * 2**30) - signed_q15(values) * 2**15).clip(-32768, 32767).astype(np.int64)
    return rest


def log2_q16() -> IntArray:
    """65536 * log2(1 + i / 64), i in 0..64."""
    values = np.log2(1 + np.arange(LOG_TABLE_ENTRIES) / (LOG_TABLE_ENTRIES - 1))
    table: IntArray = np.rint(65536 * values).astype(np.int64)
    return table


def feature_values(config: FeatureConfig, input_scale: float) -> dict[str, Any]:
    """Template values of feature_params.h. `input_scale` is the step of the model's input."""
    offset = binary_fraction(float(np.float32(config.log_offset)), 31)
    steps = binary_fraction(math.log(2) / float(np.float32(input_scale)), 15)
    return {
        "sample_rate_hz": config.sample_rate_hz,
        "window_samples": config.window_samples,
        "hop_samples": config.hop_samples,
        "fft_size": config.fft_size,
        "fft_stages": config.fft_size.bit_length() - 2,
        "fft_bins": config.fft_bins,
        "mel_bands": config.mel_bands,
        "frames": config.frames,
        "log_offset": cgen.c_float(config.log_offset),
        "log_offset_mantissa": offset.mantissa,
        "log_offset_exponent": offset.exponent,
        "steps_mantissa": steps.mantissa,
        "steps_fraction": -steps.exponent,
        "cmsis_fft": config.fft_size in CMSIS_FFT_SIZES,
    }


def table_values(config: FeatureConfig) -> dict[str, Any]:
    """Template values of feature_tables.h and .cc."""
    tables = FeatureTables.of(config)
    angle = 2 * np.pi * np.arange(config.fft_size // 2) / config.fft_size
    spans = [np.flatnonzero(band) for band in tables.mel_weights.T]
    first = [int(bins[0]) if bins.size else 0 for bins in spans]
    count = [int(bins[-1] - bins[0]) + 1 if bins.size else 0 for bins in spans]
    weights = [tables.mel_weights[a : a + n, band] for band, (a, n) in enumerate(zip(first, count, strict=True))]
    sums = [int(unsigned_q16(band).sum()) for band in weights]
    return {
        "window": cgen.c_float_array(tables.window),
        "window_q16": cgen.c_int_array(unsigned_q16(tables.window)),
        "twiddles": len(angle),
        "twiddle_cos": cgen.c_float_array(np.cos(angle).astype(np.float32)),
        "twiddle_sin": cgen.c_float_array(np.sin(angle).astype(np.float32)),
        "twiddle_cos_q15": cgen.c_int_array(signed_q15(np.cos(angle))),
        "twiddle_cos_rest": cgen.c_int_array(q15_rest(np.cos(angle))),
        "twiddle_minus_sin_q15": cgen.c_int_array(signed_q15(-np.sin(angle))),
        "twiddle_minus_sin_rest": cgen.c_int_array(q15_rest(-np.sin(angle))),
        "mel_first_bin": cgen.c_array(map(str, first)),
        "mel_bin_count": cgen.c_array(map(str, count)),
        "mel_weight_count": sum(count),
        "mel_weights": cgen.c_float_array(np.concatenate(weights)),
        "mel_weights_q16": cgen.c_int_array(unsigned_q16(np.concatenate(weights))),
        "mel_guard_bits": max(0, (max(sums) - 1).bit_length() - 16),
        "log_table_entries": LOG_TABLE_ENTRIES,
        "log2_q16": cgen.c_int_array(log2_q16()),
    }
