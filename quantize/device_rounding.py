"""Make onnxruntime round as the device does.

QuantizeLinear rounds once. TFLM and CMSIS-NN round twice (gemmlowp's fixed-point multiplication, as in TensorFlow
Lite's `MultiplyByQuantizedMultiplier`): the accumulator times the multiplier m = mantissa * 2^-shift, mantissa in
[0.5, 1), is rounded to a multiple of 2^-shift of an output step, and that, half away from zero, to a whole step.
A value less than half of 2^-shift below a tie so goes up where one rounding goes down. That is one value in 100 to
1000, yet twelve blocks carry it on until a fifth of the logits are off by more than a step. Adding that half to the
float value, away from zero, makes the one rounding give what the two give.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from quantize.qdq import WEIGHTED_OPS

ROUNDING_PARTS = ("exact", "sign", "shift", "half_first_rounding")
ACTIVATIONS = frozenset({"Relu", "Clip"})


def round_as_device(qdq: onnx.ModelProto) -> onnx.ModelProto:
    """`qdq` with y + sign(y) * half behind each Conv, Gemm, MatMul and Mul, before its ReLU, if any.

    `half` is 2^-shift / 2 of an output step, per channel. ADD needs none: it rounds first at 2^-20 of a step.
    """
    graph = _Graph(qdq)
    nodes: list[onnx.NodeProto] = []
    halves: list[onnx.TensorProto] = []
    for node in qdq.graph.node:
        half = graph.half_first_rounding(node)
        if half is None or not half.any():
            nodes.append(node)
            continue
        output = node.output[0]
        exact, sign, shift, name = (f"{output}/{part}" for part in ROUNDING_PARTS)
        renamed = onnx.NodeProto()
        renamed.CopyFrom(node)
        renamed.output[0] = exact
        nodes += [
            renamed,
            helper.make_node("Sign", [exact], [sign], sign),
            helper.make_node("Mul", [sign, name], [shift], shift),
            helper.make_node("Add", [exact, shift], [output], f"{output}/rounded_as_device"),
        ]
        halves.append(numpy_helper.from_array(half, name))
    simulated = onnx.ModelProto()
    simulated.CopyFrom(qdq)
    del simulated.graph.node[:]
    simulated.graph.node.extend(nodes)
    simulated.graph.initializer.extend(halves)
    return simulated


def without_device_rounding(simulated: onnx.ModelProto) -> onnx.ModelProto:
    """The model that `round_as_device` made `simulated` of."""
    outputs = {name for node in simulated.graph.node for name in node.output}
    rounded = {name for name in outputs if {f"{name}/{part}" for part in ROUNDING_PARTS[:3]} <= outputs}
    added = {f"{name}/{part}" for name in rounded for part in ROUNDING_PARTS}
    exact_names = {f"{name}/{ROUNDING_PARTS[0]}": name for name in rounded}
    qdq = onnx.ModelProto()
    qdq.CopyFrom(simulated)
    del qdq.graph.node[:], qdq.graph.initializer[:]
    for node in simulated.graph.node:
        if node.output[0] in exact_names:
            qdq.graph.node.add().CopyFrom(node)
            qdq.graph.node[-1].output[0] = exact_names[node.output[0]]
        elif added.isdisjoint(node.output) and node.output[0] not in rounded:
            qdq.graph.node.add().CopyFrom(node)
    qdq.graph.initializer.extend(tensor for tensor in simulated.graph.initializer if tensor.name not in added)
    return qdq


class _Graph:
    """Scales of a QDQ graph by the tensors they belong to."""

    def __init__(self, qdq: onnx.ModelProto) -> None:
        constants: Mapping[str, npt.NDArray[Any]] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in qdq.graph.initializer
        }
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        self._scale_read: dict[str, npt.NDArray[np.float64]] = {}
        self._scale_written: dict[str, npt.NDArray[np.float64]] = {}
        for node in qdq.graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
            if node.op_type == "DequantizeLinear":
                self._scale_read[node.output[0]] = constants[node.input[1]].astype(np.float64)
            elif node.op_type == "QuantizeLinear":
                self._scale_written[node.input[0]] = constants[node.input[1]].astype(np.float64)

    def half_first_rounding(self, node: onnx.NodeProto) -> npt.NDArray[np.float32] | None:
        """Real units, broadcastable to the node's output; None if the node is not requantized by a multiplier."""
        if node.op_type not in WEIGHTED_OPS | {"Mul"}:
            return None
        scales = [self._scale_read.get(name) for name in node.input[:2]]
        written = self._written_scale(node.output[0])
        if scales[0] is None or scales[1] is None or written is None:
            return None
        multiplier = scales[0] * scales[1] / written
        # np.frexp: multiplier = mantissa * 2^exponent; a positive exponent shifts left and rounds once.
        steps = np.where(np.frexp(multiplier)[1] < 0, np.ldexp(0.5, np.frexp(multiplier)[1]), 0.0)
        half = (steps * written).astype(np.float32)
        return half.reshape(-1, 1, 1) if node.op_type == "Conv" else half

    def _written_scale(self, name: str) -> npt.NDArray[np.float64] | None:
        if name in self._scale_written:
            return self._scale_written[name]
        readers = self._readers.get(name, [])
        if len(readers) == 1 and readers[0].op_type in ACTIVATIONS:
            return self._scale_written.get(readers[0].output[0])
        return None
