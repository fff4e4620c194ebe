"""Float ONNX and ranges -> QDQ ONNX: QuantizeLinear, DequantizeLinear around every tensor that the device has.

Under onnxruntime (fusions off) the result simulates the device node for node. Activations are int8 or int16, weights
symmetric int8 per output channel, biases int32 in steps of input scale x weight scale, as the TensorFlow Lite
quantization specification wants them; the int64 that it wants beside int16 is not for ONNX to dequantize. A ReLU right
behind a convolution or addition has no quantization in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from kws.errors import KwsError
from quantize.activation_affines import activation_affines
from quantize.affine import Affine, FloatArray, StepType, affine_from_range, bias_scales, quantize_bias
from quantize.calibration import Range, readers_by_tensor
from quantize.input_layout import layout_nodes
from quantize.ops import (
    BROADCAST_OPS,
    DENSE_OPS,
    FUSING_OPS,
    SUPPORTED_OPS,
    WEIGHTED_OPS,
    unsupported,
)
from quantize.shared_scales import joined_layers, share_scales
from quantize.weight_ranges import WEIGHT_RANGE_METHODS, WeightScales

_DOMAINS = ("", "ai.onnx")
UNQUANTIZED = "/float"  # Ends the name of an op's output in front of its QuantizeLinear.
BIAS_LIMIT = 2**30  # Leaves half of int32 to the products that are summed on top.
# From here on ONNX quantizes to int16; between the two, its versions only took in further types of the ops used here.
INT16_OPSET, INT16_IR_VERSION, INT16_OLDEST_OPSET = 21, 10, 18


def quantize_model(
    float_model: onnx.ModelProto,
    ranges: Mapping[str, Range],
    activations: StepType = "int8",
    weight_ranges: str = "min-max",
    *,
    swish_tables: bool = False,
    shared_scales: bool = False,
) -> onnx.ModelProto:
    """The QDQ form of a rewritten float model; `ranges` come from `quantize.calibration.calibrate`, `weight_ranges` is
    one of WEIGHT_RANGE_METHODS.

    With `swish_tables` nothing is quantized between Sigmoid and Mul of x * sigmoid(x): the device looks that up, if
    it computes in int8. `shared_scales` is `quantize.shared_scales`.
    Raises KwsError for an op outside SUPPORTED_OPS, a tensor without a range, weights that are not constant or not
    finite, and tensors of fixed scale joined with others.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in float_model.graph.initializer}
    readers = readers_by_tensor(float_model)
    layout = layout_nodes(float_model)
    nodes = [node for node in float_model.graph.node if node not in layout]
    for node in nodes:
        _require_supported(node, constants)
    affines = activation_affines(float_model, ranges, activations)
    scales = _weight_scales(nodes, constants, WEIGHT_RANGE_METHODS[weight_ranges])
    if shared_scales:
        scales = share_scales(scales, joined_layers(float_model))
    writer = _Writer(constants, affines, activations, scales)
    has_tables = swish_tables and activations == "int8"
    fused = {
        node.output[0]
        for node in nodes
        if _fuses_with_reader(node, readers, constants) or (has_tables and _is_gate(node, readers))
    }
    for node in layout:
        writer.copy(node)
    for tensor in float_model.graph.input:
        if tensor.name not in constants:
            image = layout[-1].output[0] if layout else tensor.name
            writer.quantize(image, image, f"{image}/dequantized")
    for node in nodes:
        writer.write(node, is_fused=node.output[0] in fused)
    return writer.model(float_model)


