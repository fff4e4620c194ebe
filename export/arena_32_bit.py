"""What TFLM's interpreter takes of the arena on a 32-bit Cortex-M, computed the way its allocator goes about it.

The arena's tail holds what lasts (the interpreter's own objects, a record for each tensor and node, what kernels keep),
its head the activations and scratch buffers. Sizes are those of TFLM of August 2026 with CMSIS-NN, compiled with
GCC 12 for the embedded ABI (one-byte enumerations).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from export.memory_plan import Buffer, planned_bytes, planned_offsets
from export.scratch_buffers import kernel_sums_bytes, scratch_bytes
from export.tflite_reader import FREE, OpFacts, TensorFacts, TfliteFacts

_ALIGNMENT_BYTES = 16
_WORD_BYTES = 4
# SingleArenaBufferAllocator, GreedyMemoryPlanner, MicroAllocator, MicroBuiltinDataAllocator, SubgraphAllocations.
_INTERPRETER_BYTES = (36, 44, 36, 8, 8)
_EVAL_TENSOR_BYTES = 12
_NODE_BYTES = 32
_TENSOR_BYTES = 32
_QUANTIZATION_BYTES = 12
_SCRATCH_HANDLE_BYTES = 4
# For the time of planning only: ScratchBufferRequest (with room for those of one more op), AllocationInfo, and the
# planner's own record of a buffer.
_SCRATCH_REQUEST_BYTES = 12
_SPARE_REQUESTS = 12
_ALLOCATION_BYTES = 24
_PLANNED_BUFFER_BYTES = 40
_SOFTMAX_TABLE_BYTES = 2 * 513


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """What an op keeps: its options as TFLM parses them, with their alignment, and its kernel's own data."""

    options: int = 0
    alignment: int = _WORD_BYTES
    data: int = 0


_POOL = _Kept(options=40, data=36)
_CONVOLUTION = _Kept(options=28, data=60)
_KEPT = {
    "ADD": _Kept(options=2, alignment=1, data=60),
    "AVERAGE_POOL_2D": _POOL,
    "CAST": _Kept(options=2, alignment=1),
    "CONCATENATION": _Kept(options=8, data=24),
    "CONV_2D": _CONVOLUTION,
    "DEPTHWISE_CONV_2D": _CONVOLUTION,
    "FULLY_CONNECTED": _Kept(options=5, alignment=1, data=72),
    "GATHER": _Kept(options=8, data=20),
    "HARD_SWISH": _Kept(data=20),
    "LEAKY_RELU": _Kept(options=4, data=24),
    "LOGISTIC": _Kept(data=16),
    "MAXIMUM": _Kept(),
    "MAX_POOL_2D": _POOL,
    "MEAN": _Kept(options=1, alignment=1, data=44),
    "MINIMUM": _Kept(),
    "MUL": _Kept(options=1, alignment=1, data=36),
    "PAD": _Kept(data=56),
    "QUANTIZE": _Kept(data=32),
    "RELU": _Kept(data=28),
    "RELU6": _Kept(data=8),
    "RESHAPE": _Kept(options=36),
    "SLICE": _Kept(),
    "SOFTMAX": _Kept(options=4, data=64),
    "SUB": _Kept(options=2, alignment=1, data=52),
    "TANH": _Kept(data=16),
    "TRANSPOSE": _Kept(),
}
# An op without an entry is taken to keep as much as the dearest.
_DEAREST = _Kept(options=40, data=80)


@dataclass(frozen=True, kw_only=True)
class Arena:
    """Bytes: `used` once the model is loaded, as `arena_used_bytes()` says; `planning` while it is being loaded."""

    used: int
    planning: int

    @property
    def needed(self) -> int:
        """The smallest arena, a multiple of 16 bytes, in which the model loads and runs."""
        return _up(max(self.used, self.planning), _ALIGNMENT_BYTES)


