"""A sum with a row that is broadcast over frequency goes into the convolution in front of it, as one more tap.

On the device that spares an ADD, the slowest op of a block, and one rounding. It works where a band is one row high.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import onnx_ir as ir

from quantize.rewrites.graph_tools import (
    FloatArray,
    constant,
    integers,
    new_initializer,
    new_node,
    other_operand,
    replace_value,
    sole_consumer,
    static_shape,
)
from quantize.rewrites.row_convolution import MAX_BANDS

FREQUENCY_AXIS = 2


@dataclass(frozen=True, eq=False)
class OneRow:
    """A depthwise convolution over rows of `source` (n, c, taps, t) that leaves one row (n, c, 1, t)."""

    source: ir.Value
    weights: FloatArray
    bias: FloatArray

    def plus(self, row: ir.Value, graph: ir.Graph, name: str) -> list[ir.Node]:
        """relu(it + `row`): `row` is put below `source` and gets a tap of 1."""
        n, c, taps, t = static_shape(self.source) or ()
        stack = new_node("Concat", [self.source, row], f"{name}/stack", (n, c, taps + 1, t), {"axis": FREQUENCY_AXIS})
        weights = np.concatenate([self.weights, np.ones((c, 1, 1, 1))], axis=2)
        inputs = [
            stack.outputs[0],
            new_initializer(graph, f"{name}/weight", weights),
            new_initializer(graph, f"{name}/bias", self.bias),
        ]
        attributes: dict[str, int | Sequence[int]] = {"kernel_shape": weights.shape[2:], "group": c}
        convolution = new_node("Conv", inputs, f"{name}/sum", (n, c, 1, t), attributes)
        return [stack, convolution, new_node("Relu", [convolution.outputs[0]], name, (n, c, 1, t))]


def fold_broadcast_sum(model: ir.Model) -> None:
    """relu(concat of one-row depthwise convolutions + row) -> concat of relu(convolution that reads the row too)."""
    for node in list(model.graph):
        relu = sole_consumer(node.outputs[0])
        rows, row = _match_sum(node)
        if relu is None or relu.op_type != "Relu" or row is None:
            continue
        output, shape = relu.outputs[0], static_shape(node.outputs[0])
        assert shape is not None
        nodes: list[ir.Node] = []
        pieces: list[ir.Value] = []
        for index, one_row in enumerate(rows):
            nodes += one_row.plus(row, model.graph, f"{output.name}/row_{index}")
            pieces.append(nodes[-1].outputs[0])
        joined = new_node("Concat", pieces, output.name or "rows", shape, {"axis": FREQUENCY_AXIS})
        replace_value(model.graph, output, [*nodes, joined])


def join_pieces(model: ir.Model, above: int = 0) -> None:
    """A concatenation of rows reads the pieces that an earlier concatenation was made of, not slices of the whole, if
    that whole has more than `above` rows."""
    for node in list(model.graph):
        if not joins_rows(node):
            continue
        pieces = [piece for value in node.inputs if value is not None for piece in _pieces(value, above)]
        if len(pieces) <= MAX_BANDS and pieces != list(node.inputs):
            output, shape = node.outputs[0], static_shape(node.outputs[0])
            assert shape is not None
            joined = new_node("Concat", pieces, output.name or "rows", shape, {"axis": FREQUENCY_AXIS})
            replace_value(model.graph, output, [joined])


def _match_sum(addition: ir.Node) -> tuple[list[OneRow], ir.Value | None]:
    """The convolutions and the row of `concat(convolutions) + row`; the row is None if `addition` is no such sum."""
    if addition.op_type != "Add":
        return [], None
    for whole in addition.inputs:
        joined = whole.producer() if whole is not None else None
        if whole is None or joined is None or not joins_rows(joined) or sole_consumer(whole) is not addition:
            continue
        row, rows = (
            other_operand(addition, whole),
            [match_one_row(value.producer()) if value is not None else None for value in joined.inputs],
        )
        found = [one_row for one_row in rows if one_row is not None]
        n, c, _, t = static_shape(whole) or ()
        if row is not None and static_shape(row) == (n, c, 1, t) and constant(row) is None and found == rows:
            return found, row
    return [], None


def match_one_row(node: ir.Node | None) -> OneRow | None:
    """A depthwise convolution with constant weights and bias whose kernel covers the rows of its source and no more."""
    if node is None or node.op_type != "Conv" or len(node.inputs) != 3 or sole_consumer(node.outputs[0]) is None:
        return None
    source, weights, bias = node.inputs[0], constant(node.inputs[1]), constant(node.inputs[2])
    shape, output_shape = static_shape(source), static_shape(node.outputs[0])
    if source is None or weights is None or bias is None or shape is None or output_shape != (*shape[:2], 1, shape[3]):
        return None
    plain = not any(integers(node, "pads", (0,))) and integers(node, "dilations", (1, 1)) == (1, 1)
    if not plain or node.attributes.get_int("group", 1) != shape[1] or weights.shape != (shape[1], 1, shape[2], 1):
        return None
    return OneRow(source, np.asarray(weights, dtype=np.float64), np.asarray(bias, dtype=np.float64))


def joins_rows(node: ir.Node) -> bool:
    """Whether `node` concatenates along frequency."""
    return node.op_type == "Concat" and node.attributes.get_int("axis", 0) == FREQUENCY_AXIS


def _pieces(value: ir.Value, above: int) -> list[ir.Value]:
    """What `value` is the concatenation of, along frequency: itself, if nothing smaller."""
    node = value.producer()
    bounds = _row_bounds(node) if node is not None else None
    whole = node.inputs[0] if node is not None and bounds is not None else value
    joined = whole.producer() if whole is not None else None
    if joined is None or not joins_rows(joined):
        return [value]
    heights = [(static_shape(piece) or (0, 0, 0, 0))[FREQUENCY_AXIS] for piece in joined.inputs]
    edges = list(accumulate(heights, initial=0))
    start, end = bounds or (0, edges[-1])
    if edges[-1] <= above or start not in edges or end not in edges:
        return [value]
    inside = zip(joined.inputs, pairwise(edges), strict=True)
    return [piece for piece, (low, high) in inside if piece is not None and start <= low and high <= end]


def _row_bounds(node: ir.Node) -> tuple[int, int] | None:
    """First and past-the-last row of a Slice along frequency by one step; None for any other node."""
    if node.op_type != "Slice" or len(node.inputs) != 4:
        return None
    starts, ends, axes = (constant(value) for value in node.inputs[1:])
    if starts is None or ends is None or axes is None or axes.tolist() != [FREQUENCY_AXIS]:
        return None
    rows = (static_shape(node.inputs[0]) or (0, 0, 0, 0))[FREQUENCY_AXIS]
    start, end, _ = slice(int(starts[0]), int(ends[0])).indices(rows)
    return start, end
