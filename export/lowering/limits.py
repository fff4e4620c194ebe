"""What int8 and int16 kernels cannot compute: refused here, since on a device it would overflow without a word."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from export.graph import Tensor
from export.lowering.qdq import REMEDY, Node, QuantizedOutput
from kws.errors import KwsError
from quantize.affine import INT8_MAX, INT8_MIN, INT16_MIN, PROBABILITY_AFFINES, StepType

SPANS: dict[StepType, int] = {"int8": INT8_MAX - INT8_MIN, "int16": -INT16_MIN}
"""How far a value may lie from its zero point, in steps."""
_INT64_ACCUMULATOR_BITS, _INT64_MAX_EXPONENT = 47, 7


def require_accumulator(node: Node, bound: npt.ArrayLike, multiplier: npt.ArrayLike) -> None:
    """`bound`: the largest |accumulator|; `multiplier`: the real factor that takes it to the output's steps.

    Kernels shift an accumulator left by the exponent of a multiplier above 1 before they multiply, all in int32.
    Raises KwsError if that could overflow.
    """
    _, exponent = np.frexp(np.asarray(multiplier, np.float64))
    if np.any(np.ldexp(np.asarray(bound, np.float64), np.maximum(exponent, 0)) >= 2**31):
        raise KwsError(
            f"{node}: its sums can overflow int32 (weights or bias too large for the output scale); "
            "look for a dead output in calibration, or make the layer smaller."
        )


def require_wide_accumulator(node: Node, bound: npt.ArrayLike, multiplier: npt.ArrayLike) -> None:
    """`require_accumulator` for int16 kernels with an int64 accumulator and a multiplier of 16 bits."""
    largest, factors = np.asarray(bound, np.float64), np.asarray(multiplier, np.float64)
    fits = (largest < 2.0**_INT64_ACCUMULATOR_BITS) & (np.frexp(factors)[1] <= _INT64_MAX_EXPONENT)
    if not np.all(fits & (largest * factors < 2.0**31)):
        raise KwsError(
            f"{node}: its sums can overflow what int16 kernels count in (weights or bias too large for the output "
            "scale); look for a dead output in calibration, or make the layer smaller."
        )


def require_equal_affine(node: Node, inputs: list[Tensor], output: QuantizedOutput) -> None:
    """Raises KwsError unless `inputs` and `output`, which hold the same values moved, share scale and zero point."""
    if any(tensor.affine != output.affine for tensor in inputs):
        raise KwsError(f"{node}: only moves values, but its inputs and output differ in scale; {REMEDY}.")


def require_probability(node: Node, output: QuantizedOutput) -> None:
    """Raises KwsError unless the output has the affine that kernels fix for values in 0..1."""
    wanted = PROBABILITY_AFFINES[output.affine.dtype]
    if output.affine != wanted:
        steps = round(1 / float(wanted.scale))
        raise KwsError(f"{node}: its output needs scale 1/{steps} and zero point {wanted.zero_point}; {REMEDY}.")
