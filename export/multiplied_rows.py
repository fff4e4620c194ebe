"""One depthwise convolution for many rows, in place of one a row: the same int8 values with fewer ops.

Where each row of frequency has weights of its own, the graph holds for each a stack (the rows that it reads, and a row
that all of them read) and a depthwise convolution of it. Here all read one stack of all rows, and a depthwise
convolution with as many outputs a channel as there are rows gives them side by side:

    (1, rows in, T, C) -> (1, 1, T, C * rows) -> (1, T, C, rows) -> (1, rows, T, C)

CMSIS-NN has a fast kernel for multiples of four outputs a channel; rows beyond the last multiple can stay convolutions
of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from export.graph import (
    Concatenation,
    DepthwiseConv2D,
    DType,
    Graph,
    Op,
    Padding,
    Reshape,
    Slice,
    Tensor,
    Transpose,
)
from quantize.affine import Affine

ROW_AXIS = 1
FAST_MULTIPLE = 4
ROWS_OUT_OF_CHANNELS = (0, 3, 1, 2)
Source = tuple[str, int]
"""(tensor, row in it)."""


def multiply_rows(graph: Graph, most: int, multiple: int = FAST_MULTIPLE) -> Graph:
    """A graph with the same outputs bit for bit, where images of at most `most` rows that were made row by row are made
    at once, but for those beyond the last `multiple`; what it does not recognise stays."""
    for op in graph.ops:
        rows = _match(graph, op)
        if rows is not None and len(rows.convolutions) <= most:
            graph = _without_unread(_replace(graph, op, rows, multiple))
    return graph


@dataclass(frozen=True, eq=False)
class _Rows:
    """Output row r is `convolutions[r]` of `sources[r]`; each source is a row of `image` or the whole of `common`."""

    convolutions: tuple[Op, ...]
    sources: tuple[tuple[Source, ...], ...]
    image: Tensor
    common: Tensor

    @property
    def stack_rows(self) -> int:
        return self.image.shape[ROW_AXIS] + 1

    def place(self, source: Source) -> int:
        """The row of the stack (image on top, common row below) where `source` lies."""
        name, row = source
        return row if name == self.image.name else self.stack_rows - 1


def _match(graph: Graph, joined: Op) -> _Rows | None:
    maker = {op.output: op for op in graph.ops}
    readers = Counter(name for op in graph.ops for name in op.inputs)
    if _is_part(graph, joined, readers):
        return None
    names = _parts(maker, readers, joined)
    found = [maker[name] for name in names if name in maker and readers[name] == 1 and _is_one_row(graph, maker[name])]
    if len(found) != len(names) or len(found) < FAST_MULTIPLE or len({op.attributes for op in found}) > 1:
        return None
    sources = tuple(tuple(_sources(graph, maker, op.inputs[0])) for op in found)
    if any(len(set(row)) < len(row) for row in sources):
        return None
    tensors = [graph.tensors[name] for name in dict.fromkeys(name for row in sources for name, _ in row)]
    images = [tensor for tensor in tensors if tensor.shape[ROW_AXIS] > 1]
    commons = [tensor for tensor in tensors if tensor.shape[ROW_AXIS] == 1]
    return _Rows(tuple(found), sources, images[0], commons[0]) if len(images) == len(commons) == 1 else None


def _is_part(graph: Graph, joined: Op, readers: Mapping[str, int]) -> bool:
    """Whether only a larger concatenation reads `joined`; `_parts` of that sees through it."""
    larger = [op for op in graph.ops if op.attributes == joined.attributes and joined.output in op.inputs]
    return bool(larger) and readers[joined.output] == 1


def _parts(maker: Mapping[str, Op], readers: Mapping[str, int], joined: Op) -> list[str]:
    """What `joined` concatenates along rows, seen through concatenations that only it reads."""
    if joined.attributes != Concatenation(axis=ROW_AXIS):
        return []
    parts: list[str] = []
    for name in joined.inputs:
        inner = _parts(maker, readers, maker[name]) if name in maker and readers[name] == 1 else []
        parts += inner or [name]
    return parts


def _is_one_row(graph: Graph, op: Op) -> bool:
    attributes = op.attributes
    if not isinstance(attributes, DepthwiseConv2D):
        return False
    source, output, weights = (graph.tensors[name] for name in (op.inputs[0], op.output, op.inputs[1]))
    plain = (attributes.stride, attributes.dilation, attributes.padding, attributes.depth_multiplier)
    fits = weights.shape == (1, source.shape[1], 1, source.shape[3]) and output.shape[ROW_AXIS] == 1
    return plain == ((1, 1), (1, 1), Padding.VALID, 1) and fits


def _sources(graph: Graph, maker: Mapping[str, Op], name: str) -> list[Source]:
    """Where each row of the tensor `name` comes from, seen through concatenations and slices along rows."""
    op = maker.get(name)
    if op is not None and op.attributes == Concatenation(axis=ROW_AXIS):
        return [source for part in op.inputs for source in _sources(graph, maker, part)]
    if op is not None and isinstance(op.attributes, Slice):
        begin, size, whole = op.attributes.begin, op.attributes.size, graph.tensors[op.inputs[0]].shape
        if size[2:] == whole[2:]:
            return [(op.inputs[0], begin[ROW_AXIS] + row) for row in range(size[ROW_AXIS])]
    return [(name, row) for row in range(graph.tensors[name].shape[ROW_AXIS])]


def _replace(graph: Graph, joined: Op, rows: _Rows, multiple: int) -> Graph:
    writer = _Writer(dict(graph.tensors), rows, joined.output, multiple)
    position = graph.ops.index(joined)
    ops = (*graph.ops[:position], *writer.ops(), *graph.ops[position + 1 :])
    return replace(graph, tensors=writer.tensors, ops=ops)


@dataclass(eq=False)
class _Writer:
    """Makes the ops that take the place of the concatenation `name`; adds their tensors to `tensors`."""

    tensors: dict[str, Tensor]
    rows: _Rows
    name: str
    multiple: int

    def ops(self) -> list[Op]:
        rows, output = self.rows, self.tensors[self.name]
        n, height, time, channels = output.shape
        many = height - height % self.multiple
        stack = self._tensor("stack", (n, rows.stack_rows, time, channels), rows.image.affine)
        convolution = rows.convolutions[0].attributes
        assert isinstance(convolution, DepthwiseConv2D)
        side_by_side = self._tensor("side_by_side", (n, 1, time, channels * many), output.affine)
        split = self._tensor("split", (n, time, channels, many), output.affine)
        first = self.name if many == height else self._tensor("first", (n, many, time, channels), output.affine)
        made = [
            Op(Concatenation(axis=ROW_AXIS), (rows.image.name, rows.common.name), stack),
            Op(
                replace(convolution, depth_multiplier=many),
                (stack, *self._parameters("many", range(many))),
                side_by_side,
            ),
            Op(Reshape(shape=self.tensors[split].shape), (side_by_side,), split),
            Op(Transpose(order=ROWS_OUT_OF_CHANNELS), (split,), first),
        ]
        rest = [self._single(made, convolution, stack, row) for row in range(many, height)]
        if rest:
            made.append(Op(Concatenation(axis=ROW_AXIS), (first, *rest), self.name))
        return made

    def _single(self, made: list[Op], convolution: DepthwiseConv2D, stack: str, row: int) -> str:
        n, _, time, channels = self.tensors[self.name].shape
        output = self._tensor(f"row_{row}", (n, 1, time, channels), self.tensors[self.name].affine)
        made.append(Op(convolution, (stack, *self._parameters(f"row_{row}", range(row, row + 1))), output))
        return output

    def _parameters(self, suffix: str, chosen: range) -> tuple[str, str]:
        """Weights (1, rows of the stack, 1, channels * chosen), the chosen rows fastest, and bias."""
        rows = self.rows
        channels = rows.image.shape[3]
        weights = np.zeros((rows.stack_rows, channels, len(chosen)), np.int8)
        scales, bias_scales = np.zeros((channels, len(chosen))), np.zeros((channels, len(chosen)))
        biases = np.zeros((channels, len(chosen)), np.int32)
        for column, row in enumerate(chosen):
            old_weights, old_bias = (self.tensors[name] for name in rows.convolutions[row].inputs[1:])
            assert old_weights.data is not None and old_bias.data is not None
            for source, values in zip(rows.sources[row], old_weights.data[0, :, 0], strict=True):
                weights[rows.place(source), :, column] = values
            scales[:, column] = old_weights.affine.scale.reshape(-1)
            bias_scales[:, column] = old_bias.affine.scale.reshape(-1)
            biases[:, column] = old_bias.data
        shape = (1, rows.stack_rows, 1, channels * len(chosen))
        weights_name, bias_name = f"{self.name}/{suffix}/weights", f"{self.name}/{suffix}/bias"
        self._constant(weights_name, weights.reshape(shape), Affine(scales.reshape(-1), 0, axis=3))
        self._constant(bias_name, biases.reshape(-1), Affine(bias_scales.reshape(-1), 0, axis=0))
        return weights_name, bias_name

    def _constant(self, name: str, data: npt.NDArray[np.int8] | npt.NDArray[np.int32], affine: Affine) -> None:
        dtype: DType = "int8" if data.dtype == np.int8 else "int32"
        self.tensors[name] = Tensor(name=name, shape=data.shape, affine=affine, dtype=dtype, data=data)

    def _tensor(self, suffix: str, shape: tuple[int, ...], affine: Affine) -> str:
        name = f"{self.name}/{suffix}"
        self.tensors[name] = Tensor(name=name, shape=shape, affine=affine)
        return name


def _without_unread(graph: Graph) -> Graph:
    """`graph` without ops whose output nobody reads, and without tensors that no op has."""
    read = {*graph.outputs}
    kept: list[Op] = []
    for op in reversed(graph.ops):
        if op.output in read:
            kept.append(op)
            read |= set(op.inputs)
    ops = tuple(reversed(kept))
    used = {*graph.inputs, *graph.outputs, *(name for op in ops for name in (*op.inputs, op.output))}
    return replace(graph, ops=ops, tensors={name: graph.tensors[name] for name in graph.tensors if name in used})
