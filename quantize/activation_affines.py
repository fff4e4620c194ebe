"""Ranges of activations -> the scale and zero point of each tensor."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx

from kws.errors import KwsError
from quantize.affine import PROBABILITY_AFFINES, Affine, StepType, affine_from_range
from quantize.calibration import Range, shared_ranges, shared_scale_groups
from quantize.ops import PROBABILITY_OPS, SHARED_SCALE_OPS

# Values beyond the range seen are not worth a bit of int8; of int16 they are, for 3 dB of logit SQNR on test clips.
INT16_HEADROOM = 2.0
# But logits go furthest where the model is surest, and nothing behind them makes up for what is clipped: 0.9 dB.
LOGIT_HEADROOM = 1.15


def activation_affines(
    model: onnx.ModelProto, ranges: Mapping[str, Range], dtype: StepType = "int8"
) -> dict[str, Affine]:
    """The affine of each activation; tensors tied together by ops that only move values get one.

    Raises KwsError if a tensor has no finite range, or has the fixed scale of a Sigmoid or Softmax and is tied to
    one that does not.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    names = [tensor.name for tensor in model.graph.input] + [name for node in model.graph.node for name in node.output]
    missing = [name for name in names if name not in ranges and name not in constants]
    if missing:
        raise KwsError(f"Tensor {missing[0]!r} has no range; calibrate the very model that is quantized.")
    makers = {node.output[0]: node for node in model.graph.node}
    headroom = dict.fromkeys(names, INT16_HEADROOM) if dtype == "int16" else _logit_headroom(model, makers)
    headroom |= dict.fromkeys(_ending_at_a_bound(model, makers), 1.0)
    affines = {}
    for name, span in shared_ranges(model, ranges).items():
        room = headroom.get(name, 1.0)
        try:
            affines[name] = affine_from_range(room * span.low, room * span.high, dtype)
        except KwsError as error:
            raise KwsError(f"Tensor {name!r}: {error}") from error
    fixed = {name for name, node in makers.items() if node.op_type in PROBABILITY_OPS}
    affines.update(dict.fromkeys(fixed, PROBABILITY_AFFINES[dtype]))
    for group in shared_scale_groups(model):
        sources = [name for name in group if name not in makers or makers[name].op_type not in SHARED_SCALE_OPS]
        if fixed.isdisjoint(sources):
            continue
        if not fixed.issuperset(sources):
            raise KwsError(
                f"Tensors {', '.join(map(repr, sources))} share one scale, but only some come from Sigmoid or Softmax, "
                "whose scale is fixed; move the concatenation in front of them."
            )
        affines.update(dict.fromkeys(group, PROBABILITY_AFFINES[dtype]))
    return affines


def _logit_headroom(model: onnx.ModelProto, makers: Mapping[str, onnx.NodeProto]) -> dict[str, float]:
    """LOGIT_HEADROOM for what the model puts out, or for what goes into the Softmax or Sigmoid at its end."""
    ends = [makers.get(output.name) for output in model.graph.output]
    logits = {node.input[0] if node.op_type in PROBABILITY_OPS else node.output[0] for node in ends if node is not None}
    return dict.fromkeys(_with_tied(model, logits), LOGIT_HEADROOM)


def _ending_at_a_bound(model: onnx.ModelProto, makers: Mapping[str, onnx.NodeProto]) -> set[str]:
    """What a Clip puts out, and tensors of its scale: there the integers end where the Clip does."""
    return _with_tied(model, {name for name, node in makers.items() if node.op_type == "Clip"})


def _with_tied(model: onnx.ModelProto, names: Collection[str]) -> set[str]:
    """`names` and all tensors of their scales."""
    return set(names).union(*(group for group in shared_scale_groups(model) if not set(group).isdisjoint(names)))
