"""Float ONNX -> prepared float ONNX -> QDQ ONNX, as `QuantizeOptions` and a `Plan` say."""

from __future__ import annotations

import onnx

from quantize.affine import FloatArray
from quantize.calibration import activations, calibrate, min_max
from quantize.equalization import equalize
from quantize.fit import fit_stacked_rows
from quantize.hard_swish import expand_hard_swish
from quantize.options import QuantizeOptions
from quantize.qdq import quantize_model
from quantize.recovery import recover
from quantize.rewrites import DEFAULT_PLAN, rewrite
from quantize.rewrites.plan import Plan


def prepare(
    float_model: onnx.ModelProto, calibration: FloatArray, options: QuantizeOptions, plan: Plan = DEFAULT_PLAN
) -> onnx.ModelProto:
    """The same function with the tensors that the device will have, their channels in like ranges on `calibration`."""
    prepared = rewrite(float_model, plan)
    if options.equalization:
        prepared = equalize(prepared, min_max(activations(prepared, calibration)))
    fitted = fit_stacked_rows(prepared, calibration)
    return expand_hard_swish(fitted) if options.activations == "int16" else fitted


def quantize(
    prepared: onnx.ModelProto, calibration: FloatArray, options: QuantizeOptions, plan: Plan = DEFAULT_PLAN
) -> onnx.ModelProto:
    """The QDQ form of a `prepare`d model. Raises KwsError if it cannot be calibrated or has no integer form."""
    qdq = quantize_model(
        prepared,
        calibrate(prepared, calibration, options.ranges),
        options.activations,
        options.weight_ranges,
        swish_tables=plan.swish_tables,
        shared_scales=plan.shared_scales,
    )
    return recover(
        prepared,
        qdq,
        calibration,
        bias_correction=options.bias_correction,
        adaptive_rounding=options.rounding == "adaptive",
    )
