"""One spelling for what ONNX can say in several ways, so that the passes behind need to know one each."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from quantize.rewrites.graph_tools import (
    constant,
    constant_number,
    integers,
    new_initializer,
    new_node,
    reduced_axes,
    replace_value,
    set_integers,
    sole_consumer,
    static_shape,
)


def constant_steps(model: ir.Model) -> None:
    """x - constant -> x + -constant; x / constant -> x * (1 / constant)."""
    for node in list(model.graph):
        divisor = constant(node.inputs[1]) if node.op_type in ("Sub", "Div") else None
        if divisor is None or divisor.dtype != np.float32 or (node.op_type == "Div" and not divisor.all()):
            continue
        exact = divisor.astype(np.float64)
        op_type, operand = ("Add", 0.0 - exact) if node.op_type == "Sub" else ("Mul", 1.0 / exact)
        _replace(model.graph, node, op_type, [node.inputs[0], np.asarray(operand)])


def explicit_pads(model: ir.Model) -> None:
    """auto_pad of convolutions and pools -> pads; an average that counts padding -> Pad and one that has none."""
    for node in list(model.graph):
        if node.op_type in ("Conv", "AveragePool", "MaxPool") and static_shape(node.inputs[0]) is not None:
            _write_pads(node)
            if node.op_type == "AveragePool" and node.attributes.get_int("count_include_pad", False):
                _pad_in_front(model.graph, node)


def _write_pads(node: ir.Node) -> None:
    given = node.attributes.pop("auto_pad", None)
    mode = given.as_string() if given is not None else "NOTSET"
    shape = static_shape(node.inputs[0])
    if mode not in ("SAME_UPPER", "SAME_LOWER") or shape is None:
        return
    kernel = integers(node, "kernel_shape", (static_shape(node.inputs[1]) or ())[2:] if len(node.inputs) > 1 else ())
    ones = (1,) * len(kernel)
    before, after = [], []
    steps = zip(shape[2:], kernel, integers(node, "strides", ones), integers(node, "dilations", ones), strict=True)
    for size, taps, stride, dilation in steps:
        total = max((-(-size // stride) - 1) * stride + (taps - 1) * dilation + 1 - size, 0)
        before.append(total // 2 if mode == "SAME_UPPER" else total - total // 2)
        after.append(total - before[-1])
    set_integers(node, "pads", [*before, *after])


def _pad_in_front(graph: ir.Graph, node: ir.Node) -> None:
    """ceil_mode is left alone: what it adds at the end is padding that never counts."""
    source, shape = node.inputs[0], static_shape(node.inputs[0])
    pads = integers(node, "pads", ())
    if source is None or shape is None or not any(pads) or node.attributes.get_int("ceil_mode", False):
        return
    half = len(pads) // 2
    before, after = (0, 0, *pads[:half]), (0, 0, *pads[half:])
    name = f"{node.outputs[0].name}/padded"
    sizes = [sum(parts) for parts in zip(before, shape, after, strict=True)]
    amounts = new_initializer(graph, f"{name}/pads", np.array([*before, *after], dtype=np.int64))
    padded = new_node("Pad", [source, amounts], name, sizes)
    graph.insert_before(node, [padded])
    node.replace_input_with(0, padded.outputs[0])
    node.attributes.pop("pads")
    node.attributes.pop("count_include_pad")


def plain_pools_and_clips(model: ir.Model) -> None:
    """A maximum over the whole image -> MaxPool; Clip from 0 without end -> Relu; means keep their axes."""
    for node in list(model.graph):
        if node.op_type in ("GlobalMaxPool", "ReduceMax"):
            _pool_whole_image(model.graph, node)
        elif node.op_type == "Clip" and [constant_number(node, 1), constant_number(node, 2)] == [0.0, math.inf]:
            _replace(model.graph, node, "Relu", [node.inputs[0]])
        elif node.op_type == "ReduceMean" and not node.attributes.get_int("keepdims", True):
            _keep_axes(model.graph, node)


def _pool_whole_image(graph: ir.Graph, node: ir.Node) -> None:
    shape, source = static_shape(node.inputs[0]), node.inputs[0]
    if source is None or shape is None or reduced_axes(node) != tuple(range(2, len(shape))):
        return
    kept = [*shape[:2], *(1 for _ in shape[2:])]
    pool = new_node("MaxPool", [source], f"{node.outputs[0].name}/kept", kept, {"kernel_shape": shape[2:]})
    _replace_and_reshape(graph, node, pool)


def _keep_axes(graph: ir.Graph, node: ir.Node) -> None:
    axes, shape, source = reduced_axes(node), static_shape(node.inputs[0]), node.inputs[0]
    if axes is None or shape is None or source is None:
        return
    name = f"{node.outputs[0].name}/kept"
    kept = [1 if axis in axes else size for axis, size in enumerate(shape)]
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        mean = new_node("ReduceMean", [source, node.inputs[1]], name, kept)
    else:
        mean = new_node("ReduceMean", [source], name, kept, {"axes": axes})
    _replace_and_reshape(graph, node, mean)


def _replace_and_reshape(graph: ir.Graph, node: ir.Node, kept: ir.Node) -> None:
    """`kept`, which keeps reduced axes as size 1, and if need be a Reshape, in the place of `node`."""
    output = static_shape(node.outputs[0])
    if output is None:
        return
    nodes = [kept]
    if output != static_shape(kept.outputs[0]):
        nodes.append(reshape_node(graph, kept.outputs[0], node.outputs[0].name or "reduced", output))
    replace_value(graph, node.outputs[0], nodes)
    graph.remove(node, safe=True)


def plain_reshapes(model: ir.Model) -> None:
    """Squeeze, Unsqueeze, Flatten, and a Transpose that only moves axes of size 1 -> Reshape to a constant shape; two
    Reshapes or Transposes in a row -> one; those that change nothing go."""
    for node in list(model.graph):
        if node.op_type == "Transpose":
            _join_transposes(model.graph, node)
    for node in list(model.graph):
        output = static_shape(node.outputs[0]) if node.outputs else None
        if output is not None and all(output) and (node.op_type in _RESHAPES or _moves_only_ones(node)):
            _replace_by_reshape(model.graph, node, output)


_RESHAPES = ("Squeeze", "Unsqueeze", "Flatten", "Reshape")


def _join_transposes(graph: ir.Graph, node: ir.Node) -> None:
    before = node.inputs[0].producer() if node.inputs[0] is not None else None
    if before is None or before.op_type != "Transpose":
        return
    perm = [permutation(before)[axis] for axis in permutation(node)]
    _replace(graph, node, "Transpose", [before.inputs[0]], {"perm": perm})


def permutation(transpose: ir.Node) -> tuple[int, ...]:
    rank = len(static_shape(transpose.inputs[0]) or ())
    return integers(transpose, "perm", tuple(range(rank))[::-1])


def _moves_only_ones(node: ir.Node) -> bool:
    shape = static_shape(node.inputs[0]) if node.op_type == "Transpose" else None
    if shape is None:
        return False
    moved = [axis for axis in permutation(node) if shape[axis] != 1]
    return moved == sorted(moved)


def _replace_by_reshape(graph: ir.Graph, node: ir.Node, shape: tuple[int, ...]) -> None:
    source, output = node.inputs[0], node.outputs[0]
    assert source is not None
    while (before := source.producer()) is not None and before.op_type == "Reshape" and before.inputs[0] is not None:
        if sole_consumer(source) is None:
            break
        source = before.inputs[0]
    if static_shape(source) == shape and not output.is_graph_output():
        output.replace_all_uses_with(source)
    elif node.op_type != "Reshape" or source is not node.inputs[0]:
        replace_value(graph, output, [reshape_node(graph, source, output.name or "reshaped", shape)])
    if not list(output.uses()) and not output.is_graph_output():
        graph.remove(node, safe=True)


def reshape_node(graph: ir.Graph, source: ir.Value, name: str, shape: Sequence[int]) -> ir.Node:
    target = new_initializer(graph, f"{name}/shape", np.array(shape, dtype=np.int64))
    return new_node("Reshape", [source, target], name, shape)


def _replace(
    graph: ir.Graph,
    node: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | np.ndarray | None],
    attributes: dict[str, int | Sequence[int]] | None = None,
) -> None:
    """Another op in the place of `node`, with the same output; arrays become initializers."""
    output = node.outputs[0]
    name, shape = output.name or op_type, static_shape(output)
    if shape is None:
        return
    values = [
        new_initializer(graph, f"{name}/constant", operand) if isinstance(operand, np.ndarray) else operand
        for operand in inputs
        if operand is not None
    ]
    replace_value(graph, output, [new_node(op_type, values, name, shape, attributes)])
    graph.remove(node, safe=True)
