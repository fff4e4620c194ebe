"""How buffers that live at different times share memory: TFLM's way (greedy_memory_planner.cc), and a denser one.

A model may bring a layout of its own in its metadata, `OfflineMemoryAllocation`; TFLM then plans around that.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from export.graph import Graph

ALIGNMENT_BYTES = 16
MEMORY_LAYOUT = "OfflineMemoryAllocation"
TRIES = 800
LARGEST = 4  # Every other move is one among the first quarter, which decides most.


@dataclass(frozen=True, kw_only=True)
class Buffer:
    """`size_bytes` of memory needed from op `first` to op `last`, both included; at `offset`, if the model says so."""

    size_bytes: int
    first: int
    last: int
    offset: int | None = None


def without_memory_layout(model: bytes) -> bytes:
    """`model` with its layout under a name that TFLM does not know: it refuses to preserve all tensors in one."""
    name = MEMORY_LAYOUT.encode()
    return model.replace(name, name.lower())


def activation_lifetimes(graph: Graph) -> dict[str, Buffer]:
    """When each activation of `graph` is needed, ops counted from 1; the model's input is there before the first."""
    first, last = dict.fromkeys(graph.inputs, 0), dict.fromkeys(graph.inputs, 0)
    for time, op in enumerate(graph.ops, start=1):
        first.setdefault(op.output, time)
        last.update(dict.fromkeys((*op.inputs, op.output), time))
    last.update(dict.fromkeys(graph.outputs, len(graph.ops)))
    return {
        name: Buffer(
            size_bytes=-(-graph.tensors[name].size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES,
            first=start,
            last=last[name],
        )
        for name, start in first.items()
    }


def planned_bytes(buffers: Sequence[Buffer]) -> int:
    """The size of TFLM's layout."""
    return _end(zip(planned_offsets(buffers), buffers, strict=True))


def planned_offsets(buffers: Sequence[Buffer]) -> list[int]:
    """TFLM's layout: the largest buffers are placed first, each into the lowest gap of its lifetime, around those that
    have an offset.

    Among equally large ones the later comes first, as in TFLM.
    """
    offsets = {index: buffer.offset for index, buffer in enumerate(buffers) if buffer.offset is not None}
    placed = [(offset, buffers[index]) for index, offset in offsets.items()]
    for index in sorted(range(len(buffers)), key=lambda index: (-buffers[index].size_bytes, -index)):
        if index not in offsets:
            offsets[index] = _lowest_gap(buffers[index], placed)
            placed.append((offsets[index], buffers[index]))
    return [offsets[index] for index in range(len(buffers))]


def packed_offsets(buffers: Sequence[Buffer]) -> list[int]:
    """Offsets in a layout at most as large as TFLM's. The same buffers give the same offsets.

    TFLM's order is changed at random, a buffer at a time, wherever that does not make the layout larger.
    """
    order = sorted(range(len(buffers)), key=lambda index: (-buffers[index].size_bytes, -index))
    best = _first_fit(buffers, order)
    large, least, chance = -(-len(buffers) // LARGEST), _most_alive(buffers), random.Random(1)
    for attempt in range(TRIES):
        if _end(best.values()) <= least:
            break
        moved = list(order)
        reach = len(order) if attempt % 2 else large
        moved.insert(chance.randrange(reach), moved.pop(chance.randrange(reach)))
        found = _first_fit(buffers, moved)
        if _end(found.values()) <= _end(best.values()):
            order, best = moved, found
    return [best[index][0] for index in range(len(buffers))]


def _first_fit(buffers: Sequence[Buffer], order: Iterable[int]) -> dict[int, tuple[int, Buffer]]:
    placed: dict[int, tuple[int, Buffer]] = {}
    for index in order:
        placed[index] = (_lowest_gap(buffers[index], list(placed.values())), buffers[index])
    return placed


def _most_alive(buffers: Sequence[Buffer]) -> int:
    """The bytes that are in use at the same time, at most: no layout is smaller."""
    times = {buffer.first for buffer in buffers}
    return max(
        (sum(buffer.size_bytes for buffer in buffers if buffer.first <= time <= buffer.last) for time in times),
        default=0,
    )


def _end(placed: Iterable[tuple[int, Buffer]]) -> int:
    return max((offset + buffer.size_bytes for offset, buffer in placed), default=0)


def _lowest_gap(wanted: Buffer, placed: Sequence[tuple[int, Buffer]]) -> int:
    end = 0
    neighbours = [(at, other) for at, other in placed if other.first <= wanted.last and wanted.first <= other.last]
    for offset, neighbour in sorted(neighbours, key=lambda entry: entry[0]):
        if offset - end >= wanted.size_bytes:
            break
        end = max(end, offset + neighbour.size_bytes)
    return end
