"""An ONNX file from anywhere -> the float model that the rewrites take: batch size 1, a recent opset, logits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import inliner, numpy_helper, version_converter

from kws.errors import KwsError

OLDEST_OPSET = 13
OPSET = 18
_DOMAINS = ("", "ai.onnx")
_SOFTMAX = ("Softmax", "LogSoftmax")
_WEIGHTED = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True, kw_only=True, eq=False)
class GivenModel:
    """`as_given` up to its logits, and `model`, the same with batch size 1 and at least OPSET.

    `input_shape` is (1, ...); `notes` say in a sentence each what was changed.
    """

    as_given: onnx.ModelProto
    model: onnx.ModelProto
    input_shape: tuple[int, ...]
    notes: tuple[str, ...]


def read_onnx(path: Path) -> GivenModel:
    """Read the float ONNX model `path`.

    Raises KwsError if it cannot be read, is no valid model, keeps weights in other files, has weights that are empty
    or not finite, is quantized or older than OLDEST_OPSET, or takes anything but one float32 input whose shape is fixed
    but for the batch.
    """
    proto = _parse(path)
    _require_whole(path, proto)
    _require_float(path, proto)
    given, has_softmax = _up_to_logits(inliner.inline_local_functions(proto))
    fixed, had_batch = _with_batch_of_one(path, given)
    notes = []
    if has_softmax:
        notes.append(f"{path}: its final softmax is left off, so that what it gives are logits.")
    if had_batch:
        notes.append(f"{path}: its batch size is fixed to 1.")
    model = _with_recent_opset(path, fixed)
    shape = tuple(dimension.dim_value for dimension in _input(path, model).type.tensor_type.shape.dim)
    return GivenModel(as_given=given, model=model, input_shape=shape, notes=tuple(notes))


def _parse(path: Path) -> onnx.ModelProto:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except OSError as error:
        raise KwsError(f"{path}: cannot be read ({error.strerror}); give the path of an ONNX model.") from error
    except DecodeError as error:
        raise KwsError(f"{path}: is no ONNX model, or damaged; export it again.") from error
    return model


def _require_whole(path: Path, model: onnx.ModelProto) -> None:
    for _, tensor in _weights(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise KwsError(
                f"{path}: keeps its weights in other files; save it with the weights inside "
                "(torch.onnx.export does with external_data=False)."
            )
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise KwsError(f"{path}: is no valid ONNX model ({reason}); export it again.") from error
    read_by_weighted = {name for node in model.graph.node if node.op_type in _WEIGHTED for name in node.input}
    for name, tensor in _weights(model):
        if tensor.data_type == onnx.TensorProto.FLOAT and not np.isfinite(numpy_helper.to_array(tensor)).all():
            raise KwsError(f"{path}: its weights {name!r} hold NaN or infinity; train the model again.")
        if 0 in tensor.dims and name in read_by_weighted:
            raise KwsError(f"{path}: its weights {name!r} are empty; export the model again.")
    opset = _opset(model)
    if opset < OLDEST_OPSET:
        raise KwsError(f"{path}: has opset {opset}; export it with opset {OLDEST_OPSET} or newer.")


def _require_float(path: Path, model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if any(word in node.op_type for word in ("Quantize", "QLinear", "Integer")):
            raise KwsError(
                f"{path}: is quantized already ({node.op_type} node {node.name or node.output[0]!r}); "
                "give the float model that it was made from."
            )


def _weights(model: onnx.ModelProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Name and values of each constant."""
    yield from ((tensor.name, tensor) for tensor in model.graph.initializer)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield node.output[0], attribute.t


def _opset(model: onnx.ModelProto) -> int:
    return next((int(entry.version) for entry in model.opset_import if entry.domain in _DOMAINS), 0)


def _up_to_logits(model: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
    """`model` without a softmax right at its end, and whether there was one."""
    names = [output.name for output in model.graph.output]
    last = next((node for node in model.graph.node if list(node.output) == names), None)
    if last is None or last.op_type not in _SOFTMAX or last.input[0] in {value.name for value in model.graph.input}:
        return model, False
    if any(attribute.name == "axis" and attribute.i not in (-1, 1) for attribute in last.attribute):
        return model, False
    model.graph.output[0].name = last.input[0]
    model.graph.node.remove(last)
    kept = [value for value in model.graph.value_info if value.name != last.input[0]]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)
    return model, True


def _input(path: Path, model: onnx.ModelProto) -> onnx.ValueInfoProto:
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        raise KwsError(
            f"{path}: has {len(inputs)} inputs and {len(model.graph.output)} outputs; give a model with one of each."
        )
    only: onnx.ValueInfoProto = inputs[0]
    return only


def _with_batch_of_one(path: Path, given: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
    """A copy with batch size 1 and no shapes that were inferred for another, and whether the batch was symbolic."""
    model = onnx.ModelProto()
    model.CopyFrom(given)
    value = _input(path, model)
    kind = value.type.tensor_type
    if kind.elem_type != onnx.TensorProto.FLOAT:
        found = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
        raise KwsError(f"{path}: its input {value.name!r} is {found}; export it with a float32 input.")
    sizes = [_size(dimension) for dimension in kind.shape.dim]
    if not 2 <= len(sizes) <= 4 or any(isinstance(size, str) or size < 1 for size in sizes[1:]) or sizes[0] == 0:
        raise KwsError(
            f"{path}: its input {value.name!r} has shape ({', '.join(map(str, sizes))}); export it with a fixed shape "
            "of 2 to 4 axes, the first of which is the batch."
        )
    if isinstance(sizes[0], int) and sizes[0] != 1:
        raise KwsError(f"{path}: its input {value.name!r} has a batch size of {sizes[0]}; export it with 1.")
    kind.shape.dim[0].dim_value = 1
    del model.graph.value_info[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model, isinstance(sizes[0], str)


def _size(dimension: onnx.TensorShapeProto.Dimension) -> int | str:
    return int(dimension.dim_value) if dimension.HasField("dim_value") else str(dimension.dim_param) or "?"


def _with_recent_opset(path: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        recent = model if _opset(model) >= OPSET else version_converter.convert_version(model, OPSET)
        return onnx.shape_inference.infer_shapes(recent, strict_mode=True, data_prop=True)
    except (version_converter.ConvertError, onnx.shape_inference.InferenceError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise KwsError(f"{path}: cannot be converted to opset {OPSET} ({reason}); export it with that.") from error
