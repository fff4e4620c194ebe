"""Accuracy won back without training: weights rounded for their layer's output, biases corrected, layer by layer.

Layers are taken in order, on the int8 values that their input has once all layers before are final, as Nagel et al.
2019 (arXiv:1906.04721, section 4.2, empirical bias correction) and 2020 (arXiv:2004.10568) do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from quantize.affine import FloatArray, quantize_bias
from quantize.ops import WEIGHTED_OPS
from quantize.patches import input_moments
from quantize.qdq import BIAS_LIMIT, UNQUANTIZED, output_channel_axis
from quantize.rounding import round_for_output
from quantize.stream import Stream

MOST_CLIPS = 200
CHANNEL_AXIS = 1


def recover(
    prepared: onnx.ModelProto,
    qdq: onnx.ModelProto,
    features: FloatArray,
    *,
    bias_correction: bool,
    adaptive_rounding: bool,
) -> onnx.ModelProto:
    """`qdq` with other int8 weights and int32 biases in the same scales, closer to the float `prepared` it came from.

    `features` are float32 (clips, ...); at most MOST_CLIPS of them, evenly spread, are held in memory at a time.
    `adaptive_rounding` rounds weights as `quantize.rounding` does, `bias_correction` takes the mean error that each
    channel then has off its bias.
    """
    if not (bias_correction or adaptive_rounding):
        return qdq
    rows = np.linspace(0, len(features) - 1, min(MOST_CLIPS, len(features))).round().astype(np.int64)
    reference, simulated = Stream(prepared, features[rows]), Stream(qdq, features[rows])
    layers = _layers(prepared, qdq)
    for node in qdq.graph.node:
        if node.output[0] in layers:
            layer = layers[node.output[0]]
            if adaptive_rounding:
                _round_adaptively(layer, simulated, centred=bias_correction and layer.has_bias)
            if bias_correction and layer.has_bias:
                _correct_bias(layer, simulated, reference.run_until(layer.name))
        simulated.step()
    return _with_constants(qdq, simulated.constants)


@dataclass(frozen=True, eq=False)
class _Layer:
    """A Conv, Gemm or MatMul `node` of the QDQ graph, named for the float tensor it computes, with float `weights`.

    `makers` dequantize its weights and, but for MatMul, its bias.
    """

    name: str
    node: onnx.NodeProto
    weights: FloatArray
    makers: list[onnx.NodeProto]

    @property
    def has_bias(self) -> bool:
        return len(self.makers) > 1

    @property
    def axis(self) -> int:
        """Of the output channels in `weights`."""
        return output_channel_axis(self.node)


def _layers(prepared: onnx.ModelProto, qdq: onnx.ModelProto) -> dict[str, _Layer]:
    """By the output of the QDQ node."""
    floats = {tensor.name: numpy_helper.to_array(tensor) for tensor in prepared.graph.initializer}
    float_nodes = {node.output[0]: node for node in prepared.graph.node}
    makers = {node.output[0]: node for node in qdq.graph.node}
    layers = {}
    for node in qdq.graph.node:
        if node.op_type in WEIGHTED_OPS:
            name = node.output[0].removesuffix(UNQUANTIZED)
            weights = floats[float_nodes[name].input[1]]
            layers[node.output[0]] = _Layer(name, node, weights, [makers[source] for source in node.input[1:]])
    return layers


def _round_adaptively(layer: _Layer, simulated: Stream, *, centred: bool) -> None:
    """Other int8 weights; `centred` leaves the mean of the error to the bias."""
    values, scales = layer.makers[0].input[:2]
    moments = input_moments(layer.node, simulated.values[layer.node.input[0]], layer.weights.shape)
    by_channel = np.moveaxis(layer.weights.astype(np.float64), layer.axis, 0)
    rounded = round_for_output(
        by_channel.reshape(len(by_channel), -1),
        simulated.constants[scales].astype(np.float64),
        moments.centred if centred else moments.raw,
    )
    simulated.constants[values] = np.moveaxis(rounded.reshape(by_channel.shape), 0, layer.axis)
    _dequantize(layer.makers[0], simulated)


def _correct_bias(layer: _Layer, simulated: Stream, wanted: FloatArray) -> None:
    """Make the mean of each channel of the layer's output that of `wanted`, (clips, channels, ...)."""
    values, scales = layer.makers[1].input[:2]
    error = wanted.astype(np.float64) - simulated.run(layer.node)
    shift = error.mean(axis=tuple(axis for axis in range(error.ndim) if axis != CHANNEL_AXIS))
    bias_scales = simulated.constants[scales].astype(np.float64)
    most = BIAS_LIMIT * bias_scales
    bias = np.clip(simulated.constants[values] * bias_scales + shift, -most, most)
    simulated.constants[values] = quantize_bias(bias, 1.0, simulated.constants[scales])
    _dequantize(layer.makers[1], simulated)


def _dequantize(maker: onnx.NodeProto, simulated: Stream) -> None:
    simulated.values[maker.output[0]] = simulated.run(maker)


def _with_constants(model: onnx.ModelProto, constants: Mapping[str, npt.NDArray[Any]]) -> onnx.ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(constants[tensor.name], tensor.name))
    return changed
