"""Slice, Concat, Pad and reshapes: values move, scales stay."""

from __future__ import annotations

import math

import numpy as np

from export.graph import Concatenation, Pad, Pair, Reshape, Slice, Tensor
from export.lowering.context import Context, nchw_shape, nhwc_axis, to_nhwc
from export.lowering.limits import require_equal_affine
from export.lowering.qdq import REMEDY, Array, Node
from kws.errors import KwsError

MAX_CONCATENATION_INPUTS = 10


def lower_slice(context: Context, node: Node) -> None:
    """Slice with constant bounds and step 1 -> SLICE."""
    x, output = context.activation(node, 0), context.model.quantized_output(node, may_fuse=False)
    require_equal_affine(node, [x], output)
    starts, ends = context.model.constant_ints(node, 1), context.model.constant_ints(node, 2)
    axes = context.model.constant_ints(node, 3) if node.optional_input(3) else tuple(range(len(starts)))
    steps = context.model.constant_ints(node, 4) if node.optional_input(4) else (1,) * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or set(steps) != {1}:
        raise KwsError(f"{node}: only slices with step 1 are supported; change the model.")
    begin, size = [0] * len(x.shape), list(x.shape)
    for start, end, onnx_axis in zip(starts, ends, axes, strict=True):
        axis = nhwc_axis(node, len(x.shape), onnx_axis)
        first, last, _ = slice(start, end).indices(x.shape[axis])
        if first >= last:
            raise KwsError(f"{node}: selects nothing; {REMEDY}.")
        begin[axis], size[axis] = first, last - first
    context.emit(Slice(begin=tuple(begin), size=tuple(size)), [x], tuple(size), output)


def lower_concat(context: Context, node: Node) -> None:
    """Concat -> CONCATENATION, in a tree where there are more inputs than a kernel takes."""
    tensors = [context.activation(node, index) for index in range(len(node.inputs))]
    output = context.model.quantized_output(node, may_fuse=False)
    require_equal_affine(node, tensors, output)
    rank = len(tensors[0].shape)
    axis = nhwc_axis(node, rank, int(node.attributes["axis"]))
    if len({(*tensor.shape[:axis], *tensor.shape[axis + 1 :]) for tensor in tensors}) != 1 or axis == 0:
        raise KwsError(f"{node}: its inputs differ in more than one axis or join on the batch; {REMEDY}.")
    level = 0
    while len(tensors) > MAX_CONCATENATION_INPUTS:
        tensors = _join_groups(context, tensors, axis, f"{output.name}/level_{level}")
        level += 1
    context.emit(Concatenation(axis=axis), tensors, _joined(tensors, axis), output)


def lower_pad(context: Context, node: Node) -> None:
    """Pad with constant 0.0 -> PAD."""
    x, output = context.activation(node, 0), context.model.quantized_output(node, may_fuse=False)
    require_equal_affine(node, [x], output)
    value = context.model.constant_number(node, 2) if node.optional_input(2) else 0.0
    if node.attributes.get("mode", b"constant") != b"constant" or value != 0.0:
        raise KwsError(f"{node}: only padding with a constant 0.0 is supported; change the model.")
    rank, pads = len(x.shape), context.model.constant_ints(node, 1)
    axes = context.model.constant_ints(node, 3) if node.optional_input(3) else tuple(range(rank))
    if len(pads) != 2 * len(axes) or min(pads) < 0:
        raise KwsError(f"{node}: its pads are negative or do not fit its axes; {REMEDY}.")
    paddings: list[Pair] = [(0, 0)] * rank
    for index, axis in enumerate(axes):
        paddings[nhwc_axis(node, rank, axis)] = (pads[index], pads[index + len(axes)])
    shape = tuple(size + sum(pair) for size, pair in zip(x.shape, paddings, strict=True))
    context.emit(Pad(paddings=tuple(paddings)), [x], shape, output)


def lower_flatten(context: Context, node: Node) -> None:
    """Flatten -> RESHAPE."""
    shape = nchw_shape(context.activation(node, 0))
    axis = int(node.attributes.get("axis", 1)) % (len(shape) + 1)
    _reshape(context, node, (math.prod(shape[:axis]), math.prod(shape[axis:])))


def lower_reshape(context: Context, node: Node) -> None:
    """Reshape -> RESHAPE."""
    old, wanted = nchw_shape(context.activation(node, 0)), context.model.constant_ints(node, 1)
    if (node.attributes.get("allowzero", 0) and 0 in wanted) or wanted.count(-1) > 1:
        raise KwsError(f"{node}: its target shape {wanted} is not supported; change the model.")
    shape = [old[i] if size == 0 and i < len(old) else size for i, size in enumerate(wanted)]
    if -1 in shape:
        shape[shape.index(-1)] = math.prod(old) // max(-math.prod(shape), 1)
    _reshape(context, node, tuple(shape))


def lower_squeeze(context: Context, node: Node) -> None:
    """Squeeze -> RESHAPE."""
    shape = nchw_shape(context.activation(node, 0))
    named = context.model.constant_ints(node, 1) if node.optional_input(1) else ()
    if not named:
        raise KwsError(f"{node}: does not say which axes to squeeze; {REMEDY}.")
    axes = {axis % len(shape) for axis in named}
    _reshape(context, node, tuple(size for axis, size in enumerate(shape) if axis not in axes))


def _reshape(context: Context, node: Node, shape: tuple[int, ...]) -> None:
    """`shape` in NCHW: one that keeps the order of the values in NHWC too, or (1, C * H * W) in front of weights."""
    x, output = context.activation(node, 0), context.model.quantized_output(node, may_fuse=False)
    require_equal_affine(node, [x], output)
    old = nchw_shape(x)
    if len(shape) not in (2, 4) or shape[0] != 1 or math.prod(shape) != math.prod(old):
        raise KwsError(f"{node}: reshapes {old} to {shape}; only to (1, C) and (1, C, H, W) is supported.")
    if not np.array_equal(_order(old), _order(shape)):
        if len(shape) != 2:
            raise KwsError(f"{node}: reshapes {old} to {shape}, which would reorder values on the device.")
        context.flattened[output.name] = old[1:]
    nhwc = shape if len(shape) == 2 else (1, shape[2], shape[3], shape[1])
    context.emit(Reshape(shape=nhwc), [x], nhwc, output)


def _order(shape: tuple[int, ...]) -> Array:
    """Where the values of a tensor of NCHW `shape` stand in ONNX, in the order of the device."""
    return to_nhwc(np.arange(math.prod(shape)).reshape(shape)).reshape(-1)


def _join_groups(context: Context, tensors: list[Tensor], axis: int, name: str) -> list[Tensor]:
    joined = []
    for start in range(0, len(tensors), MAX_CONCATENATION_INPUTS):
        group = tensors[start : start + MAX_CONCATENATION_INPUTS]
        shape = _joined(group, axis)
        joined.append(
            group[0]
            if len(group) == 1
            else context.emit_between(Concatenation(axis=axis), group, f"{name}_{start}", shape)
        )
    return joined


def _joined(tensors: list[Tensor], axis: int) -> tuple[int, ...]:
    shape = list(tensors[0].shape)
    shape[axis] = sum(tensor.shape[axis] for tensor in tensors)
    return tuple(shape)