@dataclass(eq=False)
class _Writer:
    """Collects the nodes and initializers of the QDQ graph; `readable` maps a float tensor to its dequantized name.

    `scales` are of the weights, by the output of the node that they belong to.
    """

    constants: Mapping[str, npt.NDArray[Any]]
    affines: Mapping[str, Affine]
    activations: StepType
    scales: Mapping[str, FloatArray]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    readable: dict[str, str] = field(default_factory=dict)

    def copy(self, node: onnx.NodeProto) -> None:
        """Append `node` as it is, with its constants: it lays out the input before that is quantized."""
        for name in node.input:
            if name in self.constants:
                self._keep(name, self.constants[name])
        self.nodes.append(node)

    def write(self, node: onnx.NodeProto, *, is_fused: bool) -> None:
        """Append `node` on dequantized inputs; quantize its output unless a ReLU follows (`is_fused`)."""
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        output = node.output[0]
        del copy.input[:], copy.output[:]
        if node.op_type in WEIGHTED_OPS:
            copy.input.extend(self._weighted_inputs(node))
        else:
            copy.input.extend(self._input(node, index) for index in range(len(node.input)))
        copy.output.append(output if is_fused else f"{output}{UNQUANTIZED}")
        self.nodes.append(copy)
        if is_fused:
            self.readable[output] = output
        else:
            self.quantize(copy.output[0], output, output)

    def quantize(self, source: str, name: str, dequantized: str) -> None:
        """QuantizeLinear and DequantizeLinear from `source` to `dequantized`, with the affine of tensor `name`."""
        affine = self.affines[name]
        parameters = [f"{name}/scale", f"{name}/zero_point"]
        self._keep(parameters[0], affine.scale)
        self._keep(parameters[1], np.array(affine.zero_point, dtype=affine.dtype))
        steps = f"{name}/{affine.dtype}"
        self.nodes += [
            helper.make_node("QuantizeLinear", [source, *parameters], [steps], f"{name}/quantize"),
            helper.make_node("DequantizeLinear", [steps, *parameters], [dequantized], f"{name}/dequantize"),
        ]
        self.readable[name] = dequantized

    def model(self, float_model: onnx.ModelProto) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            float_model.graph.name,
            [tensor for tensor in float_model.graph.input if tensor.name not in self.constants],
            float_model.graph.output,
            [numpy_helper.from_array(array, name) for name, array in self.initializers.items()],
        )
        opsets, ir_version = float_model.opset_import, float_model.ir_version
        if self.activations == "int16":
            opsets, ir_version = _int16_opsets(float_model), max(ir_version, INT16_IR_VERSION)
        model = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, producer_name="kws")
        try:
            onnx.checker.check_model(model)
        except onnx.checker.ValidationError as error:
            reason = str(error).strip().splitlines()[0].rstrip(".")
            raise KwsError(f"The quantized ONNX model is not valid ({reason}); rename its tensors.") from error
        return model

    def _input(self, node: onnx.NodeProto, index: int) -> str:
        name = str(node.input[index])
        if name in self.readable:
            return self.readable[name]
        array = self.constants.get(name)
        if array is None:
            return name
        if array.dtype.kind != "f" or node.op_type in ("Clip", "Pad"):
            return self._keep(name, array)
        if node.op_type not in BROADCAST_OPS:
            raise KwsError(f"{_describe(node)}: its input {name!r} is constant; fold it into another node.")
        affine = affine_from_range(float(array.min()), float(array.max()), self.activations)
        return self._constant(f"{node.output[0]}/constant_{index}", affine.quantize(array), affine)

    def _weighted_inputs(self, node: onnx.NodeProto) -> list[str]:
        """Input, weights and (but for MatMul) bias of a Conv, Gemm or MatMul; a missing bias becomes zeros."""
        output, axis = node.output[0], output_channel_axis(node)
        weights = self.constants.get(node.input[1])
        if weights is None or node.input[0] not in self.readable:
            raise KwsError(f"{_describe(node)}: its weights are not constant; use one with constant weights.")
        weights = weights.astype(np.float32)
        bias = np.zeros(weights.shape[axis], dtype=np.float32)
        if len(node.input) > 2 and node.input[2]:
            bias = bias + self._bias(node)
        input_scale = self.affines[node.input[0]].scale
        try:
            scales = scales_for_bias(self.scales[output], bias, input_scale)
            if self.activations == "int16" and node.op_type in DENSE_OPS:
                scales = np.full_like(scales, scales.max())  # CMSIS-NN has no kernel with one a channel.
        except KwsError as error:
            raise KwsError(f"{_describe(node)}: {error}") from error
        weight_affine = Affine(scales, 0, axis)
        names = [
            self.readable[node.input[0]],
            self._constant(f"{output}/weight", weight_affine.quantize(weights), weight_affine),
        ]
        if node.op_type == "MatMul":
            return names
        bias_affine = Affine(bias_scales(input_scale, scales), 0, 0)
        return [*names, self._constant(f"{output}/bias", quantize_bias(bias, input_scale, scales), bias_affine)]

    def _bias(self, node: onnx.NodeProto) -> npt.NDArray[Any]:
        bias = self.constants.get(node.input[2])
        if bias is None:
            raise KwsError(f"{_describe(node)}: its bias is not constant; use one with a constant bias.")
        return bias.reshape(-1)

    def _keep(self, name: str, array: npt.NDArray[Any]) -> str:
        """Raises KwsError if `name` already holds something else."""
        if not np.array_equal(self.initializers.setdefault(name, array), array):
            raise KwsError(f"Two tensors of the ONNX model are called {name!r}; rename one.")
        return name

    def _constant(self, name: str, values: npt.NDArray[Any], affine: Affine) -> str:
        """DequantizeLinear of the int8 or int32 initializer `values`."""
        names = [f"{name}/int", f"{name}/scale", f"{name}/zero_point"]
        zero_point = np.full(affine.scale.shape, affine.zero_point, dtype=values.dtype)
        for parameter, array in zip(names, (values, affine.scale, zero_point), strict=True):
            self._keep(parameter, array)
        node = helper.make_node("DequantizeLinear", names, [name], f"{name}/dequantize")
        if affine.axis is not None:
            node.attribute.append(helper.make_attribute("axis", affine.axis))
        self.nodes.append(node)
        return name


