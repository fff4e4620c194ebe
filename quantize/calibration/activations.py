"""Every activation of a float model on the calibration clips, one clip in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from kws.errors import KwsError
from quantize.calibration.ranges import ChannelRange, FloatArray


def activations(model: onnx.ModelProto, features: FloatArray) -> Iterator[dict[str, FloatArray]]:
    """The input and all node outputs of `model` for each clip of `features`, one clip in memory at a time."""
    _require_finite_weights(model)
    name, shape = input_name_and_shape(model)
    if features.shape[1:] != shape[1:] or not len(features):
        raise KwsError(
            f"The calibration set has shape {features.shape}; give at least one clip of shape {shape[1:]} (float32)."
        )
    session, outputs = _session(model)
    for index, clip in enumerate(features):
        values = {name: clip[None]} | dict(zip(outputs, session.run(outputs, {name: clip[None]}), strict=True))
        for tensor, array in values.items():
            if not np.isfinite(array).all():
                raise KwsError(
                    f"Calibration clip {index} makes NaN or infinity in tensor {tensor!r}; "
                    "take that clip out, or train the model again."
                )
        yield values


def min_max(clips: Iterator[dict[str, FloatArray]]) -> dict[str, ChannelRange]:
    """What each tensor reaches over all clips, by channel."""
    ranges: dict[str, ChannelRange] = {}
    for clip in clips:
        for name, array in clip.items():
            seen = ChannelRange.of(array)
            ranges[name] = ranges[name].union(seen) if name in ranges else seen
    return ranges


def input_name_and_shape(model: onnx.ModelProto) -> tuple[str, tuple[int, ...]]:
    """Name and shape of the one input. Raises KwsError if there is another number of them."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        raise KwsError(f"The ONNX model has {len(inputs)} inputs; give a model with one.")
    return inputs[0].name, tuple(dimension.dim_value for dimension in inputs[0].type.tensor_type.shape.dim)


def _require_finite_weights(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and not np.isfinite(numpy_helper.to_array(tensor)).all():
            raise KwsError(f"The weights {tensor.name!r} hold NaN or infinity; train the model again.")


def _session(model: onnx.ModelProto) -> tuple[Any, list[str]]:
    """An onnxruntime session for `model` that also puts out all its float activations, and their names."""
    import onnxruntime

    probe = onnx.shape_inference.infer_shapes(model)
    float_values = {
        value.name: value
        for value in (*probe.graph.value_info, *model.graph.output)
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    del probe.graph.output[:]
    outputs = [name for node in model.graph.node for name in node.output if name in float_values]
    probe.graph.output.extend(float_values[name] for name in outputs)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise KwsError(f"onnxruntime cannot run the model ({reason}); look for unsupported ops in it.") from error
    return session, outputs
