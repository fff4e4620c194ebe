"""The kernels of TFLM and CMSIS-NN that run int8 ops, and what their instructions are proportional to."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Shape = tuple[int, ...]
Pair = tuple[int, int]
Quantities = dict[str, float]

CORES = ("cortex_m4", "cortex_m55")
CALL = "call"


@dataclass(frozen=True, kw_only=True)
class OpShape:
    """An op as the formulas see it; `kind` in the schema's spelling ("CONV_2D"), shapes NHWC, pairs (H, W).

    `inputs` are the activations and constants of the sum or product for ADD and MUL, the activations alone for all
    other ops. `groups` is 1 for a convolution over all channels.
    """

    kind: str
    inputs: tuple[Shape, ...]
    output: Shape
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    same_padding: bool = False
    groups: int = 1

    @property
    def elements(self) -> int:
        return math.prod(self.output)

    @property
    def input_elements(self) -> int:
        return math.prod(self.inputs[0])

    @property
    def channels(self) -> int:
        return self.output[-1] if self.output else 1

    @property
    def input_channels(self) -> int:
        return self.inputs[0][-1] if self.inputs[0] else 1

    @property
    def pixels(self) -> int:
        return self.elements // self.channels

    @property
    def taps(self) -> int:
        return math.prod(self.kernel)

    @property
    def macs(self) -> int:
        """Multiply-accumulates, those with padding included; 0 for ops other than convolutions and matrix products."""
        if self.kind == "CONV_2D":
            return self.elements * self.taps * self.input_channels // self.groups
        if self.kind == "DEPTHWISE_CONV_2D":
            return self.elements * self.taps
        return self.elements * self.input_channels if self.kind == "FULLY_CONNECTED" else 0

    @property
    def inner_taps(self) -> int:
        """Kernel positions that lie inside the input, summed over the output's pixels."""
        spans = zip(_image(self.inputs[0]), _image(self.output), self.kernel, self.stride, self.dilation, strict=True)
        return math.prod(_inner_taps(*span, same_padding=self.same_padding) for span in spans)


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A loop nest of TFLM or CMSIS-NN; `quantities` are what its instructions are proportional to.

    `slow` is '' for a fast CMSIS-NN kernel or a plain copy, else what makes the op miss one or ill suited to it.
    """

    name: str
    quantities: Callable[[OpShape], Quantities]
    slow: str = ""


def limits_of(op: OpShape) -> dict[str, int]:
    """What decides whether an op like `op` was measured; where nothing does, instructions are linear in the size."""
    if op.kind == "SOFTMAX":
        return {"classes": op.channels}
    if op.kind not in _WINDOWED:
        return {}
    return {
        "input channels": op.input_channels,
        "output channels": op.channels,
        "taps": op.taps,
        "stride": max(op.stride),
        "dilation": max(op.dilation),
        "groups": op.groups,
    }


def kernel_of(op: OpShape, core: str) -> Kernel | None:
    """The kernel that runs `op` on `core`; None for an op without a formula."""
    if op.kind == "CONV_2D":
        return _convolution(op, core)
    if op.kind == "DEPTHWISE_CONV_2D":
        return _depthwise(op, core)
    if op.kind in ("ADD", "MUL") and len(set(map(_rank_4, op.inputs))) > 1:
        return Kernel(name=f"{op.kind} broadcast", quantities=_broadcast, slow="broadcast")
    if core == "cortex_m55" and op.kind in _POOLS_M55:
        return Kernel(name=op.kind, quantities=_POOLS_M55[op.kind])
    return _KERNELS.get(op.kind)


def _convolution(op: OpShape, core: str) -> Kernel:
    on_m4 = core == "cortex_m4"
    slow = "one input channel" if op.input_channels // op.groups == 1 else ""
    if op.taps == 1:
        return Kernel(name="CONV_2D 1x1", quantities=_pointwise_m4 if on_m4 else _pointwise_m55)
    in_one_row = op.kernel[0] == 1 and _image(op.inputs[0])[0] == 1 and op.dilation == (1, 1)
    if not on_m4 and in_one_row and (op.stride[1] * op.input_channels) % 4 == 0:
        return Kernel(name="CONV_2D 1xN", quantities=_row_convolution_m55)
    return Kernel(name="CONV_2D", quantities=_convolution_m4 if on_m4 else _convolution_m55, slow=slow)


def _depthwise(op: OpShape, core: str) -> Kernel:
    if op.dilation != (1, 1) or op.channels != op.input_channels:
        slow = "dilated" if op.dilation != (1, 1) else "several outputs a channel"
        return Kernel(name="DEPTHWISE_CONV_2D dilated", quantities=_generic_depthwise, slow=slow)
    if core == "cortex_m55":
        return Kernel(name="DEPTHWISE_CONV_2D", quantities=_depthwise_m55)
    if op.kernel == (3, 3):
        return Kernel(name="DEPTHWISE_CONV_2D 3x3", quantities=_depthwise_3x3_m4)
    return Kernel(name="DEPTHWISE_CONV_2D", quantities=_depthwise_m4)


def _pointwise_m4(op: OpShape) -> Quantities:
    """Dot products in steps of 16 and then 4 channels."""
    sixteens, rest = divmod(op.input_channels, 16)
    fours, ones = divmod(rest, 4)
    each = op.elements
    return {
        CALL: 1,
        "output": each,
        "output x 16 channels": each * sixteens,
        "output x 4 channels": each * (fours + ones),
        "output with rest of channels": each if rest else 0,
    }


def _pointwise_m55(op: OpShape) -> Quantities:
    """Vectors of 16 channels."""
    vectors = op.elements * _up(op.input_channels, 16)
    return {CALL: 1, "pixel": op.pixels, "output": op.elements, "output x vector": vectors}


def _convolution_m4(op: OpShape) -> Quantities:
    """A pixel's patch is copied tap by tap and widened, then multiplied with each filter in steps of 4."""
    patch = op.taps * op.input_channels // op.groups
    pixels = op.pixels * op.groups
    return {
        "pixel": pixels,
        "pixel x tap": pixels * op.taps,
        "pixel x patch": pixels * patch,
        "output": op.elements,
        "output x 4 of patch": op.elements * (patch // 4),
        "output x rest of patch": op.elements * (patch % 4),
    }


def _convolution_m55(op: OpShape) -> Quantities:
    patch = op.taps * op.input_channels // op.groups
    pixels = op.pixels * op.groups
    vectors = op.elements * _up(patch, 16)
    return {"pixel": pixels, "pixel x tap": pixels * op.taps, "output": op.elements, "output x vector": vectors}


def _row_convolution_m55(op: OpShape) -> Quantities:
    """Without copying, but for the pixels at both ends of the row."""
    vectors = op.elements * _up(op.taps * op.input_channels, 16)
    return {CALL: 1, "filter": op.channels, "output": op.elements, "output x vector": vectors}


def _generic_depthwise(op: OpShape) -> Quantities:
    return {"output": op.elements, "output x tap": op.inner_taps * op.channels}


def _depthwise_3x3_m4(op: OpShape) -> Quantities:
    return {"pixel": op.pixels, "output": op.elements, "output x tap": op.inner_taps * op.channels}


def _depthwise_m4(op: OpShape) -> Quantities:
    """A pixel's patch is copied row by row, tap by tap, then multiplied for 4 channels at a time, 2 taps at a time."""
    return {
        "pixel": op.pixels,
        "pixel x kernel row": op.pixels * op.kernel[0],
        "pixel x tap": op.pixels * op.taps,
        "output": op.elements,
        "output x 2 taps": op.elements * (op.taps // 2),
        "output x rest of taps": op.elements * (op.taps % 2),
    }


def _depthwise_m55(op: OpShape) -> Quantities:
    """Copies in vectors of 16 channels; products of 4 pixels by 4 channels at a time, remaining pixels one by one."""
    quarters = _up(op.channels, 4)
    return {
        CALL: 1,
        "pixel": op.pixels,
        "pixel x kernel row": op.pixels * op.kernel[0],
        "pixel x tap": op.pixels * op.taps,
        "pixel x tap x 16 channels": op.pixels * op.taps * _up(op.channels, 16),
        "pixel x 4 channels": op.pixels * quarters,
        "pixel x 4 channels x tap": op.pixels * quarters * op.taps,
        "left-over pixel x 4 channels x tap": op.pixels % 4 * quarters * op.taps,
    }


def _broadcast(op: OpShape) -> Quantities:
    """Elements, and the runs over which neither operand is repeated."""
    run = 1
    for first, second in zip(*(reversed(_rank_4(shape)) for shape in op.inputs[:2]), strict=True):
        if first != second:
            break
        run *= first
    return {"run": op.elements // run, "element": op.elements}


def _average_pool_m4(op: OpShape) -> Quantities:
    rows = op.pixels * op.kernel[0]
    return {CALL: 1, "pixel x window row": rows, "output": op.elements, "output x tap": op.inner_taps * op.channels}


def _average_pool_m55(op: OpShape) -> Quantities:
    vectors = _up(op.channels, 16)
    return {
        CALL: 1,
        "pixel x vector": op.pixels * vectors,
        "window row x vector": op.pixels * op.kernel[0] * vectors,
        "tap x vector": op.inner_taps * vectors,
    }


def _max_pool_m4(op: OpShape) -> Quantities:
    return {"pixel": op.pixels, "output": op.elements, "output x tap": op.inner_taps * op.channels}


def _max_pool_m55(op: OpShape) -> Quantities:
    return {"pixel": op.pixels, "tap x vector": op.inner_taps * _up(op.channels, 16)}


def _elementwise(op: OpShape) -> Quantities:
    return {CALL: 1, "element": op.elements}


def _mean(op: OpShape) -> Quantities:
    return {"output": op.elements, "input": op.input_elements}


def _slice(op: OpShape) -> Quantities:
    return {CALL: 1, "run": op.pixels, "element": op.elements}


def _transpose(op: OpShape) -> Quantities:
    return {CALL: 1, "run": op.input_elements // op.input_channels, "element": op.elements}


def _concatenation(op: OpShape) -> Quantities:
    """One memcpy for each input and each step along the axes in front of the joined one."""
    axis = next((i for i, size in enumerate(op.output) if size != op.inputs[0][i]), 0)
    return {CALL: 1, "memcpy": len(op.inputs) * math.prod(op.output[:axis]), "copied byte": op.elements}


def _reshape(op: OpShape) -> Quantities:
    """Measured on 12 bytes only, so that a byte is taken to cost what it costs in CONCATENATION."""
    return {"reshape": 1, "copied byte": op.elements}


def _pad(op: OpShape) -> Quantities:
    return {CALL: 1, "row": _image(op.inputs[0])[0], "element": op.elements}


def _softmax(op: OpShape) -> Quantities:
    return {"element": op.elements}


_WINDOWED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D", "MAX_POOL_2D"})
_POOLS_M55 = {"AVERAGE_POOL_2D": _average_pool_m55, "MAX_POOL_2D": _max_pool_m55}
_REFERENCE = "reference loop"
_KERNELS = {
    kernel.name: kernel
    for kernel in (
        Kernel(name="ADD", quantities=_elementwise),
        Kernel(name="MUL", quantities=_elementwise),
        Kernel(name="RELU", quantities=_elementwise, slow=_REFERENCE),
        Kernel(name="RELU6", quantities=_elementwise, slow=_REFERENCE),
        Kernel(name="QUANTIZE", quantities=_elementwise, slow=_REFERENCE),
        Kernel(name="LOGISTIC", quantities=_elementwise, slow=_REFERENCE),
        Kernel(name="TANH", quantities=_elementwise, slow=_REFERENCE),
        Kernel(name="HARD_SWISH", quantities=_elementwise, slow=_REFERENCE),
        Kernel(name="MEAN", quantities=_mean, slow=_REFERENCE),
        Kernel(name="AVERAGE_POOL_2D", quantities=_average_pool_m4),
        Kernel(name="MAX_POOL_2D", quantities=_max_pool_m4),
        Kernel(name="SLICE", quantities=_slice),
        Kernel(name="TRANSPOSE", quantities=_transpose, slow="element by element"),
        Kernel(name="CONCATENATION", quantities=_concatenation),
        Kernel(name="RESHAPE", quantities=_reshape),
        Kernel(name="PAD", quantities=_pad),
        Kernel(name="SOFTMAX", quantities=_softmax),
    )
}


def _rank_4(shape: Sequence[int]) -> Shape:
    return (1,) * (4 - len(shape)) + tuple(shape)


def _image(shape: Shape) -> Pair:
    """(H, W) of NHWC; missing leading dimensions are 1."""
    padded = _rank_4(shape)
    return padded[-3], padded[-2]


def _inner_taps(size: int, outputs: int, kernel: int, stride: int, dilation: int, *, same_padding: bool) -> int:
    """Pairs of output and tap whose place in the input, output * stride + tap * dilation - padding, is in 0 .. size."""
    reach = (outputs - 1) * stride + (kernel - 1) * dilation + 1
    before = max(reach - size, 0) // 2 if same_padding else 0
    firsts = (max(0, _up(before - tap * dilation, stride)) for tap in range(kernel))
    lasts = (min(outputs - 1, (size - 1 + before - tap * dilation) // stride) for tap in range(kernel))
    return sum(max(0, last - first + 1) for first, last in zip(firsts, lasts, strict=True))


def _up(size: int, step: int) -> int:
    return -(-size // step)
