"""Affine int8 and int16 quantization: the only place that rounds and clips, but for weights that `quantize.rounding`
chooses.

real = scale * (quantized - zero_point), as the TensorFlow Lite quantization specification and ONNX QuantizeLinear
define it; an int16 zero point is 0 there. Rounding is half to even on x / scale in float32, as onnxruntime does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from kws.errors import KwsError

FloatArray = npt.NDArray[np.float32]
Int8Array = npt.NDArray[np.int8]
Int16Array = npt.NDArray[np.int16]
Int32Array = npt.NDArray[np.int32]
StepArray = Int8Array | Int16Array
StepType = Literal["int8", "int16"]
"""The integers that a tensor is quantized to, as NumPy spells their type."""

INT8_MIN, INT8_MAX = -128, 127
INT16_MIN, INT16_MAX = -(2**15), 2**15 - 1
INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
SYMMETRIC_MAX = 127
SMALLEST_SCALE = 1e-12


@dataclass(frozen=True, eq=False)
class Affine:
    """Scale and zero point of a whole tensor, or one scale per channel along `axis`.

    `scale` is kept as a float32 array of shape () or, with `axis`, (channels,); `float(affine.scale)` reads the
    former. `zero_point` is one value of `dtype` for the tensor. Equal when all four are equal.

    Raises KwsError for a scale that is not finite and positive, a zero point outside int8, or an int16 one
    other than 0.
    """

    scale: FloatArray
    zero_point: int
    axis: int | None
    dtype: StepType

    def __init__(
        self, scale: npt.ArrayLike, zero_point: int = 0, axis: int | None = None, dtype: StepType = "int8"
    ) -> None:
        object.__setattr__(self, "scale", np.array(scale, dtype=np.float32))
        object.__setattr__(self, "zero_point", int(zero_point))
        object.__setattr__(self, "axis", axis)
        object.__setattr__(self, "dtype", dtype)
        if self.scale.ndim != (0 if axis is None else 1):
            raise KwsError(
                f"A scale of shape {self.scale.shape} does not go with axis {axis}: give one, or one per channel."
            )
        if self.scale.size == 0 or not np.all(np.isfinite(self.scale) & (self.scale >= np.finfo(np.float32).tiny)):
            raise KwsError(
                "A quantization scale is not finite and positive; look for NaN or zero ranges in calibration."
            )
        if not INT8_MIN <= self.zero_point <= INT8_MAX:
            raise KwsError(f"The zero point {self.zero_point} lies outside int8; quantize the tensor to int8.")
        if dtype == "int16" and self.zero_point != 0:
            raise KwsError(f"The zero point of an int16 tensor is {self.zero_point}; quantize it with 0.")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Affine) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[bytes, int, int | None, StepType]:
        return self.scale.tobytes(), self.zero_point, self.axis, self.dtype

    @property
    def lowest(self) -> int:
        return INT8_MIN if self.dtype == "int8" else INT16_MIN

    @property
    def highest(self) -> int:
        return INT8_MAX if self.dtype == "int8" else INT16_MAX

    def quantize(self, values: npt.ArrayLike) -> StepArray:
        """float (any shape) -> `dtype` of that shape, saturated to `lowest`..`highest`.

        Raises KwsError if `values` hold NaN.
        """
        reals = np.asarray(values, dtype=np.float32)
        if np.isnan(reals).any():
            raise KwsError("The values to quantize hold NaN; check the features or weights they come from.")
        with np.errstate(over="ignore"):
            steps = np.rint(reals / self._scale_for(reals.ndim))
        steps = np.clip(steps + np.float32(self.zero_point), self.lowest, self.highest)
        quantized: StepArray = steps.astype(self.dtype)
        return quantized

    def dequantize(self, values: StepArray) -> FloatArray:
        """int8 or int16 (any shape) -> float32 of that shape."""
        steps = values.astype(np.int32) - self.zero_point
        return steps.astype(np.float32) * self._scale_for(values.ndim)

    def _scale_for(self, dimensions: int) -> FloatArray:
        if self.axis is None:
            return self.scale
        return self.scale.reshape([-1 if index == self.axis else 1 for index in range(dimensions)])


PROBABILITY_AFFINES: dict[StepType, Affine] = {"int8": Affine(1 / 256, -128), "int16": Affine(1 / 32768, dtype="int16")}
"""What the kernels of LOGISTIC and SOFTMAX put out, by type."""


def affine_from_range(low: float, high: float, dtype: StepType = "int8") -> Affine:
    """The affine that spans `low`..`high` widened to include 0.0, which is represented exactly; int16 is symmetric.

    A range of zero width at 0.0 (a tensor that is always zero) gets a scale of 1.0.
    Raises KwsError if a bound is not finite or `low` > `high`.
    """
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise KwsError(f"The range {low} to {high} is no finite range; look for NaN or infinity in the activations.")
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    if low == high:
        return Affine(1.0, 0, dtype=dtype)
    if dtype == "int16":
        return Affine(max(-low / INT16_MAX, high / INT16_MAX, SMALLEST_SCALE), dtype=dtype)
    scale = np.float32(max((high - low) / (INT8_MAX - INT8_MIN), SMALLEST_SCALE))
    zero_point = np.clip(np.rint(INT8_MIN - low / float(scale)), INT8_MIN, INT8_MAX)
    return Affine(scale, int(zero_point))


def symmetric_scales(weights: FloatArray, axis: int) -> FloatArray:
    """float32 weights -> float32 (channels,): max |w| / 127 for each channel along `axis`, zero point 0.

    A channel of zeros takes the largest scale of the others (1/127 if all are zero), so that its bias keeps the
    resolution usual in that layer. Raises KwsError if `weights` hold NaN or infinity.
    """
    if not np.isfinite(weights).all():
        raise KwsError("The weights hold NaN or infinity; train the model again.")
    others = tuple(index for index in range(weights.ndim) if index != axis % weights.ndim)
    peaks = np.abs(weights).max(axis=others)
    peaks = np.where(peaks == 0.0, peaks.max() or np.float32(1.0), peaks)
    scales: FloatArray = np.maximum(peaks / np.float32(SYMMETRIC_MAX), np.float32(SMALLEST_SCALE))
    return scales


def bias_scales(input_scale: float | FloatArray, weight_scales: FloatArray) -> FloatArray:
    """float32 scalar, float32 (channels,) -> float32 (channels,): the scales of an int32 bias."""
    with np.errstate(over="ignore", under="ignore"):
        scales: FloatArray = np.asarray(input_scale, np.float32) * weight_scales.astype(np.float32)
    return scales


def quantize_bias(bias: FloatArray, input_scale: float | FloatArray, weight_scales: FloatArray) -> Int32Array:
    """float32 (channels,) -> int32 (channels,) in steps of `bias_scales(input_scale, weight_scales)`, zero point 0.

    Raises KwsError if a value does not fit int32.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.rint(bias.astype(np.float64) / bias_scales(input_scale, weight_scales))
    fits = (steps >= INT32_MIN) & (steps <= INT32_MAX)
    if not fits.all():
        channel = int(np.argmin(fits))
        raise KwsError(f"The bias of channel {channel} does not fit int32; raise the weight scale of that channel.")
    return steps.astype(np.int32)
