"""Small questions about an onnx_ir graph, and the one way in which a pass replaces a value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

FloatArray = npt.NDArray[np.float64]


def constant(value: ir.Value | None) -> npt.NDArray[np.generic] | None:
    """The array of an initializer; None for anything computed or fed."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    return tuple(int(size) for size in value.shape.numpy())


def sole_consumer(value: ir.Value) -> ir.Node | None:
    """The node that alone reads `value`, once; None if there are more or `value` is an output of the graph."""
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def other_operand(node: ir.Node, value: ir.Value) -> ir.Value | None:
    """The operand of a two-operand node that is not `value`."""
    first, second = node.inputs
    return second if first is value else first


def integers(node: ir.Node, name: str, default: Sequence[int]) -> tuple[int, ...]:
    attribute = node.attributes.get(name)
    return tuple(attribute.as_ints() if attribute is not None else default)


def set_integers(node: ir.Node, name: str, values: Sequence[int]) -> None:
    node.attributes[name] = ir.AttrInt64s(name, list(values))


def constant_number(node: ir.Node, index: int, default: float = math.inf) -> float | None:
    """Input `index` of `node` if it is one constant number, `default` if it is absent, None if it is anything else."""
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        return default
    array = constant(value)
    return float(array.item()) if array is not None and array.size == 1 else None


def reduced_axes(node: ir.Node) -> tuple[int, ...] | None:
    """The axes of a mean or maximum, sorted, counted from 0; None for any other node."""
    shape = static_shape(node.inputs[0]) if node.inputs else None
    if shape is None:
        return None
    if node.op_type in ("GlobalAveragePool", "GlobalMaxPool"):
        return tuple(range(2, len(shape)))
    if node.op_type not in ("ReduceMean", "ReduceMax"):
        return None
    given = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    axes = integers(node, "axes", ()) if given is None else tuple(int(axis) for axis in given)
    return tuple(sorted(axis % len(shape) for axis in axes)) or None


def new_initializer(graph: ir.Graph, name: str, array: npt.NDArray[np.generic]) -> ir.Value:
    """Register `array` (floats become float32) in `graph` under `name`, made unique."""
    while name in graph.initializers:
        name += "_"
    array = array.astype(np.float32) if array.dtype == np.float64 else array
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name), shape=ir.Shape(array.shape))
    value.type = ir.TensorType(value.const_value.dtype if value.const_value else ir.DataType.FLOAT)
    graph.register_initializer(value)
    return value


def new_node(
    op_type: str,
    inputs: Sequence[ir.Value],
    name: str,
    shape: Sequence[int],
    attributes: Mapping[str, int | Sequence[int]] | None = None,
) -> ir.Node:
    """A node with one float32 output of `shape`; both are called `name`."""
    output = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT))
    return ir.node(op_type, inputs, attributes, outputs=[output], name=name)


def replace_value(graph: ir.Graph, old: ir.Value, nodes: Sequence[ir.Node]) -> None:
    """Let the last of `nodes` produce `old`, under its name; all are placed right before the first reader of `old`.

    Placing them late keeps their outputs alive for a short time, which the device's memory plan profits from.
    """
    new = nodes[-1].outputs[0]
    new.name, nodes[-1].name = old.name, old.name
    readers = set(old.consumers())
    first_reader = next((node for node in graph if node in readers), None)
    if first_reader is None:
        graph.extend(nodes)
    else:
        graph.insert_before(first_reader, nodes)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
