"""Cross-layer equalization: channels that share a scale are brought to like ranges, at no cost on the device.

As in Nagel et al. 2019 (arXiv:1906.04721), a convolution can put out each channel c times s[c] and the convolutions
that read it take weights divided by s[c]: the network stays the same in float. Here all tensors that additions, ReLUs
and data movers tie to one s are weighed together. int8 gives tensor k a step of its whole range after scaling, and
that step is noise of step / s[c] in channel c, so the best s minimises

    sum over k, c of (max over c of s[c] high[k, c] - min over c of s[c] low[k, c])^2 / s[c]^2
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from quantize.calibration import ChannelRange, input_name_and_shape, needed_low, readers_by_tensor
from quantize.fit import fitted_tensors

Array = npt.NDArray[np.float64]

# Part of the way is left: of a channel that is a little off, half; of one that is far off, this factor. A channel that
# fills its range is clipped as soon as a clip goes beyond what calibration saw.
HEADROOM = 1.4
SMALLEST_RANGE = 1e-3
STEPS = np.exp(np.linspace(-0.7, 0.7, 29))
MAX_SWEEPS = 30
CONVERGED = 1e-4

CHANNEL_AXIS = 1
TYING_OPS = frozenset({"Add", "Relu", "MaxPool", "AveragePool", "Slice", "Concat", "Pad"})


def equalize(model: onnx.ModelProto, seen: Mapping[str, ChannelRange]) -> onnx.ModelProto:
    """A new model that computes the same as the rewritten float `model`; `seen` are its ranges per channel."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    scale_of: dict[str, Array] = {}
    fitted = fitted_tensors(model)
    lasting = {name: span for name, span in seen.items() if name not in fitted}
    for group in _tied_tensors(model, constants):
        low, high = _ranges(model, group, lasting)
        if len(low):
            scale_of |= dict.fromkeys(group, with_headroom(balance(low, high)))
    equalized = onnx.ModelProto()
    equalized.CopyFrom(model)
    for node in equalized.graph.node:
        if node.op_type == "Conv":
            _rescale(equalized, node, constants, scale_of)
    used = {name for node in equalized.graph.node for name in node.input}
    kept = [tensor for tensor in equalized.graph.initializer if tensor.name in used]
    del equalized.graph.initializer[:]
    equalized.graph.initializer.extend(kept)
    return equalized


def balance(low: Array, high: Array) -> Array:
    """The s (channels,), of geometric mean 1, for tensors of ranges `low` <= 0 <= `high` (tensors, channels).

    Descends one channel at a time; the problem is convex in log s. Channels that are always zero keep s = 1.
    """
    peak = np.maximum(high, -low).max(axis=0)
    live = np.flatnonzero(peak > 0)
    scale = np.ones(low.shape[1])
    scale[live] = np.maximum(peak[live], SMALLEST_RANGE) ** -0.5
    lowest = np.inf
    for _ in range(MAX_SWEEPS):
        before = lowest
        for channel in live:
            costs = _costs(low, high, scale, int(channel), scale[channel] * STEPS)
            best = int(costs.argmin())
            scale[channel] *= STEPS[best]
            lowest = float(costs[best])
        if before - lowest < CONVERGED * lowest:
            break
    scale[live] /= np.exp(np.log(scale[live]).mean()) if len(live) else 1.0
    return scale


def with_headroom(scale: Array) -> Array:
    """s on the way from 1 to `scale` (channels,)."""
    whole = np.log(scale)
    moved: Array = np.exp(np.sign(whole) * np.maximum(np.abs(whole) / 2, np.abs(whole) - np.log(HEADROOM)))
    return moved


def _costs(low: Array, high: Array, scale: Array, channel: int, candidates: Array) -> Array:
    """The sum to minimise for each of `candidates` in place of scale[channel]."""
    others = np.arange(len(scale)) != channel
    top = np.maximum((scale * high)[:, others].max(axis=1, initial=0.0)[:, None], high[:, [channel]] * candidates)
    bottom = np.minimum((scale * low)[:, others].min(axis=1, initial=0.0)[:, None], low[:, [channel]] * candidates)
    noise: Array = ((top - bottom) ** 2).sum(axis=0) * ((scale[others] ** -2).sum() + candidates**-2)
    return noise


