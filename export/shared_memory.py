"""Which activations can lie in each other's memory, and which bytes are in use when.

SLICE of whole rows, CONCATENATION of rows and RESHAPE leave bytes in their order: where input and output lie in the
same place they copy bytes onto themselves, and a map can be taken apart, used up and put together row by row. ADD and
MUL may overwrite the one of their inputs that nothing reads later, element by element.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise

from export.graph import Add, Concatenation, Conv2D, DepthwiseConv2D, Graph, Mul, Op, Pad, Reshape, Slice

ALIGNMENT_BYTES = 16
# Their kernels go from pixel to pixel and so meet any multiple of the channels; others may read aligned vectors.
_BY_PIXEL = (Conv2D, DepthwiseConv2D, Slice, Concatenation, Reshape, Pad)
_OVERWRITING = (Add, Mul)
Share = tuple[str, int]
"""The output of an op, and which of the op's inputs lies in its memory."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """Bytes start..stop-1 of a block, in use from op `first` to op `last`, both included (ops counted from 1)."""

    start: int
    stop: int
    first: int
    last: int


@dataclass(frozen=True, kw_only=True)
class Block:
    """Memory that is placed as a whole: where each of its tensors begins, and when which bytes are in use."""

    tensors: Mapping[str, int]
    spans: tuple[Span, ...]

    @property
    def size_bytes(self) -> int:
        return max(span.stop for span in self.spans)


def shares(graph: Graph) -> frozenset[Share]:
    """What may lie in each other, decided op after op wherever it overwrites nothing that is still to be read."""
    return _with_sound(graph, frozenset(), list(_candidates(graph)))


def _with_sound(graph: Graph, shared: frozenset[Share], more: Sequence[Share]) -> frozenset[Share]:
    """`shared` with those of `more` that go together with it and with those before them."""
    if _Arrangement(graph, shared.union(more)).is_sound():
        return shared.union(more)
    if len(more) == 1:
        return shared
    middle = len(more) // 2
    return _with_sound(graph, _with_sound(graph, shared, more[:middle]), more[middle:])


def memory_blocks(graph: Graph, shared: frozenset[Share] = frozenset()) -> list[Block] | None:
    """The memory of all activations of `graph`; None if `shared` does not go together with the order of its ops."""
    arrangement = _Arrangement(graph, shared)
    return arrangement.blocks() if arrangement.is_sound() else None


def _candidates(graph: Graph) -> Iterator[Share]:
    """But for those that hardly ever can: a slice in a concatenation, an input of two concatenations."""
    last_reader = {name: op for op in graph.ops for name in op.inputs}
    sliced = {op.output for op in graph.ops if isinstance(op.attributes, Slice)}
    joined = Counter(name for op in graph.ops if isinstance(op.attributes, Concatenation) for name in op.inputs)
    for op in graph.ops:
        places = [place for place in range(len(op.inputs)) if _start_in_memory(graph, op, place) is not None]
        if isinstance(op.attributes, _OVERWRITING):
            places = [place for place in places if last_reader[op.inputs[place]] is op][:1]
        if isinstance(op.attributes, Concatenation):
            places = [place for place in places if op.inputs[place] not in sliced and joined[op.inputs[place]] == 1]
        yield from ((op.output, place) for place in places)


def _start_in_memory(graph: Graph, op: Op, place: int) -> int | None:
    """Where input `place` of `op` begins, in bytes from the output's beginning; None if it cannot lie there."""
    tensors, attributes = graph.tensors, op.attributes
    given, made = tensors[op.inputs[place]], tensors[op.output]
    if given.data is not None or (place > 0 and isinstance(attributes, Reshape | Slice)):
        return None
    if isinstance(attributes, Reshape):
        return 0
    if isinstance(attributes, _OVERWRITING):
        others = [name for name in op.inputs if name != given.name]
        return 0 if given.shape == made.shape and given.dtype == made.dtype and len(others) == 1 else None
    if isinstance(attributes, Slice):
        axis = next((axis for axis, size in enumerate(given.shape) if size > 1), 0)
        whole = all(size == of for size, of in zip(attributes.size[axis + 1 :], given.shape[axis + 1 :], strict=True))
        return -attributes.begin[axis] * _stride_bytes(graph, given.name, axis) if whole else None
    if isinstance(attributes, Concatenation):
        if math.prod(made.shape[: attributes.axis]) > 1:
            return None
        return sum(tensors[name].size_bytes for name in op.inputs[:place])
    return None


