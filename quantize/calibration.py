"""Value ranges of all activations, measured on calibration clips and cut where int8 needs less.

A method is a function of `activations`, which yields every tensor of some clips at a time; `min_max` is one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from kws.errors import KwsError
from quantize.ops import SHARED_SCALE_OPS

FloatArray = npt.NDArray[np.float32]
CLIPS_AT_ONCE = 8  # More take more memory and hardly less time.


@dataclass(frozen=True)
class Range:
    """Smallest and largest value of a tensor."""

    low: float
    high: float


@dataclass(frozen=True, eq=False)
class ChannelRange:
    """Smallest and largest value of a tensor in each channel (axis 1), e.g. (1, channels, 1, 1)."""

    low: FloatArray
    high: FloatArray

    @staticmethod
    def of(array: FloatArray) -> ChannelRange:
        others = tuple(axis for axis in range(array.ndim) if axis != 1)
        return ChannelRange(array.min(axis=others, keepdims=True), array.max(axis=others, keepdims=True))

    @property
    def whole(self) -> Range:
        return Range(float(self.low.min()), float(self.high.max()))

    def union(self, other: ChannelRange) -> ChannelRange:
        return ChannelRange(np.minimum(self.low, other.low), np.maximum(self.high, other.high))


def calibrate(model: onnx.ModelProto, features: FloatArray) -> dict[str, Range]:
    """The range of every activation of a rewritten float `model`, by tensor name.

    `features` are float32 (clips, 1, mel_bands, frames). Tensors that share a scale on the device (the inputs and
    outputs of SHARED_SCALE_OPS) share a range. Raises KwsError if there are no clips, they do not fit the input of
    the model, or weights or activations hold NaN or infinity.
    """
    seen = min_max(activations(model, features))
    whole = {name: channels.whole for name, channels in seen.items()}
    return cut_below_relu(model, shared_ranges(model, whole), seen)


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
    """What each tensor of `activations` reaches over all clips, by channel."""
    ranges: dict[str, ChannelRange] = {}
    for clip in clips:
        for name, array in clip.items():
            seen = ChannelRange.of(array)
            ranges[name] = ranges[name].union(seen) if name in ranges else seen
    return ranges


def shared_ranges(model: onnx.ModelProto, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """`ranges`, with the union in place of each member's range in every group of tensors that share a scale."""
    shared = dict(ranges)
    for group in shared_scale_groups(model):
        members = [ranges[name] for name in group if name in ranges]
        if members:
            union = Range(min(member.low for member in members), max(member.high for member in members))
            shared.update(dict.fromkeys(group, union))
    return shared


def cut_below_relu(
    model: onnx.ModelProto, ranges: Mapping[str, Range], seen: Mapping[str, ChannelRange]
) -> dict[str, Range]:
    """`ranges` without what a ReLU hides, going by what each channel was `seen` to reach.

    A tensor that only feeds an Add with a ReLU right behind needs nothing below minus the other operand's maximum
    (in the same channel): anything lower is zero afterwards. Exact in float; about 3 dB of logit SQNR on BC-ResNet-1.
    """
    cut = dict(ranges)
    readers = readers_by_tensor(model)
    group_of = {name: group for group in shared_scale_groups(model) for name in group}
    for name in seen:
        addition = _relu_addition(name, readers)
        group = group_of.get(name, (name,))
        if addition is not None and _read_only_by(addition, group, readers):
            needed = float(needed_low(name, readers, seen).min())
            low = min(max(ranges[name].low, needed), ranges[name].high)
            cut.update(dict.fromkeys(group, Range(low, ranges[name].high)))
    return cut


def needed_low(
    name: str, readers: Mapping[str, Sequence[onnx.NodeProto]], seen: Mapping[str, ChannelRange]
) -> FloatArray:
    """The least value of each channel of tensor `name`, e.g. (1, channels, 1, 1), that makes a difference."""
    low = seen[name].low
    addition = _relu_addition(name, readers)
    others = [other for other in addition.input if other != name] if addition is not None else []
    if len(others) != 1 or others[0] not in seen:
        return low
    needed: FloatArray = np.maximum(low, -np.maximum(seen[others[0]].high, 0.0))
    return needed


def _relu_addition(name: str, readers: Mapping[str, Sequence[onnx.NodeProto]]) -> onnx.NodeProto | None:
    """The Add with a ReLU right behind that alone reads tensor `name`, if so."""
    after = readers.get(name, ())
    if len(after) != 1 or after[0].op_type != "Add":
        return None
    return after[0] if [node.op_type for node in readers[after[0].output[0]]] == ["Relu"] else None


def shared_scale_groups(model: onnx.ModelProto) -> list[tuple[str, ...]]:
    """Groups (of two or more) of activations that ops that only move values tie to one scale."""
    activation_names = {output for node in model.graph.node for output in node.output} | {
        input_name_and_shape(model)[0]
    }
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while (above := parent.setdefault(name, name)) != name:
            name = above
        return name

    for node in model.graph.node:
        if node.op_type in SHARED_SCALE_OPS:
            for name in (*node.input, *node.output):
                if name in activation_names:
                    parent[root(name)] = root(node.output[0])
    groups: dict[str, list[str]] = {}
    for name in parent:
        groups.setdefault(root(name), []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def readers_by_tensor(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    """The nodes that read each tensor; the model's outputs are read by an extra, empty node."""
    readers: dict[str, list[onnx.NodeProto]] = {output.name: [onnx.NodeProto()] for output in model.graph.output}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers


def _read_only_by(node: onnx.NodeProto, group: Sequence[str], readers: Mapping[str, Sequence[onnx.NodeProto]]) -> bool:
    """Whether `node` alone reads the tensors of `group`, apart from ops inside it that a lower bound passes through."""
    inside, passing = set(group), SHARED_SCALE_OPS - {"AveragePool"}
    outer = [
        reader
        for name in group
        for reader in readers.get(name, ())
        if not (reader.op_type in passing and set(reader.output) <= inside)
    ]
    return [list(reader.output) for reader in outer] == [list(node.output)]


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
