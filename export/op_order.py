"""The order of ops decides what lives at the same time, and so how much memory the device needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from export.graph import Concatenation, Graph, Op
from export.memory_layout import bytes_above, bytes_in_use, most_in_use, packed_offsets
from export.shared_memory import Block, Share, memory_blocks, shares

ROUNDS = 20
# How many ops that wait for each other are moved together.
MOST_TOGETHER = 4
QUICK_TRIES = 60
LARGE = 4  # A map of a quarter of all memory is large.


def lower_peak(graph: Graph) -> Graph:
    """The same ops, those moved forward that lower the most memory in use at a time, one move after the other."""
    shared = shares(graph)
    least = _peak(graph, shared)
    for _ in range(ROUNDS):
        moves = [(_peak(moved, shared), moved) for moved in _moves(graph, busiest_op(graph, shared))]
        peak, moved = min(moves, key=lambda move: move[0], default=(least, graph))
        if peak >= least:
            break
        least, graph = peak, moved
    return graph


def busiest_op(graph: Graph, shared: frozenset[Share]) -> int:
    """The index of the first op at which the most memory is in use."""
    used = bytes_in_use(_blocks(graph, shared))
    return max(0, used.index(max(used)) - 1)


def turn_joins(graph: Graph) -> Graph:
    """The same ops; what is concatenated is made from its end on wherever memory is packed more densely so.

    A map that is made from its first row on can take the place of its source if it lies below, one that is made from
    its last row on if it lies above.
    """
    shared = shares(graph)
    blocks = _blocks(graph, shared)
    goal = most_in_use(blocks)
    least = _above(goal, blocks)
    large = [op for op in graph.ops if LARGE * graph.tensors[op.output].size_bytes >= goal]
    for join in [op for op in large if isinstance(op.attributes, Concatenation)]:
        turned = _turned(graph, join)
        found = memory_blocks(turned, shared) if turned is not None else None
        if turned is not None and found is not None and (above := _above(goal, found)) <= least:
            graph, least = turned, above
        if least == 0:
            break
    return graph


def _blocks(graph: Graph, shared: frozenset[Share]) -> list[Block]:
    blocks = memory_blocks(graph, shared)
    assert blocks is not None
    return blocks


def _above(goal: int, blocks: Sequence[Block]) -> int:
    return bytes_above(goal, blocks, packed_offsets(blocks, goal, QUICK_TRIES))


def _peak(graph: Graph, shared: frozenset[Share]) -> tuple[float, int]:
    """The most bytes in use at a time, and during how many ops; infinite if `shared` forbids the order."""
    blocks = memory_blocks(graph, shared)
    if blocks is None:
        return float("inf"), 0
    used = bytes_in_use(blocks)
    return max(used), used.count(max(used))


def _moves(graph: Graph, busiest: int) -> Iterator[Graph]:
    """That op moved forward, or a later one moved in front of it, each with what it waits for."""
    for index in range(busiest, len(graph.ops)):
        for place in range(busiest + 1) if index == busiest else (busiest,):
            moved = _moved(graph.ops, index, place)
            if moved is not None:
                yield replace(graph, ops=moved)


def _moved(ops: Sequence[Op], index: int, place: int) -> tuple[Op, ...] | None:
    """`ops` with that at `index`, and what it needs of those from `place` on, moved to `place`."""
    together, needed = [index], set(ops[index].inputs)
    for earlier in range(index - 1, place - 1, -1):
        if ops[earlier].output in needed:
            together.insert(0, earlier)
            needed |= set(ops[earlier].inputs)
    if len(together) > MOST_TOGETHER or together == list(range(place, place + len(together))):
        return None
    rest = [op for at, op in enumerate(ops) if at not in together]
    return (*rest[:place], *(ops[at] for at in together), *rest[place:])


def _turned(graph: Graph, join: Op) -> Graph | None:
    """What only one input of `join` needs is made right before `join`, the last input's first; None if others wait."""
    makers = {op.output: op for op in graph.ops}
    needs = [_needs(makers, name) for name in dict.fromkeys(join.inputs)]
    own = [needed.difference(*(other for other in needs if other is not needed)) for needed in needs]
    moved = set().union(*own)
    rest = [op for op in graph.ops if op.output not in moved]
    place = rest.index(join)
    if any(moved.intersection(op.inputs) for op in rest[:place]):
        return None
    groups = [[op for op in graph.ops if op.output in names] for names in reversed(own)]
    return replace(graph, ops=(*rest[:place], *(op for group in groups for op in group), *rest[place:]))


def _needs(makers: dict[str, Op], name: str) -> set[str]:
    """The outputs of all ops that `name` comes from, itself included."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        name = waiting.pop()
        if name in makers and name not in found:
            found.add(name)
            waiting += makers[name].inputs
    return found
