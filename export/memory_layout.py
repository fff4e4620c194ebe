"""Where the activations of a model lie in memory: denser than TFLM finds, and told to it in the model's metadata."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, combinations

from export.graph import Graph
from export.shared_memory import ALIGNMENT_BYTES, Block, memory_blocks, shares

TRIES = 800
LARGEST = 4  # Every other move is one among the first quarter, which decides most.
Gaps = Sequence[Mapping[int, Sequence[tuple[int, int]]]]
"""For each block, those it meets, and between which distances it may not begin behind their beginning."""


def memory_layout(graph: Graph) -> dict[str, int]:
    """Offset in bytes of each activation of `graph` by name. The same graph gives the same layout."""
    blocks = memory_blocks(graph, shares(graph))
    assert blocks is not None
    placed = zip(packed_offsets(blocks), blocks, strict=True)
    return {name: offset + start for offset, block in placed for name, start in block.tensors.items()}


def packed_offsets(blocks: Sequence[Block], goal: int | None = None, tries: int = TRIES) -> list[int]:
    """Offsets, multiples of 16 bytes, at which no two blocks use the same byte at the same time.

    Each block takes the lowest place that is left, the largest first; that order is changed at random, a block at a
    time, wherever less of the blocks is then above `goal`, which is the most bytes in use unless it is given. The same
    blocks give the same offsets.
    """
    goal = most_in_use(blocks) if goal is None else goal
    order = sorted(range(len(blocks)), key=lambda index: (-blocks[index].size_bytes, -index))
    gaps = _gaps(blocks)
    best = found = _first_fit(gaps, order)
    above = bytes_above(goal, blocks, found)
    large, chance = -(-len(blocks) // LARGEST), random.Random(1)
    for attempt in range(tries):
        if above == 0:
            break
        moved = list(order)
        reach = len(order) if attempt % 2 else large
        moved.insert(chance.randrange(reach), moved.pop(chance.randrange(reach)))
        found = _first_fit(gaps, moved)
        if (higher := bytes_above(goal, blocks, found)) <= above:
            order, above = moved, higher
            best = min(best, found, key=lambda offsets: layout_bytes(blocks, offsets))
    return best


def layout_bytes(blocks: Sequence[Block], offsets: Sequence[int]) -> int:
    return max((offset + block.size_bytes for offset, block in zip(offsets, blocks, strict=True)), default=0)


def bytes_above(goal: int, blocks: Sequence[Block], offsets: Sequence[int]) -> int:
    """How far the blocks reach above `goal`, in sum."""
    return sum(max(0, offset + block.size_bytes - goal) for offset, block in zip(offsets, blocks, strict=True))


def most_in_use(blocks: Sequence[Block]) -> int:
    """The bytes that are in use at the same time, at most: no layout is smaller."""
    return max(bytes_in_use(blocks), default=0)


def bytes_in_use(blocks: Sequence[Block]) -> list[int]:
    """Before the first op, and while each runs."""
    spans = [span for block in blocks for span in block.spans]
    changes = [0] * (max((span.last for span in spans), default=0) + 2)
    for span in spans:
        changes[span.first] += span.stop - span.start
        changes[span.last + 1] -= span.stop - span.start
    return list(accumulate(changes[:-1]))


def _gaps(blocks: Sequence[Block]) -> Gaps:
    gaps: list[dict[int, list[tuple[int, int]]]] = [{} for _ in blocks]
    lives = [(min(span.first for span in block.spans), max(span.last for span in block.spans)) for block in blocks]
    for (i, block), (j, other) in combinations(enumerate(blocks), 2):
        if lives[i][0] > lives[j][1] or lives[j][0] > lives[i][1]:
            continue
        met = [
            (theirs.start - ours.stop, theirs.stop - ours.start)
            for ours in block.spans
            for theirs in other.spans
            if ours.first <= theirs.last and theirs.first <= ours.last
        ]
        if met:
            gaps[i][j] = met
            gaps[j][i] = [(-high, -low) for low, high in met]
    return gaps


def _first_fit(gaps: Gaps, order: Iterable[int]) -> list[int]:
    placed: dict[int, int] = {}
    for index in order:
        taken = sorted(
            (placed[other] + low, placed[other] + high)
            for other, met in gaps[index].items()
            if other in placed
            for low, high in met
        )
        offset = 0
        for low, high in taken:
            if low >= offset:
                break
            offset = max(offset, -(-high // ALIGNMENT_BYTES) * ALIGNMENT_BYTES)
        placed[index] = offset
    return [placed[index] for index in range(len(gaps))]
