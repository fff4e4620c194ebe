"""Means and pools."""

from __future__ import annotations

from export.graph import Activation, AveragePool2D, MaxPool2D, Mean, Relu, Tensor
from export.lowering.context import Context, nhwc_axis
from export.lowering.limits import SPANS, require_accumulator, require_equal_affine
from export.lowering.qdq import Node
from export.lowering.window import Window, padded
from kws.errors import KwsError

_HEIGHT, _WIDTH = 1, 2


def lower_reduce_mean(context: Context, node: Node) -> None:
    """ReduceMean over H, W or both -> MEAN."""
    axes = context.model.constant_ints(node, 1) if node.optional_input(1) else node.ints("axes", ())
    _mean(context, node, axes, keep_dims=node.attributes.get("keepdims", 1) == 1)


def lower_global_average_pool(context: Context, node: Node) -> None:
    """GlobalAveragePool -> MEAN over H and W."""
    _mean(context, node, (2, 3), keep_dims=True)


def lower_average_pool(context: Context, node: Node) -> None:
    """AveragePool over the values inside -> AVERAGE_POOL_2D."""
    if node.attributes.get("count_include_pad", 0) and any(node.ints("pads", ())):
        raise KwsError(f"{node}: an average that counts padding is not supported; set count_include_pad to 0.")
    _pool(context, node, AveragePool2D)


def lower_max_pool(context: Context, node: Node) -> None:
    """MaxPool -> MAX_POOL_2D, behind a PAD where zeros are the smallest values anyway."""
    _pool(context, node, MaxPool2D)


def _mean(context: Context, node: Node, onnx_axes: tuple[int, ...], keep_dims: bool) -> None:
    x, output = context.image(node, 0), context.model.quantized_output(node, may_fuse=False)
    axes = tuple(sorted({nhwc_axis(node, 4, axis) for axis in onnx_axes}))
    if not axes or not set(axes) <= {_HEIGHT, _WIDTH} or not (keep_dims or len(axes) == 2):
        raise KwsError(f"{node}: means are supported over height and width only; change the model.")
    elements = 1
    for axis in axes:
        elements *= x.shape[axis]
    require_accumulator(node, SPANS[x.affine.dtype] * elements, float(x.affine.scale) / float(output.affine.scale))
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape))
    shape = kept if keep_dims else (1, x.shape[3])
    context.emit(Mean(axes=axes, keep_dims=keep_dims), [x], shape, output)


def _pool(context: Context, node: Node, kind: type[AveragePool2D] | type[MaxPool2D]) -> None:
    x, output = context.image(node, 0), context.model.quantized_output(node, may_fuse=True)
    require_equal_affine(node, [x], output)
    kernel = node.ints("kernel_shape", ())
    if len(kernel) != 2:
        raise KwsError(f"{node}: only two-dimensional pools are supported; change the model.")
    window, size = Window.of(node, (kernel[0], kernel[1])), (x.shape[_HEIGHT], x.shape[_WIDTH])
    height, width = window.output_size(node, size)
    if window.dilation != (1, 1):
        raise KwsError(f"{node}: dilated pools are not supported; change the model.")
    if window.padding(size) is None and not (kind is MaxPool2D and _is_never_negative(context, x)):
        raise KwsError(
            f"{node}: its pads are neither none nor those of SAME; pad evenly, or put a Relu in front of a MaxPool."
        )
    x, padding = padded(context, x, window)
    attributes = kind(window=window.kernel, stride=window.stride, padding=padding, activation=output.activation)
    context.emit(attributes, [x], (1, height, width, x.shape[3]), output)


def _is_never_negative(context: Context, x: Tensor) -> bool:
    """Whether zeros around `x` leave its maxima alone."""
    maker = next((op.attributes for op in context.ops if op.output == x.name), None)
    clamped = isinstance(maker, Relu) or getattr(maker, "activation", Activation.NONE) is not Activation.NONE
    return clamped or x.affine.zero_point == x.affine.lowest
