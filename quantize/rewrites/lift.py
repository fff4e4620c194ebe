"""One-dimensional models: (n, channels, time) becomes (n, channels, 1, time), what kernels on the device know."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from kws.errors import KwsError
from quantize.ops import BROADCAST_OPS, unsupported
from quantize.rewrites.canonical import permutation, reshape_node
from quantize.rewrites.graph_tools import (
    constant,
    integers,
    new_initializer,
    reduced_axes,
    set_integers,
    static_shape,
)

_AXIS = {0: 0, 1: 1, 2: 3}
_NEW_AXIS = 2


def lift_to_images(model: ir.Model) -> None:
    """Give every activation of rank 3 the axis H = 1, with a Reshape behind a graph input of rank 3.

    Raises KwsError for an op that has no form on images, and for a graph output of rank 3.
    """
    graph = model.graph
    flat = [value for node in graph for value in node.outputs if _is_flat(value)]
    inputs = [value for value in graph.inputs if _is_flat(value)]
    if not flat and not inputs:
        return
    for value in graph.outputs:
        if _is_flat(value):
            raise KwsError(f"The output {value.name!r} of the ONNX model has rank 3; end the model in (1, classes).")
    for node in list(graph):
        if any(_is_flat(value) for value in (*node.inputs, *node.outputs) if value is not None):
            if node.op_type not in _LIFTS:
                raise unsupported(f"{node.op_type} node {node.name or node.outputs[0].name!r}", node.op_type)
            _LIFTS[node.op_type](graph, node)
    for value in flat:
        value.shape = ir.Shape(_lifted(static_shape(value) or ()))
    for value in inputs:
        image = reshape_node(graph, value, f"{value.name}/image", _lifted(static_shape(value) or ()))
        value.replace_all_uses_with(image.outputs[0])
        image.replace_input_with(0, value)
        graph.insert_before(graph[0], [image])


def _is_flat(value: ir.Value | None) -> bool:
    """Whether `value` is an activation of rank 3."""
    return value is not None and constant(value) is None and len(static_shape(value) or ()) == 3


def _lifted(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:2], 1, *shape[2:])


def _keep(graph: ir.Graph, node: ir.Node) -> None:
    """Nothing to change: the op works on each value, or its constants go by channel."""


def _window(graph: ir.Graph, node: ir.Node) -> None:
    """A convolution or pool along time: its window has height 1."""
    for name, padding in (("kernel_shape", 1), ("strides", 1), ("dilations", 1)):
        if name in node.attributes:
            set_integers(node, name, [padding, *integers(node, name, ())])
    if "pads" in node.attributes:
        before, after = integers(node, "pads", ())
        set_integers(node, "pads", [0, before, 0, after])
    if node.op_type == "Conv" and (weights := constant(node.inputs[1])) is not None:
        name = f"{node.outputs[0].name}/weight"
        node.replace_input_with(1, new_initializer(graph, name, weights[:, :, np.newaxis]))


def _operands(graph: ir.Graph, node: ir.Node) -> None:
    """Constants that have a channel axis get the new axis behind it."""
    for index, value in enumerate(node.inputs):
        array = constant(value)
        if array is not None and array.ndim >= 2:
            lifted = np.expand_dims(array, array.ndim - 1)
            node.replace_input_with(index, new_initializer(graph, f"{node.outputs[0].name}/constant", lifted))


def _mean(graph: ir.Graph, node: ir.Node) -> None:
    axes = [_AXIS[axis] for axis in reduced_axes(node) or ()]
    if len(node.inputs) > 1:
        node.replace_input_with(1, _integers(graph, node, "axes", axes))
    else:
        set_integers(node, "axes", axes)


def _axis(graph: ir.Graph, node: ir.Node) -> None:
    axis = node.attributes.get_int("axis", -1)
    node.attributes["axis"] = ir.AttrInt64("axis", _AXIS[axis % 3])


def _slice(graph: ir.Graph, node: ir.Node) -> None:
    given = constant(node.inputs[3]) if len(node.inputs) > 3 else None
    starts = constant(node.inputs[1])
    axes = range(0 if starts is None else starts.size) if given is None else [int(axis) % 3 for axis in given]
    node.resize_inputs(max(len(node.inputs), 4))
    node.replace_input_with(3, _integers(graph, node, "axes", [_AXIS[axis] for axis in axes]))


def _pad(graph: ir.Graph, node: ir.Node) -> None:
    axes, amounts = constant(node.inputs[3]) if len(node.inputs) > 3 else None, constant(node.inputs[1])
    if axes is not None:
        node.replace_input_with(3, _integers(graph, node, "axes", [_AXIS[int(axis) % 3] for axis in axes]))
    elif amounts is not None:
        sides = np.insert(amounts.reshape(2, 3), _NEW_AXIS, 0, axis=1)
        node.replace_input_with(1, _integers(graph, node, "pads", sides.reshape(-1)))


def _integers(graph: ir.Graph, node: ir.Node, name: str, values: npt.ArrayLike) -> ir.Value:
    return new_initializer(graph, f"{node.outputs[0].name}/{name}", np.array(values, dtype=np.int64))


def _reshape(graph: ir.Graph, node: ir.Node) -> None:
    shape = static_shape(node.outputs[0]) or ()
    if len(shape) == 3:
        node.replace_input_with(1, _integers(graph, node, "shape", _lifted(shape)))


def _transpose(graph: ir.Graph, node: ir.Node) -> None:
    moved = [_AXIS[axis] for axis in permutation(node)]
    set_integers(node, "perm", [*moved[:2], _NEW_AXIS, *moved[2:]])


_LIFTS: dict[str, Callable[[ir.Graph, ir.Node], None]] = {
    **dict.fromkeys(("BatchNormalization", "Clip", "GlobalAveragePool", "HardSigmoid", "HardSwish", "Relu"), _keep),
    **dict.fromkeys(("Conv", "AveragePool", "MaxPool"), _window),
    **dict.fromkeys(BROADCAST_OPS, _operands),
    **dict.fromkeys(("Concat", "Softmax"), _axis),
    "Sigmoid": _keep,
    "ReduceMean": _mean,
    "Slice": _slice,
    "Pad": _pad,
    "Reshape": _reshape,
    "Transpose": _transpose,
}