def _weight_scales(
    nodes: Iterable[onnx.NodeProto], constants: Mapping[str, npt.NDArray[Any]], scales_of: WeightScales
) -> dict[str, FloatArray]:
    """Those of each node with constant weights, by its output."""
    scales = {}
    for node in nodes:
        if node.op_type not in WEIGHTED_OPS or node.input[1] not in constants:
            continue
        axis = output_channel_axis(node)
        try:
            scales[node.output[0]] = scales_of(constants[node.input[1]].astype(np.float32), axis)
        except KwsError as error:
            raise KwsError(f"{_describe(node)}: {error}") from error
    return scales


def scales_for_bias(wanted: FloatArray, bias: FloatArray, input_scale: FloatArray) -> FloatArray:
    """The `wanted` scales of weights (channels,), raised where the bias would not fit int32 otherwise.

    There the bias is so large beside the weights that their lost resolution does not show. Raises KwsError if `bias`
    is not finite.
    """
    if not np.isfinite(bias).all():
        raise KwsError("The bias holds NaN or infinity; train the model again.")
    needed = np.abs(bias.astype(np.float64)) / (float(input_scale) * BIAS_LIMIT)
    scales: FloatArray = np.maximum(wanted, needed.astype(np.float32))
    return scales


def output_channel_axis(node: onnx.NodeProto) -> int:
    if node.op_type == "Conv":
        return 0
    if node.op_type == "MatMul":
        return 1
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if attributes.get("transA", 0) or attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0:
        raise KwsError(f"{_describe(node)}: transA, alpha and beta are not supported; fold them into the weights.")
    return 0 if attributes.get("transB", 0) else 1


def _fuses_with_reader(
    node: onnx.NodeProto,
    readers: Mapping[str, Sequence[onnx.NodeProto]],
    constants: Mapping[str, npt.NDArray[Any]],
) -> bool:
    after = readers.get(node.output[0], ())
    if node.op_type not in FUSING_OPS or len(after) != 1:
        return False
    return after[0].op_type == "Relu" or _is_clip_from_zero(after[0], constants)


def _is_gate(node: onnx.NodeProto, readers: Mapping[str, Sequence[onnx.NodeProto]]) -> bool:
    """Whether `node` is the Sigmoid of x * sigmoid(x)."""
    after = readers.get(node.output[0], ())
    is_sole = node.op_type == "Sigmoid" and len(after) == 1 and after[0].op_type == "Mul"
    return is_sole and set(after[0].input) == {node.input[0], node.output[0]}


def _is_clip_from_zero(node: onnx.NodeProto, constants: Mapping[str, npt.NDArray[Any]]) -> bool:
    bounds = [constants.get(name) for name in node.input[1:]]
    if node.op_type != "Clip" or len(bounds) != 2 or bounds[0] is None or bounds[1] is None:
        return False
    return float(bounds[0]) == 0.0 < float(bounds[1])


def _int16_opsets(model: onnx.ModelProto) -> list[onnx.OperatorSetIdProto]:
    """Raises KwsError for a model of an opset whose ops mean something else in INT16_OPSET."""
    opset = next((entry.version for entry in model.opset_import if entry.domain in _DOMAINS), 0)
    if opset < INT16_OLDEST_OPSET:
        raise KwsError(f"The ONNX model has opset {opset}; export it with {INT16_OLDEST_OPSET} or newer for int16.")
    return [helper.make_opsetid("", max(opset, INT16_OPSET))]


def _require_supported(node: onnx.NodeProto, constants: Mapping[str, npt.NDArray[Any]]) -> None:
    if node.domain not in _DOMAINS or node.op_type not in SUPPORTED_OPS or len(node.output) != 1:
        raise unsupported(_describe(node), node.op_type)
    if node.op_type == "Clip" and not _is_clip_from_zero(node, constants):
        raise KwsError(f"{_describe(node)}: only a Clip from 0 to a constant is supported; use Relu or Relu6.")


def _describe(node: onnx.NodeProto) -> str:
    return f"{node.op_type} node {node.name or (node.output[0] if node.output else '')!r}"
