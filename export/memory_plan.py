"""How TFLM makes buffers that live at different times share memory (greedy_memory_planner.cc).

A model may bring a layout of its own in its metadata, `OfflineMemoryAllocation`; TFLM then plans around that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MEMORY_LAYOUT = "OfflineMemoryAllocation"


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
