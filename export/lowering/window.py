"""Where a convolution or pool window slides: ONNX pads against TFLite's SAME and VALID."""

from __future__ import annotations

from dataclasses import dataclass

from export.graph import Pad, Padding, Pair, Tensor
from export.lowering.context import Context
from export.lowering.qdq import REMEDY, Node
from kws.errors import KwsError
from quantize.affine import INT32_MAX


@dataclass(frozen=True, kw_only=True)
class Window:
    """Attributes of an ONNX Conv or Pool node, each (along H, along W)."""

    kernel: Pair
    stride: Pair
    dilation: Pair
    pads_before: Pair
    pads_after: Pair

    @staticmethod
    def of(node: Node, kernel: Pair) -> Window:
        """Raises KwsError for automatic, negative or rounded-up padding and for anything not two-dimensional."""
        stride, dilation = node.ints("strides", (1, 1)), node.ints("dilations", (1, 1))
        pads = node.ints("pads", (0, 0, 0, 0))
        if node.attributes.get("auto_pad", b"NOTSET") != b"NOTSET" or node.attributes.get("ceil_mode", 0):
            raise KwsError(f"{node}: auto_pad and ceil_mode are not supported; write the pads out.")
        if len(stride) != 2 or len(dilation) != 2 or len(pads) != 4:
            raise KwsError(f"{node}: needs two-dimensional strides, dilations and pads; change the model.")
        if min(*kernel, *stride, *dilation) < 1 or min(pads) < 0 or max(*stride, *dilation) > INT32_MAX:
            raise KwsError(f"{node}: has a kernel, stride, dilation or pad out of range; {REMEDY}.")
        return Window(
            kernel=kernel,
            stride=(stride[0], stride[1]),
            dilation=(dilation[0], dilation[1]),
            pads_before=(pads[0], pads[1]),
            pads_after=(pads[2], pads[3]),
        )

    def output_size(self, node: Node, size: Pair) -> Pair:
        """(H, W) of the output for an input of (H, W). Raises KwsError if the window does not fit."""
        room = [size[i] + self.pads_before[i] + self.pads_after[i] - self._reach(i) for i in (0, 1)]
        if min(room) < 0:
            raise KwsError(f"{node}: its window is larger than its input of {size}; change the model.")
        return room[0] // self.stride[0] + 1, room[1] // self.stride[1] + 1

    def padding(self, size: Pair) -> Padding | None:
        """VALID or SAME if TFLite's padding of that name is the one asked for, else None."""
        if self.pads_before == self.pads_after == (0, 0):
            return Padding.VALID
        same = all(self._same_pads(i, size[i]) == (self.pads_before[i], self.pads_after[i]) for i in (0, 1))
        return Padding.SAME if same else None

    def _reach(self, i: int) -> int:
        return (self.kernel[i] - 1) * self.dilation[i] + 1

    def _same_pads(self, i: int, size: int) -> Pair:
        outputs = -(-size // self.stride[i])
        total = max((outputs - 1) * self.stride[i] + self._reach(i) - size, 0)
        return total // 2, total - total // 2


def padded(context: Context, x: Tensor, window: Window) -> tuple[Tensor, Padding]:
    """`x` and the padding that gives `window`; where neither name fits, `x` behind a PAD, made once per tensor."""
    size: Pair = (x.shape[1], x.shape[2])
    padding = window.padding(size)
    if padding is not None:
        return x, padding
    (top, left), (bottom, right) = window.pads_before, window.pads_after
    name = f"{x.name}/pad_{top}_{left}_{bottom}_{right}"
    if name not in context.tensors:
        paddings = ((0, 0), (top, bottom), (left, right), (0, 0))
        shape = (1, size[0] + top + bottom, size[1] + left + right, x.shape[3])
        context.emit_between(Pad(paddings=paddings), [x], name, shape)
    return context.tensors[name], Padding.VALID
