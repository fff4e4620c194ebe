"""The scratch buffers that TFLM's kernels ask for during one op, with CMSIS-NN on Cortex-M4 and Cortex-M55.

After the `get_buffer_size` functions of CMSIS-NN (of August 2026, as GCC compiles them) and TFLM's `reduce_common.cc`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from export.op_shape import Shape
from export.tflite_reader import NO_TENSOR, OpFacts, TensorFacts, WindowFacts

_INT32_BYTES = 4
_INT16_BYTES = 2
_VECTOR_BYTES = 16
# CMSIS-NN's CH_IN_BLOCK_MVE; it works on four pixels at a time.
_DEPTHWISE_BLOCK = 124
_PIXELS_AT_ONCE = 4


@dataclass(frozen=True, kw_only=True)
class _Convolution:
    """Of rank 4 in all; `weights` (O, kernel H, kernel W, I), for a depthwise one (1, kernel H, kernel W, O)."""

    window: WindowFacts
    dtype: str
    input: Shape
    weights: Shape
    output: Shape

    @property
    def channels(self) -> int:
        return self.input[3]

    @property
    def taps(self) -> int:
        return self.weights[1] * self.weights[2]


def scratch_bytes(op: OpFacts, tensors: Sequence[TensorFacts], core: str) -> list[int]:
    """The sizes that `op` requests on `core`, in the order of the requests; none for an op that TFLM would refuse."""
    operands = [tensors[index] for index in op.inputs if index != NO_TENSOR]
    if not operands:
        return []
    output = tensors[op.outputs[0]].shape
    if op.name == "MEAN" and len(operands) == 2:
        return [
            _INT32_BYTES * size for size in (math.prod(output), len(operands[0].shape), math.prod(operands[1].shape))
        ]
    size = 0
    if op.name == "AVERAGE_POOL_2D" and core == "cortex_m4":
        size = _INT32_BYTES * math.prod(operands[0].shape[-1:])
    elif op.name == "FULLY_CONNECTED" and _runs_as_convolution(op, tensors) and operands[1].scales == 1:
        size = 2 * _INT32_BYTES * output[-1]
    elif op.window is not None and len(operands) > 1:
        shapes = (operands[0].shape, operands[1].shape, output)
        if all(len(shape) == 4 for shape in shapes):
            size = _of_convolution(op.name, op.window, operands[0].dtype, shapes, core)
    return [size] if size else []


def kernel_sums_bytes(op: OpFacts, tensors: Sequence[TensorFacts], core: str) -> int:
    """Of an int8 FULLY_CONNECTED on Cortex-M55: the sums of its weights, kept for good."""
    if core != "cortex_m55" or tensors[op.inputs[0]].dtype != "INT8" or _runs_as_convolution(op, tensors):
        return 0
    return _INT32_BYTES * math.prod(tensors[op.outputs[0]].shape[-1:])


def _runs_as_convolution(op: OpFacts, tensors: Sequence[TensorFacts]) -> bool:
    """Whether TFLM takes a FULLY_CONNECTED for a 1 x 1 convolution."""
    if len(op.inputs) < 2 or tensors[op.inputs[0]].dtype != "INT8":
        return False
    return len(tensors[op.outputs[0]].shape) > 2 and math.prod(tensors[op.inputs[1]].shape[-1:]) % 4 == 0


def _of_convolution(name: str, window: WindowFacts, dtype: str, shapes: tuple[Shape, Shape, Shape], core: str) -> int:
    conv = _Convolution(window=window, dtype=dtype, input=shapes[0], weights=shapes[1], output=shapes[2])
    if name == "CONV_2D":
        return _int8_convolution(conv, core) if dtype == "INT8" else _int16_convolution(conv, core)
    return _int8_depthwise(conv, core) if dtype == "INT8" else 0


def _int16_convolution(conv: _Convolution, core: str) -> int:
    patch_bytes = _INT16_BYTES * conv.channels * conv.taps
    return _PIXELS_AT_ONCE * _up(patch_bytes, _VECTOR_BYTES) if core == "cortex_m55" else 2 * patch_bytes


def _int8_convolution(conv: _Convolution, core: str) -> int:
    ungrouped = conv.channels == conv.weights[3]
    if ungrouped and conv.taps == 1:
        return 0
    patch = conv.channels * conv.taps
    if core == "cortex_m4":
        return 2 * _INT16_BYTES * _up(patch, 4)
    window = conv.window
    in_one_row = conv.weights[1] == 1 and conv.input[1] == 1 and window.dilation[1] == 1
    if ungrouped and in_one_row and window.stride[1] * conv.channels % 4 == 0:
        return _row_convolution(conv)
    return _PIXELS_AT_ONCE * _up(patch, _VECTOR_BYTES)


def _row_convolution(conv: _Convolution) -> int:
    """A 1 x N convolution on Cortex-M55 copies only the ends of the row."""
    channels, stride, kernel, outputs = conv.channels, conv.window.stride[1], conv.weights[2], conv.output[2]
    reach = (outputs - 1) * stride + kernel - conv.input[2]
    before = max(reach, 0) // 2
    # The remainder of C's division, which takes the sign of `reach`.
    odd = int(math.fmod(reach, 2))
    at_left = max(1, _up(before, stride) // stride) if before else 0
    at_right = max(1, _up(before + odd, stride) // stride) if before + odd else 0
    if at_left + at_right > outputs:
        return _PIXELS_AT_ONCE * _up(channels * kernel, _VECTOR_BYTES)
    after = at_right if odd else before
    return channels * max(kernel + before, kernel - 1 + after)


def _int8_depthwise(conv: _Convolution, core: str) -> int:
    outputs = conv.output[3]
    if core == "cortex_m55" and conv.channels == 1 and outputs > 1:
        # An upper bound: TFLM leaves the stride unset here, and a 1 x N kernel may pass for a row convolution.
        return _PIXELS_AT_ONCE * _up(conv.taps, _VECTOR_BYTES) + outputs * conv.taps
    if conv.channels != outputs or conv.window.dilation != (1, 1):
        return 0
    if core == "cortex_m55":
        return _PIXELS_AT_ONCE * _DEPTHWISE_BLOCK * conv.taps
    if conv.weights[1:3] == (3, 3) and _is_padded_by_at_most_one(conv):
        return 0
    return _INT16_BYTES * conv.channels * conv.taps


def _is_padded_by_at_most_one(conv: _Convolution) -> bool:
    sizes = zip(conv.input[1:3], conv.output[1:3], conv.weights[1:3], conv.window.stride, strict=True)
    return all(((output - 1) * stride + kernel - size) // 2 <= 1 for size, output, kernel, stride in sizes)


def _up(size: int, step: int) -> int:
    return -(-size // step) * step
