"""How TFLM's GreedyMemoryPlanner lays out buffers that live at different times (greedy_memory_planner.cc)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Buffer:
    """`size_bytes` of memory needed from op `first` to op `last`, both included."""

    size_bytes: int
    first: int
    last: int


def planned_bytes(buffers: Sequence[Buffer]) -> int:
    """The size of the layout: the largest buffers are placed first, each into the lowest gap of its lifetime.

    Among equally large ones the later comes first, as in TFLM.
    """
    placed: list[tuple[int, Buffer]] = []
    for index in sorted(range(len(buffers)), key=lambda index: (-buffers[index].size_bytes, -index)):
        placed.append((_lowest_gap(buffers[index], placed), buffers[index]))
    return max((offset + buffer.size_bytes for offset, buffer in placed), default=0)


def _lowest_gap(wanted: Buffer, placed: Sequence[tuple[int, Buffer]]) -> int:
    end = 0
    neighbours = [(at, other) for at, other in placed if other.first <= wanted.last and wanted.first <= other.last]
    for offset, neighbour in sorted(neighbours, key=lambda entry: entry[0]):
        if offset - end >= wanted.size_bytes:
            break
        end = max(end, offset + neighbour.size_bytes)
    return end
