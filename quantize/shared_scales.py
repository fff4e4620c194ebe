"""Weight scales that several layers share: a smaller file for coarser weights.

A scale takes four bytes for each output channel of a layer, 15 % of the file of a small network. Weights come into the
error of its logits far behind the activations in between, so some of their resolution can be spared: layers of as many
channels take the largest scale that any of them needs in each channel, and their file holds that vector once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx

from quantize.affine import FloatArray
from quantize.calibration import readers_by_tensor

# The mean over all layers of the relative increase of their weights' rounding error, as power.
MOST_NOISE = 2.3
BYTES_PER_SCALE = 4
BYTES_PER_VECTOR = 18  # its length and the table that points to it
_PASSING_OPS = ("Relu", "Add")
_ROW_AXES = (2, -2)


def share_scales(wanted: Mapping[str, FloatArray], joined: Iterable[Sequence[str]]) -> dict[str, FloatArray]:
    """`wanted` scales (channels,) of each layer's weights, raised until many are equal.

    Layers that are `joined`, which the device may compute as one, have one vector and count as one layer; else those
    are made equal first that save the most bytes for the noise that it makes, up to MOST_NOISE.
    """
    groups = [_Group.of(names, wanted) for names in joined]
    alone = set(wanted).difference(*(group.members for group in groups))
    groups += [_Group.of([name], wanted) for name in wanted if name in alone]
    noise = 0.0
    unions = [union for index, group in enumerate(groups) for union in _unions(group, groups[:index])]
    allowed = MOST_NOISE * len(groups)
    while fitting := [union for union in unions if noise + union.added_noise <= allowed]:
        best = min(fitting, key=lambda union: union.added_noise / union.saving)
        noise += best.added_noise
        groups = [group for group in groups if group not in best.parts]
        unions = [union for union in fitting if set(union.parts).isdisjoint(best.parts)] + _unions(best, groups)
        groups.append(best)
    return {name: group.scales for group in groups for name in group.members}


def joined_layers(model: onnx.ModelProto) -> list[list[str]]:
    """Convolutions of `model` of as many channels, by their outputs, that make the parts of one map: its rows."""
    readers = readers_by_tensor(model)
    channels = {tensor.name: tensor.dims[0] for tensor in model.graph.initializer if len(tensor.dims) == 4}
    parts: dict[tuple[str, int], list[str]] = {}
    for node in model.graph.node:
        if node.op_type == "Conv" and node.input[1] in channels:
            joint = _joint(node.output[0], readers)
            if joint is not None:
                parts.setdefault((joint, channels[node.input[1]]), []).append(node.output[0])
    return [names for names in parts.values() if len(names) > 1]


def _joint(name: str, readers: Mapping[str, Sequence[onnx.NodeProto]]) -> str | None:
    """The concatenation of rows that tensor `name` goes into, at most through ops that keep it a part of its own."""
    after = readers.get(name, ())
    while len(after) == 1 and after[0].op_type in _PASSING_OPS:
        after = readers.get(after[0].output[0], ())
    if len(after) != 1 or after[0].op_type != "Concat":
        return None
    axis = next(attribute.i for attribute in after[0].attribute if attribute.name == "axis")
    return after[0].output[0] if axis in _ROW_AXES else None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Group:
    """Layers that share `scales` (channels,); of two `parts`, if it is a union.

    `noise` is by how much the rounding errors of their weights grow, as power relative to what each layer's own
    scales make, in the mean over channels and summed over layers; `coarseness` (channels,) is what it grows with, per
    squared scale. `saving` is what a vector of its own takes in the file, in a union the smaller one of its parts.
    """

    members: tuple[str, ...]
    scales: FloatArray
    layers: int
    coarseness: FloatArray
    saving: int
    parts: tuple[_Group, ...] = ()

    @staticmethod
    def of(names: Sequence[str], wanted: Mapping[str, FloatArray]) -> _Group:
        """One layer, in parts called `names`."""
        vectors = np.stack([wanted[name] for name in names])
        scales = vectors.max(axis=0)
        return _Group(
            members=tuple(names),
            scales=scales,
            layers=1,
            coarseness=1 / np.square(scales),
            saving=BYTES_PER_SCALE * vectors.size + BYTES_PER_VECTOR,
        )

    @cached_property
    def noise(self) -> float:
        return float((np.square(self.scales) * self.coarseness).mean()) - self.layers

    @cached_property
    def added_noise(self) -> float:
        return self.noise - sum(part.noise for part in self.parts)


def _unions(group: _Group, others: Iterable[_Group]) -> list[_Group]:
    """Of `group` with each of `others` that has as many channels."""
    return [
        _Group(
            members=group.members + other.members,
            scales=np.maximum(group.scales, other.scales),
            layers=group.layers + other.layers,
            coarseness=group.coarseness + other.coarseness,
            saving=min(group.saving, other.saving),
            parts=(group, other),
        )
        for other in others
        if len(other.scales) == len(group.scales)
    ]
