"""Make onnxruntime round as the device does.

QuantizeLinear rounds once. TFLM and CMSIS-NN round twice (gemmlowp's fixed-point multiplication, as in TensorFlow
Lite's `MultiplyByQuantizedMultiplier`): the accumulator times the multiplier m = mantissa * 2^-shift, mantissa in
[0.5, 1), is rounded to a multiple of 2^-shift of an output step, and that, half away from zero, to a whole step.
A value less than half of 2^-shift below a tie so goes up where one rounding goes down. That is one value in 100 to
1000, yet twelve blocks carry it on until a fifth of the logits are off by more than a step. Adding that half to the
float value, away from zero, makes the one rounding give what the two give.

AVERAGE_POOL_2D takes halves away from zero, counted in int8 without the zero point, where QuantizeLinear takes them to
the even step; a nudge decides them. HARD_SWISH has an arithmetic of its own; what it answers to each int8 input stands
in a table. So does x * sigmoid(x) where the device has it as a table, too.

Convolutions and matrix products of int16 add up in int64 and round once, but their multiplier has 15 bits and not 31:
the mantissa above, rounded. That changes a value by up to 2^-16 of itself, half a step of the largest ones, so the
float value is multiplied by what the rounding made of the multiplier.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from quantize.affine import INT8_MIN, INT16_MAX, Affine
from quantize.hard_swish import hard_swish_table
from quantize.ops import WEIGHTED_OPS
from quantize.tables import swish_table

MEANS = frozenset({"ReduceMean", "GlobalAveragePool"})
ACTIVATIONS = frozenset({"Relu", "Clip"})


def round_as_device(qdq: onnx.ModelProto) -> onnx.ModelProto:
    """`qdq` with y + sign(y) * half behind each Conv, Gemm, MatMul, mean and Mul, before its ReLU, if any, and a table
    in place of each HardSwish and of each x * sigmoid(x) without a quantizer inside. Beside int16, a Conv, Gemm or
    MatMul has y * (rounded multiplier / multiplier) instead.

    `half` is 2^-shift / 2 of an output step, per channel. ADD needs none: it rounds first at 2^-20 of a step, or 2^-15
    of an int16 one.
    """
    graph = _Graph(qdq)
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    for node in qdq.graph.node:
        half, nudge, ratio = graph.half_first_rounding(node), graph.nudge(node), graph.rounded_multiplier(node)
        if ratio is not None:
            nodes += _with_rounded_multiplier(node)
            constants.append(numpy_helper.from_array(ratio, f"{node.output[0]}/rounded_multiplier"))
        elif half is not None and half.any():
            nodes += _with_first_rounding(node)
            constants.append(numpy_helper.from_array(half, f"{node.output[0]}/half_first_rounding"))
        elif nudge is not None:
            nodes += _with_nudge(node)
            constants += [numpy_helper.from_array(v, f"{node.output[0]}/{name}") for name, v in nudge.items()]
        elif (lookup := graph.lookup(node)) is not None:
            nodes += _looked_up(node, graph.quantized(lookup.source))
            constants.append(numpy_helper.from_array(lookup.answers, f"{node.output[0]}/table"))
        elif not graph.is_gate(node):
            nodes.append(node)
    simulated = onnx.ModelProto()
    simulated.CopyFrom(qdq)
    del simulated.graph.node[:]
    simulated.graph.node.extend(nodes)
    simulated.graph.initializer.extend(constants)
    return simulated


def _with_first_rounding(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    exact = f"{node.output[0]}/exact"
    return [_renamed(node, exact), *_away_from_zero(node.output[0], exact, exact, "half_first_rounding")]


def _with_rounded_multiplier(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    output = node.output[0]
    exact, name = f"{output}/exact", f"{output}/rounded_multiplier"
    return [_renamed(node, exact), helper.make_node("Mul", [exact, name], [output], f"{output}/rounded_as_device")]


def _with_nudge(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    exact, offset, counted = (f"{node.output[0]}/{part}" for part in ("exact", "offset", "counted"))
    return [
        _renamed(node, exact),
        helper.make_node("Add", [exact, offset], [counted], counted),
        *_away_from_zero(node.output[0], exact, counted, "nudge"),
    ]


def _away_from_zero(output: str, exact: str, signed: str, amount: str) -> list[onnx.NodeProto]:
    """`output` = `exact` + sign(`signed`) * `amount`."""
    sign, shift = f"{output}/sign", f"{output}/shift"
    return [
        helper.make_node("Sign", [signed], [sign], sign),
        helper.make_node("Mul", [sign, f"{output}/{amount}"], [shift], shift),
        helper.make_node("Add", [exact, shift], [output], f"{output}/rounded_as_device"),
    ]


def _renamed(node: onnx.NodeProto, output: str) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.output[0] = output
    return copy


def _looked_up(node: onnx.NodeProto, quantized: str) -> list[onnx.NodeProto]:
    """`quantized` is the int8 form of the input; ONNX counts a negative index from the end of the table."""
    output = node.output[0]
    return [
        helper.make_node("Cast", [quantized], [f"{output}/index"], f"{output}/cast", to=onnx.TensorProto.INT64),
        helper.make_node("Gather", [f"{output}/table", f"{output}/index"], [output], f"{output}/looked_up"),
    ]


@dataclass(frozen=True, eq=False)
class _Lookup:
    """`answers` float32 (256,) is what the device gives where the float tensor `source` is int8 0..127, -128..-1."""

    source: str
    answers: npt.NDArray[np.float32]


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    values = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph.value_info
    return {value.name: tuple(size.dim_value for size in value.type.tensor_type.shape.dim) for value in values}


class _Graph:
    """Scales of a QDQ graph by the tensors they belong to."""

    def __init__(self, qdq: onnx.ModelProto) -> None:
        constants: Mapping[str, npt.NDArray[Any]] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in qdq.graph.initializer
        }
        self._constants = constants
        self._makers = {node.output[0]: node for node in qdq.graph.node}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        self._scale_read: dict[str, npt.NDArray[np.float64]] = {}
        self._scale_written: dict[str, npt.NDArray[np.float64]] = {}
        self._int16: set[str] = set()
        self._shapes = _shapes(qdq) if any(node.op_type in MEANS for node in qdq.graph.node) else {}
        for node in qdq.graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
            if node.op_type == "DequantizeLinear":
                self._scale_read[node.output[0]] = constants[node.input[1]].astype(np.float64)
                if constants[node.input[2]].dtype == np.int16:
                    self._int16.add(node.output[0])
            elif node.op_type == "QuantizeLinear":
                self._scale_written[node.input[0]] = constants[node.input[1]].astype(np.float64)

    def half_first_rounding(self, node: onnx.NodeProto) -> npt.NDArray[np.float32] | None:
        """Real units, broadcastable to the node's output; None if the node is not requantized by a multiplier."""
        multiplier, written = self._multiplier(node), self._written_scale(node.output[0])
        if multiplier is None or written is None:
            return None
        # np.frexp: multiplier = mantissa * 2^exponent; a positive exponent shifts left and rounds once. MEAN divides
        # its sum in the same step: by 2^floor(log2(count)) in the exponent, by the rest in the mantissa.
        exponent = np.frexp(multiplier)[1] - (self._averaged(node).bit_length() - 1)
        steps = np.where(exponent < 0, np.ldexp(0.5, exponent), 0.0)
        half = (steps * written).astype(np.float32)
        return half.reshape(-1, 1, 1) if node.op_type == "Conv" else half

    def rounded_multiplier(self, node: onnx.NodeProto) -> npt.NDArray[np.float32] | None:
        """What the 15 bits of an int16 kernel's multiplier make of it, as a ratio, broadcastable to the node's output;
        None for other nodes."""
        multiplier = self._multiplier(node)
        if multiplier is None or node.op_type not in WEIGHTED_OPS or node.input[0] not in self._int16:
            return None
        mantissa, _ = np.frexp(multiplier)
        rounded = np.minimum(np.floor(mantissa * 2.0**15 + 0.5), INT16_MAX) / 2.0**15
        ratio = (rounded / mantissa).astype(np.float32)
        return ratio.reshape(-1, 1, 1) if node.op_type == "Conv" else ratio

    def _averaged(self, node: onnx.NodeProto) -> int:
        """How many values one value of a mean is the mean of; 1 for other ops."""
        if node.op_type not in MEANS:
            return 1
        sizes = [int(np.prod(self._shapes[name])) for name in (node.input[0], node.output[0])]
        return sizes[0] // sizes[1]

    def nudge(self, node: onnx.NodeProto) -> dict[str, npt.NDArray[np.float32]] | None:
        """Less than what averages of int8 differ by, and the real value of int8 0; None if the node is no average."""
        if node.op_type != "AveragePool":
            return None
        affine = self._affine(self._readers[node.output[0]][0])
        kernel = next(attribute.ints for attribute in node.attribute if attribute.name == "kernel_shape")
        nudge = np.float32(affine.scale / (4 * math.prod(kernel)))
        return {"nudge": np.asarray(nudge), "offset": np.asarray(affine.scale * np.float32(affine.zero_point))}

    def quantized(self, name: str) -> str:
        """The int8 tensor that DequantizeLinear made the float tensor `name` of."""
        return str(self._makers[name].input[0])

    def is_gate(self, node: onnx.NodeProto) -> bool:
        """Whether `node` is a Sigmoid that nothing quantizes: the inner part of x * sigmoid(x)."""
        return node.op_type == "Sigmoid" and node.output[0] not in self._scale_written

    def lookup(self, node: onnx.NodeProto) -> _Lookup | None:
        """The table that stands for `node` on the device: for a HardSwish, or the Mul of x * sigmoid(x)."""
        gates = [self._makers[name] for name in node.input if name in self._makers and self.is_gate(self._makers[name])]
        if node.op_type == "HardSwish":
            source, table = node.input[0], hard_swish_table
        elif node.op_type == "Mul" and gates:
            source, table = gates[0].input[0], swish_table
        else:
            return None
        before, after = self._affine(self._makers[source]), self._affine(self._readers[node.output[0]][0])
        return _Lookup(source, np.roll(after.dequantize(table(before, after)), INT8_MIN))

    def _multiplier(self, node: onnx.NodeProto) -> npt.NDArray[np.float64] | None:
        """From steps of the accumulator to steps of the output; None if there is no such thing at `node`."""
        written = self._written_scale(node.output[0])
        if node.op_type in MEANS and written is not None and node.input[0] in self._scale_read:
            return self._scale_read[node.input[0]] / written
        if node.op_type not in WEIGHTED_OPS | {"Mul"}:
            return None
        first, second = (self._scale_read.get(name) for name in node.input[:2])
        return None if first is None or second is None or written is None else first * second / written

    def _affine(self, quantizer: onnx.NodeProto) -> Affine:
        scale, zero_point = (self._constants[name] for name in quantizer.input[1:3])
        return Affine(scale, int(zero_point), dtype=zero_point.dtype.name)

    def _written_scale(self, name: str) -> npt.NDArray[np.float64] | None:
        if name in self._scale_written:
            return self._scale_written[name]
        readers = self._readers.get(name, [])
        if len(readers) == 1 and readers[0].op_type in ACTIVATIONS:
            return self._scale_written.get(readers[0].output[0])
        return None