def arena_on(core: str, facts: TfliteFacts) -> Arena:
    """The arena for the model `facts` on `core` ("cortex_m4", "cortex_m55")."""
    scratch = _scratch(core, facts)
    planned_tail = _tail(0, _before_planning(facts, core, len(scratch)))
    tail = _tail(planned_tail, _after_planning(facts))
    buffers = _buffers(facts, scratch)
    return Arena(
        used=planned_bytes(buffers) + tail,
        planning=planned_tail + _planning_head(len(facts.tensors), len(scratch), len(buffers)),
    )


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A buffer at its place: `tensor` is the index of its activation, or None for the scratch buffer of op `first`."""

    tensor: int | None
    offset: int
    buffer: Buffer


def arena_layout(core: str, facts: TfliteFacts) -> list[Placed]:
    """Where TFLM puts activations and scratch buffers in the head of the arena on `core`."""
    scratch = _scratch(core, facts)
    buffers = _buffers(facts, scratch)
    indexes: list[int | None] = [index for index, tensor in enumerate(facts.tensors) if tensor.data is None]
    indexes += [None] * len(scratch)
    return [
        Placed(tensor=index, offset=offset, buffer=buffer)
        for index, offset, buffer in zip(indexes, planned_offsets(buffers), buffers, strict=True)
    ]


def _scratch(core: str, facts: TfliteFacts) -> list[tuple[int, int]]:
    """The index of an op and the bytes it asks for, for each scratch buffer."""
    return [
        (index, size) for index, op in enumerate(facts.operators) for size in scratch_bytes(op, facts.tensors, core)
    ]


def _tail(tail_bytes: int, pieces: Iterator[tuple[int, int]]) -> int:
    """`tail_bytes` with `pieces` (size, alignment) in front, each starting where its alignment allows."""
    for size, alignment in pieces:
        tail_bytes = _up(tail_bytes + size, alignment)
    return tail_bytes


def _before_planning(facts: TfliteFacts, core: str, scratch_buffers: int) -> Iterator[tuple[int, int]]:
    yield from ((size, _WORD_BYTES) for size in _INTERPRETER_BYTES)
    yield _EVAL_TENSOR_BYTES * len(facts.tensors), _WORD_BYTES
    yield _NODE_BYTES * len(facts.operators), _WORD_BYTES
    kept = [_KEPT.get(op.name, _DEAREST) for op in facts.operators]
    yield from ((each.options, each.alignment) for each in kept if each.options)
    yield from ((each.data, _ALIGNMENT_BYTES) for each in kept if each.data)
    for op in facts.operators:
        yield from ((size, _ALIGNMENT_BYTES) for size in _prepared(op, facts.tensors, core))
    if scratch_buffers:
        yield _SCRATCH_HANDLE_BYTES * scratch_buffers, _WORD_BYTES


def _prepared(op: OpFacts, tensors: Sequence[TensorFacts], core: str) -> list[int]:
    """Arrays that a kernel keeps besides its data: multipliers and shifts by channel, sums of weights, tables."""
    if op.name == "SOFTMAX":
        return [_SOFTMAX_TABLE_BYTES] * 2 if tensors[op.outputs[0]].dtype == "INT16" else []
    if op.name not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED") or len(op.inputs) < 2:
        return []
    channels = tensors[op.inputs[1]].scales
    by_channel = [_WORD_BYTES * channels] * 2
    if op.name != "FULLY_CONNECTED":
        return by_channel
    sums = kernel_sums_bytes(op, tensors, core)
    return (by_channel if channels > 1 else []) + ([sums] if sums else [])


def _after_planning(facts: TfliteFacts) -> Iterator[tuple[int, int]]:
    """The model's input and its output: a pointer to each, the tensor, its quantization."""
    for tensor in (facts.input, facts.output):
        yield _WORD_BYTES, _ALIGNMENT_BYTES
        yield _TENSOR_BYTES, _WORD_BYTES
        if tensor.scales:
            yield _QUANTIZATION_BYTES, _WORD_BYTES
            yield _WORD_BYTES * (1 + tensor.scales), _WORD_BYTES


def _planning_head(tensors: int, scratch_buffers: int, buffers: int) -> int:
    requests = _SCRATCH_REQUEST_BYTES * (scratch_buffers + _SPARE_REQUESTS)
    subgraph_offset = _WORD_BYTES
    allocations = _ALLOCATION_BYTES * (tensors + scratch_buffers)
    return _up(requests + subgraph_offset + allocations, _ALIGNMENT_BYTES) + _PLANNED_BUFFER_BYTES * buffers


def _buffers(facts: TfliteFacts, scratch: Sequence[tuple[int, int]]) -> list[Buffer]:
    """In TFLM's order, the model's input being there before the first op: activations by index, then scratch."""
    first: dict[int, int] = {facts.input_index: 0}
    last: dict[int, int] = {facts.input_index: 0}
    for time, op in enumerate(facts.operators, start=1):
        for index in op.outputs:
            first.setdefault(index, time)
        last.update(dict.fromkeys((*op.inputs, *op.outputs), time))
    first.setdefault(facts.output_index, len(facts.operators))
    last[facts.output_index] = len(facts.operators)
    activations = [
        Buffer(
            size_bytes=_up(tensor.size_bytes, _ALIGNMENT_BYTES),
            first=first.get(index, -1),
            last=last.get(index, -1),
            offset=None if not facts.offsets or facts.offsets[index] == FREE else facts.offsets[index],
        )
        for index, tensor in enumerate(facts.tensors)
        if tensor.data is None
    ]
    return activations + [
        Buffer(size_bytes=_up(size, _ALIGNMENT_BYTES), first=index + 1, last=index + 1) for index, size in scratch
    ]


def _up(size: int, step: int) -> int:
    return -(-size // step) * step
