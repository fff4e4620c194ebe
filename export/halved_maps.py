"""A wide map computed in two halves: the same int8 values, and what it is made from is used up on the way.

    x (1, H, W, I) -> pointwise convolution -> y (1, H, W, O)

becomes a slice of rows and the same convolution for each half, and a concatenation. With rows that need not be copied
(see `export.shared_memory`) x and y never exist as wholes at the same time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from export.graph import Concatenation, Conv2D, Graph, Op, Slice, Tensor
from export.op_order import busiest_op
from export.shared_memory import shares

ROW_AXIS = 1


def halve_busiest(graph: Graph) -> Graph:
    """A graph with the same outputs bit for bit: if the op during which most memory is in use is a pointwise
    convolution of two rows or more, it is halved."""
    busiest = graph.ops[busiest_op(graph, shares(graph))]
    if not _is_pointwise(graph, busiest) or graph.tensors[busiest.output].shape[ROW_AXIS] < 2:
        return graph
    tensors = dict(graph.tensors)
    ops = [part for op in graph.ops for part in (_halved(tensors, op) if op is busiest else [op])]
    return replace(graph, tensors=tensors, ops=tuple(ops))


def _is_pointwise(graph: Graph, op: Op) -> bool:
    if not isinstance(op.attributes, Conv2D):
        return False
    return graph.tensors[op.inputs[1]].shape[1:3] == (1, 1) and op.attributes.stride == (1, 1)


def _halved(tensors: dict[str, Tensor], op: Op) -> Iterator[Op]:
    """The ops in place of `op`; their tensors are added to `tensors`."""
    source, made = tensors[op.inputs[0]], tensors[op.output]
    rows = made.shape[ROW_AXIS]
    parts: list[str] = []
    for first, stop in pairwise((0, rows // 2, rows)):
        taken = _rows_of(source, f"{made.name}/rows_{first}_{stop}/source", stop - first)
        part = _rows_of(made, f"{made.name}/rows_{first}_{stop}", stop - first)
        tensors |= {taken.name: taken, part.name: part}
        parts.append(part.name)
        yield Op(Slice(begin=(0, first, 0, 0), size=taken.shape), (source.name,), taken.name)
        yield replace(op, inputs=(taken.name, *op.inputs[1:]), output=part.name)
    yield Op(Concatenation(axis=ROW_AXIS), tuple(parts), made.name)


def _rows_of(tensor: Tensor, name: str, rows: int) -> Tensor:
    n, _, columns, channels = tensor.shape
    return replace(tensor, name=name, shape=(n, rows, columns, channels))
