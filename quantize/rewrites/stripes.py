"""A wide map that only a narrow one is made from is computed in stripes of rows, so that it never exists as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import onnx_ir as ir

from quantize.rewrites.graph_tools import constant, integers, new_node, replace_value, sole_consumer, static_shape
from quantize.rewrites.row_convolution import RowConvolution, match_row_convolution

ROW_AXIS = 2


@dataclass(frozen=True, eq=False)
class _Funnel:
    """relu(pointwise(relu(wide))) = output, the pointwise convolution having fewer channels out than in."""

    wide: RowConvolution
    pointwise: ir.Node
    output: ir.Value


def stripe_wide_maps(model: ir.Model, stripes: int = 2) -> None:
    """A convolution, ReLU and a pointwise convolution to fewer channels, ReLU -> the same for each of `stripes`
    stripes of rows.

    In BC-ResNet these are the stem and the first transition: the largest map of the network and the next.
    """
    for node in list(model.graph):
        funnel = _match(node)
        if funnel is None or funnel.wide.rows < stripes or stripes < 2:
            continue
        name, rows = funnel.output.name or "striped", funnel.wide.rows
        edges = [rows * stripe // stripes for stripe in range(stripes + 1)]
        nodes: list[ir.Node] = []
        pieces: list[ir.Value] = []
        for first, stop in pairwise(edges):
            nodes += _stripe(model.graph, funnel, f"{name}/stripe_{first}_{stop}", first, stop)
            pieces.append(nodes[-1].outputs[0])
        shape = static_shape(funnel.output)
        assert shape is not None
        replace_value(model.graph, funnel.output, [*nodes, new_node("Concat", pieces, name, shape, {"axis": ROW_AXIS})])


def _match(node: ir.Node) -> _Funnel | None:
    match = match_row_convolution(node)
    first_relu = sole_consumer(match.output) if match is not None and match.affine_steps == 0 else None
    pointwise = sole_consumer(first_relu.outputs[0]) if first_relu is not None else None
    second_relu = sole_consumer(pointwise.outputs[0]) if pointwise is not None else None
    if match is None or first_relu is None or pointwise is None or second_relu is None:
        return None
    maker = match.convolution.source.producer()
    if maker is not None and maker.op_type == "Slice":  # A stripe already.
        return None
    kinds = (first_relu.op_type, pointwise.op_type, second_relu.op_type)
    weights = constant(pointwise.inputs[1]) if len(pointwise.inputs) > 1 else None
    if kinds != ("Relu", "Conv", "Relu") or weights is None:
        return None
    plain = not any(integers(pointwise, "pads", (0,))) and set(integers(pointwise, "strides", (1,))) == {1}
    narrows = weights.shape[0] < weights.shape[1] and weights.shape[2:] == (1, 1)
    return _Funnel(match.convolution, pointwise, second_relu.outputs[0]) if plain and narrows else None


def _stripe(graph: ir.Graph, funnel: _Funnel, name: str, first: int, stop: int) -> list[ir.Node]:
    n, channels, _, columns = funnel.wide.output_shape
    wide = funnel.wide.band_nodes(graph, f"{name}/wide", first, stop)
    wide.append(new_node("Relu", [wide[-1].outputs[0]], f"{name}/wide/relu", (n, channels, stop - first, columns)))
    weights, *bias = (value for value in funnel.pointwise.inputs[1:] if value is not None)
    shape = (n, (static_shape(weights) or (0,))[0], stop - first, columns)
    narrow = new_node("Conv", [wide[-1].outputs[0], weights, *bias], f"{name}/narrow", shape)
    return [*wide, narrow, new_node("Relu", [narrow.outputs[0]], name, shape)]
