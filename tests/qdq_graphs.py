"""Small QDQ ONNX models with random weights, written by hand to the convention that lowering expects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from quantize.affine import INT16_MAX, PROBABILITY_AFFINES, Affine, StepType, bias_scales

# Scales without simple ratios: onnxruntime rounds ties to even and kernels away from zero, so ties are kept rare.
INPUT = Affine(0.0517, -7)
OUTPUT = Affine(0.3, 5)
PROBABILITY = PROBABILITY_AFFINES["int8"]
INT16_OPSET = 21


def int16_affine(affine: Affine) -> Affine:
    """What covers the same range in int16; the fixed one of a sigmoid or softmax for that of int8."""
    if affine == PROBABILITY:
        return PROBABILITY_AFFINES["int16"]
    farthest = max(affine.highest - affine.zero_point, affine.zero_point - affine.lowest)
    return affine if affine.dtype == "int16" else Affine(affine.scale * (farthest / INT16_MAX), dtype="int16")


@dataclass
class QdqBuilder:
    """Adds nodes one by one; each op ends in QuantizeLinear, DequantizeLinear and returns the name of the latter's
    output. `affines` has the affine behind each such name. With `activations` int16, what is given as int8 is turned
    into that."""

    seed: int = 0
    activations: StepType = "int8"
    opset: int = 17
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    affines: dict[str, Affine] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self._count = 0

    def input(self, shape: tuple[int, ...], affine: Affine) -> str:
        self.shape = shape
        return self._quantized("log_mel", affine)

    def op(self, kind: str, inputs: list[str], affine: Affine, activation: str = "", **attributes: Any) -> str:
        """An op, an optional activation ("Relu" or "Relu6") and a Q/DQ pair with `affine`."""
        name = self.raw(kind, inputs, **attributes)
        if activation == "Relu":
            name = self.raw("Relu", [name])
        elif activation == "Relu6":
            name = self.raw("Clip", [name, self.const(np.float32(0.0)), self.const(np.float32(6.0))])
        return self._quantized(name, affine)

    def conv(
        self, x: str, weights: npt.NDArray[np.int8], affine: Affine, activation: str = "", **attributes: Any
    ) -> str:
        return self.op("Conv", [x, *self.weights(x, weights)], affine, activation, **attributes)

    def weights(self, x: str, weights: npt.NDArray[np.int8], axis: int = 0) -> list[str]:
        """Per-channel weights with random scales, and a random bias."""
        channels = weights.shape[axis]
        scales = np.asarray(self.rng.uniform(0.002, 0.01, channels), np.float32)
        bias = np.asarray(self.rng.integers(-3000, 3000, channels), np.int32)
        if self.activations == "int16":
            scales = np.full_like(scales, scales[0]) if weights.ndim == 2 else scales
            bias *= 256
        return [
            self.dequantized(weights, Affine(scales, 0, axis=axis)),
            self.dequantized(bias, Affine(bias_scales(self.affines[x].scale, scales), 0, axis=0)),
        ]

    def operand(self, values: npt.NDArray[np.int8], affine: Affine) -> str:
        """A constant of a sum or product."""
        if self.activations == "int8":
            return self.dequantized(values, affine)
        return self.dequantized(values.astype(np.int16) * 250, Affine(affine.scale / np.float32(250), dtype="int16"))

    def random_int8(self, *shape: int) -> npt.NDArray[np.int8]:
        return self.rng.integers(-127, 128, shape).astype(np.int8)

    def ints(self, *values: int) -> str:
        return self.const(np.array(values, np.int64))

    def const(self, values: npt.ArrayLike) -> str:
        name = self._name("const")
        self.initializers.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def dequantized(self, values: npt.NDArray[Any], affine: Affine) -> str:
        zero_point = np.full(affine.scale.shape, affine.zero_point, values.dtype)
        axis = {} if affine.axis is None else {"axis": affine.axis}
        return self.raw(
            "DequantizeLinear", [self.const(values), self.const(affine.scale), self.const(zero_point)], **axis
        )

    def raw(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        name = self._name(kind)
        self.nodes.append(helper.make_node(kind, inputs, [name], name=f"{name}_node", **attributes))
        return name

    def model(self, output: str) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "test",
            [helper.make_tensor_value_info("log_mel", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            self.initializers,
        )
        opset, ir_version = (self.opset, 8) if self.activations == "int8" else (INT16_OPSET, 10)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
        return onnx.shape_inference.infer_shapes(model)

    def _quantized(self, name: str, affine: Affine) -> str:
        affine = affine if self.activations == "int8" else int16_affine(affine)
        parameters = [self.const(affine.scale), self.const(np.array(affine.zero_point, affine.dtype))]
        quantized = self.raw("QuantizeLinear", [name, *parameters])
        result = self.raw("DequantizeLinear", [quantized, *parameters])
        self.affines[result] = affine
        return result

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind.lower()}_{self._count}"


Build = Callable[[QdqBuilder], str]


def image(b: QdqBuilder, channels: int = 4, height: int = 9, width: int = 7) -> str:
    return b.input((1, channels, height, width), INPUT)


def convolution(*shape: int, channels: int = 4, height: int = 9, affine: Affine = OUTPUT, **options: Any) -> Build:
    return lambda b: b.conv(image(b, channels, height), b.random_int8(*shape), affine, **options)


def unary(kind: str, affine: Affine, bounds: tuple[float, ...] = (), **attributes: Any) -> Build:
    return lambda b: b.op(kind, [image(b), *(b.const(np.float32(bound)) for bound in bounds)], affine, **attributes)


def flattened(kind: str) -> Build:
    """`kind` of a flattened image: what has weights can follow the order of its values, nothing else can."""

    def build(b: QdqBuilder) -> str:
        x = image(b)
        flat = b.op("Flatten", [x], INPUT)
        return b.op(
            kind, [flat, *(b.weights(flat, b.random_int8(252, 5), axis=1) if kind == "Gemm" else [flat])], OUTPUT
        )

    return build


def reshaped(*shape: int) -> Build:
    return lambda b: b.op("Reshape", [image(b), b.ints(*shape)], INPUT)


def binary(kind: str, affine: Affine, activation: str = "") -> Build:
    """Both operands come from the input: itself, and a row that broadcasts over its height."""

    def build(b: QdqBuilder) -> str:
        x = image(b)
        row = b.op("Slice", [x, b.ints(2), b.ints(3), b.ints(2)], INPUT)
        scaled = b.op("Mul", [row, b.operand(b.random_int8(4, 1, 1), Affine(0.02, 3))], Affine(0.07, -20))
        return b.op(kind, [x, scaled], affine, activation)

    return build


def constant_operand(kind: str, *shape: int, first: bool = False) -> Build:
    def build(b: QdqBuilder) -> str:
        operands = [image(b), b.operand(b.random_int8(*shape), Affine(0.0213, -9))]
        return b.op(kind, operands[::-1] if first else operands, Affine(0.0971, 4))

    return build


def sliced(*bounds: tuple[int, int, int]) -> Build:
    def build(b: QdqBuilder) -> str:
        starts, ends, axes = zip(*bounds, strict=True)
        return b.op("Slice", [image(b), b.ints(*starts), b.ints(*ends), b.ints(*axes)], INPUT)

    return build


def concatenated(count: int, axis: int) -> Build:
    def build(b: QdqBuilder) -> str:
        x = image(b, height=12)
        rows = [b.op("Slice", [x, b.ints(i), b.ints(i + 1), b.ints(2)], INPUT) for i in range(count)]
        return b.op("Concat", rows[::-1], INPUT, axis=axis)

    return build


def padded(b: QdqBuilder) -> str:
    return b.op("Pad", [image(b), b.ints(0, 0, 1, 2, 0, 0, 3, 0), b.const(np.float32(0.0))], INPUT)


def mean(opset: int, *axes: int, keepdims: int = 1) -> Build:
    def build(b: QdqBuilder) -> str:
        b.opset = opset
        if opset < 18:
            return b.op("ReduceMean", [image(b)], Affine(0.02, -3), axes=axes, keepdims=keepdims)
        return b.op("ReduceMean", [image(b), b.ints(*axes)], Affine(0.02, -3), keepdims=keepdims)

    return build


def head(kind: str, **attributes: Any) -> Build:
    """A global mean, flattened in one of the ways in which ONNX says it."""

    def build(b: QdqBuilder) -> str:
        affine = Affine(0.02, -3)
        pooled = b.op("GlobalAveragePool", [image(b)], affine)
        operands = {"Reshape": [b.ints(0, -1)], "Squeeze": [b.ints(2, -1)], "Flatten": []}[kind]
        return b.op(kind, [pooled, *operands], affine, **attributes)

    return build


def dense(kind: str, activation: str = "", transposed: bool = False) -> Build:
    def build(b: QdqBuilder) -> str:
        x = b.input((1, 24), INPUT)
        values = b.random_int8(10, 24) if transposed else b.random_int8(24, 10)
        weights, bias = b.weights(x, values, axis=0 if transposed else 1)
        if kind == "MatMul":
            return b.op(kind, [x, weights], Affine(0.2, 4))
        return b.op(kind, [x, weights, bias], Affine(0.2, 4), activation, transB=int(transposed))

    return build


def softmax(b: QdqBuilder) -> str:
    return b.op("Softmax", [b.input((1, 12), INPUT)], PROBABILITY, axis=-1)


def block(b: QdqBuilder) -> str:
    """What BC-ResNet is made of: per-band depthwise, frequency mean, dilated depthwise, sigmoid gate, broadcast add."""
    x = b.input((1, 1, 20, 13), Affine(0.04, 9))
    stem = b.conv(x, b.random_int8(8, 1, 5, 5), Affine(0.1, -128), "Relu", strides=[2, 1], pads=[2, 2, 2, 2])
    stem_affine, band_affine = b.affines[stem], Affine(0.15, 3)
    bands = []
    for start, end, pads in ((0, 6, [1, 0, 0, 0]), (4, 10, [0, 0, 1, 0])):
        rows = b.op("Slice", [stem, b.ints(start), b.ints(end), b.ints(2)], stem_affine)
        bands.append(b.conv(rows, b.random_int8(8, 1, 3, 1), band_affine, group=8, pads=pads))
    frequency = b.op("Concat", bands, band_affine, axis=2)
    mean_row = b.conv(stem, b.random_int8(8, 1, 10, 1), Affine(0.3, -4), group=8)
    temporal = b.conv(mean_row, b.random_int8(8, 1, 1, 3), Affine(0.3, 2), group=8, dilations=[1, 4], pads=[0, 4, 0, 4])
    gate = b.op("Sigmoid", [temporal], PROBABILITY)
    swish = b.op("Mul", [temporal, gate], Affine(0.15, -100))
    pointwise = b.conv(swish, b.random_int8(8, 8, 1, 1), Affine(0.2, 1))
    y = b.op("Add", [frequency, pointwise], Affine(0.15, -128), "Relu")
    pooled = b.op("GlobalAveragePool", [y], Affine(0.08, -128))
    logits = b.conv(pooled, b.random_int8(5, 8, 1, 1), Affine(0.1, 7))
    return b.op("Flatten", [logits], Affine(0.1, 7))


def built(build: Build, seed: int = 0, activations: StepType = "int8") -> onnx.ModelProto:
    b = QdqBuilder(seed, activations)
    return b.model(build(b))


def features_for(model: onnx.ModelProto, seed: int = 1, clips: int = 6) -> npt.NDArray[np.float32]:
    shape = [dimension.dim_value for dimension in model.graph.input[0].type.tensor_type.shape.dim]
    return np.random.default_rng(seed).normal(0, 2.5, (clips, *shape[1:])).astype(np.float32)
