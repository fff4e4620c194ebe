"""Gemm and MatMul in one form, with the constants around them in their weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from quantize.rewrites.canonical import permutation, reshape_node
from quantize.rewrites.graph_tools import (
    FloatArray,
    constant,
    new_initializer,
    new_node,
    other_operand,
    replace_value,
    sole_consumer,
    static_shape,
)


@dataclass(frozen=True, eq=False)
class _Dense:
    """output = source @ weights + bias; float64 (inputs, outputs) and (outputs,)."""

    source: ir.Value
    output: ir.Value
    weights: FloatArray
    bias: FloatArray


def fold_dense(model: ir.Model) -> None:
    """Scaled Gemm, MatMul with a bias or norm behind, and a Transpose in front of the flattening -> plain Gemm."""
    for node in list(model.graph):
        plain = _match(node)
        if plain is None:
            continue
        dense = plain
        while (step := _with_step(dense)) is not None:
            dense = step
        dense = _without_transpose(model.graph, dense) or dense
        is_plain = node.op_type == "Gemm" and all(node.attributes.get_float(n, 1.0) == 1.0 for n in ("alpha", "beta"))
        if dense is not plain or not is_plain:
            _replace_by_gemm(model.graph, dense)


def _match(node: ir.Node) -> _Dense | None:
    if node.op_type not in ("Gemm", "MatMul") or node.attributes.get_int("transA", False):
        return None
    source, weights, output = node.inputs[0], constant(node.inputs[1]), static_shape(node.outputs[0])
    offset = constant(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(1)
    if source is None or weights is None or weights.ndim != 2 or offset is None or output is None or len(output) != 2:
        return None
    if offset.size not in (1, output[1]):
        return None
    scaled = np.asarray(weights, dtype=np.float64) * node.attributes.get_float("alpha", 1.0)
    bias = np.asarray(offset, dtype=np.float64).reshape(-1) * node.attributes.get_float("beta", 1.0)
    return _Dense(
        source,
        node.outputs[0],
        scaled.T if node.attributes.get_int("transB", False) else scaled,
        np.broadcast_to(bias, output[1:]),
    )


def _with_step(dense: _Dense) -> _Dense | None:
    """With the Mul or Add by a constant per output that follows, if there is one."""
    node = sole_consumer(dense.output)
    operand = (
        constant(other_operand(node, dense.output)) if node is not None and node.op_type in ("Mul", "Add") else None
    )
    if node is None or operand is None or static_shape(node.outputs[0]) != static_shape(dense.output):
        return None
    if operand.size not in (1, dense.bias.size):
        return None
    values = np.asarray(operand, dtype=np.float64).reshape(-1)
    if node.op_type == "Add":
        return replace(dense, output=node.outputs[0], bias=dense.bias + values)
    return replace(dense, output=node.outputs[0], weights=dense.weights * values, bias=dense.bias * values)


def _without_transpose(graph: ir.Graph, dense: _Dense) -> _Dense | None:
    """Where the source is a flattened Transpose: what is in front of that, flattened, with the weights permuted."""
    flattening = dense.source.producer()
    if flattening is None or flattening.op_type != "Reshape" or flattening.inputs[0] is None:
        return None
    transpose = flattening.inputs[0].producer()
    if transpose is None or transpose.op_type != "Transpose" or transpose.inputs[0] is None:
        return None
    image, flat = static_shape(transpose.inputs[0]), static_shape(dense.source)
    if image is None or flat is None or image[0] != 1:
        return None
    order = np.arange(np.prod(image)).reshape(image).transpose(permutation(transpose)).reshape(-1)
    weights = np.empty_like(dense.weights)
    weights[order] = dense.weights
    plain = reshape_node(graph, transpose.inputs[0], f"{dense.output.name}/flat", flat)
    graph.insert_before(flattening, [plain])
    return replace(dense, source=plain.outputs[0], weights=weights)


def _replace_by_gemm(graph: ir.Graph, dense: _Dense) -> None:
    name = dense.output.name or "gemm"
    parameters = [
        new_initializer(graph, f"{name}/weight", dense.weights),
        new_initializer(graph, f"{name}/bias", np.array(dense.bias)),
    ]
    gemm = new_node("Gemm", [dense.source, *parameters], name, (1, dense.bias.size))
    replace_value(graph, dense.output, [gemm])
