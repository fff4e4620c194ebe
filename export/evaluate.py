"""A build folder and test data, or arrays -> the benchmark of its float and its integer model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import onnx

from export.arena import measure_arena_bytes
from export.arrays import read_inputs, read_targets
from export.build import FLOAT_ONNX, ModelFiles
from export.cost_model import estimate_ops, total
from export.firmware_model import FirmwareModel, read_firmware_model
from export.tflite_reader import parse_tflite
from kws.artifact import MANIFEST_NAME, make_folder, read_manifest, write_json
from kws.benchmark import Benchmark, compare, print_tables
from kws.config import FeatureConfig
from kws.dataset import load_dataset_for
from kws.errors import KwsError
from kws.features import features_of_clips
from kws.metrics import Indices
from kws.progress import track
from quantize.affine import FloatArray, StepArray, StepType
from quantize.input_layout import InputLayout
from quantize.runtimes import OnnxRuntime, TflmRuntime

REPORT_NAME = "benchmark.json"


def benchmark_data(build: Path, data: Path, out: Path) -> Path:
    """Run the float ONNX model and the integer model (under TFLM) on the test clips of `data`.

    Prints the tables and writes `out`/benchmark.json, which it returns. Raises KwsError for a build that is
    incomplete, was changed or came from an ONNX model, or data whose labels are not the model's.
    """
    files, model = read_build(build)
    features = _features_of(build, model)
    make_folder(out)
    return _report(_judge_data(build, files, model, features, data), out)


def judge_data(build: Path, data: Path) -> Benchmark:
    """The figures of `benchmark_data`, printed and written nowhere; raises KwsError as it does."""
    files, model = read_build(build)
    return _judge_data(build, files, model, _features_of(build, model), data)


def benchmark_arrays(build: Path, inputs_path: Path, targets_path: Path, out: Path) -> Path:
    """The same on .npy files: inputs as the float model takes them and the index of the class of each."""
    files, model = read_build(build)
    make_folder(out)
    inputs = read_inputs(inputs_path, OnnxRuntime(build / FLOAT_ONNX).clip_shape)
    targets = read_targets(targets_path, len(inputs), len(model.labels))
    names = [f"{inputs_path.name}[{index}]" for index in range(len(inputs))]
    return _report(_judge(build, files, model, inputs, targets, names), out)


def read_build(build: Path) -> tuple[ModelFiles, FirmwareModel]:
    files = model_files(build, read_manifest(build, verify=[]))
    read_manifest(build, verify=files.all)
    return files, read_firmware_model(build / files.tflite)


def model_files(build: Path, manifest: Mapping[str, Any]) -> ModelFiles:
    """The names of the models of `build`; raises KwsError if its `manifest` does not say of which type they are."""
    options = manifest.get("options")
    activations = options.get("activations") if isinstance(options, dict) else None
    if activations not in get_args(StepType):
        raise KwsError(f"{build / MANIFEST_NAME}: does not say what its model computes with; run kws quantize again.")
    return ModelFiles(cast(StepType, activations))


def _features_of(build: Path, model: FirmwareModel) -> FeatureConfig:
    if model.features is None:
        raise KwsError(f"{build}: came from an ONNX model and has no features; give --inputs and --targets.")
    return model.features


def _judge_data(build: Path, files: ModelFiles, model: FirmwareModel, config: FeatureConfig, data: Path) -> Benchmark:
    dataset = load_dataset_for(model.labels, data, config, needed=["testing"])
    clips = dataset.evaluation_clips("testing")
    features = features_of_clips(clips.pcm, config)
    return _judge(build, files, model, features, clips.targets, clips.names)


def _judge(
    build: Path, files: ModelFiles, model: FirmwareModel, features: FloatArray, targets: Indices, names: list[str]
) -> Benchmark:
    device = TflmRuntime(model.data)
    images = InputLayout.of(onnx.load(build / files.qdq_onnx))(features)
    float_logits = OnnxRuntime(build / FLOAT_ONNX)(features)
    return compare(
        {"float": float_logits, files.activations: device.output.dequantize(_answers(device, images))},
        targets,
        labels=model.labels,
        clip_names=names,
        model_bytes=len(model.data),
        arena_bytes=measure_arena_bytes(model.data, str(build / files.tflite)),
        estimated_instructions=_estimated_instructions(model.data, str(build / files.tflite)),
    )


def _report(result: Benchmark, out: Path) -> Path:
    write_json(out / REPORT_NAME, result.as_json())
    print_tables(result)
    return out / REPORT_NAME


def _estimated_instructions(model: bytes, source: str) -> dict[str, int]:
    estimate = total(estimate_ops(parse_tflite(model, source)))
    return {**estimate.instructions, "unmeasured_ops": estimate.unmeasured_ops}


def _answers(device: TflmRuntime, features: FloatArray) -> StepArray:
    """int8 or int16 logits (n, classes), with a progress bar: TFLM's reference kernels take their time on a host."""
    clips = track(features, f"{device.output.dtype} model", len(features))
    return np.concatenate([device(clip[np.newaxis]) for clip in clips])
