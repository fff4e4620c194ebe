"""What int8 kernels cannot compute: refused here, since on a device it would overflow without a word."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from export.graph import Tensor
from export.lowering.qdq import REMEDY, Node, QuantizedOutput
from kws.errors import KwsError
from quantize.affine import Affine

INT8_SPAN = 255
_PROBABILITY = Affine(1 / 256, -128)


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


def require_equal_affine(node: Node, inputs: list[Tensor], output: QuantizedOutput) -> None:
    """Raises KwsError unless `inputs` and `output`, which hold the same values moved, share scale and zero point."""
    if any(tensor.affine != output.affine for tensor in inputs):
        raise KwsError(f"{node}: only moves values, but its inputs and output differ in scale; {REMEDY}.")


def require_probability(node: Node, output: QuantizedOutput) -> None:
    """Raises KwsError unless the output has the affine that kernels fix for values in 0..1."""
    if output.affine != _PROBABILITY:
        raise KwsError(f"{node}: its output needs scale 1/256 and zero point -128; {REMEDY}.")
