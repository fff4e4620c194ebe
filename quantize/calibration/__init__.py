"""Value ranges of all activations, measured on calibration clips and cut where int8 needs less."""

from __future__ import annotations

import onnx

from quantize.calibration.activations import activations, input_name_and_shape, min_max
from quantize.calibration.histograms import Histogram, counted
from quantize.calibration.methods import choose_range
from quantize.calibration.ranges import ChannelRange, FloatArray, Range
from quantize.calibration.sharing import (
    cut_below_relu,
    needed_low,
    readers_by_tensor,
    shared_ranges,
    shared_scale_groups,
)
from quantize.ops import SHARED_SCALE_OPS

__all__ = [
    "ChannelRange",
    "FloatArray",
    "Range",
    "activations",
    "calibrate",
    "cut_below_relu",
    "input_name_and_shape",
    "min_max",
    "needed_low",
    "readers_by_tensor",
    "shared_ranges",
    "shared_scale_groups",
]


def calibrate(model: onnx.ModelProto, features: FloatArray, method: str = "min-max") -> dict[str, Range]:
    """The range of every activation of a rewritten float `model`, by tensor name.

    `features` are float32 (clips, 1, mel_bands, frames); `method` is one of RANGE_METHODS. Tensors that share a scale
    on the device (the inputs and outputs of SHARED_SCALE_OPS) share a range, chosen by the values of all that are not
    merely moved. Raises KwsError if there are no clips, they do not fit the input of the model, or weights or
    activations hold NaN or infinity.
    """
    sources = {} if method == "min-max" else _sources(model)
    histograms = {name: Histogram() for names in sources.values() for name in names}
    seen = min_max(counted(activations(model, features), histograms))
    whole = {name: channels.whole for name, channels in seen.items()}
    ranges = cut_below_relu(model, shared_ranges(model, whole), seen)
    for group, names in sources.items():
        merged, span = Histogram.of_all(histograms[name] for name in names), ranges[group[0]]
        ranges |= dict.fromkeys(group, choose_range(method, merged, span))
    return ranges


def _sources(model: onnx.ModelProto) -> dict[tuple[str, ...], list[str]]:
    """Each group of activations with one scale, and those of its tensors whose values are not moved from others."""
    makers = {node.output[0]: node for node in model.graph.node}
    names = [input_name_and_shape(model)[0], *makers]
    group_of = {name: group for group in shared_scale_groups(model) for name in group}
    groups = dict.fromkeys(group_of.get(name, (name,)) for name in names)
    return {
        group: [name for name in group if name not in makers or makers[name].op_type not in SHARED_SCALE_OPS]
        for group in groups
    }
