"""Reading a QDQ ONNX model: nodes, constants and the quantization around them, all of it checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from export.graph import Activation
from kws.errors import KwsError
from quantize.affine import Affine, StepType
from quantize.input_layout import InputLayout, layout_nodes

MIN_OPSET = 13
REMEDY = "make the model anew with kws quantize"
_DOMAINS = ("", "ai.onnx")
_BOUND_TOLERANCE = 1e-5

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Node:
    """An ONNX node with decoded attributes; absent optional inputs are ''."""

    op_type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.op_type} node {self.name or self.outputs[0]!r}"

    def optional_input(self, index: int) -> str:
        return self.inputs[index] if index < len(self.inputs) else ""

    def ints(self, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(int(value) for value in self.attributes.get(name, default))


@dataclass(frozen=True, kw_only=True)
class QuantizedOutput:
    """What a node's output becomes: the name in front of QuantizeLinear, its affine, and a Relu fused on the way."""

    name: str
    affine: Affine
    activation: Activation


@dataclass(frozen=True, kw_only=True)
class QdqModel:
    """`constants` are initializers and Constant nodes; `consumers` are the nodes that read a name.

    Input is the tensor behind the `layout_nodes`, which are left out of `nodes`.
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    consumers: Mapping[str, tuple[Node, ...]]
    input_name: str
    input_shape: tuple[int, ...]
    output_name: str

    @staticmethod
    def read(model: onnx.ModelProto) -> QdqModel:
        """Raises KwsError unless `model` is valid ONNX, weights inside, with one static input and one output."""
        _check(model)
        nodes, constants = _split_constants(model.graph)
        layout = {node.output[0] for node in layout_nodes(model)}
        inputs = [value for value in model.graph.input if value.name not in constants]
        if len(inputs) != 1 or len(model.graph.output) != 1:
            raise KwsError(
                f"The ONNX model has {len(inputs)} inputs and {len(model.graph.output)} outputs; "
                "give a model with one of each."
            )
        _require_fixed_shape(inputs[0])
        input_shape = InputLayout.of(model).indices.shape
        if len(input_shape) not in (2, 4) or input_shape[0] != 1:
            raise KwsError(
                f"The input {inputs[0].name!r} of the ONNX model has shape {input_shape}; "
                "give a fixed shape (1, channels, height, width) or (1, channels)."
            )
        input_name = next((node.outputs[0] for node in reversed(nodes) if node.outputs[0] in layout), inputs[0].name)
        nodes = [node for node in nodes if node.outputs[0] not in layout]
        consumers: dict[str, tuple[Node, ...]] = {}
        for node in nodes:
            for name in dict.fromkeys(node.inputs):
                consumers[name] = (*consumers.get(name, ()), node)
        return QdqModel(
            nodes=tuple(nodes),
            constants=constants,
            consumers=consumers,
            input_name=input_name,
            input_shape=input_shape,
            output_name=model.graph.output[0].name,
        )

    def constant(self, node: Node, index: int) -> Array:
        """The constant that `node` reads as input `index`. Raises KwsError if it is computed or absent."""
        name = node.optional_input(index)
        if name not in self.constants:
            raise KwsError(f"{node}: its input {index} must be a constant; fold constants before lowering.")
        return self.constants[name]

    def constant_ints(self, node: Node, index: int) -> tuple[int, ...]:
        values = self.constant(node, index)
        if not np.issubdtype(values.dtype, np.integer):
            raise KwsError(f"{node}: its input {index} must be integers; {REMEDY}.")
        return tuple(int(value) for value in values.ravel())

    def constant_number(self, node: Node, index: int) -> float:
        values = self.constant(node, index)
        if values.size != 1 or not np.issubdtype(values.dtype, np.number):
            raise KwsError(f"{node}: its input {index} must be one number; {REMEDY}.")
        return float(values.item())

    def affine(self, node: Node) -> Affine:
        """The affine of a QuantizeLinear or DequantizeLinear `node`: one scale, or one per channel of its axis.

        Raises KwsError unless scale and zero point are constants that int8 or int16 kernels can work with.
        """
        scale = self.constant(node, 1)
        zero_point = self.constant(node, 2) if node.optional_input(2) else np.zeros(1, np.int32)
        wanted = (np.int8, np.int16) if node.op_type == "QuantizeLinear" else (np.int8, np.int16, np.int32)
        if scale.dtype != np.float32 or zero_point.dtype not in wanted or np.unique(zero_point).size != 1:
            raise KwsError(f"{node}: needs a float32 scale and one int8 or int16 zero point; {REMEDY}.")
        dtype: StepType = "int16" if zero_point.dtype == np.int16 else "int8"
        axis = None if scale.size == 1 else int(node.attributes.get("axis", 1))
        try:
            return Affine(scale.reshape(()) if axis is None else scale, int(zero_point.ravel()[0]), axis, dtype)
        except KwsError as error:
            raise KwsError(f"{node}: {error}") from error

    def quantized_output(self, node: Node, *, may_fuse: bool) -> QuantizedOutput:
        """Follow the output of `node` to its QuantizeLinear, through a Relu or Clip from 0 if `may_fuse`.

        Raises KwsError if anything else reads it: the device would have a float tensor there.
        """
        name, activation, fused = node.outputs[0], Activation.NONE, None
        reader = self._only_reader(node, name)
        if may_fuse and reader.op_type in ("Relu", "Clip"):
            fused, activation = reader, self._activation(reader)
            name = reader.outputs[0]
            reader = self._only_reader(reader, name)
        if reader.op_type != "QuantizeLinear" or reader.inputs[0] != name:
            raise KwsError(f"{node}: its output goes to {reader} without QuantizeLinear; {REMEDY}.")
        affine = self.affine(reader)
        if affine.axis is not None:
            raise KwsError(f"{reader}: activations need one scale for the whole tensor; {REMEDY}.")
        if fused is not None and activation is Activation.RELU:
            self.require_saturation(fused, affine)
        return QuantizedOutput(name=name, affine=affine, activation=activation)

    def require_saturation(self, node: Node, affine: Affine) -> None:
        """Raises KwsError unless the integers put out by `node`, a Relu or Clip from 0, end at its bound or below."""
        if not node.optional_input(2):
            return
        largest = float(affine.scale) * (affine.highest - affine.zero_point)
        if largest > self.constant_number(node, 2) * (1.0 + _BOUND_TOLERANCE):
            raise KwsError(
                f"{node}: shares its scale with tensors of a wider range, so {affine.dtype} would not end at its "
                "upper bound; move the concatenation or pool behind it elsewhere, or use Relu."
            )

    def require_only_reader(self, name: str, node: Node) -> None:
        """Raises KwsError if anything but `node` reads `name`."""
        if len(self.consumers.get(name, ())) != 1:
            raise KwsError(f"{node}: is not alone in reading {name!r}; {REMEDY}.")

    def _only_reader(self, node: Node, name: str) -> Node:
        readers = self.consumers.get(name, ())
        if len(readers) != 1 or name == self.output_name:
            raise KwsError(f"{node}: its output must go to one QuantizeLinear and nowhere else; {REMEDY}.")
        return readers[0]

    def _activation(self, node: Node) -> Activation:
        """Of a Relu or Clip. Upper bounds other than 6 are where its integers end. Raises KwsError for others."""
        if node.op_type == "Relu":
            return Activation.RELU
        if not node.optional_input(1) or self.constant_number(node, 1) != 0.0:
            raise KwsError(f"{node}: only a Clip from 0 is supported; use Relu or Relu6.")
        return Activation.RELU6 if node.optional_input(2) and self.constant_number(node, 2) == 6.0 else Activation.RELU


def _check(model: onnx.ModelProto) -> None:
    tensors = [*model.graph.initializer, *(a.t for node in model.graph.node for a in node.attribute if a.HasField("t"))]
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors):
        raise KwsError("The ONNX model keeps weights in other files; save it with its weights inside.")
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise KwsError(f"The ONNX model is not valid ({reason}); {REMEDY}.") from error
    opsets = [entry.version for entry in model.opset_import if entry.domain in _DOMAINS]
    if not opsets or opsets[0] < MIN_OPSET:
        raise KwsError(f"The ONNX model has opset {opsets}; save it with opset {MIN_OPSET} or later.")


def _split_constants(graph: onnx.GraphProto) -> tuple[list[Node], dict[str, Array]]:
    nodes = []
    try:
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        for proto in graph.node:
            node = _decode(proto)
            if node.op_type == "Constant" and "value" in node.attributes:
                constants[node.outputs[0]] = numpy_helper.to_array(node.attributes["value"])
            else:
                nodes.append(node)
    except (ValueError, TypeError) as error:
        raise KwsError(f"A constant of the ONNX model cannot be read ({error}); {REMEDY}.") from error
    return nodes, constants


def _decode(proto: onnx.NodeProto) -> Node:
    return Node(
        op_type=proto.op_type if proto.domain in _DOMAINS else f"{proto.domain}.{proto.op_type}",
        name=proto.name,
        inputs=tuple(proto.input),
        outputs=tuple(proto.output),
        attributes={attribute.name: helper.get_attribute_value(attribute) for attribute in proto.attribute},
    )


def _require_fixed_shape(value: onnx.ValueInfoProto) -> None:
    shape = tuple(int(dimension.dim_value) for dimension in value.type.tensor_type.shape.dim)
    if not shape or shape[0] != 1 or min(shape) < 1:
        raise KwsError(
            f"The input {value.name!r} of the ONNX model has shape {shape}; give a fixed shape with batch size 1."
        )
