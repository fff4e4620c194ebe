"""What the handlers of single ops work on: the model they read and the graph they write."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from export.graph import PLAIN_NUMBERS, Attributes, DType, Graph, Op, Tensor
from export.lowering.qdq import REMEDY, Array, Node, QdqModel, QuantizedOutput
from kws.errors import KwsError
from quantize.affine import Affine

_NHWC_AXIS = {0: 0, 1: 3, 2: 1, 3: 2}


def nhwc_axis(node: Node, rank: int, axis: int) -> int:
    """Where NCHW `axis` (negative counts from the end) of a tensor of `rank` lies in NHWC.

    Raises KwsError if there is no such axis.
    """
    if not -rank <= axis < rank:
        raise KwsError(f"{node}: has no axis {axis} in a tensor of rank {rank}; {REMEDY}.")
    return _NHWC_AXIS[axis % rank] if rank == 4 else axis % rank


def to_nhwc(values: Array) -> Array:
    """NCHW -> NHWC for rank 4; anything else as it is."""
    return np.ascontiguousarray(values.transpose(0, 2, 3, 1)) if values.ndim == 4 else values


def nchw_shape(tensor: Tensor) -> tuple[int, ...]:
    if len(tensor.shape) != 4:
        return tensor.shape
    n, h, w, c = tensor.shape
    return n, c, h, w


@dataclass(frozen=True, kw_only=True, eq=False)
class Constant:
    """An initializer behind DequantizeLinear, in ONNX layout."""

    values: Array
    affine: Affine


@dataclass(kw_only=True, eq=False)
class Context:
    """What each ONNX name lowered so far stands for.

    `values` and `quantized_constants` are names that DequantizeLinear gave, which ops may read; `produced` are names
    between an op and its DequantizeLinear, which only quantizers may read. `flattened` has the (C, H, W) of images that
    were reshaped to (1, C * H * W): on the device their values stand in the order H, W, C. `gates` has the x of each
    sigmoid(x) that no quantizer follows.
    """

    model: QdqModel
    tensors: dict[str, Tensor] = field(default_factory=dict)
    ops: list[Op] = field(default_factory=list)
    produced: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Tensor] = field(default_factory=dict)
    quantized_constants: dict[str, Constant] = field(default_factory=dict)
    flattened: dict[str, tuple[int, ...]] = field(default_factory=dict)
    gates: dict[str, Tensor] = field(default_factory=dict)

    def activation(self, node: Node, index: int) -> Tensor:
        """The activation that `node` reads as input `index`. Raises KwsError for a constant, a float tensor, or one
        whose values stand in another order than in ONNX."""
        tensor = self.dense_input(node, index)
        if tensor.name in self.flattened:
            raise KwsError(f"{node}: reads a flattened image; put a Gemm or MatMul right behind the flattening.")
        return tensor

    def dense_input(self, node: Node, index: int) -> Tensor:
        """`activation`, or a flattened image."""
        name = node.optional_input(index)
        if name not in self.values:
            raise KwsError(f"{node}: its input {index} ({name!r}) does not come from DequantizeLinear; {REMEDY}.")
        return self.values[name]

    def image(self, node: Node, index: int) -> Tensor:
        """`activation`, of rank 4."""
        tensor = self.activation(node, index)
        if len(tensor.shape) != 4:
            raise KwsError(f"{node}: needs an input of rank 4, not of shape {tensor.shape}; change the model.")
        return tensor

    def quantized_constant(self, node: Node, index: int) -> Constant:
        """The int8, int16 or int32 constant that `node` reads as input `index`. Raises KwsError if it is none."""
        name = node.optional_input(index)
        if name not in self.quantized_constants:
            raise KwsError(f"{node}: its input {index} ({name!r}) must be a quantized constant; {REMEDY}.")
        return self.quantized_constants[name]

    def add_constant(self, name: str, values: Array, affine: Affine) -> Tensor:
        dtype = cast(DType, values.dtype.name)
        return self._add(Tensor(name=name, shape=values.shape, affine=affine, dtype=dtype, data=values))

    def add_activation(self, name: str, shape: tuple[int, ...], affine: Affine) -> Tensor:
        """Raises KwsError if the tensor would be empty or larger than 2 GiB."""
        if min(shape) < 1 or math.prod(shape) >= 2**31:
            raise KwsError(f"The tensor {name!r} has the impossible shape {shape}; change the model.")
        return self._add(Tensor(name=name, shape=shape, affine=affine, dtype=affine.dtype))

    def emit(
        self, attributes: Attributes, inputs: list[Tensor], shape: tuple[int, ...], output: QuantizedOutput
    ) -> None:
        """Append an op whose output, of NHWC `shape`, stands for the ONNX name `output.name`."""
        tensor = self.add_activation(output.name, shape, output.affine)
        self.ops.append(Op(attributes, tuple(source.name for source in inputs), tensor.name))
        self.produced[output.name] = tensor

    def emit_between(self, attributes: Attributes, inputs: list[Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
        """Append an op that moves values and has no counterpart in the ONNX graph; returns its output."""
        tensor = self.add_activation(name, shape, inputs[0].affine)
        self.ops.append(Op(attributes, tuple(source.name for source in inputs), name))
        return tensor

    def emit_numbers(self, attributes: Attributes, inputs: list[Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
        """Append an op with an int32 output of plain numbers, which has no counterpart in the ONNX graph."""
        tensor = self._add(Tensor(name=name, shape=shape, affine=PLAIN_NUMBERS, dtype="int32"))
        self.ops.append(Op(attributes, tuple(source.name for source in inputs), name))
        return tensor

    def quantize(self, node: Node) -> None:
        """QuantizeLinear names a tensor that its producer already made, or makes the graph's input."""
        source, affine = node.inputs[0], self.model.affine(node)
        if source == self.model.input_name:
            self.model.require_only_reader(source, node)
            n, *rest = self.model.input_shape
            if affine.axis is not None:
                raise KwsError(f"{node}: the input needs one scale for the whole tensor; {REMEDY}.")
            self.produced[source] = self.add_activation(source, (n, *rest[1:], rest[0]), affine)
        self.produced[node.outputs[0]] = self._quantized(node, affine)

    def dequantize(self, node: Node) -> None:
        """DequantizeLinear names an activation or a constant."""
        source, affine = node.inputs[0], self.model.affine(node)
        if source not in self.model.constants:
            self.values[node.outputs[0]] = self._quantized(node, affine)
            return
        values = self.model.constants[source]
        if values.dtype != affine.dtype and (values.dtype != np.int32 or affine.zero_point != 0):
            raise KwsError(f"{node}: constants must be int8, int16, or int32 with zero point 0; {REMEDY}.")
        self.quantized_constants[node.outputs[0]] = Constant(values=values, affine=affine)

    def graph(self) -> Graph:
        """Raises KwsError if the model's input or output is not quantized."""
        if self.model.input_name not in self.produced or self.model.output_name not in self.values:
            raise KwsError(f"The input or output of the ONNX model is not quantized; {REMEDY}.")
        if self.values[self.model.output_name].name in self.flattened:
            raise KwsError("The output of the ONNX model is a flattened image; end the model in a Gemm or a mean.")
        return Graph(
            tensors=self.tensors,
            ops=tuple(self.ops),
            inputs=(self.produced[self.model.input_name].name,),
            outputs=(self.values[self.model.output_name].name,),
        )

    def _add(self, tensor: Tensor) -> Tensor:
        if tensor.name in self.tensors:
            raise KwsError(f"Two tensors of the ONNX model are called {tensor.name!r}; rename one.")
        self.tensors[tensor.name] = tensor
        return tensor

    def _quantized(self, node: Node, affine: Affine) -> Tensor:
        """The tensor that a quantizer reads, whose affine must be the quantizer's own."""
        name = node.inputs[0]
        tensor = self.produced.get(name) or self.values.get(name)
        if tensor is None:
            raise KwsError(f"{node}: its input {name!r} is neither an activation nor a quantized constant; {REMEDY}.")
        if tensor.affine != affine:
            raise KwsError(f"{node}: its scale or zero point differs from that of {tensor.name!r}; {REMEDY}.")
        return tensor