def _tied_tensors(model: onnx.ModelProto, constants: Mapping[str, Any]) -> list[list[str]]:
    """Groups of tensors that must share one s, each written and read by convolutions alone."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while (above := parent.setdefault(name, name)) != name:
            name = above
        return name

    fixed = {input_name_and_shape(model)[0], *(output.name for output in model.graph.output)}
    for node in model.graph.node:
        names = [name for name in node.input if name and name not in constants]
        mixing = _channel_mixing(node, constants) if node.op_type == "Conv" else None
        if _ties(node, len(names)):
            for name in names:
                parent[root(name)] = root(node.output[0])
        elif mixing is None:
            fixed |= {*names, *node.output}
        for name in (*names, *node.output):
            root(name)
    groups: dict[str, list[str]] = {}
    for name in parent:
        groups.setdefault(root(name), []).append(name)
    return [group for group in groups.values() if fixed.isdisjoint(group)]


def _ties(node: onnx.NodeProto, activations: int) -> bool:
    """Whether scaling a channel of all inputs of `node` scales that channel of its output."""
    if node.op_type == "Concat":
        return next(helper.get_attribute_value(a) for a in node.attribute if a.name == "axis") not in (
            CHANNEL_AXIS,
            CHANNEL_AXIS - 4,
        )
    return node.op_type in TYING_OPS and (node.op_type != "Add" or activations == 2)


def _channel_mixing(node: onnx.NodeProto, constants: Mapping[str, Any]) -> bool | None:
    """True for a convolution over all channels, False for one a channel (multiplier 1), None for any other."""
    weights = constants.get(node.input[1])
    group = next((a.i for a in node.attribute if a.name == "group"), 1)
    if weights is None or (len(node.input) > 2 and node.input[2] and node.input[2] not in constants):
        return None
    if group == 1:
        return True
    return False if group == weights.shape[0] and weights.shape[1] == 1 else None


def _ranges(model: onnx.ModelProto, group: Sequence[str], seen: Mapping[str, ChannelRange]) -> tuple[Array, Array]:
    """`low` and `high` (tensors, channels) of the tensors of `group` that int8 rounds, low <= 0 <= high."""
    readers = readers_by_tensor(model)
    makers = {name: node for node in model.graph.node for name in node.output}
    rounded = []
    for name in group:
        after = [node.op_type for node in readers.get(name, ())]
        fused = after == ["Relu"] and makers[name].op_type in ("Conv", "Add")
        moved = makers[name].op_type == "Slice" or after == ["Concat"]
        if name in seen and not fused and not moved:
            rounded.append(name)
    low = [np.minimum(needed_low(name, readers, seen), 0.0).reshape(-1) for name in rounded]
    high = [np.maximum(seen[name].high, 0.0).reshape(-1) for name in rounded]
    return np.array(low, np.float64), np.array(high, np.float64)


def _rescale(
    model: onnx.ModelProto,
    node: onnx.NodeProto,
    constants: Mapping[str, npt.NDArray[Any]],
    scale_of: Mapping[str, Array],
) -> None:
    """Give `node` weights and bias that read the scaled input and put out the scaled output."""
    source, target = scale_of.get(node.input[0]), scale_of.get(node.output[0])
    if source is None and target is None:
        return
    weights = constants[node.input[1]].astype(np.float64)
    if source is not None:
        per_input = (1, -1) if _channel_mixing(node, constants) else (-1, 1)
        weights = weights / source.reshape(*per_input, *(1,) * (weights.ndim - 2))
    if target is not None:
        weights = weights * target.reshape(-1, *(1,) * (weights.ndim - 1))
    node.input[1] = _add(model, f"{node.output[0]}/equalized_weight", weights)
    if target is not None and len(node.input) > 2 and node.input[2]:
        node.input[2] = _add(model, f"{node.output[0]}/equalized_bias", constants[node.input[2]] * target)


def _add(model: onnx.ModelProto, name: str, values: npt.NDArray[Any]) -> str:
    model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    return name
