"""Float ONNX -> prepared float ONNX -> QDQ ONNX, as `QuantizeOptions` say."""

from __future__ import annotations

import onnx

from quantize.affine import FloatArray
from quantize.calibration import activations, calibrate, min_max
from quantize.equalization import equalize
from quantize.fit import fit_stacked_rows
from quantize.options import QuantizeOptions
from quantize.qdq import quantize_model
from quantize.recovery import recover
from quantize.rewrites import rewrite


def prepare(float_model: onnx.ModelProto, calibration: FloatArray, options: QuantizeOptions) -> onnx.ModelProto:
    """The same function with the tensors that the device will have, their channels in like ranges on `calibration`."""
    prepared = rewrite(float_model)
    if options.equalization:
        prepared = equalize(prepared, min_max(activations(prepared, calibration)))
    return fit_stacked_rows(prepared, calibration)


def quantize(prepared: onnx.ModelProto, calibration: FloatArray, options: QuantizeOptions) -> onnx.ModelProto:
    """The QDQ form of a `prepare`d model. Raises KwsError if it cannot be calibrated or has no int8 form."""
    qdq = quantize_model(prepared, calibrate(prepared, calibration, options.ranges), options.weight_ranges)
    return recover(
        prepared,
        qdq,
        calibration,
        bias_correction=options.bias_correction,
        adaptive_rounding=options.rounding == "adaptive",
    )
