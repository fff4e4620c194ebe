"""Every activation of a float model on the calibration clips, some clips in memory at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from kws.errors import KwsError
from quantize.calibration.ranges import ChannelRange, FloatArray

CLIPS_AT_ONCE = 8  # More take more memory and hardly less time.


def activations(
    model: onnx.ModelProto, features: FloatArray, at_once: int = CLIPS_AT_ONCE, only: Collection[str] | None = None
) -> Iterator[dict[str, FloatArray]]:
    """The input and all node outputs of `model`, `at_once` clips of `features` at a time, joined along axis 0.

    With `only`, the input and those tensors alone.
    The arrays are written anew for the next clips: copy what is to last.
    """
    _require_finite_weights(model)
    name, shape = input_name_and_shape(model)
    if features.shape[1:] != shape[1:] or not len(features):
        raise KwsError(
            f"The calibration set has shape {features.shape}; give at least one clip of shape {shape[1:]} (float32)."
        )
    session, shapes = _session(model, only)
    joined = {tensor: np.zeros((at_once * rows, *rest), np.float32) for tensor, (rows, *rest) in shapes.items()}
    bindings = [_binding(session, name, joined, shapes, index) for index in range(at_once)]
    for start in range(0, len(features), at_once):
        count = min(at_once, len(features) - start)
        joined[name][:count] = features[start : start + count]
        for binding in bindings[:count]:
            session.run_with_iobinding(binding)
        values = {tensor: array[: count * shapes[tensor][0]] for tensor, array in joined.items()}
        for tensor, array in values.items():
            _require_finite(tensor, array.reshape(count, -1), start)
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
    return inputs[0].name, _shape(inputs[0])


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(int(dimension.dim_value) for dimension in value.type.tensor_type.shape.dim)


def _require_finite_weights(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and not np.isfinite(numpy_helper.to_array(tensor)).all():
            raise KwsError(f"The weights {tensor.name!r} hold NaN or infinity; train the model again.")


def _binding(
    session: Any, name: str, joined: Mapping[str, FloatArray], shapes: Mapping[str, tuple[int, ...]], index: int
) -> Any:
    """Lets `session` read and write clip `index` of `joined`: new arrays would cost more than the computation."""
    binding = session.io_binding()
    for tensor, shape in shapes.items():
        part = joined[tensor][index * shape[0] : (index + 1) * shape[0]]
        bind = binding.bind_input if tensor == name else binding.bind_output
        bind(tensor, "cpu", 0, np.float32, shape, part.ctypes.data)
    return binding


def _require_finite(tensor: str, clips: FloatArray, first: int) -> None:
    """`clips` are (n, values of one clip); `first` is the number of the first of them."""
    if np.isfinite(clips).all():
        return
    index = first + int(np.flatnonzero(~np.isfinite(clips).all(axis=1))[0])
    raise KwsError(
        f"Calibration clip {index} makes NaN or infinity in tensor {tensor!r}; "
        "take that clip out, or train the model again."
    )


def _session(model: onnx.ModelProto, only: Collection[str] | None) -> tuple[Any, dict[str, tuple[int, ...]]]:
    """An onnxruntime session for `model` that also puts out all its float activations; their shapes and the input's."""
    import onnxruntime

    probe = onnx.shape_inference.infer_shapes(model)
    float_values = {
        value.name: value
        for value in (*probe.graph.value_info, *model.graph.output)
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    del probe.graph.output[:]
    wanted = float_values if only is None else float_values.keys() & only
    outputs = [name for node in model.graph.node for name in node.output if name in wanted]
    probe.graph.output.extend(float_values[name] for name in outputs)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise KwsError(f"onnxruntime cannot run the model ({reason}); look for unsupported ops in it.") from error
    name, shape = input_name_and_shape(model)
    return session, {name: shape} | {output: _shape(float_values[output]) for output in outputs}
