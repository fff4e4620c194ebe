"""A very small int8 TFLite model, one FULLY_CONNECTED built with the schema bindings, and its manifest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

from kws.config import FeatureConfig, to_dict

# Few frames, so that the model stays small; all else as in the default features.
FEATURES = FeatureConfig(clip_samples=480 + 160 * 4)
INPUT_SCALE, INPUT_ZERO_POINT = 0.0901, 25
OUTPUT_SCALE, OUTPUT_ZERO_POINT = 0.068, -3
INT16_INPUT_SCALE = 20 / 32767


def tiny_model(
    classes: int = 3,
    *,
    features: FeatureConfig = FEATURES,
    op: int = schema.BuiltinOperator.FULLY_CONNECTED,
    dtype: int = schema.TensorType.INT8,
    quantized: bool = True,
    inputs: int = 1,
) -> bytes:
    """int8 (1, mel_bands, frames, 1) -> (1, classes); random weights, the same each time."""
    elements = features.mel_bands * features.frames
    weights = np.random.default_rng(0).integers(-127, 128, (classes, elements)).astype(np.int8)
    bias = np.zeros(classes, np.int32)
    input_shape = [1, features.mel_bands, features.frames, 1]
    tensors = [
        _tensor("input", input_shape, dtype, 0, INPUT_SCALE if quantized else None, INPUT_ZERO_POINT),
        _tensor("weights", [classes, elements], schema.TensorType.INT8, 1, 0.001, 0),
        _tensor("bias", [classes], schema.TensorType.INT32, 2, INPUT_SCALE * 0.001, 0),
        _tensor("output", [1, classes], schema.TensorType.INT8, 0, OUTPUT_SCALE, OUTPUT_ZERO_POINT),
    ]
    graph = schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs = tensors, [0] * inputs, [3]
    graph.operators = [_operator()]
    model = schema.ModelT()
    model.version, model.description, model.subgraphs = 3, "tiny", [graph]
    model.operatorCodes = [_code(op)]
    model.buffers = [_buffer(b""), _buffer(weights.tobytes()), _buffer(bias.tobytes())]
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def tiny_int16_model(classes: int = 3) -> bytes:
    """The same in int16: zero points 0, an int64 bias, a scale of its own for the input."""
    model = schema.ModelT.InitFromPackedBuf(tiny_model(classes))
    tensors = model.subgraphs[0].tensors
    for tensor, scale in ((tensors[0], INT16_INPUT_SCALE), (tensors[-1], OUTPUT_SCALE / 256)):
        tensor.type, tensor.quantization.scale, tensor.quantization.zeroPoint = schema.TensorType.INT16, [scale], [0]
    tensors[2].type, tensors[2].quantization.scale = schema.TensorType.INT64, [INT16_INPUT_SCALE * 0.001]
    model.buffers[2] = _buffer(np.zeros(classes, np.int64).tobytes())
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def write_tiny_int16_build(folder: Path, labels: list[str]) -> Path:
    model = tiny_int16_model(len(labels))
    manifest = tiny_manifest(model, labels)
    manifest["input"] |= {"scale": float(np.float32(INT16_INPUT_SCALE)), "zero_point": 0}
    manifest["output"] |= {"scale": float(np.float32(OUTPUT_SCALE / 256)), "zero_point": 0}
    return write_build(folder, model, manifest)


def tiny_manifest(model: bytes, labels: list[str], features: FeatureConfig = FEATURES) -> dict[str, Any]:
    return {
        "schema": 1,
        "labels": labels,
        "features": to_dict(features),
        "input": {
            "shape": [1, features.mel_bands, features.frames, 1],
            "scale": float(np.float32(INPUT_SCALE)),
            "zero_point": INPUT_ZERO_POINT,
        },
        "output": {
            "shape": [1, len(labels)],
            "scale": float(np.float32(OUTPUT_SCALE)),
            "zero_point": OUTPUT_ZERO_POINT,
        },
        "files": {"model.int8.tflite": {"bytes": len(model), "sha256": hashlib.sha256(model).hexdigest()}},
    }


def write_build(folder: Path, model: bytes, manifest: dict[str, Any]) -> Path:
    """Write both as a BUILD folder has them; returns the path of the model."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.int8.tflite").write_bytes(model)
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder / "model.int8.tflite"


def write_tiny_build(folder: Path, labels: list[str], features: FeatureConfig = FEATURES) -> Path:
    model = tiny_model(len(labels), features=features)
    return write_build(folder, model, tiny_manifest(model, labels, features))


def _tensor(name: str, shape: list[int], dtype: int, buffer: int, scale: float | None, zero_point: int) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, shape, dtype, buffer
    if scale is not None:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero_point]
    return tensor


def _operator() -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1, 2], [3]
    operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    operator.builtinOptions = schema.FullyConnectedOptionsT()
    return operator


def _code(op: int) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = op, min(op, 127), 4
    return code


def _buffer(data: bytes) -> Any:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(data, np.uint8) if data else None
    return buffer
