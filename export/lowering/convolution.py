"""Conv, Gemm and MatMul: int8 weights per output channel, and biases and accumulators that fit their integers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from export.graph import Conv2D, DepthwiseConv2D, FullyConnected, Tensor
from export.lowering.context import Context, to_nhwc
from export.lowering.limits import SPANS, require_accumulator, require_wide_accumulator
from export.lowering.qdq import REMEDY, Node, QuantizedOutput
from export.lowering.window import Window, padded
from kws.errors import KwsError
from quantize.affine import INT8_MIN, Affine, FloatArray, Int8Array, Int32Array, bias_scales

_BIAS_SCALE_TOLERANCE = 1e-5


@dataclass(frozen=True, kw_only=True, eq=False)
class _Weights:
    """int8 weights with the output channel first, their float32 scales (O,) or () and the int32 bias (O,)."""

    values: Int8Array
    scales: FloatArray
    bias: Int32Array


def lower_conv(context: Context, node: Node) -> None:
    """Conv -> CONV_2D (group 1) or DEPTHWISE_CONV_2D (a group per input channel), after a PAD where needed."""
    x = context.image(node, 0)
    output = context.model.quantized_output(node, may_fuse=True)
    weights = _read_weights(context, node, x, output, channel_axis=0)
    if weights.values.ndim != 4:
        raise KwsError(f"{node}: only two-dimensional convolutions are supported; change the model.")
    channels, group = x.shape[3], int(node.attributes.get("group", 1))
    outputs, inputs_per_group, *kernel = weights.values.shape
    depthwise = group != 1
    if inputs_per_group * group != channels or (depthwise and (group != channels or outputs % channels)):
        raise KwsError(
            f"{node}: {group} groups over {channels} input channels are not supported; "
            "use 1 group or a group per channel."
        )
    window = Window.of(node, (kernel[0], kernel[1]))
    height, width = window.output_size(node, (x.shape[1], x.shape[2]))
    x, padding = padded(context, x, window)
    layout = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
    w, bias = _add_weights(context, weights, output.name, x.affine, layout)
    shared = {"stride": window.stride, "dilation": window.dilation}
    attributes = (
        DepthwiseConv2D(**shared, padding=padding, activation=output.activation, depth_multiplier=outputs // channels)
        if depthwise
        else Conv2D(**shared, padding=padding, activation=output.activation)
    )
    context.emit(attributes, [x, w, bias], (1, height, width, outputs), output)


def lower_gemm(context: Context, node: Node) -> None:
    """Gemm without scaling, constant weights -> FULLY_CONNECTED."""
    factors = [float(node.attributes.get(name, 1.0)) for name in ("alpha", "beta")]
    if factors != [1.0, 1.0] or node.attributes.get("transA", 0):
        raise KwsError(f"{node}: alpha, beta and transA are not supported; fold them into the weights.")
    _fully_connected(context, node, channel_axis=0 if node.attributes.get("transB", 0) else 1)


def lower_matmul(context: Context, node: Node) -> None:
    """MatMul with constant weights -> FULLY_CONNECTED."""
    _fully_connected(context, node, channel_axis=1)


def _fully_connected(context: Context, node: Node, channel_axis: int) -> None:
    x = context.dense_input(node, 0)
    output = context.model.quantized_output(node, may_fuse=True)
    weights = _read_weights(context, node, x, output, channel_axis)
    if len(x.shape) != 2 or weights.values.ndim != 2 or weights.values.shape[1] != x.shape[1]:
        raise KwsError(f"{node}: weights {weights.values.shape} do not fit an input {x.shape}; change the model.")
    if x.name in context.flattened:
        by_image = weights.values.reshape(-1, *context.flattened[x.name])
        weights = replace(weights, values=to_nhwc(by_image).reshape(weights.values.shape))
    if x.affine.dtype == "int16":
        weights = _with_one_scale(node, weights)
    w, bias = _add_weights(context, weights, output.name, x.affine, (0, 1))
    context.emit(FullyConnected(activation=output.activation), [x, w, bias], (1, w.shape[0]), output)


def _read_weights(context: Context, node: Node, x: Tensor, output: QuantizedOutput, channel_axis: int) -> _Weights:
    constant = context.quantized_constant(node, 1)
    values, affine = constant.values, constant.affine
    if values.dtype != np.int8 or affine.zero_point != 0 or values.ndim < 2 or (values == INT8_MIN).any():
        raise KwsError(f"{node}: its weights must be int8 in -127..127 with zero point 0; {REMEDY}.")
    channels = values.shape[channel_axis]
    if affine.axis is not None and (affine.axis % values.ndim != channel_axis or affine.scale.size != channels):
        raise KwsError(f"{node}: its weights need one scale per output channel; {REMEDY}.")
    scales = np.broadcast_to(affine.scale, (channels,))
    bias = _read_bias(context, node, bias_scales(x.affine.scale, scales))
    by_channel = np.moveaxis(values, channel_axis, 0)
    sums = np.abs(by_channel.astype(np.int64)).reshape(channels, -1).sum(axis=1)
    require = require_wide_accumulator if x.affine.dtype == "int16" else require_accumulator
    require(
        node,
        sums * SPANS[x.affine.dtype] + np.abs(bias.astype(np.int64)),
        float(x.affine.scale) * scales.astype(np.float64) / float(output.affine.scale),
    )
    return _Weights(values=by_channel, scales=scales, bias=bias)


def _read_bias(context: Context, node: Node, scales: FloatArray) -> Int32Array:
    if not np.all(np.isfinite(scales) & (scales >= np.finfo(np.float32).tiny)):
        raise KwsError(f"{node}: input scale times weight scale leaves the range of float32; {REMEDY}.")
    if not node.optional_input(2):
        return np.zeros(scales.size, np.int32)
    constant = context.quantized_constant(node, 2)
    if constant.values.dtype != np.int32 or constant.values.shape != scales.shape:
        raise KwsError(f"{node}: its bias must be int32, one value per output channel; {REMEDY}.")
    written = constant.affine.scale
    if written.size not in (1, scales.size) or not np.allclose(written, scales, rtol=_BIAS_SCALE_TOLERANCE, atol=0.0):
        raise KwsError(f"{node}: the bias scale is not input scale times weight scale; {REMEDY}.")
    return constant.values


def _add_weights(
    context: Context, weights: _Weights, name: str, input_affine: Affine, layout: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Add both constants; `layout` takes the axes of `weights.values` to those of the op."""
    values = np.ascontiguousarray(weights.values.transpose(layout))
    axes = (None, None) if weights.scales.ndim == 0 else (layout.index(0), 0)
    w = context.add_constant(f"{name}/weights", values, Affine(weights.scales, 0, axis=axes[0]))
    bias_affine = Affine(bias_scales(input_affine.scale, weights.scales), 0, axis=axes[1])
    bias = weights.bias.astype(np.int64) if input_affine.dtype == "int16" else weights.bias
    return w, context.add_constant(f"{name}/bias", bias, bias_affine)


def _with_one_scale(node: Node, weights: _Weights) -> _Weights:
    """CMSIS-NN's int16 FULLY_CONNECTED takes one scale for all outputs, of shape ()."""
    if np.unique(weights.scales).size != 1:
        raise KwsError(f"{node}: beside int16 its weights need one scale for all outputs; {REMEDY}.")
    return replace(weights, scales=weights.scales[0])
