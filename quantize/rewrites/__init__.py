"""Exact rewrites of a float ONNX graph: they decide which tensors the device has, so they come before calibration.

Every pass keeps the function of the graph (up to float rounding) and leaves alone what it does not recognise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from kws.errors import KwsError
from quantize.rewrites.broadcast_sum import fold_broadcast_sum, join_pieces
from quantize.rewrites.canonical import constant_steps, explicit_pads, plain_pools_and_clips, plain_reshapes
from quantize.rewrites.cleanup import drop_allowzero, fold_constants
from quantize.rewrites.dense import fold_dense
from quantize.rewrites.frequency import (
    fold_affine_steps,
    fold_frequency_mean,
    means_to_convolutions,
    merge_shortcut,
)
from quantize.rewrites.hard import expand_hard_sigmoid, fuse_hard_swish
from quantize.rewrites.lift import lift_to_images
from quantize.rewrites.normalization import batch_norm_to_affine
from quantize.rewrites.plan import Plan
from quantize.rewrites.schedule import slice_late
from quantize.rewrites.stripes import stripe_wide_maps

Pass = Callable[[ir.Model], None]


def passes(plan: Plan) -> list[Pass]:
    """Every pass in its order; those without arguments are the same for all plans."""
    rows = plan.single_rows
    return [
        fold_constants,  # constants become initializers, identities and dropout go
        drop_allowzero,
        constant_steps,  # Sub, Div -> Add, Mul
        explicit_pads,  # auto_pad, count_include_pad -> pads
        plain_pools_and_clips,
        plain_reshapes,  # Squeeze, Unsqueeze, Flatten and harmless Transposes -> Reshape
        lift_to_images,  # (n, channels, time) -> (n, channels, 1, time)
        plain_reshapes,  # those that lifting made superfluous
        fuse_hard_swish,
        expand_hard_sigmoid,  # -> Mul, Add, Clip
        batch_norm_to_affine,  # BatchNormalization and SubSpectralNorm -> Mul, Add
        fold_frequency_mean,  # mean over H of (depthwise, Mul, Add) -> F x 1 depthwise convolution of its input
        partial(merge_shortcut, single_rows=rows),  # depthwise(x) + x -> depthwise'(x)
        partial(fold_affine_steps, single_rows=rows),  # (convolution, Mul, Add) -> a convolution, or one a band or row
        fold_dense,  # (Gemm or MatMul, Mul, Add) -> Gemm
        fold_broadcast_sum,  # relu(one-row convolutions + row) -> convolutions that read the row too
        partial(join_pieces, above=plan.multiplied_rows),  # slices of a concatenation, concatenated again -> its pieces
        partial(means_to_convolutions, over_time=plan.mean_as_convolution),  # its output has its own scale
        partial(stripe_wide_maps, stripes=plan.stripes),  # stem and pointwise convolution, part by part
        slice_late,  # copies are made right before they are read
    ]


OLDEST_OPSET = 17
DEFAULT_PLAN = Plan()


def rewrite(model: onnx.ModelProto, plan: Plan = DEFAULT_PLAN) -> onnx.ModelProto:
    """A new model that computes the same as `model`, in the forms that `plan` asks for; see `apply_passes`."""
    return apply_passes(model, passes(plan))


def apply_passes(model: onnx.ModelProto, chosen: Sequence[Pass]) -> onnx.ModelProto:
    """A new model that computes the same as `model`, with every tensor's shape written into it.

    Raises KwsError if `model` is no valid ONNX model, older than opset 17, has an input of dynamic shape or
    keeps its weights in other files.
    """
    _require_static(model)
    graph_model = ir.from_proto(model)
    for rewrite_pass in chosen:
        rewrite_pass(graph_model)
        common.RemoveUnusedNodesPass()(graph_model)
    common.DeduplicateInitializersPass()(graph_model)
    common.NameFixPass()(graph_model)
    return onnx.shape_inference.infer_shapes(ir.to_proto(graph_model), strict_mode=True)


def _require_static(model: onnx.ModelProto) -> None:
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise KwsError("The ONNX model keeps its weights in other files; save it with the weights inside.")
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise KwsError(f"The ONNX model is not valid ({reason}); export it again.") from error
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < OLDEST_OPSET:
        raise KwsError(f"The ONNX model has opset {opset}; export it with opset {OLDEST_OPSET} or newer.")
    for tensor in model.graph.input:
        if not all(dim.HasField("dim_value") and dim.dim_value > 0 for dim in tensor.type.tensor_type.shape.dim):
            raise KwsError(f"Input {tensor.name!r} of the ONNX model has a dynamic shape; export it with a fixed one.")
