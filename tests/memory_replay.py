"""A graph run on numbered bytes: whether a layout keeps every byte until it is read for the last time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count

import numpy as np
import numpy.typing as npt

from export.graph import Add, Concatenation, Graph, Mul, Op, Reshape, Slice

Bytes = npt.NDArray[np.int64]


def spoilt_tensors(graph: Graph, offsets: Mapping[str, int]) -> list[str]:
    """The activations of which a byte that is read is not what it was, or is destroyed by the op that reads it.

    Every byte that an op computes gets a number of its own; slices, concatenations and reshapes move numbers. These
    may copy bytes onto themselves, ADD and MUL may overwrite an input of the output's shape.
    """
    fresh = count()
    sizes = {name: tensor.size_bytes for name, tensor in graph.tensors.items()}
    memory = np.full(max(offsets[name] + sizes[name] for name in offsets), -1, np.int64)
    written = {name: _new(fresh, size) for name, size in sizes.items() if name not in offsets}
    spoilt: list[str] = []

    def place(name: str) -> slice:
        return slice(offsets[name], offsets[name] + sizes[name])

    def lies(name: str) -> Bytes:
        return memory[place(name)] if name in offsets else written[name]

    for name in graph.inputs:
        memory[place(name)] = written[name] = _new(fresh, sizes[name])
    for op in graph.ops:
        made, moved = _moved(graph, op, written), _moved(graph, op, {name: lies(name) for name in op.inputs})
        if made is None or moved is None:
            spoilt += [name for name in op.inputs if not np.array_equal(lies(name), written[name])]
            made = _new(fresh, sizes[op.output])
            spoilt += [name for name in op.inputs if name in offsets and not _may_write(graph, op, name, offsets)]
        else:
            spoilt += [op.output] if not np.array_equal(made, moved) else []
            before = memory.copy()
            memory[place(op.output)] = made
            spoilt += [
                name for name in op.inputs if name in offsets and _tears(before, memory, place(name), place(op.output))
            ]
        memory[place(op.output)] = written[op.output] = made
    return spoilt + [name for name in graph.outputs if not np.array_equal(lies(name), written[name])]


def _new(fresh: Iterator[int], size: int) -> Bytes:
    return np.array([next(fresh) for _ in range(size)], np.int64)


def _may_write(graph: Graph, op: Op, name: str, offsets: Mapping[str, int]) -> bool:
    """Whether `op` may write its output where it lies while it reads `name`."""
    given, made = graph.tensors[name], graph.tensors[op.output]
    start, stop = offsets[name], offsets[name] + given.size_bytes
    apart = stop <= offsets[op.output] or offsets[op.output] + made.size_bytes <= start
    same = start == offsets[op.output] and given.shape == made.shape
    return apart or (same and isinstance(op.attributes, Add | Mul))


def _tears(before: Bytes, after: Bytes, source: slice, target: slice) -> bool:
    """Whether a copy to `target` changes bytes of `source`."""
    start, stop = max(source.start, target.start), min(source.stop, target.stop)
    return start < stop and not np.array_equal(before[start:stop], after[start:stop])


def _moved(graph: Graph, op: Op, numbers_of: Mapping[str, Bytes]) -> Bytes | None:
    """The numbers of the output of an op that only moves them."""
    if not isinstance(op.attributes, Reshape | Slice | Concatenation):
        return None
    item = np.dtype(graph.tensors[op.output].dtype).itemsize
    given = [numbers_of[name].reshape(*graph.tensors[name].shape, item) for name in op.inputs]
    if isinstance(op.attributes, Reshape):
        return given[0].reshape(-1)
    if isinstance(op.attributes, Slice):
        ranges = zip(op.attributes.begin, op.attributes.size, strict=True)
        return given[0][tuple(slice(begin, begin + size) for begin, size in ranges)].reshape(-1)
    return np.concatenate(given, axis=op.attributes.axis).reshape(-1)