def _stride_bytes(graph: Graph, name: str, axis: int) -> int:
    tensor = graph.tensors[name]
    return tensor.size_bytes // math.prod(tensor.shape[: axis + 1])


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """`size` bytes of a value from `start` on, which stand in a tensor from `at` on."""

    value: int
    start: int
    size: int
    at: int


@dataclass(kw_only=True)
class _Value:
    """Bytes that one op writes at `first`; `place` is where they begin in the block that `block` leads to."""

    size: int
    first: int
    block: int
    place: int
    overwrites: bool = False
    """Whether it lies where one of the inputs of the op that writes it lies."""
    uses: list[tuple[int, int, int]] = field(default_factory=list)
    """(first byte, byte behind the last, op) of each reading."""


class _Arrangement:
    """The values of a graph whose ops share memory as `shared` says, placed towards each other."""

    def __init__(self, graph: Graph, shared: frozenset[Share]) -> None:
        self._graph = graph
        self._shared = shared
        self._values: list[_Value] = []
        self._pieces: dict[str, tuple[_Piece, ...]] = {}
        self._sound = True
        for name in graph.inputs:
            self._pieces[name] = (self._new(graph.tensors[name].size_bytes, 0),)
        for time, op in enumerate(graph.ops, start=1):
            self._run(time, op)
        for name in graph.outputs:
            self._use(self._pieces[name], len(graph.ops))

    def blocks(self) -> list[Block]:
        grouped: dict[int, list[int]] = {}
        for index, value in enumerate(self._values):
            grouped.setdefault(value.block, []).append(index)
        return [self._block(members) for members in grouped.values()]

    def is_sound(self) -> bool:
        """Whether nothing is overwritten that is still to be read, and all begin where their kernels want them."""
        return self._sound and self._aligned() and not any(self._clash(a, b) for a, b in self._neighbours())

    def _run(self, time: int, op: Op) -> None:
        size = self._graph.tensors[op.output].size_bytes
        given = [name for name in op.inputs if name in self._pieces]
        here = [place for place in range(len(op.inputs)) if (op.output, place) in self._shared]
        copied = [name for place, name in enumerate(op.inputs) if place not in here and name in self._pieces]
        if not here or isinstance(op.attributes, _OVERWRITING):
            for name in given:
                self._use(self._pieces[name], time)
            made = self._new(size, time)
            self._pieces[op.output] = (made,)
            for place in here:
                self._overwrite(op, place, made.value)
            return
        for name in copied:
            self._use(self._pieces[name], time)
        self._pieces[op.output] = self._joined(op, here, time)
        self._use(self._pieces[op.output], time)

    def _overwrite(self, op: Op, place: int, value: int) -> None:
        overwritten = self._pieces[op.inputs[place]]
        others = {piece.value for name in op.inputs if name != op.inputs[place] for piece in self._pieces.get(name, ())}
        self._sound &= others.isdisjoint(piece.value for piece in overwritten)
        self._values[value].overwrites = True
        self._bind(value, 0, overwritten)

    def _joined(self, op: Op, here: Sequence[int], time: int) -> tuple[_Piece, ...]:
        """The output of an op that moves bytes, made of the pieces of the inputs that lie in it already."""
        size = self._graph.tensors[op.output].size_bytes
        if not isinstance(op.attributes, Concatenation):
            start = _start_in_memory(self._graph, op, 0)
            assert start is not None
            return tuple(_cut(self._pieces[op.inputs[0]], -start, size))
        joined: list[_Piece] = []
        at = 0
        for place, name in enumerate(op.inputs):
            size = self._graph.tensors[name].size_bytes
            pieces = self._pieces[name] if place in here else (self._new(size, time),)
            joined += [
                _Piece(value=piece.value, start=piece.start, size=piece.size, at=at + piece.at) for piece in pieces
            ]
            at += size
        first = joined[0]
        self._bind(first.value, first.start - first.at, joined)
        return tuple(joined)

    def _new(self, size: int, time: int) -> _Piece:
        index = len(self._values)
        self._values.append(_Value(size=size, first=time, block=index, place=0))
        return _Piece(value=index, start=0, size=size, at=0)

    def _use(self, pieces: Sequence[_Piece], time: int) -> None:
        for piece in pieces:
            self._values[piece.value].uses.append((piece.start, piece.start + piece.size, time))

    def _bind(self, value: int, start: int, pieces: Sequence[_Piece]) -> None:
        """A tensor made of `pieces` begins where byte `start` of `value` lies."""
        for piece in pieces:
            anchor, other = self._values[value], self._values[piece.value]
            shift = anchor.place + start + piece.at - piece.start - other.place
            if other.block == anchor.block:
                self._sound &= shift == 0
                continue
            for member in [member for member in self._values if member.block == other.block]:
                member.block, member.place = anchor.block, member.place + shift

    def _start(self, name: str) -> int:
        first = self._pieces[name][0]
        return self._values[first.value].place + first.start - first.at

    def _aligned(self) -> bool:
        odd = {name for name in self._pieces if self._start(name) % ALIGNMENT_BYTES}
        return all(
            isinstance(op.attributes, _BY_PIXEL) or odd.isdisjoint((*op.inputs, op.output)) for op in self._graph.ops
        ) and odd.isdisjoint((*self._graph.inputs, *self._graph.outputs))

    def _neighbours(self) -> Iterator[tuple[_Value, _Value]]:
        grouped: dict[int, list[_Value]] = {}
        for value in self._values:
            grouped.setdefault(value.block, []).append(value)
        for members in grouped.values():
            yield from combinations(members, 2)

    def _clash(self, earlier: _Value, later: _Value) -> bool:
        """Whether `later` takes bytes that are still to be read, `earlier` being written no later."""
        if later.place >= earlier.place + earlier.size or earlier.place >= later.place + later.size:
            return False
        allowed = later.first if later.overwrites else later.first - 1
        return any(
            span.last > allowed and span.start < later.place + later.size and later.place < span.stop
            for span in _spans(earlier)
        )

    def _block(self, members: Sequence[int]) -> Block:
        values = [self._values[index] for index in members]
        lowest = min(value.place for value in values)
        base = lowest - lowest % ALIGNMENT_BYTES
        inside = set(members)
        tensors = {name: self._start(name) - base for name, pieces in self._pieces.items() if pieces[0].value in inside}
        spans = [span for value in values for span in _spans(value)]
        return Block(
            tensors=tensors,
            spans=tuple(
                Span(start=span.start - base, stop=span.stop - base, first=span.first, last=span.last) for span in spans
            ),
        )


def _spans(value: _Value) -> Iterator[Span]:
    """The bytes of `value` where they lie in its block, parted where they are last read at different times.

    While it overwrites an input, the bytes count as the input's.
    """
    first = value.first + value.overwrites
    cuts = sorted({0, value.size, *(start for start, _, _ in value.uses), *(stop for _, stop, _ in value.uses)})
    for start, stop in pairwise(cuts):
        last = max((time for begin, end, time in value.uses if begin <= start and stop <= end), default=value.first)
        if first <= last:
            yield Span(start=value.place + start, stop=value.place + stop, first=first, last=last)


def _cut(pieces: Sequence[_Piece], start: int, size: int) -> Iterator[_Piece]:
    """Bytes start..start+size-1 of a tensor."""
    for piece in pieces:
        first, stop = max(piece.at, start), min(piece.at + piece.size, start + size)
        if first < stop:
            yield _Piece(value=piece.value, start=piece.start + first - piece.at, size=stop - first, at=first - start)
