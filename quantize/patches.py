"""What the weights of a layer meet at its input: second moments of its patches over clips and positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from onnx import helper

from quantize.affine import FloatArray
from quantize.qdq import output_channel_axis

CLIPS_AT_ONCE = 20

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Moments:
    """`raw` E[x x'] (channels, taps, taps) and `mean` E[x] (channels, taps) of what each output channel weighs."""

    raw: Array
    mean: Array

    @property
    def centred(self) -> Array:
        """The covariance of x."""
        covariance: Array = self.raw - self.mean[:, :, None] * self.mean[:, None, :]
        return covariance


def input_moments(node: onnx.NodeProto, values: FloatArray, weight_shape: tuple[int, ...]) -> Moments:
    """Of a Conv over images, a Gemm or a MatMul whose input is `values`, (clips, channels, height, width) or (clips,
    channels)."""
    products, sums, rows = np.zeros(()), np.zeros(()), 0
    for first in range(0, len(values), CLIPS_AT_ONCE):
        patches = _patches(node, values[first : first + CLIPS_AT_ONCE], weight_shape)
        products = products + np.matmul(patches.transpose(0, 2, 1), patches).astype(np.float64)
        sums = sums + patches.sum(axis=1, dtype=np.float64)
        rows += patches.shape[1]
    channels = weight_shape[output_channel_axis(node)]
    return Moments(raw=_for_each(products / rows, channels), mean=_for_each(sums / rows, channels))


def _patches(node: onnx.NodeProto, values: FloatArray, weight_shape: tuple[int, ...]) -> FloatArray:
    """float32 (groups, rows, taps): the inputs that meet the weights of an output channel of each group."""
    if node.op_type != "Conv":
        return values.reshape(1, -1, values.shape[-1])
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    (top, left, bottom, right), group = attributes.get("pads", [0] * 4), attributes.get("group", 1)
    padded = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)))
    dilations, strides = attributes.get("dilations", [1, 1]), attributes.get("strides", [1, 1])
    kernel = weight_shape[2:]
    spans = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    windows = sliding_window_view(padded, spans, axis=(2, 3))
    windows = windows[:, :, :: strides[0], :: strides[1], :: dilations[0], :: dilations[1]]
    clips, channels, height, width = windows.shape[:4]
    by_group = windows.reshape(clips, group, channels // group, height, width, *kernel)
    patches: FloatArray = by_group.transpose(1, 0, 3, 4, 2, 5, 6).reshape(group, clips * height * width, -1)
    return patches


def _for_each(of_groups: Array, channels: int) -> Array:
    """What the groups have, repeated (as a view, if there is one group) for the output channels of each."""
    if len(of_groups) == 1:
        return np.broadcast_to(of_groups, (channels, *of_groups.shape[1:]))
    return np.repeat(of_groups, channels // len(of_groups), axis=0)
