"""An op of a quantized model as the cost formulas see it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Shape = tuple[int, ...]
Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class OpShape:
    """An op as the formulas see it; `kind` in the schema's spelling ("CONV_2D"), shapes NHWC, pairs (H, W).

    `inputs` are the operands of a sum, difference, product, maximum or minimum, the table or activation that GATHER
    takes from, the activations alone for all other ops. `dtype` is that of input and output ("int8", "int16"), or both
    where they differ ("int8 int16"). `groups` is 1 for a convolution over all channels.
    """

    kind: str
    inputs: tuple[Shape, ...]
    output: Shape
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    same_padding: bool = False
    groups: int = 1
    dtype: str = "int8"

    @property
    def is_broadcast(self) -> bool:
        return len(set(map(rank_4, self.inputs))) > 1

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
        along_height, along_width = self._inner_positions()
        return along_height * along_width

    @property
    def inner_kernel_rows(self) -> int:
        """Rows of the kernel that lie inside the input, summed over the output's pixels."""
        return self._inner_positions()[0] * image(self.output)[1]

    def _inner_positions(self) -> Pair:
        spans = zip(image(self.inputs[0]), image(self.output), self.kernel, self.stride, self.dilation, strict=True)
        height, width = (_inner_taps(*span, same_padding=self.same_padding) for span in spans)
        return height, width


def rank_4(shape: Sequence[int]) -> Shape:
    return (1,) * (4 - len(shape)) + tuple(shape)


def image(shape: Shape) -> Pair:
    """(H, W) of NHWC; missing leading dimensions are 1."""
    padded = rank_4(shape)
    return padded[-3], padded[-2]


def _inner_taps(size: int, outputs: int, kernel: int, stride: int, dilation: int, *, same_padding: bool) -> int:
    """Pairs of output and tap whose place in the input, output * stride + tap * dilation - padding, is in 0 .. size."""
    reach = (outputs - 1) * stride + (kernel - 1) * dilation + 1
    before = max(reach - size, 0) // 2 if same_padding else 0
    firsts = (max(0, up(before - tap * dilation, stride)) for tap in range(kernel))
    lasts = (min(outputs - 1, (size - 1 + before - tap * dilation) // stride) for tap in range(kernel))
    return sum(max(0, last - first + 1) for first, last in zip(firsts, lasts, strict=True))


def up(size: int, step: int) -> int:
    return -(-size // step)
