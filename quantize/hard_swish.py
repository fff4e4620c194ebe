"""Hard-swish, x * clip(x + 3, 0, 6) / 6: what TFLM's int8 HARD_SWISH answers to each of its 256 inputs, and what stands
for it in int16, of which TFLM has no kernel.

The int8 arithmetic is that of TensorFlow Lite's reference_ops::HardSwish (hard_swish.h) on gemmlowp's 16-bit fixed
point. It differs from the rounded real value by a step here and there, so that only the kernel's own answers can stand
for it.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from quantize.affine import INT8_MAX, INT8_MIN, INT16_MAX, INT16_MIN, Affine, Int8Array

_HIRES = np.float32(1 / 128)
_RELUISH_SCALE = np.float32(3 / 32768)

Steps = npt.NDArray[np.int64]


def is_representable(source: Affine, result: Affine) -> bool:
    """Whether the kernel takes these scales: the output's must not be far smaller than the input's."""
    return _multiplier(float(source.scale * _HIRES / result.scale))[1] <= 0


def hard_swish_table(source: Affine, result: Affine) -> Int8Array:
    """int8 (256,): the answers to the inputs -128..127, in that order."""
    output_multiplier, output_exponent = _multiplier(float(source.scale * _HIRES / result.scale))
    gate_multiplier, gate_exponent = _multiplier(float(source.scale * _HIRES / _RELUISH_SCALE))
    hires = (np.arange(INT8_MIN, INT8_MAX + 1, dtype=np.int64) - source.zero_point) * 128
    gate = _shifted_left(hires, gate_exponent - 1) if gate_exponent > 0 else hires
    gate = _rounded(gate * gate_multiplier)
    gate = _shifted_left(gate, 1) if gate_exponent > 0 else _shifted_right(gate, -gate_exponent)
    gate = (gate + 2**15) >> 1
    product = _truncated(gate * _rounded(hires * output_multiplier))
    steps = _shifted_right(product, -output_exponent) + result.zero_point
    table: Int8Array = np.clip(steps, INT8_MIN, INT8_MAX).astype(np.int8)
    return table


def expand_hard_swish(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with Add, Clip, Mul and Mul in place of each HardSwish."""
    expanded = onnx.ModelProto()
    expanded.CopyFrom(model)
    del expanded.graph.node[:]
    for node in model.graph.node:
        nodes, constants = _expanded(node) if node.op_type == "HardSwish" else ([node], [])
        expanded.graph.node.extend(nodes)
        expanded.graph.initializer.extend(constants)
    return onnx.shape_inference.infer_shapes(expanded, strict_mode=True)


def _expanded(node: onnx.NodeProto) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    source, output = node.input[0], node.output[0]
    shifted, gate, product = (f"{output}/{part}" for part in ("shifted", "gate", "product"))
    numbers = {"three": 3.0, "zero": 0.0, "six": 6.0, "sixth": 1 / 6}
    constants = [numpy_helper.from_array(np.float32(value), f"{output}/{name}") for name, value in numbers.items()]
    three, zero, six, sixth = (constant.name for constant in constants)
    nodes = [
        helper.make_node("Add", [source, three], [shifted], shifted),
        helper.make_node("Clip", [shifted, zero, six], [gate], gate),
        helper.make_node("Mul", [source, gate], [product], product),
        helper.make_node("Mul", [product, sixth], [output], node.name or output),
    ]
    return nodes, constants


def _multiplier(factor: float) -> tuple[int, int]:
    """`factor` as a 16-bit fixed-point fraction and the exponent of two."""
    fraction, exponent = math.frexp(factor)
    fixed = math.floor(fraction * 2**31 + 0.5)
    if fixed == 2**31:
        fixed, exponent = fixed // 2, exponent + 1
    if exponent < -31:
        fixed, exponent = 0, 0
    return min((fixed + 2**15) >> 16, INT16_MAX), exponent


def _rounded(product: Steps) -> Steps:
    """gemmlowp::SaturatingRoundingDoublingHighMul on int16."""
    return _truncated(product + np.where(product >= 0, 2**14, 1 - 2**14))


def _truncated(product: Steps) -> Steps:
    """The upper half of a product of two int16, towards zero."""
    upper: Steps = np.minimum(np.sign(product) * (np.abs(product) >> 15), INT16_MAX)
    return upper


def _shifted_left(values: Steps, bits: int) -> Steps:
    shifted: Steps = np.clip(values << bits, INT16_MIN, INT16_MAX)
    return shifted


def _shifted_right(values: Steps, bits: int) -> Steps:
    """gemmlowp::RoundingDivideByPOT: halves go away from zero."""
    mask = (1 << bits) - 1
    threshold = (mask >> 1) + (values < 0)
    shifted: Steps = (values >> bits) + ((values & mask) > threshold)
    return shifted
